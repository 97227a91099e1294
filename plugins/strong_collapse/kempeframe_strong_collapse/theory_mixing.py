"""Cures of strong collapse (arXiv:2410.04840, Section 5): best static weight, best penalty, iterative mixing.

All three are read off the closed form of `theory`. None of them cures collapse at a fixed amount of real
data: the best weight tends to zero like 1/n, the best penalty leaves a plateau, and iterative mixing gains
by the fresh real examples that each round consumes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .theory import Truth, constants_at, risk, validated
from .theory_equation import FloatArray, Points

GRID = 33  # each round of the search evaluates so many points and narrows the interval sixteenfold
LOG_RESOLUTION = 1e-7  # near a minimum the test error does not see relative changes below 1e-8


@dataclass(frozen=True)
class OptimalWeight:
    """Best loss weight on synthetic examples relative to real ones, and what it is worth."""

    weight: float  # omega_2/omega_1; 0: delete the synthetic examples, np.inf: delete the real ones
    test_error: float
    real_only: float  # omega_2 = 0
    unweighted: float  # omega_2 = omega_1


@dataclass(frozen=True)
class OptimalPenalty:
    """Best ridge penalty and its test error."""

    penalty: float
    test_error: float


def optimal_weight(
    eigenvalues: ArrayLike, n_train: float, penalty: float, **population: Any
) -> OptimalWeight:
    """Minimise `risk` over omega_2 in [1e-9, 1e9] with omega_1 = 1, and over deleting either population.

    One point; population: the keywords of `risk` except weights, synthetic_fraction strictly between 0 and 1.
    """

    def error(weight: FloatArray) -> FloatArray:
        return risk(eigenvalues, n_train, penalty, weights=(1.0, weight), **population).test_error

    def error_of_pair(real: float, synthetic: float) -> float:
        return float(
            risk(eigenvalues, n_train, penalty, weights=(real, synthetic), **population).test_error[0]
        )

    real_only, synthetic_only = error_of_pair(1.0, 0.0), error_of_pair(0.0, 1.0)
    weight, best = _minimum_over_log(error, 1e-9, 1e9)
    best, weight = min((real_only, 0.0), (best, weight), (synthetic_only, np.inf))
    return OptimalWeight(weight, best, real_only, error_of_pair(1.0, 1.0))


def optimal_penalty(
    eigenvalues: ArrayLike, n_train: float, *, low: float = 1e-12, high: float = 1e6, **population: Any
) -> OptimalPenalty:
    """Minimise `risk` over the penalty in [low, high]; one point, population: the keywords of `risk`.

    Isotropic, tr Gamma = 1, n = infinity: penalty p2^2 c^2 and test error p2^2 c^2/(1 + p2^2 c^2): tuning
    is no cure.
    """
    return OptimalPenalty(
        *_minimum_over_log(lambda lam: risk(eigenvalues, n_train, lam, **population).test_error, low, high)
    )


def _minimum_over_log(
    objective: Callable[[FloatArray], FloatArray], low: float, high: float
) -> tuple[float, float]:
    """Argument and value of the minimum over [low, high]: a grid in the log, refined at its best point."""
    left, right = np.log(low), np.log(high)
    while True:
        grid = np.linspace(left, right, GRID)
        values = objective(np.exp(grid))
        best = int(values.argmin())
        left, right = grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)]
        if right - left < LOG_RESOLUTION:
            return float(np.exp(grid[best])), float(values[best])


def iterative_errors(
    eigenvalues: ArrayLike,
    n_train: ArrayLike,
    penalty: ArrayLike,
    *,
    rounds: int,
    signal: ArrayLike,
    shift: ArrayLike,
    cross: ArrayLike = 0.0,
    noise: ArrayLike = 0.0,
    synthetic_noise: ArrayLike = 0.0,
    synthetic_fraction: ArrayLike = 0.0,
) -> FloatArray:
    """Test errors (rounds + 1, P) of iterative mixing, fresh inputs each round, no projection; row 0: c_0^2.

    Round t trains w_t on n fresh inputs, a fraction p1 labelled by w1 and p2 by w_{t-1}; w_0 = w1 + delta.
    In the eigenbasis, with mu_t the mean of w_t, C_t its variances and E_0 = sum s shift:

        mu_t = T (p1 w1 + p2 mu_{t-1})        C_t = p2^2 T^2 C_{t-1} + s/(s + nu)^2 r_t/(n - df2)
        r_t  = p1 (sigma1^2 + sum s [(w1 - mu_t)^2 + p2^2 T^2 C_{t-1}])
             + p2 (sigma2^2 + sum s [(mu_{t-1} - mu_t)^2 + (1 - p2 T)^2 C_{t-1}])
        E_t  = sum s [(mu_t - w1)^2 + C_t]

    Other arguments and errors as in `theory.risk`.
    """
    chain = _Chain(
        *validated(
            eigenvalues,
            n_train,
            penalty,
            signal,
            shift,
            cross,
            noise,
            synthetic_noise,
            np.inf,
            synthetic_fraction,
        )
    )
    # mu_t - w1 = -missing w1 + inherited delta
    missing, inherited = np.zeros_like(chain.t), np.ones_like(chain.t)
    variances = np.zeros_like(chain.t)
    errors = [chain.norm(missing, inherited)]
    for _ in range(rounds):
        next_missing, next_inherited = chain.r + chain.p2 * chain.t * missing, chain.p2 * chain.t * inherited
        residual = chain.p1[:, 0] * chain.norm(next_missing, next_inherited)
        residual += chain.p2[:, 0] * chain.norm(next_missing - missing, next_inherited - inherited)
        residual += chain.noise + (chain.carried * variances).sum(axis=-1)
        missing, inherited = next_missing, next_inherited
        variances = (chain.p2 * chain.t) ** 2 * variances + chain.unit_variance * residual[:, None]
        errors.append(chain.norm(missing, inherited) + (chain.s * variances).sum(axis=-1))
    return np.stack(errors)


def iterative_limit(
    eigenvalues: ArrayLike,
    n_train: ArrayLike,
    penalty: ArrayLike,
    *,
    signal: ArrayLike,
    noise: ArrayLike = 0.0,
    synthetic_noise: ArrayLike = 0.0,
    synthetic_fraction: ArrayLike = 0.0,
) -> FloatArray:
    """Fixed point (P,) of `iterative_errors`; it does not depend on the first shift. p2 < 1, else ValueError.

    Isotropic, penalty -> 0: u sigma^2/(1 - p2^2 - p1 p2 u). np.inf where the variances grow from round to
    round.
    """
    chain = _Chain(
        *validated(
            eigenvalues,
            n_train,
            penalty,
            signal,
            0.0,
            0.0,
            noise,
            synthetic_noise,
            np.inf,
            synthetic_fraction,
        )
    )
    if (chain.p2 >= 1).any():
        raise ValueError("iterative mixing without real examples (synthetic_fraction = 1) has no fixed point")
    bias = chain.norm(chain.r / (1 - chain.p2 * chain.t), np.zeros_like(chain.t))
    settled = chain.unit_variance / (1 - (chain.p2 * chain.t) ** 2)
    growth = (chain.carried * settled).sum(axis=-1)
    # at the fixed point mu_{t-1} = mu_t: the residual on synthetic examples has no mean part
    residual = (chain.p1[:, 0] * bias + chain.noise) / np.where(growth < 1, 1 - growth, 1.0)
    return np.where(growth < 1, bias + (chain.s * settled).sum(axis=-1) * residual, np.inf)


class _Chain:
    """What stays the same from round to round. Shapes: (P, d), fractions (P, 1), noise (P,)."""

    def __init__(self, points: Points, truth: Truth, noise_variance: FloatArray) -> None:
        k = constants_at(points)
        self.s, self.t, self.r, self.truth = points.eigenvalues, k.shrinkage, k.remainder, truth
        self.p1, self.p2 = points.fractions[0][:, None], points.fractions[1][:, None]
        self.noise = (points.fractions * noise_variance).sum(axis=0)
        df2 = np.maximum(k.df2, np.finfo(np.float64).tiny)
        # u = df2/(n - df2): this form keeps n - df2 exact near interpolation
        self.unit_variance = (
            (k.u / df2)[:, None] * points.eigenvalues / (points.denominators + k.nu[:, None]) ** 2
        )
        missed = self.p1 + self.p2 * self.r  # 1 - p2 T
        self.carried = self.s * (self.p1 * (self.p2 * self.t) ** 2 + self.p2 * missed**2)

    def norm(self, missing: FloatArray, inherited: FloatArray) -> FloatArray:
        """E |missing w1 - inherited delta|_Sigma^2, (P,)."""
        truth = self.truth
        square = (
            missing**2 * truth.signal - 2 * missing * inherited * truth.cross + inherited**2 * truth.shift
        )
        norm: FloatArray = (self.s * square).sum(axis=-1)
        return norm
