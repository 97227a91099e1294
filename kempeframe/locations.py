"""Where along an axis a mean curve has its optimum or crosses a level, and which of two events comes first."""

from __future__ import annotations

import math
from typing import Literal

import attrs
import numpy as np
import numpy.typing as npt

from kempeframe.intervals import (
    ALPHA,
    MIN_SEEDS,
    Array,
    Interval,
    Verdict,
    is_boolean,
    t_limits,
    t_quantile,
    too_tied,
)
from kempeframe.proportions import clopper_pearson, sign_test

Mask = npt.NDArray[np.bool_]

CROSSING = "points not excluded by t over seeds"
CROSSING_OF_RATES = "points not excluded by Clopper-Pearson"

EXACT_PAIRS = 30  # 2^30 permutations, counted by halves of 2^15
PERMUTATIONS = 99_999


def optimum_set(values: npt.ArrayLike, kind: Literal["maximum", "minimum"], boolean: bool | None = None) -> Mask:
    """Which points (n_points,) may be the optimum of the mean of `values` (n_seeds, n_points), as a mask.

    A point is out if some other beats it by a one-sided paired comparison at the level 2.5 % / (n_points - 1),
    so that the true optimum is out with probability at most 2.5 % (Bonferroni; the one-sided half of
    Hsu's 1981 comparisons with the best). Numbers are compared by `t_limits`, booleans by the sign test.
    Nothing is out with fewer than 3 seeds, and no comparison counts in which a value is missing. Raises
    ValueError if `values` has another shape or no point.
    """
    curves = _curves(values)
    n, points = curves.shape
    if n < MIN_SEEDS or points == 1:
        return np.ones(points, dtype=bool)
    better = curves if kind == "maximum" else -curves
    alpha = ALPHA / (points - 1)
    if is_boolean(curves) if boolean is None else boolean:
        wins = np.sum(better[:, :, None] > better[:, None, :], axis=0)
        return np.asarray(~(sign_test(wins, wins.T) <= alpha).any(axis=0))
    with np.errstate(invalid="ignore"):
        lead = better[:, :, None] - better[:, None, :]  # [seed, a, b]: by how much a beats b
    scale = np.abs(curves).max(axis=0)
    _, low, _ = t_limits(np.moveaxis(lead, 0, -1), np.maximum(scale[:, None], scale), alpha)
    return np.asarray(~(low > 0).any(axis=0))


def crossing_interval(x: npt.ArrayLike, values: npt.ArrayLike, level: float, boolean: bool | None = None) -> Interval:
    """Where the mean of `values` (n_seeds, n_points) over `x` (n_points,) crosses `level`.

    All x at which the 95 % t interval of the seeds' values, interpolated between the points, contains the
    level: from the first to the last (Fieller's 1954 argument). Of booleans all segments but those with both
    ends on one side of the level by Clopper & Pearson. An end at the first or last point is infinite: the
    crossing may lie beyond. Between points the mean curve is taken for straight, so put them densely there,
    on the axis (linear, logarithmic) where it nearly is.

    Undecidable if the mean doesn't cross, if the seeds don't differ there, or with fewer than 3. Raises
    ValueError for other shapes or if x repeats a value.
    """
    curves, points = _curves(values), np.asarray(x, dtype=float)
    if points.shape != curves.shape[1:] or len(np.unique(points)) != len(points):
        raise ValueError(f"a crossing needs distinct x (n_points,), not {points.shape} for values {curves.shape}")
    order = np.argsort(points)
    points, gap = points[order], curves[:, order] - level
    rates = is_boolean(curves) if boolean is None else boolean
    method = CROSSING_OF_RATES if rates else CROSSING
    estimate, seeds_there = _crossing_of_mean(points, gap)
    if reason := _why_no_crossing(gap, seeds_there, float(np.abs(curves).max()), level, rates):
        return Interval(estimate, -math.inf, math.inf, len(gap), method, reason)
    low, high = _rate_hull(points, gap, level) if rates else _mean_hull(points, gap, estimate)
    low, high = low if low > points[0] else -math.inf, high if high < points[-1] else math.inf
    return Interval(estimate, low, high, len(gap), method)


