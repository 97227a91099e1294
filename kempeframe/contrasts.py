"""The eight kinds of claim: each says which numbers it compares, seed by seed, and in which region they must lie."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import attrs
import numpy as np

from kempeframe import intervals, locations
from kempeframe.components import field
from kempeframe.intervals import Interval, Region
from kempeframe.table import Table, matches

KINDS_OF_CLAIM = ("slope", "order", "ratio", "difference", "agreement", "threshold", "monotone", "location")
Where = dict[str, Any]


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
    interval: Interval | None = None  # where the kind has its own
    label: str = ""

    def estimate(self, statistic: str) -> Interval:
        """The 95 % interval that fits the numbers."""
        if self.interval is not None:
            return self.interval
        if self.exact:
            return self._exact_interval()
        if self.second is None:
            return intervals.median_interval(self.first) if statistic == "median" else intervals.mean_interval(self.first)
        if statistic == "median":
            joined = self.first - self.second if self.scale == "difference" else self.first / self.second
            return intervals.median_interval(joined)
        paired = intervals.ratio_interval if self.scale == "ratio" else intervals.difference_interval
        return paired(self.first, self.second)

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

    def _exact_interval(self) -> Interval:
        first = float(self.first[0])
        if self.second is None:
            value = first
        else:
            second = float(self.second[0])
            value = first / second if self.scale == "ratio" else first - second
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
    return attrs.evolve(first, first=columns[0], second=columns[1], label=label)


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


@attrs.frozen(kw_only=True)
class _Kind:
    where: Where = field(
        attrs.Factory(dict), "rows it is about: column = value, a list of values, or { between = [low, high] }"
    )

    sides: ClassVar[tuple[str, ...]] = ()

    def validate(self, region: Region | None) -> None:
        """Raise ValueError where the claim's region does not go with the kind."""
        if region is None:
            raise ValueError("say where the quantity must lie: above, below or within")

    def columns(self) -> list[str]:
        """Columns it names outside `where`."""
        return [self.of, *(name for side in self.sides for name in (getattr(self, side) or {}))]

    def used(self, rows: Table) -> set[str]:
        """Axes that are not free: those the kind itself goes along."""
        return {name for side in self.sides for name in (getattr(self, side) or {})}


def _exact(rows: Table, *names: str) -> bool:
    return all(name in rows.exact for name in names)


def _side(rows: Table, selection: Where, of: str) -> dict[Any, float]:
    for name, wanted in selection.items():
        if not matches(rows.column(name), wanted).any():
            raise Undecidable(f"no row has {name} = {wanted}")
    return by_seed(rows.where(selection), of)


@attrs.frozen(kw_only=True)
class Threshold(_Kind):
    """A column lies in a region."""

    of: str = field(doc="column")

    def contrasts(self, rows: Table, region: Region) -> Iterator[Contrast]:
        values = np.array(list(by_seed(rows, self.of).values()))
        yield Contrast(first=values, region=region, exact=_exact(rows, self.of))


@attrs.frozen(kw_only=True)
class Slope(_Kind):
    """The slope of a column against an axis, fitted by least squares seed by seed."""

    of: str = field(doc="column on the y axis")
    against: str = field(doc="column on the x axis")
    scale: Literal["log-log", "linear", "semilog-x", "semilog-y"] = field("log-log", "axes in which it is a slope")

    def columns(self) -> list[str]:
        return [self.of, self.against]

    def used(self, rows: Table) -> set[str]:
        return {self.against}

    def contrasts(self, rows: Table, region: Region) -> Iterator[Contrast]:
        x, y = curve(rows, self.of, self.against)
        if (self.scale in ("log-log", "semilog-x") and (x <= 0).any()) or (
            self.scale in ("log-log", "semilog-y") and (y <= 0).any()
        ):
            raise Undecidable(f"a value of {self.of} or {self.against} is not above 0: it has no logarithm")
        x = np.log(x) if self.scale in ("log-log", "semilog-x") else x
        y = np.log(y) if self.scale in ("log-log", "semilog-y") else y
        exact = _exact(rows, self.of)
        if exact:
            y = y[:1]
        centred = x - x.mean()
        slopes = y @ centred / (centred @ centred)
        yield Contrast(first=slopes, region=region, exact=exact)


