"""The commands `list`, `show` and `schema`: what components there are and what they take."""

from __future__ import annotations

import inspect
import json
import sys
import types
from typing import Any, Literal, Union, get_args, get_origin

import attrs

from kempeframe.claims import Claim
from kempeframe.components import KINDS, Component, Fit, range_text
from kempeframe.digest import full_name, source_file
from kempeframe.figures import Figure
from kempeframe.problems import nearest
from kempeframe.registry import BrokenPlugin, Registry, UnknownName, installed
from kempeframe.spec import Head


def list_command(plugin: str | None) -> int:
    """Print plugins and components; a plugin that can't be imported is said and skipped."""
    if plugin is not None and plugin not in installed():
        print(f"unknown plugin {plugin!r}{nearest(plugin, installed())}", file=sys.stderr)
        return 2
    broken = False
    for name in sorted(installed()) if plugin is None else [plugin]:
        registry = Registry()
        try:
            loaded = registry.load(name)
        except BrokenPlugin as error:
            print(error, file=sys.stderr)
            broken = True
            continue
        print(f"{name} {loaded.version}{' (editable)' if loaded.editable else ''}")
        for kind in KINDS:
            for full in registry.names(kind):
                if full.startswith(name + "."):
                    print(f"  {kind:<10} {full:<40} {_first_line(registry.find(kind, full))}")
    return 2 if broken else 0


def show_command(name: str) -> int:
    """Print one component: what it does, its fields, where it is written."""
    registry = Registry()
    plugin, _, _ = name.partition(".")
    try:
        registry.load(plugin)
        cls = registry.components[plugin].get(name.partition(".")[2])
        if cls is None:
            raise UnknownName(f"unknown component {name!r}{nearest(name, registry.names())}")
    except (UnknownName, BrokenPlugin) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{name} ({cls.kind}, version {cls.version})\n\n{inspect.getdoc(cls) or ''}\n")
    fields = attrs.fields(cls)
    if fields:
        print("fields")
    for a in fields:
        default = "required" if a.default is attrs.NOTHING else f"default {_toml(_default(a))}"
        limits = range_text(a.metadata.get("limits", {}))
        print(f"  {a.name}: {type_text(a.type)}, {default}{', ' + limits if limits else ''}")
        if a.metadata.get("doc"):
            print(f"      {a.metadata['doc']}")
    if cls.kind == "evaluator":
        print("columns")
        try:
            for metric, doc in cls().columns().items():  # type: ignore[attr-defined]
                print(f"  {metric}: {doc}")
        except TypeError:
            print("  (depend on its fields)")
    print(f"source {source_file(cls)}")
    return 0


def schema_command() -> int:
    """Print the JSON Schema of specs with all installed plugins."""
    print(json.dumps(spec_schema(), indent=1))
    return 0


