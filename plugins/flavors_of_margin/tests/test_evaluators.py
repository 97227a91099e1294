"""Margins, gaps and trajectories of trained networks against a second computation, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from kempeframe_flavors_of_margin import theory
from kempeframe_flavors_of_margin.evaluators import (
    CertifiedRatio,
    Homogeneity,
    LogLoss,
    Margins,
    OracleMargin,
    UndoFraction,
)
from kempeframe_flavors_of_margin.evaluators_trajectory import MarginTrajectory
from kempeframe_flavors_of_margin.models import TwoLayer
from kempeframe_flavors_of_margin.optimizers import (
    CoordinateDescent,
    LogAdam,
    NormalizedGradientDescent,
    SignDescent,
    SteepestDescent,
)
from kempeframe_flavors_of_margin.theory_oracles import NotSeparable
from kempeframe_standard.attacks import LinearAttack, Noise
from kempeframe_standard.data_generated import GaussianMixture, TeacherStudent
from kempeframe_standard.models import Linear, Mlp
from kempeframe_standard.models_diagonal import Diagonal
from kempeframe_standard.optimizers_gradient import Adam, Sgd

from kempeframe import NoTheory
from kempeframe.task import CannotGive
from kempeframe.trial import Fitted

Fits = Callable[..., list[Fitted]]
THREE = GaussianMixture(dimension=12, n_train=9, n_test=20, classes=3, separation=4.0, dtype="float64")


def evaluate(evaluator: Any, fitted: Fitted) -> dict[str, Any]:
    assert fitted.run is not None
    found = dict(evaluator.evaluate(fitted, fitted.run))
    assert found.keys() == evaluator.columns().keys()
    return found


def rows_of(fitted: Fitted) -> np.ndarray:
    batch = fitted.task.train.examples()
    assert batch.targets is not None
    return np.asarray((batch.inputs * (2 * batch.targets - 1)[:, None]).numpy())


def test_margins_of_a_linear_model_are_those_of_the_formulas(fit: Fits) -> None:
    fitted = fit(NormalizedGradientDescent(steps=30, learning_rate=0.05))[-1]
    found = evaluate(Margins(norms=("l_1", "l_2", "l_inf", 3.0)), fitted)
    z, w = rows_of(fitted), fitted.network.weight.detach().numpy()[:, 0]  # type: ignore[union-attr, operator]
    q = z @ w
    log_loss = theory.log_loss(q)
    s = z.T @ np.exp(-q - log_loss)
    assert found["log_loss"] == pytest.approx(log_loss)
    assert evaluate(LogLoss(), fitted)["log_loss"] == pytest.approx(log_loss)
    for name, p in {"l_1": 1.0, "l_2": 2.0, "l_inf": math.inf, "l_3": 3.0}.items():
        size, dual = theory.norm(w, p), theory.norm(s, theory.conjugate(p))
        assert found[f"norm_{name}"] == pytest.approx(size)
        assert found[f"margin_{name}"] == pytest.approx(q.min() / size)
        assert found[f"soft_margin_{name}"] == pytest.approx(-log_loss / size)
        assert found[f"gap_{name}"] == pytest.approx(theory.gap(float(w @ s), size, dual))
    bounds = evaluate(CertifiedRatio(), fitted)
    optimum = evaluate(OracleMargin(), fitted)
    for name in ("l_1", "l_2", "l_inf"):
        ratio = found[f"margin_{name}"] / optimum[f"margin_{name}"]
        assert bounds[f"certified_ratio_{name}"] <= ratio <= 1 + 1e-9
        assert bounds[f"upper_bound_{name}"] >= optimum[f"margin_{name}"] * (1 - 1e-9)


@pytest.mark.parametrize(
    ("model", "data", "loss"),
    [
        (TwoLayer(width=5), TeacherStudent(dimension=6, n_train=7, outputs=1), "exponential"),
        (TwoLayer(width=5, activation="squared_relu"), TeacherStudent(dimension=6, n_train=7, outputs=1), "logistic"),
        (TwoLayer(width=5, activation="leaky_relu"), THREE, "exponential"),
        (TwoLayer(width=5), THREE, "cross_entropy"),
        (Mlp(width=4, depth=2, bias=False), THREE, "exponential"),
        (Diagonal(depth=3, init_scale=0.5), TeacherStudent(dimension=6, n_train=7, outputs=1), "logistic"),
    ],
    ids=["relu", "squared", "three classes", "cross-entropy", "mlp", "diagonal"],
)
def test_the_gap_is_that_of_numerical_gradients(fit: Fits, model: Any, data: Any, loss: Any) -> None:
    fitted = fit(SignDescent(steps=40, learning_rate=0.01, loss=loss), model, data)[-1]
    found = evaluate(Margins(norms=("l_1", "l_2", "l_inf", "spectral")), fitted)
    network, batch = fitted.network, fitted.task.train.examples()
    theta = torch.nn.utils.parameters_to_vector(network.parameters()).detach().numpy()
    targets: Any = batch.targets

    def log_loss(at: np.ndarray) -> float:
        torch.nn.utils.vector_to_parameters(torch.tensor(at), network.parameters())
        with torch.no_grad():
            outputs = network(batch.inputs).numpy()
        if outputs.shape[1] == 1:
            margins = outputs[:, 0] * (2 * targets.numpy() - 1)
        else:
            right = outputs[np.arange(len(outputs)), targets]
            others = np.array([np.delete(row, t) for row, t in zip(outputs, targets, strict=True)])
            margins = -np.logaddexp.reduce(others - right[:, None], axis=1)
        return theory.log_loss(margins, "exponential" if loss == "exponential" else "logistic")

    s = np.array([-(log_loss(theta + e) - log_loss(theta - e)) / 2e-6 for e in 1e-6 * np.eye(len(theta))])
    log_loss(theta)
    degree = network.homogeneity
    for name, p in {"l_1": 1.0, "l_2": 2.0, "l_inf": math.inf}.items():
        size, dual = theory.norm(theta, p), theory.norm(s, theory.conjugate(p))
        assert found[f"gap_{name}"] == pytest.approx(theory.gap(float(theta @ s), size, dual), abs=1e-5)
        assert found[f"margin_{name}"] == pytest.approx(found["smallest_margin"] / size**degree)  # type: ignore[operator]
    doubled = evaluate(Homogeneity(), fitted)
    assert doubled["degree_error"] < 1e-12 and doubled["homogeneous"]
    assert doubled["degree"] == pytest.approx(degree)


def test_soft_margins_of_the_logistic_loss_are_within_the_logarithm_of_n(fit: Fits) -> None:
    for loss in ("exponential", "logistic"):
        fitted = fit(SignDescent(steps=300, learning_rate=0.01, loss=loss))[-1]  # type: ignore[arg-type]
        found = evaluate(Margins(), fitted)
        for name in ("l_1", "l_2", "l_inf"):
            upper = found[f"margin_{name}"]
            assert upper - math.log(8) / found[f"norm_{name}"] <= found[f"soft_margin_{name}"] <= upper


def test_the_largest_margin_of_a_diagonal_network_is_reached_by_its_optimal_weights(fit: Fits) -> None:
    """gamma_p of the parameters is gamma_(p/L) of the function: put the oracle's classifier into u and v."""
    for p, depth in ((2.0, 2), (4.0, 2), (math.inf, 2), (3.0, 3)):
        fitted = fit(Sgd(steps=1, learning_rate=1e-9, loss="exponential"), Diagonal(depth=depth))[-1]
        name = "l_inf" if p == math.inf else f"l_{p:g}"
        norm: Any = name if p in (2.0, math.inf) else p
        optimum = evaluate(OracleMargin(norms=(norm,)), fitted)[f"margin_{name}"]
        from kempeframe_flavors_of_margin.theory_oracles import max_margin

        beta = max_margin(rows_of(fitted), p / depth).weight
        with torch.no_grad():
            fitted.network.positive[:, 0] = torch.tensor(np.maximum(beta, 0) ** (1 / depth))  # type: ignore[union-attr, operator, index]
            fitted.network.negative[:, 0] = torch.tensor(np.maximum(-beta, 0) ** (1 / depth))  # type: ignore[union-attr, operator, index]
        assert evaluate(Margins(norms=(norm,)), fitted)[f"margin_{name}"] == pytest.approx(optimum, rel=1e-6)
    assert math.isnan(evaluate(OracleMargin(norms=("l_1",)), fitted)["margin_l_1"])