@attrs.frozen(kw_only=True)
class Difference(_Kind):
    """A column in one configuration minus the same column in another, paired by seed; with `minus`, a difference of those."""

    of: str = field(doc="column")
    first: Where = field(doc="rows of the first side")
    second: Where = field(doc="rows of the second side, subtracted")
    minus: tuple[Where, Where] | None = field(None, "[first, second] of a difference that is subtracted from this one")

    sides: ClassVar[tuple[str, ...]] = ("first", "second")

    def columns(self) -> list[str]:
        return [*super().columns(), *(name for side in self.minus or () for name in side)]

    def used(self, rows: Table) -> set[str]:
        return super().used(rows) | {name for side in self.minus or () for name in side}

    def contrasts(self, rows: Table, region: Region) -> Iterator[Contrast]:
        first, second = paired(_side(rows, self.first, self.of), _side(rows, self.second, self.of))
        exact = _exact(rows, self.of)
        if self.minus is not None:
            third, fourth = paired(*(_side(rows, side, self.of) for side in self.minus))
            if len(third) != len(first):
                raise Undecidable("the two differences differ in their seeds")
            first, second = first - second, third - fourth
        yield Contrast(first=first, second=second, region=region, exact=exact)


@attrs.frozen(kw_only=True)
class Ratio(_Kind):
    """A column in one configuration over the same column in another, paired by seed, in logarithms."""

    of: str = field(doc="column")
    numerator: Where = field(doc="rows above the line")
    denominator: Where = field(doc="rows below the line")

    sides: ClassVar[tuple[str, ...]] = ("numerator", "denominator")

    def contrasts(self, rows: Table, region: Region) -> Iterator[Contrast]:
        first, second = paired(_side(rows, self.numerator, self.of), _side(rows, self.denominator, self.of))
        yield Contrast(first=first, second=second, region=region, scale="ratio", exact=_exact(rows, self.of))


@attrs.frozen(kw_only=True)
class Order(_Kind):
    """One configuration lies below another, paired by seed; infinite values are steps never reached (log-rank)."""

    of: str = field(doc="column")
    lower: Where = field(doc="rows that lie below")
    higher: Where = field(doc="rows that lie above")

    sides: ClassVar[tuple[str, ...]] = ("lower", "higher")

    def validate(self, region: Region | None) -> None:
        if region is not None:
            raise ValueError("an order needs no above, below or within")

    def contrasts(self, rows: Table, region: Region | None) -> Iterator[Contrast]:
        lower, higher = paired(_side(rows, self.lower, self.of), _side(rows, self.higher, self.of))
        censored = bool(np.isposinf(lower).any() or np.isposinf(higher).any())
        yield Contrast(
            first=lower,
            second=higher,
            region=Region(high=0.0),
            scale="censored" if censored else "difference",
            exact=_exact(rows, self.of),
        )


@attrs.frozen(kw_only=True)
class Monotone(_Kind):
    """A column rises (falls) from each point of an axis to the next, paired by seed."""

    of: str = field(doc="column")
    along: str = field(doc="axis")
    direction: Literal["increasing", "decreasing"] = field(doc="which way it goes")
    tolerance: float = field(0.0, "a step may go the wrong way by less than this", ge=0)

    def validate(self, region: Region | None) -> None:
        if region is not None:
            raise ValueError("a monotone claim needs no above, below or within")

    def columns(self) -> list[str]:
        return [self.of, self.along]

    def used(self, rows: Table) -> set[str]:
        return {self.along}

    def contrasts(self, rows: Table, region: Region | None) -> Iterator[Contrast]:
        x, values = curve(rows, self.of, self.along)
        rising = self.direction == "increasing"
        wanted = Region(low=0.0 - self.tolerance) if rising else Region(high=self.tolerance)
        for i in range(len(x) - 1):
            label = f"{self.along.rpartition('.')[2]} {x[i]:g} to {x[i + 1]:g}"
            yield Contrast(
                first=values[:, i + 1],
                second=values[:, i],
                region=wanted,
                exact=_exact(rows, self.of),
                label=label,
            )


