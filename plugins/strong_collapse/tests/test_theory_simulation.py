"""The closed form against ridge regression on drawn Gaussian designs.

Given the design (X, S) the expectation over targets and noise is computed exactly, so that a few designs
give each part of the error to about one percent: bias, variance and collapse are compared one by one. The
theory is a limit in the dimension; the allowance for finite dimension is 1.5 % of the total, far below what
a wrong convention changes.
"""

from __future__ import annotations

import numpy as np
import pytest
from kempeframe_strong_collapse.theory import risk, risk_of_vectors
from kempeframe_strong_collapse.theory_equation import FloatArray
from kempeframe_strong_collapse.theory_general import general_risk
from kempeframe_strong_collapse.theory_mixing import iterative_errors

FINITE_DIMENSION = 0.015
BOUND = 3.5


def estimator(
    x: FloatArray, omega: FloatArray, penalty: float, projection: FloatArray | None = None
) -> FloatArray:
    """The matrix H (d, n) of ridge regression, w_hat = H y: (1/n) sum omega (x.w - y)^2 + penalty |v|^2."""
    features = x if projection is None else x @ projection
    weighted = features.T * omega / len(x)
    h = np.linalg.solve(weighted @ features + penalty * np.eye(features.shape[1]), weighted)
    return np.asarray(h if projection is None else projection @ h, dtype=np.float64)


def simulate_parts(
    s: FloatArray,
    n: int,
    penalty: float,
    width: int | None,
    n_synthetic: int,
    weights: tuple[float, float],
    signal: FloatArray,
    shift: FloatArray,
    noises: tuple[float, float],
    designs: int,
    seed: int,
    projection_variance: float | None = None,
) -> FloatArray:
    """Bias, variance and collapse (designs, 3), expectations over targets and noise given the design."""
    rng, d, real = np.random.default_rng(seed), s.size, n - n_synthetic
    omega = np.repeat(weights, (real, n_synthetic))
    noise_variance = np.repeat(np.square(noises), (real, n_synthetic))
    found = []
    for _ in range(designs):
        x = rng.normal(size=(n, d)) * np.sqrt(s)
        projection = None
        if width is not None:
            projection = rng.normal(size=(d, width)) * np.sqrt(projection_variance or 1 / d)
        h = estimator(x, omega, penalty, projection)
        missing, moved = h @ x - np.eye(d), h[:, real:] @ x[real:]
        found.append(
            [
                (s[:, None] * missing**2 * signal).sum(),
                (s[:, None] * h**2 * noise_variance).sum(),
                (s[:, None] * moved**2 * shift).sum(),
            ]
        )
    return np.array(found)


def assert_agreement(simulated: FloatArray, theory: FloatArray, scale: float) -> None:
    """|mean - theory| within BOUND standard errors, which must be small; finite dimension is allowed for."""
    error = simulated.std(axis=0, ddof=1) / np.sqrt(len(simulated))
    assert (error < 0.04 * scale).all(), "too few designs to tell"
    z = (simulated.mean(axis=0) - theory) / np.hypot(error, FINITE_DIMENSION * scale)
    assert (np.abs(z) < BOUND).all(), f"z = {z}, simulation {simulated.mean(axis=0)}, theory {theory}"


