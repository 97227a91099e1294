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


@component
class AtLevel(Evaluator):
    """Everything that an evaluator measures, at the first point of a trajectory where one metric reaches a level.

    For comparisons at equal loss or equal accuracy rather than at equal steps. Between two snapshots all metrics and
    the step are interpolated linearly in that metric; a fit that is there at its first snapshot has that one's. One
    that never gets there has the step inf and no other value.
    """

    needs: ClassVar[Needs] = "trajectory"

    measure: Evaluator = field(doc="what is measured at each snapshot; it gives numbers")
    metric: str = field(doc="one of its columns, which is to reach the level")
    level: float = field(doc="the level")
    direction: Literal["rising", "falling"] = field(doc="the level is reached once the metric is at least, or at most")

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

    def columns(self) -> Mapping[str, str]:
        return {"step": f"where {self.metric} reaches {self.level:g}; inf: nowhere", **self.measure.columns()}

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        points = [{"step": float(step), **metrics} for step, metrics in fitted.history]
        for before, point in zip([None, *points], points, strict=False):
            value = point[self.metric]
            if value >= self.level if self.direction == "rising" else value <= self.level:
                return point if before is None else self._between(before, point)
        return {"step": math.inf, **dict.fromkeys(self.measure.columns(), math.nan)}

    def _between(self, before: Mapping[str, float], after: Mapping[str, float]) -> Mapping[str, float]:
        start, end = before[self.metric], after[self.metric]
        share = (self.level - start) / (end - start) if math.isfinite(start) else 1.0
        found = {}
        for name, last in after.items():
            first = before[name]
            found[name] = last if share == 1 or first == last else first + share * (last - first)
        return found


@component
class AtBest(Evaluator):
    """Everything that an evaluator measures, at the snapshot of a trajectory where one metric is best.

    The first such snapshot. Beside what is measured at the end it says how much of the best was lost again: by
    overfitting, say.
    """

    needs: ClassVar[Needs] = "trajectory"

    measure: Evaluator = field(doc="what is measured at each snapshot; it gives numbers")
    metric: str = field(doc="one of its columns")
    best: Literal["highest", "lowest"] = field(doc="which value of the metric is best")

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

    def columns(self) -> Mapping[str, str]:
        return {"step": f"where {self.metric} is {self.best}", **self.measure.columns()}

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        sign = 1.0 if self.best == "highest" else -1.0
        step, metrics = max(fitted.history, key=lambda point: _comparable(sign * point[1][self.metric]))
        return {"step": float(step), **metrics}


def _comparable(value: float) -> float:
    """nan is never best."""
    return -math.inf if math.isnan(value) else value
