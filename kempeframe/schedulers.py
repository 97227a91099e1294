"""Where jobs run: Slurm, or processes of this machine. submitit submits; the system itself is asked for states.

submitit would ask `sacct`, which needs an accounting database that many clusters do not have; `squeue` is always there.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from kempeframe.jobfiles import ENDED, JobFolder, JobRecord
from kempeframe.packed import PackedUnits
from kempeframe.problems import Problem, SpecError

HOUR = 60  # minutes a Slurm job gets where nobody says; what does not fit is requeued
YEAR = 365 * 24 * 60
OURS = ("nodes", "ntasks", "ntasks_per_node", "array", "output", "error", "signal", "open_mode", "requeue", "chdir")
PATIENCE = 3.0  # seconds that a local job has to end

Parameters = Mapping[str, str | int]
NOTHING: Parameters = MappingProxyType({})


class Scheduler(Protocol):
    """What the executor asks of the place where jobs run."""

    at_once: int  # jobs of one submission
    every: int  # polls between two questions for states

    def submit(self, calls: Sequence[PackedUnits]) -> list[str]:
        """Submit jobs; returns their ids. SpecError where the system refuses."""

    def states(self, records: Sequence[JobRecord]) -> dict[str, tuple[str, str]] | None:
        """Job id -> (state, reason) for each; None where the system does not answer now."""

    def cancel(self, records: Sequence[JobRecord]) -> None:
        """Cancel jobs; those that have ended are left alone."""


def scheduler_named(name: str, folder: JobFolder, parameters: Parameters = NOTHING) -> Scheduler:
    """`slurm` or `local`. Only submitting needs submitit."""
    return Slurm(folder, parameters) if name == "slurm" else Local(folder, parameters)


def check_submitit(cluster: str) -> None:
    """SpecError where jobs can't be submitted from here."""
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise _refused(cluster, "needs submitit: pip install 'kempeframe[slurm]'") from None
    if cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        raise _refused(cluster, "there is no Slurm on this machine (no sbatch, or no srun, in PATH)")


def _refused(cluster: str, message: str) -> SpecError:
    return SpecError("command line", [Problem(f"--executor {cluster}", "", message)])


class Slurm:
    """Jobs of a Slurm cluster."""

    at_once = 500  # an array; Slurm takes 1000 tasks unless told otherwise
    every = 10

    def __init__(self, folder: JobFolder, parameters: Parameters = NOTHING):
        self.folder = folder
        self.own, self.options = _split(parameters, "slurm")
        self.executor: Any = None

    def submit(self, calls: Sequence[PackedUnits]) -> list[str]:
        """Several jobs become one array."""
        with _outside_of_a_job():
            try:
                if self.executor is None:
                    self.executor = self._executor()
                return [job.job_id for job in self.executor.submit_array(calls)]
            except RuntimeError as error:  # submitit's errors are, with what sbatch printed
                raise _refused("slurm", f"Slurm takes no job: {' '.join(str(error).split())}") from error

    def _executor(self) -> Any:
        import submitit

        own, options = dict(self.own), self.options
        executor = submitit.SlurmExecutor(self.folder.logs, max_num_timeout=own.pop("max_num_timeout"))
        named = {"job_name": "kempeframe", "requeue": True, **options}
        own["time"] = math.ceil(own["time"] or HOUR)
        executor.update_parameters(**own, array_parallelism=self.at_once, additional_parameters=named)
        return executor

    def states(self, records: Sequence[JobRecord]) -> dict[str, tuple[str, str]] | None:
        """squeue shows jobs for some minutes after their end (MinJobAge)."""
        command = ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i|%T|%r"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            return None
        known = {}
        for line in answer.splitlines():
            job, _, rest = line.strip().partition("|")
            state, _, reason = rest.partition("|")
            known[job] = (state, "" if reason == "None" else reason)
        return {record.job_id: known.get(record.job_id, (ENDED, "")) for record in records}

    def cancel(self, records: Sequence[JobRecord]) -> None:
        """One scancel for all: it does not mind ids that are gone."""
        if records:
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                command = ["scancel", "--quiet", *(record.job_id for record in records)]
                subprocess.run(command, capture_output=True, timeout=60, check=False)


