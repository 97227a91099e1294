"""What stands in the folder of a run's jobs: the list of jobs, each job's units, and the events that it writes.

jobs.json            the jobs that the latest process submitted or took over; replaced as a whole
NAME.units.json      the request and the units of one job; NAME is never used again
NAME.events.jsonl    what that job says, a line each: {"start": ...}, {"unit": position, "event": [...]},
                     {"raised": message}, {"end": true}
logs/                submitit's own files, among them each job's log
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from kempeframe.problems import Problem, SpecError

# States of a job that has not ended for good.
LIVE = frozenset({"PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "STAGE_OUT", "RESIZING", "STOPPED"})
LIVE |= {"SIGNALING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
ENDED = "ENDED"  # the state of a job that the system does not know (any more)


def content_digest(content: Any) -> str:
    """Equal for equal JSON content."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@attrs.define
class JobRecord:
    """A job as jobs.json holds it."""

    name: str  # of its files
    job_id: str  # the cluster's
    cluster: str
    request: str  # digest
    units: list[str]  # digests
    submitted: float  # seconds since 1970, as all times here
    state: str
    since: float  # when the state was first seen
    reason: str = ""  # why it waits, in the cluster's words
    resubmitted: bool = False  # what it left undone is in a later job

    @property
    def live(self) -> bool:
        """Whether it is in the queue or runs."""
        return self.state in LIVE

    def becomes(self, state: str, reason: str = "") -> bool:
        """Note its state; whether that is new."""
        changed = (state, reason) != (self.state, self.reason)
        if state != self.state:
            self.since = time.time()
        self.state, self.reason = state, reason
        return changed


class JobFolder:
    """RUN/jobs."""

    def __init__(self, path: Path):
        self.path = path.absolute()
        self.logs = self.path / "logs"

    def records(self) -> list[JobRecord]:
        """The jobs of the latest process; none where there is no folder."""
        try:
            text = (self.path / "jobs.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [JobRecord(**entry) for entry in json.loads(text)["jobs"]]

    def save(self, records: Sequence[JobRecord]) -> None:
        """Replace jobs.json."""
        part = self.path / f"jobs.json.{os.getpid()}.part"
        part.write_text(json.dumps({"jobs": [attrs.asdict(record) for record in records]}), encoding="utf-8")
        part.replace(self.path / "jobs.json")

    def add(self, request: Mapping[str, Any], units: Sequence[Mapping[str, Any]]) -> str:
        """Write the work of a new job and return the job's name."""
        text = json.dumps({"request": request, "units": list(units)})
        taken = [int(path.name.partition(".")[0]) for path in self.path.glob("*.units.json")]
        name = f"{max(taken, default=0) + 1:05}"
        with (self.path / f"{name}.units.json").open("x", encoding="utf-8") as file:
            file.write(text)
        return name

    def work(self, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The request and the units of a job."""
        content = json.loads((self.path / f"{name}.units.json").read_text(encoding="utf-8"))
        return content["request"], content["units"]

    def events(self, name: str) -> Events:
        """What the job has said; nothing is read yet."""
        return Events(self.path / f"{name}.events.jsonl")

    def log(self, job_id: str) -> Path:
        """Where what the job prints on standard error goes."""
        return self.logs / f"{job_id}_0_log.err"

    @contextlib.contextmanager
    def mine(self) -> Iterator[None]:
        """Only one process submits from a folder; the system frees the lock of one that died."""
        import fcntl

        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                problem = Problem(str(self.path), "", f"{file.read().strip()} submits jobs from this folder already")
                raise SpecError("command line", [problem]) from None
            except OSError:  # a file system without locks
                yield
                return
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield


class Events:
    """A job's events, read as they come. A line that was cut short is left out."""

    def __init__(self, path: Path):
        self.path = path
        self.offset = 0
        self.finished: list[int] = []  # positions of units among the job's, in the order they came
        self.started: dict[str, Any] | None = None  # of the latest start: time, process, host
        self.raised: str | None = None  # since the latest start
        self.ended = False

    def read(self) -> list[tuple[int, list[Any]]]:
        """(position of the unit, event) for each event since the last call."""
        try:
            with self.path.open("rb") as file:  # anew each time: NFS shows what is new to those who open
                file.seek(self.offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        found = []
        for line in whole.splitlines():
            try:
                content = json.loads(line)
            except ValueError:
                continue
            if "event" in content:
                found.append((content["unit"], content["event"]))
                if content["event"][0] == "unit":
                    self.finished.append(content["unit"])
            elif "start" in content:
                self.started, self.raised, self.ended = content["start"], None, False
            else:
                self.raised = content.get("raised", self.raised)
                self.ended = self.ended or "end" in content
        return found

    @property
    def verdict(self) -> str:
        """How the job ended, where the cluster does not say."""
        return "COMPLETED" if self.ended else "KILLED" if self.raised is None else "FAILED"


def running(finished: Sequence[int], positions: Sequence[int]) -> int:
    """The unit that a job is at: the one after the unit that it finished last, and round from the first."""
    left = [position for position in positions if position not in set(finished)]
    after = [position for position in left if finished and position > finished[-1]]
    return (after or left or positions)[0]


class EventWriter:
    """The job's side of `Events`: one write per line, so that nothing is lost with the process."""

    def __init__(self, path: Path):
        self.file = path.open("ab", buffering=0)
        if self.file.tell():
            self.file.write(b"\n")  # ends a line that an earlier start was killed in
        start = {"time": time.time(), "process": os.getpid(), "host": socket.gethostname()}
        self.write({"start": start})

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def write(self, content: Mapping[str, Any]) -> None:
        """Append a line."""
        self.file.write(json.dumps(content).encode() + b"\n")
