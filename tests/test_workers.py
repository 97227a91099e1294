"""Trials side by side: the same results, nothing lost when a process dies, shared fits computed once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kempeframe.cli import main
from kempeframe.computing import Options
from kempeframe.pool import WorkerError, WorkerPool
from kempeframe.spec import load_spec
from kempeframe.store import Store
from kempeframe.study import Progress, Study, run_study

HERE = Path(__file__).parent
SPEC = """
seeds = 4
plugins = ["toy_plugin.py"]
data = { use = "toy_plugin.numbers" }
model = { use = "toy_plugin.scalar" }
optimizer = { use = "toy_plugin.recorded" }
[[evaluator]]
use = "toy_plugin.weight"
[[evaluator]]
use = "toy_plugin.truth"
[sweep]
"data.shift" = [0.0, 1.0, 2.0]
"""
NESTED = """
[fit.first]
data = { use = "toy_plugin.numbers", shift = 100.0 }
model = { use = "toy_plugin.scalar" }
optimizer = { use = "toy_plugin.recorded", log = "LOG" }
"""


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    shutil.copy(HERE / "toy_plugin.py", tmp_path / "toy_plugin.py")
    path = tmp_path / "toy.toml"
    path.write_text(SPEC)
    return path


class Said(Progress):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def say(self, text: str) -> None:
        self.words.append(text)


def study(path: Path, *overrides: str, jobs: int = 2, said: Said | None = None, store: str = "store") -> Study:
    spec = load_spec(path, overrides)
    return run_study(spec, Store(path.parent / store), Options(threads=1), said, WorkerPool(jobs))


def column(done: Study, name: str) -> list[object]:
    return done.rows.columns[name]


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_results_are_the_same_for_any_number_of_processes(spec_file: Path) -> None:
    tables = []
    for jobs in (1, 2, 3):
        done = study(spec_file, jobs=jobs, store=f"store {jobs}")
        columns = {name: values for name, values in done.rows.columns.items() if name != "fit_seconds"}
        tables.append((columns, done.computed))
    assert tables[0] == tables[1] == tables[2]
    assert tables[0][1] == 12


def test_the_work_is_shared(spec_file: Path, tmp_path: Path) -> None:
    study(spec_file, f"optimizer.log={str(tmp_path / 'log')!r}", "optimizer.seconds=0.1")
    pids = [line.split()[0] for line in lines(tmp_path / "log")]
    assert len(pids) == 12
    assert len(set(pids)) == 2
    assert str(os.getpid()) not in pids


def test_a_killed_worker_is_replaced_and_its_trial_computed_again(spec_file: Path, tmp_path: Path) -> None:
    said = Said()
    done = study(spec_file, f"optimizer.kill={str(tmp_path / 'killed')!r}", said=said)
    assert column(done, "status") == ["done"] * 12
    assert any("SIGKILL" in words for words in said.words)


def test_a_trial_that_always_kills_its_process_fails_alone(spec_file: Path) -> None:
    done = study(spec_file, 'sweep."optimizer.kill"=["", "always"]', "data.shift=0.0", "seeds=2")
    assert column(done, "status") == ["done"] * 2 + ["failed"] * 2
    assert "ended 3 times (signal SIGKILL)" in done.failures[0].error


def test_what_a_component_prints_is_passed_on(spec_file: Path) -> None:
    said = Said()
    study(spec_file, "optimizer.words='hello there'", "seeds=1", said=said)
    assert any("hello there" in words for words in said.words)


def test_a_failure_in_a_worker_has_its_traceback(spec_file: Path) -> None:
    done = study(spec_file, 'sweep."optimizer.fail"=[false, true]', "data.shift=0.0", "seeds=2")
    assert column(done, "status") == ["done"] * 2 + ["failed"] * 2
    assert "told to fail" in done.failures[0].error
    assert "toy_plugin.py" in done.failures[0].traceback


def test_a_nested_fit_is_computed_once_and_first(spec_file: Path, tmp_path: Path) -> None:
    text = SPEC.replace('"toy_plugin.numbers" }', '"toy_plugin.numbers", teacher = "first" }')
    spec_file.write_text(text + NESTED.replace("LOG", str(tmp_path / "log")))
    done = study(spec_file)
    assert column(done, "status") == ["done"] * 12
    assert len(lines(tmp_path / "log")) == 4  # once for each seed, not for each trial
    assert done.computed == 16


def test_a_chain_of_hundreds_of_rounds_is_no_recursion(spec_file: Path) -> None:
    rounds = """