class Local:
    """Jobs that are processes of this machine: submitit starts a controller for each, which outlives its parent."""

    at_once = 1
    every = 1

    def __init__(self, folder: JobFolder, parameters: Parameters = NOTHING):
        self.folder = folder
        self.own, self.options = _split(parameters, "local")
        self.executor: Any = None
        self.children: dict[str, Any] = {}  # submitit's jobs: whose processes are ours to wait for

    def submit(self, calls: Sequence[PackedUnits]) -> list[str]:
        """A process for each."""
        if self.executor is None:
            self.executor = self._executor()
        jobs = self.executor.submit_array(calls)
        self.children.update((job.job_id, job) for job in jobs)
        return [job.job_id for job in jobs]

    def _executor(self) -> Any:
        import submitit

        own, options = dict(self.own), self.options
        executor = submitit.LocalExecutor(self.folder.logs, max_num_timeout=own.pop("max_num_timeout"))
        own.pop("setup", None)
        own["timeout_min"] = own.pop("time") or YEAR
        gpus = _number(dict(options), "gpus", 0.0, "local")
        executor.update_parameters(**own, gpus_per_node=int(gpus))
        return executor

    def states(self, records: Sequence[JobRecord]) -> dict[str, tuple[str, str]]:
        """A job's id is its controller's process id."""
        return {record.job_id: ("RUNNING" if self._runs(record.job_id) else ENDED, "") for record in records}

    def _runs(self, job: str) -> bool:
        if job in self.children:
            return not self.children[job].done()
        return self._is_ours(int(job))

    def _is_ours(self, process: int) -> bool:
        """Process ids are used again: only a process that names this folder is a job of it."""
        command = _command_line(process)
        return "submitit" in command and str(self.folder.logs) in command

    def cancel(self, records: Sequence[JobRecord]) -> None:
        """Interrupt the controllers, which end their tasks; kill what does not react."""
        self._kill([record for record in records if self._runs(record.job_id)])
        for record in records:  # a task whose controller was killed goes on
            events = self.folder.events(record.name)
            events.read()
            task = events.started or {"host": "", "process": 0}
            if task["host"] == socket.gethostname() and self._is_ours(task["process"]):
                _signal(task["process"], signal.SIGKILL)

    def _kill(self, running: list[JobRecord]) -> None:
        for number in (signal.SIGINT, signal.SIGKILL):
            for record in running:
                _signal(int(record.job_id), number)
            patience = time.monotonic() + PATIENCE
            while running and time.monotonic() < patience:
                time.sleep(0.05)
                running = [record for record in running if self._runs(record.job_id)]


def _signal(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _command_line(process: int) -> str:
    """Empty where there is no such process, or where it has ended and nobody has waited for it."""
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    command = ["ps", "-p", str(process), "-o", "command="]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _split(parameters: Parameters, cluster: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What submitit is told itself, and the options that sbatch is handed as they are."""
    options: dict[str, Any] = {key.replace("-", "_"): value for key, value in parameters.items()}
    options |= {key: True for key, value in options.items() if value == "true"}
    for key in OURS:
        if key in options:
            raise _refused(cluster, f"--slurm {key}=...: kempeframe sets it; a job is one process")
    own: dict[str, Any] = {
        "time": _number(options, "time", 0.0, cluster),
        "signal_delay_s": int(_number(options, "signal_delay_s", 90.0, cluster)),
        "max_num_timeout": int(_number(options, "max_num_timeout", 3.0, cluster)),
    }
    if "setup" in options:
        own["setup"] = [options.pop("setup")]
    return own, options


def _number(options: dict[str, Any], key: str, default: float, cluster: str) -> float:
    given = options.pop(key, default)
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        unit = " of minutes" if key == "time" else ""
        raise _refused(cluster, f"--slurm {key}={given}: expected a number{unit}")
    return value


@contextlib.contextmanager
def _outside_of_a_job() -> Iterator[None]:
    """Submitted from within another job, a job must not take over that one's variables."""
    from submitit.helpers import clean_env

    configuration = os.environ.get("SLURM_CONF")
    with clean_env():
        if configuration:
            os.environ["SLURM_CONF"] = configuration
        yield
