"""Every component of the plugin through the conformance kit."""

from __future__ import annotations

from kempeframe_flavors_of_margin.evaluators import (
    CertifiedRatio,
    FunctionMargin,
    Homogeneity,
    LogLoss,
    Margins,
    OracleMargin,
    UndoFraction,
)
from kempeframe_flavors_of_margin.evaluators_adam import AdamSpeed, LossDecay
from kempeframe_flavors_of_margin.evaluators_trajectory import MarginTrajectory
from kempeframe_flavors_of_margin.models import TwoLayer
from kempeframe_flavors_of_margin.optimizers import (
    CoordinateDescent,
    LogAdam,
    NormalizedGradientDescent,
    SignDescent,
    SpectralDescent,
    SteepestDescent,
)
from kempeframe_flavors_of_margin.optimizers_oracle import MaxMargin
from kempeframe_standard.attacks import LinearAttack
from kempeframe_standard.data_generated import TeacherStudent
from kempeframe_standard.models import Linear
from kempeframe_standard.models_diagonal import Diagonal

from kempeframe.testing import Check, conformance

DATA = TeacherStudent(dimension=12, n_train=8, n_test=20, outputs=1)
STUDENT = TwoLayer(width=20)
SIGN = SignDescent(steps=60, learning_rate=0.01)


@conformance(TwoLayer(width=5), TwoLayer(width=5, activation="squared_relu", single_output=True), task=DATA)
def test_models(check: Check) -> None:
    check()


@conformance(
    SteepestDescent(steps=20, learning_rate=0.01, norm=3.0),
    SteepestDescent(steps=20, learning_rate=0.01, norm="l_1", scope="max", ball=(1.0, 2.0), step="dual"),
    CoordinateDescent(steps=20, learning_rate=0.01, kink="clarke"),
    CoordinateDescent(steps=20, learning_rate=0.01, momentum=0.9),
    NormalizedGradientDescent(steps=20, learning_rate=0.01, schedule="power"),
    SignDescent(steps=20, learning_rate=0.001, weight_decay=0.1, batch_size=4),
    SpectralDescent(steps=20, learning_rate=0.01),
    LogAdam(steps=20, learning_rate=0.001, epsilon=0.0),
    task=DATA,
    model=STUDENT,
)
def test_optimizers(check: Check) -> None:
    check()


@conformance(MaxMargin(norm="l_1"), MaxMargin(norm=3.0), task=DATA, model=Linear())
def test_max_margin(check: Check) -> None:
    check()


@conformance(
    Margins(norms=("l_1", 3.0, "spectral")),
    LogLoss(),
    Homogeneity(),
    MarginTrajectory(),
    task=DATA,
    model=STUDENT,
    optimizer=SignDescent(steps=300, learning_rate=0.01, snapshots=(20, 40)),
)
def test_evaluators_of_networks(check: Check) -> None:
    check()


@conformance(
    CertifiedRatio(),
    OracleMargin(),
    Margins(robust=True),
    task=DATA,
    model=Linear(),
    optimizer=SIGN,
    attack=LinearAttack(epsilon=0.01, norm="l_inf"),
)
def test_evaluators_of_linear_models(check: Check) -> None:
    check()


NUMBERS = {"metrics_are_finite_and_declared", "works_in_float32", "works_in_float64"}  # one snapshot has no decay


@conformance(LossDecay(), without=NUMBERS, task=DATA, model=STUDENT, optimizer=SIGN)
def test_decay(check: Check) -> None:
    check()


@conformance(FunctionMargin(), OracleMargin(norms=("l_2",)), task=DATA, model=Diagonal(init_scale=0.1), optimizer=SIGN)
def test_evaluators_of_diagonal_networks(check: Check) -> None:
    check()


@conformance(UndoFraction(), task=DATA, model=Linear(), optimizer=CoordinateDescent(steps=20, learning_rate=0.01))
def test_evaluators_of_coordinate_descent(check: Check) -> None:
    check()


@conformance(AdamSpeed(), task=DATA, model=Linear(), optimizer=LogAdam(steps=20, epsilon=0.0))
def test_evaluators_of_adam(check: Check) -> None:
    check()
