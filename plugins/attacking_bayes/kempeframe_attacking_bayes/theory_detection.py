"""Selective prediction and detection: average selective accuracy (ASA), AUROC, ROC curves. Float64 NumPy throughout."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Array = npt.NDArray[np.float64]

PERFECT_ASA = (1 + math.log(2)) / 2  # clean all right, adversarial all wrong, half and half, told apart perfectly
BLIND_ASA = 0.5
FOOLED_ASA = (1 - math.log(2)) / 2


def selective_accuracy(uncertainty: npt.ArrayLike, correct: npt.ArrayLike) -> Array:
    """s_k, k = 1..N: mean correctness of the k most certain examples, (N,).

    Tied examples count with the mean of their tie group, which is the expectation over the order of ties: without that,
    a constant uncertainty would sort by the order of the data.
    """
    u, right = np.asarray(uncertainty, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    _, group, counts = np.unique(u, return_inverse=True, return_counts=True)
    means = np.bincount(group, weights=right) / counts
    ordered = np.repeat(means, counts)
    return np.asarray(np.cumsum(ordered) / np.arange(1, len(u) + 1))


def asa(uncertainty: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Average selective accuracy, exactly: mean_k s_k = 1 - AURC."""
    return float(selective_accuracy(uncertainty, correct).mean())


def asa_on_grid(uncertainty: npt.ArrayLike, correct: npt.ArrayLike, points: int = 100) -> float:
    """The same on the usual grid: mean over i of s_{N - floor(i N / points)}, rejecting 0 %, 1 %, ... 99 %."""
    curve = selective_accuracy(uncertainty, correct)
    kept = len(curve) - (np.arange(points) * len(curve)) // points
    return float(curve[kept - 1].mean())


def auroc(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """P(u_pos > u_neg) + P(=)/2; nan where one side is empty."""
    a, b = np.asarray(positive, dtype=np.float64), np.asarray(negative, dtype=np.float64)
    if not len(a) or not len(b):
        return math.nan
    ranks = rankdata(np.concatenate([a, b]))
    return float((ranks[: len(a)].sum() - len(a) * (len(a) + 1) / 2) / (len(a) * len(b)))


def roc_curve(positive: npt.ArrayLike, negative: npt.ArrayLike, points: int = 51) -> tuple[Array, Array]:
    """(false positive rates, true positive rates), each (points,), on an even grid of the former; ties are split."""
    a, b = np.asarray(positive, dtype=np.float64), np.asarray(negative, dtype=np.float64)
    thresholds = np.unique(np.concatenate([a, b]))[::-1]
    false = np.concatenate([[0.0], np.searchsorted(np.sort(-b), -thresholds, side="right") / len(b)])
    true = np.concatenate([[0.0], np.searchsorted(np.sort(-a), -thresholds, side="right") / len(a)])
    grid = np.linspace(0, 1, points)
    # Where the curve is vertical take its upper end, as a threshold just below does.
    last = np.concatenate([np.diff(false) > 0, [True]])
    return grid, np.interp(grid, false[last], true[last])


def crossing(x: npt.ArrayLike, y: npt.ArrayLike, level: float) -> float:
    """The first x at which y, linear in between, comes down to the level from above; nan where it does not."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    falls = np.flatnonzero((y[:-1] > level) & (y[1:] <= level))
    if not len(falls):
        return math.nan
    i = int(falls[0])
    return float(x[i] + (x[i + 1] - x[i]) * (y[i] - level) / (y[i] - y[i + 1]))
