"""The optimizers as components: below the smallest float, in stacks, and with bad input; the models."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kempeframe_flavors_of_margin.evaluators import Margins, OracleMargin
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
from kempeframe_flavors_of_margin.theory_oracles import NotSeparable
from kempeframe_standard.data_generated import GaussianMixture, TeacherStudent
from kempeframe_standard.models import Mlp, RandomFeatures
from kempeframe_standard.optimizers_gradient import Sgd
from kempeframe_standard.training import DivergedError

import kempeframe
from kempeframe.components import FitJob
from kempeframe.problems import SpecError
from kempeframe.runs import Run
from kempeframe.task import CannotGive
from kempeframe.trial import Fitted, Session

Fits = Callable[..., list[Fitted]]
STUDENT = TeacherStudent(dimension=8, n_train=12, n_test=50, teacher="two_layer", outputs=1)


def margins(fitted: Fitted) -> dict[str, Any]:
    assert fitted.run is not None
    return dict(Margins().evaluate(fitted, fitted.run))


@pytest.mark.parametrize("loss", ["exponential", "logistic", "cross_entropy"])
@pytest.mark.parametrize("cls", [CoordinateDescent, NormalizedGradientDescent, SignDescent, LogAdam])
def test_losses_fall_below_the_smallest_float(fit: Fits, cls: Any, loss: Any) -> None:
    options = dict(epsilon=0.0, beta2=0.9) if cls is LogAdam else {}
    weight = fit(MaxMargin())[-1].network.weight.detach()  # type: ignore[union-attr, operator]

    def far(network: Any) -> None:
        network.weight.data = 2000 * weight

    first, last = fit(cls(steps=200, learning_rate=0.02, loss=loss, snapshots=(0,), **options), change=far)
    before, after = margins(first), margins(last)
    assert before["log_loss"] < -750  # e^-745 is the smallest float
    assert after["log_loss"] < before["log_loss"] - 0.5
    assert after["smallest_margin"] == pytest.approx(-after["log_loss"], rel=0.01)


def test_each_algorithm_finds_the_margin_of_its_norm(fit: Fits) -> None:
    common: Any = dict(steps=3000, learning_rate=0.05, schedule="power", decay_exponent=0.25)
    optimizers = {
        "l_1": CoordinateDescent(**common),
        "l_2": NormalizedGradientDescent(**common),
        "l_inf": SignDescent(**common),
    }
    for name, optimizer in optimizers.items():
        fitted = fit(optimizer)[-1]
        assert fitted.run is not None
        optimum = OracleMargin().evaluate(fitted, fitted.run)
        ratios = {other: margins(fitted)[f"margin_{other}"] / optimum[f"margin_{other}"] for other in optimizers}
        assert ratios[name] > 0.93
        assert all(ratios[other] < ratios[name] for other in optimizers if other != name)


def test_the_flow_of_the_l_2_norm_is_gradient_descent(fit: Fits) -> None:
    steps: Any = dict(steps=50, learning_rate=0.02, loss="exponential", batch_size="full")
    ours = fit(SteepestDescent(**steps, norm="l_2", step="dual", log_domain=False), TwoLayer(width=6), STUDENT)[-1]
    plain = fit(Sgd(**steps), TwoLayer(width=6), STUDENT)[-1]
    torch.testing.assert_close(ours.network.state_dict(), plain.network.state_dict())


@pytest.mark.parametrize(
    "optimizer",
    [
        CoordinateDescent(steps=120, learning_rate=0.02, kink="clarke"),
        CoordinateDescent(steps=120, learning_rate=0.02, momentum=0.9),
        NormalizedGradientDescent(steps=120, learning_rate=0.02, step="dual"),
        SignDescent(steps=120, learning_rate=0.002),
        SteepestDescent(steps=120, learning_rate=0.02, norm=3.0),
        SpectralDescent(steps=120, learning_rate=0.01, momentum=0.9, orthogonalization="newton_schulz"),
        LogAdam(steps=120, learning_rate=0.002, epsilon=0.0),
    ],
    ids=lambda o: type(o).__name__,
)
def test_a_stack_trains_each_network_as_alone(session: Session, optimizer: Any) -> None:
    def jobs() -> list[FitJob]:
        made = []
        for seed in range(3):
            run = Run(seed, session)
            task = STUDENT.load(run)
            made.append(FitJob(optimizer, TwoLayer(width=6).build(task, run), task, None, run))
        return made

    from kempeframe_standard.training.many import partition

    together, alone = jobs(), jobs()
    assert optimizer.unit(TwoLayer(width=6)) and partition(together) == [[0, 1, 2]]
    stacked = dict(optimizer.fit_many(together))
    for index, job in enumerate(alone):
        *_, last = optimizer.fit(job.network, job.task, None, job.run)
        torch.testing.assert_close(stacked[index].network.state_dict(), last.network.state_dict(), rtol=1e-6, atol=1e-8)
        assert stacked[index].certificate == pytest.approx(last.certificate, nan_ok=True)


def test_max_margin_is_the_oracle_as_a_classifier(fit: Fits) -> None:
    for norm in ("l_1", "l_2", "l_inf", 3.0):
        fitted = fit(MaxMargin(norm=norm))[-1]  # type: ignore[arg-type]
        assert fitted.run is not None
        name = norm if isinstance(norm, str) else "l_3"
        found = Margins(norms=(norm,)).evaluate(fitted, fitted.run)
        optimum = OracleMargin(norms=(norm,)).evaluate(fitted, fitted.run)
        assert found[f"margin_{name}"] == pytest.approx(optimum[f"margin_{name}"])
        assert found[f"norm_{name}"] == pytest.approx(1)
    several = fit(MaxMargin(), data=GaussianMixture(dimension=12, n_train=9, classes=3, separation=4.0))[-1]
    assert margins(several)["train_accuracy"] == 1
    features = fit(MaxMargin(), RandomFeatures(width=40), STUDENT)[-1]
    assert margins(features)["train_accuracy"] == 1


def test_max_margin_refuses_what_it_cannot_solve(fit: Fits) -> None:
    with pytest.raises(NotSeparable, match="not linearly separable"):
        fit(MaxMargin(), data=GaussianMixture(dimension=3, n_train=60, separation=0.1))
    with pytest.raises(CannotGive, match="Sequential is not linear in its weights"):
        fit(MaxMargin(), Mlp(width=4))
    with pytest.raises(CannotGive, match="margins are of classes"):
        fit(MaxMargin(), data=TeacherStudent(targets="value"))


def test_a_learning_rate_that_makes_the_loss_rise_is_an_error(fit: Fits) -> None:
    for optimizer in (SignDescent(steps=20, learning_rate=10.0), CoordinateDescent(steps=3, learning_rate=300.0)):
        with pytest.raises(DivergedError, match=r"above its .* at the start: learning_rate = .* is too large"):
            fit(optimizer, TwoLayer(width=20), TeacherStudent(dimension=5, n_train=100, outputs=1, flip=0.3))


def test_a_fit_that_diverges_in_the_loop_of_another_plugin_names_its_optimizer(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    spec = SPEC.replace("n_train = 10", "n_train = 100, flip = 0.3")
    path.write_text(spec.replace("NORM", '"l_inf"\nlearning_rate = 300.0'))
    study = kempeframe.run(path, store=tmp_path / "store")
    assert len(study.failures) == 2
    for failure in study.failures:
        assert "is too large in flavors_of_margin.steepest_descent (plugin standard, divergence.py" in failure.error
        assert failure.place == f"{path}:5 [optimizer]"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(norm=0.5), r"norm = 0\.5: l_p is a norm for p >= 1 alone"),
        (dict(norm="spectral"), 'give scope "max"'),
        (dict(norm="l_2", kink="clarke"), 'kink = "clarke" is for norm = "l_1"'),
        (dict(loss="squared"), "log_domain: the squared loss can be 0"),
        (dict(norm="l_2", ball=(1.0,)), 'with scope = "flat" there are no blocks'),
    ],
)
def test_bad_fields_are_named(fields: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SteepestDescent(steps=1, **fields)


def test_bad_fields_of_the_others() -> None:
    with pytest.raises(ValueError, match=r"log_adam needs the log of the loss; standard\.adam takes the loss"):
        LogAdam(steps=1, log_domain=False)
    with pytest.raises(ValueError, match="gradient_clipping: it would clip"):
        LogAdam(steps=1, gradient_clipping=1.0)
    for cls in (Margins, OracleMargin):
        with pytest.raises(ValueError, match="expected at least one, and none twice"):
            cls(norms=("l_2", 2.0))
        with pytest.raises(ValueError, match=r'expected "l_1"'):
            cls(norms=("l_7x",))
    with pytest.raises(ValueError, match="for l_p norms of all weights alone"):
        OracleMargin(norms=("spectral",))
    with pytest.raises(ValueError, match=r"norm = 0\.3"):
        MaxMargin(norm=0.3)


SPEC = """
seeds = 2
data = { use = "standard.teacher_student", outputs = 1, dimension = 6, n_train = 10 }
model = { use = "flavors_of_margin.two_layer", width = 4 }
[optimizer]
use = "flavors_of_margin.steepest_descent"
norm = NORM
steps = 20
[[evaluator]]
use = "flavors_of_margin.margins"
norms = ["l_2", 3, "spectral", "max_l_1"]
"""


def test_specs_take_norms_by_name_and_by_number(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    for norm in ('"l_1"', "3", "1.5"):
        path.write_text(SPEC.replace("NORM", norm))
        columns = kempeframe.run(path, store=tmp_path / "store").rows.columns
        for name in ("l_2", "l_3", "spectral", "max_l_1"):
            assert all(math.isfinite(value) for value in columns[f"margin_{name}"])
    for norm in ('"l_0"', "0.9", '"nuclear"'):
        path.write_text(SPEC.replace("NORM", norm))
        with pytest.raises(SpecError, match="norm"):
            kempeframe.run(path, store=tmp_path / "store")


def test_a_single_output_is_for_two_classes(fit: Fits) -> None:
    two = GaussianMixture(dimension=4, n_train=20, dtype="float64")
    network = fit(Sgd(steps=1), TwoLayer(width=3, single_output=True), two)[-1].network
    assert network(torch.zeros(5, 4, dtype=torch.float64)).shape == (5, 1)
    with pytest.raises(ValueError, match="single_output: the task has 3 classes, not two"):
        fit(Sgd(steps=1), TwoLayer(single_output=True), GaussianMixture(classes=3))


def test_initial_weights_have_the_stated_size(fit: Fits) -> None:
    data = TeacherStudent(dimension=50, n_train=5)
    network = fit(Sgd(steps=1, learning_rate=1e-12), TwoLayer(width=2000, init_scale=0.3), data)[-1].network
    assert float(network.first.detach().std() * 50**0.5) == pytest.approx(0.3, rel=0.02)  # type: ignore[union-attr, operator]
    assert float(network.second.detach().std() * 2000**0.5) == pytest.approx(0.3, rel=0.05)  # type: ignore[union-attr, operator]
