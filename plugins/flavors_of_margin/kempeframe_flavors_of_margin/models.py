"""Models: the paper's two-layer networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kempeframe import Model, component, field

if TYPE_CHECKING:
    from torch import nn

    from kempeframe.runs import Run
    from kempeframe.task import Task

STACKABLE_WIDTH = 128  # wider networks are no faster in a stack


@component
class TwoLayer(Model):
    """f(x) = A a(W x) without biases: W ~ init_scale N(0, 1/inputs), A ~ init_scale N(0, 1/width).

    It is positively homogeneous in its parameters of degree 2, with the squared ReLU 3 (`homogeneity`).
    """

    width: int = field(50, "hidden units", ge=1)
    activation: Literal["relu", "leaky_relu", "squared_relu"] = field("relu", "a; the leak has slope 0.1")
    init_scale: float = field(1.0, "of the initial weights of both layers", gt=0)
    single_output: bool = field(False, "one output whose sign decides between two classes, whatever the task has")

    @property
    def stackable(self) -> bool:
        return self.width <= STACKABLE_WIDTH

    def build(self, task: Task, run: Run) -> nn.Module:
        from kempeframe_flavors_of_margin.networks import TwoLayerNetwork

        if self.single_output and task.classes != 2:
            raise ValueError(f"single_output: the task has {task.classes or 'no'} classes, not two")
        outputs = 1 if self.single_output else task.outputs
        first = run.rng("model", "first").standard_normal((self.width, task.inputs)) / task.inputs**0.5
        second = run.rng("model", "second").standard_normal((outputs, self.width)) / self.width**0.5
        return TwoLayerNetwork(self.init_scale * first, self.init_scale * second, self.activation, task.dtype)
