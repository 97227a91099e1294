"""Two processes train as one: losses far below the smallest float, with one log-sum-exp over all examples."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

SPEC = """
seeds = 2
data = { use = "standard.teacher_student", outputs = 1, dimension = 20, n_train = 13, n_test = 20 }
model = { use = "standard.linear" }
[optimizer]
use = "flavors_of_margin.sign_descent"
learning_rate = 1.0
steps = 500
[[evaluator]]
use = "flavors_of_margin.margins"
[sweep.algorithm]
coordinate = { "optimizer.use" = "flavors_of_margin.coordinate_descent", "optimizer.step" = "dual" }
gradient = { "optimizer.use" = "flavors_of_margin.normalized_gradient_descent" }
sign = {}
adam = { "optimizer.use" = "flavors_of_margin.log_adam", "optimizer.learning_rate" = 0.02, "optimizer.epsilon" = 0.0 }
"""


def table(folder: Path, *more: str) -> list[dict[str, str]]:
    folder.mkdir()
    spec = folder / "spec.toml"
    spec.write_text(SPEC)
    command = [sys.executable, "-m", "kempeframe", "run", str(spec), "--quiet", *more]
    command += ["--store", str(folder / "store"), "--out", str(folder / "out")]
    done = subprocess.run(command, env={**os.environ, "ACCELERATE_USE_CPU": "true"}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    with (folder / "out" / "table.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_two_processes_train_as_one_below_the_smallest_float(tmp_path: Path) -> None:
    two, one = table(tmp_path / "two", "--processes", "2"), table(tmp_path / "one", "--jobs", "1")
    for left, right in zip(two, one, strict=True):
        for name in ("log_loss", "margin_l_1", "margin_l_2", "margin_l_inf", "gap_l_2"):
            assert float(left[name]) == pytest.approx(float(right[name]), rel=1e-6), (right["algorithm"], name)
    assert min(float(row["log_loss"]) for row in one) < -800  # e^-745 is the smallest float
