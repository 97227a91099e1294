"""Plugins and the components they register. Only plugins that a spec names are imported."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import sys
import traceback
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import get_args

import attrs
import pluggy

from kempeframe import hookspecs
from kempeframe.components import KINDS, Component, Evaluator, Needs
from kempeframe.problems import nearest, raised, shown

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


@cache
def provided_twice() -> dict[str, list[str]]:
    """Plugins that several distributions provide -> these distributions."""
    givers: dict[str, set[str]] = {}
    for point in metadata.entry_points(group=GROUP):
        givers.setdefault(point.name, set()).add(point.dist.name if point.dist else "?")
    return {name: sorted(found) for name, found in givers.items() if len(found) > 1}


@cache
def edited_packages() -> tuple[Path, ...]:
    """The packages of all editable installs among the plugins. Imports none of them."""
    found: set[Path] = set()
    for point in installed().values():
        if _distribution_facts(point)[1]:
            spec = importlib.util.find_spec(point.module.partition(".")[0])
            found.update(Path(place).resolve() for place in (spec.submodule_search_locations or () if spec else ()))
    return tuple(sorted(found))


class Registry:
    """The components of the plugins loaded so far."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.plugins: dict[str, Plugin] = {}
        self.components: dict[str, dict[str, type[Component]]] = {}  # plugin -> component -> class
        self.broken: dict[str, BrokenPlugin] = {}  # importing a plugin again would not mend it

    def load(self, name: str) -> Plugin:
        """Import an installed plugin, once.

        Raises:
            UnknownName: no plugin of that name is installed.
            BrokenPlugin: it can't be imported, or registers what is no component.
        """
        if name in self.plugins:
            return self.plugins[name]
        if name in self.broken:
            raise self.broken[name]
        point = installed().get(name)
        twice = provided_twice().get(name)
        if twice is not None:
            raise self._broken(name, f"is provided twice, by {' and '.join(twice)}; uninstall one")
        if point is None:
            raise UnknownName(f"unknown plugin {shown(name)}{nearest(name, [*installed(), *self.plugins])}")

        def load() -> ModuleType:
            return importlib.import_module(point.module)

        module = self._import(name, load)
        version, editable = _distribution_facts(point)
        return self.register(Plugin(name, point.module, version, Path(module.__file__ or "").parent, editable), module)

    def load_file(self, path: Path) -> Plugin:
        """Import a plugin that is one Python file; its name is the file's stem.

        Raises:
            UnknownName: there is no such file.
            BrokenPlugin: as for `load`, or another plugin has that name, or its name has a dot.
        """
        try:
            file = path.resolve(strict=True)
            found = file.is_file()
        except (OSError, ValueError, RuntimeError):  # no file, a name that no file can have, a loop of links
            found = False
        if not found:
            raise UnknownName(f"no such plugin file: {shown(str(path))}")
        name = path.stem
        known = self.plugins.get(name)
        if known is not None and known.root == file:
            return known
        if known is not None or name in installed():
            raise BrokenPlugin(f"plugin file {path}: another plugin is called {name!r}; rename the file")
        if "." in name:
            raise BrokenPlugin(f"plugin file {path}: its name, {name!r}, is the plugin's and can't have a dot")
        # Files of one name in different folders are different modules.
        module_name = f"kempeframe_file_{name}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
        module = self._import(name, lambda: _import_file(module_name, file))
        return self.register(Plugin(name, module_name, "file", file, True), module)

    def find(self, kind: str, full_name: str) -> type[Component]:
        """The class that `use = "plugin.component"` names.

        Raises:
            UnknownName: with the nearest right name, or the kind that it is instead.
            BrokenPlugin: as for `load`.
        """
        plugin, dot, name = full_name.partition(".")
        if not dot:
            known = self.names(kind)
            hint = nearest(full_name, known) if known else ""
            raise UnknownName(f"expected PLUGIN.COMPONENT, got {shown(full_name)}{hint}")
        self.load(plugin)
        cls = self.components[plugin].get(name)
        if cls is None:
            known = [n for n in self.names(kind) if n.startswith(plugin + ".")]
            raise UnknownName(f"unknown {kind} component {shown(full_name)}{nearest(full_name, known)}")
        if not issubclass(cls, KINDS[kind]):
            hint = nearest(full_name, self.names(kind))
            raise UnknownName(f"{full_name} is of kind {cls.kind}, expected {kind}{hint}")
        return cls

    def names(self, kind: str | None = None) -> list[str]:
        """Full names of the components of the loaded plugins, of one kind or all."""
        return sorted(
            f"{plugin}.{name}"
            for plugin, classes in self.components.items()
            for name, cls in classes.items()
            if kind is None or cls.kind == kind
        )

    def register(self, plugin: Plugin, module: ModuleType) -> Plugin:
        """Register a module that implements the hooks.

        Raises:
            BrokenPlugin: it implements a hook that there is not, or registers what is no component.
        """
        try:
            self.manager.register(module, name=plugin.name)
            self.manager.check_pending()
            classes = self._classes(plugin.name)
        except BrokenPlugin as error:
            self.broken[plugin.name] = error
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise self._broken(plugin.name, f"can't be registered: {raised(error)}") from error
        self.plugins[plugin.name] = plugin
        self.components[plugin.name] = classes
        _LOADED[plugin.module.partition(".")[0]] = plugin
        return plugin

    def _classes(self, plugin: str) -> dict[str, type[Component]]:
        """What the plugin's hooks return, by name."""
        classes: dict[str, type[Component]] = {}
        for kind, base in KINDS.items():
            for implementation in getattr(self.manager.hook, f"kempeframe_{kind}").get_hookimpls():
                if implementation.plugin_name != plugin:
                    continue
                for cls in implementation.function():
                    name = _checked(plugin, kind, base, cls).component_name()
                    if name in classes:
                        raise BrokenPlugin(f"plugin {plugin!r} registers two components called {name!r}")
                    classes[name] = cls
        return classes

    def _import(self, name: str, load: Callable[[], ModuleType]) -> ModuleType:
        try:
            return load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: a plugin that ends the program is broken
            place = _last_place(error)
            raise self._broken(name, f"can't be imported: {raised(error)}{place}") from error

    def _broken(self, name: str, what: str) -> BrokenPlugin:
        self.broken[name] = BrokenPlugin(f"plugin {name!r} {what}")
        return self.broken[name]


