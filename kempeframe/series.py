"""Table -> the points of a figure, with 95 % intervals over seeds."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from kempeframe import intervals
from kempeframe.survival import survival
from kempeframe.table import POINT, Table

if TYPE_CHECKING:
    from kempeframe.figures import Figure


@attrs.frozen(eq=False)
class Series:
    """The points of one colour in one panel, each array (points,)."""

    hue: Any
    facet: Any
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray  # 95 % interval; nan where there is none
    high: np.ndarray
    theory: np.ndarray | None
    exact: bool = False  # y is theory itself
    names: tuple[str, ...] = ()  # where x is a column of names: x counts them, from 0


class NotDrawable(ValueError):
    """The table has not what the figure shows; the message says what."""


def series_of(figure: Figure, table: Table) -> list[Series]:
    """The figure's points: one for each configuration, averaged over seeds.

    Of a history there is one for each step; where columns hold lists, one for each of their members, in turn. Names on
    the x axis stand in the order of the table.

    Raises:
        NotDrawable: y holds text, or lists differ in length.
    """
    try:
        rows = table.where(figure.where).unrolled([name for name in (figure.x, figure.y, figure.theory) if name])
    except ValueError as error:
        raise NotDrawable(f"figure {figure.name!r}: {error}") from None
    if figure.rows == "events":
        return _survivals(figure, rows)
    rows = held(rows) if figure.hold else rows
    places = _places(figure.x, rows)
    made = []
    keys = [name for name in (figure.facet, figure.hue) if name]
    for values, group in rows.groups(keys):
        cells = [cell for _, cell in group.groups([a for a in (*table.axes, *along(figure, rows)) if a not in keys])]
        points = [point for cell in cells if (point := _point(figure, cell, places)) is not None]
        points.sort(key=lambda p: p[0] if np.isfinite(p[0]) else np.inf)
        if not points:
            continue
        x, y, low, high, theory = (np.array(column, dtype=float) for column in zip(*points, strict=True))
        made.append(
            Series(
                values.get(figure.hue) if figure.hue else None,
                values.get(figure.facet) if figure.facet else None,
                x, y, low, high,
                theory if figure.theory else None,
                figure.y in table.exact,
                tuple(str(value) for value in places),
            )
        )  # fmt: skip
    return made


def along(figure: Figure, rows: Table) -> list[str]:
    """The columns by which rows of one trial differ: steps of a history, members of lists."""
    return [name for name in ("step", POINT) if name in rows.columns and (name == POINT or figure.rows == "history")]


def held(history: Table) -> Table:
    """With each fit's last row repeated at the later steps of its configuration; else means are of those that go on."""
    columns: dict[str, list[Any]] = {name: list(values) for name, values in history.columns.items()}
    for _, configuration in history.groups(history.axes):
        steps = sorted({step for step in configuration.columns["step"] if step is not None})
        for _, fit in configuration.groups(["seed"]):
            own = [step for step in fit.columns["step"] if step is not None]
            last = fit.columns["step"].index(max(own)) if own else 0
            for step in steps[bisect_right(steps, max(own)) :] if own else ():
                for name in columns:
                    columns[name].append(step if name == "step" else fit.columns[name][last])
    return attrs.evolve(history, columns=columns)


def _places(x: str, rows: Table) -> dict[Any, float]:
    """Where x holds names or truth values: the place of each, in the order of the rows."""
    values = [value for value in rows.columns.get(x, []) if value is not None]
    if not any(isinstance(value, (str, bool)) for value in values):
        return {}
    return {value: float(place) for place, value in enumerate(dict.fromkeys(values))}


def _survivals(figure: Figure, rows: Table) -> list[Series]:
    """One curve for each colour and panel, of all its fits."""
    made = []
    for values, group in rows.groups([name for name in (figure.facet, figure.hue) if name]):
        steps, until = group.column(figure.x), group.column(figure.y)
        if steps.dtype == object or until.dtype == object:
            raise NotDrawable(f"figure {figure.name!r}: {figure.x} or {figure.y} holds text, not numbers")
        seen = ~np.isnan(steps) & ~np.isnan(until)
        if not seen.any():
            continue
        try:
            found = survival(steps[seen], until[seen])
        except ValueError as error:
            raise NotDrawable(f"figure {figure.name!r}: {error}") from None
        hue, facet = (values.get(name) if name else None for name in (figure.hue, figure.facet))
        made.append(Series(hue, facet, found.x, found.share, found.low, found.high, None))
    return made


def _point(
    figure: Figure, cell: Table, places: dict[Any, float]
) -> tuple[float, float, float, float, float] | None:
    y = cell.column(figure.y)
    x = cell.column(figure.x)
    if places:
        x = np.array([places.get(value, np.nan) for value in cell.columns[figure.x]])
    if x.dtype == object or y.dtype == object:
        name = figure.x if x.dtype == object else figure.y
        raise NotDrawable(f"figure {figure.name!r}: {name} holds text, not numbers")
    sound = ~np.isnan(y)
    if not sound.any():
        return None
    y = y[sound]
    boolean = all(isinstance(v, bool) for v in cell.columns[figure.y])
    interval = intervals.median_interval(y) if figure.statistic == "median" else intervals.mean_interval(y, boolean)
    low, high = (interval.low, interval.high) if np.isfinite([interval.low, interval.high]).all() else (np.nan, np.nan)
    estimate = float(np.median(y) if figure.statistic == "median" else np.mean(y))
    if figure.y in cell.exact:
        low = high = np.nan
    predicted = cell.column(figure.theory) if figure.theory else np.array([np.nan])
    theory = float(predicted[~np.isnan(predicted)].mean()) if not np.isnan(predicted).all() else np.nan
    middle = np.median if figure.statistic == "median" else np.mean
    return float(middle(x[sound])), estimate, low, high, theory
