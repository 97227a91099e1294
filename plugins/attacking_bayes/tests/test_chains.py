"""Split R-hat and effective sample size: against arviz, and on series of known autocorrelation."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from kempeframe_attacking_bayes.theory_chains import effective_sample_size, split_r_hat


def autoregressive(rho: float, chains: int, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = np.empty((chains, n))
    x[:, 0] = rng.standard_normal(chains)
    for t in range(1, n):
        x[:, t] = rho * x[:, t - 1] + (1 - rho**2) ** 0.5 * rng.standard_normal(chains)
    return x


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, -0.5])
def test_effective_sample_size_of_an_autoregressive_series(rho: float) -> None:
    """n (1 - rho) / (1 + rho); an antithetic series is worth more than its length."""
    expected = 4 * 5000 * (1 - rho) / (1 + rho)
    found = np.mean([effective_sample_size(autoregressive(rho, 4, 5000, seed))[0] for seed in range(5)])
    assert found == pytest.approx(expected, rel=0.1)


WRITTEN_DOWN = [  # rho, chains, n, and what arviz 0.23.4 gives: split R-hat, ESS of the mean
    (0.0, 4, 60, 0.9890362869, 251.052172),
    (0.7, 4, 60, 1.0129329569, 70.79035),
    (-0.4, 4, 61, 0.9856237066, 571.250698),
    (0.9, 2, 200, 1.0434792184, 37.385168),
    (0.3, 3, 25, 1.1667087246, 17.404647),
]


@pytest.mark.parametrize(("rho", "chains", "n", "r_hat", "ess"), WRITTEN_DOWN)
def test_both_are_what_arviz_gives(rho: float, chains: int, n: int, r_hat: float, ess: float) -> None:
    draws = autoregressive(rho, chains, n, seed=7)
    assert split_r_hat(draws)[0] == pytest.approx(r_hat, rel=1e-9)
    assert effective_sample_size(draws)[0] == pytest.approx(ess, rel=1e-6)


@pytest.mark.parametrize(("rho", "chains", "n"), [case[:3] for case in WRITTEN_DOWN])
def test_both_agree_with_arviz(rho: float, chains: int, n: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arviz = pytest.importorskip("arviz", reason="arviz is not installed: nothing to compare with")
        draws = autoregressive(rho, chains, n, seed=7)
        r_hat = float(arviz.rhat(draws, method="split"))
        ess = float(arviz.ess(draws, method="mean"))
    assert split_r_hat(draws)[0] == pytest.approx(r_hat, rel=1e-10)
    assert effective_sample_size(draws)[0] == pytest.approx(ess, rel=1e-6)


def test_split_r_hat_by_its_definition() -> None:
    """Four half chains, written out: W the mean of their variances, B/n the variance of their means."""
    draws = np.random.default_rng(3).standard_normal((2, 10)) + np.array([[0.0], [1.0]])
    halves = [draws[0, :5], draws[0, 5:], draws[1, :5], draws[1, 5:]]
    within = np.mean([np.var(half, ddof=1) for half in halves])
    between = np.var([half.mean() for half in halves], ddof=1)
    assert split_r_hat(draws)[0] == pytest.approx(((0.8 * within + between) / within) ** 0.5)


def test_chains_that_disagree_or_drift_are_seen() -> None:
    rng = np.random.default_rng(0)
    agree = rng.standard_normal((4, 200))
    assert split_r_hat(agree)[0] < 1.02
    assert split_r_hat(agree + np.arange(4)[:, None])[0] > 1.3
    assert split_r_hat(agree + np.linspace(0, 3, 200))[0] > 1.2  # all drift alike: only the split shows it


def test_shapes_and_constants() -> None:
    draws = np.random.default_rng(0).standard_normal((3, 20, 5, 2))
    draws[:, :, 0, 0] = 7
    assert split_r_hat(draws).shape == effective_sample_size(draws).shape == (10,)
    assert split_r_hat(draws)[0] == 1
    assert np.isnan(effective_sample_size(draws)[0])
    assert np.isnan(split_r_hat(np.zeros((2, 3)))).all()
