"""The paper's mathematics against worked numbers, simulation, and second derivations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from kempeframe_attacking_bayes import theory_detection as detection
from kempeframe_attacking_bayes.theory_gaussian import GaussianPosterior, conjugate
from kempeframe_attacking_bayes.theory_predictive import (
    FLOAT32_SATURATION,
    epistemic_uncertainty,
    log_mean_softmax,
    total_uncertainty,
)
from kempeframe_attacking_bayes.theory_variational import best_mean_field, function_space_kl, kl_to_prior

F64 = torch.float64


# ---- W1, W2: the mean predictive and its gradient ------------------------------------------------------------------


def test_w1_predictive_and_entropies() -> None:
    logits = torch.tensor([[[2, 0, -1]], [[0.5, 1.5, 0]], [[-1, 0.2, 3]]], dtype=F64)
    log_mean = log_mean_softmax(logits)
    assert log_mean.exp()[0].tolist() == pytest.approx([0.3639970990, 0.2663593835, 0.3696435175], abs=1e-10)
    assert float(total_uncertainty(log_mean)) == pytest.approx(1.0881032780, abs=1e-10)
    assert float(epistemic_uncertainty(logits)) == pytest.approx(0.5107528915, abs=1e-10)


W1 = torch.tensor([[1, -0.5], [0, 0.3], [-0.4, 0.8]], dtype=F64)
W2 = torch.tensor([[0.2, 0.6], [-1, 0.1], [0.5, -0.7]], dtype=F64)


def gradient(loss) -> tuple[float, list[float]]:  # type: ignore[no-untyped-def]
    x = torch.tensor([[0.3, 0.9]], dtype=F64, requires_grad=True)
    value = loss(torch.stack([x @ W1.T, x @ W2.T]))
    (found,) = torch.autograd.grad(value, x)
    return float(value.detach()), found[0].tolist()


def test_w2_gradients_of_four_losses() -> None:
    cross_entropy, right = torch.nn.functional.cross_entropy, torch.tensor([0])
    value, found = gradient(lambda z: -log_mean_softmax(z)[0, 0])
    assert value == pytest.approx(0.9468000467, abs=1e-10)
    assert found == pytest.approx([-0.4434472498, -0.0309678457], abs=1e-10)
    _, mean_of_losses = gradient(lambda z: sum(cross_entropy(one, right) for one in z) / 2)
    assert mean_of_losses == pytest.approx([-0.6045194177, 0.2418376082], abs=1e-10)
    value, twice = gradient(lambda z: cross_entropy(log_mean_softmax(z).exp(), right))
    assert value == pytest.approx(1.0448155260, abs=1e-10)
    assert twice == pytest.approx([-0.1668587592, -0.0114686575], abs=1e-10)
    _, of_logits = gradient(lambda z: cross_entropy(z.mean(dim=0), right))
    assert of_logits == pytest.approx([-0.5135152195, 0.0462140592], abs=1e-10)


def test_the_gradient_weighs_samples_by_how_right_they_are() -> None:
    """-grad log pbar_y = -sum_s w_s grad log p_s,y, w_s = p_s,y / sum_r p_r,y (brief, 3.1)."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(5, 3, 4, generator=generator, dtype=F64)
    x = torch.randn(4, generator=generator, dtype=F64).requires_grad_()
    logits = (weights @ x)[:, None]
    (whole,) = torch.autograd.grad(-log_mean_softmax(logits)[0, 1], x, retain_graph=True)
    logs = logits.log_softmax(dim=-1)[:, 0, 1]
    parts = [torch.autograd.grad(-one, x, retain_graph=True)[0] for one in logs]
    shares = logs.detach().softmax(dim=0)
    assert torch.allclose(whole, sum(s * g for s, g in zip(shares, parts, strict=True)), atol=1e-14)


def test_the_output_is_a_valid_logit_vector() -> None:
    logits = 30 * torch.randn(9, 20, 5, dtype=F64, generator=torch.Generator().manual_seed(0))
    log_mean = log_mean_softmax(logits)
    assert log_mean.logsumexp(dim=1).abs().max() < 1e-12
    assert torch.allclose(log_mean.log_softmax(dim=1), log_mean, atol=1e-12)


def test_one_output_is_two_classes() -> None:
    """The log-odds of the mean predictive, whether written with one output or with the logits (0, f)."""
    f = 3 * torch.randn(6, 10, 1, dtype=F64, generator=torch.Generator().manual_seed(0))
    two = torch.cat([torch.zeros_like(f), f], dim=-1)
    log_mean = log_mean_softmax(two)
    assert torch.allclose(log_mean_softmax(f)[:, 0], log_mean[:, 1] - log_mean[:, 0], atol=1e-12)
    assert torch.allclose(total_uncertainty(log_mean_softmax(f)), total_uncertainty(log_mean), atol=1e-12)
    assert torch.allclose(epistemic_uncertainty(f), epistemic_uncertainty(two), atol=1e-12)