@attrs.frozen(kw_only=True)
class Agreement(_Kind):
    """A measured column equals a predicted one within a tolerance: an equivalence test, the interval lies inside it."""

    of: str = field(doc="measured column; with `minus`, its paired difference from the rows named there")
    theory: str = field(doc="predicted column")
    relative: float | None = field(None, "tolerance as a fraction of the prediction", gt=0)
    absolute: float | None = field(None, "tolerance in the units of the column", gt=0)
    minus: Where | None = field(None, "rows whose values are subtracted first, paired by seed")

    sides: ClassVar[tuple[str, ...]] = ("minus",)

    def __attrs_post_init__(self) -> None:
        if (self.relative is None) == (self.absolute is None):
            raise ValueError("give the tolerance: either relative or absolute")

    def validate(self, region: Region | None) -> None:
        if region is not None:
            raise ValueError("an agreement has its own tolerance; above, below and within do not go with it")

    def columns(self) -> list[str]:
        return [self.of, self.theory, *(self.minus or {})]

    def contrasts(self, rows: Table, region: Region | None) -> Iterator[Contrast]:
        baseline = _side(rows, self.minus, self.of) if self.minus else None
        if self.minus:
            rest = np.ones(len(rows), dtype=bool)
            for name, wanted in self.minus.items():
                rest &= ~matches(rows.column(name), wanted)
            rows = rows.take(rest)
        measured, predicted = paired(by_seed(rows, self.of), by_seed(rows, self.theory))
        if baseline is not None:
            measured, subtracted = paired(dict(zip(rows.columns["seed"], measured, strict=True)), baseline)
            measured = measured - subtracted
        if self.absolute is not None:
            first, wanted = measured - predicted, Region(-self.absolute, self.absolute)
        else:
            if (predicted == 0).any():
                raise Undecidable(f"{self.theory} is 0 here: a relative tolerance has no meaning")
            assert self.relative is not None
            first, wanted = measured / predicted, Region(1 - self.relative, 1 + self.relative)
        yield Contrast(first=first, region=wanted, exact=_exact(rows, self.of, self.theory))


@attrs.frozen(kw_only=True)
class Location(_Kind):
    """Where along an axis the mean curve has its optimum, or crosses a level."""

    of: str = field(doc="column")
    along: str = field(doc="axis")
    at: Literal["maximum", "minimum", "crossing"] = field(doc="what is located")
    level: float | None = field(None, "the level that is crossed")
    minus: Where | None = field(None, "rows whose values are subtracted first, paired by seed and axis")

    sides: ClassVar[tuple[str, ...]] = ("minus",)

    def __attrs_post_init__(self) -> None:
        if (self.at == "crossing") != (self.level is not None):
            raise ValueError("`level` goes with at = 'crossing', and only with it")

    def columns(self) -> list[str]:
        return [self.of, self.along, *(self.minus or {})]

    def used(self, rows: Table) -> set[str]:
        return {self.along, *(self.minus or {})}

    def contrasts(self, rows: Table, region: Region) -> Iterator[Contrast]:
        if self.minus:
            rest = np.ones(len(rows), dtype=bool)
            for name, wanted in self.minus.items():
                rest &= ~matches(rows.column(name), wanted)
            x, values = curve(rows.take(rest), self.of, self.along)
            _, baseline = curve(rows.where(self.minus), self.of, self.along)
            if baseline.shape != values.shape:
                raise Undecidable("the subtracted rows differ in their seeds or points")
            values = values - baseline
        else:
            x, values = curve(rows, self.of, self.along)
        if self.at == "crossing":
            assert self.level is not None
            found = locations.crossing_interval(x, values, self.level)
        elif _exact(rows, self.of):
            best = np.argmax(values[0]) if self.at == "maximum" else np.argmin(values[0])
            found = Interval(float(x[best]), float(x[best]), float(x[best]), len(values), "exact")
        else:
            found = self._optimum(x, values)
        yield Contrast(first=values.mean(axis=0), region=region, interval=found)

    def _optimum(self, x: np.ndarray, values: np.ndarray) -> Interval:
        """The hull of the points that can't be excluded as the optimum of the mean curve."""
        mean = values.mean(axis=0)
        best = float(x[np.argmax(mean) if self.at == "maximum" else np.argmin(mean)])
        if len(values) < 3:
            return Interval(best, -math.inf, math.inf, len(values), "set of possible optima", "fewer than 3 seeds")
        possible = x[locations.optimum_set(values, self.at)]
        return Interval(best, float(possible.min()), float(possible.max()), len(values), "set of possible optima")
