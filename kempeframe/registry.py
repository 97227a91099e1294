"""Plugins and the components they register. Only plugins that a spec names are imported."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType

import attrs
import pluggy

from kempeframe import hookspecs
from kempeframe.components import KINDS, Component
from kempeframe.problems import nearest

GROUP = "kempeframe"  # the entry point group


class UnknownName(LookupError):
    """No such plugin or component; the message names the nearest."""


class BrokenPlugin(Exception):
    """A plugin that can't be imported or registers something that is no component."""


@attrs.frozen
class Plugin:
    """An installed distribution with an entry point, or a Python file that a spec names."""

    name: str
    module: str  # import name; of a file plugin, the name it is imported under
    version: str
    root: Path  # its package's folder, or the file
    editable: bool  # its source enters digests


@cache
def installed() -> dict[str, metadata.EntryPoint]:
    """Entry points of all installed plugins by name. Imports none of them."""
    return {point.name: point for point in metadata.entry_points(group=GROUP)}


class Registry:
    """The components of the plugins loaded so far."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.plugins: dict[str, Plugin] = {}
        self.components: dict[str, dict[str, type[Component]]] = {}  # plugin -> component -> class

    def load(self, name: str) -> Plugin:
        """Import an installed plugin, once.

        Raises:
            UnknownName: no plugin of that name is installed.
            BrokenPlugin: it can't be imported, or registers what is no component.
        """
        if name in self.plugins:
            return self.plugins[name]
        point = installed().get(name)
        if point is None:
            raise UnknownName(f"unknown plugin {name!r}{nearest(name, [*installed(), *self.plugins])}")
        module = _import(name, lambda: importlib.import_module(point.module))
        root = Path(module.__file__ or "").parent
        version, editable = _distribution_facts(point)
        return self._register(Plugin(name, point.module, version, root, editable), module)

    def load_file(self, path: Path) -> Plugin:
        """Import a plugin that is one Python file; its name is the file's stem.

        Raises:
            UnknownName: there is no such file.
            BrokenPlugin: as for `load`, or an installed plugin has that name.
        """
        if not path.is_file():
            raise UnknownName(f"no such plugin file: {path}")
        name = path.stem
        known = self.plugins.get(name)
        if known is not None and known.root == path.resolve():
            return known
        if known is not None or name in installed():
            raise BrokenPlugin(f"plugin file {path}: another plugin is called {name!r}; rename the file")
        module_name = f"kempeframe_file_{name}"

        def load() -> ModuleType:
            spec = importlib.util.spec_from_file_location(module_name, path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[module_name] = module
            spec.loader.exec_module(module)
            return module

        module = _import(name, load)
        return self._register(Plugin(name, module_name, "file", path.resolve(), True), module)

    def find(self, kind: str, full_name: str) -> type[Component]:
        """The class that `use = "plugin.component"` names.

        Raises:
            UnknownName: with the nearest right name, or the kind that it is instead.
            BrokenPlugin: as for `load`.
        """
        plugin, dot, name = full_name.partition(".")
        if not dot:
            raise UnknownName(f"expected PLUGIN.COMPONENT, got {full_name!r}{nearest(full_name, self.names(kind))}")
        self.load(plugin)
        cls = self.components[plugin].get(name)
        if cls is None:
            known = [n for n in self.names(kind) if n.startswith(plugin + ".")]
            raise UnknownName(f"unknown {kind} component {full_name!r}{nearest(full_name, known)}")
        if not issubclass(cls, KINDS[kind]):
            raise UnknownName(f"{full_name} is of kind {cls.kind}, expected {kind}{nearest(full_name, self.names(kind))}")
        return cls

    def names(self, kind: str | None = None) -> list[str]:
        """Full names of the components of the loaded plugins, of one kind or all."""
        return sorted(
            f"{plugin}.{name}"
            for plugin, classes in self.components.items()
            for name, cls in classes.items()
            if kind is None or cls.kind == kind
        )

    def _register(self, plugin: Plugin, module: ModuleType) -> Plugin:
        self.manager.register(module, name=plugin.name)
        classes: dict[str, type[Component]] = {}
        for kind, base in KINDS.items():
            for implementation in getattr(self.manager.hook, f"kempeframe_{kind}").get_hookimpls():
                if implementation.plugin_name == plugin.name:
                    for cls in _checked(plugin.name, kind, base, implementation.function()):
                        classes[cls.component_name()] = cls
        self.plugins[plugin.name] = plugin
        self.components[plugin.name] = classes
        _LOADED[plugin.module.partition(".")[0]] = plugin
        return plugin


_LOADED: dict[str, Plugin] = {}  # top-level import name -> plugin


def plugin_of(cls: type) -> Plugin | None:
    """The plugin a class is written in; None for the core and the standard library."""
    return _LOADED.get(cls.__module__.partition(".")[0])


def _checked(plugin: str, kind: str, base: type[Component], classes: Iterable[object]) -> list[type[Component]]:
    checked: list[type[Component]] = []
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise BrokenPlugin(f"plugin {plugin!r}: kempeframe_{kind} returned {cls!r}, expected a {base.__name__} class")
        if not attrs.has(cls):
            raise BrokenPlugin(f"plugin {plugin!r}: {cls.__name__} lacks the @component decorator")
        try:
            attrs.resolve_types(cls)
        except NameError as error:
            raise BrokenPlugin(f"plugin {plugin!r}: a field type of {cls.__name__} is unknown: {error}") from error
        checked.append(cls)
    return checked


def _import(name: str, load: object) -> ModuleType:
    try:
        return load()  # type: ignore[operator, no-any-return]
    except Exception as error:
        raise BrokenPlugin(f"plugin {name!r} can't be imported: {type(error).__name__}: {error}") from error


def _distribution_facts(point: metadata.EntryPoint) -> tuple[str, bool]:
    """Version, and whether it is an editable install."""
    distribution = point.dist
    if distribution is None:
        return "unknown", True
    url = distribution.read_text("direct_url.json")
    editable = bool(url and json.loads(url).get("dir_info", {}).get("editable"))
    return distribution.version, editable
