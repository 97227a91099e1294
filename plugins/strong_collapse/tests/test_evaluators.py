"""Different covariances: the data, the theory of it, and what the theories refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from kempeframe_standard.models import Linear, RandomFeatures
from kempeframe_standard.optimizers import Ridge
from kempeframe_strong_collapse.data import GaussianMixture, GeneralMixture
from kempeframe_strong_collapse.data_iterative import IterativeMixture
from kempeframe_strong_collapse.evaluators import (
    ExcessRisk,
    GeneralTheory,
    IterativeTheory,
    OptimalPenalty,
    OptimalWeight,
    Theory,
)
from kempeframe_strong_collapse.models import RandomProjection
from kempeframe_strong_collapse.population import random_rotation

from kempeframe import Fit, NoTheory
from kempeframe.registry import Registry
from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.trial import Fitted, Session


@pytest.fixture
def session(tmp_path: Path) -> Session:
    for plugin in ("standard", "strong_collapse"):
        Registry().load(plugin)  # names of components are those of their plugins
    return Session(Store(tmp_path))


def general(**change: Any) -> GeneralMixture:
    fields = dict(dimension=12, spectrum=0.8, synthetic_spectrum=0.3, n_train=40, synthetic_fraction=0.5)
    return GeneralMixture(**(fields | change))


def theory_of(data: GaussianMixture, session: Session, seed: int = 0, **change: Any) -> dict[str, float]:
    parts: dict[str, Any] = dict(model=Linear(), optimizer=Ridge(penalty=1e-2), run=Run(seed, session)) | change
    return dict(GeneralTheory().evaluate(Fitted(data=data, **parts), Run(seed, session)))


def test_a_rotation_is_orthogonal_and_has_no_preferred_direction() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([random_rotation(4, rng) for _ in range(4000)])
    np.testing.assert_allclose(drawn @ drawn.transpose(0, 2, 1), np.broadcast_to(np.eye(4), drawn.shape), atol=1e-12)
    assert (np.abs(drawn.mean(0)) < 4.5 * drawn.std(0) / np.sqrt(4000)).all()
    assert (drawn**2).mean(0) == pytest.approx(np.full((4, 4), 0.25), abs=0.02)


def test_equal_covariances_are_the_gaussian_mixture(session: Session) -> None:
    shared = dict(dimension=5, spectrum=0.7, n_train=20, synthetic_fraction=0.4)
    same = GeneralMixture(synthetic_spectrum=0.7, rotated=False, **shared).load(Run(1, session)).train.examples()  # type: ignore[arg-type]
    plain = GaussianMixture(**shared).load(Run(1, session)).train.examples()  # type: ignore[arg-type]
    torch.testing.assert_close(same.inputs, plain.inputs)
    torch.testing.assert_close(same.targets, plain.targets)


def test_only_the_synthetic_inputs_change(session: Session) -> None:
    mixed = general().load(Run(0, session)).train.examples()
    plain = GaussianMixture(dimension=12, spectrum=0.8, n_train=40).load(Run(0, session)).train.examples()
    assert torch.equal(mixed.inputs[:20], plain.inputs[:20])
    assert not torch.isclose(mixed.inputs[20:], plain.inputs[20:]).any(dim=1).all()


def test_synthetic_inputs_have_the_covariance_that_the_truth_gives(session: Session) -> None:
    task = general(dimension=4, n_train=40_000, synthetic_fraction=1.0).load(Run(0, session))
    inputs = task.train.examples().inputs.numpy()
    products = inputs[:, :, None] * inputs[:, None, :]
    error = products.std(0) / np.sqrt(len(inputs))
    assert (np.abs(products.mean(0) - task.truth["synthetic_covariance"]) < 4.5 * error).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampler": "moments"}, "different covariances need examples"),
        ({"synthetic_spectrum": (1.0, 2.0)}, "lists 2 eigenvalues"),
        ({"synthetic_spectrum": (0.0,) * 12}, "all eigenvalues are 0"),
    ],
)
def test_bad_fields_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        general(**change)


@pytest.mark.parametrize(("weight", "spectrum"), [(1.0, 0.0), (0.3, 0.6), (0.0, 0.6)])
def test_with_equal_covariances_it_is_the_scalar_theory(session: Session, weight: float, spectrum: float) -> None:
    """Isotropic, a rotation changes nothing; otherwise without one. The shift's sign is independent of the signal's."""
    data = general(
        spectrum=spectrum, synthetic_spectrum=spectrum, rotated=spectrum == 0, synthetic_weight=weight, shift=3
    )
    found = theory_of(data, session)
    scalar = attrs.asdict(data, filter=lambda field, _: field.name not in ("synthetic_spectrum", "rotated"))
    parts = Fitted(data=GaussianMixture(**scalar), model=Linear(), optimizer=Ridge(penalty=1e-2))
    wanted = Theory().evaluate(parts, Run(0, session))
    for name in ("bias", "variance"):
        assert found[name] == pytest.approx(wanted[name], rel=1e-8)
    other = [theory_of(data, session, seed)["collapse"] for seed in range(40)]  # E over the signs: no cross term
    distinct = sorted({round(value, 12) for value in other})
    assert np.mean([distinct[0], distinct[-1]]) == pytest.approx(wanted["collapse"], rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("weight", [1.0, 0.2])
def test_the_theory_of_different_covariances_is_what_is_measured(session: Session, weight: float) -> None:
    """30 dimensions, 80 examples, 200 seeds: measured minus theory, both for the seed's own truth."""
    data = general(dimension=30, n_train=80, synthetic_weight=weight, noise=0.3, synthetic_noise=0.5)
    fit = Fit(data=data, model=Linear(), optimizer=Ridge(penalty=1e-2))
    measured, predicted = [], []
    for seed in range(200):
        run = session.run_of(fit, seed)
        measured.append(ExcessRisk().evaluate(session.fitted(fit, Run(seed, session)), run)["test_error"])
        predicted.append(theory_of(data, session, seed)["test_error"])
    gap = np.array(measured) - predicted
    assert abs(gap.mean()) < 3.5 * gap.std() / np.sqrt(200) + 0.02 * np.mean(predicted)
    assert gap.std() / np.sqrt(200) < 0.04 * np.mean(predicted), "too few seeds to tell"


