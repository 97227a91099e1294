"""Tables of a TOML file -> typed objects: strict, and every problem is collected instead of the first one raised."""

from __future__ import annotations

import contextlib
import json
import types
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import attrs
import cattrs

from kempeframe.components import KINDS, Component, Fit, range_text
from kempeframe.fieldtypes import type_text, union_members
from kempeframe.lines import KeyPath
from kempeframe.problems import nearest, raised, shown
from kempeframe.registry import BrokenPlugin, Registry, UnknownName

T = TypeVar("T")
LARGEST_INT = 2**63 - 1  # what tables and tensors hold
FAILED: Any = object()  # the value of what could not be structured; its problems are noted


class Invalid(ValueError):
    """A value that does not fit its place; the message says what was expected."""


class RangeFloat(float):
    """A number that a range produced: it is rounded where a whole number is expected."""


@attrs.define
class Context:
    """What structuring needs besides the value: the registry, the named fits, and where problems are put."""

    registry: Registry
    fits: Mapping[str, Any] = attrs.field(factory=dict)  # name -> raw table, as `[fit.NAME]` gives it
    problems: list[tuple[KeyPath, str]] = attrs.field(factory=list)
    path: list[str | int] = attrs.field(factory=list)
    known_keys: dict[KeyPath, set[str]] = attrs.field(factory=dict)
    unknown_keys: dict[KeyPath, set[str]] = attrs.field(factory=dict)
    classes: dict[KeyPath, set[type[Component]]] = attrs.field(factory=dict)  # of the components seen at a path
    done: dict[tuple[str, str], Any] = attrs.field(factory=dict)  # (kind, raw as JSON) -> component
    named: dict[str, Any] = attrs.field(factory=dict)  # name -> fit
    opening: list[str] = attrs.field(factory=list)  # named fits being structured: finds cycles
    previous: str | None = None  # what "NAME.previous" stands for at the moment
    names: Mapping[int, str] = attrs.field(factory=dict)  # of the evaluators, by index

    def problem(self, message: str, *keys: str | int) -> None:
        """Note a problem at the current path, or at a key below it."""
        self.problems.append(((*self.path, *keys), message))

    @contextlib.contextmanager
    def at(self, *keys: str | int) -> Iterator[None]:
        """Go to a key below the current path."""
        self.path.extend(keys)
        try:
            yield
        finally:
            del self.path[-len(keys) :]


_CONTEXT: ContextVar[Context] = ContextVar("structuring")


def current() -> Context:
    """The context of the structuring under way."""
    return _CONTEXT.get()


def structure(raw: Any, cls: type[T], context: Context) -> T | None:
    """`raw` as a `cls`; None where that fails, with the problems in `context`."""
    token = _CONTEXT.set(context)
    try:
        value = structure_value(raw, cls)
    except RecursionError:
        context.problem("is nested too deeply")
        return None
    finally:
        _CONTEXT.reset(token)
    return None if value is FAILED else value


def structure_value(raw: Any, kind: Any) -> Any:
    """One value; a misfit becomes a problem at the current path, and FAILED."""
    context = current()
    try:
        return converter().structure(raw, kind)
    except Invalid as error:
        context.problem(str(error))
    except RecursionError:
        raise
    except Exception:  # a type that has no hook here: cattrs tried its own ways
        context.problem(f"expected {type_text(kind)}, got {shown(raw)}")
    return FAILED


@cache
def converter() -> cattrs.Converter:
    """The one cattrs converter, with strict hooks for what specs are made of."""
    from kempeframe.fits import structure_fit

    made = cattrs.Converter(prefer_attrib_converters=False)
    hooks: list[tuple[Callable[[Any], bool], Callable[[Any, Any], Any]]] = [
        (lambda t: t is Any, lambda raw, _: raw),
        (lambda t: get_origin(t) is Literal, _choice),
        (lambda t: get_origin(t) in (tuple, list), _sequence),
        (lambda t: get_origin(t) is dict, _mapping),
        (lambda t: get_origin(t) in (Union, types.UnionType), _union),
        (lambda t: isinstance(t, type) and attrs.has(t), structure_record),
        (lambda t: isinstance(t, type) and issubclass(t, Component), _component),
        (lambda t: t is Fit, structure_fit),
    ]
    for predicate, hook in hooks:
        made.register_structure_hook_func(predicate, hook)
    # cattrs' own hooks for these, which convert "5" to 5, come before any predicate: they are replaced by type.
    for primitive, strict in ((bool, _exact), (str, _exact), (int, _integer), (float, _number)):
        made.register_structure_hook(primitive, strict)
    return made


