"""At the boundary of its region a claim "holds" in at most 2.5 % of studies; well inside it does."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import gammaln, ndtr, stdtrit, xlogy

from kempeframe import intervals
from kempeframe.intervals import (
    Interval,
    Region,
    decide,
    difference_interval,
    is_boolean,
    mean_interval,
    median_interval,
    ratio_interval,
    seeds_to_decide,
    slope_interval,
    t_limits,
    t_quantile,
)
from kempeframe.locations import censored_order, crossing_interval, optimum_set
from kempeframe.proportions import clopper_pearson, paired_lower_limit

Array = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]

SEEDS = (3, 6, 20)
RATES = (0.02, 0.1, 0.3, 0.5, 0.9, 0.98)


def rounded(deviation: float, offset: float) -> Draw:
    """Normal values rounded to whole numbers, less their mean."""
    whole = np.arange(-40, 41)
    probability = ndtr((whole + 0.5 - offset) / deviation) - ndtr((whole - 0.5 - offset) / deviation)
    mean = float(np.sum(whole * probability))
    return lambda generator, shape: np.rint(generator.normal(offset, deviation, shape)) - mean


# All with mean zero; all but the rounded ones with an offset symmetric.
DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda generator, shape: generator.normal(size=shape),
    "uniform": lambda generator, shape: generator.uniform(-1, 1, shape),
    "Laplace": lambda generator, shape: generator.laplace(size=shape),
    "Student t with 2 degrees of freedom": lambda generator, shape: generator.standard_t(2, shape),
    "rounded to half a deviation": rounded(2.0, 0.3),
    "rounded to one deviation": rounded(1.0, 0.0),
    "rounded to two deviations": rounded(0.5, 0.3),
    "rounded to five deviations": rounded(0.2, 0.35),
}


def bound(replications: int, rate: float = 0.025) -> float:
    """2.5 % and three binomial standard errors."""
    return rate + 3 * math.sqrt(rate * (1 - rate) / replications)


def boundary_regions(truth: float, width: float) -> list[Region]:
    """Above, below, and within on either side: regions whose boundary is the truth."""
    return [
        Region(low=truth),
        Region(high=truth),
        Region(truth, truth + width),
        Region(truth - width, truth),
    ]


def false_holds(found: list[Interval], truth: float, width: float) -> float:
    """The largest share of "holds", and of "fails", over the regions that begin or end at the truth."""
    shares = []
    for region in boundary_regions(truth, width):
        verdicts = [decide(interval, region) for interval in found]
        shares += [verdicts.count("holds") / len(found), verdicts.count("fails") / len(found)]
    return max(shares)


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


# --- which comes first --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [*SEEDS, 31])
@pytest.mark.parametrize("step", [0.0, 5.0])
def test_events_at_the_same_time_are_ordered_in_at_most_2_5_percent(n: int, step: float) -> None:
    replications = 150 if n > 30 else 1500  # 31 pairs are exchanged at random
    times = np.random.default_rng(n).exponential(10.0, (replications, 2, n))
    times += np.random.default_rng(n + 1).exponential(5.0, (replications, 1, n))  # pairs are alike
    times = np.ceil(times / step) * step if step else times
    times[times > 20] = np.inf
    verdicts = [censored_order(one, two).verdict for one, two in times]
    assert verdicts.count("holds") / replications <= bound(replications)
    assert verdicts.count("fails") / replications <= bound(replications)


def test_an_order_against_all_exchanges() -> None:
    one, two = np.array([1, 2, 3, 9, 5, 6, 4.0]), np.array([7, 8, math.inf, 4, math.inf, 6, 10.0])
    order = censored_order(one, two)
    scores = log_rank(np.concatenate([one, two]))
    difference = scores[:7] - scores[7:]
    sums = np.array([np.dot(signs, difference) for signs in itertools.product((-1, 1), repeat=7)])
    assert order.p_earlier == pytest.approx(np.mean(sums >= difference.sum() - 1e-9))
    assert order.p_later == pytest.approx(np.mean(sums <= difference.sum() + 1e-9))
    assert order.estimate == pytest.approx((5 - 1) / 7)


def log_rank(times: Array) -> Array:
    """Death less cumulative hazard, as on paper."""
    hazard = {t: sum(times == t) / sum(times >= t) for t in set(times.tolist()) if t < math.inf}
    return np.array([float(t < math.inf) - sum(h for s, h in hazard.items() if s <= t) for t in times])


def test_orders_that_are_decided_and_undecided() -> None:
    early, late = np.arange(1.0, 7.0), np.full(6, math.inf)
    assert censored_order(early, late).verdict == "holds"
    assert censored_order(early, late).p_earlier == pytest.approx(2.0**-6)
    assert censored_order(late, early).verdict == "fails"
    assert censored_order(late, late).reason == "0 pairs differ; at least 6 must"
    assert censored_order(early[:5], late[:5]).verdict == "undecided"
    assert censored_order([math.nan] * 8, [1.0] * 8).reason == "8 of 8 pairs are not numbers"


def test_exchanges_at_random_agree_with_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(5)
    one, two = generator.exponential(10, 20), generator.exponential(15, 20)
    exact = censored_order(one, two)
    monkeypatch.setattr("kempeframe.locations.EXACT_PAIRS", 0)
    drawn = censored_order(one, two)
    assert drawn.p_earlier == pytest.approx(exact.p_earlier, abs=0.005)
    assert drawn == censored_order(one, two)


# --- where: optimum and crossing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize(
    "name", ["normal", "uniform", "Student t with 2 degrees of freedom", "rounded to one deviation"]
)
@pytest.mark.parametrize("others", [0.0, 3.0])
def test_the_true_optimum_is_excluded_in_at_most_2_5_percent(name: str, n: int, others: float) -> None:
    """At the boundary all points tie, or two do and the others are far below."""
    replications = 1500
    generator = np.random.default_rng(n)
    seeds = generator.normal(0, 5, (replications, n, 1))
    curves = seeds + DISTRIBUTIONS[name](generator, (replications, n, 5))
    curves[:, :, 2:] -= others
    excluded = np.mean([not optimum_set(curve, "maximum", boolean=False)[0] for curve in curves])
    assert excluded <= bound(replications)


@pytest.mark.parametrize("p", RATES)
def test_the_best_rate_is_excluded_in_at_most_2_5_percent(p: float) -> None:
    replications = 1500
    for n in SEEDS:
        curves = np.random.default_rng(n).uniform(size=(replications, n, 4)) < p
        excluded = np.mean([not optimum_set(curve, "minimum")[0] for curve in curves])
        assert excluded <= bound(replications)


def test_an_optimum_is_found() -> None:
    curves = np.random.default_rng(0).normal(0, 0.3, (20, 5)) + np.array([0.0, 1.0, 2.0, 1.0, 0.0])
    assert optimum_set(curves, "maximum").tolist() == [False, False, True, False, False]
    assert optimum_set(-curves, "minimum").tolist() == [False, False, True, False, False]
    assert optimum_set(curves[:2], "maximum").all()
    curves[3, 2] = math.nan
    assert optimum_set(curves, "maximum").tolist() == [False, True, True, True, False]
    rates = np.random.default_rng(0).uniform(size=(20, 3)) < np.array([0.05, 0.9, 0.05])
    assert optimum_set(rates, "maximum").tolist() == [False, True, False]


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("name", ["normal", "uniform", "Laplace", "Student t with 2 degrees of freedom"])
@pytest.mark.parametrize("slope", [0.3, -1.0])
def test_a_crossing_at_the_boundary_holds_in_at_most_2_5_percent(name: str, n: int, slope: float) -> None:
    replications = 1000
    generator = np.random.default_rng(n)
    x = np.array([0.0, 1.0, 2.0, 4.0, 5.0, 8.0])
    noise = 0.3 * DISTRIBUTIONS[name](generator, (replications, n, len(x)))
    curves = slope * (x - 3.5) + noise + generator.normal(0, 0.3, (replications, n, 1)) + 2.0
    found = [crossing_interval(x, curve, 2.0) for curve in curves]
    assert false_holds(found, 3.5, width=1.0) <= bound(replications)


@pytest.mark.parametrize("n", SEEDS)
def test_a_crossing_of_rates_at_the_boundary_holds_in_at_most_2_5_percent(n: int) -> None:
    replications = 1500
    x = np.arange(7.0)
    uniform = np.random.default_rng(n).uniform(size=(replications, n, 7))
    for truth in (3.0, 3.4):
        curves = uniform < 1 / (1 + np.exp(-1.5 * (x - truth)))
        assert false_holds([crossing_interval(x, c, 0.5) for c in curves], truth, width=1.5) <= bound(replications)


def test_a_crossing_is_where_the_t_interval_contains_the_level() -> None:
    generator = np.random.default_rng(1)
    x = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    curves = generator.normal(0, 0.4, (8, 5)) + x
    found = crossing_interval(x, curves, 1.7)
    dense = np.linspace(0, 4, 40_001)
    values = np.array([np.interp(dense, x, curve) for curve in curves])
    _, low, high = t_limits(values.T)
    contained = dense[(low <= 1.7) & (high >= 1.7)]
    assert [found.low, found.high] == pytest.approx([contained.min(), contained.max()], abs=2e-4)
    assert found.estimate == pytest.approx(np.interp(1.7, curves.mean(axis=0), x))
    turned = crossing_interval(x[::-1], curves[:, ::-1], 1.7)
    assert turned == found


def test_crossings_that_are_not_there() -> None:
    x = [0.0, 1.0, 2.0]
    rising = np.add.outer(np.array([0.0, 0.1, 0.3, 0.2]), np.array(x))
    assert crossing_interval(x, rising, 5.0).reason == "the mean doesn't cross 5"
    assert crossing_interval(x, [[0.0, 1.5, 2.0]] * 4, 1.0).reason == "the seeds don't differ where the mean crosses"
    assert crossing_interval(x, rising[:2], 1.0).reason == "2 seeds; at least 3 are needed"
    rising[0, 0] = math.inf
    assert crossing_interval(x, rising, 1.0).reason == "1 of 4 curves are not finite"


def test_a_crossing_near_the_end_may_lie_beyond() -> None:
    curves = np.add.outer(np.array([-0.3, 0.0, 0.2, 0.4]), np.array([0.0, 1.0, 2.0]))
    found = crossing_interval([0.0, 1.0, 2.0], curves, 0.2)
    assert found.low == -math.inf
    assert 0 < found.estimate < found.high < 2


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
