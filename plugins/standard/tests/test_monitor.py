"""Fits that end at a level, and losses in the log domain."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from kempeframe_standard.evaluators import Accuracy
from kempeframe_standard.optimizers_gradient import EarlyStopping, Monitor, Sgd
from kempeframe_standard.training.losses import LOG_LOSSES, LOSSES

import kempeframe
from kempeframe.problems import SpecError

SPEC = """
seeds = 4
data = { use = "standard.gaussian_mixture", separation = 3.0, n_train = 200, n_test = 300 }
model = { use = "standard.MODEL", STACK }
[optimizer]
use = "standard.sgd"
learning_rate = 0.05
steps = 300
batch_size = 20
monitor = { evaluator = { use = "standard.accuracy" }, every = 5, LEVEL }
[[evaluator]]
use = "standard.accuracy"
"""


def study(folder: Path, level: str, stack: bool = True) -> kempeframe.Study:
    width = "width = 8" if stack else "width = 8, dropout = 1e-12"
    path = folder / "spec.toml"
    path.write_text(SPEC.replace("LEVEL", level).replace("MODEL", "mlp").replace("STACK", width))
    return kempeframe.run(path, store=folder / f"store {stack}")


@pytest.mark.parametrize("stack", [True, False])
def test_a_fit_ends_once_its_metric_is_there(tmp_path: Path, stack: bool) -> None:
    rows = study(tmp_path, "stop_above = 0.97", stack).rows.columns
    assert all(value >= 0.97 for value in rows["accuracy"])
    assert all(step < 300 and step % 5 == 0 for step in rows["steps"])
    assert len(set(rows["steps"])) > 1, "each at a step of its own"
    assert rows["converged"] == [True] * 4


def test_a_stack_ends_where_single_fits_do(tmp_path: Path) -> None:
    stacked, single = (study(tmp_path, "stop_above = 0.97", stack).rows.columns for stack in (True, False))
    assert stacked["steps"] == single["steps"]
    assert stacked["training_loss"] == pytest.approx(single["training_loss"], rel=1e-3)


def test_a_fit_that_never_gets_there_has_not_converged(tmp_path: Path) -> None:
    rows = study(tmp_path, "stop_below = -1.0").rows.columns
    assert (rows["steps"], rows["converged"]) == ([300] * 4, [False] * 4)


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ({}, "expected exactly one of stop_above and stop_below"),
        ({"stop_above": 1.0, "stop_below": 0.0}, "expected exactly one"),
        ({"stop_above": 1.0, "metric": "loss"}, "the evaluator gives accuracy"),
    ],
)
def test_monitors_that_make_no_sense(monitor: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Monitor(evaluator=Accuracy(), every=1, **monitor)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss": "hinge", "log_domain": True}, "can be 0"),
        ({"log_domain": True, "accumulate": 2}, "can't be accumulated"),
        (
            {
                "monitor": Monitor(evaluator=Accuracy(), every=1, stop_above=1.0),
                "early_stopping": EarlyStopping(every=1, patience=1),
            },
            "give one",
        ),
    ],
)
def test_fields_that_do_not_go_together(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sgd(steps=1, **fields)


@pytest.mark.parametrize("name", LOG_LOSSES)
@pytest.mark.parametrize("outputs", [1, 3])
def test_log_losses_are_the_logs_of_losses(name: str, outputs: int) -> None:
    values = 3 * torch.randn(50, outputs, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(50) % max(outputs, 2)
    torch.testing.assert_close(LOG_LOSSES[name](values, targets), LOSSES[name](values, targets).log())
    far = torch.full((1, outputs), 0.0, dtype=torch.float64)
    far[0, 0] = 1e5
    target = torch.tensor([1 if outputs == 1 else 0])
    expected = -1e5 + (math.log(2) if outputs == 3 else 0.0)
    assert float(LOG_LOSSES[name](far, target)) == pytest.approx(expected)


def separable(folder: Path, log: bool, batch: str) -> kempeframe.Study:
    path = folder / f"spec {log}.toml"
    path.write_text(f"""
data = {{ use = "standard.gaussian_mixture", separation = 8.0, n_train = 40, n_test = 10, dtype = "float64" }}
model = {{ use = "standard.linear" }}
[optimizer]
use = "standard.sgd"
loss = "exponential"
log_domain = {str(log).lower()}
learning_rate = 1.0
steps = 200
batch_size = {batch}
[[evaluator]]
use = "standard.accuracy"
""")
    return kempeframe.run(path, store=folder / "store")


def test_in_the_log_domain_a_loss_falls_far_below_the_smallest_number(tmp_path: Path) -> None:
    rows = separable(tmp_path, True, '"full"').rows.columns
    assert rows["training_loss"][0] < -800  # its log; the loss itself is below 1e-347
    assert rows["status"] == ["done"]


def test_one_step_in_the_log_domain_divides_the_gradient_by_the_loss(tmp_path: Path) -> None:
    """From weights of 0 the exponential loss is 1: the first steps are equal."""
    first = []
    for log in (True, False):
        path = tmp_path / f"one {log}.toml"
        separable(tmp_path, log, '"full"')
        path.write_text((tmp_path / f"spec {log}.toml").read_text().replace("steps = 200", "steps = 1"))
        first.append(kempeframe.run(path, store=tmp_path / "store").fitted(0).network.weight.detach())
    torch.testing.assert_close(first[0], first[1])


def test_a_monitor_in_a_spec_is_checked(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="expected exactly one of stop_above and stop_below"):
        study(tmp_path, "metric = 'accuracy'")
