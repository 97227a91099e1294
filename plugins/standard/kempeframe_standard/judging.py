"""Which inputs are broken, how far, and which of two is worse for the network.

Outputs are (n, k), with one output (n, 1) for two classes or a regression; targets are class indices (n,), or floats,
which are regression targets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

import attrs
import torch
from torch import Tensor, nn

from kempeframe.task import Batch, CannotGive
from kempeframe_standard.draws import Draws
from kempeframe_standard.training.losses import cross_entropy, signs, squared

MISSED, BROKEN, DONE = 0, 1, 2  # not broken; broken, but worth going on; nothing more to gain


class Aim(Protocol):
    """What a search is after."""

    def objective(self, outputs: Tensor, batch: Batch) -> Tensor:
        """(n,), to be made large."""

    def broken(self, outputs: Tensor, batch: Batch) -> Tensor:
        """(n,) of MISSED, BROKEN, DONE: counts before the objective."""


@attrs.define(eq=False)
class AimedBatch(Batch):
    """A batch with the class that each example is to be taken for, (n,)."""

    goals: Tensor | None = None


@attrs.define(eq=False)
class Standing:
    """How n points do: broken (n,), objective (n,)."""

    broken: Tensor
    objective: Tensor

    @classmethod
    def of(cls, aim: Aim, outputs: Tensor, batch: Batch, objective: Tensor | None = None) -> Standing:
        """By an aim; an objective that is no number is worth nothing."""
        objective = aim.objective(outputs, batch) if objective is None else objective
        return cls(aim.broken(outputs, batch), objective.detach().nan_to_num(nan=-torch.inf, posinf=torch.inf))

    @classmethod
    def unknown(cls, n: int, like: Tensor) -> Standing:
        """Behind all that there is."""
        return cls(like.new_full((n,), MISSED - 1, dtype=torch.int64), like.new_full((n,), -torch.inf))

    def beats(self, other: Standing) -> Tensor:
        """(n,) bool: broken further, or as far with a larger objective."""
        larger = (self.broken == other.broken) & (self.objective > other.objective)
        return larger | (self.broken > other.broken)

    def take(self, rows: Tensor) -> Standing:
        """Those with these numbers."""
        return Standing(self.broken[rows], self.objective[rows])

    def put(self, rows: Tensor, other: Standing) -> None:
        """Overwrite those with these numbers."""
        self.broken[rows], self.objective[rows] = other.broken, other.objective.to(self.objective)


@attrs.define(eq=False)
class Found:
    """The points (n, d) that a search came to; how each stands, as far as it is known."""

    points: Tensor
    standing: Standing

    def improve(self, points: Tensor, standing: Standing, frozen: bool) -> None:
        """Take what is better; with `frozen` not where an example is done."""
        better = standing.beats(self.standing)
        if frozen:
            better &= self.standing.broken < DONE
        self.replace(better, points, standing)

    def replace(self, where: Tensor, points: Tensor, standing: Standing) -> None:
        """Take others where told, (n,) bool."""
        self.points = torch.where(where[:, None], points, self.points)
        self.standing = Standing(
            torch.where(where, standing.broken, self.standing.broken),
            torch.where(where, standing.objective, self.standing.objective),
        )

    def put(self, rows: Tensor, other: Found) -> None:
        """Overwrite those with these numbers."""
        self.points[rows] = other.points
        self.standing.put(rows, other.standing)

    def take(self, rows: Tensor) -> Found:
        """Those with these numbers."""
        return Found(self.points[rows], self.standing.take(rows))


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """All modules in evaluation mode inside the block (no dropout, no batch statistics), each as it was after it."""
    trained = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in trained:
            module.training = True


def take(batch: Batch, rows: Tensor) -> Batch:
    """The examples with these numbers."""
    parts = {a.name: getattr(batch, a.name) for a in attrs.fields(type(batch))}
    kept = {name: part.index_select(0, rows) for name, part in parts.items() if isinstance(part, Tensor)}
    return attrs.evolve(batch, **kept)


# ---- losses --------------------------------------------------------------------------------------------------------


def targets_of(batch: Batch) -> Tensor:
    """The batch's targets.

    Raises:
        CannotGive: it has none.
    """
    if batch.targets is None:
        raise CannotGive("this attack needs targets; the batch has none")
    return batch.targets


def misclassified(outputs: Tensor, targets: Tensor) -> Tensor:
    """(n,) bool, as `accuracy` counts; of regression targets none."""
    if targets.is_floating_point():
        return torch.zeros(len(outputs), dtype=torch.bool, device=outputs.device)
    guesses = outputs[:, 0] > 0 if outputs.shape[1] == 1 else outputs.argmax(dim=1)
    return guesses != targets


def margin(outputs: Tensor, targets: Tensor) -> Tensor:
    """(n,): the largest wrong output minus the right one; with one output -f for class 1 and f for class 0."""
    if targets.is_floating_point():
        raise CannotGive('loss = "margin" is for class targets (int64); these are floats')
    if outputs.shape[1] == 1:
        return -signs(outputs, targets) * outputs[:, 0]
    right = targets[:, None]
    return outputs.scatter(1, right, -torch.inf).amax(dim=1) - outputs.gather(1, right)[:, 0]


def loss_of(name: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """(n,): "margin" or "cross_entropy"; the latter means the squared error where targets are floats."""
    if name == "margin":
        return margin(outputs, targets)
    return squared(outputs, targets) if targets.is_floating_point() else cross_entropy(outputs, targets)


@attrs.frozen
class Mistakes:
    """The aim of untargeted attacks: misclassification, by a large loss."""

    loss: str = "cross_entropy"

    def objective(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The loss."""
        return loss_of(self.loss, outputs, targets_of(batch))

    def broken(self, outputs: Tensor, batch: Batch) -> Tensor:
        """DONE once misclassified."""
        return misclassified(outputs, targets_of(batch)) * DONE


