"""How many fits have not had an event yet, step by step: Kaplan and Meier's curve, with 95 % intervals."""

from __future__ import annotations

import math

import attrs
import numpy as np
import numpy.typing as npt

from kempeframe.intervals import ALPHA
from kempeframe.proportions import clopper_pearson

Array = npt.NDArray[np.float64]
Z = 1.959963984540054  # of a normal distribution, 2.5 % lie above


@attrs.frozen(eq=False)
class Survival:
    """A step function that jumps at x, each array (points,): from (0, 1) to the last end."""

    x: Array
    share: Array  # that has not had the event up to x and at x
    low: Array
    high: Array


def survival(steps: npt.ArrayLike, until: npt.ArrayLike) -> Survival:
    """Kaplan & Meier's (1958) estimate from the step of each fit's event (fits,), inf where there was none.

    `until` (fits,) says up to which step an event would have been seen. Where no fit is lost before the last event the
    share is a proportion of all and has Clopper & Pearson's interval; else Greenwood's variance of log(-log share).
    Raises ValueError where the shapes differ, an event lies after its end, or there is no fit.
    """
    events, ends = np.asarray(steps, dtype=float), np.asarray(until, dtype=float)
    if events.ndim != 1 or events.shape != ends.shape or not len(events):
        raise ValueError(f"one step and one end for each fit are needed, not {events.shape} and {ends.shape}")
    happened = np.isfinite(events)
    if np.isnan(events).any() or not np.isfinite(ends).all() or (events[happened] > ends[happened]).any():
        raise ValueError("an event is no number, or lies after the end up to which it was looked for")
    last = np.where(happened, events, ends)
    times = np.unique(events[happened])
    at_risk = np.array([(last >= time).sum() for time in times], dtype=float)
    count = np.array([(events == time).sum() for time in times], dtype=float)
    share = np.cumprod(1 - count / at_risk)
    whole = not len(times) or bool((ends[~happened] >= times[-1]).all())
    low, high = _of_all(share, len(events)) if whole else _greenwood(share, at_risk, count)
    end = float(ends.max())
    x = np.concatenate([[0.0], times, [end]])
    first, final = np.ones(1), share[-1:] if len(share) else np.ones(1)
    low_end = low[-1:] if len(low) else _of_all(np.ones(1), len(events))[0]
    start = _of_all(np.ones(1), len(events))[0] if not len(times) else np.ones(1)
    return Survival(
        x,
        np.concatenate([first, share, final]),
        np.concatenate([start, low, low_end]),
        np.concatenate([first, high, high[-1:] if len(high) else first]),
    )


def _of_all(share: Array, fits: int) -> tuple[Array, Array]:
    low, high = clopper_pearson(np.rint(share * fits), fits, ALPHA)
    return np.asarray(low), np.asarray(high)


def _greenwood(share: Array, at_risk: Array, count: Array) -> tuple[Array, Array]:
    """nan where the share is 1 or 0: the formula has no variance there."""
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.cumsum(count / (at_risk * (at_risk - count)))
        logs = np.log(share)
        width = Z * np.sqrt(variance) / np.abs(logs)
        low, high = share ** np.exp(width), share ** np.exp(-width)
    known = np.isfinite(logs) & (logs < 0) & np.isfinite(width)
    return np.where(known, low, math.nan), np.where(known, high, math.nan)
