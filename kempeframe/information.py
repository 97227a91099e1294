"""The commands `show` and `schema`: what a component takes, and what specs may say."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import sys
from typing import Any

import attrs

from kempeframe.components import Component, Fit, range_text
from kempeframe.digest import full_name, source_file
from kempeframe.fieldtypes import type_text
from kempeframe.problems import nearest
from kempeframe.registry import BrokenPlugin, Registry, UnknownName, installed
from kempeframe.structure import spec_fields


def show_command(name: str) -> int:
    """Print one component: what it does, its fields, where it is written."""
    registry = Registry()
    plugin, dot, component = name.partition(".")
    try:
        if not dot and plugin not in installed():
            _load_all(registry)
            raise UnknownName(f"expected PLUGIN.COMPONENT, got {name!r}{nearest(name, registry.names())}")
        registry.load(plugin)
        cls = registry.components[plugin].get(component)
        if cls is None:
            raise UnknownName(f"unknown component {name!r}{nearest(name, registry.names())}")
    except (UnknownName, BrokenPlugin) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{name}: {cls.kind}, version {cls.version}\n\n{inspect.getdoc(cls) or ''}\n")
    if spec_fields(cls):
        print("fields")
    for key, attribute in spec_fields(cls).items():
        print(f"  {key}: {field_text(attribute)}")
        if attribute.metadata.get("doc"):
            print(f"      {attribute.metadata['doc']}")
    if cls.kind == "evaluator":
        _show_columns(cls)
    print(f"source {source_file(cls)}")
    return 0


def _load_all(registry: Registry) -> None:
    """Load every installed plugin; a broken one is remembered by the registry."""
    for name in sorted(installed()):
        with contextlib.suppress(BrokenPlugin):
            registry.load(name)


def field_text(attribute: attrs.Attribute[Any]) -> str:
    """Type, range and default of a field, in words."""
    limits = range_text(attribute.metadata.get("limits", {}))
    unit = attribute.metadata.get("unit", "")
    text = type_text(attribute.type) + (f" {limits}" if limits else "") + (f" {unit}" if unit else "")
    return text + (", required" if attribute.default is attrs.NOTHING else f", default {default_text(attribute)}")


def _show_columns(cls: Any) -> None:
    print(f"needs {cls.needs}" + {"components": ": it is theory", "task": ": it is theory"}.get(cls.needs, ""))
    print("columns")
    try:
        columns = cls().columns()
    except Exception:
        print("  (depend on its fields)")
        return
    for metric, doc in columns.items():
        print(f"  {metric}: {doc}")


def default_of(attribute: attrs.Attribute[Any]) -> Any:
    """A field's default; NOTHING where there is none, or where it depends on other fields."""
    default: Any = attribute.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return attrs.NOTHING if default.takes_self else default.factory()
    return default


def default_text(attribute: attrs.Attribute[Any]) -> str:
    """A default as a spec would write it."""
    value = default_of(attribute)
    return "depends on other fields" if value is attrs.NOTHING else _toml(value)


def _toml(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Component):
        return f'{{ use = "{full_name(type(value))}" }}'
    if isinstance(value, Fit) or attrs.has(type(value)):
        return "a table"
    return json.dumps(value, default=str, ensure_ascii=False)


def first_line(cls: type) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def schema_command() -> int:
    """Print the JSON Schema of specs with all installed plugins."""
    from kempeframe.schema import spec_schema

    registry = Registry()
    _load_all(registry)
    for error in registry.broken.values():
        print(error, file=sys.stderr)
    print(json.dumps(spec_schema(registry), indent=1, allow_nan=False))
    return 2 if registry.broken else 0
