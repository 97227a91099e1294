"""What evaluators have to do: finite numbers under the names they declare, from the components they were given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from kempeframe.components import Evaluator
from kempeframe.runs import Run
from kempeframe.testing.surroundings import (
    Around,
    CheckFunction,
    concerning,
    global_randomness_left_alone,
    on_cuda,
    same,
    state,
)
from kempeframe.trial import Fitted, checked_metrics


def _looks_at_a_network(around: Around) -> bool:
    return not _evaluator(around).is_theory


def _ignores_the_attack(around: Around) -> bool:
    evaluator = _evaluator(around)
    return around.attack is not None and not (evaluator.uses_attack or evaluator.needs_attack)


def _seen(around: Around, seed: int = 0, dtype: str | None = None, device: str = "cpu") -> tuple[Fitted, Run]:
    """What the evaluator is shown, and its run."""
    evaluator = _evaluator(around)
    if evaluator.needs == "components":
        fit = around.fit(dtype)
        return (
            Fitted(data=fit.data, model=fit.model, optimizer=fit.optimizer, attack=fit.attack),
            around.session(device).run_of_components(),
        )
    if evaluator.needs == "task":
        fit, run = around.fit(dtype), around.run(seed, device)
        return Fitted(data=fit.data, model=fit.model, optimizer=fit.optimizer, attack=fit.attack, run=run), run
    fitted = around.fitted(seed, dtype, device)
    assert fitted.run is not None
    if evaluator.needs == "trajectory":
        fitted.history = [
            (fitted.step, checked_metrics(evaluator.measured, evaluator.measured.evaluate(fitted, fitted.run)))
        ]
    return fitted, fitted.run


def _evaluator(around: Around) -> Evaluator:
    assert isinstance(around.component, Evaluator)
    return around.component


def _metrics(around: Around, seed: int = 0, dtype: str | None = None, device: str = "cpu") -> Mapping[str, Any]:
    fitted, run = _seen(around, seed, dtype, device)
    return checked_metrics(_evaluator(around), _evaluator(around).evaluate(fitted, run))


def _finite(metrics: Mapping[str, Any]) -> None:
    for name, value in metrics.items():
        values = value if isinstance(value, list) else [value]
        assert all(math.isfinite(v) for v in values), f"{name} is {value}"


def columns_are_named_and_documented(around: Around) -> None:
    """Names that a claim can write, each with a line that says what it is."""
    columns = _evaluator(around).columns()
    assert columns, "columns() declares nothing"
    for name, doc in columns.items():
        assert name.isidentifier(), f"the column {name!r} can't be named in a formula: use letters, digits and _"
        assert doc.strip(), f"the column {name!r} has no documentation"


def metrics_are_finite_and_declared(around: Around) -> None:
    """`evaluate` returns all of `columns()` and nothing else, as finite numbers or lists of them."""
    _finite(_metrics(around))


def same_seed_same_metrics(around: Around) -> None:
    """Evaluated twice, it finds the same."""
    assert same(dict(_metrics(around)), dict(_metrics(around))), "two evaluations of one fit differ"


@concerning(_looks_at_a_network)
def the_network_is_left_alone(around: Around) -> None:
    """Weights and gradients are what they were, and the network stays in evaluation mode."""
    fitted, run = _seen(around)
    network = fitted.network.eval()
    before = state(network)
    _evaluator(around).evaluate(fitted, run)
    assert same(before, state(network)), "the network was changed"
    assert all(p.grad is None for p in network.parameters()), "gradients were left in the network"
    assert not network.training, "the network was put in training mode"


def many_are_each(around: Around) -> None:
    """`evaluate_many` finds what `evaluate` finds."""
    seen = [_seen(around, seed) for seed in (0, 1)]
    together = _evaluator(around).evaluate_many([fitted for fitted, _ in seen], [run for _, run in seen])
    for seed, found in enumerate(together):
        alone = _metrics(around, seed)
        for name, value in alone.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-9, err_msg=name)


def global_generators_are_left_alone(around: Around) -> None:
    """It draws from the run's streams."""
    fitted, run = _seen(around)
    if not _evaluator(around).is_theory:
        _ = fitted.network
    with global_randomness_left_alone():
        _evaluator(around).evaluate(fitted, run)


@concerning(_ignores_the_attack)
def the_attack_is_declared(around: Around) -> None:
    """What it finds changes with the trial's attack only where `uses_attack` says so."""
    fitted, run = _seen(around)
    with_none = _evaluator(around).evaluate(attrs.evolve(fitted, attack=None), run)
    assert same(dict(checked_metrics(_evaluator(around), with_none)), dict(_metrics(around)))


@concerning(_looks_at_a_network)
def works_in_float32(around: Around) -> None:
    """Finite also there."""
    _finite(_metrics(around, dtype="float32"))


@concerning(_looks_at_a_network)
def works_in_float64(around: Around) -> None:
    """Finite also there."""
    _finite(_metrics(around, dtype="float64"))


@concerning(lambda around: _looks_at_a_network(around) and on_cuda(around))
def works_on_cuda(around: Around) -> None:
    """The same on a GPU."""
    _finite(_metrics(around, device="cuda"))


CHECKS: list[CheckFunction] = [
    columns_are_named_and_documented,
    metrics_are_finite_and_declared,
    same_seed_same_metrics,
    the_network_is_left_alone,
    many_are_each,
    global_generators_are_left_alone,
    the_attack_is_declared,
    works_in_float32,
    works_in_float64,
    works_on_cuda,
]