D = 120
SPECTRA = {"isotropic": np.ones(D), "power": np.arange(1.0, D + 1) ** -1.2}
AGREEMENT = [
    # n, penalty, width, synthetic examples, weights
    (200, 1e-2, None, 40, (1, 1)),
    (60, 1e-2, None, 30, (1, 1)),
    (300, 1e-3, None, 300, (1, 1)),
    (150, 1e-2, 80, 75, (1, 1)),
    (80, 1e-2, 200, 80, (1, 1)),
    (100, 3e-2, 100, 50, (1, 1)),
    (200, 1e-2, None, 100, (1, 0.2)),
    (150, 1e-2, 80, 75, (1, 0.2)),
    (100, 1e-2, 250, 30, (0.3, 1)),
    (60, 1e-1, 60, 48, (1, 1)),
]


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize(("n", "penalty", "width", "n_synthetic", "weights"), AGREEMENT)
def test_agreement(
    spectrum: str, n: int, penalty: float, width: int | None, n_synthetic: int, weights: tuple[float, float]
) -> None:
    """Section 5.1: noise variances .1 and .3, c^2 = .5 for the isotropic spectrum; 20 points."""
    s = SPECTRA[spectrum]
    signal, shift, noises = np.full(D, 1 / D), np.full(D, 0.5 / D), (0.1**0.5, 0.3**0.5)
    theory = risk(
        s,
        n,
        penalty,
        width=width or np.inf,
        n_synthetic=n_synthetic,
        weights=weights,
        signal=signal,
        shift=shift,
        noise=noises[0],
        synthetic_noise=noises[1],
    )
    simulated = simulate_parts(s, n, penalty, width, n_synthetic, weights, signal, shift, noises, 16, seed=n)
    expected = np.array([theory.bias[0], theory.variance[0], theory.collapse[0]])
    assert_agreement(simulated, expected, scale=float(theory.test_error[0]))


def test_the_bounds_can_fail() -> None:
    """Trap T2: a projection with entries N(0, 1/m) is another model, and the comparison notices."""
    s, signal, shift, noises = np.ones(D), np.full(D, 1 / D), np.full(D, 0.5 / D), (0.3, 0.5)
    theory = risk(
        s, 40, 0.1, width=30, n_synthetic=20, signal=signal, shift=shift, noise=0.3, synthetic_noise=0.5
    )
    expected = np.array([theory.bias[0], theory.variance[0], theory.collapse[0]])
    setting = (s, 40, 0.1, 30, 20, (1, 1), signal, shift, noises, 16, 0)
    assert_agreement(simulate_parts(*setting), expected, float(theory.test_error[0]))
    with pytest.raises(AssertionError, match="z = "):
        assert_agreement(
            simulate_parts(*setting, projection_variance=1 / 30), expected, float(theory.test_error[0])
        )


@pytest.mark.parametrize(
    ("teacher", "penalty", "printed"), [("over", 0.1, -0.000993), ("shrunken", 0.1, 0.002407)]
)
def test_collapse_of_correlated_vectors(teacher: str, penalty: float, printed: float) -> None:
    """Trap T13: paired with the same design and w2 = w1, noise averaged out; negative for one teacher."""
    d, n = 100, 150
    s, w1 = np.arange(1.0, d + 1) ** -1.2, np.full(d, 0.1)
    w2 = 2 * w1 if teacher == "over" else s / (s + 0.1) * w1
    rng, differences = np.random.default_rng(3), []
    for _ in range(300):
        x = rng.normal(size=(n, d)) * np.sqrt(s)
        h = estimator(x, np.ones(n), penalty)
        clean = h @ (x @ w1)
        mixed = clean + h[:, 75:] @ (x[75:] @ (w2 - w1))
        differences.append((s * (mixed - w1) ** 2).sum() - (s * (clean - w1) ** 2).sum())
    collapse = risk_of_vectors(s, n, penalty, real=w1, synthetic=w2, n_synthetic=75, noise=0.1**0.5).collapse[
        0
    ]
    assert collapse == pytest.approx(printed, rel=1e-3)
    mean, error = np.mean(differences), np.std(differences, ddof=1) / np.sqrt(len(differences))
    assert abs(mean - collapse) < BOUND * np.hypot(error, FINITE_DIMENSION * abs(collapse))
    assert np.sign(collapse) * mean > 3 * error


GENERAL = [
    # n, penalty, examples per population, weights
    (100, 1e-2, (50, 50), (1, 1)),
    (200, 1e-2, (100, 100), (1, 0.2)),
    (50, 1e-2, (40, 10), (1, 3)),
    (120, 1e-1, (30, 50, 40), (1, 0.5, 2)),
]


