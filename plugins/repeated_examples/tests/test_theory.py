"""The derived formulas against simulation, against enumeration, and against the worked numbers of the brief."""

from __future__ import annotations

import math

import numpy as np
import pytest
from kempeframe_repeated_examples import theory


@pytest.mark.parametrize(
    ("modulus", "index", "accuracy", "cross_entropy"),
    [
        (7, 1, 0.387755102, 1.316395),
        (7, 2, 0.510204082, 0.807144),
        (7, 3, 0.632653061, 0.509251),
        (7, 6, 1.0, 0.0),
        (67, 1, 0.044331, 4.065524),
        (67, 2, 0.059033, None),
        (67, 11, 0.191357, None),
        (67, 22, 0.353085, None),
        (67, 33, 0.514814, None),
        (67, 66, 1.0, 0.0),
    ],
)
def test_plateaus_have_the_worked_numbers(modulus: int, index: int, accuracy: float, cross_entropy: float) -> None:
    level = theory.plateau(modulus, index)
    assert level.accuracy == pytest.approx(accuracy, abs=6e-7)
    if cross_entropy is not None:
        assert level.cross_entropy == pytest.approx(cross_entropy, abs=6e-7)


def test_the_ignorant_level_has_the_worked_numbers() -> None:
    for modulus, accuracy, loss in ((7, 0.265306122, 1.894928818), (67, 0.029627980, 4.198970338)):
        level = theory.staircase(modulus)[0]
        assert (level.accuracy, level.cross_entropy) == pytest.approx((accuracy, loss), abs=1e-9)
    operands = theory.product_distribution(7, 0, 1023)
    assert operands[0] == pytest.approx(0.266501427, abs=1e-9)
    assert theory.ignorant(operands).cross_entropy == pytest.approx(1.894000959, abs=1e-9)


@pytest.mark.parametrize(("modulus", "index"), [(7, 1), (7, 2), (7, 3), (7, 6), (13, 4), (31, 10)])
def test_a_plateau_is_what_a_model_that_knows_the_coset_reaches(modulus: int, index: int) -> None:
    """Such a model, built and asked: it guesses evenly within the coset of the product."""
    subgroup = {pow(x, index, modulus) for x in range(1, modulus)}
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, modulus, (2, 200_000))
    right, loss = [], []
    for product, count in zip(*np.unique(a * b % modulus, return_counts=True), strict=True):
        coset = sorted(int(product) * h % modulus for h in subgroup) if product else [0]
        guesses = rng.choice(coset, int(count))
        right.append(np.sum(guesses == product))
        loss.append(count * math.log(len(coset)))
    level = theory.plateau(modulus, index)
    error = 4 * math.sqrt(max(level.accuracy * (1 - level.accuracy), 1e-9) / len(a))
    assert abs(sum(right) / len(a) - level.accuracy) <= error
    assert sum(loss) / len(a) == pytest.approx(level.cross_entropy, abs=0.01)


def test_products_are_distributed_as_counted() -> None:
    counts = np.zeros(5)
    for a in range(3, 18):
        for b in range(3, 18):
            counts[a * b % 5] += 1
    np.testing.assert_allclose(theory.product_distribution(5, 3, 17), counts / counts.sum(), rtol=1e-12)


def test_escape_levels_are_those_of_the_brief() -> None:
    assert theory.escape_levels(7) == pytest.approx([0.3265, 0.4490, 0.5714, 0.8163], abs=5e-5)


@pytest.mark.parametrize(("modulus", "index"), [(6, 1), (1, 1), (9, 2)])
def test_plateaus_are_refused_where_the_modulus_is_no_prime(modulus: int, index: int) -> None:
    with pytest.raises(ValueError, match=f"modulus = {modulus}: plateaus are those of a prime"):
        theory.plateau(modulus, index)
    with pytest.raises(ValueError, match=r"index = 4: expected a divisor of modulus - 1 = 6"):
        theory.plateau(7, 4)


def test_gcd_probabilities_are_exact() -> None:
    """W4, and all of a small range counted."""
    assert theory.gcd_probability(1, 1000) == 608383 / 10**6
    assert theory.gcd_probability(7, 10**6) == pytest.approx(0.012406704135, abs=1e-12)
    a = np.arange(1, 61)
    found = np.gcd(a[:, None], a[None, :])
    for g in (1, 2, 7, 30, 60):
        assert theory.gcd_probability(g, 60) == (found == g).sum() / 3600
    assert sum(theory.gcd_probability(g, 60) for g in range(1, 61)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("base", "digits", "count"),
    [
        (2, None, 7),
        (10, None, 15),
        (12, None, 20),
        (30, None, 34),
        (420, None, 46),
        (1000, None, 15),
        (1000, 1, 11),
        (1000, 2, 15),
        (100, None, 15),
        (2023, None, 4),
        (31, None, 2),
    ],
)
def test_what_a_base_reveals_has_the_worked_counts(base: int, digits: int | None, count: int) -> None:
    assert len(theory.revealed(base, digits, 100)) == count


def test_baselines_have_the_worked_accuracies() -> None:
    one_digit = theory.revealed(1000, 1, 100)
    assert one_digit == [1, 2, 4, 5, 8, 10, 20, 25, 40, 50, 100]
    assert theory.divisor_accuracy(one_digit) == pytest.approx(0.840976, abs=5e-7)
    for base, accuracy in ((10, 0.844188), (30, 0.949362), (2, 0.810520), (31, 0.608560)):
        assert theory.divisor_accuracy(theory.revealed(base, None, 100)) == pytest.approx(accuracy, abs=5e-7)
    assert theory.divisor_accuracy([1, 2]) == pytest.approx(0.7599, abs=5e-5)
    assert theory.divisor_accuracy([1, 2, 3, 6]) == pytest.approx(0.8443, abs=5e-5)


def test_a_model_that_says_the_largest_known_divisor_has_the_baselines_accuracy() -> None:
    known = theory.revealed(10, None, 100)
    rng = np.random.default_rng(1)
    a, b = rng.integers(1, 10_000, (2, 200_000))
    said = np.max([np.where((a % d == 0) & (b % d == 0), d, 1) for d in known], axis=0)
    accuracy = (said == np.gcd(a, b)).mean()
    expected = theory.divisor_accuracy(known, 9_999)
    assert abs(accuracy - expected) < 4 * math.sqrt(expected * (1 - expected) / len(a))


def test_a_learned_prime_multiplies_the_divisors() -> None:
    assert theory.with_primes([1, 5], [2], 20) == [1, 2, 4, 5, 8, 10, 16, 20]
    assert theory.with_primes([1], [2, 3], 12) == [1, 2, 3, 4, 6, 8, 9, 12]
    assert theory.with_primes([1, 31], [], 40) == [1, 31]


def test_distinct_examples_of_a_pool() -> None:
    """At as many draws as examples 63.212 % of a pool were ever seen (T2)."""
    assert theory.distinct(1e6, 1e6) / 1e6 == pytest.approx(0.63212, abs=5e-6)
    assert theory.distinct(2**20, 384_000) == pytest.approx(321_539, abs=1)
    assert theory.distinct(math.inf, 77.0) == 77.0
    rng = np.random.default_rng(2)
    counts = [len(np.unique(rng.integers(0, 50, 80))) for _ in range(2000)]
    assert abs(np.mean(counts) - theory.distinct(50, 80)) < 4 * np.std(counts) / math.sqrt(2000)
