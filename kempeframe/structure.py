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
from kempeframe.problems import nearest
from kempeframe.registry import BrokenPlugin, Registry, UnknownName

T = TypeVar("T")
Path = tuple[str | int, ...]


class Invalid(ValueError):
    """A value that does not fit its place; the message says what was expected."""


class RangeFloat(float):
    """A number that a range produced: it may be rounded where an int is expected."""


@attrs.define
class Context:
    """What structuring needs besides the value: the registry, the named fits, and where problems are put."""

    registry: Registry
    fits: Mapping[str, Any] = attrs.field(factory=dict)  # name -> raw table, as `[fit.NAME]` gives it
    problems: list[tuple[Path, str]] = attrs.field(factory=list)
    path: list[str | int] = attrs.field(factory=list)
    known_keys: dict[Path, set[str]] = attrs.field(factory=dict)
    unknown_keys: dict[Path, dict[str, set[str]]] = attrs.field(factory=dict)
    done: dict[tuple[str, str], Any] = attrs.field(factory=dict)  # (kind, raw as JSON) -> component
    named: dict[str, Fit | None] = attrs.field(factory=dict)
    opening: list[str] = attrs.field(factory=list)  # named fits being structured: finds cycles
    previous: str | None = None  # what "NAME.previous" stands for at the moment

    def problem(self, message: str) -> None:
        self.problems.append((tuple(self.path), message))

    @contextlib.contextmanager
    def at(self, *keys: str | int) -> Iterator[None]:
        self.path.extend(keys)
        try:
            yield
        finally:
            del self.path[-len(keys) :]


_CONTEXT: ContextVar[Context] = ContextVar("structuring")


def structure(raw: Any, cls: type[T], context: Context) -> T | None:
    """`raw` as a `cls`; None where that fails, with the problems in `context`."""
    before = len(context.problems)
    token = _CONTEXT.set(context)
    try:
        value = _value(raw, cls)
    finally:
        _CONTEXT.reset(token)
    return value if len(context.problems) == before else None


def _value(raw: Any, kind: Any) -> Any:
    """One value; a misfit becomes a problem at the current path."""
    context = _CONTEXT.get()
    try:
        return converter().structure(raw, kind)
    except Invalid as error:
        context.problem(str(error))
        return None


@cache
def converter() -> cattrs.Converter:
    """The one cattrs converter, with strict hooks for what specs are made of."""
    made = cattrs.Converter(prefer_attrib_converters=False)
    # By class, not by predicate: cattrs looks its own hooks for the primitives up before any predicate.
    made.register_structure_hook(bool, _exact(bool, "true or false"))
    made.register_structure_hook(str, _exact(str, "a string"))
    made.register_structure_hook(int, _integer)
    made.register_structure_hook(float, _number)
    made.register_structure_hook_func(lambda t: t is Any, lambda raw, _: raw)
    made.register_structure_hook_func(lambda t: get_origin(t) is Literal, _choice)
    made.register_structure_hook_func(lambda t: get_origin(t) in (tuple, list), _sequence)
    made.register_structure_hook_func(lambda t: get_origin(t) is dict, _mapping)
    made.register_structure_hook_func(lambda t: get_origin(t) in (Union, types.UnionType), _union)
    made.register_structure_hook_func(lambda t: isinstance(t, type) and attrs.has(t), _record)
    made.register_structure_hook_func(lambda t: isinstance(t, type) and issubclass(t, Component), _component)
    made.register_structure_hook_func(lambda t: t is Fit, _fit)
    return made


def _exact(kind: type, wanted: str) -> Callable[[Any, Any], Any]:
    def hook(raw: Any, _: Any) -> Any:
        if not isinstance(raw, kind):
            raise Invalid(f"expected {wanted}, got {_shown(raw)}")
        return raw

    return hook


def _integer(raw: Any, _: Any) -> int:
    if isinstance(raw, RangeFloat):
        return round(raw)
    if isinstance(raw, float) and raw.is_integer():
        return int(raw)
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise Invalid(f"expected a whole number, got {_shown(raw)}")
    return raw


def _number(raw: Any, _: Any) -> float:
    if isinstance(raw, bool) or not isinstance(raw, (int, float)):
        raise Invalid(f"expected a number, got {_shown(raw)}")
    try:
        return float(raw)
    except OverflowError:
        raise Invalid("expected a number of at most 1.8e308") from None


def _choice(raw: Any, kind: Any) -> Any:
    choices = get_args(kind)
    for choice in choices:
        if raw == choice and isinstance(raw, bool) == isinstance(choice, bool):
            return choice
    if isinstance(raw, str):
        raise Invalid(f"{raw!r} is not one of {', '.join(map(repr, choices))}{_closest(raw, choices)}")
    raise Invalid(f"expected one of {', '.join(map(repr, choices))}, got {_shown(raw)}")


def _closest(raw: str, choices: tuple[Any, ...]) -> str:
    hint = nearest(raw, [c for c in choices if isinstance(c, str)])
    return hint if "did you mean" in hint else ""


