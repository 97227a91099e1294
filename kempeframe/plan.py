"""What a study needs: the keys of its results, the fits behind them, and which fits are computed together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import attrs

from kempeframe.components import Evaluator, Fit, Optimizer, fields_of
from kempeframe.digest import digest_of, join
from kempeframe.spec import Spec
from kempeframe.sweep import Configuration, Trial
from kempeframe.trial import fit_key

LARGEST_STACK = 256  # fits computed in one go, at most


@attrs.frozen(eq=False)
class Cell:
    """One evaluator's result for one trial: where it goes in the table, and under which key it is stored."""

    trial: Trial
    name: str
    evaluator: Evaluator
    key: str


@attrs.define(eq=False)
class Plan:
    """All trials of a spec with the keys of everything they need."""

    trials: list[Trial]
    cells: list[list[Cell]]  # per trial, in the order of its evaluators
    fits: dict[str, tuple[Fit, int]]  # fit key -> fit and trial seed

    @classmethod
    def of(cls, spec: Spec) -> Plan:
        """The plan of a spec: configurations in order, seeds innermost."""
        trials, cells, fits = [], [], {}
        for configuration in spec.configurations:
            parts = [(name, e, _key_parts(configuration, e)) for name, e in configuration.evaluators]
            for seed in spec.seeds:
                trial = Trial(configuration, seed)
                trials.append(trial)
                fit = configuration.fit
                key = fit_key(fit, seed) if fit is not None else ""
                if fit is not None and any(e.needs == "network" for _, e in configuration.evaluators):
                    fits[key] = (fit, seed)
                cells.append([Cell(trial, name, e, _result_key(e, own, key, seed)) for name, e, own in parts])
        return cls(trials, cells, fits)


def certificate_key(fit: str) -> str:
    """What an optimizer's certificate for a fit is stored under, among the results."""
    return join("certificate", fit)


def step_key(result: str, step: int) -> str:
    """What a result at an earlier snapshot is stored under."""
    return join(result, "step", step)


def _key_parts(configuration: Configuration, evaluator: Evaluator) -> str:
    """The seedless part of a result's key: all that the evaluator may look at."""
    attack = configuration.attack.digest if configuration.attack and evaluator.uses_attack else ""
    if evaluator.needs == "network":
        return join("network", evaluator.digest, attack)
    parts = (configuration.data, configuration.model, configuration.optimizer)
    stream = configuration.fit.stream if configuration.fit else ""
    return join(evaluator.needs, evaluator.digest, attack, stream, *("" if p is None else p.digest for p in parts))


def _result_key(evaluator: Evaluator, parts: str, fit: str, seed: int) -> str:
    if evaluator.needs == "components":
        return parts
    return join(parts, fit) if evaluator.needs == "network" else join(parts, seed)


def stacks(fits: dict[str, tuple[Fit, int]], needed: set[str]) -> Iterator[list[str]]:
    """Keys of the fits to compute, stack by stack.

    Fits that differ only in what the optimizer computes `together` form a unit: where one of a unit is needed, all are
    computed, so that no result depends on what was interrupted. Units that differ only in `stack_over` share a stack
    for speed alone.
    """
    units: dict[tuple[str, ...], list[str]] = {}
    for key, (fit, seed) in fits.items():
        units.setdefault(_group(fit, seed, fit.optimizer.together), []).append(key)
    groups: dict[tuple[str, ...], list[list[str]]] = {}
    for keys in units.values():
        if needed.intersection(keys):
            fit, seed = fits[keys[0]]
            both = (*fit.optimizer.together, *fit.optimizer.stack_over)
            groups.setdefault(_group(fit, seed, both), []).append(keys)
    for members in groups.values():
        stack: list[str] = []
        for unit in members:
            if stack and len(stack) + len(unit) > LARGEST_STACK:
                yield stack
                stack = []
            stack += unit
        yield stack


def _group(fit: Fit, seed: int, free: Sequence[str]) -> tuple[str, ...]:
    """What fits have in common that may differ in `free` alone."""
    if not free:
        return (fit.digest, str(seed))
    attack = fit.training_attack.digest if fit.training_attack else ""
    return (
        "" if "data" in free else fit.data.digest,
        fit.model.digest,
        _optimizer_without(fit.optimizer, tuple(free)),
        attack,
        fit.stream,
        str(fit.seed),
        "" if "seed" in free else str(seed),
    )


@cache
def _optimizer_without(optimizer: Optimizer, free: tuple[str, ...]) -> str:
    kept = {a.name: getattr(optimizer, a.name) for a in fields_of(type(optimizer)) if a.name not in free}
    return digest_of([type(optimizer).__module__, type(optimizer).__name__, kept])