def test_entropy_of_a_one_hot_prediction_is_zero_and_has_a_gradient() -> None:
    logits = torch.tensor([[[2000.0, 0.0, -5.0]]], requires_grad=True)
    entropy = total_uncertainty(log_mean_softmax(logits))
    assert float(entropy.detach()) == 0
    (found,) = torch.autograd.grad(entropy.sum(), logits)
    assert torch.isfinite(found).all()


# ---- W7: saturation ------------------------------------------------------------------------------------------------


def test_w7_float32_loses_the_right_class_first() -> None:
    def of(margin: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        z = torch.tensor([[margin, 0, -1]], dtype=dtype, requires_grad=True)
        (found,) = torch.autograd.grad(torch.nn.functional.cross_entropy(z, torch.tensor([0])), z)
        return found[0]

    assert float(of(10)[0]) == pytest.approx(-6.2108e-5, rel=1e-3)
    assert float(of(17)[0]) == 0
    assert float(of(17)[1]) > 0
    assert float(of(17, F64)[0]) == pytest.approx(-5.6629e-8, rel=1e-4)
    assert not of(104.5).any()
    assert pytest.approx(16.6355, abs=1e-4) == FLOAT32_SATURATION


# ---- W3: selective accuracy ----------------------------------------------------------------------------------------


def test_w3_average_selective_accuracy() -> None:
    assert detection.asa([0.1, 0.2, 0.3, 0.4, 0.5], [1, 1, 0, 1, 0]) == pytest.approx(0.8033333333)
    assert detection.asa([0.1, 0.2, 0.2, 0.4, 0.4], [1, 1, 0, 1, 0]) == pytest.approx(0.7283333333)
    assert detection.asa([2.0] * 4, [1, 0, 0, 1]) == pytest.approx(0.5)


def test_ties_count_as_the_mean_over_their_orders() -> None:
    rng = np.random.default_rng(0)
    u, right = rng.integers(0, 4, 30), rng.integers(0, 2, 30)
    jittered = [detection.asa(u + 1e-6 * rng.random(30), right) for _ in range(4000)]
    assert np.mean(jittered) == pytest.approx(detection.asa(u, right), abs=4 * np.std(jittered) / 4000**0.5)


@pytest.mark.parametrize(
    ("adversarial", "exact", "grid"),
    [(2.0, detection.PERFECT_ASA, 0.844086), (1.0, detection.BLIND_ASA, 0.5), (0.5, detection.FOOLED_ASA, 0.155914)],
)
def test_reference_values_of_asa(adversarial: float, exact: float, grid: float) -> None:
    n = 20_000
    u, right = np.r_[np.ones(n), np.full(n, adversarial)], np.r_[np.ones(n), np.zeros(n)]
    assert detection.asa(u, right) == pytest.approx(exact, abs=1e-4)
    assert detection.asa_on_grid(u, right) == pytest.approx(grid, abs=1e-4)


def test_auroc_and_its_curve_agree_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    a, b = rng.integers(2, 12, 60), rng.integers(0, 10, 80)
    labels, scores = np.r_[np.ones(60), np.zeros(80)], np.r_[a, b]
    assert detection.auroc(a, b) == pytest.approx(metrics.roc_auc_score(labels, scores))
    false, true, _ = metrics.roc_curve(labels, scores)
    grid, found = detection.roc_curve(a, b, 41)
    keep = np.r_[np.diff(false) > 0, True]
    assert found == pytest.approx(np.interp(grid, false[keep], true[keep]))
    assert math.isnan(detection.auroc([], b))


# ---- W4, W5 and 3.5: the Gaussian linear posterior -----------------------------------------------------------------

MEAN = np.array([0.8, -0.5, 0.1])
COVARIANCE = np.array([[0.3, 0.1, 0], [0.1, 0.2, -0.05], [0, -0.05, 0.4]])


def test_w4() -> None:
    posterior, x = GaussianPosterior(MEAN, COVARIANCE), np.array([[1.0, -0.5, 2.0]])
    assert posterior.predictive(x)[0] == pytest.approx(0.7666252951, abs=1e-10)
    # The brief's gradient is that of the probability: the score's times the normal density there.
    score = MEAN @ x[0] / math.sqrt(1 + x[0] @ COVARIANCE @ x[0])
    density = math.exp(-(score**2) / 2) / math.sqrt(2 * math.pi)
    found = density * posterior.predictive_gradient(x)[0]
    assert found == pytest.approx([0.1237047921, -0.0815635992, -0.0444823703], abs=1e-10)
    assert posterior.critical_epsilon(x)[0] == pytest.approx(0.8928571429, abs=1e-10)
    assert posterior.kappa(1) == pytest.approx(0.7610610196, abs=1e-10)


def test_the_predictive_is_the_mean_over_the_posterior() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 3))
    draws = rng.multivariate_normal(MEAN, COVARIANCE, 400_000)
    from scipy.special import ndtr

    found = ndtr(draws @ x.T)
    error = found.std(axis=0) / len(draws) ** 0.5
    assert np.all(np.abs(found.mean(axis=0) - GaussianPosterior(MEAN, COVARIANCE).predictive(x)) < 4 * error)


