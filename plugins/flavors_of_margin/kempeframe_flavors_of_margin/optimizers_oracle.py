"""The optimizer that needs no steps: the linear classifier of largest margin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from kempeframe import Attack, Optimizer, component, field
from kempeframe_flavors_of_margin.names import check_geometry, flat_exponent

if TYPE_CHECKING:
    from torch import nn

    from kempeframe.runs import Run
    from kempeframe.task import Snapshot, Task


@component
class MaxMargin(Optimizer):
    """max_w min_i q_i / |w|_p for networks that are linear in their weights, exactly (Section 3.7 of the brief).

    Linear programs for p = 1 and infinity, nonnegative least squares for p = 2, else the dual, whose gap is the column
    `residual`. The weights have norm 1. Data that is not linearly separable is an error.
    """

    in_place: ClassVar[bool] = True

    norm: Literal["l_1", "l_2", "l_inf"] | float = field("l_2", "of the weights; a number is p of l_p")

    def __attrs_post_init__(self) -> None:
        check_geometry(self.norm, "flat")

    @property
    def margin_norm(self) -> str:
        """The norm whose margin it maximises, as the evaluators' columns name it."""
        from kempeframe_flavors_of_margin.names import column_of

        return column_of(self.norm)

    def fit(self, network: nn.Module, task: Task, attack: Attack | None, run: Run) -> Iterator[Snapshot]:
        import torch
        from kempeframe_standard.networks import Readout

        from kempeframe.task import CannotGive, Snapshot
        from kempeframe_flavors_of_margin.theory_oracles import margin_rows, max_margin

        if not isinstance(network, Readout):
            raise CannotGive(f"{type(network).__name__} is not linear in its weights: the largest margin has no solver")
        batch = task.train.examples()
        if batch.targets is None or batch.targets.is_floating_point():
            raise CannotGive("margins are of classes; this split's targets are none")
        features = network.features(batch.inputs.to(run.device)).double().cpu().numpy()
        found = max_margin(margin_rows(features, batch.targets.numpy(), task.outputs), flat_exponent(self.norm))
        with torch.no_grad():
            network.weight.copy_(torch.from_numpy(found.weight).view_as(network.weight))
        yield Snapshot(0, network.eval(), {"converged": True, "residual": found.gap})
