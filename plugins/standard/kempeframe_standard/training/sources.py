"""Where a loop's examples come from: the splits of one task, or those of many tasks as one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence, Sized
from typing import Protocol

import torch

from kempeframe.components import FitJob
from kempeframe.task import Batch, CannotGive, Split, StackedSplit, Weights
from kempeframe_standard.optimizers_gradient import GradientOptimizer
from kempeframe_standard.training.passes import Draw, moved

VALIDATION = "validation"  # the split that early stopping looks at


class Source(Protocol):
    """Examples for the jobs with these numbers."""

    def draw(self, jobs: Sequence[int]) -> Draw:
        """What begins a pass over their training splits."""

    def validation(self, jobs: Sequence[int]) -> Batch:
        """All validation examples, on the run's device."""


class OneTask:
    """The splits of one job's task."""

    def __init__(self, job: FitJob):
        self.job = job

    def draw(self, jobs: Sequence[int]) -> Draw:
        job, split, size = self.job, self.job.task.train, _batch_size(self.job)
        if size is None:
            everything = moved(split.examples(), torch.device(job.run.device))
            return lambda start: itertools.repeat(everything)
        return lambda start: split.batches_from(start, job.network, size, job.run)

    def validation(self, jobs: Sequence[int]) -> Batch:
        return moved(self.job.task.split(VALIDATION).examples(), torch.device(self.job.run.device))


class ManyTasks:
    """The splits of several jobs' tasks, stacked. All are of one form.

    `weights` looks at the stacked weights as they stand, for streams that draw from the networks being trained.
    """

    def __init__(self, jobs: Sequence[FitJob], weights: Weights | None = None):
        self.jobs, self.weights = jobs, weights
        self.device = torch.device(jobs[0].run.device)

    def draw(self, jobs: Sequence[int]) -> Draw:
        stacked, runs = self._stack("train", jobs), [self.jobs[job].run for job in jobs]
        size = _batch_size(self.jobs[0])
        if size is None:
            everything = moved(stacked.examples(), self.device)
            return lambda start: itertools.repeat(everything)
        return lambda start: stacked.batches_from(start, size, runs, self.weights)

    def validation(self, jobs: Sequence[int]) -> Batch:
        return moved(self._stack(VALIDATION, jobs).examples(), self.device)

    def _stack(self, name: str, jobs: Sequence[int]) -> StackedSplit:
        splits = [self.jobs[job].task.split(name) for job in jobs]
        return splits[0].stack(splits)


def steps_of(job: FitJob) -> int:
    """Number of updates of a fit.

    Raises:
        CannotGive: it is given in epochs, and the training split does not say how long it is.
    """
    optimizer = settings(job)
    if optimizer.steps is not None:
        return optimizer.steps
    assert optimizer.epochs is not None
    if optimizer.batch_size == "full":
        return optimizer.epochs
    batches = -(-_length(job.task.train) // optimizer.batch_size)
    return optimizer.epochs * -(-batches // optimizer.accumulate)


def settings(job: FitJob) -> GradientOptimizer:
    """The job's optimizer."""
    assert isinstance(job.optimizer, GradientOptimizer)
    return job.optimizer


def _length(split: Split) -> int:
    if not isinstance(split, Sized):
        raise CannotGive(f"epochs need a split of known length, which {type(split).__name__} is not: give steps")
    return len(split)


def _batch_size(job: FitJob) -> int | None:
    """None: all examples."""
    size = settings(job).batch_size
    return None if size == "full" else size
