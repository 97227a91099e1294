"""Models and evaluators: the projection's law, the exact risk, theory that refuses and theory that holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from kempeframe_standard.models import Linear, RandomFeatures
from kempeframe_standard.optimizers import Ridge
from kempeframe_strong_collapse import theory
from kempeframe_strong_collapse.data import GaussianMixture
from kempeframe_strong_collapse.data_iterative import IterativeMixture
from kempeframe_strong_collapse.evaluators import ExcessRisk, IterativeTheory, OptimalPenalty, OptimalWeight, Theory
from kempeframe_strong_collapse.models import RandomProjection

from kempeframe import Fit, NoTheory
from kempeframe.registry import Registry
from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.trial import Fitted, Session


@pytest.fixture
def session(tmp_path: Path) -> Session:
    Registry().load("standard")  # names of components are those of their plugins
    return Session(Store(tmp_path))


def components(**change: Any) -> Fitted:
    base = Fitted(data=GaussianMixture(), model=Linear(), optimizer=Ridge())
    return attrs.evolve(base, **change)


def test_a_wider_projection_holds_the_narrower_one(session: Session) -> None:
    task = GaussianMixture(dimension=6).load(Run(0, session))
    narrow, wide = (RandomProjection(width=m).build(task, Run(0, session)).projection for m in (2, 5))
    assert torch.equal(wide[:, :2], narrow)


@pytest.mark.parametrize("width", [3, 6, 40])
def test_the_projection_has_entries_of_variance_one_over_d(session: Session, width: int) -> None:
    task = GaussianMixture(dimension=6).load(Run(0, session))
    squares = []
    for seed in range(1500):
        projection = RandomProjection(width=width).build(task, Run(seed, session)).projection
        squares.append((projection @ projection.mT).numpy())
    found = np.array(squares)
    error = np.sqrt(found.var(0) / 1500)
    assert (np.abs(found.mean(0) - width / 6 * np.eye(6)) < 4.5 * error).all()


def test_ridge_sees_the_projection_through_its_square_alone(session: Session) -> None:
    """A wide projection and the triangular factor of its square give the same function."""
    from kempeframe_strong_collapse.networks import Projection

    task = GaussianMixture(dimension=5, n_train=30).load(Run(0, session))
    wide = np.random.default_rng(0).standard_normal((5, 12))
    weights = []
    for projection in (wide, np.linalg.cholesky(wide @ wide.T)):
        network = Projection(projection, 1, torch.float64)
        list(Ridge(penalty=1e-2).fit(network, task, None, Run(0, session)))
        weights.append(network.effective_weight().detach().numpy())
    np.testing.assert_allclose(*weights, rtol=1e-9)


def test_the_excess_risk_is_the_error_on_fresh_clean_labels(session: Session) -> None:
    data = GaussianMixture(dimension=6, spectrum=0.8, n_train=20, synthetic_fraction=0.5)
    fitted = session.fitted(Fit(data=data, model=Linear(), optimizer=Ridge()), Run(1, session))
    exact = ExcessRisk().evaluate(fitted, Run(1, session))["test_error"]
    inputs = np.random.default_rng(9).standard_normal((200_000, 6)) * np.sqrt(data.population().eigenvalues)
    clean = inputs @ data.labels(Run(1, session))[0]
    with torch.no_grad():
        squared = (fitted.network(torch.from_numpy(inputs)).numpy()[:, 0] - clean) ** 2
    assert abs(squared.mean() - exact) < 4.5 * squared.std() / np.sqrt(len(squared))


@pytest.mark.parametrize(
    ("change", "lacking"),
    [
        ({"model": RandomFeatures()}, "standard.random_features"),
        ({"model": None}, "no model"),
        ({"optimizer": None}, "no optimizer"),
        ({"data": IterativeMixture()}, "iterative_mixture"),
    ],
)
def test_theory_refuses_what_it_does_not_cover(session: Session, change: dict[str, Any], lacking: str) -> None:
    Registry().load("strong_collapse")
    for evaluator in (Theory(), OptimalWeight(), OptimalPenalty()):
        with pytest.raises(NoTheory, match=lacking):
            evaluator.evaluate(components(**change), Run(0, session))


def test_iterative_theory_refuses_what_it_does_not_cover(session: Session) -> None:
    for data in (GaussianMixture(), IterativeMixture(fresh_real=False), IterativeMixture(synthetic_weight=0.5)):
        with pytest.raises(NoTheory):
            IterativeTheory().evaluate(components(data=data), Run(0, session))


def test_many_points_at_once_are_each_alone(session: Session) -> None:
    fits = [
        components(data=GaussianMixture(dimension=d, n_train=n, synthetic_fraction=p2), model=model)
        for d, n, p2 in ((20, 30, 0.5), (20, 300, 0.1), (50, 30, 1.0))
        for model in (Linear(), RandomProjection(width=25))
    ]
    runs = [Run(0, session)] * len(fits)
    together = Theory().evaluate_many(fits, runs)
    for fitted, found in zip(fits, together, strict=True):
        assert found == pytest.approx(dict(Theory().evaluate(fitted, runs[0])), rel=1e-12)


def test_theory_counts_the_rounded_synthetic_examples(session: Session) -> None:
    data = GaussianMixture(n_train=200, synthetic_fraction=0.002)
    rounded = Theory().evaluate(components(data=data), Run(0, session))
    assert rounded["collapse"] == 0


def test_the_evaluators_agree_with_the_formulas(session: Session) -> None:
    data = GaussianMixture(dimension=10, n_train=10_000, synthetic_fraction=0.5, noise=1.0, synthetic_noise=1.0)
    best = OptimalWeight().evaluate(components(data=data, optimizer=Ridge(penalty=1e-8)), Run(0, session))
    assert best["test_error"] < min(best["real_only"], best["unweighted"])
    again = theory.risk(
        np.ones(10), 10_000, 1e-8, signal=0.1, shift=0.1, noise=1.0, synthetic_noise=1.0,
        synthetic_fraction=0.5, weights=(1.0, best["weight"]),
    )  # fmt: skip
    assert again.test_error[0] == pytest.approx(best["test_error"])


@pytest.mark.slow
def test_iterative_theory_is_what_is_measured(session: Session) -> None:
    """Four rounds, 200 seeds, isotropic and power law."""
    for spectrum in (0.0, 1.0):
        data = IterativeMixture(dimension=40, spectrum=spectrum, n_train=400, synthetic_fraction=0.5, noise=0.5)
        for number in range(1, 4):
            fit = Fit(data=data, model=Linear(), optimizer=Ridge(penalty=1e-3), stream=f"round.{number}")
            data = attrs.evolve(data, previous=fit)
        last = Fit(data=data, model=Linear(), optimizer=Ridge(penalty=1e-3), stream="round.4")
        errors = []
        for seed in range(200):
            run = session.run_of(last, seed)
            errors.append(ExcessRisk().evaluate(session.fitted(last, Run(seed, session)), run)["test_error"])
        predicted = IterativeTheory().evaluate(
            Fitted(data=data, model=Linear(), optimizer=Ridge(penalty=1e-3)), Run(0, session)
        )["test_error"]
        z = (np.mean(errors) - predicted) / (np.std(errors) / np.sqrt(len(errors)))
        assert abs(z) < 3.5
