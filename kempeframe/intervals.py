"""95 % confidence intervals over seeds, and whether one lies inside the region that a claim states.

Every interval here has two limits, each of which is wrong with probability at most 2.5 %, so that a claim
whose truth lies at the boundary of its region "holds" in at most 2.5 % of studies. Contrasts are paired:
position i of both arrays is one seed.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import attrs
import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, stdtrit

from kempeframe.proportions import clopper_pearson, paired_lower_limit

Array = npt.NDArray[np.float64]
Verdict = Literal["holds", "fails", "undecided"]

ALPHA = 0.025  # the error of one limit
LOG_RANK = "log-rank"  # in the method of an order of steps that some seeds never reach
MIN_SEEDS = 3
ROUNDING = 1e-12  # a spread this small, relative to the values, is that of floating point and not of seeds
DEGREES = 0.75  # of the n - 1 degrees of freedom; see t_limits
MAX_SEEDS = 10**9

T = "t over seeds"
T_OF_LOGS = "t over seeds, of logarithms"
ORDER_STATISTICS = "order statistics"
CLOPPER_PEARSON = "Clopper-Pearson"
PAIRED_PROPORTIONS = "exact paired proportions"


@attrs.frozen
class Interval:
    """An estimate with its 95 % confidence interval from `n` seeds; a `reason` says why it can't decide."""

    estimate: float
    low: float
    high: float
    n: int
    method: str  # as a reader should see it
    reason: str = ""
    least: float = -math.inf  # the range of what is estimated: 0 and 1 for a proportion
    most: float = math.inf

    @property
    def by_ranks(self) -> bool:
        """Whether p-values decide, and there is no interval: of steps that some seeds never reach."""
        return LOG_RANK in self.method


@attrs.frozen
class Region:
    """What a claim says of a number: above `low`, below `high`, or within both."""

    low: float = -math.inf
    high: float = math.inf

    def __attrs_post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"a region needs low < high, not {self.low} and {self.high}")


def decide(interval: Interval, region: Region) -> Verdict:
    """Wholly inside the region holds, wholly outside fails; what touches the boundary is undecided.

    A region with two sides may reach the end of what is possible: a rate of [0.96, 1] lies within [0.95, 1].
    """
    if interval.reason:
        return "undecided"
    least, most = -math.inf, math.inf
    if math.isfinite(region.low) and math.isfinite(region.high):
        least, most = interval.least, interval.most
    above = interval.low > region.low or region.low <= least
    below = interval.high < region.high or region.high >= most
    if above and below:
        return "holds"
    outside = interval.high < region.low or interval.low > region.high
    return "fails" if outside else "undecided"


def seeds_to_decide(interval: Interval, region: Region) -> int | None:
    """About how many seeds would decide, if estimate and spread stayed; None if no number would.

    So it is where the estimate lies on the boundary of the region, or the spread is unknown. A decided
    interval needs the seeds that it has.
    """
    if interval.reason:
        return None
    low, high = interval.n - 1, interval.n

    def decided(n: int) -> bool:
        return decide(_with_seeds(interval, n), region) != "undecided"

    while not decided(high):
        low, high = high, 2 * high
        if high > MAX_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high


def _with_seeds(interval: Interval, n: int) -> Interval:
    """The interval that `n` seeds of the same estimate and spread would give."""
    if n == interval.n:
        return interval
    if interval.method == CLOPPER_PEARSON:
        low, high = map(float, clopper_pearson(interval.estimate * n, n, ALPHA))
        return attrs.evolve(interval, low=low, high=high, n=n)
    shrink = t_quantile(n) / t_quantile(interval.n) * math.sqrt(interval.n / n)
    centre, ends = interval.estimate, (interval.low, interval.high)
    if interval.method == T_OF_LOGS:
        low, high = (centre * (end / centre) ** shrink for end in ends)
    else:
        low, high = (centre + (end - centre) * shrink for end in ends)
    return attrs.evolve(interval, low=low, high=high, n=n)


def mean_interval(values: npt.ArrayLike, boolean: bool | None = None) -> Interval:
    """Of the mean of `values` (n_seeds,): t over seeds; of booleans Clopper & Pearson's (1934) interval.

    `boolean` says which; by default, whether all values are 0 or 1. Where the same column has other values
    for other configurations, say False: numbers that happen to be 0 and 1 are no sample of a proportion.

    No interval for a mean keeps its level for every distribution (Bahadur & Savage 1956): see `t_limits` for
    where this one does. With a long tail on one side (a lognormal loss) it doesn't at few seeds;
    `median_interval` always does.
    """
    sample = _sample(values)
    if _booleans(boolean, sample):
        return _proportion_interval(sample)
    return _t_interval(sample, np.abs(sample), T)