def _crossing_of_mean(points: Array, gap: Array) -> tuple[float, Array]:
    """Where the mean of `gap` is zero (the middle one of several), and the seeds' values there; nan if nowhere."""
    with np.errstate(invalid="ignore"):  # inf - inf: _why_no_crossing says so
        mean = gap.mean(axis=0)
    left = np.flatnonzero((np.sign(mean[:-1]) * np.sign(mean[1:]) <= 0) & (mean[:-1] != mean[1:]))
    if not len(left):
        return math.nan, np.full(len(gap), math.nan)
    k = left[len(left) // 2]
    fraction = mean[k] / (mean[k] - mean[k + 1])
    estimate = points[k] + fraction * (points[k + 1] - points[k])
    return float(estimate), (1 - fraction) * gap[:, k] + fraction * gap[:, k + 1]


def _why_no_crossing(gap: Array, seeds_there: Array, size: float, level: float, rates: bool) -> str:
    if not np.isfinite(gap).all():
        return f"{int((~np.isfinite(gap)).any(axis=1).sum())} of {len(gap)} curves are not finite"
    if len(gap) < MIN_SEEDS:
        return f"{len(gap)} seeds; at least {MIN_SEEDS} are needed"
    if np.isnan(seeds_there).any():
        return f"the mean doesn't cross {level:g}"
    if not rates and bool(too_tied(seeds_there, max(size, abs(level)))):
        return "the seeds don't differ where the mean crosses"
    return ""


def _mean_hull(points: Array, gap: Array, estimate: float) -> tuple[float, float]:
    """First and last x at which mean(x)^2 <= (t standard error(x))^2: both are quadratic within each segment.

    The estimate is one of them, though rounding may miss the roots beside it where the seeds hardly differ.
    """
    n, mean = len(gap), gap.mean(axis=0)
    centred = gap - mean
    factor = t_quantile(n) ** 2 / (n * (n - 1))
    at = mean**2 - factor * np.sum(centred**2, axis=0)
    between = mean[:-1] * mean[1:] - factor * np.sum(centred[:, :-1] * centred[:, 1:], axis=0)
    left, right = at[:-1], at[1:]
    fractions = _roots(left - 2 * between + right, 2 * (between - left), left)
    step = np.diff(points)
    inside = (fractions >= 0) & (fractions <= 1)  # false for nan
    found = np.concatenate([[estimate], points[at <= 0], (points[:-1] + fractions * step)[inside]])
    return float(found.min()), float(found.max())


def _roots(a: Array, b: Array, c: Array) -> Array:
    """(2, n): the real roots of a x^2 + b x + c, without cancellation; nan where there are none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        q = -(b + np.copysign(np.sqrt(b**2 - 4 * a * c), b)) / 2
        return np.stack([q / a, c / q])


def _rate_hull(points: Array, gap: Array, level: float) -> tuple[float, float]:
    """First and last end of the segments that aren't wholly on one side of the level."""
    low, high = clopper_pearson((gap + level).sum(axis=0), len(gap), ALPHA)
    side = np.where(low > level, 1, np.where(high < level, -1, 0))
    possible = np.flatnonzero((side[:-1] != side[1:]) | (side[:-1] == 0))
    return float(points[possible[0]]), float(points[possible[-1] + 1])


@attrs.frozen
class Order:
    """Whether the first of two paired events comes earlier, with the one-sided p-values of either answer."""

    estimate: float  # the share of pairs with the first earlier, less that with the first later
    p_earlier: float  # small: the first comes earlier
    p_later: float
    n: int
    reason: str = ""

    @property
    def verdict(self) -> Verdict:
        """Of the claim that the first comes earlier: fails if it comes later."""
        if self.reason:
            return "undecided"
        return "holds" if self.p_earlier <= ALPHA else "fails" if self.p_later <= ALPHA else "undecided"


def censored_order(first: npt.ArrayLike, second: npt.ArrayLike) -> Order:
    """Does the event at step `first` come before that at `second`? Both (n_seeds,), paired; +inf is "never".

    Log-rank scores (Mantel 1966; Peto & Peto 1972) in the joint sample, summed over the pairs' differences;
    its distribution under "no difference" by exchanging within pairs: all exchanges up to 30 pairs, else
    99,999 drawn with a fixed seed, so that each p-value is valid for any distribution with any ties. Fewer
    than 6 informative pairs can't reach 2.5 %. Both budgets must be equal: +inf is taken to be later than
    every step. Raises ValueError if the shapes differ.
    """
    one, two = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if one.ndim != 1 or one.shape != two.shape:
        raise ValueError(f"an order is paired by seed: shapes {one.shape} and {two.shape}")
    n = len(one)
    estimate = float((one < two).mean() - (one > two).mean()) if n else math.nan
    if missing := int((np.isnan(one) | np.isnan(two)).sum()):
        return Order(estimate, 1.0, 1.0, n, reason=f"{missing} of {n} pairs are not numbers")
    scores = _log_rank_scores(np.concatenate([one, two]))
    difference = scores[:n] - scores[n:]
    informative = difference[difference != 0]
    if len(informative) < 6:
        return Order(estimate, 1.0, 1.0, n, reason=f"{len(informative)} pairs differ; at least 6 must")
    return Order(estimate, _exchange_p(informative), _exchange_p(-informative), n)


def _log_rank_scores(times: Array) -> Array:
    """1 (0 if censored) less the cumulative hazard at each time (Nelson-Aalen): the earlier, the larger."""
    event = np.isfinite(times)
    steps = np.unique(times[event])
    at_risk = (times[:, None] >= steps).sum(axis=0)
    happened = (times[:, None] == steps).sum(axis=0)
    hazard = np.concatenate([[0.0], np.cumsum(happened / at_risk)])
    return np.asarray(event - hazard[np.searchsorted(steps, times, side="right")])


def _exchange_p(difference: Array) -> float:
    """P(sum of +-difference >= sum of difference), all signs equally likely."""
    n, total = len(difference), float(difference.sum())
    # sums in another order differ in their last digits
    least = total - 1e-9 * float(np.abs(difference).sum())
    if n > EXACT_PAIRS:
        signs = np.random.default_rng(0).integers(0, 2, (PERMUTATIONS, n), dtype=np.int8) * 2 - 1
        return (1 + int(np.sum(signs @ difference >= least))) / (1 + PERMUTATIONS)
    left, right = np.sort(_signed_sums(difference[: n // 2])), _signed_sums(difference[n // 2 :])
    return float(np.sum(len(left) - np.searchsorted(left, least - right)) / 2.0**n)


def _signed_sums(numbers: Array) -> Array:
    """(2^n,): the sums with all signs."""
    sums = np.zeros(1)
    for number in numbers:
        sums = np.concatenate([sums - number, sums + number])
    return sums


def _curves(values: npt.ArrayLike) -> Array:
    curves = np.asarray(values, dtype=float)
    if curves.ndim != 2 or 0 in curves.shape:
        raise ValueError(f"one curve per seed is needed, shape (n_seeds, n_points), not {curves.shape}")
    return curves
