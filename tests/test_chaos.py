"""Processes killed at random and in their writes, stores damaged, disks filled: the tables are those of a quiet run."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kempeframe.checkpoints import StoredCheckpoints
from kempeframe.computing import Options
from kempeframe.digest import join
from kempeframe.outputs import RunDirectory
from kempeframe.plan import certificate_key, step_key
from kempeframe.pool import WorkerPool
from kempeframe.processes import unique_name
from kempeframe.spec import load_spec
from kempeframe.store import Store
from kempeframe.study import Study, run_study

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tools"))

from chaos import Chaos  # noqa: E402

TRAJECTORY = """
seeds = 2
plugins = ["toy_plugin.py"]
data = { use = "toy_plugin.numbers" }
model = { use = "toy_plugin.scalar" }
optimizer = { use = "toy_plugin.counting", steps = 9, every = 3 }
[[evaluator]]
use = "toy_plugin.weight"
"""
WHO = "import os; from kempeframe.processes import unique_name; print(os.getpid(), unique_name())"
TOGETHER = """
seeds = 2
plugins = ["chaos_plugin.py"]
data = { use = "chaos_plugin.number" }
model = { use = "chaos_plugin.weights" }
optimizer = { use = "chaos_plugin.joined" }
[[evaluator]]
use = "chaos_plugin.weight"
[sweep]
"optimizer.deadly" = [false, true]
"""
LATER = """
[[evaluator]]
use = "toy_plugin.weight"
name = "later"
offset = 5.0
"""


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> Chaos:
    return Chaos(tmp_path_factory.mktemp("study") / "chaos", seed=0, size=0.3)


def check(chaos: Chaos) -> None:
    print(chaos.tally)
    assert (chaos.tally.lost, chaos.tally.wrong, chaos.tally.problems) == (0, 0, [])


def test_twenty_kills_cost_no_row(chaos: Chaos) -> None:
    chaos.one_store(20)
    check(chaos)
    assert chaos.tally.total >= 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_hundreds_of_kills_cost_no_row(tmp_path: Path, seed: int) -> None:
    chaos = Chaos(tmp_path / "chaos", seed)
    for _ in range(6):
        chaos.one_store(20)
    check(chaos)
    assert chaos.tally.total >= 120


def test_a_disk_that_is_full_for_a_while_costs_no_row(chaos: Chaos) -> None:
    try:
        chaos.full_disk()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small file system can't be mounted here: {error}")
    check(chaos)
    assert chaos.tally.full == 1


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    shutil.copy(HERE / "toy_plugin.py", tmp_path / "toy_plugin.py")
    path = tmp_path / "toy.toml"
    path.write_text(TRAJECTORY)
    return path


def study(path: Path) -> Study:
    return run_study(load_spec(path), Store(path.parent / "store"))


def forget(folder: Path, keys: set[str]) -> None:
    """Damage records of results."""
    results = Store(folder / "store").results
    for key in keys:
        record = results.index[bytes.fromhex(key)]
        with open(record.segment.file, "r+b") as file:
            file.seek(record.offset)
            file.write(b"\0\0")


@pytest.mark.parametrize("what", ["snapshot", "all snapshots", "certificate", "everything"])
def test_results_at_snapshots_that_are_lost_come_again(spec_file: Path, tmp_path: Path, what: str) -> None:
    done = study(spec_file)
    history = done.snapshots.columns
    assert len(history["step"]) == 6
    key = next(iter(done.plan.fits))
    steps = {step_key(cell.key, step) for cell in done.plan.cells_of[key] for step in (3, 6, 9)}
    cells = {cell.key for cell in done.plan.cells_of[key]}
    lost = {
        "snapshot": {min(steps)},
        "all snapshots": steps,
        "certificate": {certificate_key(key)},
        "everything": {*steps, *cells, certificate_key(key)},
    }
    forget(tmp_path, lost[what])
    again = study(spec_file)
    assert again.snapshots.columns == history
    assert again.computed == 1
    assert study(spec_file).computed == 0


def test_an_evaluator_that_is_added_later_fits_nothing_again(spec_file: Path) -> None:
    study(spec_file)
    spec_file.write_text(TRAJECTORY + LATER)
    for _ in range(2):
        done = study(spec_file)
        assert done.computed == 0
        assert done.snapshots.columns["later.weight"] == [None, None, 14.0] * 2
        assert done.snapshots.columns["weight.weight"] == [3.0, 6.0, 9.0] * 2


def test_a_checkpoint_is_of_no_use_without_the_results_on_the_way(spec_file: Path, tmp_path: Path) -> None:
    """The rest of the fit would not bring them back."""
    log = tmp_path / "log"
    spec_file.write_text(TRAJECTORY.replace("steps = 9, every = 3", f'steps = 200, every = 2, log = "{log}"'))
    spec = load_spec(spec_file, ["seeds=1"])
    importlib.import_module("torch")  # the limit is for the fit alone
    stopped = run_study(spec, Store(tmp_path / "store"), Options(checkpoint_seconds=0.0, time_limit=1.5))
    assert "longer than the time limit" in stopped.failures[0].error
    ((key, cells),) = stopped.plan.cells_of.items()
    checkpoints = StoredCheckpoints(Store(tmp_path / "store").checkpoints, join("checkpoint", key))
    assert checkpoints.load() is not None
    assert 2 in checkpoints.notes[key]
    forget(tmp_path, {step_key(cell.key, 2) for cell in cells})
    log.unlink()
    done = run_study(spec, Store(tmp_path / "store"))
    assert len(log.read_text().splitlines()) == 200
    assert done.snapshots.columns["weight.weight"] == [2.0 * i for i in range(1, 101)]


def test_what_is_computed_together_is_never_computed_in_parts(tmp_path: Path) -> None:
    """Not even when its process is killed again and again: there would be wrong results in the store."""
    shutil.copy(HERE / "chaos_plugin.py", tmp_path / "chaos_plugin.py")
    spec_file = tmp_path / "spec.toml"
    spec_file.write_text(TOGETHER)
    done = run_study(load_spec(spec_file), Store(tmp_path / "store"), Options(threads=1), None, WorkerPool(2))
    assert done.rows.columns["status"] == ["done"] * 2 + ["failed"] * 2
    assert "ended 3 times (signal SIGKILL)" in done.failures[0].error
    assert len(set(Store(tmp_path / "store").fits.keys())) == 2


def test_what_killed_processes_left_in_a_run_directory_goes(tmp_path: Path) -> None:
    dead, name = subprocess.run([sys.executable, "-c", WHO], capture_output=True, text=True, check=True).stdout.split()
    left = [tmp_path / f"needs.bin.{name}.part", tmp_path / f"status.{dead}.part"]
    living = [tmp_path / f"needs.bin.{unique_name()}.part", tmp_path / f"status.{os.getpid()}.part"]
    for path in (*left, *living):
        path.touch()
    os.utime(left[1], (1e9, 1e9))
    Store(tmp_path / "store").register(tmp_path, [])
    assert set(tmp_path.glob("*.part")) == set(living)


def test_a_run_directory_that_was_left_half_written_is_written_anew(
    spec_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    one, other = (run_study(load_spec(spec_file, [f"evaluator.weight.offset={i}"]), store) for i in (0, 1))
    RunDirectory(tmp_path / "out").write(one)
    right = (tmp_path / "out" / "table.csv").read_bytes()

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kempeframe.outputs.write_json", end)
        with pytest.raises(KeyboardInterrupt):
            RunDirectory(tmp_path / "out").write(other)
    RunDirectory(tmp_path / "out").write(one)
    assert (tmp_path / "out" / "table.csv").read_bytes() == right
