"""Components and other records -> the tables that a spec holds for them: the way back from structuring."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import attrs
import tomli_w

from kempeframe.components import Component, Fit
from kempeframe.digest import full_name
from kempeframe.structure import spec_fields


class NotWritable(ValueError):
    """A value that no spec can hold; the message says which and why."""


def as_table(value: Any) -> dict[str, Any]:
    """The table of a component (with its `use`), a fit, a figure, a claim: fields that differ from their defaults.

    Raises:
        NotWritable: a field holds what TOML can't say, or a component is of no plugin.
    """
    table = {"use": _use(type(value))} if isinstance(value, Component) else {}
    for name, attribute in spec_fields(type(value)).items():
        given = getattr(value, attribute.name)
        if isinstance(value, Fit) and name == "stream":  # where it stands in a spec says it
            continue
        if given == default_value(attribute, value):
            continue
        table[name] = plain_value(given, f"{type(value).__name__}.{name}")
    return table


def as_toml(value: Any) -> str:
    """`as_table` as TOML text."""
    return tomli_w.dumps(as_table(value))


def inline(value: Any) -> str:
    """A value as TOML writes it on one line: what `--set KEY=` takes."""
    value = plain_value(value, "the value")
    if isinstance(value, dict) and not value:
        return "{}"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {inline(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return tomli_w.dumps({"value": value}).partition("=")[2].strip()


def spec_text(raw: Mapping[str, Any]) -> str:
    """A whole spec as a person writes it: a header for each part and for each evaluator, figure and claim."""
    blocks = [_lines({key: value for key, value in raw.items() if not _has_header(value)})]
    for key, value in raw.items():
        if not _has_header(value):
            continue
        if isinstance(value, list):
            blocks += [f"[[{_key(key)}]]\n{_lines(member)}" for member in value]
        elif key == "fit" and all(isinstance(fit, Mapping) for fit in value.values()):
            blocks += [_fit_block(f"fit.{_key(name)}", fit) for name, fit in value.items()]
        elif key == "sweep":
            blocks += _sweep_blocks(value)
        else:
            blocks.append(f"[{_key(key)}]\n{_lines(value)}")
    return "\n".join(block for block in blocks if block)


def _has_header(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(member, Mapping) for member in value)
    return isinstance(value, Mapping)


def _sweep_blocks(sweep: Mapping[str, Any]) -> list[str]:
    """Named variants under headers of their own, `[sweep.NAME]`, as long as that keeps the order of the axes."""
    runs = [(named, dict(axes)) for named, axes in groupby(sweep.items(), lambda axis: _are_variants(axis[1]))]
    if not runs or sum(not named for named, _ in runs) > 1:
        return [f"[sweep]\n{_lines(sweep)}"]
    blocks = []
    for named, axes in runs:
        tables = {f"sweep.{_key(name)}": variants for name, variants in axes.items()} if named else {"sweep": axes}
        blocks += [f"[{header}]\n{_lines(table)}" for header, table in tables.items()]
    return blocks


def _are_variants(axis: Any) -> bool:
    return isinstance(axis, Mapping) and bool(axis) and all(isinstance(value, Mapping) for value in axis.values())


def _fit_block(header: str, fit: Mapping[str, Any]) -> str:
    own = {key: value for key, value in fit.items() if not isinstance(value, Mapping)}
    parts = [f"[{header}.{_key(key)}]\n{_lines(value)}" for key, value in fit.items() if isinstance(value, Mapping)]
    return "\n".join([f"[{header}]\n{_lines(own)}"] * (bool(own) or not parts) + parts)


def _lines(table: Mapping[str, Any]) -> str:
    return "".join(f"{_key(key)} = {inline(value)}\n" for key, value in table.items())


def default_value(attribute: attrs.Attribute[Any], owner: Any) -> Any:
    """A field's default for one object; NOTHING where a spec has to give it."""
    default: Any = attribute.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return default.factory(owner) if default.takes_self else default.factory()
    return default


def _key(key: str) -> str:
    return tomli_w.dumps({key: 0}).rpartition(" = ")[0]


def _use(cls: type[Component]) -> str:
    from kempeframe.registry import plugin_of

    if plugin_of(cls) is None:
        raise NotWritable(
            f"{cls.__name__} is of no plugin that was loaded: put it into a file with a hook, "
            f'and name that file in plugins = ["FILE.py"]'
        )
    return full_name(cls)


def plain_value(value: Any, where: str) -> Any:
    """A value as TOML's types; `where` says in a message what it is.

    Raises:
        NotWritable: it holds what TOML can't say.
    """
    if isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a number of NumPy or torch
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): plain_value(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple, range)) or hasattr(value, "tolist"):
        items = value.tolist() if hasattr(value, "tolist") else value
        return [plain_value(item, f"{where}[{index}]") for index, item in enumerate(items)]
    if isinstance(value, (Component, Fit)) or attrs.has(type(value)):
        return as_table(value)
    if value is None:
        raise NotWritable(f"{where} is None, and its default is not: TOML has no null")
    raise NotWritable(f"{where} is a {type(value).__name__}, which TOML can't say")
