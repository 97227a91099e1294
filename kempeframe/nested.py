"""Which fits a fit holds: they are computed before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from kempeframe.components import Component, Fit


def held(value: Any) -> list[Fit]:
    """The fits in the fields of a component or of a fit, without those that these hold in turn."""
    if isinstance(value, Fit):
        parts = (value.data, value.model, value.optimizer, value.training_attack)
        return [fit for part in parts for fit in _fits_in(part)]
    return list(_fits_in(value))


def _fits_in(value: Any) -> Iterator[Fit]:
    if isinstance(value, Fit):
        yield value
    elif isinstance(value, Component) or attrs.has(type(value)):
        for a in attrs.fields(type(value)):
            yield from _fits_in(getattr(value, a.name))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _fits_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _fits_in(item)


def innermost_first(fit: Fit) -> list[Fit]:
    """The fit and all that it holds, each after those it holds itself; without recursion, for long chains of rounds."""
    ordered: dict[int, Fit] = {}
    waiting = [(fit, False)]
    while waiting:
        current, opened = waiting.pop()
        if id(current) in ordered:
            continue
        if opened:
            ordered[id(current)] = current
        else:
            waiting.append((current, True))
            waiting += [(inner, False) for inner in held(current)]
    return list(ordered.values())


def root_seed(fit: Fit, trial_seed: int) -> int:
    """The seed from which those fits derive theirs that this one holds."""
    return trial_seed if fit.seed is None else fit.seed
