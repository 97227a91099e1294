"""Several processes under Accelerate: the table of one, closed-form fits dealt out, networks trained together."""

from __future__ import annotations

import csv
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TOY = """
seeds = 6
plugins = ["toy_plugin.py"]
data = { use = "toy_plugin.numbers" }
model = { use = "toy_plugin.scalar" }
optimizer = { use = "toy_plugin.recorded", log = "LOG" }
[[evaluator]]
use = "toy_plugin.weight"
[sweep]
"optimizer.fail" = [false, true]
"""
TRAINED = """
seeds = 2
data = { use = "standard.digits", n_train = 301 }
model = { use = "standard.linear" }
optimizer = { use = "standard.sgd", learning_rate = 0.1, epochs = 2, batch_size = 50, momentum = 0.9, snapshots = [5] }
[[evaluator]]
use = "standard.accuracy"
[[evaluator]]
use = "standard.test_error"
[sweep]
"optimizer.accumulate" = [1, 2]
"""


def run(folder: Path, spec: Path, *more: str) -> int:
    """Exit code of `kempeframe run`, with a store and an output folder of its own."""
    store = ["--store", str(folder / "store"), "--out", str(folder / "out")]
    command = [sys.executable, "-m", "kempeframe", "run", str(spec), *store, "--quiet", *more]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


def free_port() -> str:
    """A port that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["fit_seconds"]
    return rows


def test_fits_that_need_one_process_are_dealt_out(tmp_path: Path) -> None:
    shutil.copy(HERE / "toy_plugin.py", tmp_path / "toy_plugin.py")
    spec, log = tmp_path / "toy.toml", tmp_path / "log"
    spec.write_text(TOY.replace("LOG", str(log)))
    assert run(tmp_path / "two", spec, "--processes", "2") == 3
    two, pids = table(tmp_path / "two"), {line.split()[0] for line in log.read_text().splitlines()}
    assert len(pids) == 2
    assert run(tmp_path / "one", spec, "--jobs", "1") == 3
    assert two == table(tmp_path / "one")
    assert [row["status"] for row in two] == ["done"] * 6 + ["failed"] * 6


@pytest.mark.parametrize("launched", [False, True], ids=["--processes 2", "accelerate launch"])
def test_a_network_is_trained_by_two_processes_as_by_one(tmp_path: Path, launched: bool) -> None:
    spec = tmp_path / "trained.toml"
    spec.write_text(TRAINED)
    launcher = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1")
    launcher += ("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", free_port())
    if launched:
        command = [*launcher, "-m", "kempeframe", "run", str(spec), "--quiet"]
        command += ["--store", str(tmp_path / "two" / "store"), "--out", str(tmp_path / "two" / "out")]
        environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()[-2000:]
    else:
        assert run(tmp_path / "two", spec, "--processes", "2") == 0
    assert run(tmp_path / "one", spec, "--jobs", "1") == 0
    two, one = table(tmp_path / "two"), table(tmp_path / "one")
    for name in one[0]:
        for left, right in zip(two, one, strict=True):
            if name.rpartition(".")[2] in ("accuracy", "test_error", "training_loss"):
                slack = 2e-3 if name.endswith("accuracy") else 0.0  # one test image of 500
                assert float(left[name]) == pytest.approx(float(right[name]), rel=1e-5, abs=slack)
            else:
                assert left[name] == right[name]


def test_a_time_limit_is_refused_where_processes_wait_for_each_other(tmp_path: Path) -> None:
    spec = tmp_path / "trained.toml"
    spec.write_text(TRAINED)
    assert run(tmp_path, spec, "--processes", "2", "--time-limit", "5") == 2
    assert not (tmp_path / "out").exists()