def _misfit(raw: Any, kind: Any) -> Invalid:
    return Invalid(f"expected {type_text(kind)}, got {shown(raw)}")


def _exact(raw: Any, kind: Any) -> Any:
    if not isinstance(raw, kind):
        raise _misfit(raw, kind)
    return raw


def _integer(raw: Any, kind: Any) -> Any:
    if isinstance(raw, bool) or not isinstance(raw, (int, float)):
        raise _misfit(raw, kind)
    if isinstance(raw, float) and not (raw.is_integer() or isinstance(raw, RangeFloat)):
        raise _misfit(raw, kind)
    if abs(raw) > LARGEST_INT:
        current().problem(f"expected a whole number of 64 bits, got {shown(raw)}")
        return FAILED
    return round(raw)


def _number(raw: Any, kind: Any) -> float:
    if isinstance(raw, bool) or not isinstance(raw, (int, float)):
        raise _misfit(raw, kind)
    return float(raw)


def _choice(raw: Any, kind: Any) -> Any:
    for choice in get_args(kind):
        if raw == choice and isinstance(raw, bool) == isinstance(choice, bool):
            return choice
    raise Invalid(f"expected {type_text(kind)}, got {shown(raw)}{_closest(raw, get_args(kind))}")


def _closest(raw: Any, choices: tuple[Any, ...]) -> str:
    hint = nearest(raw, [c for c in choices if isinstance(c, str)]) if isinstance(raw, str) else ""
    return hint if "did you mean" in hint else ""


def _sequence(raw: Any, kind: Any) -> Any:
    arguments = [a for a in get_args(kind) if a is not Ellipsis] or [Any]
    if not isinstance(raw, list):
        raise _misfit(raw, kind)
    if get_origin(kind) is tuple and Ellipsis not in get_args(kind):
        if len(raw) != len(arguments):
            raise _misfit(raw, kind)
    else:
        arguments = arguments[:1] * len(raw)
    context = current()
    values = []
    for index, (item, argument) in enumerate(zip(raw, arguments, strict=True)):
        with context.at(index):
            values.append(structure_value(item, argument))
    if any(value is FAILED for value in values):
        return FAILED
    return tuple(values) if get_origin(kind) is tuple else values


def _mapping(raw: Any, kind: Any) -> Any:
    if not isinstance(raw, dict):
        raise _misfit(raw, kind)
    context = current()
    values = {}
    for key, item in raw.items():
        with context.at(key):
            values[key] = structure_value(item, get_args(kind)[1])
    return FAILED if any(value is FAILED for value in values.values()) else values


def _union(raw: Any, kind: Any) -> Any:
    """The first member that fits. Where none does, one of the right shape says why; else all are named."""
    context = current()
    members = union_members(kind)
    written = float if isinstance(raw, RangeFloat) else type(raw)
    inside: list[tuple[KeyPath, str]] | None = None
    # An int is a float too: try the exact match first, so that 1 stays an int where both are allowed.
    for member in sorted(members, key=lambda m: m is not written):
        before = len(context.problems)
        try:
            value = converter().structure(raw, member)
        except Invalid as error:
            if len(members) == 1:
                raise error
            continue
        if value is not FAILED:
            return value
        inside = context.problems[before:] if inside is None else inside
        del context.problems[before:]
    if inside is not None:
        context.problems.extend(inside)
        return FAILED
    choices = tuple(c for m in members if get_origin(m) is Literal for c in get_args(m))
    raise Invalid(f"expected {type_text(kind)}, got {shown(raw)}{_closest(raw, choices)}")


def structure_record(raw: Any, cls: Any, name_of_it: str = "", **given: Any) -> Any:
    """An attrs class from a table: unknown keys, missing fields, wrong types and ranges all become problems.

    `given` are fields that a spec does not set; `name_of_it` is the component, as a spec calls it.
    """
    context = current()
    if not isinstance(raw, dict):
        raise _misfit(raw, cls)
    fields = {name: a for name, a in spec_fields(cls).items() if name not in given}
    _note_keys(context, raw, fields.keys())
    values = {}
    for name, attribute in fields.items():
        if name in raw and not (raw[name] == "" and attribute.default is None):  # "" unsets an optional field
            with context.at(name):
                values[name] = _field(raw[name], attribute)
        elif name not in raw and attribute.default is attrs.NOTHING:
            wants = f"{name_of_it} needs" if name_of_it else "expected"
            context.problem(f"missing: {wants} {_expected(attribute)}", name)
            values[name] = FAILED
    if any(value is FAILED for value in values.values()):
        return FAILED
    try:
        return cls(**values, **given)
    except (RecursionError, KeyboardInterrupt):
        raise
    except (ValueError, TypeError) as error:
        _, _, text = raised(error).partition(": ")
        raise Invalid(text or f"{cls.__name__} refuses these values") from None
    except BaseException as error:  # whatever a component's own checks raise is said, not thrown
        raise Invalid(f"{cls.__name__} raised {raised(error)}") from None


