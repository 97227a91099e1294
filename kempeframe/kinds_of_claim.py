"""The eight kinds of claim: each says which numbers it compares, seed by seed, and in which region they must lie."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import attrs
import numpy as np

from kempeframe import locations
from kempeframe.components import field
from kempeframe.contrasts import Contrast, Curve, Undecidable, by_seed, column, curve, exact_interval, paired
from kempeframe.intervals import MIN_SEEDS, Interval, Region
from kempeframe.table import Table, matches

KINDS_OF_CLAIM = ("slope", "order", "ratio", "difference", "agreement", "threshold", "monotone", "location")
Where = dict[str, Any]


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
        return [self.of, *(name for side in self.sides for name in (getattr(self, side) or {}))]  # type: ignore[attr-defined]

    def used(self, rows: Table) -> set[str]:
        """Axes that are not free: those the kind itself goes along."""
        return {name for side in self.sides for name in (getattr(self, side) or {})}


def _exact(rows: Table, *names: str) -> bool:
    return all(name in rows.exact for name in names)


def _boolean(rows: Table, of: str) -> bool:
    """Whether a column is one of true and false: then a rate has its own interval."""
    return all(isinstance(value, bool) for value in rows.columns.get(of, []))


def _side(rows: Table, selection: Where, of: str) -> dict[Any, float]:
    for name, wanted in selection.items():
        if not matches(column(rows, name), wanted).any():
            raise Undecidable(f"no row has {name} = {wanted}")
    return by_seed(rows.where(selection), of)


def _without(rows: Table, selection: Where) -> Table:
    """The rows that meet none of the conditions."""
    rest = np.ones(len(rows), dtype=bool)
    for name, wanted in selection.items():
        rest &= ~matches(column(rows, name), wanted)
    return rows.take(rest)


def _curve_less(rows: Table, of: str, along: str, minus: Where | None) -> Curve:
    """A column along an axis, seed by seed; with `minus`, less the same in those rows."""
    if not minus:
        return curve(rows, of, along)
    found = curve(_without(rows, minus), of, along)
    baseline = curve(rows.where(minus), of, along)
    if found.seeds != baseline.seeds or not np.array_equal(found.x, baseline.x):
        raise Undecidable("the subtracted rows differ in their seeds or points")
    return attrs.evolve(found, values=found.values - baseline.values)


@attrs.frozen(kw_only=True)
class Threshold(_Kind):
    """A column lies in a region."""

    of: str = field(doc="column")

    def contrasts(self, rows: Table, region: Region) -> Iterator[Contrast]:
        values = by_seed(rows, self.of)
        yield Contrast(
            first=np.array(list(values.values())),
            region=region,
            exact=_exact(rows, self.of),
            boolean=_boolean(rows, self.of),
            seeds=tuple(values),
        )


@attrs.frozen(kw_only=True)
class Slope(_Kind):
    """The slope of a column against an axis, fitted by least squares seed by seed."""

    of: str = field(doc="column on the y axis")
    against: str = field(doc="column on the x axis")
    scale: Literal["log-log", "linear", "semilog-x", "semilog-y"] = field("log-log", "axes in which it is a slope")
    minus: Where | None = field(None, "rows whose slope is subtracted, paired by seed")

    sides: ClassVar[tuple[str, ...]] = ("minus",)

    def columns(self) -> list[str]:
        return [self.of, self.against, *(self.minus or {})]

    def used(self, rows: Table) -> set[str]:
        return {self.against, *(self.minus or {})}

    def contrasts(self, rows: Table, region: Region) -> Iterator[Contrast]:
        exact = _exact(rows, self.of)
        if not self.minus:
            seeds, slopes = self._slopes(rows)
            yield Contrast(first=slopes, region=region, exact=exact, seeds=seeds)
            return
        seeds, slopes = self._slopes(_without(rows, self.minus))
        others, subtracted = self._slopes(rows.where(self.minus))
        if seeds != others:
            raise Undecidable("the subtracted rows differ in their seeds")
        yield Contrast(first=slopes, second=subtracted, region=region, exact=exact, seeds=seeds)

    def _slopes(self, rows: Table) -> tuple[tuple[Any, ...], np.ndarray]:
        """The seeds, and the slope of each."""
        found = curve(rows, self.of, self.against)
        x, y = found.x, found.values
        if (self.scale in ("log-log", "semilog-x") and (x <= 0).any()) or (
            self.scale in ("log-log", "semilog-y") and (y <= 0).any()
        ):
            raise Undecidable(f"a value of {self.of} or {self.against} is not above 0: it has no logarithm")
        x = np.log(x) if self.scale in ("log-log", "semilog-x") else x
        y = np.log(y) if self.scale in ("log-log", "semilog-y") else y
        centred = x - x.mean()
        squares = float(centred @ centred)
        if squares == 0:
            raise Undecidable(f"the values of {self.against} are too close together")
        return found.seeds, np.sum(y * (centred / squares), axis=1)


@attrs.frozen(kw_only=True)
class Difference(_Kind):
    """A column in one configuration minus the same in another, paired by seed; `minus`: a difference of two such."""

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
        sides = (self.first, self.second, *(self.minus or ()))
        seeds, (first, second, *others) = paired(*(_side(rows, side, self.of) for side in sides))
        if others:
            first, second = first - second, others[0] - others[1]
        yield Contrast(
            first=first,
            second=second,
            region=region,
            exact=_exact(rows, self.of),
            boolean=not others and _boolean(rows, self.of),
            seeds=seeds,
        )


@attrs.frozen(kw_only=True)
class Ratio(_Kind):
    """A column in one configuration over the same column in another, paired by seed, in logarithms."""

    of: str = field(doc="column")
    numerator: Where = field(doc="rows above the line")
    denominator: Where = field(doc="rows below the line")

    sides: ClassVar[tuple[str, ...]] = ("numerator", "denominator")

    def contrasts(self, rows: Table, region: Region) -> Iterator[Contrast]:
        seeds, (first, second) = paired(*(_side(rows, side, self.of) for side in (self.numerator, self.denominator)))
        exact = _exact(rows, self.of)
        yield Contrast(first=first, second=second, region=region, scale="ratio", exact=exact, seeds=seeds)


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
        seeds, (lower, higher) = paired(*(_side(rows, side, self.of) for side in (self.lower, self.higher)))
        censored = bool(np.isposinf(lower).any() or np.isposinf(higher).any())
        yield Contrast(
            first=lower,
            second=higher,
            region=Region(high=0.0),
            scale="censored" if censored else "difference",
            exact=_exact(rows, self.of),
            boolean=_boolean(rows, self.of),
            seeds=seeds,
        )


@attrs.frozen(kw_only=True)
class Monotone(_Kind):
    """A column rises (falls) from each point of an axis to the next, paired by seed."""

    of: str = field(doc="column")
    along: str = field(doc="axis")
    direction: Literal["increasing", "decreasing"] = field(doc="which way it goes")
    tolerance: float = field(0.0, "a step may go the wrong way by less than this", ge=0)
    minus: Where | None = field(None, "rows whose values are subtracted first, paired by seed and axis")

    sides: ClassVar[tuple[str, ...]] = ("minus",)

    def validate(self, region: Region | None) -> None:
        if region is not None:
            raise ValueError("a monotone claim needs no above, below or within")

    def columns(self) -> list[str]:
        return [self.of, self.along, *(self.minus or {})]

    def used(self, rows: Table) -> set[str]:
        return {self.along, *(self.minus or {})}

    def contrasts(self, rows: Table, region: Region | None) -> Iterator[Contrast]:
        found = _curve_less(rows, self.of, self.along, self.minus)
        x, values = found.x, found.values
        rising = self.direction == "increasing"
        wanted = Region(low=0.0 - self.tolerance) if rising else Region(high=self.tolerance)
        for i in range(len(x) - 1):
            label = f"{self.along.rpartition('.')[2]} {x[i]:g} to {x[i + 1]:g}"
            yield Contrast(
                first=values[:, i + 1],
                second=values[:, i],
                region=wanted,
                exact=_exact(rows, self.of),
                boolean=not self.minus and _boolean(rows, self.of),
                label=label,
                seeds=found.seeds,
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
        baseline = [_side(rows, self.minus, self.of)] if self.minus else []
        rest = _without(rows, self.minus or {})
        seeds, (measured, predicted, *others) = paired(by_seed(rest, self.of), by_seed(rest, self.theory), *baseline)
        if not np.isfinite(predicted).all():
            raise Undecidable(f"{self.theory} is infinite here")
        if others:
            measured = measured - others[0]
        if self.absolute is not None:
            first, wanted = measured - predicted, Region(-self.absolute, self.absolute)
        else:
            if (predicted == 0).any():
                raise Undecidable(f"{self.theory} is 0 here: a relative tolerance has no meaning")
            assert self.relative is not None
            first, wanted = measured / predicted, Region(1 - self.relative, 1 + self.relative)
        exact = _exact(rows, self.of, self.theory)
        if not exact and not others and _boolean(rest, self.of) and (predicted == predicted[0]).all():
            region = self._around(float(predicted[0]))
            numbers = (first, wanted)
            yield Contrast(first=measured, region=region, boolean=True, seeds=seeds, numbers=numbers)
        else:
            yield Contrast(first=first, region=wanted, exact=exact, seeds=seeds)

    def _around(self, predicted: float) -> Region:
        """Where a rate must lie to agree with a prediction: it has an interval of its own."""
        width = self.absolute if self.absolute is not None else (self.relative or 0.0) * abs(predicted)
        if not predicted - width < predicted + width:
            raise Undecidable(f"the tolerance is too small beside {self.theory}")
        return Region(predicted - width, predicted + width)


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
        found = _curve_less(rows, self.of, self.along, self.minus)
        boolean, exact = not self.minus and _boolean(rows, self.of), _exact(rows, self.of)
        locate = self._crossing if self.at == "crossing" else self._optimum
        interval = locate(found, boolean, exact)
        yield Contrast(first=found.values[:, 0], region=region, interval=interval, seeds=found.seeds)

    def _crossing(self, found: Curve, boolean: bool, exact: bool) -> Interval:
        assert self.level is not None
        interval = locations.crossing_interval(found.x, found.values, self.level, boolean)
        if exact:
            return exact_interval(interval.estimate, interval.n, f"the mean doesn't cross {self.level:g}")
        return interval

    def _optimum(self, found: Curve, boolean: bool, exact: bool) -> Interval:
        """The hull of the points that can't be excluded as the optimum of the mean curve."""
        x, n, method = found.x, len(found.values), "set of possible optima"
        mean = found.values.mean(axis=0)
        if np.isnan(mean).any():
            return Interval(math.nan, -math.inf, math.inf, n, method, "the mean curve is not finite")
        best = float(x[np.argmax(mean) if self.at == "maximum" else np.argmin(mean)])
        if exact:
            return exact_interval(best, n, "")
        if n < MIN_SEEDS:
            return Interval(best, -math.inf, math.inf, n, method, f"{n} seeds; at least {MIN_SEEDS} are needed")
        kind: Literal["maximum", "minimum"] = "maximum" if self.at == "maximum" else "minimum"
        if not boolean and (found.values == found.values[0]).all():
            return Interval(best, -math.inf, math.inf, n, method, "all seeds gave the same value")
        possible = x[locations.optimum_set(found.values, kind, boolean)]
        return Interval(best, float(possible.min()), float(possible.max()), n, method)
