"""From jobs to loops: which fits form a stack, which are trained one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kempeframe.checkpoints import Checkpoints
from kempeframe.components import FitJob
from kempeframe.task import Snapshot
from kempeframe_standard.training.engines import Engine
from kempeframe_standard.training.loop import Loop
from kempeframe_standard.training.sources import ManyTasks, OneTask, settings
from kempeframe_standard.training.stacks import form, one_pass_serves, stack_engine


def fit_one(job: FitJob) -> Iterator[Snapshot]:
    """Train one network; yields its snapshots, the last one last."""
    loop = loop_of([job], job.run.checkpoints)
    for _, snapshot in loop.snapshots():
        yield snapshot
    yield loop.last(0)


def fit_many(jobs: Sequence[FitJob]) -> Iterator[tuple[int, Snapshot]]:
    """Train all; yields (number of the job, snapshot), the last ones when all are done."""
    checkpoints = jobs[0].run.checkpoints
    state = checkpoints.load() or {"part": 0, "ended": {}, "state": None}
    last = {int(job): _ended(jobs[int(job)], result) for job, result in state["ended"].items()}
    for number, members in enumerate(partition(jobs)):
        if number >= state["part"]:
            found = state["state"] if number == state["part"] else None
            loop = loop_of([jobs[job] for job in members], PartCheckpoints(checkpoints, number, last, found))
            for member, snapshot in loop.snapshots():
                yield members[member], snapshot
            last |= {job: loop.last(member) for member, job in enumerate(members)}
    yield from last.items()


def loop_of(jobs: Sequence[FitJob], checkpoints: Checkpoints) -> Loop:
    """The loop of one fit, or of a stack."""
    if len(jobs) > 1:
        engine = stack_engine(jobs)
        return Loop(jobs, engine, ManyTasks(jobs, engine.everything), checkpoints)
    return Loop(jobs, _engine(jobs[0]), OneTask(jobs[0]), checkpoints)


def _engine(job: FitJob) -> Engine:
    """For one fit: direct where that is enough, for Accelerate's wrappers cost 0.1 ms a step."""
    if not job.run.collective and settings(job).mixed_precision == "no":
        return Engine(job)
    from kempeframe_standard.training.accelerated import AcceleratedEngine

    return AcceleratedEngine(job)


def partition(jobs: Sequence[FitJob]) -> list[list[int]]:
    """Numbers of the jobs, those of one stack together.

    A stack is of small networks: where all processes of a run compute it together, each does so for itself, which is
    faster than to agree on every step.
    """
    stacks: dict[tuple[object, ...], list[int]] = {}
    for number, job in enumerate(jobs):
        shared = form(job)
        stacks.setdefault(("alone", number) if shared is None else shared, []).append(number)
    parts = []
    for members in stacks.values():
        together = len(members) > 1 and one_pass_serves([jobs[number] for number in members])
        parts += [members] if together else [[number] for number in members]
    return parts


class PartCheckpoints(Checkpoints):
    """What one part keeps, beside the results of the parts before it."""

    def __init__(self, whole: Checkpoints, part: int, ended: Mapping[int, Snapshot], found: Mapping[str, Any] | None):
        self.whole, self.part, self.ended, self.found = whole, part, ended, found

    def due(self) -> bool:
        return self.whole.due()

    def save(self, state: Mapping[str, Any]) -> None:
        ended = {
            str(job): {
                "network": snapshot.network.state_dict(),
                "step": snapshot.step,
                "certificate": dict(snapshot.certificate),
            }
            for job, snapshot in self.ended.items()
        }
        self.whole.save({"part": self.part, "ended": ended, "state": dict(state)})

    def load(self) -> Mapping[str, Any] | None:
        return self.found


def _ended(job: FitJob, result: Mapping[str, Any]) -> Snapshot:
    job.network.load_state_dict(result["network"])
    return Snapshot(result["step"], job.network.eval(), result["certificate"])
