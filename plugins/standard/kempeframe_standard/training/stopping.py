"""Early stopping: the best that each fit has been on the validation split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
from torch import Tensor

from kempeframe_standard.optimizers_gradient import EarlyStopping


@attrs.define
class Best:
    """The best of one fit: its weights, when it was, and how often no better was found since."""

    value: float
    step: int
    loss: float  # of the last training step before
    weights: dict[str, Tensor]
    since: int = 0


class Watch:
    """Compares each fit with its best."""

    def __init__(self, rule: EarlyStopping):
        self.rule = rule
        self.best: dict[int, Best] = {}  # by number of the job

    def better(self, job: int, value: float) -> bool:
        """Whether a value is a new best. One that is not counts against the fit's patience; so does nan."""
        best = self.best.get(job)
        if best is None or math.isnan(best.value):
            return True
        if value > best.value if self.rule.metric == "accuracy" else value < best.value:
            return True
        best.since += 1
        return False

    def over(self, job: int) -> bool:
        """Whether a fit's patience is at its end."""
        return self.best[job].since >= self.rule.patience

    def state(self) -> dict[str, Any]:
        """What going on from here needs."""
        return {str(job): attrs.asdict(best, recurse=False) for job, best in self.best.items()}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.best = {int(job): Best(**best) for job, best in state.items()}
