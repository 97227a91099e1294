"""Which of two comes first, where an optimum lies and where a crossing: the truth is excluded in at most 2.5 %."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from kempeframe.intervals import t_limits
from kempeframe.locations import censored_order, crossing_interval, optimum_set
from tests.simulated import DISTRIBUTIONS, RATES, SEEDS, Array, bound, false_holds

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
