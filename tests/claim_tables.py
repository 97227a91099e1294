"""Claims as a spec's table would give them, tables to decide them on, and one claim of each kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kempeframe.claims import Claim
from kempeframe.registry import Registry
from kempeframe.structure import Context, structure
from kempeframe.table import Table


def claim(**fields: Any) -> Claim:
    """A claim as a spec's table would give it."""
    context = Context(Registry())
    made = structure({"statement": "s", **fields}, Claim, context)
    assert made is not None, context.problems
    return made


def table(values: np.ndarray, exact: bool = False, **columns: list[Any]) -> Table:
    """Rows of values (points, seeds) along the axis x = 0, 1, ..."""
    points, seeds = values.shape
    rows: dict[str, list[Any]] = {
        "x": [x for x in range(points) for _ in range(seeds)],
        "seed": [s for _ in range(points) for s in range(seeds)],
        "status": ["done"] * (points * seeds),
        "y": values.ravel().tolist(),
    }
    return Table({**rows, **columns}, axes=["x"], exact=frozenset({"y"}) if exact else frozenset())


# Each kind: its claim, and for a shift of the truth (0: at the boundary, > 0: inside) the means of the points.
KINDS: dict[str, tuple[dict[str, Any], Callable[[float], list[float]]]] = {
    "threshold": ({"threshold": {"of": "y"}, "above": 0.0}, lambda t: [t]),
    "difference": (
        {"difference": {"of": "y", "first": {"x": 1}, "second": {"x": 0}}, "below": 0.0},
        lambda t: [t, 0.0],
    ),
    "order": ({"order": {"of": "y", "lower": {"x": 0}, "higher": {"x": 1}}}, lambda t: [0.0, t]),
    "monotone": (
        {"monotone": {"of": "y", "along": "x", "direction": "increasing"}},
        lambda t: [-4.0, 0.0, t, 4.0 + t],
    ),
    "slope": (
        {"slope": {"of": "y", "against": "x", "scale": "linear"}, "above": 0.0},
        lambda t: [0.0, t / 2, t, 1.5 * t],
    ),
    "agreement": (
        {"agreement": {"of": "y", "theory": "theory", "absolute": 3.0}},
        lambda t: [3.0 - t],
    ),
    "optimum": (
        {"location": {"of": "y", "along": "x", "at": "maximum"}, "below": 1.5},  # the truth: either of two
        lambda t: [-5.0, t, -t, -1.0],
    ),
    "crossing": (
        {"location": {"of": "y", "along": "x", "at": "crossing", "level": 0.0}, "above": 1.0},
        lambda t: [-4.0 - t, -t, 4.0 - t, 8.0 - t],
    ),
}
