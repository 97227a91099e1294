"""Models: a linear function whose weights are products of parameters, for the study of implicit bias."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kempeframe import Model, component, field

if TYPE_CHECKING:
    from torch import nn

    from kempeframe.runs import Run
    from kempeframe.task import Task


@component
class Diagonal(Model):
    """The diagonal linear network f(x) = <u^L - v^L, x>, powers entry by entry (Woodworth et al., 2020).

    u = v at the start, so that f = 0. Gradient descent from a small start has, for L = 2, the bias of the l1 norm in
    w = u^2 - v^2, where it has that of the l2 norm in w itself. Inputs are flattened; several outputs have a u and a v
    each. The network is positively homogeneous of degree L in its parameters (`homogeneity`) and gives its linear
    function as `effective_weight()`.
    """

    depth: int = field(2, "power L", ge=2)
    init_scale: float = field(1e-3, "initial value alpha of every entry of u and v", gt=0)
    unit_norm: bool = field(
        False, "divide alpha by sqrt(2 d): it is then the initial norm of (u, v) in any dimension d"
    )

    @property
    def stackable(self) -> bool:
        return True

    def build(self, task: Task, run: Run) -> nn.Module:
        from kempeframe_standard.diagonal import DiagonalNetwork

        alpha = self.init_scale / (2 * task.inputs) ** 0.5 if self.unit_norm else self.init_scale
        return DiagonalNetwork(task.inputs, task.outputs, self.depth, alpha, task.dtype)
