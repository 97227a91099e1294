"""Units in jobs: packed, so many at once, submitted again where they end early. Local jobs, and a real Slurm."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kempeframe.jobs import JobExecutor, job_states
from kempeframe.problems import SpecError

pytest.importorskip("submitit", reason="submitit is not installed (kempeframe[slurm])")
HERE = Path(__file__).parent
POLL = 0.1
MINUTE = 60.0


def slurm_module() -> Any:
    spec = importlib.util.spec_from_file_location("slurm_node", HERE / "slurm_node.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def slurm() -> Iterator[None]:
    with slurm_module().slurm_node():
        yield


class Jobs:
    """Runs toy units in jobs and looks at what they left."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.jobs = folder / "jobs"
        self.request = {"compute": "toy_jobs:compute_units", "folder": str(folder)}
        self.events: list[tuple[int, list[Any]]] = []

    def run(
        self,
        units: list[dict[str, Any]],
        cluster: Any = "local",
        trials_per_job: int = 1,
        max_jobs: int = 2,
        on_event: Callable[[int, list[Any]], None] | None = None,
        **parameters: str | int,
    ) -> None:
        def listen(index: int, event: list[Any]) -> None:
            self.events.append((index, event))
            if on_event is not None:
                on_event(index, event)

        executor = JobExecutor(self.jobs, cluster, trials_per_job, max_jobs, parameters)
        executor.execute(self.request, units, listen, POLL)

    def of(self, name: str) -> list[Any]:
        return [(index, *event[1:]) for index, event in self.events if event[0] == name]

    def notes(self, what: str) -> list[tuple[str, int, float]]:
        """(name, process, time) of what jobs noted."""
        path = self.folder / "notes"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(name, int(process), float(when)) for kind, name, process, when in lines if kind == what]

    def tried(self) -> Counter[str]:
        return Counter(name for name, _, _ in self.notes("unit"))

    def at_once(self) -> int:
        """The largest number of jobs that computed at the same time."""
        changes = [(when, 1) for _, _, when in self.notes("begin")] + [(when, -1) for _, _, when in self.notes("end")]
        running = most = 0
        for _, change in sorted(changes):
            running += change
            most = max(most, running)
        return most

    def until(self, condition: Callable[[], object], seconds: float = MINUTE) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.05)


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    return Jobs(tmp_path)


def unit(name: str, trials: int = 1, **more: Any) -> dict[str, Any]:
    return {"name": name, "trials": trials, **more}


def units(count: int, **more: Any) -> list[dict[str, Any]]:
    return [unit(f"u{index}", **more) for index in range(count)]


def test_units_are_packed_never_split_and_their_events_arrive(jobs: Jobs) -> None:
    work = [unit("a"), unit("b", 2), unit("c", 2), unit("d", 9), unit("e")]
    jobs.run(work, trials_per_job=3)
    assert [[u["name"] for u in job.units] for job in job_states(jobs.jobs)] == [["a", "b"], ["c"], ["d"], ["e"]]
    assert sorted(jobs.of("unit")) == [(index, index) for index in range(5)]
    assert sorted(jobs.of("result")) == [(index, name, {"value": 1.5}) for index, name in enumerate("abcde")]
    assert jobs.tried() == Counter("abcde")


def test_a_job_can_hold_all(jobs: Jobs) -> None:
    jobs.run(units(3), trials_per_job=100)
    (job,) = job_states(jobs.jobs)
    assert (job.phase, job.state, job.trials, job.trials_done) == ("done", "COMPLETED", 3, 3)
    assert "Job completed successfully" in job.log.with_suffix(".out").read_text()


def test_no_more_jobs_at_once_than_allowed(jobs: Jobs) -> None:
    seen: list[int] = []

    def count(index: int, event: list[Any]) -> None:
        seen.append(sum(job.state == "RUNNING" for job in job_states(jobs.jobs)))

    jobs.run(units(4, seconds=1.5), max_jobs=2, on_event=count)
    assert max(seen) <= 2
    assert jobs.at_once() == 2


