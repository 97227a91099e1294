"""The JSON Schema of specs (draft 2020-12): what an editor needs to complete keys and show documentation."""

from __future__ import annotations

import math
import re
import types
from typing import Any, Literal, Union, get_args, get_origin

import attrs

from kempeframe.axes import RANGE
from kempeframe.claims import Claim
from kempeframe.components import KINDS, Component, Fit
from kempeframe.fieldtypes import union_members
from kempeframe.figures import Figure
from kempeframe.fits import MOST_ROUNDS
from kempeframe.information import default_of, first_line
from kempeframe.registry import Registry
from kempeframe.spec import TABLES, Head
from kempeframe.structure import spec_fields
from kempeframe.sweep import PARTS

LIMITS = {">=": "minimum", ">": "exclusiveMinimum", "<=": "maximum", "<": "exclusiveMaximum"}
PLAIN = {bool: "boolean", str: "string", int: "integer", float: "number"}


def spec_schema(registry: Registry) -> dict[str, Any]:
    """The schema of specs that use the components of the loaded plugins, and of plugin files that it can't know."""
    properties = _properties(Head)
    for key, doc in TABLES.items():
        properties[key] = {"description": doc, **_table_schema(key)}
    kinds = {kind: _kind_schema(kind, registry) for kind in KINDS}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "kempeframe spec",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": {**kinds, "fit": _fit_schema(), "axis": _axis_schema()},
    }


def _table_schema(key: str) -> dict[str, Any]:
    if key in PARTS:
        return {"$ref": f"#/$defs/{key}"}
    tables: dict[str, dict[str, Any]] = {
        "evaluator": {"type": "array", "items": {"$ref": "#/$defs/evaluator"}, "minItems": 1},
        "trial": {"type": "string"},
        "fit": {"type": "object", "additionalProperties": {"$ref": "#/$defs/fit"}},
        "sweep": {"type": "object", "additionalProperties": {"$ref": "#/$defs/axis"}},
        "columns": {"type": "object", "additionalProperties": {"type": "string"}},
        "figure": {"type": "array", "items": _record_schema(Figure)},
        "claim": {"type": "array", "items": _record_schema(Claim)},
        "smoke": {"type": "object"},
    }
    return tables[key]


def _kind_schema(kind: str, registry: Registry) -> dict[str, Any]:
    """One variant for each component. What a sweep sets need not stand in the table, so that no field is required."""
    names = registry.names(kind)
    extra = {"name": {"type": "string", "description": "prefix of its columns"}} if kind == "evaluator" else {}
    variants: list[dict[str, Any]] = []
    for name in names:
        schema = _record_schema(registry.find(kind, name))
        schema["properties"] = {"use": {"const": name}, **extra, **schema["properties"]}
        variants.append({**schema, "required": ["use"]})
    # Of a plugin file nothing is known here, nor where a sweep sets `use`.
    known = {"pattern": rf"^({'|'.join(map(re.escape, registry.plugins))})\."}
    variants.append({"type": "object", "properties": {"use": {"type": "string", "not": known}}})
    return {"anyOf": variants}


def _fit_schema() -> dict[str, Any]:
    properties: dict[str, Any] = {kind: {"$ref": f"#/$defs/{kind}"} for kind in PARTS}
    properties["seed"] = {"type": "integer", "minimum": 0, "description": "fixes the seed for all trial seeds"}
    properties["rounds"] = {
        "type": "integer",
        "minimum": 1,
        "maximum": MOST_ROUNDS,
        "description": "how many rounds; inside, NAME.previous is the one before",
    }
    properties["first"] = {"type": "string", "description": "the fit that round 1 calls NAME.previous"}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _axis_schema() -> dict[str, Any]:
    ends = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    ranges = [
        {
            "type": "object",
            "description": RANGE,
            "properties": {kind: ends, "points": {"type": "integer", "minimum": 2}},
            "required": [kind, "points"],
            "additionalProperties": False,
        }
        for kind in ("geometric", "linear")
    ]
    variants = {
        "type": "object",
        "description": "named variants: each a table of changes",
        "additionalProperties": {"type": "object"},
        "not": {"anyOf": [{"required": [key]} for key in ("geometric", "linear", "points")]},
    }
    return {"anyOf": [{"type": "array", "minItems": 1}, *ranges, variants]}


def _record_schema(cls: type[Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": first_line(cls),
        "properties": _properties(cls),
        "required": [name for name, a in spec_fields(cls).items() if a.default is attrs.NOTHING],
        "additionalProperties": False,
    }


def _properties(cls: type[Any]) -> dict[str, Any]:
    properties = {}
    for name, attribute in spec_fields(cls).items():
        limits = {LIMITS[sign]: bound for sign, bound in attribute.metadata.get("limits", {}).items()}
        schema = _limited(_type_schema(attribute.type), {k: v for k, v in limits.items() if math.isfinite(v)})
        if attribute.metadata.get("doc"):
            schema["description"] = attribute.metadata["doc"]
        default = default_of(attribute)
        if _is_json(default):
            schema["default"] = default
        properties[name] = schema
    return properties


def _is_json(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_json, value))
    return isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))


def _limited(schema: dict[str, Any], limits: dict[str, float]) -> dict[str, Any]:
    """The schema with a range on every number in it."""
    if not limits:
        return schema
    if schema.get("type") in ("integer", "number"):
        return {**schema, **limits}
    if "anyOf" in schema:
        return {**schema, "anyOf": [_limited(member, limits) for member in schema["anyOf"]]}
    if "items" in schema and isinstance(schema["items"], dict):
        return {**schema, "items": _limited(schema["items"], limits)}
    return schema


def _type_schema(kind: Any) -> dict[str, Any]:
    if kind in PLAIN:
        return {"type": PLAIN[kind]}  # 1e3 is an integer to JSON Schema, as it is to a spec
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (tuple, list):
        return _list_schema([a for a in arguments if a is not Ellipsis], origin is tuple and Ellipsis not in arguments)
    if origin is dict:
        return {"type": "object"}
    if origin in (Union, types.UnionType):
        members = [_type_schema(member) for member in union_members(kind)]
        return members[0] if len(members) == 1 else {"anyOf": members}
    if kind is Fit:
        return {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/fit"}]}
    if isinstance(kind, type) and issubclass(kind, Component):
        return {"$ref": f"#/$defs/{kind.kind}"}
    if isinstance(kind, type) and attrs.has(kind):
        return _record_schema(kind)
    return {}


def _list_schema(items: list[Any], fixed: bool) -> dict[str, Any]:
    if not fixed:
        return {"type": "array", "items": _type_schema(items[0]) if items else {}}
    size = len(items)
    return {"type": "array", "prefixItems": list(map(_type_schema, items)), "minItems": size, "maxItems": size}