def spec_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a spec: what an editor needs to complete keys and show documentation."""
    registry = Registry()
    for name in sorted(installed()):
        try:
            registry.load(name)
        except BrokenPlugin as error:
            print(error, file=sys.stderr)
    definitions: dict[str, Any] = {kind: _kind_schema(kind, registry) for kind in KINDS}
    definitions["fit"] = _fit_schema()
    reference = {kind: {"$ref": f"#/$defs/{kind}"} for kind in KINDS}
    properties: dict[str, Any] = _properties(Head)
    properties |= {kind: reference[kind] for kind in ("data", "model", "optimizer", "attack")}
    properties |= {
        "evaluator": {"type": "array", "items": reference["evaluator"], "description": "what is measured"},
        "trial": {"type": "string", "description": "the name of the fit that is the trial"},
        "fit": {"type": "object", "additionalProperties": {"$ref": "#/$defs/fit"}, "description": "named fits"},
        "sweep": {"type": "object", "description": "axes: key = [values], a range, or named variants"},
        "columns": {"type": "object", "additionalProperties": {"type": "string"}, "description": "derived columns"},
        "figure": {"type": "array", "items": _record_schema(Figure)},
        "claim": {"type": "array", "items": _record_schema(Claim)},
        "smoke": {"type": "object", "description": "overrides of the smallest version"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "kempeframe spec",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": definitions,
    }


def _kind_schema(kind: str, registry: Registry) -> dict[str, Any]:
    variants = []
    for name in registry.names(kind):
        schema = _record_schema(registry.find(kind, name))
        schema["properties"]["use"] = {"const": name}
        # What a sweep sets need not stand in the table: only `use` is required for an editor.
        schema["required"] = ["use"]
        if kind == "evaluator":
            schema["properties"]["name"] = {"type": "string", "description": "prefix of its columns"}
        variants.append(schema)
    other = {  # a component of a plugin file, which the schema can't know
        "type": "object",
        "properties": {"use": {"type": "string", "not": {"enum": registry.names(kind)}}},
        "required": ["use"],
    }
    return {"anyOf": [*variants, other]}


def _fit_schema() -> dict[str, Any]:
    properties: dict[str, Any] = {kind: {"$ref": f"#/$defs/{kind}"} for kind in ("data", "model", "optimizer", "attack")}
    properties["seed"] = {"type": "integer", "description": "fixes the seed for all trial seeds"}
    properties["rounds"] = {"type": "integer", "minimum": 1, "description": "how many rounds; NAME.previous is the one before"}
    properties["first"] = {"type": "string", "description": "the fit that round 1 calls previous"}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _record_schema(cls: type) -> dict[str, Any]:
    return {
        "type": "object",
        "description": _first_line(cls),
        "properties": _properties(cls),
        "required": [a.name for a in attrs.fields(cls) if a.default is attrs.NOTHING],
        "additionalProperties": False,
    }


def _properties(cls: type) -> dict[str, Any]:
    attrs.resolve_types(cls)
    properties = {}
    for a in attrs.fields(cls):
        schema = _type_schema(a.type)
        limits = a.metadata.get("limits", {})
        names = {">=": "minimum", ">": "exclusiveMinimum", "<=": "maximum", "<": "exclusiveMaximum"}
        if schema.get("type") in ("integer", "number"):
            schema |= {names[sign]: bound for sign, bound in limits.items()}
        if a.metadata.get("doc"):
            schema["description"] = a.metadata["doc"]
        if a.default is not attrs.NOTHING and _default(a) is not None:
            schema["default"] = _default(a)
        properties[a.name] = schema
    return properties


def _type_schema(kind: Any) -> dict[str, Any]:
    plain = {bool: "boolean", str: "string", float: "number", type(None): "null"}
    if kind is int:  # 1e3 is accepted for 1000
        return {"type": "number"}
    if kind in plain:
        return {"type": plain[kind]}
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (tuple, list):
        return {"type": "array", "items": _type_schema(arguments[0])}
    if origin is dict:
        return {"type": "object"}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_type_schema(a) for a in arguments if a is not type(None)]}
    if kind is Fit:
        return {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/fit"}]}
    if isinstance(kind, type) and issubclass(kind, Component):
        return {"$ref": f"#/$defs/{kind.kind}"}
    if isinstance(kind, type) and attrs.has(kind):
        return _record_schema(kind)
    return {}


def type_text(kind: Any) -> str:
    """A field's type as a person reads it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " | ".join(json.dumps(a) for a in arguments)
    if origin in (Union, types.UnionType):
        return " | ".join(type_text(a) for a in arguments if a is not type(None))
    if origin in (tuple, list):
        return f"list of {type_text(arguments[0])}"
    if origin is dict:
        return "table"
    return {"str": "string", "bool": "true | false"}.get(getattr(kind, "__name__", ""), getattr(kind, "__name__", str(kind)))


def _default(attribute: attrs.Attribute[Any]) -> Any:
    default = attribute.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = default.factory()
    return default


def _toml(value: Any) -> str:
    return "none" if value is None else json.dumps(value)


def _first_line(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]


__all__ = ["full_name", "list_command", "schema_command", "show_command", "spec_schema", "type_text"]
