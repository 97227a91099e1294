"""Models: the paper's simplified neural network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kempeframe import Model, component, field
from kempeframe_strong_collapse.population import wishart_factor

if TYPE_CHECKING:
    from torch import nn

    from kempeframe.runs import Run
    from kempeframe.task import Task


@component
class RandomProjection(Model):
    """f(x) = x S v with a random first layer S (d, m), entries N(0, 1/d), and trained v (Theorem 2 of the paper).

    Beyond width d, S is replaced by a (d, d) factor of the same S S': ridge (and gradient descent from 0) depends on S
    through S S' alone, so a width of a million costs what width d costs.
    """

    width: int = field(100, "width m of the hidden layer", ge=1)

    def build(self, task: Task, run: Run) -> nn.Module:
        from kempeframe_strong_collapse.networks import Projection

        d = task.inputs
        if self.width <= d:  # drawn column by column: a wider network holds the narrower one of the same seed
            projection = run.rng("model", "projection").standard_normal((self.width, d)).T
        else:
            projection = wishart_factor(
                d, self.width, run.rng("model", "projection"), run.rng("model", "scale")
            )
        return Projection(projection / np.sqrt(d), task.outputs, task.dtype)
