"""The results table: one row per trial, columns by name. Small enough to need no data frame library."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from kempeframe.problems import nearest

if TYPE_CHECKING:
    import pandas as pd


POINT = "point"  # column that numbers the members of a list that was unrolled


@attrs.define(eq=False)
class Table:
    """Columns of equal length. `axes` are the swept columns, `exact` those without sampling error (theory)."""

    columns: dict[str, list[Any]]
    axes: list[str] = attrs.field(factory=list)
    exact: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def column(self, name: str) -> np.ndarray:
        """One column as an array: floats where every value is a number (None is nan), else objects.

        Raises:
            KeyError: no such column; the message names the nearest.
        """
        if name not in self.columns:
            raise KeyError(f"no column {name!r}{nearest(name, self.columns)}")
        values = self.columns[name]
        if all(v is None or isinstance(v, (int, float)) for v in values):
            return np.array([np.nan if v is None else _float(v) for v in values])
        objects = np.empty(len(values), dtype=object)
        for i, value in enumerate(values):  # one by one: a list is one value
            objects[i] = value
        return objects

    def take(self, keep: np.ndarray | Sequence[int]) -> Table:
        """The rows of a boolean mask or of indices."""
        indices = np.arange(len(self))[np.asarray(keep)].tolist() if len(self) else []
        return attrs.evolve(self, columns={k: [v[i] for i in indices] for k, v in self.columns.items()})

    def unrolled(self, names: Sequence[str]) -> Table:
        """Where some of these columns hold lists, a row for each member, numbered from 0 in the column `POINT`.

        Raises:
            ValueError: lists of one row differ in length.
        """
        lists = [name for name in names if any(isinstance(v, (list, tuple)) for v in self.columns[name])]
        if not lists:
            return self
        columns: dict[str, list[Any]] = {name: [] for name in (*self.columns, POINT)}
        for i in range(len(self)):
            held = {name: self.columns[name][i] for name in lists if isinstance(self.columns[name][i], (list, tuple))}
            lengths = {name: len(values) for name, values in held.items()}
            if len(set(lengths.values())) > 1:
                raise ValueError(f"lists of different lengths: {lengths}")
            for point in range(next(iter(lengths.values()), 0)):
                for name, values in self.columns.items():
                    columns[name].append(held[name][point] if name in held else values[i])
                columns[POINT].append(point)
        return attrs.evolve(self, columns=columns)

    def where(self, selection: Mapping[str, Any]) -> Table:
        """The rows that a `where` table names: a value, a list of values, or { between = [low, high] }."""
        keep = np.ones(len(self), dtype=bool)
        for name, wanted in selection.items():
            keep &= matches(self.column(name), wanted)
        return self.take(keep)

    def groups(self, names: Sequence[str]) -> Iterator[tuple[dict[str, Any], Table]]:
        """Subtables of equal values in `names`, in the order of their first rows."""
        indices: dict[tuple[Any, ...], list[int]] = {}
        keys = [[_key(v) for v in self.columns[name]] for name in names]
        for i, key in enumerate(zip(*keys, strict=True) if names else [()] * len(self)):
            indices.setdefault(key, []).append(i)
        for rows in indices.values():
            yield {name: self.columns[name][rows[0]] for name in names}, self.take(rows)

    def unique(self, name: str) -> list[Any]:
        """The values of a column: numbers sorted, others in the order of their first rows."""
        found: dict[Any, Any] = {}
        for value in self.columns[name]:
            found.setdefault(_key(value), value)
        values = list(found.values())
        return sorted(values) if all(isinstance(v, (int, float)) for v in values) else values

    def pandas(self) -> pd.DataFrame:
        """The table as a data frame."""
        import pandas as pd

        return pd.DataFrame(self.columns)

    def write_csv(self, path: Path) -> None:
        """Write with a header line; floats with every digit they need to be read back equal."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.columns)
            writer.writerows(zip(*self.columns.values(), strict=True))

    def write_parquet(self, path: Path) -> None:
        """Write as Parquet; a column of mixed types is written as text."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        arrays = {}
        for name, values in self.columns.items():
            try:
                arrays[name] = pa.array(values)
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                numeric = all(v is None or isinstance(v, (int, float)) for v in values)
                arrays[name] = pa.array([v if v is None else (float(v) if numeric else str(v)) for v in values])
        pq.write_table(pa.table(arrays), path)


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # an int of more than 308 digits
        return math.copysign(math.inf, number > 0 or -1)


def _key(value: Any) -> Any:
    """What equal values share: all nan are one, and what can't be hashed (a list) goes by how it prints."""
    if isinstance(value, float) and math.isnan(value):
        return "nan", float
    try:
        hash(value)
    except TypeError:
        return repr(value), type(value)
    return value


def matches(column: np.ndarray, wanted: Any) -> np.ndarray:
    """Which entries of a column a `where` value names. Numbers match up to rounding in the last digits."""
    if isinstance(wanted, Mapping):
        low, high = map(float, wanted["between"])
        if column.dtype == object:
            return np.zeros(len(column), dtype=bool)
        slack = 1e-9
        return (column >= low - slack * abs(low)) & (column <= high + slack * abs(high))
    keep = np.zeros(len(column), dtype=bool)
    for value in wanted if isinstance(wanted, (list, tuple)) else (wanted,):
        if column.dtype == object or isinstance(value, str):
            keep |= np.array([v == value for v in column], dtype=bool) if len(column) else keep
        else:
            keep |= np.isclose(column, float(value), rtol=1e-9, atol=0.0)
    return keep