@pytest.mark.parametrize("samples", [1, 4, 16, 64])
def test_kappa_against_simulation(samples: int) -> None:
    """E of -<sign(mean of K samples), m> / |m|_1."""
    rng = np.random.default_rng(samples)
    p = 30
    root = rng.standard_normal((p, 2 * p))
    posterior = GaussianPosterior(rng.standard_normal(p), 0.4 * root @ root.T / p)
    draws = rng.multivariate_normal(posterior.mean, posterior.covariance / samples, 20_000)
    reached = np.sign(draws) @ posterior.mean / np.abs(posterior.mean).sum()
    assert reached.mean() == pytest.approx(posterior.kappa(samples), abs=4 * reached.std() / 20_000**0.5)


@pytest.mark.parametrize("norm", ["l_1", "l_2", "l_inf"])
def test_exact_robust_accuracy_is_that_of_the_best_shift(norm: str) -> None:
    rng = np.random.default_rng(0)
    posterior = GaussianPosterior(MEAN, COVARIANCE)
    x, y = rng.standard_normal((500, 3)), rng.choice([-1.0, 1.0], 500)
    best = {
        "l_1": np.sign(MEAN),
        "l_2": MEAN / np.linalg.norm(MEAN),
        "l_inf": np.eye(3)[np.abs(MEAN).argmax()] * np.sign(MEAN[np.abs(MEAN).argmax()]),
    }[norm]
    moved = x - 0.3 * y[:, None] * best
    assert posterior.robust_accuracy(x, y, 0.3, norm) == (posterior.margin(moved, y) > 0).mean()


W5_X, W5_Y = np.array([[1, 0.5], [0.2, -1], [1.5, 1]]), np.array([1.0, 0, 2])


def test_w5_conjugate_regression_and_its_mean_field() -> None:
    posterior = conjugate(W5_X, W5_Y, 0.5, math.sqrt(2))
    assert posterior.mean == pytest.approx([0.9803921569, 0.2941176471], abs=1e-10)
    expected = [[0.2228163993, -0.1604278075], [-0.1604278075, 0.3155080214]]
    assert posterior.covariance == pytest.approx(np.array(expected), abs=1e-10)
    precision = torch.from_numpy(np.linalg.inv(posterior.covariance))
    variances, gap = best_mean_field(precision)
    assert variances.tolist() == pytest.approx([0.1412429379, 0.2], abs=1e-9)
    assert float(gap) == pytest.approx(0.2279333697, abs=1e-9)
    assert np.all(variances.numpy() <= np.diag(posterior.covariance) + 1e-12)


# ---- divergences ---------------------------------------------------------------------------------------------------


def test_the_divergence_to_the_prior_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, deviation = torch.randn(9, generator=generator), torch.rand(9, generator=generator) + 0.1
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, deviation), normal(0.0, torch.tensor(0.7))).sum()
    assert float(kl_to_prior(mean, deviation, 0.7)) == pytest.approx(float(expected), rel=1e-6)


def test_the_function_space_divergence_is_that_of_the_multivariate_normals() -> None:
    generator = torch.Generator().manual_seed(0)
    phi = torch.randn(6, 4, generator=generator, dtype=F64)
    mean, deviation = (
        torch.randn(3, 4, generator=generator, dtype=F64),
        torch.rand(3, 4, generator=generator, dtype=F64),
    )
    noise, multivariate = 1e-3 * torch.eye(6, dtype=F64), torch.distributions.MultivariateNormal
    prior = multivariate(torch.zeros(6, dtype=F64), 1.3**2 * phi @ phi.T + noise)
    expected = sum(
        torch.distributions.kl_divergence(multivariate(phi @ m, phi @ torch.diag(s**2) @ phi.T + noise), prior)
        for m, s in zip(mean, deviation, strict=True)
    )
    assert float(function_space_kl(phi, mean, deviation, 1.3, 1e-3)) == pytest.approx(float(expected), rel=1e-9)