[fit.round]
rounds = 400
data = { use = "toy_plugin.numbers", teacher = "round.previous" }
model = { use = "toy_plugin.scalar" }
optimizer = { use = "toy_plugin.copy" }
"""
    text = SPEC.replace('"toy_plugin.numbers" }', '"toy_plugin.numbers", teacher = "round" }').replace("seeds = 4", "")
    spec_file.write_text(text + rounds)
    done = study(spec_file, "data.shift=0.0", jobs=1)
    assert column(done, "status") == ["done"]
    assert done.computed == 401


def test_a_failed_nested_fit_fails_those_that_hold_it_by_name(spec_file: Path, tmp_path: Path) -> None:
    text = SPEC.replace('"toy_plugin.numbers" }', '"toy_plugin.numbers", teacher = "first" }')
    spec_file.write_text(text + NESTED.replace('log = "LOG"', "fail = true"))
    done = study(spec_file)
    assert column(done, "status") == ["failed"] * 12
    assert "the fit it holds, first, failed: fit: RuntimeError: told to fail" in done.failures[0].error


def test_a_plugin_that_changes_during_the_run_is_noticed(spec_file: Path) -> None:
    spec = load_spec(spec_file)
    plugin = spec_file.parent / "toy_plugin.py"
    plugin.write_text(plugin.read_text().replace("self.shift + float(", "self.shift - float("))
    with pytest.raises(WorkerError, match="was changed while the study ran"):
        run_study(spec, Store(spec_file.parent / "store"), Options(), None, WorkerPool(2))


def command(path: Path, *more: str) -> list[str]:
    folder = path.parent
    store = ["--store", str(folder / "store"), "--out", str(folder / "out")]
    return [sys.executable, "-m", "kempeframe", "run", str(path), *store, *more]


def wait_for(condition: object, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_workers_end_with_a_parent_that_is_killed_and_nothing_is_lost(spec_file: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    slow = [f"--set=optimizer.log={str(log)!r}", "--set=optimizer.seconds=0.15", "--jobs", "2"]
    parent = subprocess.Popen(command(spec_file, *slow), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(lines(log)) >= 3)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    workers = {int(line.split()[0]) for line in lines(log)}
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    finished = len(lines(log))
    assert finished < 12
    assert subprocess.run(command(spec_file, *slow), stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert 12 <= len(lines(log)) <= 14  # a fit that was done but not yet stored when its process ended may come twice
    assert len(Store(tmp_path / "store").fits.index) == 12


def test_two_studies_compute_what_they_share_once(spec_file: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    slow = [f"--set=optimizer.log={str(log)!r}", "--set=optimizer.seconds=0.1", "--jobs", "2"]
    both = []
    for name in ("one", "two"):
        arguments = [*command(spec_file, *slow), "--out", str(tmp_path / name)]
        both.append(subprocess.Popen(arguments, stdout=subprocess.DEVNULL))
    assert [process.wait() for process in both] == [0, 0]
    assert len(lines(log)) == 12
    tables = [(tmp_path / name / "table.csv").read_bytes() for name in ("one", "two")]
    assert tables[0] == tables[1]


def test_an_interrupted_fit_goes_on_from_its_checkpoint(spec_file: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    text = SPEC.replace("toy_plugin.recorded", "toy_plugin.counting").replace("seeds = 4", "seeds = 1")
    spec_file.write_text(text)
    changes = [f"optimizer.log={str(log)!r}", "optimizer.steps=120", "optimizer.every=40", "data.shift=0.0"]
    options = Options(checkpoint_seconds=0.05)
    store = tmp_path / "store"

    class Broken(BaseException):
        pass

    class Breaking(Progress):
        def start(self, trials: int, stored: int) -> None:
            threading.Thread(target=breaker, daemon=True).start()

    def breaker() -> None:
        wait_for(lambda: len(lines(log)) >= 60)
        os.kill(os.getpid(), signal.SIGUSR1)

    def stop(number: int, frame: object) -> None:
        raise Broken

    before = signal.signal(signal.SIGUSR1, stop)
    try:
        with pytest.raises(Broken):
            run_study(load_spec(spec_file, changes), Store(store), options, Breaking())
    finally:
        signal.signal(signal.SIGUSR1, before)
    interrupted = len(lines(log))
    done = run_study(load_spec(spec_file, changes), Store(store), options)
    steps = [int(line) for line in lines(log)]
    assert 60 <= interrupted < 120
    assert steps[interrupted] > 1, "began anew"
    assert steps[-1] == 120
    assert column(done, "weight") == [120.0]
    assert done.snapshots.columns["step"] == [40, 80, 120]
    assert done.snapshots.columns["weight.weight"] == [40.0, 80.0, 120.0]


def test_status_of_a_run(spec_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = ["--set=optimizer.seconds=0.5", "--jobs", "2"]
    parent = subprocess.Popen(command(spec_file, *slow), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    status = tmp_path / "out" / "status.json"
    wait_for(lambda: status.exists() and json.loads(status.read_text())["done"] > 0)
    assert main(["status", str(tmp_path / "out")]) == 0
    running = capsys.readouterr().out
    assert "running for" in running
    assert "now      shift=" in running
    parent.kill()
    parent.wait()
    assert main(["status", str(tmp_path / "out")]) == 4
    assert "is gone" in capsys.readouterr().out
    failing = command(spec_file, "--set=optimizer.fail=true", "--jobs", "2")
    assert subprocess.run(failing, capture_output=True, check=False).returncode == 3
    assert main(["status", str(tmp_path / "out")]) == 3
    shown = capsys.readouterr().out
    assert "12 of them failed" in shown
    assert "failed   data.shift = 0.0, seed 0: fit: RuntimeError: told to fail" in shown


def test_status_of_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tmp_path)]) == 2
    assert "expected a run directory" in capsys.readouterr().err


def test_a_unit_of_more_seeds_gives_the_table_of_a_run_from_nothing(tmp_path: Path) -> None:
    spec = tmp_path / "stack.toml"
    spec.write_text("""
