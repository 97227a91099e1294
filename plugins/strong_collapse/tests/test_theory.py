"""The closed form against every number that is printed for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kempeframe_strong_collapse.theory import Risk, constants, risk, risk_of_vectors
from kempeframe_strong_collapse.theory_equation import FloatArray


def isotropic(dimension: int) -> FloatArray:
    return np.ones(dimension)


def power_law(dimension: int, exponent: float) -> FloatArray:
    return np.arange(1.0, dimension + 1) ** -exponent


def parts(value: Risk) -> list[float]:
    return [float(part[0]) for part in (value.bias, value.variance, value.collapse, value.test_error)]


# Worked numbers: nu, u, B, V, zeta, total; Gamma = I/d throughout.
WORKED = {
    "W1": (
        dict(
            eigenvalues=isotropic(100),
            n_train=200,
            penalty=1e-2,
            synthetic_fraction=0.2,
            shift=0.005,
            noise=0.1**0.5,
            synthetic_noise=0.1**0.5,
        ),
        (0.01962237245, 0.9265611653, 0.0007135215903, 0.09265611653, 0.09336937386, 0.186739012),
    ),
    "W2": (
        dict(
            eigenvalues=power_law(200, 1.5),
            n_train=100,
            penalty=1e-3,
            synthetic_fraction=0.1,
            shift=1 / 200,
            noise=0.1,
            synthetic_noise=0.1,
        ),
        (0.003156351825, 0.5590506537, 0.0007986505855, 0.005590506537, 0.0007316487317, 0.007120805854),
    ),
    "W3": (
        dict(
            eigenvalues=isotropic(100),
            n_train=200,
            penalty=1e-3,
            width=60,
            synthetic_fraction=0.5,
            shift=0.01,
            noise=0.1**0.5,
            synthetic_noise=0.1**0.5,
        ),
        (0.6725786985, 0.4242751308, 0.569736465, 0.04242751308, 0.2974424947, 0.9096064728),
    ),
    "W4": (
        dict(
            eigenvalues=isotropic(100),
            n_train=80,
            penalty=1e-3,
            width=150,
            synthetic_fraction=0.5,
            shift=0.01,
            noise=0.1**0.5,
            synthetic_noise=0.1**0.5,
        ),
        (0.2569445648, 4.858764959, 0.4235440716, 0.4858764959, 1.468367275, 2.377787842),
    ),
    "W5": (
        dict(
            eigenvalues=power_law(100, 1.2),
            n_train=200,
            penalty=1e-3,
            width=200,
            synthetic_fraction=0.3,
            shift=0.02,
            noise=0.1**0.5,
            synthetic_noise=0.4**0.5,
        ),
        (0.00153268524, 0.6038824109, 0.0004504179804, 0.1147376581, 0.01523169173, 0.1304197678),
    ),
}


@pytest.mark.parametrize("name", WORKED)
def test_worked_numbers_to_their_printed_digits(name: str) -> None:
    setting, printed = WORKED[name]
    value = risk(signal=1 / setting["eigenvalues"].size, **setting)
    assert [float(value.nu[0]), float(value.u[0]), *parts(value)] == pytest.approx(printed, rel=5e-10)


def test_worked_numbers_of_rho() -> None:
    assert constants(isotropic(100), 200, 1e-3, width=60).rho == pytest.approx(0.008744142641, rel=5e-10)
    assert constants(isotropic(100), 80, 1e-3, width=150).rho == pytest.approx(0.8124306655, rel=5e-10)


def test_worked_number_with_weights() -> None:
    value = risk(
        power_law(100, 1.2),
        200,
        1e-2,
        signal=0.01,
        shift=0.01,
        noise=0.1**0.5,
        synthetic_noise=0.1**0.5,
        synthetic_fraction=0.5,
        weights=(1, 0.2),
    )
    assert value.nu == pytest.approx(0.02241281499, rel=5e-10)
    assert value.q2 == pytest.approx(0.207019951, rel=5e-10)
    assert value.test_error == pytest.approx(0.02013519554, rel=5e-10)
    e_k = value.e / (value.e + np.array([1, 0.2]) * value.df1 / 200)
    assert e_k == pytest.approx([0.70761308, 0.92366778], rel=1e-8)


def test_worked_numbers_near_threshold_and_without_real_examples() -> None:
    """Section 5.1 of the brief: d = 120, isotropic, c^2 = .5, noise variances .1 and .3."""
    common: dict[str, Any] = dict(signal=1 / 120, shift=0.5 / 120, noise=0.1**0.5, synthetic_noise=0.3**0.5)
    value = risk(
        isotropic(120),
        [125, 100, 80],
        [1e-3, 1e-3, 1e-2],
        width=[np.inf, 100, 200],
        synthetic_fraction=[0.5, 0.5, 1],
        **common,
    )
    assert value.test_error == pytest.approx([4.251, 4.347, 1.683], abs=5e-4)


# Figures of the brief, sections 5.3, 5.5, 5.6 and the corollary C15.


def test_flagship_numbers_and_slopes() -> None:
    n = np.geomspace(1e3, 1e8, 11).round()

    def errors(p2: float, n_train: FloatArray) -> FloatArray:
        return risk(
            isotropic(100),
            n_train,
            1e-8,
            signal=0.01,
            shift=0.01,
            noise=0.1,
            synthetic_noise=0.1,
            synthetic_fraction=p2,
        ).test_error

    def slope(p2: float, low: float, high: float) -> float:
        chosen = n[(n >= low * 0.99) & (n <= high * 1.01)]
        return float(np.polyfit(np.log(chosen), np.log(errors(p2, chosen)), 1)[0])

    at = np.array([1e3, 1e5, 1e7])
    assert errors(0, at) == pytest.approx([1.111e-3, 1.001e-5, 1.000e-7], rel=5e-4)
    assert errors(0.001, at) == pytest.approx([1.223e-3, 1.201e-5, 1.110e-6], rel=5e-4)
    assert errors(0.01, at) == pytest.approx([2.311e-3, 1.199e-4, 1.002e-4], rel=5e-4)
    assert errors(0.1, at) == pytest.approx([2.111e-2, 1.010e-2, 1.000e-2], rel=5e-4)
    assert slope(0, 1e3, 1e8) == pytest.approx(-1.0055, abs=5e-5)
    assert slope(0.01, 1e6, 1e7) == pytest.approx(-0.0077, abs=5e-5)
    assert slope(0.001, 1e7, 1e8) == pytest.approx(-0.0406, abs=5e-5)
    assert slope(0.1, 1e6, 1e8) == pytest.approx(-0.0002, abs=5e-5)
    assert slope(0.01, 1e3, 1e4) == pytest.approx(-0.885, abs=5e-4)
    ratio = [errors(p2, at[2:])[0] / errors(0, at[2:])[0] for p2 in (0.001, 0.01, 0.1, 0.5)]
    assert ratio == pytest.approx([11.1, 1002, 1.0e5, 2.5e6], rel=5e-3)


@pytest.mark.parametrize(
    ("spectrum", "penalty", "widths", "printed"),
    [
        (
            isotropic(300),
            1e-3,
            [20, 50, 100, 150, 300, 1500, 5e4],
            [0.091, 0.270, 0.894, 4.30, 0.744, 0.416, 0.376],
        ),
        (
            power_law(300, 1.2),
            1e-5,
            [50, 130, 150, 180, 300, 1500, 5e4],
            [0.335, 1.467, 2.007, 1.529, 0.835, 0.606, 0.577],
        ),
        (
            power_law(300, 1.2),
            1e-3,
            [20, 50, 100, 150, 300, 1500, 5e4],
            [0.158, 0.239, 0.314, 0.357, 0.420, 0.523, 0.574],
        ),
    ],
)
def test_width_figure(
    spectrum: FloatArray, penalty: float, widths: list[float], printed: list[float]
) -> None:
    """Section 5.5: collapse over width at n = 150 < d = 300; c^2 = 1 spread over all directions alike."""
    value = risk(
        spectrum, 150, penalty, width=widths, synthetic_fraction=0.5, signal=0, shift=1 / spectrum.sum()
    ).collapse
    # the brief rounds .2694 up to .270
    assert value == pytest.approx(printed, rel=2.5e-3)


def test_width_with_penalty_proportional_to_width() -> None:
    s = power_law(300, 1.2)
    m = np.array([150, 1e9])
    value = risk(
        s, 150, 1e-3 * m / 300, width=m, synthetic_fraction=0.5, signal=0, shift=1 / s.sum()
    ).collapse
    assert value == pytest.approx([0.445, 0.385], abs=5e-4)


def test_without_interpolation_larger_models_only_amplify() -> None:
    widths = np.array([20, 50, 100, 130, 150, 1000, 1e5])
    value = risk(
        isotropic(150), 300, 1e-5, width=widths, synthetic_fraction=0.5, signal=0, shift=1 / 150
    ).collapse
    assert value[:5] == pytest.approx([0.067, 0.167, 0.33, 0.43, 0.50], abs=5e-3)
    assert (np.diff(value) > 0).all()


def test_best_width_falls_as_the_synthetic_data_gets_worse() -> None:
    s, widths = power_law(300, 1.2), np.array([20, 50, 100, 150, 300, 600, 1200, 2500])
    best = [
        widths[
            risk(
                s,
                150,
                1e-2,
                width=widths,
                synthetic_fraction=0.5,
                signal=1 / s.sum(),
                shift=quality / s.sum(),
                noise=0.1**0.5,
                synthetic_noise=0.1**0.5,
            ).test_error.argmin()
        ]
        for quality in (0, 0.1, 0.3, 1, 3)
    ]
    assert best == [1200, 1200, 600, 300, 50]


def test_power_law_slopes_break() -> None:
    """Section 5.6: s Gamma ~ j^-1.8, Delta = Gamma, no noise."""
    s, n = power_law(1000, 1.5), np.array([20.0, 40, 80, 160, 320])
    gamma = power_law(1000, 1.8) / power_law(1000, 1.8).sum() / s
    for p2, printed in ((0, -0.93), (0.01, -0.70), (0.1, -0.18), (0.3, 0.005)):
        errors = risk(s, n, 1e-9, signal=gamma, shift=gamma, synthetic_fraction=p2).test_error
        assert np.polyfit(np.log(n), np.log(errors), 1)[0] == pytest.approx(printed, abs=5.1e-3)
    collapse = risk(s, [20, 160, 500], 1e-9, signal=gamma, shift=gamma, synthetic_fraction=0.01).collapse
    assert collapse == pytest.approx([0.0053, 0.0078, 0.0159], abs=5e-5)


def test_one_percent_turns_the_error_upward() -> None:
    """Corollary C15: d = 20000, s = j^-1.5, s Gamma = s Delta ~ j^-1.8."""
    s = power_law(20_000, 1.5)
    gamma = power_law(20_000, 1.8) / power_law(20_000, 1.8).sum() / s
    n = np.array([100, 300, 1000, 3000, 10000])
    errors = [
        risk(s, n, 1e-9, signal=gamma, shift=gamma, synthetic_fraction=p2).test_error for p2 in (0.01, 0)
    ]
    assert errors[0] == pytest.approx([0.0440, 0.0214, 0.0119, 0.0097, 0.0163], abs=6e-5)
    assert errors[1] == pytest.approx([0.0387, 0.0158, 0.0057, 0.0021, 0.0005], abs=6e-5)


def test_fixed_correlated_vectors_can_lower_the_error() -> None:
    """Trap T13: an overshooting and a shrunken teacher."""
    s = power_law(100, 1.2)
    w1 = np.full(100, 0.1)
    for penalty, w2, printed in (
        (0.1, 2 * w1, -0.000993),
        (1e-4, 2 * w1, 0.0237),
        (0.1, s / (s + 0.1) * w1, 0.002407),
    ):
        value = risk_of_vectors(
            s, 150, penalty, real=w1, synthetic=w2, noise=0.1**0.5, synthetic_fraction=0.5
        )
        assert value.collapse == pytest.approx(printed, rel=1e-3)


def test_peak_at_threshold() -> None:
    """Trap T9: the isotropic peak at m = n = 150, d = 300."""
    value = risk(
        isotropic(300),
        150,
        1e-5,
        width=150,
        synthetic_fraction=0.5,
        signal=1 / 300,
        shift=1 / 300,
        noise=0.1**0.5,
        synthetic_noise=0.1**0.5,
    )
    assert value.test_error == pytest.approx(109.6, abs=0.05)