def test_a_killed_job_is_submitted_again_with_what_it_left_undone(jobs: Jobs) -> None:
    jobs.run([unit("a"), unit("b", killed="once"), unit("c")], trials_per_job=3)
    assert jobs.tried() == {"a": 1, "b": 2, "c": 1}
    first, second = job_states(jobs.jobs)
    assert (first.state, first.phase, first.resubmitted, first.trials_done) == ("KILLED", "failed", True, 1)
    assert (second.state, [u["name"] for u in second.units]) == ("COMPLETED", ["b", "c"])


def test_a_unit_that_kills_its_jobs_is_given_up_and_the_rest_goes_on(jobs: Jobs) -> None:
    jobs.run([unit("a"), unit("b", killed="always"), unit("c")], trials_per_job=3)
    assert jobs.tried() == {"a": 1, "b": 4, "c": 1}
    ((index, number, message),) = jobs.of("lost")
    assert index == number == 1
    log = message.rpartition("its log: ")[2]
    assert "ended as KILLED 4 times" in message and Path(log).exists()
    assert sorted(jobs.of("unit")) == [(0, 0), (2, 2)]


def test_where_no_job_can_compute_anything_all_is_given_up(jobs: Jobs) -> None:
    jobs.request["broken"] = "yes"
    jobs.run(units(40), max_jobs=3)
    lost = jobs.of("lost")
    assert [index for index, *_ in sorted(lost)] == list(range(40))
    assert "jobs in a row" in lost[-1][2] and "ImportError: no such plugin" in lost[-1][2]
    assert len(job_states(jobs.jobs)) < 20


def test_a_time_out_requeues_a_job(jobs: Jobs) -> None:
    """submitit's local controller sends the signal that Slurm would send before the time limit."""
    jobs.run([unit("a"), unit("b", seconds=30)], trials_per_job=2, time="0.2", signal_delay_s=10)
    assert jobs.tried() == {"a": 1, "b": 2}
    (job,) = job_states(jobs.jobs)
    assert job.phase == "done"
    assert not jobs.notes("swallowed")


def test_too_many_time_outs_do_not_look_like_a_failed_trial(jobs: Jobs) -> None:
    """submitit then raises an Exception out of its signal handler."""
    jobs.run([unit("a", seconds=30)], time="0.2", signal_delay_s=10, max_num_timeout=0)
    assert not jobs.notes("swallowed")
    assert len(job_states(jobs.jobs)) == 2


PARENT = """
import sys
from pathlib import Path
from kempeframe.jobs import JobExecutor
folder = Path(sys.argv[1])
request = {"compute": "toy_jobs:compute_units", "folder": str(folder)}
units = [{"name": f"u{i}", "trials": 1, "seconds": 3.0} for i in range(3)]
executor = JobExecutor(folder / "jobs", sys.argv[2], 1, 2)
assert "torch" not in sys.modules
executor.execute(request, units, lambda index, event: None, 0.1)
"""


def parent(jobs: Jobs, cluster: str) -> subprocess.Popen[bytes]:
    """Another process that runs three units of three seconds."""
    with (jobs.folder / "parent.log").open("w") as log:  # no pipe: its jobs would keep it open
        return subprocess.Popen([sys.executable, "-c", PARENT, jobs.folder, cluster], stdout=log, stderr=log)


def adopt(jobs: Jobs, cluster: Any) -> None:
    """Kill a parent and run the same again: its jobs are taken over."""
    first = parent(jobs, cluster)
    try:
        jobs.until(lambda: len(jobs.tried()) == 2)
    finally:
        first.kill()
        first.wait()
    before = {job.job_id for job in job_states(jobs.jobs) if job.phase == "running"}
    jobs.run(units(3, seconds=3.0), cluster=cluster)
    assert jobs.tried() == {"u0": 1, "u1": 1, "u2": 1}
    assert sorted(jobs.of("unit")) == [(0, 0), (1, 1), (2, 2)]
    assert len(before) == 2 and before < {job.job_id for job in job_states(jobs.jobs)}


def test_a_new_parent_takes_the_jobs_of_a_dead_one_over(jobs: Jobs) -> None:
    adopt(jobs, "local")


def test_jobs_of_another_request_are_cancelled(jobs: Jobs) -> None:
    first = parent(jobs, "local")
    try:
        jobs.until(lambda: len(jobs.tried()) == 2)
    finally:
        first.kill()
        first.wait()
    computing = [process for _, process, _ in jobs.notes("unit")]
    jobs.run([unit("other")])
    assert [job.phase for job in job_states(jobs.jobs)] == ["done"]
    assert not any(Path(f"/proc/{process}").exists() for process in computing)