def _sequence(raw: Any, kind: Any) -> Any:
    arguments = [a for a in get_args(kind) if a is not Ellipsis] or [Any]
    if not isinstance(raw, list):
        raise Invalid(f"expected a list, got {_shown(raw)}")
    if len(arguments) > 1:  # a tuple of fixed length
        if len(raw) != len(arguments):
            raise Invalid(f"expected {len(arguments)} values, got {len(raw)}")
    else:
        arguments = arguments * len(raw)
    context = _CONTEXT.get()
    values = []
    for index, (item, argument) in enumerate(zip(raw, arguments, strict=True)):
        with context.at(index):
            values.append(_value(item, argument))
    return tuple(values) if get_origin(kind) is tuple else values


def _mapping(raw: Any, kind: Any) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise Invalid(f"expected a table, got {_shown(raw)}")
    context = _CONTEXT.get()
    values = {}
    for key, item in raw.items():
        with context.at(key):
            values[key] = _value(item, get_args(kind)[1])
    return values


def _union(raw: Any, kind: Any) -> Any:
    """The first member that fits; None only stands for an absent key, TOML has no null."""
    members = [m for m in get_args(kind) if m is not type(None)]
    if len(members) == 1:
        return converter().structure(raw, members[0])
    context = _CONTEXT.get()
    expected = []
    # An int is a float too: try the exact match first, so that 1 stays an int where both are allowed.
    for member in sorted(members, key=lambda m: m is not type(raw)):
        before = len(context.problems)
        try:
            value = converter().structure(raw, member)
        except Invalid as error:
            expected.append(str(error).removeprefix("expected ").partition(", got")[0])
            continue
        if len(context.problems) == before:
            return value
        if isinstance(raw, dict):  # a table of the right shape with problems inside: those say more than ours
            return value
        del context.problems[before:]
        expected.append(getattr(member, "__name__", str(member)))
    raise Invalid(f"expected {' or '.join(expected)}, got {_shown(raw)}")


def _record(raw: Any, cls: type) -> Any:
    """An attrs class from a table: unknown keys, missing fields, wrong types and ranges all become problems."""
    context = _CONTEXT.get()
    if not isinstance(raw, dict):
        raise Invalid(f"expected a table, got {_shown(raw)}")
    fields = {a.alias: a for a in _resolved_fields(cls)}
    _note_keys(context, raw, fields, cls)
    values: dict[str, Any] = {}
    before = len(context.problems)
    for name, attribute in fields.items():
        if name in raw and not (raw[name] == "" and attribute.default is None):
            with context.at(name):
                values[name] = _field(raw[name], attribute)
        elif name not in raw and attribute.default is attrs.NOTHING:
            doc = attribute.metadata.get("doc", "")
            context.problem(f"missing key {name!r}" + (f" ({doc})" if doc else ""))
    if len(context.problems) > before:
        return None
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:
        raise Invalid(str(error)) from None


def _field(raw: Any, attribute: attrs.Attribute[Any]) -> Any:
    context = _CONTEXT.get()
    value = _value(raw, attribute.type)
    limits = attribute.metadata.get("limits")
    if limits and value is not None:
        try:
            assert attribute.validator is not None
            attribute.validator(None, attribute, value)
        except ValueError:
            context.problem(f"{_shown(raw)} is out of range: expected {range_text(limits)}")
    return value


@cache
def _resolved_fields(cls: type) -> tuple[attrs.Attribute[Any], ...]:
    attrs.resolve_types(cls)
    return tuple(attrs.fields(cls))


def _note_keys(context: Context, raw: Mapping[str, Any], fields: Mapping[str, Any], cls: type) -> None:
    """Remember which keys this class knows. Whether an unknown one is a problem shows when all variants are seen."""
    path = tuple(context.path)
    context.known_keys.setdefault(path, set()).update(fields)
    for key in raw.keys() - fields.keys():
        context.unknown_keys.setdefault(path, {}).setdefault(key, set()).add(cls.__name__)


def unknown_key_problems(context: Context) -> None:
    """Turn keys that no variant knew into problems, each with the nearest right name."""
    for path, keys in context.unknown_keys.items():
        known = context.known_keys[path]
        for key in keys:
            if key not in known:
                context.problems.append(((*path, key), f"unknown key {key!r}{nearest(key, known)}"))


def _component(raw: Any, base: type[Component]) -> Any:
    """`{ use = "plugin.name", ... }` -> an instance; equal tables give the same object."""
    context = _CONTEXT.get()
    if base not in KINDS.values():
        raise Invalid(f"a field of type {base.__name__} is not supported; declare one of the five kinds")
    if not isinstance(raw, dict):
        raise Invalid(f'expected a table with use = "PLUGIN.COMPONENT", got {_shown(raw)}')
    if not isinstance(raw.get("use"), str):
        raise Invalid('expected a table with use = "PLUGIN.COMPONENT"')
    key = (base.kind, json.dumps([raw, context.path, context.previous], sort_keys=True, default=str))
    if key in context.done:
        return context.done[key]
    try:
        cls = context.registry.find(base.kind, raw["use"])
    except (UnknownName, BrokenPlugin) as error:
        with context.at("use"):
            context.problem(str(error))
        return None
    context.known_keys.setdefault(tuple(context.path), set()).add("name" if base.kind == "evaluator" else "use")
    before = len(context.problems)
    value = _record({k: v for k, v in raw.items() if k != "use"}, cls)
    if len(context.problems) == before:
        context.done[key] = value
    return value


