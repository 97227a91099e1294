"""What a study needs: the keys of its results, the fits behind them, and which fits are computed together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property

import attrs

from kempeframe.components import Evaluator, Fit, Optimizer, fields_of
from kempeframe.digest import digest_of, join
from kempeframe.nested import held, innermost_first, root_seed
from kempeframe.spec import Spec
from kempeframe.sweep import Configuration, Trial
from kempeframe.trial import fit_key

LARGEST_STACK = 256  # fits computed in one go, at most
THEORY_TOGETHER = 256  # configurations whose theory is solved in one go, at most


@attrs.frozen(eq=False)
class Cell:
    """One evaluator's result for one trial: where it goes in the table, and under which key it is stored."""

    row: int  # of the trial in the table
    trial: Trial
    name: str
    evaluator: Evaluator
    key: str
    measured: str = ""  # under which key what it sees at the fit's last snapshot is stored, if it looks at snapshots


@attrs.frozen
class Unit:
    """What is computed in one go, by one process: a stack of fits with their evaluators, or one evaluator's theory."""

    fits: tuple[str, ...] = ()  # keys
    theory: tuple[str, ...] = ()  # keys of results
    stored: bool = False  # the fits are only evaluated; they need not form a stack

    @property
    def keys(self) -> tuple[str, ...]:
        """Of its fits, or of its results."""
        return self.fits or self.theory


