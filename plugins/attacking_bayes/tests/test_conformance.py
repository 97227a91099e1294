"""Every component of the plugin through the conformance kit; a test counts that none is left out."""

from __future__ import annotations

import re
from pathlib import Path

from kempeframe_attacking_bayes.attacks import PgdPlus, PosteriorSubset, Tempered, UncertaintyAttack
from kempeframe_attacking_bayes.attacks_faulty import (
    FaultyDoubleSoftmax,
    FaultySamples,
    FaultySingleSample,
    FaultyTinyStep,
    FaultyUnrelatedStep,
)
from kempeframe_attacking_bayes.data import GaussianLinear, SemanticShift
from kempeframe_attacking_bayes.evaluators import AdversarialDetection, HalfRadius, ShiftDetection
from kempeframe_attacking_bayes.evaluators_posterior import (
    GradientCancellation,
    PosteriorDiagnostics,
    ScaledLogits,
    Theory,
)
from kempeframe_attacking_bayes.evaluators_sanity import AttackSanity
from kempeframe_attacking_bayes.models import Bayesian, Dropout
from kempeframe_attacking_bayes.optimizers import Ensemble, ExactGaussian, Map, McDropout
from kempeframe_attacking_bayes.optimizers_sampling import Hmc
from kempeframe_attacking_bayes.optimizers_variational import Fsvi, Mfvi, Psvi
from kempeframe_standard.attacks import Pgd
from kempeframe_standard.data import Digits
from kempeframe_standard.data_generated import GaussianMixture
from kempeframe_standard.evaluators import Accuracy
from kempeframe_standard.evaluators_robust import RobustAccuracy
from kempeframe_standard.models import Linear, Mlp
from kempeframe_standard.optimizers_gradient import Adam

from kempeframe import load_plugin
from kempeframe.testing import Check, conformance

DIGITS = Digits(n_train=60, n_test=30)
SHIFTED = SemanticShift(data=DIGITS)
CLOUDS = GaussianMixture(dimension=4, classes=3, separation=2.0, n_train=40, n_test=20)
PERCEPTRON = Mlp(width=4, depth=1, activation="tanh")
BAYESIAN = Bayesian(model=PERCEPTRON)
QUICK = Adam(learning_rate=0.05, steps=15, batch_size=16)
ENSEMBLE = Ensemble(optimizer=QUICK, n_members=3)
HMC = Hmc(n_chains=2, n_warmup=3, n_samples=8, thin=1, warm_start_steps=10, max_leapfrog=10)


@conformance(SHIFTED, SemanticShift(data=DIGITS, shift="inverted"), GaussianLinear(dimension=3, n_train=20, n_test=30))
def test_data(check: Check) -> None:
    check()


@conformance(BAYESIAN, Dropout(model=PERCEPTRON), Bayesian(model=Dropout(model=PERCEPTRON)), task=DIGITS)
def test_models(check: Check) -> None:
    check()


@conformance(HMC, Mfvi(steps=12), Psvi(steps=5), Fsvi(steps=6, n_context=6), ENSEMBLE, task=CLOUDS, model=BAYESIAN)
def test_posteriors(check: Check) -> None:
    check()


@conformance(Map(steps=12, batch_size=16), task=CLOUDS, model=BAYESIAN)
def test_map(check: Check) -> None:
    check()


@conformance(McDropout(optimizer=QUICK, n_samples=4), task=CLOUDS, model=Dropout(model=PERCEPTRON))
def test_mc_dropout(check: Check) -> None:
    check()


@conformance(ExactGaussian(n_samples=5), task=GaussianLinear(dimension=3, n_train=10, n_test=20), model=Linear())
def test_exact_posterior(check: Check) -> None:
    check()


PGD = Pgd(epsilon=0.1, steps=4)
LAST = Pgd(epsilon=0.1, steps=4, keep_best=False)


@conformance(
    PgdPlus(epsilon=0.1, steps=4, uncertainty_steps=4),
    PgdPlus(epsilon=0.3, norm="l_2", steps=4, uncertainty_steps=4, uncertainty="epistemic"),
    UncertaintyAttack(epsilon=0.1, steps=4),
    FaultyDoubleSoftmax(epsilon=0.1, steps=4),
    FaultyUnrelatedStep(epsilon=0.1, steps=4),
    FaultyTinyStep(epsilon=0.1, steps=4),
    FaultySamples(epsilon=0.1, steps=4),
    model=BAYESIAN,
    optimizer=ENSEMBLE,
)
def test_attacks(check: Check) -> None:
    check()


@conformance(
    PosteriorSubset(attack=PGD, n_posterior_samples=2),
    Tempered(attack=PGD),
    Tempered(attack=PGD, precision="float64"),
    FaultySingleSample(attack=PGD),
    model=BAYESIAN,
    optimizer=ENSEMBLE,
    norm="l_inf",
)
def test_attacks_on_other_views(check: Check) -> None:
    check()


# New samples at each step: two batches that are cut in another way see others.
@conformance(
    PosteriorSubset(attack=LAST, resample=True),
    model=BAYESIAN,
    optimizer=ENSEMBLE,
    norm="l_inf",
    without={"the_batch_does_not_matter"},
)
def test_attack_on_new_samples(check: Check) -> None:
    check()


@conformance(
    AdversarialDetection(attack=PGD),
    AdversarialDetection(uncertainty="epistemic"),
    GradientCancellation(),
    HalfRadius(epsilons=(0.0, 0.1, 0.3)),
    ScaledLogits(evaluator=RobustAccuracy(attack=PGD), factor=3.0),
    ScaledLogits(evaluator=Accuracy()),
    AttackSanity(attack=PGD, largest=1.0),
    task=DIGITS,
    model=BAYESIAN,
    optimizer=ENSEMBLE,
    attack=PGD,
)
def test_evaluators(check: Check) -> None:
    check()


@conformance(PosteriorDiagnostics(), task=DIGITS, model=BAYESIAN, optimizer=HMC)
def test_diagnostics(check: Check) -> None:
    check()


@conformance(
    ShiftDetection(), task=SHIFTED, model=BAYESIAN, optimizer=ENSEMBLE, attack=UncertaintyAttack(epsilon=0.1, steps=3)
)
def test_shift_detection(check: Check) -> None:
    check()


@conformance(
    Theory(), task=GaussianLinear(dimension=3, n_test=20), model=Linear(), optimizer=ExactGaussian(), attack=PGD
)
def test_theory(check: Check) -> None:
    check()


def test_none_is_left_out() -> None:
    text = Path(__file__).read_text()
    classes = set(vars(load_plugin("attacking_bayes")))
    assert not {name for name in classes if not re.search(rf"\b{name}\(", text)}