@pytest.mark.parametrize(("n", "penalty", "counts", "weights"), GENERAL)
@pytest.mark.parametrize("out_of_distribution", [False, True])
def test_general_covariances(
    n: int, penalty: float, counts: tuple[int, ...], weights: tuple[float, ...], out_of_distribution: bool
) -> None:
    """Section 5.2: d = 80, Sigma_1 = diag j^-.8, Sigma_2 rotated; fixed targets, noise averaged."""
    d, rng = 80, np.random.default_rng(4)
    basis = np.linalg.qr(rng.normal(size=(d, d)))[0]
    spectra = [np.arange(1.0, d + 1) ** -0.8, np.linspace(0.2, 1.5, d), np.full(d, 0.5)]
    roots = [
        np.diag(np.sqrt(spectra[0])),
        basis * np.sqrt(spectra[1]) @ basis.T,
        np.diag(np.sqrt(spectra[2])),
    ]
    roots = roots[: len(counts)]
    targets = rng.normal(size=(len(counts), d)) / np.sqrt(d)
    noise, p = np.array([0.1, 0.3, 0.2])[: len(counts)], np.array(counts) / n
    test_root = roots[1] if out_of_distribution else roots[0]
    theory = general_risk(
        np.stack([root @ root for root in roots]),
        n,
        penalty,
        targets=targets,
        fractions=p,
        noise=noise,
        weights=weights,
        test_covariance=test_root @ test_root,
    )
    omega, noise_variance = np.repeat(weights, counts), np.repeat(noise**2, counts)
    simulated = []
    for _ in range(120):
        blocks = [rng.normal(size=(count, d)) @ root for count, root in zip(counts, roots, strict=True)]
        h = estimator(np.concatenate(blocks), omega, penalty)
        labels = [
            np.concatenate([block @ w for block, w in zip(blocks, targets, strict=True)]),
            np.concatenate(blocks) @ targets[0],
        ]
        mixed, clean = (((test_root @ (h @ y - targets[0])) ** 2).sum() for y in labels)
        simulated.append([clean, ((test_root @ h) ** 2 * noise_variance).sum(), mixed - clean])
    expected = np.array([theory.bias, theory.variance, theory.collapse])
    assert_agreement(np.array(simulated), expected, theory.test_error)


def test_iterative_mixing() -> None:
    """Section 5.4 with another spectrum: chains of five rounds, fresh inputs in each."""
    d, n, n_synthetic, penalty, rounds, chains = 60, 150, 90, 1e-2, 5, 250
    s = np.arange(1.0, d + 1) ** -0.5
    w1, delta = np.full(d, 0.5), np.where(np.arange(d) % 2, 0.3, -0.2)
    rng = np.random.default_rng(5)
    errors = np.empty((chains, rounds))
    for chain in range(chains):
        w = w1 + delta
        for t in range(rounds):
            x = rng.normal(size=(n, d)) * np.sqrt(s)
            y = np.concatenate([x[n_synthetic:] @ w1, x[:n_synthetic] @ w])
            y += rng.normal(size=n) * np.repeat((0.3, 0.6), (n - n_synthetic, n_synthetic))
            w = estimator(np.concatenate([x[n_synthetic:], x[:n_synthetic]]), np.ones(n), penalty) @ y
            errors[chain, t] = (s * (w - w1) ** 2).sum()
    theory = iterative_errors(
        s,
        n,
        penalty,
        rounds=rounds,
        signal=w1**2,
        shift=delta**2,
        cross=w1 * delta,
        noise=0.3,
        synthetic_noise=0.6,
        synthetic_fraction=n_synthetic / n,
    )[1:, 0]
    standard_error = errors.std(axis=0, ddof=1) / np.sqrt(chains)
    assert (standard_error < 0.04 * theory).all()
    z = (errors.mean(axis=0) - theory) / np.hypot(standard_error, FINITE_DIMENSION * theory)
    assert (np.abs(z) < BOUND).all(), z
