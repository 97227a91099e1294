"""Ridge regression in closed form, for networks that are linear in their trained weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from kempeframe import Attack, Optimizer, component, field

if TYPE_CHECKING:
    from torch import nn

    from kempeframe.components import FitJob
    from kempeframe.runs import Run
    from kempeframe.task import Snapshot, Task


@component
class Ridge(Optimizer):
    """w = argmin (1/n) sum_i weight_i |f(x_i) - y_i|^2 + penalty |w|^2, solved exactly in float64.

    The 1/n belongs to the data term alone (scikit-learn's alpha is n * penalty), also with weights: n counts examples.
    penalty = 0 gives the minimum-norm solution. Class indices are fitted as one-hot minus 1/classes. Takes examples or
    moments; with fewer examples than features it solves the dual problem.
    """

    together: ClassVar[tuple[str, ...]] = ("penalty",)  # one eigendecomposition serves all penalties
    stack_over: ClassVar[tuple[str, ...]] = ("seed", "data")

    penalty: float = field(1e-3, "ridge penalty lambda", ge=0)

    def fit(self, network: nn.Module, task: Task, attack: Attack | None, run: Run) -> Iterator[Snapshot]:
        from kempeframe.components import FitJob

        for _, snapshot in self.fit_many([FitJob(self, network, task, attack, run)]):
            yield snapshot

    def fit_many(self, jobs: Sequence[FitJob]) -> Iterator[tuple[int, Snapshot]]:
        from kempeframe_standard.ridge import solve_stack

        yield from solve_stack(jobs)
