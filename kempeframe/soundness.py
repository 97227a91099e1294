"""Whether a plugin is sound: what its author should know before a spec trips over it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

from kempeframe.components import KINDS, Component
from kempeframe.registry import BrokenPlugin, Plugin, Registry, UnknownName
from kempeframe.structure import spec_fields

HOOKS = tuple(f"kempeframe_{kind}" for kind in KINDS)
OWN: dict[str, list[tuple[str, ...]]] = {  # kind -> what a component of it has to define: one of each
    "data": [("load",)],
    "model": [("build",)],
    "optimizer": [("fit", "fit_many")],
    "attack": [("perturb", "bind")],
    "evaluator": [("columns",), ("evaluate", "evaluate_many")],
}


def problems_of_installed(name: str) -> list[str]:
    """Everything that is wrong with an installed plugin, a line each."""
    registry = Registry()
    try:
        plugin = registry.load(name)
    except (BrokenPlugin, UnknownName) as error:
        return [_without_name(str(error), name)]
    return _problems(registry, plugin)


def problems_of_file(path: Path) -> list[str]:
    """Everything that is wrong with a plugin of one file."""
    registry = Registry()
    try:
        plugin = registry.load_file(path)
    except (BrokenPlugin, UnknownName) as error:
        return [_without_name(str(error), path.stem)]
    return _problems(registry, plugin)


def _without_name(message: str, name: str) -> str:
    return message.removeprefix(f"plugin {name!r} ").removeprefix(f"plugin {name!r}: ")


def _problems(registry: Registry, plugin: Plugin) -> list[str]:
    module = sys.modules[plugin.module]
    classes = registry.components[plugin.name]
    found = list(_hooks(module, bool(classes)))
    for name, cls in classes.items():
        found += [f"{name}: {problem}" for problem in _of_class(cls)]
    return found


def _hooks(module: ModuleType, has_components: bool) -> list[str]:
    plain = [name for name in HOOKS if callable(getattr(module, name, None)) and not _marked(getattr(module, name))]
    found = [f"{name} lacks @hookimpl: what it returns is not registered" for name in plain]
    if not has_components and not plain:
        found.append(f"implements no hook, or its hooks return nothing; there are {', '.join(HOOKS)}")
    return found


def _marked(function: object) -> bool:
    return hasattr(function, "kempeframe_impl")


def _of_class(cls: type[Component]) -> list[str]:
    found = []
    if not (vars(cls).get("__doc__") or "").strip():
        found.append("has no docstring")
    for name, attribute in spec_fields(cls).items():
        if not attribute.metadata.get("doc"):
            found.append(f'the field {name!r} has no documentation: field(..., doc="what it is")')
    base = KINDS[cls.kind]
    for methods in OWN[cls.kind]:
        if all(getattr(cls, method) is getattr(base, method) for method in methods):
            found.append(f"does not define {methods[0]}()")
    return found
