"""K populations with different covariances reduce to the scalar theory wherever they coincide."""

from __future__ import annotations

import numpy as np
import pytest
from kempeframe_strong_collapse.theory import risk_of_vectors
from kempeframe_strong_collapse.theory_general import general_risk

DIMENSION = 40
SPECTRUM = np.arange(1.0, DIMENSION + 1) ** -0.8
BASIS = np.linalg.qr(np.random.default_rng(0).normal(size=(DIMENSION, DIMENSION)))[0]
COVARIANCE = BASIS * SPECTRUM @ BASIS.T
TARGETS = np.random.default_rng(1).normal(size=(2, DIMENSION, 3))


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 0.2), (1.0, 0.0), (0.5, 4.0)])
@pytest.mark.parametrize(("n", "penalty"), [(25, 1e-2), (40, 1e-6), (100, 0.3), (25, 1e-10)])
def test_equal_covariances_are_the_scalar_theory(
    n: int, penalty: float, weights: tuple[float, float]
) -> None:
    general = general_risk(
        np.stack([COVARIANCE, COVARIANCE]),
        n,
        penalty,
        targets=TARGETS,
        fractions=(0.7, 0.3),
        noise=(0.3, 0.8),
        weights=weights,
    )
    in_basis = np.einsum("ij,kio->kjo", BASIS, TARGETS)
    scalar = risk_of_vectors(
        SPECTRUM,
        n,
        penalty,
        real=in_basis[0],
        synthetic=in_basis[1],
        noise=0.3,
        synthetic_noise=0.8,
        synthetic_fraction=0.3,
        weights=weights,
    )
    for name in ("test_error", "bias", "variance", "collapse"):
        assert getattr(general, name) == pytest.approx(float(getattr(scalar, name)[0]), rel=1e-6, abs=1e-9)


def test_splitting_a_population_changes_nothing() -> None:
    rotated = np.diag(np.linspace(0.2, 1.5, DIMENSION))
    two = general_risk(
        np.stack([COVARIANCE, rotated]), 50, 0.01, targets=TARGETS, fractions=(0.6, 0.4), noise=0.3
    )
    three = general_risk(
        np.stack([COVARIANCE, rotated, rotated]),
        50,
        0.01,
        targets=TARGETS[[0, 1, 1]],
        fractions=(0.6, 0.1, 0.3),
        noise=0.3,
    )
    assert three.test_error == pytest.approx(two.test_error, rel=1e-10)
    assert three.e == pytest.approx(two.e[[0, 1, 1]], rel=1e-10)


def test_weighting_is_scaling_the_examples() -> None:
    """omega on a population = covariance times omega and noise variance times omega, with the same target."""
    omega = 0.3
    weighted = general_risk(
        np.stack([COVARIANCE, COVARIANCE]),
        50,
        0.01,
        targets=TARGETS,
        fractions=(0.6, 0.4),
        noise=(0.1, 0.5),
        weights=(1, omega),
    )
    scaled = general_risk(
        np.stack([COVARIANCE, omega * COVARIANCE]),
        50,
        0.01,
        targets=TARGETS,
        fractions=(0.6, 0.4),
        noise=(0.1, 0.5 * omega**0.5),
    )
    assert weighted.test_error == pytest.approx(scaled.test_error, rel=1e-12)


def test_infinitely_many_examples_with_the_same_target_are_learned() -> None:
    covariances = np.stack([COVARIANCE, np.diag(np.linspace(0.2, 1.5, DIMENSION))])
    value = general_risk(covariances, 1e12, 0, targets=TARGETS[[0, 0]], fractions=(0.6, 0.4), noise=1.0)
    assert value.test_error < 1e-9 and value.collapse == pytest.approx(0, abs=1e-15)


def test_constants_solve_their_equations() -> None:
    covariances = np.stack([COVARIANCE, np.diag(np.linspace(0.2, 1.5, DIMENSION)), np.eye(DIMENSION)])
    p, omega, n, penalty = np.array([0.2, 0.5, 0.3]), np.array([1, 0.2, 3.0]), 20, 1e-8
    value = general_risk(covariances, n, penalty, targets=TARGETS[[0, 1, 1]], fractions=p, weights=omega)
    k = np.einsum("k,kij->ij", p * value.e * omega, covariances) + penalty * np.eye(DIMENSION)
    traces = np.array([np.trace(np.linalg.solve(k, w * c)) for w, c in zip(omega, covariances, strict=True)])
    assert value.e == pytest.approx(1 / (1 + traces / n), rel=1e-9, abs=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(fractions=(0.5, 0.6)), "fractions"),
        (dict(fractions=(0.5,)), "fractions"),
        (dict(targets=TARGETS[:1]), "targets"),
        (dict(weights=(0, 0)), "weights"),
        (dict(penalty=-1.0), "penalty"),
        (dict(n_train=0), "n_train"),
        (dict(n_train=DIMENSION, penalty=0.0), "penalty = 0 needs more than d examples"),
        (dict(covariances=COVARIANCE), "covariances"),
    ],
)
def test_values_outside_their_range_raise(change: dict[str, object], message: str) -> None:
    setting: dict[str, object] = dict(
        covariances=np.stack([COVARIANCE, COVARIANCE]),
        n_train=50,
        penalty=0.1,
        targets=TARGETS,
        fractions=(0.5, 0.5),
    )
    with pytest.raises(ValueError, match=message):
        general_risk(**(setting | change))  # type: ignore[arg-type]