def test_robust_margins_are_those_under_the_attack(fit: Fits) -> None:
    attack = LinearAttack(epsilon=0.05, norm="l_inf")
    for model in (Linear(), Diagonal(init_scale=0.1)):
        fitted = fit(NormalizedGradientDescent(steps=60, learning_rate=0.02), model, attack=attack)[-1]
        found = evaluate(Margins(robust=True), fitted)
        assert fitted.run is not None
        batch = fitted.task.train.examples()
        inputs = attack.bind(fitted.task, fitted.run).perturb(fitted.network, batch, fitted.run)
        with torch.no_grad():
            outputs = fitted.network(inputs)[:, 0]
        assert found["smallest_margin"] == pytest.approx(float((outputs * (2 * batch.targets - 1)).min()))  # type: ignore[operator]
        robust, plain = (evaluate(OracleMargin(robust=r, norms=("l_2",)), fitted) for r in (True, False))
        assert robust["margin_l_2"] < plain["margin_l_2"]
    noise = fit(NormalizedGradientDescent(steps=5), attack=Noise(epsilon=0.1))[-1]
    for evaluator in (Margins(robust=True), OracleMargin(robust=True)):
        with pytest.raises(CannotGive, match="the attack states no dual norm"):
            evaluate(evaluator, noise)
    two = fit(NormalizedGradientDescent(steps=5), data=THREE, attack=attack)[-1]
    with pytest.raises(CannotGive, match="are of one output"):
        evaluate(Margins(robust=True), two)


