"""Models: linear in their trained weights, so that ridge solves them in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kempeframe import Model, component, field

if TYPE_CHECKING:
    from torch import nn

    from kempeframe.runs import Run
    from kempeframe.task import Task


@component
class Linear(Model):
    """f(x) = x W, without bias. Inputs are flattened; the weights start at 0 and take the task's dtype."""

    def build(self, task: Task, run: Run) -> nn.Module:
        from kempeframe_standard.networks import Readout

        return Readout(task.inputs, task.outputs, task.dtype)


@component
class RandomFeatures(Model):
    """f(x) = sqrt(2/m) relu(x V + b) W with a random first layer: V ~ N(0, weight_scale^2 / d), b ~ N(0, bias_scale^2).

    Only W is trained; it starts at 0.
    """

    width: int = field(1000, "number m of random features", ge=1)
    weight_scale: float = field(2.0**0.5, "standard deviation of the first layer's weights, times sqrt(d)", gt=0)
    bias_scale: float = field(0.0, "standard deviation of the first layer's biases", ge=0)

    def build(self, task: Task, run: Run) -> nn.Module:
        from kempeframe_standard.networks import ReluFeatures

        # Drawn feature by feature, so that a wider network holds the narrower one of the same seed.
        rng = run.rng("model", "features")
        drawn = rng.standard_normal((self.width, task.inputs + 1))
        weight = drawn[:, :-1].T * self.weight_scale / task.inputs**0.5
        return ReluFeatures(weight, drawn[:, -1] * self.bias_scale, task.outputs, task.dtype)