seeds = 3
data = { use = "standard.digits", n_train = 64, n_test = 100 }
model = { use = "standard.mlp", width = 16 }
optimizer = { use = "standard.sgd", learning_rate = 0.5, steps = 40, snapshots = [20] }
[[evaluator]]
use = "standard.test_error"
""")
    run_study(load_spec(spec), Store(tmp_path / "one"))
    grown = run_study(load_spec(spec, seeds=5), Store(tmp_path / "one"))
    whole = run_study(load_spec(spec, seeds=5), Store(tmp_path / "two"))
    assert grown.snapshots.columns == whole.snapshots.columns
    assert column(grown, "test_error") == column(whole, "test_error")


def test_a_stored_network_comes_back_in_evaluation_mode(tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text("""
data = { use = "standard.digits", n_train = 64, n_test = 100 }
model = { use = "standard.mlp", width = 16, dropout = 0.5 }
optimizer = { use = "standard.sgd", steps = 3 }
[[evaluator]]
use = "standard.test_error"
""")
    fresh = run_study(load_spec(spec), Store(tmp_path / "store"))
    later = load_spec(spec, ['evaluator.test_error.use="standard.test_loss"'])
    again = run_study(later, Store(tmp_path / "store"))
    assert again.computed == 0
    assert not again.fitted(0).network.training
    assert not fresh.fitted(0).network.training


def test_a_fit_in_the_trials_attack_is_computed_before(tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text("""
data = { use = "standard.digits", n_train = 64, n_test = 50 }
model = { use = "standard.mlp", width = 8 }
optimizer = { use = "standard.sgd", steps = 5 }
attack = { use = "standard.transfer", fit = "other", attack = { use = "standard.fgsm", epsilon = 0.2 } }
[fit.other]
data = { use = "standard.digits", n_train = 64, n_test = 50 }
model = { use = "standard.mlp", width = 9 }
optimizer = { use = "standard.sgd", steps = 5 }
[[evaluator]]
use = "standard.robust_accuracy"
""")
    done = run_study(load_spec(spec), Store(tmp_path / "store"))
    assert column(done, "status") == ["done"]
    assert done.computed == 2
