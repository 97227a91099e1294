"""Evaluators of posteriors: detection, shift, diagnostics, sanity, theory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from kempeframe_attacking_bayes.attacks import PgdPlus, PosteriorSubset, UncertaintyAttack
from kempeframe_attacking_bayes.attacks_faulty import FaultyTinyStep
from kempeframe_attacking_bayes.data import GaussianLinear, SemanticShift
from kempeframe_attacking_bayes.evaluators import AdversarialDetection, HalfRadius, ShiftDetection
from kempeframe_attacking_bayes.evaluators_posterior import (
    GradientCancellation,
    PosteriorDiagnostics,
    ScaledLogits,
    Theory,
)
from kempeframe_attacking_bayes.evaluators_sanity import AttackSanity
from kempeframe_attacking_bayes.models import Bayesian
from kempeframe_attacking_bayes.numerics import with_steps
from kempeframe_attacking_bayes.optimizers import Ensemble, ExactGaussian, Map
from kempeframe_attacking_bayes.optimizers_sampling import Hmc
from kempeframe_attacking_bayes.shift import fitted_to
from kempeframe_attacking_bayes.stacked import PosteriorNetwork, stacked
from kempeframe_attacking_bayes.theory_detection import crossing
from kempeframe_standard.attacks import Noise, Pgd
from kempeframe_standard.data import Digits
from kempeframe_standard.evaluators import Accuracy
from kempeframe_standard.evaluators_robust import RobustAccuracy
from kempeframe_standard.models import Linear, Mlp
from kempeframe_standard.optimizers_gradient import Adam
from torch import nn

from kempeframe import components
from kempeframe.components import NoTheory
from kempeframe.runs import Run
from kempeframe.task import Batch, CannotGive
from kempeframe.trial import Fitted, checked_metrics

Fit = Callable[..., Fitted]
QUICK = Adam(learning_rate=0.01, steps=100, batch_size="full")
NETWORK = Bayesian(model=Mlp(width=16, depth=1, activation="tanh", weight_scale=1.0))
SHIFTED = SemanticShift(data=Digits(n_train=300, n_test=100))


def evaluated(evaluator: Any, fit: Fitted, attack: Any = None) -> dict[str, Any]:
    """As a trial would see it: every declared column, plain numbers."""
    fit = attrs.evolve(fit, attack=attack) if attack is not None else fit
    assert fit.run is not None
    return checked_metrics(evaluator, evaluator.evaluate(fit, fit.run))


# ---- detection -----------------------------------------------------------------------------------------------------


def test_detection_adds_up(fitted: Fit) -> None:
    fit = fitted(Ensemble(optimizer=QUICK, n_members=3))
    found = evaluated(AdversarialDetection(), fit, Pgd(epsilon=0.2, early_stop=False))
    assert found["clean_accuracy"] == pytest.approx(evaluated(Accuracy(), fit)["accuracy"])
    robust = evaluated(RobustAccuracy(), fit, Pgd(epsilon=0.2, early_stop=False))["robust_accuracy"]
    assert found["adversarial_accuracy"] == pytest.approx(robust)
    assert found["selective_accuracy"][-1] == pytest.approx((found["clean_accuracy"] + robust) / 2)
    assert found["coverage"][-1] == 1
    assert np.trapezoid(found["true_positive_rate"], found["false_positive_rate"]) == pytest.approx(
        found["auroc"], abs=0.03
    )
    width = math.log(10) / 20
    assert sum(found["density_clean"]) * width == pytest.approx(1)
    mean = sum(u * d for u, d in zip(found["uncertainty"], found["density_adversarial"], strict=True)) * width
    assert mean == pytest.approx(found["uncertainty_adversarial"], abs=width)


def test_pgd_plus_fools_the_detector_that_pgd_does_not(fitted: Fit) -> None:
    fit = fitted(Ensemble(optimizer=QUICK, n_members=5))
    detection = AdversarialDetection()
    plain = evaluated(detection, fit, Pgd(epsilon=0.3, early_stop=False, steps=20))
    plus = evaluated(detection, fit, PgdPlus(epsilon=0.3, steps=20, uncertainty_steps=20))
    assert plus["asa"] < plain["asa"]
    assert plus["auroc"] < plain["auroc"]


def test_a_single_networks_epistemic_uncertainty_is_blind(fitted: Fit) -> None:
    """Exactly 0 everywhere: all inputs are tied, AUROC is 0.5 and ASA the accuracy of the mix (trap 7)."""
    found = evaluated(AdversarialDetection(uncertainty="epistemic", attack=Pgd(epsilon=0.2)), fitted(Map(steps=100)))
    assert found["auroc"] == 0.5
    assert found["asa"] == pytest.approx((found["clean_accuracy"] + found["adversarial_accuracy"]) / 2)


def test_detection_needs_an_attack(fitted: Fit) -> None:
    assert AdversarialDetection().needs_attack
    assert not AdversarialDetection(attack=Pgd(epsilon=0.1)).needs_attack
    with pytest.raises(ValueError, match="no attack"):
        evaluated(AdversarialDetection(), fitted(Map(steps=2)))


# ---- shift ---------------------------------------------------------------------------------------------------------


def test_shift_detection_falls_under_attack(fitted: Fit) -> None:
    fit = fitted(Ensemble(optimizer=QUICK, n_members=5), data=SHIFTED)
    found = evaluated(ShiftDetection(), fit, UncertaintyAttack(epsilon=0.2, steps=10))
    assert found["auroc"] > 0.7
    assert found["uncertainty_ood"] > found["uncertainty_id"]
    for one in ("ood", "id"):
        assert found[f"auroc_{one}_attacked"] < found["auroc"] - 0.1
        assert found["auroc_both_attacked"] < found[f"auroc_{one}_attacked"] + 1e-12
    with pytest.raises(ValueError, match=r"expected attacking_bayes\.uncertainty_attack"):
        ShiftDetection(attack=Pgd(epsilon=0.1))
    with pytest.raises(ValueError, match=r"expected attacking_bayes\.uncertainty_attack"):
        ShiftDetection().check_with(
            components.Fit(data=SHIFTED, model=NETWORK, optimizer=QUICK, attack=Pgd(epsilon=0.1))
        )
    single = fitted(Map(steps=5), data=SHIFTED)
    with pytest.raises(CannotGive, match="epistemic uncertainty of a single network"):
        evaluated(ShiftDetection(), single, UncertaintyAttack(epsilon=0.2, uncertainty="epistemic"))


@pytest.mark.parametrize("kind", ["pixel_permutation", "inverted"])
def test_shifted_inputs(kind: Any, run: Run) -> None:
    task = SemanticShift(data=Digits(n_train=10, n_test=30), shift=kind).load(run)
    own, other = task.test.examples().inputs, task.split("ood").examples().inputs
    assert own.shape == other.shape
    if kind == "inverted":
        assert torch.allclose(other, 1 - own)
    else:
        assert torch.equal(own.flatten(1).sort(dim=1).values, other.flatten(1).sort(dim=1).values)
        order = (own.flatten(1)[0] != other.flatten(1)[0]).any()
        assert order  # one order for all images: columns are permuted
        columns = sorted(map(tuple, own.flatten(1).T.tolist()))
        assert sorted(map(tuple, other.flatten(1).T.tolist())) == columns


def test_another_data_set_is_brought_to_shape() -> None:
    images = torch.rand(3, 3, 32, 32)
    found = fitted_to(images, (1, 14, 14))
    middle = images.mean(dim=1)[:, 2:30, 2:30]
    assert found.shape == (3, 1, 14, 14)
    assert float(found[0, 0, 0, 0]) == pytest.approx(float(middle[0, :2, :2].mean()))
    with pytest.raises(CannotGive, match="do not fit"):
        fitted_to(torch.rand(3, 1, 8, 8), (1, 14, 14))
    with pytest.raises(ValueError, match="expected `other`"):
        SemanticShift(data=Digits(), shift="other_dataset")


def test_another_data_set_is_the_split(run: Run) -> None:
    task = SemanticShift(data=Digits(n_test=20), shift="other_dataset", other=Digits(n_test=40, skip=5)).load(run)
    assert task.split("ood").examples().inputs.shape == (20, 1, 8, 8)


# ---- diagnostics ---------------------------------------------------------------------------------------------------


def test_diagnostics_of_chains(fitted: Fit) -> None:
    settings = Hmc(n_chains=3, n_warmup=10, n_samples=16, thin=1, warm_start_steps=100, trajectory_length=0.5)
    fit = fitted(settings)
    found = evaluated(PosteriorDiagnostics(), fit)
    network = fit.network
    assert isinstance(network, PosteriorNetwork)
    assert found["divergences"] == 0
    assert found["acceptance_lowest"] <= found["acceptance"]
    assert found["r_hat_median"] <= found["r_hat_95"] <= found["r_hat_largest"]
    examples = fit.task.test.examples()
    logits = network.logits_per_sample(examples.inputs)
    alone = [(one.argmax(dim=1) == examples.targets).double().mean() for one in logits]
    assert found["single_draw_accuracy"] == pytest.approx(float(sum(alone)) / len(alone))
    with pytest.raises(NoTheory, match="does not come from chains"):
        evaluated(PosteriorDiagnostics(), fitted(Map(steps=2)))


def test_cancellation(fitted: Fit) -> None:
    assert evaluated(GradientCancellation(), fitted(Map(steps=50)))["cancellation"] == pytest.approx(1)
    fit = fitted(Ensemble(optimizer=QUICK, n_members=4))
    found = evaluated(GradientCancellation(examples=5), fit)["cancellation"]
    examples, network = fit.task.test.examples(), stacked(fit.network)
    ratios = []
    for row in range(5):  # one input at a time, all samples by autograd's Jacobian
        x = examples.inputs[row : row + 1]

        def losses(x: torch.Tensor, row: int = row) -> torch.Tensor:
            z = network.logits_per_sample(x)[:, 0]
            target = examples.targets[row : row + 1].expand(len(z))  # type: ignore[index]
            return nn.functional.cross_entropy(z, target, reduction="none")

        g = torch.autograd.functional.jacobian(losses, x).flatten(1)
        ratios.append(float(g.mean(dim=0).norm() / g.norm(dim=1).mean()))
    assert found == pytest.approx(np.mean(ratios), rel=1e-4)


def test_scaled_logits_change_no_label_of_a_single_network(fitted: Fit) -> None:
    fit = fitted(Map(steps=100))
    plain, scaled = evaluated(Accuracy(), fit), evaluated(ScaledLogits(evaluator=Accuracy(), factor=50.0), fit)
    assert plain == scaled
    robust = RobustAccuracy(attack=Pgd(epsilon=0.15, random_start=False))
    masked = evaluated(ScaledLogits(evaluator=robust, factor=1000.0), fit)["robust_accuracy"]
    assert masked > evaluated(robust, fit)["robust_accuracy"] + 0.2


# ---- sanity --------------------------------------------------------------------------------------------------------


def test_a_sound_attack_is_sane_and_faulty_ones_are_not(fitted: Fit) -> None:
    fit = fitted(Ensemble(optimizer=QUICK, n_members=3))
    sound = evaluated(AttackSanity(attack=Pgd(epsilon=0.1), largest=1.0, tolerance=0.03), fit)
    assert sound["sane"] is True
    assert sound["zero_gradients"] == 0
    assert sound["sign_agreement"] > 0.98
    tiny = evaluated(AttackSanity(attack=FaultyTinyStep(epsilon=0.1), largest=1.0), fit)
    assert tiny["iterative_beats_one_step"] is False
    assert tiny["sane"] is False
    assert tiny["more_steps_are_no_weaker"] is True
    assert tiny["more_steps_accuracy"] < tiny["attacked_accuracy"]  # which shows that its steps do not suffice
    assert sound["more_steps_are_no_weaker"] is True
    assert sound["more_steps_accuracy"] == pytest.approx(
        evaluated(RobustAccuracy(attack=Pgd(epsilon=0.1, steps=80)), fit)["robust_accuracy"]
    )
    noise = AttackSanity(attack=Noise(epsilon=0.1), largest=1.0)
    assert math.isnan(evaluated(noise, fit)["more_steps_accuracy"])
    assert evaluated(noise, fit)["sane"] is False


class FailsLater(Pgd):
    """Goes the wrong way once it has more than one step."""

    def objective(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        return super().objective(outputs, batch) * (1 if self.steps == 1 else -1)


def test_an_attack_that_more_steps_weaken_is_not_sane(fitted: Fit) -> None:
    fit = fitted(Map(steps=50))
    settings = AttackSanity(attack=Pgd(epsilon=0.15, steps=1, random_start=False), largest=1.0, tolerance=0.0)
    assert evaluated(settings, fit)["more_steps_are_no_weaker"] is True
    failing = FailsLater(epsilon=0.15, steps=1, random_start=False)
    found = evaluated(attrs.evolve(settings, attack=failing), fit)
    assert found["more_steps_are_no_weaker"] is False
    assert found["sane"] is False
    wrapped = with_steps(PosteriorSubset(attack=Pgd(epsilon=0.1, steps=5)), 3)
    assert wrapped == PosteriorSubset(attack=Pgd(epsilon=0.1, steps=15))
    assert with_steps(Noise(epsilon=0.1), 3) is None


def test_the_radius_at_which_half_of_the_accuracy_is_left(fitted: Fit) -> None:
    assert crossing([0, 0.1, 0.2], [0.9, 0.6, 0.2], 0.5) == pytest.approx(0.125)
    assert crossing([0, 0.1, 0.2, 0.3], [0.9, 0.5, 0.6, 0.1], 0.5) == pytest.approx(0.1)
    assert math.isnan(crossing([0, 0.1], [0.9, 0.6], 0.5))
    assert math.isnan(crossing([0, 0.1], [0.4, 0.1], 0.5))
    fit, radii = fitted(Map(steps=100)), (0.0, 0.05, 0.1, 0.2)
    found = evaluated(HalfRadius(epsilons=radii, attack=Pgd(epsilon=0.1, steps=10)), fit)
    curve = [evaluated(RobustAccuracy(attack=Pgd(epsilon=e, steps=10)), fit)["robust_accuracy"] for e in radii]
    assert found["robust_accuracy_curve"] == pytest.approx(curve)
    assert np.interp(found["half_radius"], radii, curve) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="expected two or more, ascending"):
        HalfRadius(epsilons=(0.1, 0.05))


def test_saturation_shows(fitted: Fit) -> None:
    fit = fitted(Map(steps=200))
    network = stacked(fit.network).tempered(1 / 1000)
    saturated = attrs.evolve(fit, given_network=network.eval())
    attack = Pgd(epsilon=0.1, random_start=False)
    found = evaluated(AttackSanity(attack=attack, largest=1.0, temperatures=(1000.0,)), saturated)
    assert found["saturated"] > 0.9
    assert found["zero_gradients"] > 0.1
    assert found["gradients_live"] is False
    assert found["tempered_is_no_stronger"] is False
    assert found["sane"] is False


# ---- theory --------------------------------------------------------------------------------------------------------


def test_theory_says_what_is_measured_and_what_it_does_not_cover(fitted: Fit) -> None:
    fit = fitted(ExactGaussian(n_samples=300), Linear(), GaussianLinear(n_test=400))
    for attack in (Pgd(epsilon=0.1), PosteriorSubset(attack=Pgd(epsilon=0.1), n_posterior_samples=16)):
        predicted = evaluated(Theory(), fit, attack)
        assert evaluated(RobustAccuracy(), fit, attack)["robust_accuracy"] == pytest.approx(
            predicted["robust_accuracy"], abs=0.02
        )
        assert evaluated(Accuracy(), fit)["accuracy"] == predicted["accuracy"]
        assert predicted["robust_accuracy"] >= predicted["robust_accuracy_exact"]
    for attack in (Pgd(epsilon=0.1, norm="l_2"), Noise(epsilon=0.1), None):
        with pytest.raises(NoTheory, match="untargeted fgsm and pgd"):
            evaluated(Theory(), attrs.evolve(fit, attack=attack))
    with pytest.raises(NoTheory, match="Gaussian posterior"):
        evaluated(Theory(), fitted(Map(steps=2)), Pgd(epsilon=0.1))