def test_a_trajectory_is_reduced_as_the_claims_need_it(fit: Fits) -> None:
    snapshots = fit(SignDescent(steps=200, learning_rate=0.01, snapshots=tuple(range(5, 200, 5))))
    last = snapshots[-1]
    last.history = [(s.step, evaluate(Margins(), s)) for s in snapshots]
    found = evaluate(MarginTrajectory(), last)
    since = [m for _, m in last.history if m["log_loss"] < 0 or last.history.index((_, m)) > 30]
    assert found["t0"] == next(step for step, m in last.history if m["log_loss"] < 0)
    assert found["step_separated"] == next(step for step, m in last.history if m["train_accuracy"] == 1)
    assert found["step_separated"] <= found["t0"]
    soft = np.array([m["soft_margin_l_inf"] for m in since])
    assert found["own_drawdown"] == found["drawdown_l_inf"] == pytest.approx(theory.drawdown(soft))
    assert found["own_gap_start"] == since[0]["gap_l_inf"] and found["own_gap_end"] == since[-1]["gap_l_inf"]
    assert found["own_gap_integral"] <= found["own_margin_growth"] + 0.01
    last.history = last.history[:1]
    never = evaluate(MarginTrajectory(), last)
    assert never["t0"] == math.inf and math.isnan(never["own_drawdown"])


def test_whose_norm_is_whose() -> None:
    from kempeframe_flavors_of_margin.evaluators_trajectory import own_norm
    from kempeframe_flavors_of_margin.optimizers import SpectralDescent
    from kempeframe_flavors_of_margin.optimizers_oracle import MaxMargin
    from kempeframe_standard.optimizers import Ridge

    wanted = {
        CoordinateDescent(steps=1): "l_1",
        NormalizedGradientDescent(steps=1): "l_2",
        SignDescent(steps=1): "l_inf",
        SteepestDescent(steps=1, norm=1.5): "l_1_5",
        SteepestDescent(steps=1, norm="l_1", scope="max"): "max_l_1",
        SpectralDescent(steps=1): "spectral",
        SpectralDescent(steps=1, scope="sum"): "sum_spectral",
        LogAdam(steps=1): "l_inf",
        Adam(steps=1): "l_inf",
        Sgd(steps=1): "l_2",
        MaxMargin(norm="l_1"): "l_1",
        Ridge(): "",
    }
    for optimizer, norm in wanted.items():
        assert own_norm(optimizer) == norm
        if norm:
            assert f"margin_{norm}" in Margins(norms=(1.5 if norm == "l_1_5" else norm,)).columns()


