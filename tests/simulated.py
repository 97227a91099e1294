"""What the tests of intervals draw from, and how often a decision may be wrong at the boundary of its region."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from kempeframe.intervals import Interval, Region, decide

Array = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]

SEEDS = (3, 6, 20)
RATES = (0.02, 0.1, 0.3, 0.5, 0.9, 0.98)


def rounded(deviation: float, offset: float) -> Draw:
    """Normal values rounded to whole numbers, less their mean."""
    whole = np.arange(-40, 41)
    probability = ndtr((whole + 0.5 - offset) / deviation) - ndtr((whole - 0.5 - offset) / deviation)
    mean = float(np.sum(whole * probability))
    return lambda generator, shape: np.rint(generator.normal(offset, deviation, shape)) - mean


# All with mean zero; all but the rounded ones with an offset symmetric.
DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda generator, shape: generator.normal(size=shape),
    "uniform": lambda generator, shape: generator.uniform(-1, 1, shape),
    "Laplace": lambda generator, shape: generator.laplace(size=shape),
    "Student t with 2 degrees of freedom": lambda generator, shape: generator.standard_t(2, shape),
    "rounded to half a deviation": rounded(2.0, 0.3),
    "rounded to one deviation": rounded(1.0, 0.0),
    "rounded to two deviations": rounded(0.5, 0.3),
    "rounded to five deviations": rounded(0.2, 0.35),
}


def bound(replications: int, rate: float = 0.025) -> float:
    """2.5 % and three binomial standard errors."""
    return rate + 3 * math.sqrt(rate * (1 - rate) / replications)


def boundary_regions(truth: float, width: float) -> list[Region]:
    """Above, below, and within on either side: regions whose boundary is the truth."""
    return [
        Region(low=truth),
        Region(high=truth),
        Region(truth, truth + width),
        Region(truth - width, truth),
    ]


def false_holds(found: list[Interval], truth: float, width: float) -> float:
    """The largest share of "holds", and of "fails", over the regions that begin or end at the truth."""
    shares = []
    for region in boundary_regions(truth, width):
        verdicts = [decide(interval, region) for interval in found]
        shares += [verdicts.count("holds") / len(found), verdicts.count("fails") / len(found)]
    return max(shares)
