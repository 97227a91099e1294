"""The numbers that a claim compares, seed by seed, and how an interval over them decides it."""

from __future__ import annotations

import math
from typing import Any, Literal

import attrs
import numpy as np

from kempeframe import intervals, locations
from kempeframe.intervals import LOG_RANK, Interval, Region
from kempeframe.table import Table

EXACT = "exact"  # the method of an interval of theory


class Undecidable(Exception):
    """The rows at hand can't decide the claim; the message says why."""


@attrs.frozen(kw_only=True)
class Contrast:
    """Numbers of one configuration, one per seed: values, or two columns paired by seed."""

    region: Region
    first: np.ndarray
    second: np.ndarray | None = None
    scale: Literal["difference", "ratio", "censored"] = "difference"
    exact: bool = False  # theory: no sampling error
    boolean: bool = False  # the column holds true and false, not numbers that happen to be 0 and 1
    interval: Interval | None = None  # where the kind has its own
    label: str = ""
    seeds: tuple[Any, ...] = ()
    numbers: tuple[np.ndarray, Region] | None = None  # what to take for a mean over configurations instead

    def estimate(self, statistic: str) -> Interval:
        """The 95 % interval that fits the numbers."""
        if self.interval is not None:
            return self.interval
        if self.exact:
            return self._exact_interval()
        if statistic == "median":
            return intervals.median_interval(self._joined())
        if self.second is None:
            return intervals.mean_interval(self.first, self.boolean)
        if self.scale == "ratio":
            return intervals.ratio_interval(self.first, self.second)
        return intervals.difference_interval(self.first, self.second, self.boolean)

    def decide(self, statistic: str) -> tuple[Interval, Literal["holds", "fails", "undecided"]]:
        """Interval and decision."""
        if self.scale == "censored":
            assert self.second is not None
            return _censored(self.first, self.second)
        interval = self.estimate(statistic)
        return interval, intervals.decide(interval, self.region)

    def seeds_to_decide(self, statistic: str) -> int | None:
        """How many seeds would decide it if estimate and spread stayed."""
        if self.scale == "censored" or self.exact or self.interval is not None:
            return None
        return intervals.seeds_to_decide(self.estimate(statistic), self.region)

    def _joined(self) -> np.ndarray:
        """The compared number of each seed; nan where a ratio has none."""
        if self.second is None:
            return self.first
        return np.asarray(self.first / self.second if self.scale == "ratio" else self.first - self.second)

    def _exact_interval(self) -> Interval:
        return exact_interval(float(self._joined()[0]), len(self.first), "not a number")


def _censored(first: np.ndarray, second: np.ndarray) -> tuple[Interval, Literal["holds", "fails", "undecided"]]:
    """The log-rank decision that first is earlier; the interval only carries what a reader is shown.

    Its estimate is the share of pairs with the first later, less that with the first earlier: below 0 is wanted.
    """
    order = locations.censored_order(first, second)
    earlier, later = int((first < second).sum()), int((first > second).sum())
    p = f"p = {order.p_earlier:.2g}" if earlier >= later else f"p = {order.p_later:.2g} for later"
    method = f"{earlier} of {order.n} pairs earlier, {later} later ({LOG_RANK}, {'undecidable' if order.reason else p})"
    return Interval(-order.estimate, -math.inf, math.inf, order.n, method, order.reason), order.verdict


def exact_interval(value: float, n: int, otherwise: str) -> Interval:
    """Of a number without sampling error: the number; undecidable, and why, where it is nan."""
    if math.isnan(value):
        return Interval(value, -math.inf, math.inf, n, EXACT, otherwise)
    return Interval(value, value, value, n, EXACT)