def _expected(attribute: attrs.Attribute[Any]) -> str:
    limits = range_text(attribute.metadata.get("limits", {}))
    doc = attribute.metadata.get("doc", "")
    return type_text(attribute.type) + (f" {limits}" if limits else "") + (f" ({doc})" if doc else "")


def _field(raw: Any, attribute: attrs.Attribute[Any]) -> Any:
    """A field's value; a number out of its range is a problem, at its place in a list."""
    context = current()
    value = structure_value(raw, attribute.type)
    limits, check = attribute.metadata.get("limits"), attribute.validator
    if value is FAILED or not limits or check is None:
        return value
    listed = isinstance(value, (tuple, list))
    before = len(context.problems)
    for index, item in enumerate(value if listed else [value]):
        try:
            check(None, attribute, item)
        except ValueError:
            written = raw[index] if listed else raw
            message = f"{shown(written)} is out of range: expected {_range_noun(attribute.type)} {range_text(limits)}"
            context.problem(message, *((index,) if listed else ()))
    return value if len(context.problems) == before else FAILED


def _range_noun(kind: Any) -> str:
    return type_text(kind) if kind in (int, float) else "a number"


def spec_fields(cls: type[Any]) -> dict[str, attrs.Attribute[Any]]:
    """The fields that a table may set, by their names there, with resolved types."""
    if cls not in _FIELDS:
        attrs.resolve_types(cls)
        _FIELDS[cls] = {a.alias or a.name: a for a in attrs.fields(cls) if a.init}
    return _FIELDS[cls]


_FIELDS: dict[type, dict[str, attrs.Attribute[Any]]] = {}


def _note_keys(context: Context, raw: Mapping[str, Any], known: Any) -> None:
    """Remember which keys this class knows. Whether an unknown one is a problem shows when all variants are seen."""
    path = tuple(context.path)
    context.known_keys.setdefault(path, set()).update(known)
    unknown = raw.keys() - known
    if unknown:
        context.unknown_keys.setdefault(path, set()).update(unknown)


def unknown_keys(context: Context) -> Iterator[tuple[KeyPath, str]]:
    """Keys that no variant knew, as problems, each with the nearest right name."""
    for path, keys in context.unknown_keys.items():
        known = context.known_keys[path]
        for key in sorted(keys - known):
            yield (*path, key), f"unknown key {shown(key)}{nearest(key, known)}"


def _component(raw: Any, base: type[Component]) -> Any:
    """`{ use = "plugin.name", ... }` -> an instance; equal tables give the same object."""
    context = current()
    if base not in KINDS.values():
        raise Invalid(f"a field of type {base.__name__} is not supported; declare one of the five kinds")
    if not isinstance(raw, dict):
        raise _misfit(raw, base)
    key = (base.kind, json.dumps([raw, context.path, context.previous], sort_keys=True, default=str))
    if key not in context.done:
        context.done[key] = _new_component(raw, base)
    return context.done[key]


def _new_component(raw: dict[str, Any], base: type[Component]) -> Any:
    context = current()
    context.known_keys.setdefault(tuple(context.path), set()).add("use")
    with context.at("use"):
        if not isinstance(raw.get("use"), str):
            found = f", got {shown(raw['use'])}" if "use" in raw else ""
            context.problem(f'expected use = "PLUGIN.COMPONENT", the name of a {base.kind} component{found}')
            return FAILED
        try:
            cls = context.registry.find(base.kind, raw["use"])
        except (UnknownName, BrokenPlugin) as error:
            context.problem(str(error))
            return FAILED
    context.classes.setdefault(tuple(context.path), set()).add(cls)
    try:
        value = structure_record({k: v for k, v in raw.items() if k != "use"}, cls, raw["use"])
        if value is not FAILED:
            _ = value.digest  # from the innermost outward, so that long chains of fits need no deep recursion
    except RecursionError:
        raise
    except Exception as error:
        context.problem(str(error) if isinstance(error, Invalid) else f"{raw['use']} has no digest: {raised(error)}")
        return FAILED
    return value
