"""Models: a prior on another model's parameters, and dropout in it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kempeframe import Model, component, field

if TYPE_CHECKING:
    from torch import nn

    from kempeframe.runs import Run
    from kempeframe.task import Task


@component
class Bayesian(Model):
    """A model with the prior N(0, prior_std^2) on every weight and bias; what it builds is a posterior of one sample.

    Its outputs are log-probabilities. A prior scaled by fan-in is this one on `parametrisation = "ntk"` of the
    perceptron, whose parameters are all of one size.
    """

    model: Model = field(doc="the network that has the prior")
    prior_std: float = field(1.0, "standard deviation of each parameter", gt=0, lt=math.inf)

    @property
    def stackable(self) -> bool:
        return self.model.stackable

    def build(self, task: Task, run: Run) -> nn.Module:
        from kempeframe_attacking_bayes.networks import BayesianNetwork

        def remake(other: Run) -> BayesianNetwork:
            link = "mean" if task.classes is None else "log_mean_softmax"
            with other.global_seed("model"):
                network = self.model.build(task, other).to(run.device)
            return BayesianNetwork(network, self.prior_std, link, remake)  # type: ignore[arg-type]

        return remake(run)


@component
class Dropout(Model):
    """A model whose dense layers, but for one that sees the inputs themselves, leave out units while they are trained.

    With the optimizer `mc_dropout` the masks stay on at test time (Gal and Ghahramani, 2016).
    """

    model: Model = field(doc="the network that gets dropout")
    rate: float = field(0.2, "share of the units that is left out", ge=0, lt=1)

    def build(self, task: Task, run: Run) -> nn.Module:
        from kempeframe_attacking_bayes.dropout import with_dropout

        return with_dropout(self.model.build(task, run), self.rate)
