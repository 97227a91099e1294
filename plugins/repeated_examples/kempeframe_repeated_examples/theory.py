"""What can be said of the problems without a network: plateaus of modular multiplication, what digits say of a gcd.

The paper has no theory of its own. The plateaus are derived here (brief, Section 3.2); what a base gives away of the
greatest common divisor is Charton's (arXiv:2308.15594).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray


@attrs.frozen
class Level:
    """What a model that knows so much reaches."""

    accuracy: float
    cross_entropy: float  # nats


def is_prime(number: int) -> bool:
    """By trial division."""
    return number > 1 and all(number % d for d in range(2, math.isqrt(number) + 1))


def divisors(number: int) -> list[int]:
    """In rising order."""
    return [d for d in range(1, number + 1) if number % d == 0]


def zero_share(modulus: int) -> float:
    """P(a b = 0 mod q) for a, b uniform mod q, q prime: (2 q - 1) / q^2."""
    return (2 * modulus - 1) / modulus**2


def product_distribution(modulus: int, minimum: int, maximum: int) -> NDArray[np.float64]:
    """P(a b = c mod q), (q,), for a, b uniform on minimum..maximum."""
    counts = np.bincount(np.arange(minimum, maximum + 1) % modulus, minlength=modulus)
    share = counts / counts.sum()
    residues = np.arange(modulus)
    products = np.outer(residues, residues) % modulus
    weights = np.outer(share, share).ravel()
    return np.bincount(products.ravel(), weights=weights, minlength=modulus).astype(np.float64)


def ignorant(distribution: NDArray[np.float64]) -> Level:
    """A model that knows how often each answer comes, and nothing of the question: it says the most frequent one."""
    positive = distribution[distribution > 0]
    return Level(float(distribution.max()), float(-(positive * np.log(positive)).sum()))


def plateau(modulus: int, index: int, zero: float | None = None) -> Level:
    """A model that knows whether a b = 0 mod q and otherwise the coset of a b, and nothing more (brief, Section 3.2).

    The cosets are those of the subgroup of this index r in (Z/q)*, which has n = (q - 1) / r members. With z the share
    of zeros (not given: (2 q - 1) / q^2):

        accuracy = z + (1 - z) / n,    cross-entropy = (1 - z) ln n

    Raises:
        ValueError: q is not prime, or r does not divide q - 1.
    """
    if not is_prime(modulus):
        raise ValueError(f"modulus = {modulus}: plateaus are those of a prime")
    if index < 1 or (modulus - 1) % index:
        raise ValueError(f"index = {index}: expected a divisor of modulus - 1 = {modulus - 1}")
    members = (modulus - 1) // index
    share = zero_share(modulus) if zero is None else zero
    return Level(share + (1 - share) / members, (1 - share) * math.log(members))


def staircase(modulus: int, distribution: NDArray[np.float64] | None = None) -> dict[int, Level]:
    """All levels by index, from 0 (ignorant) to q - 1 (all is known); of a given distribution of answers, (q,)."""
    shares = product_distribution(modulus, 0, modulus - 1) if distribution is None else distribution
    known = {index: plateau(modulus, index, float(shares[0])) for index in divisors(modulus - 1)}
    return {0: ignorant(shares), **known}


def escape_levels(modulus: int, indices: Sequence[int] | None = None) -> list[float]:
    """Midpoints between the accuracies of consecutive levels: above one, the level below is left."""
    levels = staircase(modulus)
    accuracies = [levels[index].accuracy for index in indices or sorted(levels)]
    return [(low + high) / 2 for low, high in itertools.pairwise(accuracies)]


def moebius(last: int) -> NDArray[np.int64]:
    """mu(0..last); mu(0) = 0."""
    found = np.ones(last + 1, dtype=np.int64)
    found[0] = 0
    for p in range(2, last + 1):
        if is_prime(p):
            found[p::p] *= -1
            found[p * p :: p * p] = 0
    return found


def gcd_probability(gcd: int, maximum: int) -> float:
    """P(gcd(a, b) = g) for a, b uniform on 1..M: sum over k of mu(k) floor(M / (g k))^2 / M^2."""
    last = maximum // gcd
    k = np.arange(1, last + 1)
    terms = moebius(last)[1:] * (maximum // (gcd * k)) ** 2
    return int(terms.sum()) / maximum**2


def revealed(base: int, digits: int | None, largest: int) -> list[int]:
    """The numbers up to `largest` that the last m digits tell a divisor: those that divide base^m; None: any power."""
    powers = digits if digits is not None else max(1, largest.bit_length())
    return [k for k in range(1, largest + 1) if pow(base, powers, k) == 0 or k == 1]


def with_primes(known: Iterable[int], primes: Iterable[int], largest: int) -> list[int]:
    """The divisors that are known once these primes are learned besides: products with their powers."""
    found = set(known)
    for prime in primes:
        power = prime
        while power <= largest:
            found |= {d * power for d in found if d * power <= largest}
            power *= prime
    return sorted(found)


def divisor_accuracy(known: Iterable[int], maximum: int | None = None) -> float:
    """Of a model that says the largest known divisor of both operands: right iff the gcd is known.

    For operands uniform on 1..maximum; None: the limit, P(gcd = d) = 6 / (pi d)^2.
    """
    if maximum is None:
        return sum(6 / (math.pi * d) ** 2 for d in known)
    return sum(gcd_probability(d, maximum) for d in known)


def distinct(pool: float, draws: float) -> float:
    """How many of `pool` examples are expected among so many draws with replacement: N (1 - (1 - 1/N)^draws)."""
    if math.isinf(pool):
        return draws
    return -pool * math.expm1(draws * math.log1p(-1 / pool)) if pool > 1 else min(pool, draws)