def test_only_one_process_submits_from_a_folder(jobs: Jobs) -> None:
    first = parent(jobs, "local")
    try:
        jobs.until(lambda: len(jobs.tried()) == 2)
        with pytest.raises(SpecError, match=f"process {first.pid} on .* submits jobs from this folder already"):
            jobs.run(units(3, seconds=3.0))
    finally:
        first.send_signal(signal.SIGINT)
        first.wait()
    assert first.returncode != 0


def test_an_interrupt_cancels_the_jobs(jobs: Jobs) -> None:
    def interrupt(index: int, event: list[Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jobs.run(units(4, seconds=30), on_event=interrupt)
    assert {job.state for job in job_states(jobs.jobs)} == {"CANCELLED"}
    jobs.until(lambda: not any(Path(f"/proc/{process}").exists() for _, process, _ in jobs.notes("begin")), 5)


def test_a_second_run_in_the_folder_takes_nothing_old_for_new(jobs: Jobs) -> None:
    jobs.run(units(2))
    jobs.events.clear()
    jobs.run([unit("u1"), unit("u2")])
    assert sorted(jobs.of("unit")) == [(0, 0), (1, 1)]
    assert jobs.tried() == {"u0": 1, "u1": 1, "u2": 1}
    assert len(job_states(jobs.jobs)) == 2


def test_waves_of_one_executor_all_stand_in_the_status(jobs: Jobs) -> None:
    executor = JobExecutor(jobs.jobs, "local", 1, 2)
    for wave in (["a"], ["b", "c"]):
        executor.execute(jobs.request, [unit(name) for name in wave], lambda index, event: None, POLL)
    assert [[u["name"] for u in job.units] for job in job_states(jobs.jobs)] == [["a"], ["b"], ["c"]]


def test_a_line_that_was_cut_short_is_left_out(jobs: Jobs) -> None:
    from kempeframe.jobfiles import Events, EventWriter

    path = jobs.folder / "events"
    with EventWriter(path) as writer:
        writer.write({"unit": 0, "event": ["result", 1]})
    with path.open("a") as file:
        file.write('{"unit": 0, "ev')
    events = Events(path)
    assert events.read() == [(0, ["result", 1])]
    with EventWriter(path) as writer:
        writer.write({"unit": 0, "event": ["unit", 0]})
    assert events.read() == [(0, ["unit", 0])] and events.finished == [0]


def test_the_status_needs_neither_submitit_nor_torch(jobs: Jobs) -> None:
    jobs.run(units(1))
    code = "import sys; from pathlib import Path; from kempeframe.jobs import job_states;"
    code += "print(job_states(Path(sys.argv[1]))[0].phase); print({'torch', 'submitit', 'numpy'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code, jobs.jobs], capture_output=True, text=True, check=True)
    assert found.stdout.split("\n")[:2] == ["done", "set()"]


def test_a_missing_submitit_is_said(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(SpecError, match=r"needs submitit: pip install 'kempeframe\[slurm\]'"):
        JobExecutor(jobs.jobs, "local", 1, 1)


def test_a_missing_slurm_is_said(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(jobs.folder))
    with pytest.raises(SpecError, match="there is no Slurm on this machine"):
        JobExecutor(jobs.jobs, "slurm", 1, 1)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"time": "1:30:00"}, "--slurm time=1:30:00: expected a number of minutes"),
        ({"signal-delay-s": "-1"}, "--slurm signal_delay_s=-1: expected a number"),
        ({"ntasks": 4}, "--slurm ntasks=...: kempeframe sets it"),
    ],
)
def test_parameters_are_checked(jobs: Jobs, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message.replace(".", r"\.")):
        JobExecutor(jobs.jobs, "local", 1, 1, parameters)


# ----- on a real Slurm


