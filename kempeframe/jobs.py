"""Units computed by jobs on a cluster, through submitit: packed, so many at once, submitted again where they end early.

All that the jobs and this process share is the store and the folder of the run's jobs.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs

from kempeframe.interrupt import before_hard_exit
from kempeframe.jobfiles import ENDED, LIVE, Events, JobFolder, JobRecord, content_digest, running
from kempeframe.jobstates import JobState, job_states
from kempeframe.packed import PackedUnits
from kempeframe.problems import SpecError
from kempeframe.schedulers import NOTHING, check_submitit, scheduler_named

AGAIN = 3  # times that a job is submitted again for the same unit
FRUITLESS = 12  # jobs in a row that may end before they compute anything
REFUSED_SECONDS = 30.0  # until the next try where the cluster takes no more jobs for now
SECONDS_TO_END = 60.0  # that a job may take to exit after its last unit

Request = Mapping[str, Any]
Unit = Mapping[str, Any]
OnEvent = Callable[[int, list[Any]], None]


class JobExecutor:
    """Computes units in jobs.

    Args:
        folder: RUN/jobs, on a file system that the jobs see too.
        cluster: `slurm`, or `local` for processes of this machine.
        trials_per_job: how many trials are packed into a job at most; a unit is never split.
        max_jobs: how many jobs are in the queue or run at once, at most.
        parameters: `time` (minutes for a job; default 60), `signal_delay_s` (seconds before that at which it stops and
            is requeued; default 90), `max_num_timeout` (requeues of one job; default 3), `gpus`, which `local`
            heeds too; for `slurm` also `setup` (a shell command before the job), and whatever `sbatch` takes:
            `partition`, `mem`, `account` ...
        detach: leave the jobs alone when this process is interrupted; the next `execute` takes them over. (Ctrl-C in a
            terminal reaches `local` jobs by itself.)

    Raises:
        SpecError: submitit is missing, or there is no Slurm here.
    """

    def __init__(
        self,
        folder: Path,
        cluster: Literal["slurm", "local"],
        trials_per_job: int,
        max_jobs: int,
        parameters: Mapping[str, str | int] = NOTHING,
        detach: bool = False,
    ):
        check_submitit(cluster)
        self.folder = JobFolder(folder)
        self.name = cluster
        self.scheduler = scheduler_named(cluster, self.folder, parameters)
        self.trials_per_job, self.max_jobs = trials_per_job, max_jobs
        self.detach = detach
        self.records: list[JobRecord] = []  # of all executions, for `kempeframe status`

    def execute(self, request: Request, units: Sequence[Unit], on_event: OnEvent, poll: float = 1.0) -> None:
        """Compute units; returns when each is done or lost. Loads nothing: only the jobs do.

        `on_event(index, event)` gets what the jobs emit for a unit, at least once: what a job had said of a unit before
        it was killed is said again by its successor. `["unit", index]` says that a unit is done, and
        `["lost", index, message]` that it is given up: its job ended too often while it was at it. Where a unit is put
        off in favour of those after it, other events than these two may come under a neighbour's index.

        Jobs that an earlier `execute` in this folder has left in the queue or running are taken over if they work on
        these units for the same request, and cancelled otherwise.

        Raises:
            SpecError: the cluster refuses jobs, or another process submits from this folder.
            KeyboardInterrupt: passed on after the jobs are cancelled.
        """
        with self.folder.mine():
            execution = _Execution(self, request, units, on_event)
            if not self.detach:
                before_hard_exit(execution.cancel)
            try:
                execution.run(poll)
            except BaseException:
                if not self.detach:
                    execution.cancel()
                raise


@attrs.define(eq=False)
class _Job:
    """A job in the queue or running."""

    record: JobRecord
    numbers: list[int | None]  # the caller's index of each of its units; None for those nobody asks for now
    events: Events
    ended_at: float | None = None  # when it was seen to have no more to do


class _Execution:
    def __init__(self, executor: JobExecutor, request: Request, units: Sequence[Unit], on_event: OnEvent):
        self.folder, self.scheduler, self.max_jobs = executor.folder, executor.scheduler, executor.max_jobs
        self.cluster_name, self.trials_per_job = executor.name, executor.trials_per_job
        self.request, self.digest = request, content_digest(request)
        self.units, self.on_event = units, on_event
        self.digests = [content_digest(unit) for unit in units]
        self.records = executor.records
        self.live: list[_Job] = []
        self.waiting: deque[list[int]] = deque()
        self.settled: set[int] = set()  # units that are done or lost
        self.endings: dict[int, int] = {}  # unit -> jobs that ended while at it
        self.fruitless = 0  # jobs in a row that ended before they could compute
        self.submit_after = 0.0
        self.looks = 0

    def run(self, poll: float) -> None:
        self._adopt()
        adopted = {number for job in self.live for number in job.numbers}
        self.waiting.extend(self._packed([number for number in range(len(self.units)) if number not in adopted]))
        while self.waiting or self.live:
            self._submit()
            for job in self.live:
                self._tell(job)
            self._look()
            if self.live or self.waiting:
                time.sleep(poll)

    def cancel(self) -> None:
        """Cancel what is in the queue or running."""
        if self.live:
            self.scheduler.cancel([job.record for job in self.live])
            for job in self.live:
                job.record.becomes("CANCELLED")
            self._save()

    def _save(self) -> None:
        self.folder.save(self.records)

    def _packed(self, numbers: Sequence[int]) -> Iterator[list[int]]:
        """Neighbours together, as many as fit."""
        pack: list[int] = []
        trials = 0
        for number in numbers:
            more = int(self.units[number]["trials"])
            if pack and trials + more > self.trials_per_job:
                yield pack
                pack, trials = [], 0
            pack.append(number)
            trials += more
        if pack:
            yield pack

    def _adopt(self) -> None:
        """Take over, or cancel, what an earlier process left."""
        number_of = {digest: number for number, digest in enumerate(self.digests)}
        for name in ("slurm", "local"):
            records = [record for record in self.folder.records() if record.cluster == name and record.live]
            if not records:
                continue
            scheduler = self.scheduler if name == self.cluster_name else scheduler_named(name, self.folder)
            states = scheduler.states(records) or {}
            gone = [record for record in records if states.get(record.job_id, (record.state,))[0] not in LIVE]
            jobs = [
                _Job(record, [number_of.get(digest) for digest in record.units], self.folder.events(record.name))
                for record in records
                if record not in gone
            ]
            ours = [job for job in jobs if scheduler is self.scheduler and self._fits(job)]
            scheduler.cancel([*gone, *(job.record for job in jobs if job not in ours)])
            self.live.extend(ours)
        self.records.extend(job.record for job in self.live)
        self._save()

    def _fits(self, job: _Job) -> bool:
        """Whether all that the job has yet to do is asked for now."""
        if job.record.request != self.digest or not any(number is not None for number in job.numbers):
            return False
        seen = self.folder.events(job.record.name)  # of its own: what they tell is passed on later
        seen.read()
        return all(number is not None or position in seen.finished for position, number in enumerate(job.numbers))

    def _submit(self) -> None:
        """Fill up to the number of jobs allowed."""
        while self.waiting and len(self.live) < self.max_jobs and time.monotonic() >= self.submit_after:
            count = min(len(self.waiting), self.max_jobs - len(self.live), self.scheduler.at_once)
            packs = [self.waiting[index] for index in range(count)]
            names = [self.folder.add(self.request, [self.units[number] for number in pack]) for pack in packs]
            with _interrupt_put_off():
                try:
                    jobs = self.scheduler.submit([PackedUnits(self.folder.path, name) for name in names])
                except SpecError:
                    if not self.live:
                        raise
                    # A limit on the jobs in its queue, say: some of ours must end first.
                    self.submit_after = time.monotonic() + REFUSED_SECONDS
                    return
                for name, job, pack in zip(names, jobs, packs, strict=True):
                    self._note(name, job, pack)
                    self.waiting.popleft()
                self._save()

    def _note(self, name: str, job: str, pack: list[int]) -> None:
        now = time.time()
        digests = [self.digests[number] for number in pack]
        record = JobRecord(name, job, self.cluster_name, self.digest, digests, now, "PENDING", now)
        self.records.append(record)
        self.live.append(_Job(record, list(pack), self.folder.events(name)))

    def _tell(self, job: _Job) -> None:
        """Pass on what a job has said since."""
        for position, event in job.events.read():
            number = job.numbers[position]
            if number is None:
                continue
            if event[0] == "unit":
                if number in self.settled:
                    continue
                self.settled.add(number)
                self.fruitless = 0
            self.on_event(number, ["unit", number] if event[0] == "unit" else event)
        if job.ended_at is None and (job.events.ended or job.events.raised is not None):
            job.ended_at = time.monotonic()

    def _look(self) -> None:
        """See which jobs have ended. The cluster is asked now and then, and when a job says that it is through."""
        self.looks += 1
        if not self.live or (self.looks % self.scheduler.every and not any(job.ended_at for job in self.live)):
            return
        states = self.scheduler.states([job.record for job in self.live])
        if states is None:  # its controller is away; the jobs go on
            return
        changed = False
        for job in list(self.live):
            if job not in self.live:  # all were given up because of the one before
                break
            changed |= job.record.becomes(*states[job.record.job_id])
            if job.record.live:
                self._hurry(job)
                continue
            self._tell(job)  # what it wrote last
            if job.record.state == ENDED:
                job.record.becomes(job.events.verdict)
            self.live.remove(job)
            self._after(job)
        if changed:
            self._save()

    def _hurry(self, job: _Job) -> None:
        """A thread that some library left can keep a process from exiting."""
        if job.ended_at is not None and time.monotonic() - job.ended_at > SECONDS_TO_END:
            self.scheduler.cancel([job.record])

    def _after(self, job: _Job) -> None:
        """Submit what an ended job left undone, or give the unit up that it was at."""
        left = [n for n in job.numbers if n is not None and n not in self.settled]
        if not left:
            return
        self.scheduler.cancel([job.record])  # parts of it may run on, or the cluster may start it again
        if job.events.started is None or job.events.raised is not None:
            self.fruitless += 1
        if self.fruitless > FRUITLESS:
            self._give_everything_up(job)
            return
        positions = [position for position, number in enumerate(job.numbers) if number in left]
        guilty = job.numbers[running(job.events.finished, positions)]
        assert guilty is not None
        if job.record.state != "PREEMPTED":  # which is nobody's fault
            self.endings[guilty] = self.endings.get(guilty, 0) + 1
        if self.endings.get(guilty, 0) > AGAIN:
            what = f"job {job.record.job_id} ended as {job.record.state} {self.endings[guilty]} times"
            self._lose(guilty, what + self._why(job))
            left.remove(guilty)
        if left:
            job.record.resubmitted = True
            self.waiting.extendleft(reversed(list(self._packed(left))))

    def _give_everything_up(self, job: _Job) -> None:
        """Whatever keeps jobs from computing, it is no single unit."""
        self.cancel()
        self.live.clear()
        self.waiting.clear()
        message = f"{self.fruitless} jobs in a row ended before they computed anything, the last of them job "
        message += f"{job.record.job_id} as {job.record.state}{self._why(job)}"
        for number in range(len(self.units)):
            if number not in self.settled:
                self._lose(number, message)

    def _why(self, job: _Job) -> str:
        error = f": {job.events.raised}" if job.events.raised else ""
        return f"{error}; its log: {self.folder.log(job.record.job_id)}"

    def _lose(self, number: int, message: str) -> None:
        self.settled.add(number)
        self.on_event(number, ["lost", number, message])


@contextlib.contextmanager
def _interrupt_put_off() -> Iterator[None]:
    """Ctrl-C waits for the end of the block: a job whose id is not noted yet could not be cancelled."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            raise KeyboardInterrupt


__all__ = ["JobExecutor", "JobState", "job_states"]
