"""The best static weight, the best penalty and iterative mixing against printed numbers and their limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kempeframe_strong_collapse.theory import constants, risk
from kempeframe_strong_collapse.theory_mixing import (
    iterative_errors,
    iterative_limit,
    optimal_penalty,
    optimal_weight,
)

ISOTROPIC = np.ones(100)
UNIT: dict[str, Any] = dict(signal=0.01, shift=0.01, noise=1.0, synthetic_noise=1.0)


@pytest.mark.parametrize(
    ("p2", "n", "weight", "best", "real_only", "unweighted"),
    [
        (0.5, 1e3, 0.153, 0.2052, 0.2500, 0.3889),
        (0.5, 1e4, 0.0193, 0.02001, 0.02041, 0.2626),
        (0.5, 1e6, 2.0e-4, 2.0000e-4, 2.0004e-4, 0.2501),
        (0.9, 1e4, 0.0109, 0.0992, 0.1111, 0.8210),
    ],
)
def test_best_static_weight(
    p2: float, n: float, weight: float, best: float, real_only: float, unweighted: float
) -> None:
    found = optimal_weight(ISOTROPIC, n, 1e-8, synthetic_fraction=p2, **UNIT)
    assert found.weight == pytest.approx(weight, rel=5e-3)
    printed = (best, real_only, unweighted)
    # the last printed digit of the two errors at n = 1e6
    assert (found.test_error, found.real_only, found.unweighted) == pytest.approx(printed, rel=5e-4, abs=5e-9)
    assert found.test_error < found.real_only < found.unweighted


def test_best_weight_falls_like_one_over_n() -> None:
    n = np.array([1e4, 1e5, 1e6, 1e7])
    weights = [optimal_weight(ISOTROPIC, size, 1e-8, synthetic_fraction=0.5, **UNIT).weight for size in n]
    assert np.polyfit(np.log(n), np.log(weights), 1)[0] == pytest.approx(-1, abs=0.01)


def test_fixed_weights_keep_a_plateau() -> None:
    n = np.array([1e4, 1e4, 1e4, 1e4, 1e6, 1e6, 1e8])
    weight = np.array([1, 0.153, 0.0193, 0, 0.1, 0.0193, 0.1])
    value = risk(ISOTROPIC, n, 1e-8, synthetic_fraction=0.5, weights=(1, weight), **UNIT).test_error
    assert value == pytest.approx([0.2626, 0.03420, 0.02001, 0.02041, 0.008437, 5.51e-4, 0.0083], rel=5e-3)
    slope_points = np.geomspace(1e5, 1e8, 7)
    errors = risk(ISOTROPIC, slope_points, 1e-8, synthetic_fraction=0.5, weights=(1, 0.1), **UNIT).test_error
    assert np.polyfit(np.log(slope_points), np.log(errors), 1)[0] > -0.05


def test_worthless_and_perfect_synthetic_data() -> None:
    """Unlearnable labels are deleted; noiseless labels without shift replace the real ones."""
    base: dict[str, Any] = dict(signal=0.01, noise=1.0, synthetic_fraction=0.5)
    deleted = optimal_weight(ISOTROPIC, 1e3, 1e-3, shift=1e6, synthetic_noise=1.0, **base)
    assert deleted.weight < 1e-6 and deleted.test_error == pytest.approx(deleted.real_only, rel=1e-6)
    preferred = optimal_weight(ISOTROPIC, 1e3, 1e-6, shift=0.0, synthetic_noise=0.0, **base)
    assert preferred.weight > 1e3 and preferred.test_error < 1e-3 * preferred.unweighted


def test_the_weight_needs_both_populations() -> None:
    with pytest.raises(ValueError, match="no example has a positive weight"):
        optimal_weight(ISOTROPIC, 1e3, 1e-3, synthetic_fraction=0.0, **UNIT)


@pytest.mark.parametrize(("p2", "c2"), [(0.1, 2.0), (0.5, 1.0), (0.03, 0.5)])
def test_tuning_the_penalty_leaves_a_plateau(p2: float, c2: float) -> None:
    """C16: penalty p2^2 c^2 and test error p2^2 c^2/(1 + p2^2 c^2), to six digits."""
    found = optimal_penalty(ISOTROPIC, np.inf, signal=0.01, shift=c2 / 100, noise=1.0, synthetic_fraction=p2)
    assert found.penalty == pytest.approx(p2**2 * c2, rel=1e-6)
    assert found.test_error == pytest.approx(p2**2 * c2 / (1 + p2**2 * c2), rel=1e-12)


def test_best_penalty_at_finite_n_is_a_minimum() -> None:
    s = np.arange(1.0, 81) ** -1.2
    setting: dict[str, Any] = dict(
        signal=1 / 80, shift=1 / 80, noise=0.3, synthetic_noise=0.1, synthetic_fraction=0.4, width=90
    )
    found = optimal_penalty(s, 60, **setting)
    around = risk(s, 60, found.penalty * np.array([0.9, 1, 1.1]), **setting).test_error
    assert found.test_error == pytest.approx(around[1]) and around[1] < min(around[0], around[2])


ITERATED: dict[str, Any] = dict(noise=0.5, synthetic_noise=0.5, signal=1 / 60)


def test_iterative_mixing_numbers() -> None:
    """Section 5.4: d = 60, n = 600, noise variance .25, penalty 1e-3, c_0^2 = 1."""
    errors = iterative_errors(
        np.ones(60), 600, 1e-3, rounds=30, shift=1 / 60, synthetic_fraction=[0.5, 0.8], **ITERATED
    )
    assert errors[0] == pytest.approx([1, 1])
    assert errors[1:5, 0] == pytest.approx([0.305, 0.112, 0.059, 0.044], abs=5e-4)
    assert errors[8] == pytest.approx([0.0384, 0.112], abs=5e-4)
    assert errors[30, 0] == pytest.approx(0.0384, abs=1e-4)
    real_only = risk(np.ones(60), [300, 120], 1e-3, shift=0, **ITERATED).test_error
    assert errors[8, 0] / real_only[0] == pytest.approx(0.61, abs=0.01)
    assert errors[8, 1] < real_only[1]


def test_first_round_is_the_mixture() -> None:
    s, rng = np.arange(1.0, 41) ** -1.0, np.random.default_rng(0)
    w1, delta = rng.normal(size=(2, 40))
    truth: dict[str, Any] = dict(
        signal=w1**2, shift=delta**2, cross=w1 * delta, noise=0.4, synthetic_noise=0.7, synthetic_fraction=0.3
    )
    errors = iterative_errors(s, [30, 90], 0.05, rounds=1, **truth)
    assert errors[1] == pytest.approx(risk(s, [30, 90], 0.05, **truth).test_error, rel=1e-12)


@pytest.mark.parametrize("p2", [0.0, 0.3, 0.9])
def test_recursion_reaches_its_fixed_point(p2: float) -> None:
    s = np.arange(1.0, 41) ** -1.0
    setting: dict[str, Any] = dict(signal=0.5, noise=0.4, synthetic_noise=0.7, synthetic_fraction=p2)
    limit = iterative_limit(s, [30, 90], [0.3, 0.01], **setting)
    errors = iterative_errors(s, [30, 90], [0.3, 0.01], rounds=600, shift=3.0, **setting)
    assert errors[-1] == pytest.approx(limit, rel=1e-9)
    if p2 == 0:
        assert errors[1] == pytest.approx(limit, rel=1e-9)


def test_isotropic_ridgeless_fixed_point() -> None:
    """E = u sigma^2/(1 - p2^2 - p1 p2 u); for small phi = d/n it is real-only(n1)/(1 + p2)."""
    p2 = np.array([0.1, 0.5, 0.8])
    n = np.array([200, 600, 1e6])
    setting: dict[str, Any] = dict(noise=0.5, synthetic_noise=0.5, signal=1 / 60)
    u = constants(np.ones(60), n, 0).u
    expected = 0.25 * u / (1 - p2**2 - (1 - p2) * p2 * u)
    assert iterative_limit(np.ones(60), n, 0, synthetic_fraction=p2, **setting) == pytest.approx(
        expected, rel=1e-10
    )
    real_only = risk(np.ones(60), n * (1 - p2), 0, shift=0, **setting).test_error
    assert expected[2] == pytest.approx(real_only[2] / 1.8, rel=1e-3)


def test_no_fixed_point() -> None:
    with pytest.raises(ValueError, match="no fixed point"):
        iterative_limit(np.ones(60), 600, 0.1, synthetic_fraction=1.0, **ITERATED)
    # u = d/(n - d) = 10 makes p2^2 + p1 p2 u > 1: the errors grow without bound
    assert iterative_limit(np.ones(60), 66, 0, synthetic_fraction=0.5, **ITERATED) == np.inf
    growing = iterative_errors(np.ones(60), 66, 0, rounds=50, shift=1, synthetic_fraction=0.5, **ITERATED)
    assert growing[-1] > 1e10
