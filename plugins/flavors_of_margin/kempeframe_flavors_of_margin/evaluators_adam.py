"""How fast Adam's loss falls: measured, and the speed limit that its second moment sets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from kempeframe_standard.models import Linear

from kempeframe import Evaluator, NoTheory, component
from kempeframe.components import Needs
from kempeframe_flavors_of_margin import theory
from kempeframe_flavors_of_margin.evaluators import LogLoss
from kempeframe_flavors_of_margin.optimizers import LogAdam

if TYPE_CHECKING:
    from kempeframe.runs import Run
    from kempeframe.trial import Fitted


@component
class LossDecay(Evaluator):
    """By how much the log of the loss falls in a step, over the snapshots of the last half of the steps."""

    needs: ClassVar[Needs] = "trajectory"

    @property
    def measured(self) -> Evaluator:
        return LogLoss()

    def columns(self) -> Mapping[str, str]:
        return {"decay": "fall of log loss per step; nan without a snapshot in the last half"}

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        points = [(step, metrics["log_loss"]) for step, metrics in fitted.history]
        last, end = points[-1]
        first, start = next(point for point in points if point[0] >= last / 2)
        return {"decay": (start - end) / (last - first) if last > first else math.nan}


@component
class AdamSpeed(Evaluator):
    """The fall of log loss per step that Adam without epsilon comes to on a linear model (Section 3.9 of the brief).

    It is below log(1/beta2)/2 whatever the learning rate: where learning_rate gamma*_inf is beyond that, Adam is not
    sign descent but gradient descent with a frozen preconditioner (`overload` above 1).
    """

    needs: ClassVar[Needs] = "task"

    def columns(self) -> Mapping[str, str]:
        return {
            "decay": "predicted fall of log loss per step",
            "limit": "log(1/beta2)/2",
            "overload": "learning_rate gamma*_inf over the limit",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        from kempeframe_flavors_of_margin.theory_oracles import margin_rows, max_margin

        adam = fitted.optimizer
        if not (isinstance(adam, LogAdam) and isinstance(fitted.model, Linear)):
            raise NoTheory("the speed is known for standard.linear under log_adam")
        if adam.epsilon > 0 or not adam.constant_rate:
            raise NoTheory("the speed is known for epsilon = 0 and a constant learning rate")
        batch = fitted.task.train.examples()
        assert batch.targets is not None
        rows = margin_rows(batch.inputs.double().numpy(), batch.targets.numpy(), fitted.task.outputs)
        rate = adam.learning_rate * max_margin(rows, math.inf).margin
        limit = math.log(1 / adam.beta2) / 2 if adam.beta2 else math.inf
        return {"decay": theory.adam_decay(rate, adam.beta1, adam.beta2), "limit": limit, "overload": rate / limit}