@pytest.mark.parametrize(
    ("data", "change", "message"),
    [
        (GaussianMixture(), {}, "strong_collapse.gaussian_mixture"),
        (general(), {"model": RandomProjection()}, "random projections"),
        (general(), {"model": RandomFeatures()}, "standard.random_features"),
        (general(), {"optimizer": None}, "no optimizer"),
        (general(n_train=10), {"optimizer": Ridge(penalty=0.0)}, "more examples than dimensions"),
        (general(n_train=20, synthetic_weight=0.0), {"optimizer": Ridge(penalty=0.0)}, "more examples than dimensions"),
        (general(synthetic_fraction=1.0, synthetic_weight=0.0), {}, "every example has weight 0"),
    ],
)
def test_the_theory_refuses_what_it_does_not_cover(
    session: Session, data: GaussianMixture, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(NoTheory, match=message):
        theory_of(data, session, **change)


@pytest.mark.parametrize("evaluator", [Theory(), OptimalWeight(), OptimalPenalty(), IterativeTheory()])
def test_the_other_theories_refuse_different_covariances(session: Session, evaluator: Any) -> None:
    parts = Fitted(data=general(), model=Linear(), optimizer=Ridge())
    with pytest.raises(NoTheory, match=r"strong_collapse\.general_mixture"):
        evaluator.evaluate(parts, Run(0, session))


def test_iterative_theory_covers_no_projection(session: Session) -> None:
    parts = Fitted(data=IterativeMixture(), model=RandomProjection(), optimizer=Ridge())
    with pytest.raises(NoTheory, match="random projections"):
        IterativeTheory().evaluate(parts, Run(0, session))