def starts(jobs: Jobs) -> list[str]:
    """For each start of a job its name."""
    found = []
    for path in sorted(jobs.jobs.glob("*.events.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines() if line]
        found += [path.name.partition(".")[0]] * sum("start" in line for line in lines)
    return found


def test_slurm_computes_units_in_an_array_of_jobs(slurm: None, jobs: Jobs) -> None:
    jobs.run(units(5), cluster="slurm", trials_per_job=2, max_jobs=2, partition="normal", mem="100M")
    assert sorted(jobs.of("unit")) == [(index, index) for index in range(5)]
    states = job_states(jobs.jobs)
    assert [(job.phase, job.trials, job.state) for job in states] == [
        ("done", 2, "COMPLETED"),
        ("done", 2, "COMPLETED"),
        ("done", 1, "COMPLETED"),
    ]
    assert [job.job_id.partition("_")[2] for job in states] == ["0", "1", ""]
    assert all(job.log.exists() for job in states)
    assert jobs.at_once() <= 2


def test_slurm_says_what_it_refuses(slurm: None, jobs: Jobs) -> None:
    with pytest.raises(SpecError, match="invalid partition"):
        jobs.run(units(1), cluster="slurm", partition="nowhere")


def test_slurm_scancel_submits_again(slurm: None, jobs: Jobs) -> None:
    def cancel(index: int, event: list[Any]) -> None:
        if event == ["current", "b"] and jobs.tried()["b"] == 1:
            (job,) = job_states(jobs.jobs)
            assert job.phase == "running" and job.trials_done == 1
            subprocess.run(["scancel", job.job_id], check=True)

    jobs.run([unit("a"), unit("b", seconds=30)], cluster="slurm", trials_per_job=2, on_event=cancel)
    first, second = job_states(jobs.jobs)
    assert (first.state, first.resubmitted, second.state) == ("CANCELLED", True, "COMPLETED")
    assert jobs.tried() == {"a": 1, "b": 2}


@pytest.mark.slow
def test_slurm_gives_a_unit_up_that_kills_its_jobs(slurm: None, jobs: Jobs) -> None:
    jobs.run([unit("a", killed="always"), unit("b")], cluster="slurm", trials_per_job=2)
    ((_, _, message),) = jobs.of("lost")
    assert "ended as FAILED 4 times" in message
    assert jobs.tried() == {"a": 4, "b": 1}
    assert jobs.of("unit") == [(1, 1)]


@pytest.mark.slow
def test_slurm_takes_the_jobs_of_a_dead_parent_over(slurm: None, jobs: Jobs) -> None:
    adopt(jobs, "slurm")


def test_slurm_an_interrupt_cancels_the_jobs(slurm: None, jobs: Jobs) -> None:
    def interrupt(index: int, event: list[Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jobs.run(units(4, seconds=60), cluster="slurm", on_event=interrupt)
    assert {job.state for job in job_states(jobs.jobs)} == {"CANCELLED"}
    jobs.until(lambda: not subprocess.run(["squeue", "-h"], capture_output=True, check=True).stdout, 20)


@pytest.mark.slow
def test_slurm_requeues_a_job_that_times_out(slurm: None, jobs: Jobs) -> None:
    """The signal comes 45 seconds before the limit of a minute (Slurm is free to send it a little early)."""
    work = [unit("a"), unit("b", seconds=50)]
    jobs.run(work, cluster="slurm", trials_per_job=2, time=1, signal_delay_s=45)
    assert jobs.tried() == {"a": 1, "b": 2}
    (job,) = job_states(jobs.jobs)
    assert job.phase == "done" and starts(jobs) == [job.name] * 2
    assert "this job is timed-out" in job.log.read_text()
    assert not jobs.notes("swallowed")


@pytest.mark.slow
def test_slurm_requeues_a_job_that_another_one_preempts(slurm: None, jobs: Jobs) -> None:
    def preempt(index: int, event: list[Any]) -> None:
        if event == ["current", "b"] and jobs.tried()["b"] == 1:
            wrap = ["sbatch", "--partition=normal", "--ntasks=2", "--output=/dev/null", "--wrap=sleep 2"]
            subprocess.run(wrap, check=True, capture_output=True)

    work = [unit("a"), unit("b", seconds=60)]
    jobs.run(work, cluster="slurm", trials_per_job=2, on_event=preempt, partition="scavenge")
    assert jobs.tried() == {"a": 1, "b": 2}
    (job,) = job_states(jobs.jobs)
    assert job.phase == "done" and starts(jobs) == [job.name] * 2
    assert "DUE TO PREEMPTION" in job.log.read_text()
