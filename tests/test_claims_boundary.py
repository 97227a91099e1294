"""The claims engine: at the boundary of its region a claim holds in at most 2.5 % of studies, whatever its kind."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kempeframe.claims import Claim, decide_claim
from kempeframe.table import Table
from tests.claim_tables import KINDS, claim, table

SEEDS = (3, 6, 20)
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
NOISE: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "heavy tails": lambda rng, shape: rng.standard_t(2, shape),
    "ties": lambda rng, shape: np.round(rng.standard_normal(shape)),
}


def share(made: Claim, draw: Callable[[np.random.Generator], Table], decision: str, replications: int) -> float:
    rng = np.random.default_rng(7)
    return float(np.mean([decide_claim(made, draw(rng)).decision == decision for _ in range(replications)]))


def bound(replications: int) -> float:
    """2.5 % and three Monte-Carlo standard errors."""
    return 0.025 + 3 * math.sqrt(0.025 * 0.975 / replications)


def drawn(kind: str, noise: str, n: int, inside: float) -> Callable[[np.random.Generator], Table]:
    means = np.array(KINDS[kind][1](inside))[:, None]

    def draw(rng: np.random.Generator) -> Table:
        values = means + NOISE[noise](rng, (len(means), n))
        rows = table(values)
        rows.columns["theory"] = [0.0] * len(rows)
        return rows

    return draw


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("kind", KINDS)
def test_at_the_boundary_it_holds_in_at_most_2_5_percent(kind: str, noise: str, n: int) -> None:
    replications = 300
    found = share(claim(**KINDS[kind][0]), drawn(kind, noise, n, 0.0), "holds", replications)
    assert found <= bound(replications)


@pytest.mark.slow
@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("kind", KINDS)
def test_at_the_boundary_closely(kind: str, noise: str, n: int) -> None:
    replications = 5000
    found = share(claim(**KINDS[kind][0]), drawn(kind, noise, n, 0.0), "holds", replications)
    assert found <= bound(replications)


@pytest.mark.parametrize("kind", KINDS)
def test_well_inside_it_holds_and_well_outside_it_fails(kind: str) -> None:
    made = claim(**KINDS[kind][0])
    assert share(made, drawn(kind, "normal", 20, 2.0), "holds", 60) > 0.8
    assert share(made, drawn(kind, "normal", 20, -3.0), "fails", 60) > 0.8
    assert share(made, drawn(kind, "normal", 20, -2.0), "holds", 60) == 0


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_a_ratio_at_the_boundary(n: int, spread: float) -> None:
    made = claim(ratio={"of": "y", "numerator": {"x": 1}, "denominator": {"x": 0}}, above=2.0)
    for name, noise in NOISE.items():
        if name == "ties":
            continue

        def draw(rng: np.random.Generator, noise: Draw = noise) -> Table:
            return table(np.array([[1.0], [2.0]]) * np.exp(spread * noise(rng, (2, n))))

        assert share(made, draw, "holds", 300) <= bound(300)

    def inside(rng: np.random.Generator) -> Table:
        return table(np.array([[1.0], [9.0]]) * np.exp(0.3 * rng.standard_normal((2, 20))))

    assert share(made, inside, "holds", 40) > 0.9


# The same for rates: the claim, and the rates of the points where the truth lies at the boundary, inside and outside.
RATES = (0.05, 0.3, 0.7, 0.95)
RATE_KINDS: dict[str, tuple[dict[str, Any], Callable[[float], list[float]], list[float], list[float]]] = {
    "threshold": ({"threshold": {"of": "y"}, "above": "p"}, lambda p: [p], [0.99], [0.02]),
    "difference": (
        {"difference": {"of": "y", "first": {"x": 1}, "second": {"x": 0}}, "above": 0.0},
        lambda p: [p, p],
        [0.1, 0.9],
        [0.9, 0.1],
    ),
    "order": (
        {"order": {"of": "y", "lower": {"x": 0}, "higher": {"x": 1}}},
        lambda p: [p, p],
        [0.1, 0.9],
        [0.9, 0.1],
    ),
    "monotone": (
        {"monotone": {"of": "y", "along": "x", "direction": "decreasing"}},
        lambda p: [1.0, p, p],
        [0.99, 0.5, 0.01],
        [0.01, 0.5, 0.99],
    ),
    "monotone up to a tolerance": (
        {"monotone": {"of": "y", "along": "x", "direction": "increasing", "tolerance": 0.04}},
        lambda p: [p, p - 0.04, 1.0],
        [0.0, 0.5, 1.0],
        [1.0, 0.5, 0.0],
    ),
    "slope": (
        {"slope": {"of": "y", "against": "x", "scale": "linear"}, "above": 0.0},
        lambda p: [p] * 4,
        [0.15, 0.4, 0.6, 0.85],
        [0.85, 0.6, 0.4, 0.15],
    ),
    "agreement": (
        {"agreement": {"of": "y", "theory": "theory", "absolute": 0.45}},
        lambda p: [p],
        [0.9],
        [0.05],
    ),
    "optimum": (
        {"location": {"of": "y", "along": "x", "at": "maximum"}, "above": 0.5},
        lambda p: [p, p, p],
        [0.02, 0.02, 0.95],
        [0.98, 0.05, 0.05],
    ),
    "crossing": (
        {"location": {"of": "y", "along": "x", "at": "crossing", "level": "p"}, "above": 1.0},
        lambda p: [0.0, p, p + (1 - p) / 2, 1.0],
        [],
        [],
    ),
}


def of_rate(kind: str, p: float) -> Claim:
    """The claim with its boundary at the rate p."""
    fields: dict[str, Any] = dict(RATE_KINDS[kind][0])
    if kind == "threshold":
        fields["above"] = p
    if kind == "crossing":
        fields["location"] = {**fields["location"], "level": p}
    return claim(**fields)


def rates(means: list[float], n: int, theory: float) -> Callable[[np.random.Generator], Table]:
    def draw(rng: np.random.Generator) -> Table:
        common, own = rng.random((1, n)), rng.random((len(means), n))
        uniform = np.where(rng.random((len(means), n)) < 0.3, common, own)  # seeds are alike
        rows = table(uniform < np.array(means)[:, None])
        rows.columns["theory"] = [theory] * len(rows)
        return rows

    return draw


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("kind", RATE_KINDS)
def test_a_rate_at_the_boundary_holds_in_at_most_2_5_percent(kind: str, n: int) -> None:
    replications = 200
    for p in RATES:
        theory = p - 0.45 if p > 0.5 else p + 0.45
        found = share(of_rate(kind, p), rates(RATE_KINDS[kind][1](p), n, theory), "holds", replications)
        assert found <= bound(replications)


@pytest.mark.slow
@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("kind", RATE_KINDS)
def test_a_rate_at_the_boundary_closely(kind: str, n: int) -> None:
    replications = 5000
    for p in RATES:
        theory = p - 0.45 if p > 0.5 else p + 0.45
        found = share(of_rate(kind, p), rates(RATE_KINDS[kind][1](p), n, theory), "holds", replications)
        assert found <= bound(replications)


@pytest.mark.parametrize("kind", [kind for kind in RATE_KINDS if RATE_KINDS[kind][2]])
def test_a_rate_well_inside_holds_and_well_outside_fails(kind: str) -> None:
    _, _, inside, outside = RATE_KINDS[kind]
    made = of_rate(kind, 0.5)
    assert share(made, rates(inside, 20, 0.95), "holds", 40) > 0.7
    assert share(made, rates(outside, 20, 0.95), "fails", 40) > 0.7
    assert share(made, rates(outside, 20, 0.95), "holds", 40) == 0


@pytest.mark.parametrize("n", SEEDS)
def test_censored_steps_at_the_boundary(n: int) -> None:
    made = claim(order={"of": "y", "lower": {"x": 0}, "higher": {"x": 1}})

    def draw(rng: np.random.Generator, slower: float = 1.0) -> Table:
        steps = rng.exponential(1.0, (2, n)) * np.array([[1.0], [slower]])
        return table(np.where(steps > 1.5, np.inf, steps))

    assert share(made, draw, "holds", 300) <= bound(300)
    if n == 20:
        assert share(made, lambda rng: draw(rng, 8.0), "holds", 60) > 0.8
        assert "log-rank" in decide_claim(made, draw(np.random.default_rng(0), 8.0)).parts[0].interval.method


@pytest.mark.parametrize("n", SEEDS)
def test_the_median_at_the_boundary_whatever_the_skew(n: int) -> None:
    made = claim(threshold={"of": "y"}, below=1.0, statistic="median")
    assert share(made, lambda rng: table(np.exp(2 * rng.standard_normal((1, n)))), "holds", 300) <= bound(300)
    assert share(made, lambda rng: table(0.2 * np.exp(rng.standard_normal((1, 20)))), "holds", 60) > 0.8
