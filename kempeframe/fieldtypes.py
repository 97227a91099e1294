"""The types of fields in words, for messages and `show`."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

import attrs

from kempeframe.components import Component, Fit

WORDS = {bool: "true or false", str: "a string", int: "a whole number", float: "a number", Any: "a value"}
PLURALS = {bool: "booleans", str: "strings", int: "whole numbers", float: "numbers", Any: "values"}


def type_text(kind: Any) -> str:
    """What a spec may write for a field of this type: `a whole number or one of 'a', 'b'`."""
    if kind in WORDS:
        return WORDS[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ("" if len(arguments) == 1 else "one of ") + ", ".join(map(repr, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(type_text(member) for member in union_members(kind))
    if origin in (tuple, list):
        items = [a for a in arguments if a is not Ellipsis]
        return _list_text(items, fixed=origin is tuple and Ellipsis not in arguments)
    if origin is dict or kind is dict:
        return "a table"
    if isinstance(kind, type) and issubclass(kind, Component):
        return f'a table with use = "PLUGIN.COMPONENT", of kind {getattr(kind, "kind", kind.__name__)}'
    if kind is Fit:
        return "a fit: the name of a [fit.NAME], or a table with data, model and optimizer"
    if isinstance(kind, type) and attrs.has(kind):
        return f"a table with {', '.join(a.alias or a.name for a in attrs.fields(kind) if a.init)}"
    return f"a {getattr(kind, '__name__', kind)}"


def _list_text(items: list[Any], fixed: bool) -> str:
    if len(items) == 1 and not fixed:
        return f"a list of {PLURALS.get(items[0], 'values, each ' + type_text(items[0]))}"
    if len(set(map(str, items))) == 1:
        return f"a list of {len(items)} {PLURALS.get(items[0], 'values, each ' + type_text(items[0]))}"
    return f"[{', '.join(map(type_text, items))}]" if items else "a list"


def union_members(kind: Any) -> list[Any]:
    """The members of a union without None, which only stands for an absent key: TOML has no null."""
    return [member for member in get_args(kind) if member is not type(None)]