def median_interval(values: npt.ArrayLike) -> Interval:
    """Of the median of `values` (n_seeds,), between two order statistics (Thompson 1936; the binomial tail).

    It keeps 95 % for any distribution, with any ties. +inf means "not within the budget" (a censored step): then
    the upper limit, or both, may be +inf. Below 6 seeds even the extremes cover the median with less than 95 %
    (at 5 it lies outside with probability 2 / 2^5 = 6.25 %).
    """
    sample = _sample(values)
    n = len(sample)
    reason = _missing(np.isnan(sample), "not numbers") or _too_few(n)
    estimate = float(np.median(sample)) if n else math.nan
    if not reason and (sample == sample[0]).all() and math.isfinite(sample[0]):
        reason = "all seeds gave the same value"
    rank = int(np.sum(bdtr(np.arange(n), n, 0.5) <= ALPHA)) if n else 0
    if not reason and rank == 0:
        reason = f"{n} seeds; the median needs at least 6"
    if reason:
        return _undecidable(estimate, n, ORDER_STATISTICS, reason)
    ordered = np.sort(sample)
    return Interval(estimate, float(ordered[rank - 1]), float(ordered[n - rank]), n, ORDER_STATISTICS)


def difference_interval(first: npt.ArrayLike, second: npt.ArrayLike, boolean: bool | None = None) -> Interval:
    """Of the mean of `first` - `second`, both (n_seeds,) and paired by seed: t over the differences.

    Of booleans the exact interval of `paired_lower_limit` (which says why it isn't Newcombe's). `boolean` as
    in `mean_interval`. Raises ValueError if the shapes differ.
    """
    one, two = _pair(first, second)
    if not _booleans(boolean, one, two):
        with np.errstate(invalid="ignore"):  # inf - inf: _t_interval says so
            return _t_interval(one - two, np.maximum(np.abs(one), np.abs(two)), T)
    n, only_first, only_second = len(one), int(np.sum(one > two)), int(np.sum(one < two))
    if n < MIN_SEEDS:
        return _undecidable(_mean(one - two), n, PAIRED_PROPORTIONS, _too_few(n))
    low = paired_lower_limit(only_first, only_second, n, ALPHA)
    high = -paired_lower_limit(only_second, only_first, n, ALPHA)
    return Interval((only_first - only_second) / n, low, high, n, PAIRED_PROPORTIONS, least=-1.0, most=1.0)