def _fit(raw: Any, _: Any) -> Fit | None:
    """A fit: an inline table, or the name of a `[fit.NAME]` (`"round.3"`, `"round.previous"` inside rounds)."""
    context = _CONTEXT.get()
    if isinstance(raw, str):
        return named_fit(raw, context)
    return build_fit(raw, stream=".".join(map(str, context.path)))


def build_fit(raw: Any, stream: str) -> Fit | None:
    """The fit of a table with data, model and optimizer, seeded by the name of its stream."""
    context = _CONTEXT.get()
    if isinstance(raw, dict) and "stream" in raw:
        context.unknown_keys.setdefault(tuple(context.path), {}).setdefault("stream", set()).add("Fit")
        raw = {key: value for key, value in raw.items() if key != "stream"}
    fit: Fit | None = _record(raw, Fit)
    context.known_keys.get(tuple(context.path), set()).discard("stream")
    return None if fit is None else attrs.evolve(fit, stream=stream)


def named_fit(name: str, context: Context) -> Fit | None:
    """The fit that a name stands for.

    Raises:
        Invalid: unknown name, a cycle (its members are named), a round that does not exist.
    """
    base, _, which = name.partition(".")
    raw = context.fits.get(base)
    if raw is None:
        raise Invalid(f"unknown fit {name!r}{nearest(name, context.fits)}")
    if not isinstance(raw, dict):
        raise Invalid(f"fit {base!r} is no table")
    if "rounds" not in raw:
        if which:
            raise Invalid(f"{name!r}: fit {base!r} has no rounds")
        return _open(base, raw, None, context)
    rounds = raw["rounds"]
    if isinstance(rounds, float) and rounds.is_integer():
        rounds = int(rounds)
    if isinstance(rounds, bool) or not isinstance(rounds, int) or not 1 <= rounds <= 1000:
        raise Invalid(f"fit.{base}.rounds: expected a whole number from 1 to 1000, got {_shown(rounds)}")
    if which == "previous":
        if context.previous is None or not context.previous.startswith(base + ":"):
            raise Invalid(f"{name!r} is only known inside [fit.{base}]")
        number = int(context.previous.partition(":")[2])
    else:
        if which and not (which.isdigit() and 1 <= int(which) <= rounds):
            raise Invalid(f"{name!r}: fit {base!r} has rounds 1 to {rounds}")
        number = int(which) if which else rounds
    return _round(base, raw, number, context)


def _round(base: str, raw: dict[str, Any], number: int, context: Context) -> Fit | None:
    """Round `number`, built from the first one upward, so that long chains need no deep recursion."""
    fit = None
    table = {k: v for k, v in raw.items() if k not in ("rounds", "first")}
    for current in range(1, number + 1):
        before, context.previous = context.previous, f"{base}:{current - 1}"
        try:
            body = table if current > 1 else _first_round(table, base, raw.get("first"))
            fit = _open(f"{base}.{current}", body, base, context)
        finally:
            context.previous = before
        if fit is None:
            return None
    return fit


def _first_round(table: Any, base: str, first: str | None) -> Any:
    """The table of round 1: `"NAME.previous"` becomes `first`, or the key is left out where there is none."""
    if isinstance(table, dict):
        kept = {k: v for k, v in table.items() if v != f"{base}.previous" or first is not None}
        return {k: _first_round(v, base, first) for k, v in kept.items()}
    if isinstance(table, list):
        return [_first_round(item, base, first) for item in table]
    return first if table == f"{base}.previous" else table


def _open(name: str, raw: dict[str, Any], owner: str | None, context: Context) -> Fit | None:
    if name in context.named:
        return context.named[name]
    if name in context.opening:
        cycle = [*context.opening[context.opening.index(name) :], name]
        raise Invalid(f"fits refer to each other in a cycle: {' -> '.join(cycle)}")
    context.opening.append(name)
    path, context.path = context.path, ["fit", owner or name]
    try:
        fit = build_fit(raw, stream=name)
    finally:
        context.opening.pop()
        context.path = path
    context.named[name] = fit
    return fit


def _shown(raw: Any) -> str:
    if isinstance(raw, RangeFloat):
        raw = float(raw)
    if isinstance(raw, (dict, list)):
        return "a table" if isinstance(raw, dict) else f"a list of {len(raw)}"
    text = repr(raw) if not isinstance(raw, bool) else str(raw).lower()
    return text if len(text) <= 60 else text[:57] + "..."
