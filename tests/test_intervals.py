"""At the boundary of its region a claim "holds" in at most 2.5 % of studies; well inside it does."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
import pytest
from scipy.special import stdtrit

from kempeframe import intervals
from kempeframe.intervals import (
    Interval,
    Region,
    decide,
    difference_interval,
    mean_interval,
    median_interval,
    ratio_interval,
    seeds_to_decide,
    slope_interval,
    t_limits,
    t_quantile,
)
from kempeframe.locations import censored_order, crossing_interval, optimum_set
from tests.simulated import DISTRIBUTIONS, SEEDS, Array, bound, false_holds

# --- numbers: t ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_either_limit_of_a_mean_is_wrong_in_at_most_2_5_percent(name: str, n: int) -> None:
    replications = 40_000
    samples = DISTRIBUTIONS[name](np.random.default_rng(n), (replications, n))
    _, low, high = t_limits(samples)
    assert max(np.mean(low > 1e-12), np.mean(high < -1e-12)) <= bound(replications)


def test_the_usual_t_limits_would_be_wrong_too_often() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (40_000, 3))
    standard_error = samples.std(axis=1, ddof=1) / math.sqrt(3)
    assert np.mean(samples.mean(axis=1) > stdtrit(2, 0.975) * standard_error) > 0.035


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_mean_at_the_boundary_of_a_region_holds_in_at_most_2_5_percent(name: str, n: int) -> None:
    replications = 1000
    samples = DISTRIBUTIONS[name](np.random.default_rng(n + 1), (replications, n)) + 5.0
    found = [mean_interval(row, boolean=False) for row in samples]
    assert false_holds(found, 5.0, width=3.0) <= bound(replications)


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("name", ["normal", "uniform", "Laplace", "Student t with 2 degrees of freedom"])
def test_a_paired_difference_or_ratio_or_slope_at_the_boundary_holds_in_at_most_2_5_percent(name: str, n: int) -> None:
    replications = 1000
    generator = np.random.default_rng(n + 2)
    draw = DISTRIBUTIONS[name]
    common, noise = generator.normal(0, 10, (replications, n)), draw(generator, (replications, n))
    differences = [difference_interval(c + e, c) for c, e in zip(common, noise, strict=True)]
    assert false_holds(differences, 0.0, width=2.0) <= bound(replications)

    ratios = [ratio_interval(2 * np.exp((c + e) / 5), np.exp(c / 5)) for c, e in zip(common, noise, strict=True)]
    assert false_holds(ratios, 2.0, width=1.0) <= bound(replications)

    x = np.array([0.0, 1.0, 2.0, 5.0])
    curves = common[:, :, None] + 0.5 * x + draw(generator, (replications, n, 4))
    slopes = [slope_interval(x, curve) for curve in curves]
    assert false_holds(slopes, 0.5, width=0.5) <= bound(replications)


def test_no_mean_but_the_median_keeps_its_level_for_a_long_tail() -> None:
    replications = 4000
    for n in SEEDS:
        samples = np.random.default_rng(n).lognormal(0.0, 2.0, (replications, n))
        assert false_holds([median_interval(row) for row in samples], 1.0, width=5.0) <= bound(replications)
    _, _, high = t_limits(samples)
    assert np.mean(high < math.exp(2.0)) > 0.1


def test_a_t_interval_by_hand() -> None:
    interval = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 3.182446 * math.sqrt(2.5 / 5)  # Student's 97.5 % point for 3 = 3/4 (5 - 1) degrees of freedom
    assert interval.estimate == 3.0
    assert interval.low == pytest.approx(3 - half, abs=1e-6)
    assert interval.high == pytest.approx(3 + half, abs=1e-6)
    assert (interval.n, interval.method, interval.reason) == (5, "t over seeds", "")


def test_differences_ratios_and_slopes_are_means_in_disguise() -> None:
    one, two = np.array([3.0, 5.0, 9.0, 4.0]), np.array([1.0, 4.0, 5.0, 1.5])
    assert difference_interval(one, two) == mean_interval(one - two)
    logs, ratio = mean_interval(np.log(one / two)), ratio_interval(one, two)
    assert [ratio.low, ratio.estimate, ratio.high] == pytest.approx(np.exp([logs.low, logs.estimate, logs.high]))
    x = np.array([1.0, 2.0, 4.0])
    slopes = mean_interval(one)
    found = slope_interval(x, np.outer(one, x) + two[:, None])
    assert [found.low, found.estimate, found.high] == pytest.approx([slopes.low, slopes.estimate, slopes.high])


@pytest.mark.parametrize(
    ("interval", "reason"),
    [
        (mean_interval([]), "0 seeds; at least 3 are needed"),
        (mean_interval([1.0, 2.0]), "2 seeds; at least 3 are needed"),
        (mean_interval([True, True]), "2 seeds; at least 3 are needed"),
        (mean_interval([0.3] * 20), "all seeds gave the same value"),
        (mean_interval([2.0] * 7 + [1.0, 3.0, 4.0]), "7 of 10 seeds gave the same value"),
        (mean_interval([1e200, 2e200, -1e200]), "the spread is too large to compute"),
        (mean_interval([1.0, math.nan, math.inf, 2.0]), "2 of 4 values are not finite"),
        (mean_interval([1.0, math.nan, 0.0], boolean=True), "1 of 3 values are not finite"),
        (median_interval([1.0, 2.0, 3.0, 4.0, 5.0]), "5 seeds; the median needs at least 6"),
        (median_interval([1.0] * 8), "all seeds gave the same value"),
        (median_interval([1.0, math.nan, 3.0]), "1 of 3 values are not numbers"),
        (difference_interval([0.3, 0.6, 0.9], [0.1, 0.4, 0.7]), "all seeds gave the same value"),
        (difference_interval([math.inf] * 3, [math.inf] * 3), "3 of 3 values are not finite"),
        (difference_interval([True, False], [False, False]), "2 seeds; at least 3 are needed"),
        (ratio_interval([1.0, 2.0, 0.0], [1.0, 1.0, -1.0]), "1 of 3 ratios are not of positive values"),
        (ratio_interval([0.3, 0.6, 0.9], [0.1, 0.2, 0.3]), "all seeds gave the same value"),
        (ratio_interval([math.inf, 1.0, 2.0], [1.0, 1.0, 1.0]), "1 of 3 values are not finite"),
        (slope_interval([1, 2, 3], [[1, 2, 3.5], [2, 3, 4.5], [0, 1, 2.5]]), "all seeds gave the same value"),
        (slope_interval([1, 2], [[1.0, 2.0], [2.0, math.inf], [3.0, 5.0]]), "1 of 3 values are not finite"),
    ],
)
def test_what_cannot_be_decided_says_why(interval: Interval, reason: str) -> None:
    assert interval.reason == reason
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    for region in (Region(), Region(low=-1e9), Region(-10, 10)):
        assert decide(interval, region) == "undecided"
        assert seeds_to_decide(interval, region) is None


def test_wrong_shapes_are_errors() -> None:
    for wrong in (
        lambda: mean_interval([[1.0, 2.0]]),
        lambda: mean_interval([0.0, 2.0, 1.0], boolean=True),
        lambda: difference_interval([1.0, 2.0], [1.0]),
        lambda: ratio_interval([1.0, 2.0], [1.0]),
        lambda: slope_interval([1.0, 2.0], [1.0, 2.0]),
        lambda: slope_interval([1.0, 1.0], [[1.0, 2.0]] * 3),
        lambda: censored_order([1.0], [1.0, 2.0]),
        lambda: optimum_set([1.0, 2.0], "maximum"),
        lambda: crossing_interval([1.0, 1.0], [[0.0, 1.0]] * 3, 0.5),
        lambda: crossing_interval([1.0], [[0.0, 1.0]] * 3, 0.5),
        lambda: Region(2.0, 1.0),
        lambda: Region(math.nan),
    ):
        with pytest.raises(ValueError):
            wrong()


# --- the median ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("name", ["normal", "Student t with 2 degrees of freedom", "rounded to one deviation"])
def test_a_median_at_the_boundary_holds_in_at_most_2_5_percent(name: str, n: int) -> None:
    replications = 4000
    # Centring leaves rounded values 1e-17 off the boundary, on one side of it: rounded once more, they tie with it.
    samples = np.round(DISTRIBUTIONS[name](np.random.default_rng(n), (replications, n)), 12)
    assert false_holds([median_interval(row) for row in samples], 0.0, width=1.0) <= bound(replications)
    samples[samples > 0.5] = np.inf  # censoring above the median changes nothing
    assert false_holds([median_interval(row) for row in samples], 0.0, width=1.0) <= bound(replications)


def test_a_median_by_hand() -> None:
    interval = median_interval(np.arange(1.0, 11.0))  # P(Binomial(10, 1/2) <= 1) = 11 / 1024: the 2nd and the 9th
    assert (interval.estimate, interval.low, interval.high) == (5.5, 2.0, 9.0)


def test_a_median_copes_with_never() -> None:
    interval = median_interval([10, 20, 30, 40, 50, math.inf, math.inf, math.inf])
    assert (interval.estimate, interval.low, interval.high) == (45.0, 10.0, math.inf)
    assert decide(interval, Region(low=5)) == "holds"
    assert decide(interval, Region(high=1000)) == "undecided"
    assert decide(median_interval([math.inf] * 8), Region(high=1000)) == "fails"


# --- the decision ---------------------------------------------------------------------------------------------------


def interval(low: float, high: float, **fields: Any) -> Interval:
    return attrs.evolve(Interval((low + high) / 2, low, high, 20, "t over seeds"), **fields)


@pytest.mark.parametrize(
    ("low", "high", "region", "verdict"),
    [
        (1.0, 2.0, Region(low=0.5), "holds"),
        (1.0, 2.0, Region(low=1.0), "undecided"),
        (1.0, 2.0, Region(low=1.5), "undecided"),
        (1.0, 2.0, Region(low=2.0), "undecided"),
        (1.0, 2.0, Region(low=2.5), "fails"),
        (1.0, 2.0, Region(high=2.5), "holds"),
        (1.0, 2.0, Region(high=1.5), "undecided"),
        (1.0, 2.0, Region(high=0.5), "fails"),
        (1.0, 2.0, Region(0.5, 2.5), "holds"),
        (1.0, 2.0, Region(1.2, 1.8), "undecided"),
        (1.0, 2.0, Region(3.0, 4.0), "fails"),
        (1.0, 2.0, Region(-4.0, 0.0), "fails"),
        (1.0, 2.0, Region(), "holds"),
    ],
)
def test_inside_holds_outside_fails_between_is_undecided(low: float, high: float, region: Region, verdict: str) -> None:
    assert decide(interval(low, high), region) == verdict


def test_a_rate_may_reach_the_end_of_what_is_possible() -> None:
    always = mean_interval([True] * 20)
    assert decide(always, Region(0.8, 1.0)) == "holds"
    assert decide(always, Region(high=1.0)) == "undecided"
    assert decide(interval(0.8, 1.0), Region(0.7, 1.0)) == "undecided"


def test_claims_that_are_true_by_far_hold() -> None:
    generator = np.random.default_rng(0)
    replications, n = 300, 20

    def power(found: list[Interval], region: Region) -> float:
        return [decide(interval, region) for interval in found].count("holds") / len(found)

    noise = generator.normal(size=(replications, n))
    assert power([mean_interval(row + 1) for row in noise], Region(low=0)) > 0.95
    assert power([mean_interval(row) for row in noise], Region(-1, 1)) > 0.95
    assert power([median_interval(row + 1) for row in noise], Region(low=0)) > 0.9
    assert power([difference_interval(row + 1, np.zeros(n)) for row in noise], Region(low=0)) > 0.95
    assert power([ratio_interval(np.exp(row + 1), np.ones(n)) for row in noise], Region(low=1)) > 0.95

    x = np.arange(5.0)
    curves = x + generator.normal(size=(replications, n, 5))
    assert power([slope_interval(x, curve) for curve in curves], Region(0.7, 1.3)) > 0.95
    assert power([crossing_interval(x, curve, 2.2) for curve in curves], Region(1.2, 3.2)) > 0.95

    uniform = generator.uniform(size=(replications, n, 2))
    assert power([mean_interval(row[:, 0] < 0.9) for row in uniform], Region(low=0.5)) > 0.95
    rates = [difference_interval(row[:, 0] < 0.9, row[:, 1] < 0.3) for row in uniform]
    assert power(rates, Region(low=0)) > 0.9
    steep = generator.uniform(size=(replications, n, 5)) < 1 / (1 + np.exp(-4 * (x - 1.5)))
    assert power([crossing_interval(x, curve, 0.5) for curve in steep], Region(0.0, 3.5)) > 0.9

    times = generator.exponential(10, (replications, 2, n)) * np.array([[0.3], [1.0]])
    times[times > 15] = np.inf
    assert np.mean([censored_order(one, two).verdict == "holds" for one, two in times]) > 0.8


# --- how many seeds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "region", [Region(low=0.4), Region(high=0.6), Region(0.2, 0.9), Region(0.7, 0.9), Region(-1, 0.1)]
)
def test_as_many_seeds_decide_as_it_says(region: Region) -> None:
    def sample(n: int) -> Array:
        """Mean 1/2, standard deviation 1, and any size."""
        values = np.arange(n) - (n - 1) / 2
        return np.asarray(0.5 + values / values.std(ddof=1))

    needed = seeds_to_decide(mean_interval(sample(6)), region)
    assert needed is not None
    assert decide(mean_interval(sample(needed)), region) != "undecided"
    assert decide(mean_interval(sample(needed - 1)), region) == "undecided"


def test_seeds_for_rates_and_ratios() -> None:
    needed = seeds_to_decide(mean_interval([True] * 10), Region(low=0.9))
    assert needed == 36  # 0.025^(1/36) > 0.9 > 0.025^(1/35)
    ratio = ratio_interval([2.0, 1.0, 3.0, 1.0], [1.0, 1.0, 1.0, 1.0])
    enough = seeds_to_decide(ratio, Region(low=1.0))
    logs = mean_interval(np.log([2.0, 1.0, 3.0, 1.0]))
    assert enough == seeds_to_decide(logs, Region(low=0.0))


def test_no_number_of_seeds_decides_at_the_boundary() -> None:
    assert seeds_to_decide(interval(-1.0, 1.0), Region(low=0.0)) is None
    assert seeds_to_decide(interval(-1.0, 1.0), Region(0.0, 5.0)) is None
    assert seeds_to_decide(mean_interval([True, False] * 5), Region(high=0.5)) is None
    assert seeds_to_decide(Interval(1.0, -math.inf, 2.0, 9, "t over seeds"), Region(low=0.0)) is None


def test_a_decided_interval_needs_no_more_seeds() -> None:
    assert seeds_to_decide(interval(1.0, 2.0), Region(low=0.0)) == 20


def test_the_quantile_is_students_for_many_seeds() -> None:
    assert t_quantile(3) == pytest.approx(stdtrit(1.5, 0.975))
    assert t_quantile(10**6) == pytest.approx(1.959966, abs=1e-5)
    assert intervals.ALPHA == 0.025
