"""Losses and schedules: each formula against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from kempeframe_standard.optimizers_gradient import Adam, Sgd, Spaced
from kempeframe_standard.schedules import rate_factor
from kempeframe_standard.training.losses import LOSSES, correct
from torch import Tensor
from torch.nn import functional

from kempeframe.task import CannotGive

OUTPUTS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]], dtype=torch.float64)
TARGETS = torch.tensor([0, 2])
MARGINS = [[3.0, 1.5], [1.0, -2.0]]  # f_t - f_j


def loss(name: str, outputs: Tensor, targets: Tensor) -> list[float]:
    return LOSSES[name](outputs, targets).tolist()


def test_losses_of_several_outputs_are_functions_of_the_margins() -> None:
    assert loss("exponential", OUTPUTS, TARGETS) == pytest.approx([sum(math.exp(-m) for m in row) for row in MARGINS])
    logistic = [math.log(1 + sum(math.exp(-m) for m in row)) for row in MARGINS]
    assert loss("logistic", OUTPUTS, TARGETS) == pytest.approx(logistic)
    assert loss("cross_entropy", OUTPUTS, TARGETS) == pytest.approx(logistic)
    assert loss("hinge", OUTPUTS, TARGETS) == [max(0, 1 - min(row)) for row in MARGINS] == [0, 3]
    one_hot = np.eye(3)[TARGETS] - 1 / 3
    assert loss("squared", OUTPUTS, TARGETS) == pytest.approx(((OUTPUTS.numpy() - one_hot) ** 2).sum(axis=1))


def test_one_output_is_for_two_classes_minus_one_and_plus_one() -> None:
    outputs, targets = torch.tensor([[0.3], [0.3], [-2.0]], dtype=torch.float64), torch.tensor([0, 1, 1])
    margins = [-0.3, 0.3, -2.0]
    assert loss("exponential", outputs, targets) == pytest.approx([math.exp(-m) for m in margins])
    for name in ("logistic", "cross_entropy"):
        assert loss(name, outputs, targets) == pytest.approx([math.log1p(math.exp(-m)) for m in margins])
    assert loss("hinge", outputs, targets) == pytest.approx([1.3, 0.7, 3.0])
    assert loss("squared", outputs, targets) == pytest.approx([1.69, 0.49, 9.0])
    assert correct(outputs, targets).tolist() == [0, 1, 0]


@pytest.mark.parametrize("name", ["exponential", "logistic", "hinge"])
def test_one_output_f_is_two_outputs_zero_and_f(name: str) -> None:
    one = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    two = torch.cat([torch.zeros_like(one), one], dim=1)
    targets = torch.tensor([0, 1, 0, 1, 0, 1, 0])
    torch.testing.assert_close(LOSSES[name](one, targets), LOSSES[name](two, targets))


@pytest.mark.parametrize("name", ["exponential", "logistic"])
@pytest.mark.parametrize("columns", [1, 2, 3])
def test_losses_and_gradients_are_exact_down_to_1e_300(name: str, columns: int) -> None:
    """Where a softmax would have rounded the probability to 1 and the loss to 0."""
    others = torch.zeros(1, columns - 1, dtype=torch.float64)
    right = torch.full((1, 1), 691.0, dtype=torch.float64)
    outputs = torch.cat([others, right], dim=1).requires_grad_()
    value = LOSSES[name](outputs, torch.tensor([1 if columns == 1 else columns - 1]))
    expected = max(1, columns - 1) * math.exp(-691)
    assert value.item() == pytest.approx(expected, rel=1e-12)
    value.backward()
    assert outputs.grad is not None
    assert outputs.grad[0, -1].item() == pytest.approx(-expected, rel=1e-12)


def test_squared_loss_of_floats_is_summed_over_outputs_without_a_half() -> None:
    assert loss("squared", OUTPUTS, OUTPUTS + 2) == pytest.approx([12, 12])
    assert loss("squared", OUTPUTS[:, :1], OUTPUTS[:, 0] + 2) == pytest.approx([4, 4])


def test_cross_entropy_takes_probabilities() -> None:
    probabilities = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]], dtype=torch.float64)
    expected = -(probabilities * functional.log_softmax(OUTPUTS, dim=1)).sum(dim=1)
    torch.testing.assert_close(LOSSES["cross_entropy"](OUTPUTS, probabilities), expected)


def test_a_sequence_counts_as_the_mean_of_its_predicted_positions() -> None:
    outputs = OUTPUTS.expand(3, 2, 3)
    targets = torch.tensor([[0, 2], [0, -100], [-100, -100]])
    first, second = loss("cross_entropy", OUTPUTS, TARGETS)
    assert loss("cross_entropy", outputs, targets) == pytest.approx([(first + second) / 2, first, 0])
    assert correct(outputs, targets).tolist() == [0.5, 1, 0]


@pytest.mark.parametrize("name", ["exponential", "logistic", "hinge"])
def test_margins_of_float_targets_are_refused(name: str) -> None:
    with pytest.raises(CannotGive, match="class targets"):
        LOSSES[name](OUTPUTS, OUTPUTS)


def test_accuracy_counts_the_largest_output() -> None:
    assert correct(OUTPUTS, TARGETS).tolist() == [1, 0]
    with pytest.raises(CannotGive, match="class targets"):
        correct(OUTPUTS, OUTPUTS)


# ---- schedules -----------------------------------------------------------------------------------------------------


def test_warm_up_is_linear_and_reaches_the_whole_rate() -> None:
    assert [rate_factor("constant", step, 10, warmup=4) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_cosine_and_linear_fall_from_one_towards_zero() -> None:
    cosine = [rate_factor("cosine", step, 12, warmup=2) for step in range(2, 12)]
    assert cosine == pytest.approx([(1 + math.cos(math.pi * k / 10)) / 2 for k in range(10)])
    assert [rate_factor("linear", step, 4) for step in range(4)] == [1, 0.75, 0.5, 0.25]


def test_steps_decay_by_their_factor() -> None:
    found = [rate_factor("step", step, 9, 1, decay_steps=3, decay_factor=0.1) for step in range(9)]
    assert found == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_snapshots_are_spaced_evenly_and_come_once() -> None:
    assert Spaced(linear=(0, 100), points=5).steps == [0, 25, 50, 75, 100]
    assert Spaced(geometric=(1, 1000), points=4).steps == [1, 10, 100, 1000]
    assert Spaced(geometric=(1, 8), points=20).steps == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(), "exactly one of steps and epochs"),
        (dict(steps=1, epochs=1), "exactly one of steps and epochs"),
        (dict(steps=1, schedule="step"), "decay_steps with schedule"),
        (dict(steps=1, decay_steps=3), "decay_steps with schedule"),
        (dict(steps=1, batch_size="full", accumulate=2), "a step has one batch"),
        (dict(steps=1, learning_rate=0.0), "learning_rate = 0.0: expected a value > 0"),
        (dict(steps=0), "steps = 0: expected a value >= 1"),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Adam(**fields)  # type: ignore[arg-type]


def test_nesterov_needs_a_momentum() -> None:
    with pytest.raises(ValueError, match="momentum above 0"):
        Sgd(steps=1, nesterov=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(points=3), "either geometric or linear"),
        (dict(points=3, linear=(0, 1), geometric=(1, 2)), "either geometric or linear"),
        (dict(points=3, linear=(5, 1)), "the first step before the last"),
    ],
)
def test_spaces_without_a_meaning_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Spaced(**fields)  # type: ignore[arg-type]
