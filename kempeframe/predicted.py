"""Measured beside predicted: for each configuration what was measured, what theory says, and the ratio of the two."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from kempeframe.intervals import mean_interval
from kempeframe.table import Table

if TYPE_CHECKING:
    from kempeframe.spec import Spec
    from kempeframe.study import Study


def pairs(spec: Spec) -> list[tuple[str, str]]:
    """(measured column, predicted column): a metric that a measuring evaluator and a theory both give."""
    theories = {name for configuration in spec.configurations for name, e in configuration.evaluators if e.is_theory}
    full = {f"{name}.{metric}": (name, metric) for name, metric in spec.evaluator_columns.values()}
    measured = {column: metric for column, (name, metric) in full.items() if name not in theories}
    theory = {column: metric for column, (name, metric) in full.items() if name in theories}
    return [(m, t) for m, metric in measured.items() for t, other in theory.items() if metric == other]


def predicted_table(study: Study) -> Table | None:
    """One row for each configuration and pair; None where the spec has no pair.

    Columns besides the axes: metric, measured (the mean over seeds), low and high (its 95 % interval), seeds, theory,
    predicted, and ratio = measured / predicted.
    """
    found = pairs(study.spec)
    rows: list[dict[str, Any]] = []
    table = study.rows
    for measured, predicted in found:
        for values, group in table.groups(table.axes):
            both = [
                (m, p)
                for m, p in zip(group.columns[measured], group.columns[predicted], strict=True)
                if isinstance(m, (int, float)) and isinstance(p, (int, float)) and math.isfinite(m) and math.isfinite(p)
            ]
            if not both:
                continue
            interval = mean_interval(np.array([m for m, _ in both], dtype=float))
            expected = sum(p for _, p in both) / len(both)
            row = {"metric": measured, "measured": interval.estimate, "low": interval.low, "high": interval.high}
            row |= {"seeds": len(both), "theory": predicted, "predicted": expected}
            rows.append(values | row | {"ratio": interval.estimate / expected if expected else math.nan})
    if not rows:
        return None
    return Table({name: [row[name] for row in rows] for name in rows[0]}, table.axes)
