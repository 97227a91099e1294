"""Trials -> table: computes what the store does not have, keeps failures, and joins results into rows."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import attrs

from kempeframe.claims import Verdict, decide_all
from kempeframe.components import NoTheory
from kempeframe.limits import TrialTimeout, time_limit
from kempeframe.plan import Cell, Plan, certificate_key, stacks, step_key
from kempeframe.spec import CERTIFICATE_COLUMNS, Spec
from kempeframe.store import Store
from kempeframe.sweep import Trial
from kempeframe.table import Table
from kempeframe.trial import Fitted, Session, checked_metrics, fit_key, fit_stack, pack, restore

NOT_COVERED = "not covered"  # key of a result that says why there is none


@attrs.frozen(kw_only=True)
class Options:
    """How a study is run; none of it changes a result."""

    device: str = "cpu"
    fresh: bool = False
    time_limit: float | None = None  # seconds per trial


@attrs.frozen(eq=False)
class Failure:
    """A trial that raised."""

    trial: Trial
    error: str
    traceback: str


@attrs.define(eq=False, slots=False)
class Study:
    """A spec and its results."""

    spec: Spec
    plan: Plan
    results: dict[str, dict[str, Any]]  # result key -> metrics
    failures: list[Failure]
    seconds: float
    computed: int  # fits computed in this run
    session: Session

    @cached_property
    def rows(self) -> Table:
        """The results table."""
        return build_table(self)

    @property
    def table(self) -> Any:
        """The results table as a pandas data frame."""
        return self.rows.pandas()

    @cached_property
    def history(self) -> Table:
        """One row for each snapshot of each trial: the last one always, the earlier ones of a trajectory."""
        return build_history(self)

    @cached_property
    def claims(self) -> list[Verdict]:
        """The verdicts."""
        return decide_all(self.spec.claims, self.rows)

    @cached_property
    def not_covered(self) -> dict[str, int]:
        """What theory does not cover -> in how many trials."""
        reasons: dict[str, int] = {}
        for cells in self.plan.cells:
            for cell in cells:
                reason = self.results.get(cell.key, {}).get(NOT_COVERED)
                if reason is not None:
                    reasons[f"{cell.name}: {reason}"] = reasons.get(f"{cell.name}: {reason}", 0) + 1
        return reasons

    def fitted(self, trial: int) -> Fitted:
        """The fit of a row, with its network; fitted again where the store lost it."""
        chosen = self.plan.trials[trial]
        if chosen.configuration.fit is None:
            raise LookupError("this study fits nothing: it is theory alone")
        from kempeframe.runs import Run

        return self.session.fitted(chosen.configuration.fit, Run(chosen.seed, self.session))


class Progress:
    """What a study tells while it runs; the command line shows it, others may ignore it."""

    def start(self, trials: int, stored: int) -> None:
        """Before anything is computed."""

    def current(self, label: str) -> None:
        """What is being computed now."""

    def advance(self, trials: int) -> None:
        """So many more trials are done."""

    def failed(self, failure: Failure) -> None:
        """A trial raised."""


def run_study(spec: Spec, store: Store, options: Options = Options(), progress: Progress | None = None) -> Study:
    """Compute what is missing and return the study. A trial that raises becomes a failed row."""
    start = time.perf_counter()
    session = Session(store, options.device, options.fresh)
    runner = _Runner(Plan.of(spec), session, options, progress or Progress())
    try:
        runner.everything()
    finally:
        store.flush()
    seconds = time.perf_counter() - start
    return Study(spec, runner.plan, runner.results, runner.failures, seconds, runner.computed, session)


class _Runner:
    def __init__(self, plan: Plan, session: Session, options: Options, progress: Progress):
        self.plan, self.session, self.options, self.progress = plan, session, options, progress
        self.results: dict[str, dict[str, Any]] = {}
        self.failures: list[Failure] = []
        self.computed = 0
        self.steps: dict[str, list[int]] = {}  # fit key -> steps of the snapshots noted
        self.cells_of: dict[str, list[Cell]] = {}  # fit key -> cells that look at its network
        self.others: dict[str, list[Cell]] = {"components": [], "task": []}
        for trial, cells in zip(plan.trials, plan.cells, strict=True):
            for cell in cells:
                if cell.evaluator.needs == "network":
                    assert trial.configuration.fit is not None
                    self.cells_of.setdefault(fit_key(trial.configuration.fit, trial.seed), []).append(cell)
                else:
                    self.others[cell.evaluator.needs].append(cell)

    def everything(self) -> None:
        """Theory first (it is quick and its errors concern whole configurations), then the fits."""
        self._recall()
        done = sum(all(cell.key in self.results for cell in cells) for cells in self.plan.cells)
        self.progress.start(len(self.plan.trials), done)
        for needs in ("components", "task"):
            self._evaluate_theory(self.others[needs])
        waiting = {key: [c for c in cells if c.key not in self.results] for key, cells in self.cells_of.items()}
        waiting = {key: cells for key, cells in waiting.items() if cells or certificate_key(key) not in self.results}
        fresh = self.options.fresh
        stored = [key for key in waiting if not fresh and key in self.session.store.fits]
        lost = {key for key in stored if not self._evaluate_stored(key)}
        for stack in stacks(self.plan.fits, (waiting.keys() - set(stored)) | lost):
            self._compute(stack)

    def _recall(self) -> None:
        """Read the results that the store has."""
        if self.options.fresh:
            return
        keys = {cell.key for cells in self.plan.cells for cell in cells}
        keys |= {certificate_key(key) for key in self.plan.fits}
        self._read(keys)
        for fit, cells in self.cells_of.items():
            for step in self.results.get(certificate_key(fit), {}).get("snapshots", []):
                self._read({step_key(cell.key, step) for cell in cells})

    def _read(self, keys: set[str]) -> None:
        for key in keys:
            payload = self.session.store.results.get(key)
            if payload is not None:
                self.results[key] = json.loads(payload)

    def _keep(self, key: str, metrics: Mapping[str, Any]) -> None:
        self.results[key] = dict(metrics)
        self.session.store.results.put(key, json.dumps(self.results[key]).encode())

    def _evaluate_theory(self, cells: Sequence[Cell]) -> None:
        """Cells that need no fit, one call of evaluate_many for each evaluator."""
        by_evaluator: dict[str, dict[str, Cell]] = {}
        for cell in cells:
            if cell.key not in self.results:
                by_evaluator.setdefault(cell.evaluator.digest, {}).setdefault(cell.key, cell)
        for members in by_evaluator.values():
            chosen = list(members.values())
            self.progress.current(chosen[0].name)
            self._evaluate(chosen, [_for_theory(cell, self.session) for cell in chosen])

    def _evaluate(self, cells: Sequence[Cell], fits: Sequence[Fitted], limited: bool = True) -> None:
        """Results of cells that share an evaluator; one that raises fails alone.

        Inside a fit, whose own time limit runs, `limited` is False.
        """
        evaluator = cells[0].evaluator
        runs = [fitted.run or self.session.run_of_components() for fitted in fits]
        try:
            with time_limit(self.options.time_limit if limited else None, len(cells)):
                found = evaluator.evaluate_many(fits, runs)
            for cell, metrics in zip(cells, found, strict=True):
                self._keep(cell.key, checked_metrics(evaluator, metrics))
        except (Exception, TrialTimeout) as error:
            if isinstance(error, TrialTimeout) and not limited:
                raise
            if len(cells) == 1:
                if isinstance(error, NoTheory):
                    self._keep(cells[0].key, {NOT_COVERED: str(error)})
                else:
                    self._fail(cells[0].trial, error, cells[0].name)
                return
            for cell, fitted in zip(cells, fits, strict=True):
                self._evaluate([cell], [fitted], limited)

    def _evaluate_stored(self, key: str) -> bool:
        """Evaluate a stored fit; False where its record turns out to be damaged."""
        packed = self.session.store.fits.get(key)
        if packed is None:
            return False
        fit, seed = self.plan.fits[key]
        fitted = restore(fit, seed, packed, self.session)
        self.progress.current(_label(self.cells_of[key][0].trial))
        self._finish(key, fitted)
        return True

    def _finish(self, key: str, fitted: Fitted) -> None:
        """Evaluate a fit for every trial that shares it."""
        steps = self.steps.get(key) or self.results.get(certificate_key(key), {}).get("snapshots", [])
        history = {"snapshots": steps} if steps else {}
        self._keep(certificate_key(key), {**fitted.certificate, "steps": fitted.step, **history})
        for cell in self.cells_of[key]:
            noted = self.results.get(step_key(cell.key, fitted.step))
            if cell.key not in self.results and noted is not None:
                self._keep(cell.key, noted)
            elif cell.key not in self.results:
                own = attrs.evolve(fitted, attack=cell.trial.configuration.attack)
                self._evaluate([cell], [own])
        self.progress.advance(len({id(cell.trial) for cell in self.cells_of[key]}))

    def _note(self, key: str, fitted: Fitted) -> None:
        """Evaluate a snapshot as it comes: the optimizer goes on to change its network."""
        self.steps.setdefault(key, []).append(fitted.step)
        for cell in self.cells_of[key]:
            at = attrs.evolve(cell, key=step_key(cell.key, fitted.step))
            if at.key not in self.results:
                own = attrs.evolve(fitted, attack=cell.trial.configuration.attack)
                self._evaluate([at], [own], limited=False)

    def _compute(self, stack: Sequence[str]) -> None:
        """Fit a stack. Where it raises, its units are tried alone; a fit that raises alone fails its trials."""
        members = [self.plan.fits[key] for key in stack]
        self.progress.current(_label(self.cells_of[stack[0]][0].trial))
        last: dict[int, Any] = {}
        try:
            with time_limit(self.options.time_limit, len(stack)):
                for index, snapshot in fit_stack(members, self.session):
                    last[index] = snapshot
                    if members[index][0].optimizer.trajectory:
                        self._note(stack[index], Fitted.of(*members[index], self.session, snapshot))
            if len(last) < len(stack):
                raise RuntimeError("the optimizer yielded no snapshot")
        except (Exception, TrialTimeout) as error:
            if len(stack) == 1:
                for cell in self.cells_of[stack[0]]:
                    self._fail(cell.trial, error, "fit")
                self.progress.advance(len(self.cells_of[stack[0]]))
                return
            last.clear()
            for key in stack:
                self._compute([key])
            return
        for index, snapshot in last.items():
            key = stack[index]
            self.session.store.fits.put(key, pack(snapshot))
            self.computed += 1
            self._finish(key, Fitted.of(*members[index], self.session, snapshot))

    def _fail(self, trial: Trial, error: BaseException, where: str) -> None:
        text = "".join(traceback.format_exception(error))
        failure = Failure(trial, f"{where}: {type(error).__name__}: {error}", text)
        self.failures.append(failure)
        self.progress.failed(failure)


def _for_theory(cell: Cell, session: Session) -> Fitted:
    configuration = cell.trial.configuration
    run = None
    if cell.evaluator.needs == "task":
        fit = configuration.fit
        run = session.run_of(fit, cell.trial.seed) if fit else session.run_of_seed(cell.trial.seed)
    assert configuration.data is not None
    return Fitted(
        data=configuration.data,
        model=configuration.model,
        optimizer=configuration.optimizer,
        attack=configuration.attack,
        run=run,
    )


def _label(trial: Trial) -> str:
    parts = [f"{name.rpartition('.')[2]}={_short(value)}" for name, value in trial.configuration.axes.items()]
    return " ".join([*parts, f"seed={trial.seed}"])


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def build_table(study: Study) -> Table:
    """Join the results into rows: axes, seed, status, certificate, metrics, and the derived columns."""
    spec, plan = study.spec, study.plan
    failed = {id(failure.trial): failure.error for failure in study.failures}
    names = spec.evaluator_columns
    extra = _named_fields(spec)
    rows: list[dict[str, Any]] = []
    for trial, cells in zip(plan.trials, plan.cells, strict=True):
        row: dict[str, Any] = {name: trial.configuration.axes.get(name) for name in spec.axes}
        row |= {name: _field(trial, name) for name in extra}
        row["seed"] = trial.seed
        found = {cell.name: study.results.get(cell.key) for cell in cells}
        complete = all(metrics is not None for metrics in found.values())
        row["status"] = "failed" if id(trial) in failed else "done" if complete else "missing"
        fit = trial.configuration.fit
        certificate = study.results.get(certificate_key(fit_key(fit, trial.seed)), {}) if fit else {}
        row |= {name: certificate.get(name) for name in CERTIFICATE_COLUMNS}
        row |= {column: (found.get(name) or {}).get(metric) for column, (name, metric) in names.items()}
        for name, expression in spec.derived.items():  # one by one: a formula may use the one before
            row[name] = expression(row)
        row["error"] = failed.get(id(trial), "")
        rows.append(row)
    columns = {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
    return Table(columns, list(spec.axes), _exact_columns(spec))


def build_history(study: Study) -> Table:
    """One row for each snapshot: axes, seed, step, and what its evaluators found there."""
    spec, names = study.spec, study.spec.evaluator_columns
    rows: list[dict[str, Any]] = []
    for trial, cells in zip(study.plan.trials, study.plan.cells, strict=True):
        fit = trial.configuration.fit
        certificate = study.results.get(certificate_key(fit_key(fit, trial.seed)), {}) if fit else {}
        last = int(certificate.get("steps", 0))
        for step in certificate.get("snapshots") or [last]:
            found = {}
            for cell in cells:
                final = step == last or cell.evaluator.needs != "network"
                found[cell.name] = study.results.get(cell.key if final else step_key(cell.key, step)) or {}
            row = {name: trial.configuration.axes.get(name) for name in spec.axes}
            row |= {"seed": trial.seed, "step": step}
            rows.append(row | {column: found.get(name, {}).get(metric) for column, (name, metric) in names.items()})
    columns = {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
    return Table(columns, list(spec.axes), _exact_columns(spec))


def _named_fields(spec: Spec) -> list[str]:
    """Component fields that a claim, a figure or a formula names without sweeping over them."""
    used: Iterable[str] = [
        *(name for claim in spec.claims for name in claim.columns()),
        *(name for figure in spec.figures for name in figure.columns()),
        *(name for expression in spec.derived.values() for name in expression.names),
    ]
    known = {*spec.axes, *spec.evaluator_columns, *spec.derived, *CERTIFICATE_COLUMNS, "seed", "status"}
    return [name for name in dict.fromkeys(used) if name not in known]


def _field(trial: Trial, name: str) -> Any:
    try:
        return trial.configuration.value_at(name)
    except KeyError:
        return None


def _exact_columns(spec: Spec) -> frozenset[str]:
    """Columns of theory alone, and formulas of those and of the configuration."""
    theory = {
        name
        for configuration in spec.configurations
        for name, evaluator in configuration.evaluators
        if evaluator.needs == "components"
    }
    exact = {column for column, (name, _) in spec.evaluator_columns.items() if name in theory}
    measured = set(spec.evaluator_columns) - exact | set(CERTIFICATE_COLUMNS) | {"seed"}
    for name, expression in spec.derived.items():
        if not measured.intersection(expression.names):
            exact.add(name)
        else:
            measured.add(name)
    return frozenset(exact)


__all__ = ["Failure", "Options", "Progress", "Study", "run_study"]
