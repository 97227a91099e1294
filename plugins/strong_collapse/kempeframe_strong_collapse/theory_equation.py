"""The one scalar equation behind "Strong Model Collapse" (arXiv:2410.04840), for many points at once.

Ridge regression on n examples, a fraction p1 of them real and p2 synthetic with loss weights omega_1,
omega_2, after an optional random projection S (d x m, entries N(0, 1/d)), behaves in the proportionate
limit like shrinkage of every eigendirection by T = s/(s + nu). The effective penalty nu is the only root,
above nu_0, of

    lambda = Ebar(nu) nu (m/d) (1 - df1(nu)/m)     random projection of width m     [Theorem 2 of the paper]
    lambda = Ebar(nu) nu                           classical model, m = infinity    [Theorem 1 of the paper]

    df1(nu) = sum_j s_j/(s_j + nu),   f = df1/n,   sum_k p_k omega_k/(Ebar + omega_k f) = 1

with equal weights omega = 1 this is Ebar = e = 1 - df1/n. Here nu_0 is where df1 meets its cap, the smaller
of the width and the number of examples with positive weight (nu_0 = 0 if the cap is not below the rank of
the covariance).

Two facts make the solution short and exact. (1) log lambda as a function of log(nu - nu_0) has slope >= 1
everywhere (Ebar is convex in f because its epigraph {sum_k p_k omega_k/(E + omega_k f) <= 1} is convex, and
(s + nu_0)/(s + nu) is at least nu_0/nu), so one value brackets the root and Newton's method in log-log
converges in a few steps. (2) cap - df1(nu) = (nu - nu_0) sum_j s_j/((s_j + nu)(s_j + nu_0)) + (cap -
df1(nu_0)) has no cancellation, so that e and tau keep their full relative precision at interpolation, where
1 - df1/n computed by subtraction loses it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

MAX_STEPS = 200
STEP_TOLERANCE = 1e-10  # Newton's error is the square of its last step
MANY_EXAMPLES = 1e300  # stands for n = infinity: u vanishes, nothing overflows


@dataclass(frozen=True)
class Points:
    """P valid points. Shapes (P,); (2, P) per population (real, synthetic); (1 or P, d) per eigenvalue."""

    eigenvalues: FloatArray
    denominators: (
        FloatArray  # the eigenvalues with 1 in place of the null ones, which have T = 0 whatever nu is
    )
    rank: FloatArray
    n_train: FloatArray
    n_active: FloatArray  # examples with positive loss weight
    penalty: FloatArray
    width: FloatArray  # np.inf is the classical model
    fractions: FloatArray
    weights: FloatArray

    @property
    def dimension(self) -> int:
        return int(self.eigenvalues.shape[-1])

    @property
    def cap(self) -> FloatArray:
        """What df1 cannot exceed, (P,)."""
        return np.minimum(self.n_active, self.width)


@dataclass(frozen=True)
class Root:
    """The solution at P points, every field (P,); differences that vanish at interpolation are kept apart."""

    nu: FloatArray
    df1: FloatArray
    ebar: FloatArray  # Ebar of the module's docstring; e = 1 - df1/n for equal weights 1
    free_examples: FloatArray  # n_active - df1
    free_width: FloatArray  # m - df1 (infinite for the classical model)


def as_points(
    eigenvalues: ArrayLike,
    n_train: ArrayLike,
    penalty: ArrayLike,
    width: ArrayLike = np.inf,
    synthetic_fraction: ArrayLike = 0.0,
    weights: tuple[ArrayLike, ArrayLike] = (1.0, 1.0),
) -> Points:
    """Broadcast to P points and check the ranges.

    eigenvalues: (d,) or (P, d), of the covariance, >= 0; those below d * 2e-16 of the largest are rounding
    and count as null. d is their number, null ones included (the projection has entries N(0, 1/d)).
    n_train: > 0, np.inf allowed.
    penalty: lambda >= 0. width: > 0, np.inf = classical. synthetic_fraction: p2 in [0, 1]. weights:
    omega_1, omega_2 >= 0. Raises ValueError for anything outside these ranges.
    """
    spectrum = np.atleast_2d(np.asarray(eigenvalues, dtype=np.float64))
    if spectrum.ndim != 2 or spectrum.shape[-1] == 0:
        raise ValueError(
            f"eigenvalues must have shape (d,) or (P, d) with d >= 1, not {np.shape(eigenvalues)}"
        )
    largest = spectrum.max(axis=-1, keepdims=True)
    rounding = spectrum.shape[-1] * np.finfo(np.float64).eps * np.abs(largest)
    if not np.isfinite(spectrum).all() or (spectrum < -rounding).any():
        raise ValueError("eigenvalues must be finite and not negative")
    spectrum = np.where(spectrum > rounding, spectrum, 0.0)

    scalars = (n_train, penalty, width, synthetic_fraction, *weights)
    columns = [np.atleast_1d(np.asarray(value, dtype=np.float64)) for value in scalars]
    if any(column.ndim != 1 for column in columns):
        raise ValueError(
            "n_train, penalty, width, synthetic_fraction and weights must be numbers or have shape (P,)"
        )
    stacked = np.stack(np.broadcast_arrays(*columns, np.empty(spectrum.shape[0]))[:-1])
    n, lam, m, p2, omega_1, omega_2 = stacked
    _require((n > 0).all(), "n_train must be positive", n)
    _require((m > 0).all(), "width must be positive (np.inf for the classical model)", m)
    _require(((lam >= 0) & np.isfinite(lam)).all(), "penalty must be finite and not negative", lam)
    _require(((p2 >= 0) & (p2 <= 1)).all(), "synthetic_fraction must lie in [0, 1]", p2)
    n = np.minimum(n, MANY_EXAMPLES)
    p, omega = np.stack([1.0 - p2, p2]), np.stack([omega_1, omega_2])
    _require(((omega >= 0) & np.isfinite(omega)).all(), "weights must be finite and not negative", omega)
    _require(((p * omega).sum(axis=0) > 0).all(), "no example has a positive weight", omega)
    n_active = n * np.where(omega > 0, p, 0.0).sum(axis=0)
    whole = np.round(n_active)
    n_active = np.where(
        np.abs(n_active - whole) < 1e-9 * n_active, whole, n_active
    )  # n p1 is a whole number of examples
    rank = np.broadcast_to((spectrum > 0).sum(axis=-1).astype(np.float64), n.shape)
    denominators = np.where(spectrum > 0, spectrum, 1.0)
    return Points(spectrum, denominators, rank, n, n_active, lam, m, p, omega)


def _require(condition: np.bool_ | bool, message: str, value: FloatArray) -> None:
    if not condition:
        raise ValueError(f"{message}; got {np.unique(value)[:5]}")


def solve_nu(
    eigenvalues: ArrayLike,
    n_train: ArrayLike,
    penalty: ArrayLike,
    *,
    width: ArrayLike = np.inf,
    synthetic_fraction: ArrayLike = 0.0,
    weights: tuple[ArrayLike, ArrayLike] = (1.0, 1.0),
) -> FloatArray:
    """Effective penalty nu (P,) of the scalar equation; arguments and errors of `as_points` and `solve`."""
    return solve(as_points(eigenvalues, n_train, penalty, width, synthetic_fraction, weights)).nu


def solve(points: Points) -> Root:
    """Root of the scalar equation at every point; nu, Ebar and both differences to about 1e-15 relative.

    penalty = 0 is the limit penalty -> 0. Raises ValueError for penalty = 0 exactly at the interpolation
    threshold, n = min(width, rank) examples of positive weight, where u is infinite.
    """
    threshold = (points.penalty == 0) & (points.n_active == np.minimum(points.width, points.rank))
    if threshold.any():
        raise ValueError(
            "penalty = 0 exactly at the interpolation threshold, n = min(width, rank) = "
            f"{points.n_active[threshold][0]:g} examples of positive weight: "
            "the test error is infinite; take a positive penalty or another n"
        )
    nu_0 = _cap_point(points)
    shrinkage_0 = points.eigenvalues / (points.denominators + nu_0[:, None])
    spare = np.maximum(points.cap - points.rank, 0.0)  # cap - df1(nu_0)

    def root_at(excess: FloatArray) -> tuple[Root, FloatArray]:
        inverse = 1.0 / (points.denominators + (nu_0 + excess)[:, None])
        df1 = (points.eigenvalues * inverse).sum(axis=-1)
        gap = spare + excess * (shrinkage_0 * inverse).sum(axis=-1)
        free_examples, free_width = points.n_active - points.cap + gap, points.width - points.cap + gap
        ebar = _ebar(points, df1, free_examples)
        return Root(nu_0 + excess, df1, ebar, free_examples, free_width), inverse

    def log_penalty(excess: FloatArray) -> tuple[FloatArray, FloatArray]:
        root, inverse = root_at(excess)
        projection = np.where(np.isinf(points.width), 1.0, root.free_width / points.dimension)
        with np.errstate(divide="ignore"):
            value = np.log(root.ebar * root.nu * projection / target)
        fall = (points.eigenvalues * inverse**2).sum(axis=-1)  # -d df1/d nu
        slope = 1.0 / root.nu + fall / root.free_width + fall * _ebar_log_fall(points, root)
        return value, excess * slope

    target = np.where(points.penalty > 0, points.penalty, 1.0)
    start = nu_0 + points.eigenvalues.sum(axis=-1)
    start = start + target / (points.fractions * points.weights).sum(axis=0) * np.maximum(
        1.0, points.dimension / points.width
    )
    first, _ = log_penalty(start)
    # slope >= 1: the root is at most |first| away in log(nu - nu_0), on the side the sign tells
    low, high = start * np.exp(-np.maximum(first, 0) - 1e-9), start * np.exp(np.maximum(-first, 0) + 1e-9)
    excess = _increasing_root(log_penalty, low, high, start)
    return root_at(np.where(points.penalty > 0, excess, 0.0))[0]


def _cap_point(points: Points) -> FloatArray:
    """nu_0 (P,): where df1(nu_0) = cap, and 0 where the cap is not below the rank."""
    nu_0 = np.zeros(points.n_train.shape)
    capped = np.flatnonzero(points.cap < points.rank)
    if capped.size == 0:
        return nu_0
    shared = points.eigenvalues.shape[0] == 1
    s = points.eigenvalues if shared else points.eigenvalues[capped]
    denominators = points.denominators if shared else points.denominators[capped]
    present = (s > 0).astype(np.float64)
    odds = (points.rank[capped] - points.cap[capped]) / points.cap[capped]

    def log_odds(nu: FloatArray) -> tuple[FloatArray, FloatArray]:
        # (rank - df1)/df1 is nu/s for a single eigenvalue: a line in log-log, and nearly one for many
        inverse = 1.0 / (denominators + nu[:, None])
        df1, lost = (s * inverse).sum(axis=-1), nu * (present * inverse).sum(axis=-1)
        spread = nu * (s * inverse**2).sum(axis=-1)
        return np.log(lost / df1 / odds), spread / df1 + spread / lost

    smallest = np.where(s > 0, s, np.inf).min(axis=-1)
    low, high = smallest * odds * (1 - 1e-9), s.max(axis=-1) * odds * (1 + 1e-9)
    nu_0[capped] = _increasing_root(log_odds, low, high, np.sqrt(low) * np.sqrt(high))
    return nu_0


def _ebar(points: Points, df1: FloatArray, free_examples: FloatArray) -> FloatArray:
    """Root Ebar (P,) of sum_k p_k omega_k/(Ebar + omega_k f) = 1, a quadratic when both populations count."""
    (p1, p2), (omega_1, omega_2) = points.fractions, points.weights
    f, g = df1 / points.n_train, free_examples / points.n_train
    active = points.fractions * points.weights > 0
    alone = np.where(active[0], omega_1, omega_2) * g  # one population, or two of the same weight
    # Ebar^2 + b Ebar - c = 0; g = 1 - f where both are active, and b is formed from the smaller of f and g
    b = np.where(
        f < 0.5,
        (omega_1 + omega_2) * f - (p1 * omega_1 + p2 * omega_2),
        (p2 * omega_1 + p1 * omega_2) - (omega_1 + omega_2) * g,
    )
    c = omega_1 * omega_2 * f * g
    discriminant = np.sqrt(b**2 + 4 * c)
    larger = np.abs(b) + discriminant
    mixed = np.where(b > 0, 2 * c / np.where(larger > 0, larger, 1.0), larger / 2)
    ebar: FloatArray = np.where(active.all(axis=0) & (omega_1 != omega_2), mixed, alone)
    return ebar


def _ebar_log_fall(points: Points, root: Root) -> FloatArray:
    """-d log Ebar / d df1 (P,), by implicit differentiation."""
    total = root.ebar + points.weights * root.df1 / points.n_train
    pull = points.fractions * points.weights / total**2
    fall: FloatArray = (pull * points.weights).sum(axis=0) / (pull.sum(axis=0) * root.ebar * points.n_train)
    return fall


def _increasing_root(
    value_and_slope: Callable[[FloatArray], tuple[FloatArray, FloatArray]],
    low: FloatArray,
    high: FloatArray,
    start: FloatArray,
) -> FloatArray:
    """Root x (P,) in [low, high] of increasing functions, by Newton's method in log x.

    value_and_slope(x) returns the functions and their derivatives by log x, both (P,). Where a step leaves
    the bracket, or the last one did not halve the value (Newton can cycle between the two sides of a steep
    rise, which very unequal weights produce), the bracket is bisected instead.
    """
    x, done, previous = start, np.zeros(start.shape, dtype=bool), np.full(start.shape, np.inf)
    for _ in range(MAX_STEPS):
        value, slope = value_and_slope(x)
        low, high = np.where(value <= 0, x, low), np.where(value >= 0, x, high)
        step = -value / slope
        moved = x * np.exp(np.clip(step, -700, 700))
        failed = ~((moved >= low) & (moved <= high)) | (np.abs(value) > 0.5 * previous)
        settled = np.abs(step) <= STEP_TOLERANCE
        moved = np.where(failed & ~settled, np.sqrt(low) * np.sqrt(high), moved)
        x, previous = np.where(done, x, moved), np.abs(value)
        done |= settled | (high <= low * (1 + 4 * np.finfo(np.float64).eps))
        if done.all():
            return x
    raise RuntimeError(
        f"the scalar equation did not converge in {MAX_STEPS} steps at {np.flatnonzero(~done)[:5]}"
    )
