"""The closed form in the limits where it simplifies, and what must not change it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kempeframe_strong_collapse.theory import Risk, constants, risk, risk_of_vectors, vectors_as_truth
from kempeframe_strong_collapse.theory_equation import FloatArray


def isotropic(dimension: int) -> FloatArray:
    return np.ones(dimension)


def power_law(dimension: int, exponent: float) -> FloatArray:
    return np.arange(1.0, dimension + 1) ** -exponent


def parts(value: Risk) -> list[float]:
    return [float(part[0]) for part in (value.bias, value.variance, value.collapse, value.test_error)]


@pytest.mark.parametrize("penalty", [0.0, 1e-12])
def test_ridgeless_classical_model_below_threshold(penalty: float) -> None:
    """C2: E = sigma^2 phi/(1 - phi) + c^2 (p2^2 + p1 p2 phi/(1 - phi)), whatever the spectrum of Sigma."""
    s, p2, c2 = power_law(60, 1.0), 0.3, 0.7
    value = risk(
        s, 150, penalty, signal=2.0, shift=c2 / s.sum(), noise=0.4, synthetic_noise=0.4, synthetic_fraction=p2
    )
    odds = 60 / 90
    assert value.u == pytest.approx(odds, rel=1e-9)
    assert parts(value)[:3] == pytest.approx(
        [0, 0.16 * odds, c2 * (p2**2 + (1 - p2) * p2 * odds)], rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("penalty", [0.0, 1e-12])
def test_ridgeless_narrow_isotropic_projection(penalty: float) -> None:
    d, m, n, p2, c2, s2 = 100, 40, 70, 0.3, 1.5, 0.2
    value = risk(
        isotropic(d),
        n,
        penalty,
        width=m,
        signal=1 / d,
        shift=c2 / d,
        noise=s2**0.5,
        synthetic_noise=s2**0.5,
        synthetic_fraction=p2,
    )
    gamma, psi = m / d, m / n
    assert value.nu == pytest.approx((d - m) / m, rel=1e-9)
    assert value.rho == pytest.approx(0, abs=1e-9)
    assert value.u == pytest.approx(m / (n - m), rel=1e-8)
    expected = [
        (1 - gamma) * n / (n - m),
        s2 * m / (n - m),
        c2 * (p2**2 * gamma + p2 * psi - 2 * p2**2 * gamma * psi) / (1 - psi),
    ]
    assert parts(value)[:3] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("penalty", [0.0, 1e-13])
def test_ridgeless_interpolation(penalty: float) -> None:
    """df1(nu) = n; collapse and u fall with width, to a floor above zero."""
    s, n, widths = power_law(100, 1.2), 50, np.array([55, 70, 100, 200, 1000, np.inf])
    value = constants(s, n, penalty, width=widths)
    df1, df2 = [((s / (s + value.nu[0])) ** k).sum() for k in (1, 2)]
    assert df1 == pytest.approx(n, rel=1e-8)
    rho = np.array([(m - n) / (m - df2) for m in widths[:-1]] + [1])
    d2 = n - (n - df2) * rho
    assert value.rho == pytest.approx(rho, rel=1e-6)
    assert value.u == pytest.approx(d2 / (n - d2), rel=1e-6)
    assert (np.diff(value.u) < 0).all()
    collapse = risk(s, n, penalty, width=widths, signal=0, shift=0.01, synthetic_fraction=0.5).collapse
    assert (np.diff(collapse) < 0).all() and collapse[-1] > 0


def test_infinite_width_is_the_classical_model_at_penalty_lambda_d_over_m() -> None:
    s, m = power_law(80, 1.0), 1e8
    common: dict[str, Any] = dict(
        signal=1 / 80, shift=1 / 80, noise=0.3, synthetic_noise=0.1, synthetic_fraction=0.4
    )
    wide = risk(s, [50, 120], 0.2 * m / 80, width=m, **common)
    classical = risk(s, [50, 120], 0.2, **common)
    for name in ("test_error", "bias", "variance", "collapse", "nu", "u", "e"):
        assert getattr(wide, name) == pytest.approx(getattr(classical, name), rel=1e-5)


def test_infinitely_many_examples_leave_the_plateau() -> None:
    s, p2, c2 = power_law(50, 1.0), 0.1, 2.0
    common: dict[str, Any] = dict(
        signal=1 / 50, shift=c2 / s.sum(), noise=1.0, synthetic_noise=1.0, synthetic_fraction=p2
    )
    assert risk(s, [1e14, np.inf], 0, **common).test_error == pytest.approx(p2**2 * c2, rel=1e-9)


def test_infinite_penalty_predicts_zero() -> None:
    s = power_law(50, 1.0)
    value = risk(
        s, 40, 1e13, width=[30, 1e3, np.inf], signal=0.3, shift=0.5, noise=1.0, synthetic_fraction=0.5
    )
    assert value.bias == pytest.approx(0.3 * s.sum(), rel=1e-9)
    assert value.collapse == pytest.approx(0, abs=1e-9)
    assert value.variance == pytest.approx(0, abs=1e-9)


def test_no_synthetic_data_no_collapse() -> None:
    value = risk(power_law(50, 1.0), 40, [1e-9, 0.1], width=[30, np.inf], signal=1, shift=1, weights=(1, 3))
    assert (value.collapse == 0).all() and (value.bias > 0).all()


def test_weight_zero_is_real_only_with_n1_examples_and_penalty_lambda_n_over_n1() -> None:
    s = power_law(90, 1.1)
    common: dict[str, Any] = dict(signal=1 / 90, shift=1 / 90, noise=0.4, synthetic_noise=0.9)
    for n, width, penalty in ((100, np.inf, 1e-2), (400, 60, 1e-3), (100, 200, 0.0)):
        mixed = risk(s, n, penalty, width=width, synthetic_fraction=0.3, weights=(1, 0), **common)
        real = risk(s, 0.7 * n, penalty / 0.7, width=width, **common)
        assert parts(mixed) == pytest.approx(parts(real), rel=1e-11)
        assert mixed.q2 == 0 and mixed.nu == pytest.approx(real.nu, rel=1e-12)


def test_reweighting_an_interpolating_model_does_nothing() -> None:
    """Trap T15; and the scale of both weights together only rescales the penalty."""
    s = power_law(100, 1.2)
    common: dict[str, Any] = dict(
        signal=0.01, shift=0.02, noise=0.4, synthetic_noise=0.9, synthetic_fraction=0.3
    )
    for width in (80, np.inf):
        weights = np.array([1, 0.1, 7])
        value = risk(s, 50, 0, width=width, weights=(1, weights), **common)
        assert value.test_error == pytest.approx(np.full(3, value.test_error[0]), rel=1e-12)
        assert value.q2 == pytest.approx(0.3, rel=1e-12)
    scaled, plain = risk(s, 150, 0.04, weights=(2, 6), **common), risk(s, 150, 0.02, weights=(1, 3), **common)
    assert parts(scaled) == pytest.approx(parts(plain), rel=1e-12)


def test_a_fixed_weight_only_renames_the_fraction() -> None:
    value = risk(isotropic(50), 1e12, 1e-9, signal=0, shift=0.02, synthetic_fraction=0.5, weights=(1, 0.1))
    assert value.q2 == pytest.approx(0.05 / 0.55, rel=1e-8)
    assert value.collapse == pytest.approx((0.05 / 0.55) ** 2, rel=1e-6)


def test_exact_number_of_synthetic_examples_and_outputs_and_batches() -> None:
    s, rng = power_law(30, 1.0), np.random.default_rng(0)
    real, synthetic = rng.normal(size=(2, 30, 4))
    all_at_once = risk_of_vectors(s, 40, 0.1, real=real, synthetic=synthetic, noise=2.0, n_synthetic=3)
    one_by_one = [
        risk_of_vectors(
            s, 40, 0.1, real=real[:, k], synthetic=synthetic[:, k], noise=1.0, synthetic_fraction=3 / 40
        )
        for k in range(4)
    ]
    assert parts(all_at_once) == pytest.approx(
        np.sum([parts(value) for value in one_by_one], axis=0), rel=1e-12
    )

    n, width, penalty, p2 = (
        rng.integers(5, 90, 40),
        rng.integers(5, 90, 40),
        10 ** rng.uniform(-12, 1, 40),
        rng.random(40),
    )
    spectra = rng.random((40, 30))
    batch = risk(
        spectra, n, penalty, width=width, signal=s, shift=1, synthetic_fraction=p2, weights=(1, p2), noise=p2
    )
    for i in range(40):
        single = risk(
            spectra[i],
            n[i],
            penalty[i],
            width=width[i],
            signal=s,
            shift=1,
            synthetic_fraction=p2[i],
            weights=(1, p2[i]),
            noise=p2[i],
        )
        assert parts(single) == pytest.approx(
            [float(p[i]) for p in (batch.bias, batch.variance, batch.collapse, batch.test_error)], rel=1e-12
        )


def test_random_truth_is_the_average_of_fixed_ones() -> None:
    """Independent signs of the coordinates make the cross moments cancel in pairs."""
    s, rng = power_law(20, 1.0), np.random.default_rng(1)
    w1, delta = rng.normal(size=(2, 20))
    setting: dict[str, Any] = dict(width=15, synthetic_fraction=0.4, noise=0.3)
    both = [risk_of_vectors(s, 30, 0.1, real=w1, synthetic=w1 + sign * delta, **setting) for sign in (1, -1)]
    mean = np.mean([parts(value) for value in both], axis=0)
    assert parts(risk(s, 30, 0.1, signal=w1**2, shift=delta**2, **setting)) == pytest.approx(mean, rel=1e-12)
    assert vectors_as_truth(w1, w1 + delta).cross == pytest.approx(w1 * delta)


def test_null_directions_count_in_the_dimension_alone() -> None:
    s = np.concatenate([power_law(30, 1.0), np.zeros(10), [1e-18, -1e-18]])
    common: dict[str, Any] = dict(shift=1.0, signal=1.0, noise=0.2, synthetic_fraction=0.5)
    with_null, without = risk(s, [20, 50], 0, **common), risk(s[:30], [20, 50], 0, **common)
    assert with_null.test_error == pytest.approx(without.test_error, rel=1e-12)
    projected = risk(s, [20, 50], 1e-3, width=25, **common)
    rescaled = risk(s[:30], [20, 50], 1e-3 * 42 / 30, width=25, **common)
    assert projected.test_error == pytest.approx(rescaled.test_error, rel=1e-12)
