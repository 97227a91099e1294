"""Evaluators that reduce a trajectory: what another evaluator found at the snapshots of a fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from kempeframe import Evaluator, component, field
from kempeframe.components import Needs

if TYPE_CHECKING:
    from kempeframe.components import Measured
    from kempeframe.runs import Run
    from kempeframe.trial import Fitted


class _Of(Evaluator):
    """What these share: an evaluator that is asked at each snapshot, and one of its metrics, which decides."""

    needs: ClassVar[Needs] = "trajectory"

    measure: Evaluator
    metric: str

    def __attrs_post_init__(self) -> None:
        columns = self.measure.columns()
        if self.metric not in columns:
            raise ValueError(f"metric = {self.metric!r}: the evaluator gives {', '.join(columns)}")
        if "step" in columns:
            raise ValueError("measure: it has a column `step`, which is what this evaluator gives")

    @property
    def measured(self) -> Evaluator:
        return self.measure

    @property
    def uses_attack(self) -> bool:  # type: ignore[override]
        """Whether the measure looks at the trial's attack."""
        return self.measure.uses_attack

    @property
    def needs_attack(self) -> bool:
        return self.measure.needs_attack


class _Level(_Of):
    """What the metric's passing a level has in common."""

    direction: Literal["rising", "falling"]

    def at(self, level: float, fitted: Fitted) -> Mapping[str, float]:
        """The step and all metrics where the level is first reached, between two snapshots linear in the metric."""
        points = [{"step": float(step), **metrics} for step, metrics in fitted.history]
        for before, point in zip([None, *points], points, strict=False):
            value = point[self.metric]
            if value >= level if self.direction == "rising" else value <= level:
                return point if before is None else self._between(before, point, level)
        return {"step": math.inf, **dict.fromkeys(self.measure.columns(), math.nan)}

    def _between(self, before: Mapping[str, float], after: Mapping[str, float], level: float) -> Mapping[str, float]:
        start, end = before[self.metric], after[self.metric]
        share = (level - start) / (end - start) if math.isfinite(start) else 1.0
        found = {}
        for name, last in after.items():
            first = before[name]
            found[name] = last if share == 1 or first == last else first + share * (last - first)
        return found


@component
class AtLevel(_Level):
    """Everything that an evaluator measures, at the first point of a trajectory where one metric reaches a level.

    For comparisons at equal loss or equal accuracy rather than at equal steps. Between two snapshots all metrics and
    the step are interpolated linearly in that metric; a fit that is there at its first snapshot has that one's. One
    that never gets there has the step inf and no other value.
    """

    measure: Evaluator = field(doc="what is measured at each snapshot; it gives numbers")
    metric: str = field(doc="one of its columns, which is to reach the level")
    level: float = field(doc="the level")
    direction: Literal["rising", "falling"] = field(doc="the level is reached once the metric is at least, or at most")

    def columns(self) -> Mapping[str, str]:
        return {"step": f"where {self.metric} reaches {self.level:g}; inf: nowhere", **self.measure.columns()}

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        return self.at(self.level, fitted)


@component
class AlongLevels(_Level):
    """The same at many levels: lists, which figures draw as curves against the level.

    Fits that go at different speeds are averaged where they are equal, not where they have taken equal steps. Levels
    that a fit does not reach are nan.
    """

    measure: Evaluator = field(doc="what is measured at each snapshot; it gives numbers")
    metric: str = field(doc="one of its columns, which is to reach the levels")
    first: float = field(doc="the first level")
    last: float = field(doc="the last level; above the first one the metric rises, else it falls")
    points: int = field(30, "levels, evenly spaced", ge=2)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.first == self.last:
            raise ValueError(f"first = last = {self.first:g}: expected two levels")

    @property
    def direction(self) -> Literal["rising", "falling"]:  # type: ignore[override]
        """Which way the metric goes from the first level to the last."""
        return "rising" if self.last > self.first else "falling"

    def columns(self) -> Mapping[str, str]:
        lists = {name: f"{doc} (a list)" for name, doc in self.measure.columns().items()}
        return {"step": "where each level is reached (a list)", **lists, "level": "the levels (a list)"}

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        share = (self.last - self.first) / (self.points - 1)
        levels = [self.first + share * i for i in range(self.points)]
        found = [self.at(level, fitted) for level in levels]
        return {"level": levels, **{name: [point[name] for point in found] for name in found[0]}}


@component
class AtBest(_Of):
    """Everything that an evaluator measures, at the snapshot of a trajectory where one metric is best.

    The first such snapshot. Beside what is measured at the end it says how much of the best was lost again: by
    overfitting, say.
    """

    measure: Evaluator = field(doc="what is measured at each snapshot; it gives numbers")
    metric: str = field(doc="one of its columns")
    best: Literal["highest", "lowest"] = field(doc="which value of the metric is best")

    def columns(self) -> Mapping[str, str]:
        return {"step": f"where {self.metric} is {self.best}", **self.measure.columns()}

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        sign = 1.0 if self.best == "highest" else -1.0
        step, metrics = max(fitted.history, key=lambda point: _comparable(sign * point[1][self.metric]))
        return {"step": float(step), **metrics}


def _comparable(value: float) -> float:
    """nan is never best."""
    return -math.inf if math.isnan(value) else value
