"""Columns -> JSON that a script element may hold: short where values repeat, exact, and safe inside HTML."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kempeframe.checking import CERTIFICATE_COLUMNS
from kempeframe.report_reading import Columns

EXACT = 2**53  # a browser's numbers hold whole ones up to this


def script_json(value: Any) -> str:
    """JSON without any character that could end a script element or start a comment in it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def results_data(columns: Columns) -> dict[str, Any]:
    """The results table: its columns stand in the groups Configuration, Fit and Measured."""
    names = list(columns)
    configuration = names[: names.index("seed")] if "seed" in names else []
    fit = {"seed", "status", *CERTIFICATE_COLUMNS, "error"}
    groups = {
        name: "Configuration" if name in configuration else "Fit" if name in fit else "Measured" for name in names
    }
    return _data(columns, groups, _hidden(columns))


def predicted_data(columns: Columns) -> dict[str, Any]:
    """The table of measured beside theory; where it has them, a column that draws the ratio with its interval."""
    names = list(columns)
    axes = names[: names.index("metric")] if "metric" in names else []
    groups = {name: "Configuration" if name in axes else "Measured beside theory" for name in names}
    alone = {name for name in ("metric", "theory") if len(set(columns.get(name, ()))) == 1}
    data = _data(columns, groups, alone)
    if {"measured", "low", "high", "predicted", "ratio"} <= set(names):
        data["drawn"] = {"after": len(axes) + ("metric" in names), "group": "Measured beside theory"}
    return data


def _data(columns: Columns, groups: Mapping[str, str], hidden: set[str]) -> dict[str, Any]:
    rows = len(next(iter(columns.values()), ()))
    made = [
        {"name": name, "group": groups[name], "hidden": name in hidden, **_encoded(values)}
        for name, values in columns.items()
    ]
    return {"rows": rows, "columns": made}


def _hidden(columns: Columns) -> set[str]:
    """Columns that say nothing at first sight: empty ones, and the longer name of two that hold the same."""
    hidden = {name for name, values in columns.items() if all(value in (None, "") for value in values)}
    for name in set(columns) - hidden:
        short = name.rpartition(".")[2]
        if short != name and short in columns and _same(columns[name], columns[short]):
            hidden.add(name)
    return hidden


def _same(first: Sequence[Any], second: Sequence[Any]) -> bool:
    return all(a == b or (a != a and b != b) for a, b in zip(first, second, strict=True))


def _encoded(values: Sequence[Any]) -> dict[str, Any]:
    """`values`, or where they repeat `distinct` ones and the `codes` of each row."""
    kind = _kind(values)
    cells = [_cell(value, kind) for value in values]
    keys = [json.dumps(cell) for cell in cells]
    codes = {key: code for code, key in enumerate(dict.fromkeys(keys))}
    if 2 * len(codes) > len(keys):
        return {"type": kind, "values": cells}
    distinct = dict(zip(keys, cells, strict=True))
    return {"type": kind, "distinct": [distinct[key] for key in codes], "codes": [codes[key] for key in keys]}


def _kind(values: Iterable[Any]) -> str:
    present = [value for value in values if value is not None]
    if present and all(isinstance(value, bool) for value in present):
        return "boolean"
    if all((isinstance(value, (bool, int, float)) and abs(value) <= EXACT) or _is_float(value) for value in present):
        return "number"
    return "list" if all(isinstance(value, (list, tuple)) for value in present) else "text"


def _is_float(value: Any) -> bool:
    return isinstance(value, float)


def _cell(value: Any, kind: str) -> Any:
    """A value as JSON can say it: of the numbers that it lacks, the name."""
    if value is None or (isinstance(value, bool) and kind == "boolean"):
        return value
    if kind == "number":
        return _number(value)
    if kind == "list":
        return [_member(member) for member in value]
    return value if isinstance(value, str) else str(value)


def _number(value: float) -> int | float | str:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return int(value) if isinstance(value, bool) else value


def _member(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_member(member) for member in value]
    if value is None or isinstance(value, (str, bool)):
        return value
    return _number(value) if isinstance(value, (int, float)) else str(value)
