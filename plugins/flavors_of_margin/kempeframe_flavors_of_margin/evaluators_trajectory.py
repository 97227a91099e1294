"""The evaluator of the paper's theorem: what margins and gaps do along a whole trajectory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from kempeframe_standard.optimizers_gradient import Adam, Sgd

from kempeframe import Evaluator, component, field
from kempeframe.components import Needs
from kempeframe_flavors_of_margin import theory
from kempeframe_flavors_of_margin.evaluators import NORMS, Margins
from kempeframe_flavors_of_margin.names import column_of

if TYPE_CHECKING:
    from kempeframe.components import Optimizer
    from kempeframe.runs import Run
    from kempeframe.trial import Fitted

OWN = {
    "own_rises": "whether that fall is at most `tolerance`",
    "own_drawdown": "of the soft margin in the optimizer's own norm",
    "own_gap_start": "the own norm's gap at t0",
    "own_gap_end": "at the end",
    "own_gap_change": "end less start",
    "own_gap_smallest": "the smallest since t0",
    "own_gap_integral": "of gap / (1 - gap) against log norm^L since t0: along the flow at most own_margin_growth",
    "own_margin_growth": "log of the own soft margin at the end over that at the start of the integral",
}


@component
class MarginTrajectory(Evaluator):
    """Drawdown of soft margins and change of gaps since t0, the first snapshot with the summed loss below 1 (log 2).

    The drawdown is the largest fall from the running maximum over the final maximum (claim C1 of the brief): a ratio to
    the running maximum explodes near t0, where the soft margin is 0. The own norm is the one that the optimizer's steps
    are unit in; Adam's is l_inf. A fit that never gets to t0 has t0 = inf, no other value, and does not
    count as rising.
    """

    needs: ClassVar[Needs] = "trajectory"

    measure: Evaluator = field(Margins(norms=NORMS, robust=False), "flavors_of_margin.margins, with its norms")
    tolerance: float = field(1e-3, "drawdown that steps of finite length may make", ge=0)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.measure, Margins):
            raise ValueError("measure: expected flavors_of_margin.margins")

    @property
    def norms(self) -> list[str]:
        """Names of the norms that are measured."""
        assert isinstance(self.measure, Margins)
        return [column_of(norm) for norm in self.measure.norms]

    @property
    def measured(self) -> Evaluator:
        return self.measure

    @property
    def uses_attack(self) -> bool:  # type: ignore[override]
        """Whether it looks at the trial's attack."""
        return self.measure.uses_attack

    @property
    def needs_attack(self) -> bool:
        return self.measure.needs_attack

    def columns(self) -> Mapping[str, str]:
        drawdowns = {f"drawdown_{norm}": "of the soft margin in this norm" for norm in self.norms}
        return {
            "step_separated": "first snapshot at which all training examples are right; inf: none",
            "t0": "first snapshot with the loss below the theorem's threshold; inf: none",
            **drawdowns,
            **OWN,
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        from kempeframe_flavors_of_margin.measuring import soft_margin_loss

        assert fitted.optimizer is not None
        columns = {name: np.array([m[name] for _, m in fitted.history]) for name in self.measure.columns()}
        steps = [step for step, _ in fitted.history]
        found: dict[str, float] = {**dict.fromkeys(self.columns(), math.nan), "own_rises": False}
        right = np.flatnonzero(columns["train_accuracy"] == 1)
        found["step_separated"] = float(steps[right[0]]) if len(right) else math.inf
        loss = soft_margin_loss(getattr(fitted.optimizer, "loss", "exponential"))
        below = np.flatnonzero(columns["log_loss"] < theory.threshold(loss))
        found["t0"] = float(steps[below[0]]) if len(below) else math.inf
        if not len(below):
            return found
        since = {name: values[below[0] :] for name, values in columns.items()}
        for name in self.norms:
            found[f"drawdown_{name}"] = theory.drawdown(since[f"soft_margin_{name}"])
        own = own_norm(fitted.optimizer)
        if own in self.norms:
            found |= _own(since, own, getattr(fitted.network, "homogeneity", 1))
        found["own_rises"] = bool(found["own_drawdown"] <= self.tolerance)
        return found


def own_norm(optimizer: Optimizer) -> str:
    """The norm whose margin an optimizer maximises, as columns name it; "" where that is not known."""
    if isinstance(optimizer, Adam):
        return "l_inf"
    return "l_2" if isinstance(optimizer, Sgd) else str(getattr(optimizer, "margin_norm", ""))


def _own(since: Mapping[str, np.ndarray], own: str, degree: int) -> dict[str, float]:
    gaps, soft, norms = since[f"gap_{own}"], since[f"soft_margin_{own}"], since[f"norm_{own}"]
    start = min(1, len(soft) - 1)  # at t0 itself the soft margin may be anything above 0
    return {
        "own_drawdown": theory.drawdown(soft),
        "own_gap_start": float(gaps[0]),
        "own_gap_end": float(gaps[-1]),
        "own_gap_change": float(gaps[-1] - gaps[0]),
        "own_gap_smallest": float(gaps.min()),
        "own_gap_integral": theory.gap_integral(gaps[start:], norms[start:], degree),
        "own_margin_growth": math.log(soft[-1] / soft[start]) if soft[-1] > 0 else math.nan,
    }