@attrs.define(eq=False, slots=False)
class Plan:
    """All trials of a spec with the keys of everything they need."""

    trials: list[Trial]
    cells: list[list[Cell]]  # per trial, in the order of its evaluators
    fits: dict[str, tuple[Fit, int]]  # fit key -> fit and the seed of the trial it is in; nested ones before others
    nested: dict[str, tuple[str, ...]]  # fit key, or key of theory on drawn data -> the fits needed before, if any
    cells_of: dict[str, list[Cell]]  # fit key -> cells that look at its network
    theory: dict[str, Cell]  # result key -> one of the cells that need no fit

    @classmethod
    def of(cls, spec: Spec) -> Plan:
        """The plan of a spec: configurations in order, seeds innermost."""
        plan = cls([], [], {}, {}, {}, {})
        for configuration in spec.configurations:
            parts = [
                (name, e, _key_parts(configuration, e), _key_parts(configuration, e.measured))
                for name, e in configuration.evaluators
            ]
            looks = [e for _, e in configuration.evaluators if not e.is_theory]
            inner = [fit for evaluator in looks for fit in held(evaluator)]
            if any(evaluator.uses_attack for evaluator in looks):
                inner += held(configuration.attack)
            nests = bool(inner or (configuration.fit and held(configuration.fit)))
            for seed in spec.seeds:
                trial = Trial(configuration, seed)
                fit = configuration.fit
                key = ""
                if fit is not None:
                    if nests and looks:  # before any digest of the fit: each is made of those of the fits inside
                        plan._add_all_nested(fit, inner, seed)
                    key = fit_key(fit, seed)
                    if looks:
                        plan.fits.setdefault(key, (fit, seed))
                row = len(plan.trials)
                cells = [
                    Cell(row, trial, name, e, _result_key(e, own, key, seed), _result_key(e.measured, seen, key, seed))
                    for name, e, own, seen in parts
                ]
                plan.trials.append(trial)
                plan.cells.append(cells)
                for cell in cells:
                    if not cell.evaluator.is_theory:
                        plan.cells_of.setdefault(key, []).append(cell)
                    elif cell.key not in plan.theory:
                        plan.theory[cell.key] = cell
                        if cell.evaluator.needs == "task":
                            plan._add_inner(cell)
        return plan

    def _add_all_nested(self, fit: Fit, others: Sequence[Fit], seed: int) -> None:
        """Note the fits that a fit holds, and those that the evaluators hold which look at it."""
        root = root_seed(fit, seed)
        for other in others:
            self._add_nested(other, root)
        self._add_nested(fit, seed)
        key = fit_key(fit, seed)
        inner = dict.fromkeys((*self.nested.get(key, ()), *(fit_key(other, root) for other in others)))
        self.nested[key] = tuple(inner)

    def _add_inner(self, cell: Cell) -> None:
        """Note the fits that theory on drawn data needs: those that the data and the evaluator hold."""
        configuration, seed = cell.trial.configuration, cell.trial.seed
        inner = [*held(configuration.data), *held(cell.evaluator)]
        if inner:
            root = root_seed(configuration.fit, seed) if configuration.fit else seed
            for fit in inner:
                self._add_nested(fit, root)
            self.nested[cell.key] = tuple(fit_key(fit, root) for fit in inner)

    def _add_nested(self, fit: Fit, seed: int) -> None:
        seeds = {id(fit): {seed}}
        order = innermost_first(fit)
        for outer in reversed(order):
            for inner in held(outer):
                seeds.setdefault(id(inner), set()).update(root_seed(outer, s) for s in seeds[id(outer)])
        for one in order:
            for s in seeds[id(one)]:
                key = fit_key(one, s)
                if key not in self.fits:
                    self.fits[key] = (one, s)
                if held(one) and key not in self.nested:
                    self.nested[key] = tuple(fit_key(inner, root_seed(one, s)) for inner in held(one))

    @cached_property
    def depth(self) -> dict[str, int]:
        """Fit key -> length of the longest chain of fits below it."""
        depths: dict[str, int] = {}
        for key in self.fits:  # nested ones come first
            inner = self.nested.get(key, ())
            depths[key] = 1 + max(depths.get(k, 0) for k in inner) if inner else 0
        return depths

    @cached_property
    def digest(self) -> str:
        """Stands for every key: two processes with the same plan compute the same things."""
        return join(*self.fits, *(cell.key for cells in self.cells for cell in cells))

    def keys(self) -> Iterator[str]:
        """Everything in the store that the study is made of, results at snapshots aside."""
        yield from self.fits
        yield from map(certificate_key, self.fits)
        yield from (join("checkpoint", *keys) for keys in self._together.values())
        yield from dict.fromkeys(cell.key for cells in self.cells for cell in cells)

    def units(self, needed: set[str], stored: Callable[[str], bool], processes: int = 1) -> Iterator[Unit]:
        """How to compute the needed fits, with those that are nested in them (or in theory's data) and not stored.

        Fits that differ only in what the optimizer computes `together` form a unit: where one of a unit is needed, all
        are computed, so that no result depends on what was interrupted. Units that differ only in `stack_over` share a
        stack for speed alone, smaller ones where several processes share the work.
        """
        missing, waiting = set(needed), list(needed)
        while waiting:
            inner = [k for k in self.nested.get(waiting.pop(), ()) if k not in missing and not stored(k)]
            missing.update(inner)
            waiting += inner
        groups: dict[tuple[str, ...], list[list[str]]] = {}
        for keys in self._together.values():
            if missing.intersection(keys):
                fit, seed = self.fits[keys[0]]
                free = (*fit.optimizer.unit(fit.model), *fit.optimizer.stack_over)
                groups.setdefault((str(self.depth[keys[0]]), *_group(fit, seed, free)), []).append(keys)
        for members in groups.values():
            fair = math.ceil(sum(map(len, members)) / processes)
            fit = self.fits[members[0][0]][0]
            smallest = fit.optimizer.seeds_together(fit.model)
            largest = min(LARGEST_STACK, max(smallest, fair)) if processes > 1 else LARGEST_STACK
            stack: list[str] = []
            for unit in members:
                if stack and len(stack) + len(unit) > largest:
                    yield Unit(fits=tuple(stack))
                    stack = []
                stack += unit
            yield Unit(fits=tuple(stack))

    @cached_property
    def _together(self) -> dict[tuple[str, ...], list[str]]:
        units: dict[tuple[str, ...], list[str]] = {}
        for key, (fit, seed) in self.fits.items():
            free = fit.optimizer.unit(fit.model)
            # Seeds 0 to 15, or 16 to 31 ...: one more seed changes no other unit.
            block = seed // fit.optimizer.seeds_together(fit.model) if "seed" in free else 0
            units.setdefault((str(self.depth[key]), str(block), *_group(fit, seed, free)), []).append(key)
        return units

    def rows_of(self, key: str) -> list[int]:
        """The rows of the table that need a fit, or a result of theory."""
        if key in self.cells_of:
            return sorted({cell.row for cell in self.cells_of[key]})
        return self._rows_of_theory.get(key, [])

    @cached_property
    def _rows_of_theory(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for cells in self.cells:
            for cell in cells:
                if cell.key in self.theory:
                    rows.setdefault(cell.key, []).append(cell.row)
        return rows

    @cached_property
    def size(self) -> int:
        """How many units there are at least, whatever is stored."""
        return len(self._together) + len({cell.evaluator.digest for cell in self.theory.values()})

    def theory_units(self, needed: set[str]) -> Iterator[Unit]:
        """How to compute results that need no fit: those of one evaluator in one go."""
        groups: dict[str, list[str]] = {}
        for key, cell in self.theory.items():
            if key in needed:
                groups.setdefault(cell.evaluator.digest, []).append(key)
        for keys in groups.values():
            for start in range(0, len(keys), THEORY_TOGETHER):
                yield Unit(theory=tuple(keys[start : start + THEORY_TOGETHER]))


def certificate_key(fit: str) -> str:
    """What an optimizer's certificate for a fit is stored under, among the results."""
    return join("certificate", fit)


def step_key(result: str, step: int) -> str:
    """What a result at an earlier snapshot is stored under."""
    return join(result, "step", step)


def _key_parts(configuration: Configuration, evaluator: Evaluator) -> str:
    """The seedless part of a result's key: all that the evaluator may look at."""
    attack = configuration.attack.digest if configuration.attack and evaluator.uses_attack else ""
    if not evaluator.is_theory:
        return join(evaluator.needs, evaluator.digest, attack)
    parts = (configuration.data, configuration.model, configuration.optimizer)
    stream = configuration.fit.stream if configuration.fit else ""
    return join(evaluator.needs, evaluator.digest, attack, stream, *("" if p is None else p.digest for p in parts))


def _result_key(evaluator: Evaluator, parts: str, fit: str, seed: int) -> str:
    if evaluator.needs == "components":
        return parts
    return join(parts, seed) if evaluator.needs == "task" else join(parts, fit)


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
