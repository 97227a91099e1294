"""How a run is doing, told to other shells: `status.json` in its directory, and the command `kempeframe status`."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kempeframe.problems import Problem, SpecError
from kempeframe.processes import unique_name
from kempeframe.study import Failure, Progress

SECONDS = 1.0  # between two writes of a file
SHOWN = 10  # failures that are printed


class StatusFile(Progress):
    """Writes `status.json` and `failures.json` while a study runs, at most once a second."""

    def __init__(
        self, folder: Path, title: str, spec: Path, executor: str, jobs: bool, command: Sequence[str] | None = None
    ):
        self.folder = folder
        self.failures: list[Failure] = []
        self.next_write = 0.0
        self.state: dict[str, Any] = {
            "title": title,
            "spec": str(spec),
            "command": command and ["kempeframe", *command],  # None where it wasn't run from a shell
            "executor": executor,
            "jobs": jobs,  # of a cluster
            "state": "running",
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": time.time(),
            "trials": 0,
            "done": 0,
            "stored_before": 0,
            "failed": 0,
            "running": {},
        }

    def start(self, trials: int, stored: int) -> None:
        self.state |= {"trials": trials, "done": stored, "stored_before": stored}
        self._write(at_once=True)

    def current(self, label: str, row: int = -1, worker: int = 0) -> None:
        running = self.state["running"]
        running.pop(str(worker), None)
        if label:
            running[str(worker)] = {"what": label, "since": time.time()}
        self._write()

    def report(self, step: int, metrics: Mapping[str, float], worker: int = 0) -> None:
        running = self.state["running"].get(str(worker))
        if running is not None:
            running |= {"step": step, "metrics": dict(metrics)}
        self._write()

    def advance(self, trials: int) -> None:
        self.state["done"] += trials
        self._write()

    def failed(self, failure: Failure) -> None:
        self.failures.append(failure)
        self.state["failed"] += 1
        self._write(at_once=len(self.failures) == 1)

    def end(self, state: str) -> None:
        """`done`, `stopped` (by Ctrl-C) or `broken`."""
        self.state |= {"state": state, "running": {}, "ended": time.time()}
        if state == "done":
            self.failures.clear()  # the run directory has them now, in the order of the table
        self._write(at_once=True)

    def _write(self, at_once: bool = False) -> None:
        now = time.monotonic()
        if not at_once and now < self.next_write:
            return
        self.next_write = now + SECONDS
        self.state["updated"] = time.time()
        write_json(self.folder / "status.json", self.state)
        if self.failures:
            write_json(self.folder / "failures.json", [as_data(failure) for failure in self.failures])


def as_data(failure: Failure) -> dict[str, Any]:
    """A failure as `failures.json` holds it."""
    return {
        "configuration": failure.trial.configuration.axes,
        "seed": failure.trial.seed,
        "trial": failure.row,
        "error": failure.error,
        "place": failure.place,
        "traceback": failure.traceback,
    }


def write_json(path: Path, value: Any) -> None:
    """Write a file so that a reader sees the old one or the new one, whole."""
    write_text(path, json.dumps(value, indent=1, default=str))


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{unique_name()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def status_command(folder: Path) -> int:
    """Print what a run is at; returns 0 where it runs or is done, 3 where trials failed, 4 where it broke off."""
    state = read_status(folder)
    print(f"{state['title']}   {folder}")
    print(headline(state))
    done, total, failed = state["done"], state["trials"], state["failed"]
    share = f" ({done / total:.0%})" if total else ""
    print(f"trials   {done:,} of {total:,} done{share}" + (f", {failed:,} of them failed" if failed else ""))
    for running in state["running"].values() if alive(state) else ():
        print(f"now      {running['what']}, for {duration(time.time() - running['since'])}{_progress(running)}")
    for line in _job_lines(folder) if state["jobs"] else ():
        print(line)
    for line in _failure_lines(folder) if failed else ():
        print(line)
    if state["state"] == "running" and not alive(state):
        return 4
    return 3 if failed else 0


def read_status(folder: Path) -> dict[str, Any]:
    """The status of a run.

    Raises:
        SpecError: the folder is no run directory.
    """
    try:
        found = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        hint = "expected a run directory with a status.json, as `kempeframe run` makes it (runs/NAME)"
        raise SpecError("command line", [Problem(str(folder), "", hint)])
    return found


def alive(state: Mapping[str, Any]) -> bool:
    """Whether the run's process is there. On another host: whether it has written within the last minutes."""
    if state["state"] != "running":
        return False
    if state["host"] != socket.gethostname():
        return bool(time.time() - state["updated"] < 300)
    try:
        os.kill(state["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def duration(seconds: float) -> str:
    """`12 s`, `3 min`, `2.5 h`."""
    if seconds < 100:
        return f"{max(0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def headline(state: Mapping[str, Any]) -> str:
    """`running for 3 min (process 12 on host, in this process), about 2 min left`, `done after 5 s (2 processes)`."""
    where = f"process {state['pid']} on {state['host']}"
    if state["state"] == "running":
        age = time.time() - state["started"]
        if not alive(state):
            return f"broken off: {where} is gone; the same command goes on from what is stored"
        computed = state["done"] - state["stored_before"]
        left = state["trials"] - state["done"]
        estimate = f", about {duration(age / computed * left)} left" if computed > 0 and left else ""
        return f"running for {duration(age)} ({where}, {state['executor']}){estimate}"
    took = duration(state["ended"] - state["started"])
    words = {"done": "done", "stopped": "stopped by Ctrl-C", "broken": "broken off by an error"}
    return f"{words[state['state']]} after {took} ({state['executor']})"


def _progress(running: Mapping[str, Any]) -> str:
    if "step" not in running:
        return ""
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in running["metrics"].items())
    return f"; step {running['step']:,}" + (f", {metrics}" if metrics else "")


def _failure_lines(folder: Path) -> list[str]:
    try:
        failures = json.loads((folder / "failures.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    lines = []
    for failure in failures[:SHOWN]:
        where = ", ".join([*(f"{k} = {v}" for k, v in failure["configuration"].items()), f"seed {failure['seed']}"])
        lines.append(f"failed   {where}: {failure['error']}")
    if len(failures) > SHOWN:
        lines.append(f"         and {len(failures) - SHOWN:,} more; all are in {folder / 'failures.json'}")
    return lines


def _job_lines(folder: Path) -> list[str]:
    """The cluster's jobs of this run."""
    if not (folder / "jobs" / "jobs.json").exists():
        return []
    from kempeframe.jobs import job_states

    lines = []
    for job in job_states(folder / "jobs"):
        again = ", its rest submitted again" if job.resubmitted else ""
        reason = f" ({job.reason})" if job.reason else ""
        trials = f"{job.trials_done:,} of {job.trials:,} trials"
        lines.append(f"job {job.job_id}: {job.phase}{reason}, {trials}{again}; {job.log}")
    return lines