# ---- targeted attacks ----------------------------------------------------------------------------------------------


@attrs.frozen
class Targeted:
    """The aim of targeted attacks: to be taken for the goal, by a small loss of it. Asks for an AimedBatch."""

    loss: str = "cross_entropy"

    def objective(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Minus the loss of the goal."""
        return -loss_of(self.loss, outputs, _goals_of(batch))

    def broken(self, outputs: Tensor, batch: Batch) -> Tensor:
        """DONE where misclassified as the goal, BROKEN where as another class."""
        missed = misclassified(outputs, _goals_of(batch))
        return misclassified(outputs, targets_of(batch)) * (DONE - missed.long())


def aimed(network: nn.Module, batch: Batch, goal: str | int, draws: Draws) -> AimedBatch:
    """The batch with goals: a class, a random wrong one ("random"), or the least likely wrong one ("least_likely").

    Raises:
        CannotGive: there are no classes, or not that one.
    """
    targets = targets_of(batch)
    if targets.is_floating_point():
        raise CannotGive("a targeted attack needs class targets (int64); these are floats")
    with evaluating(network), torch.no_grad():
        outputs = network(batch.inputs)
    classes = max(2, outputs.shape[1])
    if isinstance(goal, int) and goal >= classes:
        raise CannotGive(f"target = {goal}: the network tells {classes} classes apart, from 0 to {classes - 1}")
    parts = {a.name: getattr(batch, a.name) for a in attrs.fields(Batch)}
    return AimedBatch(**parts, goals=_goals(outputs, targets, goal, classes, draws))


def _goals_of(batch: Batch) -> Tensor:
    assert isinstance(batch, AimedBatch) and batch.goals is not None
    return batch.goals


def _goals(outputs: Tensor, targets: Tensor, goal: str | int, classes: int, draws: Draws) -> Tensor:
    if isinstance(goal, int):
        return torch.full_like(targets, goal)
    if classes == 2:
        return 1 - targets
    if goal == "random":
        offset = (draws.uniform(0, 1)[:, 0] * (classes - 1)).long() + 1
        return (targets + offset) % classes
    return outputs.scatter(1, targets[:, None], torch.inf).argmin(dim=1)
