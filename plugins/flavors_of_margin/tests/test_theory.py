"""The paper's formulas against the brief's worked numbers (3.11), against each other and against simulation."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from kempeframe_flavors_of_margin import theory
from scipy.special import logsumexp

G = np.array([3.0, -4.0, 1.0, 0.0])
Z = np.array([[2.0, 1.0, 0.0], [1.0, -1.0, 1.0], [0.5, 2.0, -1.0]])
W = np.array([1.0, 0.5, 0.25])


def test_dual_norms_and_directions_of_a_vector() -> None:
    wanted = {1: 4, 1.5: 4.514357, 2: 5.099020, 3: 5.862917, 4: 6.316557, math.inf: 8}
    for p, dual in wanted.items():
        u = theory.direction(G, p)
        assert theory.norm(u, p) == pytest.approx(1)
        assert u @ G == pytest.approx(dual, rel=1e-6)
        assert theory.norm(G, theory.conjugate(p)) == pytest.approx(dual, rel=1e-6)
    assert theory.direction(G, 3) == pytest.approx([0.715326, -0.825987, 0.412993, 0], abs=1e-6)


def test_margins_gaps_and_certificates_of_a_linear_model() -> None:
    q = Z @ W
    assert q == pytest.approx([2.5, 0.75, 1.25])
    log_loss = theory.log_loss(q)
    assert log_loss == pytest.approx(-0.1732155, abs=1e-7)
    weights = np.exp(-q - logsumexp(-q))
    s = Z.T @ weights
    assert s == pytest.approx([0.9272645, 0.2172860, 0.2210124], abs=1e-7)
    wanted = {
        1: (0.4285714, 0.0989803, 0.3275701, 0.9272645),
        2: (0.6546537, 0.1511949, 0.0258238, 0.9776907),
        math.inf: (0.75, 0.1732155, 0.2009445, 1.3655629),
    }
    for p, (geometric, soft, gap, upper) in wanted.items():
        size, dual = theory.norm(W, p), theory.norm(s, theory.conjugate(p))
        assert theory.certificate(Z, W, p) == pytest.approx((geometric, upper), abs=1e-6)
        assert theory.soft_margin(log_loss, size, 1) == pytest.approx(soft, abs=1e-6)
        assert theory.gap(float(W @ s), size, dual) == pytest.approx(gap, abs=1e-6)
        assert geometric - math.log(3) / size <= soft <= geometric


def test_with_the_mean_in_place_of_the_sum_the_soft_margin_falls() -> None:
    """Section 3.5: 1-d data (1, 3)."""
    for w, (total, mean) in {1.0: (0.873072, 1.566219), 2.0: (0.990925, 1.337499)}.items():
        log_loss = theory.log_loss(np.array([1.0, 3.0]) * w)
        assert theory.soft_margin(log_loss, w, 1) == pytest.approx(total, abs=1e-6)
        assert theory.soft_margin(log_loss - math.log(2), w, 1) == pytest.approx(mean, abs=1e-6)


def test_the_inverse_of_the_logistic_loss_is_the_margin_of_one_example() -> None:
    for q in (-50.0, -3.0, 0.5, 1.0, 3.0, 11.0, 12.0, 36.0, 500.0, 1e5):
        found = theory.inverse_loss(theory.log_loss(np.array([q]), "logistic"), "logistic")
        assert found == pytest.approx(q, rel=1e-9)
    wrong = [-theory.log_loss(np.array([w]), "logistic") / w for w in (0.5, 1.0, 3.0)]
    assert wrong == pytest.approx([1.492771, 1.160716, 1.008131], abs=1e-6)
    assert theory.inverse_loss(theory.threshold("logistic"), "logistic") == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("q", [-700.0, -40.0, -1.0, 0.0, 5.0, 29.9, 30.1, 60.0, 800.0, 1e6])
def test_log_losses_are_exact_where_losses_underflow(q: float) -> None:
    with mpmath.workdps(500 if q > 200 else 60):
        wanted = mpmath.log(mpmath.log1p(mpmath.exp(-q))) if q < 1000 else mpmath.mpf(-q)
    assert float(theory.log_losses(np.array([q]), "logistic")[0]) == pytest.approx(float(wanted), rel=1e-13, abs=1e-13)
    assert theory.log_losses(np.array([q]), "exponential")[0] == -q


def test_complementarity_is_the_sum_of_multipliers_times_slacks() -> None:
    q = Z @ W
    weights = np.exp(-q - logsumexp(-q))
    s, size = Z.T @ weights, theory.norm(W, 2)
    dual = theory.norm(s, 2)
    multipliers = weights * (size / q.min()) / dual
    wanted = multipliers @ (q / q.min() - 1)
    assert theory.complementarity(float(W @ s), q.min(), 1.0, size, dual, 1) == pytest.approx(wanted)
    assert math.isnan(theory.complementarity(1.0, -0.1, 1.0, size, dual, 1))


def test_the_fenchel_young_divergence_is_the_gap() -> None:
    """D = |th|^2/2 + |k|_*^2/2 - <th, k> with k = |th| s/|s|_*, over |th|^2, in the norm p = 3."""
    s, p = np.array([0.3, -0.2, 0.9]), 3.0
    dual, size = theory.norm(s, theory.conjugate(p)), theory.norm(W, p)
    k = size * s / dual
    divergence = size**2 / 2 + theory.norm(k, theory.conjugate(p)) ** 2 / 2 - W @ k
    assert divergence / size**2 == pytest.approx(theory.gap(float(W @ s), size, dual))


@pytest.mark.parametrize(("beta1", "beta2", "rate"), [(0.0, 0.9, 0.01), (0.9, 0.95, 0.01), (0.9, 0.99, 0.004)])
def test_the_speed_limit_of_adam_is_what_adam_does(beta1: float, beta2: float, rate: float) -> None:
    """One feature, one example: gamma* = 1, and log L falls by the step itself."""
    predicted = theory.adam_decay(rate, beta1, beta2)
    m = v = w = 0.0
    before = 0.0
    for t in range(1, 4001):  # moments in units of e^-w
        shrink = math.exp(w - before)
        before = w
        m, v = beta1 * m * shrink - (1 - beta1), beta2 * v * shrink**2 + 1 - beta2
        at = w
        w -= rate * (m / (1 - beta1**t)) / math.sqrt(v / (1 - beta2**t))
    assert w - at == pytest.approx(predicted, rel=1e-4)
    assert predicted < math.log(1 / beta2) / 2


def test_beyond_its_speed_limit_adam_gets_no_faster() -> None:
    most = math.log(1 / 0.999) / 2
    assert theory.adam_decay(0.005, 0.0, 0.999) == pytest.approx(most, rel=0.05)
    assert theory.adam_decay(1e-5, 0.9, 0.999) == pytest.approx(1e-5, rel=0.05)
    assert theory.adam_decay(0.01, 0.0, 0.0) == 0.01


def test_a_drawdown_is_a_fall_over_the_final_maximum() -> None:
    assert theory.drawdown(np.array([0.1, 0.05, 1.0, 0.9, 2.0])) == pytest.approx(0.05)
    assert theory.drawdown(np.array([0.0, 1.0, 2.0])) == 0
    assert math.isnan(theory.drawdown(np.array([-2.0, -1.0])))


def test_the_gap_integral_of_a_constant_is_the_growth_of_the_norm() -> None:
    sizes = np.linspace(1, 5, 400)
    found = theory.gap_integral(np.full(400, 0.5), sizes, 2)
    assert found == pytest.approx(2 * math.log(5))