_LOADED: dict[str, Plugin] = {}  # top-level import name -> plugin
_NO_PLUGIN: set[str] = set()  # top-level import names that are of no installed plugin


def loaded_plugins() -> list[Plugin]:
    """All plugins that this process has imported so far."""
    return list(_LOADED.values())


def plugin_of(cls: type) -> Plugin | None:
    """The plugin a class is written in; None for the core, the standard library, and files that nobody has loaded.

    A class that was imported as any other module, without a spec, is of its plugin too.
    """
    package = cls.__module__.partition(".")[0]
    if package not in _LOADED and package not in _NO_PLUGIN:
        names = [name for name, point in installed().items() if point.module.partition(".")[0] == package]
        if not names:
            _NO_PLUGIN.add(package)
        for name in names:
            spec = getattr(sys.modules.get(installed()[name].module), "__spec__", None)
            if not getattr(spec, "_initializing", False):  # else it is being imported just now
                Registry().load(name)
    return _LOADED.get(package)


def _checked(plugin: str, kind: str, base: type[Component], cls: object) -> type[Component]:
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise BrokenPlugin(f"plugin {plugin!r}: kempeframe_{kind} returned {cls!r}, expected {base.__name__} classes")
    # attrs.has would take a parent's decorator for its own; what another decorator leaves changeable has no hash.
    if "__attrs_attrs__" not in vars(cls) or cls.__hash__ is None:
        raise BrokenPlugin(f"plugin {plugin!r}: {cls.__name__} lacks the @component decorator")
    if issubclass(cls, Evaluator) and cls.needs not in get_args(Needs):
        hint = nearest(str(cls.needs), get_args(Needs))
        raise BrokenPlugin(f"plugin {plugin!r}: {cls.__name__} needs {cls.needs!r}, which there is not{hint}")
    try:
        attrs.resolve_types(cls)  # type: ignore[type-var]
    except (NameError, TypeError) as error:
        raise BrokenPlugin(f"plugin {plugin!r}: a field type of {cls.__name__} is unknown: {error}") from error
    return cls


def _import_file(module_name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is no Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def _last_place(error: BaseException) -> str:
    """Where in the plugin an import failed; a syntax error says it itself."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
    if isinstance(error, SyntaxError) or not frames or Path(frames[-1].filename) == Path(__file__):
        return ""
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})"


def _distribution_facts(point: metadata.EntryPoint) -> tuple[str, bool]:
    """Version, and whether it is an editable install."""
    distribution = point.dist
    if distribution is None:
        return "unknown", True
    url = distribution.read_text("direct_url.json")
    editable = bool(url and json.loads(url).get("dir_info", {}).get("editable"))
    return distribution.version, editable
