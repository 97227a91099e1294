"""The numbers that a claim compares, seed by seed, and how an interval over them decides it."""

from __future__ import annotations

import math
from typing import Any, Literal

import attrs
import numpy as np

from kempeframe import intervals, locations
from kempeframe.intervals import Interval, Region
from kempeframe.table import Table


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
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.first / self.second if self.scale == "ratio" else self.first - self.second

    def _exact_interval(self) -> Interval:
        value = float(self._joined()[0])
        return Interval(value, value, value, len(self.first), "exact")


def _censored(first: np.ndarray, second: np.ndarray) -> tuple[Interval, Literal["holds", "fails", "undecided"]]:
    """The log-rank decision that first is earlier; the interval only carries what a reader is shown."""
    order = locations.censored_order(first, second)
    method = f"log-rank, p = {order.p_earlier:.2g} for earlier, {order.p_later:.2g} for later"
    interval = Interval(order.estimate, -math.inf, math.inf, order.n, method, order.reason)
    if order.reason:
        return interval, "undecided"
    return interval, "holds" if order.p_earlier <= 0.025 else "fails" if order.p_later <= 0.025 else "undecided"


def pooled(contrasts: list[Contrast]) -> Contrast:
    """The mean over configurations, seed by seed; ratios as geometric means.

    Raises:
        Undecidable: the configurations differ in their seeds, or the kind has no mean.
    """
    first = contrasts[0]
    if any(c.interval is not None or c.scale == "censored" for c in contrasts):
        raise Undecidable("this kind of claim has no mean over configurations")
    if len({len(c.first) for c in contrasts}) > 1:
        raise Undecidable("the configurations differ in their seeds")
    log = first.scale == "ratio"
    columns: list[np.ndarray | None] = []
    for arrays in ([c.first for c in contrasts], [c.second for c in contrasts]):
        if any(a is None for a in arrays):
            columns.append(None)
        else:
            stacked = np.stack([np.asarray(a, dtype=float) for a in arrays if a is not None])
            columns.append(np.exp(np.mean(np.log(stacked), axis=0)) if log else stacked.mean(axis=0))
    assert columns[0] is not None
    label = f"mean of {len(contrasts)}"
    return attrs.evolve(first, first=columns[0], second=columns[1], label=label, boolean=False)


def by_seed(rows: Table, of: str) -> dict[Any, float]:
    """seed -> value of one configuration.

    Raises:
        Undecidable: more than one row has a seed, or a value is missing.
    """
    values = rows.column(of)
    if values.dtype == object:
        raise Undecidable(f"{of} holds text, not numbers")
    seeds = rows.columns["seed"]
    if len(set(seeds)) < len(seeds):
        raise Undecidable("several rows of one seed: say in `where` which configuration is meant")
    if np.isnan(values).any():
        raise Undecidable(f"{of} is missing in {int(np.isnan(values).sum())} of {len(values)} rows")
    return dict(zip(seeds, values.tolist(), strict=True))


def paired(first: dict[Any, float], second: dict[Any, float]) -> tuple[np.ndarray, np.ndarray]:
    """Two columns over the seeds that both have.

    Raises:
        Undecidable: there is no common seed.
    """
    seeds = [s for s in first if s in second]
    if not seeds:
        raise Undecidable("the two sides share no seed")
    return np.array([first[s] for s in seeds]), np.array([second[s] for s in seeds])


def curve(rows: Table, of: str, along: str) -> tuple[np.ndarray, np.ndarray]:
    """x (points,) in rising order, and values (seeds, points).

    Raises:
        Undecidable: fewer than two points, or seeds without some of them.
    """
    column = rows.column(along)
    if column.dtype == object:
        raise Undecidable(f"{along} holds text: no axis to go along")
    x = np.unique(column)
    if len(x) < 2:
        raise Undecidable(f"{along} has fewer than two values here")
    parts = [by_seed(rows.take(column == value), of) for value in x]
    seeds = [s for s in parts[0] if all(s in part for part in parts)]
    if not seeds:
        raise Undecidable("no seed has all points")
    return x, np.array([[part[s] for part in parts] for s in seeds])
