"""What the jobs of a run are doing, asked from any process; the one that submitted them may be gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import attrs

from kempeframe.jobfiles import ENDED, LIVE, JobFolder, JobRecord
from kempeframe.schedulers import scheduler_named


@attrs.frozen(eq=False)
class JobState:
    """A job as `kempeframe status` tells it."""

    name: str
    job_id: str  # the cluster's id
    cluster: str
    units: list[dict[str, Any]]
    finished: list[int]  # positions among its units
    state: str  # the cluster's word, in capitals
    since: float  # seconds since 1970
    reason: str
    log: Path
    resubmitted: bool
    raised: str | None

    @property
    def trials(self) -> int:
        """How many it is for."""
        return sum(int(unit["trials"]) for unit in self.units)

    @property
    def trials_done(self) -> int:
        """How many of them are done."""
        return sum(int(self.units[position]["trials"]) for position in set(self.finished))

    @property
    def phase(self) -> Literal["queued", "running", "done", "failed"]:
        """In plain words. A failed job whose units are in a later job is `resubmitted`."""
        if len(set(self.finished)) == len(self.units):
            return "done"
        if self.state not in LIVE:
            return "failed"
        return "queued" if self.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT") else "running"


def job_states(folder: Path) -> list[JobState]:
    """The jobs of the latest `execute` in RUN/jobs, also where the process that submitted them is gone."""
    jobs = JobFolder(folder)
    records = jobs.records()
    for name in ("slurm", "local"):
        asked = [record for record in records if record.cluster == name and record.live]
        states = scheduler_named(name, jobs).states(asked) if asked else None
        for record in asked if states else []:
            assert states is not None
            record.becomes(*states[record.job_id])
    return [_state(jobs, record) for record in records]


def _state(jobs: JobFolder, record: JobRecord) -> JobState:
    events = jobs.events(record.name)
    events.read()
    started = float(events.started["time"]) if events.started else record.since
    return JobState(
        name=record.name,
        job_id=record.job_id,
        cluster=record.cluster,
        units=jobs.work(record.name)[1],
        finished=events.finished,
        state=events.verdict if record.state == ENDED else record.state,
        since=max(started, record.submitted) if record.state == "RUNNING" else record.since,
        reason=record.reason,
        log=jobs.log(record.job_id),
        resubmitted=record.resubmitted,
        raised=events.raised,
    )
