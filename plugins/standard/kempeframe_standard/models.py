"""Models: linear in their trained weights, so that ridge solves them in closed form; and multilayer perceptrons."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, ClassVar, Literal

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


@component
class Mlp(Model):
    """A multilayer perceptron: W_L a(... a(W_1 x + b_1) ...) + b_L with `depth` hidden layers of one width.

    Layers start with weights N(0, weight_scale^2 / fan-in) and biases of 0, as functions, whatever the parametrisation:
    that says what a learning rate does. "ntk" (Jacot et al., 2018): weights N(0, 1) with
    weight_scale / sqrt(fan-in) in front. "mean_field" (Chizat and Bach, 2018): the same, and the last layer divided by
    the root of the width once more, so that features move. Without biases, with ReLU, the network is positively
    homogeneous in its parameters of degree depth + 1 (`homogeneity`). Inputs are flattened.
    """

    STACKABLE_WIDTH: ClassVar[int] = (
        128  # measured: stacks of 16 take 0.2 to 0.9 of the time up to here, and more than 1 from 256 on
    )

    width: int = field(64, "units of a hidden layer", ge=1)
    depth: int = field(2, "hidden layers; 0 is a linear model", ge=0)
    activation: Literal["relu", "tanh", "gelu"] = field("relu", "a, after each hidden layer")
    bias: bool = field(True, "whether layers have one")
    weight_scale: float = field(2.0**0.5, "standard deviation of the weights, times sqrt(fan-in)", gt=0)
    parametrisation: Literal["standard", "ntk", "mean_field"] = field("standard", "what stands in front of the weights")
    dropout: float = field(0.0, "share of the hidden units that a training step leaves out", ge=0, lt=1)

    @property
    def stackable(self) -> bool:
        return self.width <= self.STACKABLE_WIDTH and self.dropout == 0

    def build(self, task: Task, run: Run) -> nn.Module:
        from kempeframe_standard.networks import perceptron

        widths = [task.inputs, *[self.width] * self.depth, task.outputs]
        weights, scales = [], []
        for layer, (fan_in, wide) in enumerate(itertools.pairwise(widths)):
            drawn = run.rng("model", "layer", layer).standard_normal((wide, fan_in))
            size = self.weight_scale / fan_in**0.5
            weights.append(drawn * size if self.parametrisation == "standard" else drawn)
            scales.append(1.0 if self.parametrisation == "standard" else size)
        if self.parametrisation == "mean_field" and self.depth:
            scales[-1] /= self.width**0.5
        return perceptron(weights, scales, self, task.dtype)