def ratio_interval(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Interval:
    """Of the geometric mean of `numerator` / `denominator`, both (n_seeds,) and paired by seed.

    t over the logarithms, taken back. Undecidable where a value isn't positive. Raises ValueError if the
    shapes differ.
    """
    one, two = _pair(numerator, denominator)
    not_positive = int(np.sum((one <= 0) | (two <= 0)))
    if not_positive:
        reason = f"{not_positive} of {len(one)} ratios are not of positive values"
        return _undecidable(math.nan, len(one), T_OF_LOGS, reason)
    with np.errstate(invalid="ignore", over="ignore"):
        logs = np.log(one) - np.log(two)
        interval = _t_interval(logs, np.maximum(np.abs(np.log(one)), 1), T_OF_LOGS)
        low, estimate, high = np.exp([interval.low, interval.estimate, interval.high]).tolist()
    return attrs.evolve(interval, low=-math.inf if interval.reason else low, estimate=estimate, high=high)


def slope_interval(x: npt.ArrayLike, values: npt.ArrayLike) -> Interval:
    """Of the least-squares slope of `values` (n_seeds, n_points) against `x` (n_points,): t over the slopes.

    For an exponent give logarithms of both. Raises ValueError for other shapes, or if x has fewer than two
    distinct values.
    """
    points, curves = np.asarray(x, dtype=float), np.asarray(values, dtype=float)
    if points.ndim != 1 or curves.ndim != 2 or curves.shape[1] != len(points):
        shapes = f"{points.shape} and {curves.shape}"
        raise ValueError(f"a slope needs x (n_points,) and values (n_seeds, n_points), not {shapes}")
    if len(np.unique(points)) < 2:
        raise ValueError("a slope needs at least two distinct values of x")
    centred = points - points.mean()
    weights = centred / np.sum(centred**2)
    with np.errstate(invalid="ignore"):
        return _t_interval((curves * weights).sum(axis=1), np.abs(curves * weights).sum(axis=1), T)


def is_boolean(values: npt.ArrayLike) -> bool:
    """Whether all of `values`, of any shape, are 0 or 1: to be asked of a whole column."""
    array = np.asarray(values)
    return bool(((array == 0) | (array == 1)).all())


@lru_cache(maxsize=4096)
def t_quantile(n: int, alpha: float = ALPHA) -> float:
    """How many standard errors a limit lies from the mean of `n` values (see `t_limits`)."""
    return float(stdtrit(DEGREES * (n - 1), 1 - alpha))


def t_limits(samples: Array, scale: npt.ArrayLike = 1.0, alpha: float = ALPHA) -> tuple[Array, Array, Array]:
    """Mean, lower and upper limit for the last axis of `samples` (..., n), each limit at the level `alpha`.

    Student's limits with all n - 1 degrees of freedom are too short for distributions flatter than the
    normal: for uniform values one limit for 2.5 % is wrong in 3.9 % (n = 3), 3.1 % (n = 6), 2.6 % (n = 20) of
    samples (Benjamini 1983 on heavy tails: there they are too long instead). Three quarters of the degrees of
    freedom keep 2.5 % for uniform, normal, Laplace and Student distributions at every n >= 3, and lengthen
    the interval by 38 % at n = 3, 11 % at n = 6, 2 % at n = 20.

    Undecidable, -inf to inf: fewer than 3 values, one that isn't finite, all the same, or (from 7 on) more
    than half of them the same. A value that is nearly always the same hides the rare others: of numbers
    rounded to five times their deviation a limit would be wrong in 12 % of samples. Equality is up to
    floating point, relative to `scale` (broadcast to (...)).
    """
    n = samples.shape[-1]
    with np.errstate(invalid="ignore", over="ignore"):
        centre = samples.mean(axis=-1)
        unusable = ~np.isfinite(centre) | too_tied(samples, scale) | (n < MIN_SEEDS)
        if unusable.all():
            return centre, np.full_like(centre, -math.inf), np.full_like(centre, math.inf)
        width = t_quantile(n, alpha) / math.sqrt(n) * samples.std(axis=-1, ddof=1)
        low, high = centre - width, centre + width
    return centre, np.where(unusable, -math.inf, low), np.where(unusable, math.inf, high)


def _ties(samples: Array, scale: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """How often the median occurs along the last axis: what more than half of the values share is the median."""
    middle = np.median(samples, axis=-1, keepdims=True)
    same = np.abs(samples - middle) <= ROUNDING * np.asarray(scale)[..., None]
    return np.asarray(same.sum(axis=-1))


def too_tied(samples: Array, scale: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether so many values along the last axis are the same that their spread says nothing (see `t_limits`)."""
    n = samples.shape[-1]
    return np.asarray(_ties(samples, scale) > (n / 2 if n > 6 else n - 1))


def _t_interval(sample: Array, scale: Array, method: str) -> Interval:
    """t over the (n_seeds,) of a sample, or why not; `scale` is the size of the numbers it was computed from."""
    n = len(sample)
    reason = _missing(~np.isfinite(sample), "not finite") or _too_few(n)
    if reason:
        return _undecidable(_mean(sample), n, method, reason)
    size = float(scale.max())
    estimate, low, high = (float(number) for number in t_limits(sample, size))
    return Interval(estimate, low, high, n, method, _why_unbounded(sample, size) if low == -math.inf else "")


def _why_unbounded(sample: Array, size: float) -> str:
    """What is wrong with enough finite numbers: they are tied, or so large that their squares overflow."""
    n, same = len(sample), int(_ties(sample, size))
    if not too_tied(sample, size):
        return "the spread is too large to compute"
    return "all seeds gave the same value" if same == n else f"{same} of {n} seeds gave the same value"


def _proportion_interval(sample: Array) -> Interval:
    n = len(sample)
    if n < MIN_SEEDS:
        return _undecidable(_mean(sample), n, CLOPPER_PEARSON, _too_few(n))
    low, high = clopper_pearson(sample.sum(), n, ALPHA)
    return Interval(_mean(sample), float(low), float(high), n, CLOPPER_PEARSON, least=0.0, most=1.0)


def _undecidable(estimate: float, n: int, method: str, reason: str) -> Interval:
    return Interval(estimate, -math.inf, math.inf, n, method, reason)


def _mean(sample: Array) -> float:
    with np.errstate(invalid="ignore"):  # inf - inf
        return float(sample.mean()) if len(sample) else math.nan


def _missing(missing: npt.NDArray[np.bool_], what: str) -> str:
    return f"{int(missing.sum())} of {len(missing)} values are {what}" if missing.any() else ""


def _too_few(n: int) -> str:
    return f"{n} seed{'s' if n != 1 else ''}; at least {MIN_SEEDS} are needed" if n < MIN_SEEDS else ""


def _booleans(boolean: bool | None, *samples: Array) -> bool:
    """Whether to take the samples for booleans: not where one is missing. Raises ValueError if one is 2, say."""
    joined = np.concatenate(samples)
    if boolean and not is_boolean(joined[~np.isnan(joined)]):
        raise ValueError("booleans must be 0 or 1")
    return boolean is not False and is_boolean(joined)


def _sample(values: npt.ArrayLike) -> Array:
    sample = np.asarray(values, dtype=float)
    if sample.ndim != 1:
        raise ValueError(f"one value per seed is needed, shape (n_seeds,), not {sample.shape}")
    return sample


def _pair(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[Array, Array]:
    one, two = _sample(first), _sample(second)
    if one.shape != two.shape:
        raise ValueError(f"a contrast is paired by seed: {len(one)} and {len(two)} values")
    return one, two