def pooled(contrasts: list[Contrast]) -> Contrast:
    """The mean over configurations, seed by seed; ratios as geometric means.

    Raises:
        Undecidable: the configurations differ in their seeds, or the kind has no mean.
    """
    head = contrasts[0]
    if len(contrasts) == 1:
        return head
    if any(c.interval is not None or c.scale == "censored" for c in contrasts):
        raise Undecidable("this kind of claim has no mean over configurations")
    if len({frozenset(c.seeds) for c in contrasts}) > 1:
        raise Undecidable("the configurations differ in their seeds")
    places = [np.argsort([str(seed) for seed in c.seeds]) for c in contrasts]
    firsts = [(c.numbers[0] if c.numbers else c.first)[order] for c, order in zip(contrasts, places, strict=True)]
    seconds = [c.second[order] for c, order in zip(contrasts, places, strict=True) if c.second is not None]
    log = head.scale == "ratio"
    return Contrast(
        first=_mean(firsts, log),
        second=_mean(seconds, log) if seconds else None,
        region=head.numbers[1] if head.numbers else head.region,
        scale=head.scale,
        exact=all(c.exact for c in contrasts),
        label=", ".join(filter(None, [head.label, f"mean of {len(contrasts)}"])),
        seeds=tuple(head.seeds[i] for i in places[0]),
    )


def _mean(arrays: list[np.ndarray], log: bool) -> np.ndarray:
    stacked = np.stack(arrays).astype(float)
    if log and not (stacked > 0).all():
        raise Undecidable("a ratio is not of positive values")
    return np.asarray(np.exp(np.log(stacked).mean(axis=0)) if log else stacked.mean(axis=0))


def by_seed(rows: Table, of: str) -> dict[Any, float]:
    """seed -> value of one configuration.

    Raises:
        Undecidable: more than one row has a seed, or a value is missing.
    """
    values = column(rows, of)
    if values.dtype == object:
        raise Undecidable(f"{of} holds text, not numbers")
    seeds = rows.columns.get("seed", [])
    if len(seeds) < len(values):
        raise Undecidable("the rows have no seed")
    if len(set(seeds)) < len(seeds):
        raise Undecidable("several rows of one seed: say in `where` which configuration is meant")
    if np.isnan(values).any():
        raise Undecidable(f"{of} is missing in {int(np.isnan(values).sum())} of {len(values)} rows")
    return dict(zip(seeds, values.tolist(), strict=True))


def paired(*sides: dict[Any, float]) -> tuple[tuple[Any, ...], list[np.ndarray]]:
    """The seeds that all sides have, and each side's values over them.

    Raises:
        Undecidable: there is no common seed.
    """
    seeds = tuple(s for s in sides[0] if all(s in side for side in sides))
    if not seeds:
        raise Undecidable("the two sides share no seed")
    return seeds, [np.array([side[s] for s in seeds]) for side in sides]


@attrs.frozen(kw_only=True)
class Curve:
    """A column along an axis, seed by seed."""

    x: np.ndarray  # (points,), rising
    values: np.ndarray  # (seeds, points)
    seeds: tuple[Any, ...]


def curve(rows: Table, of: str, along: str) -> Curve:
    """A column along an axis, of the seeds that have all its points.

    Raises:
        Undecidable: fewer than two points, one that is no finite number, or no seed that has all.
    """
    places = column(rows, along)
    if places.dtype == object:
        raise Undecidable(f"{along} holds text: no axis to go along")
    if not np.isfinite(places).all():
        raise Undecidable(f"{along} is not a finite number in every row")
    x = np.unique(places)
    if len(x) < 2:
        raise Undecidable(f"{along} has fewer than two values here")
    parts = [by_seed(rows.take(places == value), of) for value in x]
    seeds = tuple(s for s in parts[0] if all(s in part for part in parts))
    if not seeds:
        raise Undecidable("no seed has all points")
    return Curve(x=x, values=np.array([[part[s] for part in parts] for s in seeds]), seeds=seeds)


def column(rows: Table, name: str) -> np.ndarray:
    """A column; Undecidable where the table has none of that name."""
    if name not in rows.columns:
        raise Undecidable(f"there is no column {name}")
    return rows.column(name)
