"""A study: stored, resumed, shared; failures are kept and do not stop it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kempeframe.cli import main
from kempeframe.predicted import predicted_table
from kempeframe.spec import load_spec
from kempeframe.store import Store
from kempeframe.study import Options, Progress, Study, run_study

HERE = Path(__file__).parent
SPEC = """
seeds = 4
plugins = ["toy_plugin.py"]
[data]
use = "toy_plugin.numbers"
[model]
use = "toy_plugin.scalar"
[optimizer]
use = "toy_plugin.copy"
[[evaluator]]
use = "toy_plugin.weight"
[[evaluator]]
use = "toy_plugin.truth"
[[evaluator]]
use = "toy_plugin.prediction"
[sweep]
"data.shift" = [0.0, 1.0, 2.0]
"""


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    shutil.copy(HERE / "toy_plugin.py", tmp_path / "toy_plugin.py")
    path = tmp_path / "toy.toml"
    path.write_text(SPEC)
    return path


def study(path: Path, *overrides: str, seeds: int | None = None, options: Options = Options()) -> Study:
    return run_study(load_spec(path, overrides, seeds=seeds), Store(path.parent / "store"), options)


def column(done: Study, name: str) -> list[object]:
    return done.rows.columns[name]


def test_a_row_joins_fit_theory_and_task(spec_file: Path) -> None:
    done = study(spec_file)
    assert len(done.rows) == 12
    assert column(done, "status") == ["done"] * 12
    assert column(done, "weight") == column(done, "weight.weight")
    assert column(done, "weight.weight") == pytest.approx(column(done, "truth.truth"))
    assert column(done, "prediction.weight") == column(done, "data.shift")
    assert column(done, "converged") == [True] * 12


def test_trials_of_one_seed_share_their_random_numbers(spec_file: Path) -> None:
    done = study(spec_file)
    truths = column(done, "truth.truth")
    assert [b - a for a, b in zip(truths[:4], truths[4:8], strict=True)] == pytest.approx([1.0] * 4)
    assert len(set(truths[:4])) == 4


def test_a_rerun_computes_nothing(spec_file: Path) -> None:
    first = study(spec_file)
    again = study(spec_file)
    assert (first.computed, again.computed) == (12, 0)
    assert again.rows.columns == first.rows.columns


def test_fresh_computes_everything_again_with_the_same_result(spec_file: Path) -> None:
    first = study(spec_file)
    again = study(spec_file, options=Options(fresh=True))
    assert again.computed == 12
    assert column(again, "weight") == column(first, "weight")


def test_a_new_value_of_an_axis_computes_only_what_is_new(spec_file: Path) -> None:
    study(spec_file)
    assert study(spec_file, 'sweep."data.shift"=[0.0, 1.0, 2.0, 3.0]').computed == 4
    assert study(spec_file, seeds=6).computed == 6


def test_a_changed_evaluator_does_not_refit(spec_file: Path) -> None:
    first = study(spec_file)
    changed = study(spec_file, "evaluator.weight.offset=10.0")
    assert changed.computed == 0
    assert column(changed, "weight") == pytest.approx([w + 10 for w in column(first, "weight")])


def test_results_do_not_depend_on_the_order_or_on_what_was_stored(spec_file: Path) -> None:
    parts = study(spec_file, "data.shift=1.0")
    whole = study(spec_file)
    shutil.rmtree(spec_file.parent / "store")
    alone = study(spec_file)
    assert whole.rows.columns["weight"] == alone.rows.columns["weight"]
    assert parts.rows.columns["weight"] == alone.rows.columns["weight"][4:8]


def test_a_failing_fit_fails_its_trials_alone_and_is_tried_again(spec_file: Path) -> None:
    done = study(spec_file, 'sweep."optimizer.fail"=[false, true]', "data.shift=0.0")
    assert column(done, "status") == ["done"] * 4 + ["failed"] * 4
    assert "told to fail" in done.failures[0].error
    assert "RuntimeError" in done.failures[0].traceback
    assert len(study(spec_file, 'sweep."optimizer.fail"=[false, true]', "data.shift=0.0").failures) == 4


def test_a_failing_evaluator_fails_its_trials_and_keeps_the_fits(spec_file: Path) -> None:
    done = study(spec_file, "evaluator.weight.fail=true")
    assert column(done, "status") == ["failed"] * 12
    assert study(spec_file).computed == 0


def test_a_trial_that_takes_too_long_fails(spec_file: Path) -> None:
    start = time.monotonic()
    done = study(spec_file, "optimizer.seconds=60", "data.shift=0.0", seeds=2, options=Options(time_limit=0.2))
    assert time.monotonic() - start < 20
    assert "time limit of 0.2 s" in done.failures[0].error


def test_running_out_of_memory_ends_the_trial_not_the_study(spec_file: Path) -> None:
    done = study(spec_file, 'sweep."optimizer.gigabytes"=[0.0, 1e6]', "data.shift=0.0", seeds=1)
    assert column(done, "status") == ["done", "failed"]


def test_fits_computed_together_are_computed_whole(spec_file: Path) -> None:
    overrides = ["optimizer.use='toy_plugin.together'", "data.shift=0.0"]
    study(spec_file, *overrides)
    store = Store(spec_file.parent / "store")
    store.fits.index.popitem()  # one fit of the unit is lost
    again = run_study(load_spec(spec_file, [*overrides, "evaluator.weight.offset=1.0"]), store)
    assert type(again.spec.configurations[0].optimizer).sizes == [4]  # type: ignore[union-attr]
    assert column(again, "status") == ["done"] * 4


def test_trials_that_are_computed_again_with_others_are_counted_once(spec_file: Path) -> None:
    class Counting(Progress):
        done = stored = 0

        def start(self, trials: int, stored: int) -> None:
            self.stored = stored

        def advance(self, trials: int) -> None:
            self.done += trials

    overrides = ["optimizer.use='toy_plugin.together'", "data.shift=0.0"]
    study(spec_file, *overrides, seeds=2)
    progress = Counting()
    again = run_study(load_spec(spec_file, overrides), Store(spec_file.parent / "store"), progress=progress)
    assert type(again.spec.configurations[0].optimizer).sizes == [4]  # type: ignore[union-attr]
    assert (progress.stored, progress.done) == (2, 2)


def test_nested_fits_are_stored_and_shared(spec_file: Path) -> None:
    text = SPEC.replace('use = "toy_plugin.numbers"', 'use = "toy_plugin.numbers"\nteacher = "first"') + (
        '\n[fit.first]\ndata = { use = "toy_plugin.numbers", shift = 100.0 }\n'
        'model = { use = "toy_plugin.scalar" }\noptimizer = { use = "toy_plugin.copy" }\n'
    )
    spec_file.write_text(text)
    done = study(spec_file)
    assert all(90 < value < 120 for value in column(done, "weight"))
    store = Store(spec_file.parent / "store")
    assert len(list(store.fits.keys())) == 12 + 4  # one teacher for each seed, whatever the shift


def test_a_fitted_network_comes_back(spec_file: Path) -> None:
    done = study(spec_file)
    fitted = done.fitted(5)
    assert float(fitted.network.weight.detach()) == pytest.approx(column(done, "weight")[5])


def test_every_snapshot_of_a_trajectory_is_evaluated_as_it_comes(spec_file: Path) -> None:
    overrides = ("optimizer.use='toy_plugin.halving'", "optimizer.steps=3", "data.shift=0.0")
    for repeat in range(2):  # computed, then from the store
        done = study(spec_file, *overrides, seeds=2)
        assert done.computed == (0 if repeat else 2)
        history = done.snapshots.columns
        assert history["step"] == [1, 2, 3] * 2
        truth = history["truth.truth"]
        parts = [0.5, 0.75, 0.875] * 2
        parts = [0.5, 0.75, 0.875] * 2
        wanted = [t * part for t, part in zip(truth, parts, strict=True)]
        assert history["weight"] == pytest.approx(wanted)
        assert column(done, "weight") == pytest.approx(history["weight"][2::3])
        assert column(done, "steps") == [3, 3]


LARGEST = """
[[evaluator]]
use = "toy_plugin.largest"
of = { use = "toy_plugin.weight", offset = 5.0 }
"""


def test_an_evaluator_of_a_trajectory_reduces_what_another_measured(spec_file: Path) -> None:
    overrides = ("optimizer.use='toy_plugin.halving'", "optimizer.steps=3", "data.shift=0.0")
    spec_file.write_text(SPEC + LARGEST + LARGEST.replace("[[evaluator]]", '[[evaluator]]\nname = "second"'))
    for repeat in range(2):  # computed, then from the store
        done = study(spec_file, *overrides, seeds=2)
        assert done.computed == (0 if repeat else 2)
        weights = np.array(done.snapshots.columns["weight"]).reshape(2, 3)
        assert column(done, "largest.largest") == pytest.approx((weights.max(axis=1) + 5).tolist())
        assert column(done, "second.largest") == column(done, "largest.largest")
        assert column(done, "second.looks") == [3, 3]
        assert done.snapshots.columns["second.looks"] == [None, None, 3] * 2


def test_of_a_fit_without_snapshots_it_sees_the_last(spec_file: Path) -> None:
    spec_file.write_text(SPEC + LARGEST)
    done = study(spec_file, seeds=2)
    assert column(done, "looks") == [1] * 6
    assert column(done, "largest") == pytest.approx([w + 5 for w in column(done, "weight")])  # type: ignore[operator]


def test_what_nobody_measured_on_the_way_is_fitted_again(spec_file: Path) -> None:
    overrides = ("optimizer.use='toy_plugin.halving'", "optimizer.steps=3", "data.shift=0.0")
    study(spec_file, *overrides, seeds=2)
    spec_file.write_text(SPEC + LARGEST)
    assert study(spec_file, *overrides, seeds=2).computed == 2
    spec_file.write_text(SPEC + LARGEST.replace("[[evaluator]]", '[[evaluator]]\nname = "b"'))
    assert study(spec_file, *overrides, seeds=2).computed == 0  # the same under another name


def run_cli(path: Path, *arguments: str) -> int:
    folder = path.parent
    return main(["run", str(path), "--store", str(folder / "store"), "--out", str(folder / "out"), *arguments])


def test_the_run_directory(spec_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec_file.write_text(
        SPEC
        + '[[figure]]\nname = "weights"\nx = "data.shift"\ny = "weight"\ntheory = "prediction.weight"\n'
        + '[[claim]]\nstatement = "grows"\n'
        + 'monotone = { of = "weight", along = "data.shift", direction = "increasing" }\n'
        + '[[claim]]\nstatement = "far too large"\nthreshold = { of = "weight" }\nbelow = -50\n'
    )
    assert run_cli(spec_file) == 0
    assert run_cli(spec_file, "--strict") == 1
    out = spec_file.parent / "out"
    tables = ("table.csv", "table.parquet", "history.parquet")
    for name in (*tables, "claims.json", "spec.toml", "environment.json", "figures/weights.png"):
        assert (out / name).stat().st_size > 0
    assert (out / "figures" / "weights.pdf").read_bytes().startswith(b"%PDF")
    assert [claim["verdict"] for claim in json.loads((out / "claims.json").read_text())] == ["holds", "fails"]
    printed = capsys.readouterr().out
    assert "fails" in printed
    assert "\x1b[" not in printed  # piped output stays plain


def test_measured_beside_predicted(spec_file: Path) -> None:
    rows = predicted_table(study(spec_file))
    assert rows is not None
    assert rows.columns["data.shift"] == [0.0, 1.0, 2.0]
    assert rows.columns["predicted"] == [0.0, 1.0, 2.0]
    assert rows.columns["metric"] == ["weight.weight"] * 3
    assert rows.columns["ratio"][1:] == pytest.approx(
        [rows.columns["measured"][i] / rows.columns["predicted"][i] for i in (1, 2)]
    )
    assert all(a < b < c for a, b, c in zip(*(rows.columns[k] for k in ("low", "measured", "high")), strict=True))


def test_the_written_spec_runs_again_from_the_store(spec_file: Path) -> None:
    assert run_cli(spec_file, "--set", "data.shift=7.0") == 0
    resolved = spec_file.parent / "out" / "spec.toml"
    again = run_study(load_spec(resolved), Store(spec_file.parent / "store"))
    assert again.computed == 0
    assert column(again, "data.shift") == [7.0] * 4


def test_unchanged_results_are_not_written_again(spec_file: Path) -> None:
    run_cli(spec_file)
    table = spec_file.parent / "out" / "table.csv"
    before = table.stat().st_mtime_ns
    run_cli(spec_file)
    assert table.stat().st_mtime_ns == before
    run_cli(spec_file, "--seeds", "2")
    assert table.stat().st_mtime_ns > before


def test_failed_trials_give_exit_code_3_and_are_kept(spec_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(spec_file, "--set", "optimizer.fail=true") == 3
    failures = json.loads((spec_file.parent / "out" / "failures.json").read_text())
    assert len(failures) == 12
    assert "told to fail" in failures[0]["error"]
    said = capsys.readouterr()
    assert "told to fail" in said.err and "from the store" not in said.out, "nothing was done"
    assert run_cli(spec_file) == 0
    assert not (spec_file.parent / "out" / "failures.json").exists()


def test_ctrl_c_stops_within_a_second_and_the_run_goes_on(spec_file: Path) -> None:
    command = [sys.executable, "-m", "kempeframe", "run", str(spec_file), "--store", str(spec_file.parent / "store")]
    command += ["--out", str(spec_file.parent / "out"), "--set", 'sweep."optimizer.seconds"=[0.0, 60.0]']
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ)
    segments = spec_file.parent / "store" / "fits"
    deadline = time.monotonic() + 60
    while not (segments.exists() and any(segments.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - sent < 20  # the trial at hand would take 60 seconds
    assert process.returncode == 130
    assert "goes on from there" in errors
    rest = study(spec_file, "optimizer.seconds=0.0")
    assert rest.computed < 12  # what was finished is stored
    assert column(rest, "status") == ["done"] * 12
