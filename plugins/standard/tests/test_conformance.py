"""Every component of the plugin through the conformance kit; a test counts that none is left out."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
from kempeframe_standard.attacks import Fgsm, LinearAttack, Noise, Pgd, Transfer
from kempeframe_standard.data import Digits, LinearRegression
from kempeframe_standard.data_generated import GaussianMixture, TeacherStudent
from kempeframe_standard.data_images import HubImages
from kempeframe_standard.data_text import HubText
from kempeframe_standard.evaluators import Accuracy, TestError
from kempeframe_standard.evaluators_outputs import CalibrationError, PerClassAccuracy, TestLoss
from kempeframe_standard.evaluators_robust import AttackSanity, RobustAccuracy
from kempeframe_standard.evaluators_trajectory import AlongLevels, AtBest, AtLevel
from kempeframe_standard.models import Linear, Mlp, RandomFeatures
from kempeframe_standard.models_diagonal import Diagonal
from kempeframe_standard.models_images import Cnn
from kempeframe_standard.models_pretrained import Pretrained
from kempeframe_standard.models_text import Decoder, Encoder, EncoderDecoder
from kempeframe_standard.optimizers import LogisticRegression, Ridge, Untrained
from kempeframe_standard.optimizers_gradient import Adam, Adamw, Sgd

from kempeframe import Data, Examples, Fit, Task, component, field, load_plugin
from kempeframe.runs import Run
from kempeframe.testing import Blobs, Check, conformance

MIRROR = Path(os.environ.get("KEMPEFRAME_HUB", "/nowhere"))
DIGITS = Digits(n_train=60)
REGRESSION = Blobs(targets="floats")
CLOUDS = GaussianMixture(dimension=4, classes=3, separation=2.0, n_train=40, n_test=20)


@component
class Tokens(Data):
    """Sequences of six tokens of which the next, or the class of their sum, is to be told."""

    outputs: int = field(default=6, doc="tokens that have a target; 0: one class for the sequence")

    def load(self, run: Run) -> Task:
        def draw(name: str, n: int) -> Examples:
            tokens = torch.from_numpy(run.rng("data", name).integers(5, size=(n, 7)))
            targets = tokens[:, 1:][:, -self.outputs :] if self.outputs else tokens[:, :6].sum(dim=1) % 5
            return Examples(tokens[:, :6], targets)

        splits = {name: (lambda name=name, n=n: draw(name, n)) for name, n in {"train": 40, "test": 20}.items()}
        return Task(splits, (6,), (self.outputs, 5) if self.outputs else (5,), classes=5)


# What holds another fit has the floating-point type of that one.
OF_ONE_TYPE = {"works_in_float32", "works_in_float64"}


def fit(optimizer: object = Sgd(learning_rate=0.1, steps=5), data: Data = CLOUDS) -> Fit:
    return Fit(data=data, model=Mlp(width=4), optimizer=optimizer, stream="inner")  # type: ignore[arg-type]


# ---- data ----------------------------------------------------------------------------------------------------------


@conformance(
    DIGITS,
    CLOUDS,
    TeacherStudent(dimension=4, n_train=40, n_test=20),
    LinearRegression(dimension=4, n_train=40, n_test=20),
)
def test_data(check: Check) -> None:
    check()


@pytest.mark.skipif(not (MIRROR / "ylecun" / "mnist").is_dir(), reason="KEMPEFRAME_HUB names no mirror with MNIST")
def test_images_of_a_mirror() -> None:
    from kempeframe.testing import check_component

    check_component(HubImages(n_train=50, n_test=50))


@pytest.mark.skipif(not (MIRROR / "karpathy").is_dir(), reason="KEMPEFRAME_HUB names no mirror with tiny Shakespeare")
def test_text_of_a_mirror() -> None:
    from kempeframe.testing import check_component

    text = HubText(n_train=2000, n_test=2000, context=16)
    always = {"other_seed_other_task", "a_pass_has_every_example_once"}  # one text, in windows
    check_component(text, model=Decoder(width=8, heads=2, depth=1), without=always)


# ---- models --------------------------------------------------------------------------------------------------------


@conformance(Linear(), without={"other_seed_other_network"}, task=DIGITS)  # starts at zero
def test_linear(check: Check) -> None:
    check()


@conformance(
    RandomFeatures(width=10), without={"other_seed_other_network", "gradients_reach_every_parameter"}, task=DIGITS
)
def test_random_features(check: Check) -> None:
    check()


@conformance(Mlp(width=8), Mlp(width=8, depth=2, activation="tanh", bias=False), task=DIGITS)
def test_mlp(check: Check) -> None:
    check()


@conformance(Cnn(channels=(3,)), Cnn(channels=(4,), norm="group"), task=DIGITS)
def test_cnn(check: Check) -> None:
    check()


@conformance(Diagonal(), without={"other_seed_other_network"}, task=LinearRegression(dimension=4, n_train=40))
def test_diagonal(check: Check) -> None:
    check()


@conformance(Decoder(width=8, heads=2, depth=1), Decoder(width=8, heads=2, depth=1, positions="rotary"), task=Tokens())
def test_decoder(check: Check) -> None:
    check()


@conformance(Encoder(vocabulary=5, width=8, heads=2, depth=1), task=Tokens(outputs=0))
def test_encoder(check: Check) -> None:
    check()


@conformance(EncoderDecoder(width=8, heads=2), task=Tokens(outputs=3))
def test_encoder_decoder(check: Check) -> None:
    check()


@conformance(Pretrained(fit=fit()), task=CLOUDS, without=OF_ONE_TYPE)
def test_pretrained(check: Check) -> None:
    check()


# ---- optimizers ----------------------------------------------------------------------------------------------------


@conformance(Ridge(penalty=1e-2), task=REGRESSION, model=Linear())
def test_ridge(check: Check) -> None:
    check()


@conformance(
    LogisticRegression(penalty=0.01), task=TeacherStudent(dimension=4, n_train=40, n_test=20, outputs=1), model=Linear()
)
def test_logistic_regression(check: Check) -> None:
    check()


@conformance(Untrained())
def test_untrained(check: Check) -> None:
    check()


@conformance(
    Sgd(learning_rate=0.1, steps=12, momentum=0.9),
    Adam(learning_rate=0.01, steps=12, batch_size=16),
    Adamw(learning_rate=0.01, epochs=2, snapshots=(0, 3), schedule="cosine"),
)
def test_gradient_optimizers(check: Check) -> None:
    check()


@conformance(Sgd(learning_rate=0.1, steps=6), model=Mlp(width=4))
def test_gradient_optimizers_on_stacks(check: Check) -> None:
    check()


# ---- attacks -------------------------------------------------------------------------------------------------------

TRAINED = Sgd(learning_rate=0.5, steps=30)


@conformance(
    Fgsm(epsilon=0.1),
    Fgsm(epsilon=0.3, norm="l_2"),
    Pgd(epsilon=0.1, steps=5),
    Pgd(epsilon=0.5, norm="l_2", steps=5, restarts=2),
    Pgd(epsilon=1.0, norm="l_1", steps=5),
    Noise(epsilon=0.1),
    optimizer=TRAINED,
)
def test_attacks(check: Check) -> None:
    check()


@conformance(
    LinearAttack(epsilon=0.1), task=GaussianMixture(dimension=4, n_train=40), model=Linear(), optimizer=TRAINED
)
def test_linear_attack(check: Check) -> None:
    check()


@conformance(
    Transfer(fit=fit(), attack=Pgd(epsilon=0.1, steps=5)),
    task=CLOUDS,
    norm="l_inf",
    optimizer=TRAINED,
    without={*OF_ONE_TYPE, "the_batch_does_not_matter"},
)
def test_transfer(check: Check) -> None:
    check()


# ---- evaluators ----------------------------------------------------------------------------------------------------


@conformance(
    Accuracy(),
    TestError(),
    TestLoss(),
    PerClassAccuracy(),
    CalibrationError(),
    RobustAccuracy(attack=Pgd(epsilon=0.1, steps=3)),
    AttackSanity(attack=Pgd(epsilon=0.1, steps=3), largest=0.5),
    AtLevel(measure=TestLoss(), metric="test_loss", level=100.0, direction="falling"),
    AlongLevels(measure=TestLoss(), metric="test_loss", first=110.0, last=100.0, points=3),
    AtBest(measure=TestLoss(), metric="test_loss", best="lowest"),
    optimizer=TRAINED,
)
def test_evaluators(check: Check) -> None:
    check()


def test_no_component_is_left_out() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    large = {"Resnet18"}  # 11 million weights: its own test
    classes = set(vars(load_plugin("standard"))) - large
    assert not {name for name in classes if not re.search(rf"\b{name}\(", source)}