def test_networks_that_are_not_what_they_state_are_refused(fit: Fits) -> None:
    with pytest.raises(CannotGive, match="Sequential states no degree of homogeneity"):
        evaluate(Margins(), fit(Sgd(steps=1), Mlp(width=4))[-1])

    def lie(network: Any) -> None:
        network.homogeneity = 3
        for layer in network:
            if isinstance(layer, torch.nn.Linear):
                torch.nn.init.ones_(layer.bias)

    fitted = fit(Sgd(steps=1, learning_rate=1e-6), Mlp(width=4), change=lie)[-1]
    with pytest.raises(ValueError, match="states the degree 3 in its parameters, and has not"):
        evaluate(Margins(), fitted)
    doubled = evaluate(Homogeneity(), fitted)
    assert doubled["degree_error"] > 0.01 and not doubled["homogeneous"]

    def normalised(network: Any) -> None:
        network.insert(1, torch.nn.BatchNorm1d(12, dtype=torch.float64))
        network.homogeneity = 3

    with pytest.raises(ValueError, match="biases, normalisation or dropout break it"):
        evaluate(Margins(), fit(Sgd(steps=1, learning_rate=1e-6), Mlp(width=4, bias=False), change=normalised)[-1])


def test_losses_without_a_soft_margin_are_refused(fit: Fits) -> None:
    with pytest.raises(CannotGive, match="the squared loss has no soft margin"):
        evaluate(Margins(), fit(Sgd(steps=1, loss="squared"))[-1])
    with pytest.raises(CannotGive, match="the hinge loss has no logarithm"):
        evaluate(LogLoss(), fit(Sgd(steps=1, loss="hinge"))[-1])


def test_oracles_cover_what_they_say(fit: Fits) -> None:
    with pytest.raises(NoTheory, match=r"standard\.linear and standard\.diagonal alone"):
        evaluate(OracleMargin(), fit(Sgd(steps=1), TwoLayer(width=3))[-1])
    crowded = GaussianMixture(dimension=3, n_train=60, separation=0.1, dtype="float64")
    with pytest.raises(NotSeparable, match="not linearly separable"):
        evaluate(OracleMargin(), fit(Sgd(steps=1), data=crowded)[-1])
    with pytest.raises(CannotGive, match="the bound is for linear models"):
        evaluate(CertifiedRatio(), fit(Sgd(steps=1), TwoLayer(width=3))[-1])


def test_a_cycle_across_a_kink_is_counted_and_said(fit: Fits, caplog: pytest.LogCaptureFixture) -> None:
    data = TeacherStudent(dimension=20, n_train=50, teacher="two_layer", neurons=2, outputs=1)
    stuck = fit(CoordinateDescent(steps=3000, learning_rate=0.02), TwoLayer(width=20), data, seed=2)[-1]
    assert evaluate(UndoFraction(), stuck)["undo_fraction"] > 0.5
    assert 'see kink = "clarke"' in caplog.text
    cured = fit(CoordinateDescent(steps=3000, learning_rate=0.02, kink="clarke"), TwoLayer(width=20), data, seed=2)[-1]
    assert evaluate(UndoFraction(), cured)["undo_fraction"] < 0.2
    assert cured.certificate["training_loss"] < stuck.certificate["training_loss"] - 0.1
    assert math.isnan(evaluate(UndoFraction(), fit(Sgd(steps=1))[-1])["undo_fraction"])
