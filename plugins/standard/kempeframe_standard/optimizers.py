"""Optimizers that solve: ridge and logistic regression, for networks linear in their trained weights; and none."""

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

    in_place: ClassVar[bool] = True
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


@component
class LogisticRegression(Optimizer):
    """w = argmin (1/n) sum_i weight_i log(1 + exp(-y_i f(x_i))) + (penalty / 2) c |w|^2 by Newton's method, in float64.

    For networks with one output that is affine in the trained weights, and class targets 0 and 1. c is the mean
    curvature of the loss at w = 0, so that the penalty has no units; it fixes what no example says anything about.
    Examples that some w separates have no solution without it: the certificate says so (`separable`).
    """

    in_place: ClassVar[bool] = True

    penalty: float = field(1e-6, "ridge penalty, in units of the mean curvature at zero weights", ge=0)
    tolerance: float = field(1e-10, "of the squared Newton step in the norm of the Hessian, at the end", gt=0)
    most_steps: int = field(100, "Newton steps after which a fit is given up as not converged", ge=1)

    def fit(self, network: nn.Module, task: Task, attack: Attack | None, run: Run) -> Iterator[Snapshot]:
        from kempeframe_standard.logistic import solve

        yield solve(self, network, task)


@component
class Untrained(Optimizer):
    """Takes no step: the fit is the network as the model builds it. For what is measured at random weights."""

    def fit(self, network: nn.Module, task: Task, attack: Attack | None, run: Run) -> Iterator[Snapshot]:
        from kempeframe.task import Snapshot

        yield Snapshot(0, network.eval(), {"converged": True})
