"""Evaluators of outputs and under attack, on networks whose answers are known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from kempeframe_standard.attacks import Fgsm, Noise, Pgd
from kempeframe_standard.data import Digits
from kempeframe_standard.evaluation import calibration
from kempeframe_standard.evaluators import Accuracy
from kempeframe_standard.evaluators_outputs import CalibrationError, PerClassAccuracy, TestLoss
from kempeframe_standard.evaluators_robust import AttackSanity, RobustAccuracy
from kempeframe_standard.models import Mlp
from kempeframe_standard.optimizers_gradient import Monitor, Sgd
from torch import nn

from kempeframe import Attack, Data, Evaluator, Fit, component
from kempeframe.problems import SpecError
from kempeframe.runs import Run
from kempeframe.spec import load_spec
from kempeframe.store import Store
from kempeframe.task import CannotGive, Examples, Task
from kempeframe.trial import Fitted, Session


class Fixed(Data):
    """A task that is given."""

    def __init__(self, task: Task):
        self.task = task
        self.__dict__["digest"] = f"{id(task):032x}"

    def load(self, run: Run) -> Task:
        return self.task


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(0, Session(Store(tmp_path)))


def fitted(run: Run, network: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, **task: Any) -> Fitted:
    examples = Examples(inputs, targets)
    made = Task({"test": lambda: examples}, tuple(inputs.shape[1:]), (2,), **task)
    return Fitted(data=Fixed(made), run=run, given_network=network)


def test_losses_and_accuracies_of_given_outputs(run: Run) -> None:
    outputs = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 1.0]])
    targets = torch.tensor([0, 1, 2, 2])
    one = fitted(run, nn.Identity(), outputs, targets, classes=3)
    expected = nn.functional.cross_entropy(outputs.double(), targets)
    assert TestLoss().evaluate(one, run)["test_loss"] == pytest.approx(float(expected), rel=1e-6)
    assert Accuracy().evaluate(one, run)["accuracy"] == 0.75
    classes = PerClassAccuracy().evaluate(one, run)
    assert classes["class_accuracy"] == [1.0, 1.0, 0.5]
    assert (classes["worst_class"], classes["worst_class_accuracy"]) == (2, 0.5)


def test_one_output_decides_by_its_sign(run: Run) -> None:
    one = fitted(run, nn.Identity(), torch.tensor([[0.5], [-2.0], [1.0]]), torch.tensor([1, 0, 0]), classes=2)
    assert Accuracy().evaluate(one, run)["accuracy"] == pytest.approx(2 / 3)
    loss = math.log1p(math.exp(-0.5)) + math.log1p(math.exp(-2.0)) + math.log1p(math.exp(1.0))
    assert TestLoss(loss="logistic").evaluate(one, run)["test_loss"] == pytest.approx(loss / 3)


def test_no_classes_no_accuracy(run: Run) -> None:
    with pytest.raises(CannotGive, match="has no classes"):
        Accuracy().evaluate(fitted(run, nn.Identity(), torch.zeros(2, 1), torch.zeros(2, 1)), run)


def test_sequences_have_a_loss_over_all_their_tokens(run: Run) -> None:
    outputs = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(12).reshape(3, 4) % 5
    found = TestLoss().evaluate(fitted(run, nn.Identity(), outputs, targets), run)["test_loss"]
    expected = nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())
    assert found == pytest.approx(float(expected), rel=1e-5)


def test_a_calibrated_network_has_no_calibration_error(run: Run) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200_000, 4, generator=generator)
    targets = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    sure = CalibrationError().evaluate(fitted(run, nn.Identity(), logits, targets, classes=4), run)
    too_sure = CalibrationError().evaluate(fitted(run, nn.Identity(), 3 * logits, targets, classes=4), run)
    assert sure["calibration_error"] < 0.006
    assert too_sure["calibration_error"] > 0.2


def test_calibration_by_hand() -> None:
    logits = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]]).log()
    means, accuracies, shares = calibration(logits, torch.tensor([0, 1, 1]), 10)
    assert means[9] == pytest.approx(0.9)
    assert (accuracies[9], accuracies[6], float(shares[9])) == (0.5, 0.0, pytest.approx(2 / 3))


def line(run: Run, margins: list[float]) -> Fitted:
    """Class 1 right of 0.5 on [0, 1]; examples of class 1 at these distances from the boundary."""
    network = nn.Linear(1, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0], [2.0]]))
        network.bias.copy_(torch.tensor([0.0, -1.0]))
    inputs = torch.tensor([[0.5 + m] for m in margins])
    return fitted(run, network, inputs, torch.ones(len(margins), dtype=torch.int64), classes=2, bounds=(0.0, 1.0))


def test_robust_accuracy_is_the_share_of_larger_margins(run: Run) -> None:
    one = line(run, [0.05, 0.15, 0.25, 0.35, -0.1])
    made = RobustAccuracy(attack=Pgd(epsilon=0.2, steps=5), epsilons=(0.0, 0.1, 0.3))
    found = made.evaluate(one, run)
    assert found["robust_accuracy"] == pytest.approx(2 / 5)
    assert found["attack_size"] == 0.2
    assert found["robust_accuracy_curve"] == pytest.approx([4 / 5, 3 / 5, 1 / 5])
    assert set(found) == set(made.columns())
    assert not made.uses_attack
    assert RobustAccuracy().uses_attack


def test_an_attack_of_its_own_may_be_absent_only_if_the_trial_has_one(run: Run) -> None:
    with pytest.raises(ValueError, match="no attack"):
        RobustAccuracy().evaluate(line(run, [0.1]), run)


def test_sanity_of_an_attack_that_works_and_of_one_that_does_not(run: Run) -> None:
    one = line(run, [0.05, 0.15, 0.25, 0.35])
    good = AttackSanity(attack=Pgd(epsilon=0.2, steps=5), largest=1.0).evaluate(one, run)
    assert good["sane"]
    assert good["largest_accuracy"] == 0
    bad = AttackSanity(attack=Noise(epsilon=0.2), largest=1.0).evaluate(one, run)
    assert not bad["iterative_beats_one_step"]
    assert not bad["sane"]
    assert AttackSanity(attack=Fgsm(epsilon=0.2), largest=1.0).evaluate(one, run)["iterative_beats_one_step"]


def test_what_needs_an_attack_is_missed_before_anything_runs(tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text("""
data = { use = "standard.digits" }
model = { use = "standard.mlp" }
optimizer = { use = "standard.sgd", steps = 1, adversarial = true }
[[evaluator]]
use = "standard.robust_accuracy"
""")
    with pytest.raises(SpecError) as error:
        load_spec(spec)
    assert "robust_accuracy measures under the trial's attack: the spec lacks [attack]" in str(error.value)
    assert "it trains against the trial's attack" in str(error.value)


@component
class Rotation(Attack):
    """It has no ball."""


@pytest.mark.parametrize(
    ("evaluator", "message"),
    [
        (RobustAccuracy(epsilons=(0.1,)), "has no epsilon: other radii can't be tried"),
        (AttackSanity(largest=0.5), "has no norm and epsilon to compare with"),
    ],
)
def test_an_attack_without_a_radius_is_refused_before_anything_runs(evaluator: Evaluator, message: str) -> None:
    fit = Fit(data=Digits(), model=Mlp(), optimizer=Sgd(steps=1), attack=Rotation())
    with pytest.raises(ValueError, match=f"rotation {message}"):
        evaluator.check_with(fit)
    watched = Sgd(steps=1, monitor=Monitor(evaluator=evaluator, every=1, stop_above=1.0))
    with pytest.raises(ValueError, match=f"rotation {message}"):
        watched.check_with(fit)
    evaluator.check_with(attrs.evolve(fit, attack=Pgd(epsilon=0.1)))
    RobustAccuracy().check_with(fit)
