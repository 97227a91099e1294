"""Projected steepest ascent: what FGSM, PGD and attacks on anything else that outputs tell have in common.

Gradients are those of the inputs; parameters, their gradients and the network's mode stay what they are.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor, nn

from kempeframe.task import Batch
from kempeframe_standard.judging import DONE, Aim, Found, Standing, evaluating, take
from kempeframe_standard.regions import Region

DROP = 16  # broken examples leave the batch once they are one in so many: leaving costs a copy of the others


@attrs.frozen(kw_only=True)
class Course:
    """How to climb: steps of this size, what to take in the end, whether to leave broken examples alone."""

    steps: int
    step_size: float
    keep_best: bool = True  # else the last point
    early_stop: bool = True


def ascend(network: nn.Module, batch: Batch, region: Region, aim: Aim, start: Tensor, course: Course) -> Found:
    """Climb from the points `start` (n, d).

    With `keep_best` each example gets the best point that it was at, broken ones first, then by the aim's objective;
    the last point is looked at only where none before it was done, or in training. With `early_stop` each gets the
    first point at which it was done. Zero gradients, and none at all, leave a point where it is.
    """
    climb = _Climb(network, batch, region, aim, start, course)
    with evaluating(network), torch.no_grad():
        return climb.run()


class _Climb:
    def __init__(self, network: nn.Module, batch: Batch, region: Region, aim: Aim, start: Tensor, course: Course):
        self.network, self.aim, self.course = network, aim, course
        self.training = network.training
        self.batch, self.region, self.points = batch, region, start.clone(memory_format=torch.contiguous_format)
        self.found = Found(self.points, Standing.unknown(len(start), start))
        self.rows: Tensor | None = None  # of all examples, those that are still climbing; None: all
        self.all = self.found

    def run(self) -> Found:
        ranked = self.course.keep_best or self.course.early_stop
        for _ in range(self.course.steps):
            gradients, standing = self._look(ranked)
            if standing is not None:
                self._note(standing)
                if self.course.early_stop:
                    gradients = self._drop_done(gradients)
                    if not len(gradients):
                        break
            self.points = self.region.step(self.points, gradients, self.course.step_size)
        else:
            self._note_last()
        return self._together()

    def _look(self, ranked: bool) -> tuple[Tensor, Standing | None]:
        """Gradients at the points, (n, d), and how the points stand."""
        inputs = self._inputs().requires_grad_()
        with torch.enable_grad():
            outputs = self.network(inputs.to(self.batch.inputs.dtype))
            objective = self.aim.objective(outputs, self.batch)
            gradients = _gradients(objective, inputs)
        standing = Standing.of(self.aim, outputs.detach(), self.batch, objective) if ranked else None
        return gradients.view_as(self.points), standing

    def _inputs(self) -> Tensor:
        return self.points.view(-1, *self.batch.inputs.shape[1:])

    def _note(self, standing: Standing) -> None:
        if self.course.keep_best:
            self.found.improve(self.points, standing, self.course.early_stop)
        else:  # the last point; with early stopping the first that is done
            self.found.replace(self.found.standing.broken < DONE, self.points, standing)

    def _note_last(self) -> None:
        if self.course.keep_best:
            self._look_at_the_last()
        elif self.course.early_stop:
            self._note(self.found.standing)
        else:
            self.found.points = self.points

    def _look_at_the_last(self) -> None:
        """Saves a pass over examples that are done; training wants their largest loss too."""
        broken = self.found.standing.broken
        rows = (broken <= (DONE if self.training else DONE - 1)).nonzero()[:, 0]
        if len(rows):
            outputs = self.network(self._inputs()[rows].to(self.batch.inputs.dtype))
            best = self.found.take(rows)
            best.improve(self.points[rows], Standing.of(self.aim, outputs, take(self.batch, rows)), frozen=False)
            self.found.put(rows, best)

    def _drop_done(self, gradients: Tensor) -> Tensor:
        done = self.found.standing.broken == DONE
        count = int(done.sum())
        if count * DROP < len(done) or not count:
            return gradients
        climbing = (~done).nonzero()[:, 0]
        everything = self._together()
        self.rows = climbing if self.rows is None else self.rows[climbing]
        self.all, self.found = everything, self.found.take(climbing)
        self.points, self.region = self.points[climbing], self.region.keep(climbing)
        self.batch = take(self.batch, climbing)
        return gradients[climbing]

    def _together(self) -> Found:
        if self.rows is None:
            return self.found
        self.all.put(self.rows, self.found)
        return self.all


def _gradients(objective: Tensor, inputs: Tensor) -> Tensor:
    """Of each example's objective; 0 where it does not depend on the input."""
    if not objective.requires_grad:
        return torch.zeros_like(inputs, requires_grad=False)
    (found,) = torch.autograd.grad(objective, inputs, torch.ones_like(objective), materialize_grads=True)
    return found.contiguous()
