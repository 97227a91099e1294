"""Rates of booleans and their differences: a wrong decision is as rare as it may be, enumerated, not simulated."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import gammaln, xlogy

from kempeframe.intervals import decide, difference_interval, is_boolean, mean_interval
from kempeframe.proportions import clopper_pearson, paired_lower_limit
from tests.simulated import RATES, SEEDS, bound, boundary_regions, false_holds

# --- booleans: enumerated, not simulated ------------------------------------------------------------------------------


@pytest.mark.parametrize("n", SEEDS)
def test_a_rate_at_the_boundary_holds_in_at_most_2_5_percent(n: int) -> None:
    counts = np.arange(n + 1)
    found = [mean_interval(np.arange(n) < k) for k in counts]
    for p in (*RATES, *np.linspace(0.003, 0.997, 150)):
        probability = np.exp(
            gammaln(n + 1) - gammaln(counts + 1) - gammaln(n - counts + 1) + xlogy(counts, p) + xlogy(n - counts, 1 - p)
        )
        for region in boundary_regions(float(p), width=0.2):
            verdicts = np.array([decide(interval, region) for interval in found])
            assert probability[verdicts == "holds"].sum() <= 0.025
            # A region with two sides can be missed on its far side as well, where the truth is 0.2 away.
            assert probability[verdicts == "fails"].sum() <= 0.025 + 1e-4


def test_clopper_pearson_by_hand() -> None:
    interval = mean_interval([True] * 10)
    assert interval.low == pytest.approx(0.6915, abs=5e-5)
    assert interval.low == pytest.approx(0.025 ** (1 / 10))
    assert (interval.estimate, interval.high, interval.method) == (1.0, 1.0, "Clopper-Pearson")
    low, high = clopper_pearson([1, 5], 20, 0.025)
    assert low == pytest.approx([0.001265, 0.086571], abs=1e-6)
    assert high == pytest.approx([0.248733, 0.491046], abs=1e-6)


def discordant(n: int) -> list[tuple[int, int]]:
    return [(a, b) for a in range(n + 1) for b in range(n + 1 - a)]


def pairs(a: int, b: int, n: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """n pairs of booleans, in a of which only the first, in b only the second is true."""
    first = np.arange(n) < a
    return first, (np.arange(n) >= a) & (np.arange(n) < a + b)


@pytest.mark.parametrize("n", [*SEEDS, 9])
def test_a_difference_of_rates_at_the_boundary_holds_in_at_most_2_5_percent(n: int) -> None:
    """Over all joint distributions on a grid: of p, q, the rates of "only the first" and "only the second"."""
    outcomes = discordant(n)
    a, b = np.array(outcomes).T
    found = [difference_interval(*pairs(i, j, n)) for i, j in outcomes]
    low, high = np.array([i.low for i in found]), np.array([i.high for i in found])
    choose = gammaln(n + 1) - gammaln(a + 1) - gammaln(b + 1) - gammaln(n - a - b + 1)
    grid = np.concatenate([[0.0, 0.004, 0.013], np.linspace(0.02, 1, 50)])
    for p in grid:
        q = grid[p + grid <= 1 + 1e-12][:, None]
        probability = np.exp(choose + xlogy(a, p) + xlogy(b, q) + xlogy(n - a - b, np.maximum(1 - p - q, 0.0)))
        assert np.sum(probability * (low > p - q + 1e-9), axis=1).max() <= 0.0251
        assert np.sum(probability * (high < p - q - 1e-9), axis=1).max() <= 0.0251


@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize("q", [0.02, 0.5, 0.9])
def test_a_difference_of_rates_is_decided_like_its_limits(p: float, q: float) -> None:
    replications, n = 1000, 20
    uniform = np.random.default_rng(0).uniform(size=(replications, n, 2))
    uniform[:, ::2, 1] = uniform[:, ::2, 0]  # half of the pairs share their randomness
    found = [difference_interval(one < p, two < q) for one, two in np.moveaxis(uniform, 2, 1)]
    assert false_holds(found, p - q, width=0.3) <= bound(replications)


def test_a_difference_of_rates_by_hand() -> None:
    none = difference_interval(*pairs(0, 0, 10))
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 10), abs=1e-4) == -none.low
    # all twenty: psi^20 theta^20 = 2.5 % at psi = 1
    assert difference_interval(*pairs(20, 0, 20)).low == pytest.approx(2 * 0.025 ** (1 / 20) - 1, abs=1e-4)
    for n in (6, 20):  # the more favourable, the higher
        for a, b in discordant(n):
            if a and b:
                assert paired_lower_limit(a, b, n, 0.025) <= paired_lower_limit(a, b - 1, n, 0.025)
                assert paired_lower_limit(a - 1, b, n, 0.025) <= paired_lower_limit(a, b, n, 0.025)


def test_a_difference_of_rates_is_more_than_the_difference_of_their_limits() -> None:
    for a, b in ((10, 0), (10, 1), (5, 0), (12, 3)):
        low, high = clopper_pearson([a, b], 20, 0.025)
        assert difference_interval(*pairs(a, b, 20)).low > low[0] - high[1] + 0.03


def test_numbers_that_happen_to_be_zero_and_one_are_no_rate() -> None:
    assert is_boolean([0.0, 1.0])
    assert not is_boolean([[0.0, 1.0], [0.5, 1.0]])
    assert mean_interval([0.0, 1.0, 1.0]).method == "Clopper-Pearson"
    assert mean_interval([0.0, 1.0, 1.0], boolean=False).method == "t over seeds"
    assert difference_interval([0.0, 1.0, 1.0], [0.0, 0.0, 1.0], boolean=False).method == "t over seeds"
