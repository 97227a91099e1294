"""From jobs to loops: which fits form a stack, which are trained one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kempeframe.checkpoints import Checkpoints
from kempeframe.components import FitJob
from kempeframe.task import Snapshot
from kempeframe_standard.training.engines import Engine
from kempeframe_standard.training.loop import Loop
from kempeframe_standard.training.sources import OneTask


def fit_one(job: FitJob) -> Iterator[Snapshot]:
    """Train one network."""
    loop = single(job, job.run.checkpoints)
    for _, snapshot in loop.snapshots():
        yield snapshot
    yield loop.last(0)


def single(job: FitJob, checkpoints: Checkpoints) -> Loop:
    """The loop of one fit."""
    return Loop([job], Engine(job), OneTask(job), checkpoints)


def fit_many(jobs: Sequence[FitJob]) -> Iterator[tuple[int, Snapshot]]:
    for i, job in enumerate(jobs):
        for s in fit_one(job):
            yield i, s
