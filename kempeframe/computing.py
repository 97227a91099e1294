"""One unit of a study's work: fits a stack and evaluates it, or solves theory. It tells a listener, in any process."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from kempeframe.blame import culprit
from kempeframe.checkpoints import StoredCheckpoints
from kempeframe.components import NoTheory
from kempeframe.digest import join
from kempeframe.limits import TrialTimeout, time_limit
from kempeframe.plan import Cell, Plan, Unit, certificate_key, step_key
from kempeframe.problems import raised
from kempeframe.store import StoreError
from kempeframe.sweep import Trial
from kempeframe.trial import Fitted, Session, checked_metrics, fit_stack, pack, restore

FLUSH_AFTER = 0.1  # seconds; what took longer is synced before others may look, on whatever file system they are
NOT_COVERED = "not covered"  # key of a result that says why there is none
NOTED = "noted"  # among the notes of a checkpoint: keys of results at snapshots
HISTORY = ("snapshots", "noted")  # of a certificate: the steps, and which results there are at all of them


@attrs.frozen
class Options:
    """How a study is run; none of it changes a result."""

    device: str = "cpu"
    fresh: bool = False
    time_limit: float | None = None  # seconds per trial
    threads: int | None = None  # of each process; None leaves them as they are
    checkpoint_seconds: float = 5.0  # between two checkpoints of a long fit, at least
    raises: bool = False  # what a trial raises is raised, instead of noted: for one that is looked into


class Listener(Protocol):
    """What is told while units are computed. Every argument is plain data: it may come from another process."""

    def result(self, key: str, metrics: dict[str, Any]) -> None:
        """A result is stored."""

    def failed(self, rows: list[int], fits: list[str], error: str, trace: str) -> None:
        """Trials (rows of the table) and fits (keys) raised."""

    def current(self, label: str, row: int) -> None:
        """What is being computed now, and the first row of the table that it is for; -1 for none."""

    def advance(self, rows: list[int], fits: list[str]) -> None:
        """Trials (rows of the table) whose fit is done, and fits that were computed for them."""

    def report(self, step: int, metrics: dict[str, float]) -> None:
        """How the fit at hand is doing."""


class Held(Exception):
    """Another process computes a part of the unit just now; it comes later."""


class Computer:
    """Computes units of one plan."""

    def __init__(self, plan: Plan, session: Session, options: Options, listener: Listener):
        self.plan, self.session, self.options, self.listener = plan, session, options, listener
        self.results: dict[str, dict[str, Any]] = {}  # of the unit at hand
        self.waited: set[Unit] = set()  # units that another process held
        session.report = lambda step, metrics: listener.report(step, dict(metrics))

    def compute(self, unit: Unit) -> None:
        """Compute what of the unit the store does not have.

        Raises:
            Held: another process computes some of its fits.
            StoreError: the store can't be written.
        """
        self.results.clear()
        if unit.theory:
            self._theory([self.plan.theory[key] for key in unit.theory])
            return
        store = self.session.store
        start = time.monotonic()
        lock = store.locks.acquire(unit.fits)
        if lock is None:
            self.waited.add(unit)
            raise Held
        with lock:
            store.refresh(everything=unit in self.waited)
            kept = [] if self.options.fresh else [key for key in unit.fits if key in store.fits]
            lost = {key for key in kept if not self._evaluate_stored(key)}
            missing = {key for key in unit.fits if key not in kept} | lost
            stacks = [unit.fits] if len(missing) == len(unit.fits) and not unit.stored else []
            if missing and not stacks:  # what is computed together is computed whole
                stacks = [part.fits for part in self.plan.units(missing, stored=lambda key: True)]
            for stack in stacks:
                self._forget_useless_checkpoint(stack)
                self._fit(stack)
            if time.monotonic() - start > FLUSH_AFTER:
                store.flush()

    def _known(self, key: str) -> dict[str, Any] | None:
        """A result of this unit, or a stored one."""
        if key not in self.results and not self.options.fresh:
            payload = self.session.store.results.get(key)
            if payload is not None:
                self.results[key] = json.loads(payload)
                self.listener.result(key, self.results[key])
        return self.results.get(key)

    def _keep(self, key: str, metrics: Mapping[str, Any]) -> None:
        self.results[key] = dict(metrics)
        self.session.store.results.put(key, json.dumps(self.results[key]).encode())
        self.listener.result(key, self.results[key])

    def _theory(self, cells: Sequence[Cell]) -> None:
        self.listener.current(cells[0].name, -1)
        missing = [cell for cell in cells if self._known(cell.key) is None]
        if missing:
            self._evaluate(missing, [_for_theory(cell, self.session) for cell in missing])

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
        except StoreError:
            raise
        except (Exception, TrialTimeout) as error:
            if isinstance(error, TrialTimeout) and not limited:
                raise
            if len(cells) == 1:
                if isinstance(error, NoTheory):
                    self._keep(cells[0].key, {NOT_COVERED: str(error)})
                else:
                    self._fail([cells[0].row], [], error, cells[0].name)
                return
            for cell, fitted in zip(cells, fits, strict=True):
                self._evaluate([cell], [fitted], limited)

    def _evaluate_stored(self, key: str) -> bool:
        """Evaluate a stored fit; False where its record, or what was found on its way, turns out to be lost."""
        cells = self.plan.cells_of.get(key, [])
        certificate = self._known(certificate_key(key))
        if history_is_lost(self.plan, key, certificate, lambda result: self._known(result) is not None):
            return False
        if certificate is None or any(self._known(cell.key) is None for cell in cells):
            packed = self.session.store.fits.get(key)
            if packed is None:
                return False
            fitted = restore(*self.plan.fits[key], packed, self.session)
            self._tell(key)
            history = {name: certificate[name] for name in HISTORY if name in certificate} if certificate else {}
            self._finish(key, fitted, history, computed=False)
        else:
            self.listener.advance(self.plan.rows_of(key), [])
        return True

    def _finish(self, key: str, fitted: Fitted, history: Mapping[str, list[Any]], computed: bool) -> None:
        """Evaluate a fit for every trial that shares it.

        One that was just computed is evaluated also where results are stored: they may stem from a unit of other
        members (fewer seeds, say), whose rounding differed, and a table is to be that of one run. What trials share,
        because it does not depend on the attack in which they differ, is evaluated once.
        """
        snapshots = history.get("snapshots", [])
        self._keep(certificate_key(key), {**fitted.certificate, "steps": fitted.step, **history})
        cells = self.plan.cells_of.get(key, [])
        for step in snapshots:  # those from before an interruption are told as well
            for cell in cells:
                self._known(step_key(cell.measured, step))
        evaluated: set[str] = set()
        for cell in cells:
            if cell.key not in evaluated and (computed or self._known(cell.key) is None):
                noted = self._known(step_key(cell.key, fitted.step)) if snapshots else None
                if noted is not None:
                    self._keep(cell.key, noted)
                    continue
                seen = attrs.evolve(fitted, attack=cell.trial.configuration.attack)
                if cell.evaluator.needs == "trajectory":
                    seen.history = self._trajectory(cell, seen, snapshots)
                before = self.results.get(cell.key)
                self._evaluate([cell], [seen])
                if self.results.get(cell.key) is not before:  # it did not fail
                    evaluated.add(cell.key)
        self.listener.advance(self.plan.rows_of(key), [key] if computed else [])

    def _trajectory(self, cell: Cell, fitted: Fitted, snapshots: Sequence[int]) -> list[tuple[int, Mapping[str, Any]]]:
        """What was measured at each snapshot; at the last one alone where the fit has no others."""
        if not snapshots:
            last = attrs.evolve(cell, evaluator=cell.evaluator.measured, key=step_key(cell.measured, fitted.step))
            self._evaluate([last], [fitted])
        steps = snapshots or [fitted.step]
        found = [(step, self._known(step_key(cell.measured, step))) for step in steps]
        return [(step, metrics) for step, metrics in found if metrics is not None and NOT_COVERED not in metrics]

    def _note(self, key: str, fitted: Fitted) -> list[str]:
        """Evaluate a snapshot as it comes: the optimizer goes on to change its network. The keys of the results."""
        cells = {cell.measured: cell for cell in self.plan.cells_of.get(key, [])}  # what several reduce, once
        noted = [
            attrs.evolve(cell, evaluator=cell.evaluator.measured, key=step_key(measured, fitted.step))
            for measured, cell in cells.items()
        ]
        for at in noted:
            own = attrs.evolve(fitted, attack=at.trial.configuration.attack)
            self._evaluate([at], [own], limited=False)
        return [at.key for at in noted if at.key in self.results]

    def _history(self, key: str, snapshots: list[int]) -> dict[str, list[Any]]:
        """For a certificate: the snapshots, and which results there are at all of them."""
        seen = dict.fromkeys(cell.measured for cell in self.plan.cells_of.get(key, []))
        steps = {measured: [step_key(measured, step) for step in snapshots] for measured in seen}
        noted = [measured for measured, keys in steps.items() if all(self._known(at) is not None for at in keys)]
        return {"snapshots": snapshots, "noted": noted} if snapshots else {}

    def _fit(self, stack: Sequence[str]) -> None:
        """Fit a stack. Where it raises, its members are tried alone; a fit that raises alone fails its trials."""
        members = [self.plan.fits[key] for key in stack]
        self._tell(stack[0])
        checkpoints = self.checkpoints(stack)
        notes: dict[str, list[Any]] = checkpoints.notes
        last: dict[int, Any] = {}
        try:
            with time_limit(self.options.time_limit, len(stack)):
                for index, snapshot in fit_stack(members, self.session, checkpoints):
                    last[index] = snapshot
                    if members[index][0].optimizer.trajectory:
                        notes.setdefault(stack[index], []).append(snapshot.step)
                        noted = self._note(stack[index], Fitted.of(*members[index], self.session, snapshot))
                        notes.setdefault(NOTED, []).extend(noted)
            if len(last) < len(stack):
                raise RuntimeError("the optimizer yielded no snapshot")
        except StoreError:
            raise
        except (Exception, TrialTimeout) as error:
            if not isinstance(error, TrialTimeout):  # what only took too long may go on in the next run
                checkpoints.discard()
            if len(stack) > 1:
                for key in stack:
                    self._fit([key])
                return
            rows = self.plan.rows_of(stack[0])
            self._fail(rows, [stack[0]], error, "fit")
            self.listener.advance(rows, [])
            return
        for index, snapshot in last.items():
            key = stack[index]
            self.session.store.fits.put(key, pack(snapshot))
            fitted = Fitted.of(*members[index], self.session, snapshot)
            self._finish(key, fitted, self._history(key, notes.get(key, [])), computed=True)
        checkpoints.discard()

    def _forget_useless_checkpoint(self, stack: Sequence[str]) -> None:
        """One whose fits have lost results at their snapshots: they would not come again.

        Done before the fit: if all processes compute it together, all load the checkpoint.
        """
        if self.plan.fits[stack[0]][0].optimizer.trajectory:
            checkpoints = self.checkpoints(stack)
            checkpoints.load()
            if any(self._known(result) is None for result in checkpoints.notes.get(NOTED, ())):
                checkpoints.discard()

    def checkpoints(self, stack: Sequence[str]) -> StoredCheckpoints:
        """Where a stack's fits leave their state."""
        key = join("checkpoint", *stack)
        checkpoints = StoredCheckpoints(self.session.store.checkpoints, key, self.options.checkpoint_seconds)
        if self.options.fresh:
            self.session.store.checkpoints.remove(key)
        return checkpoints

    def _fail(self, rows: list[int], fits: list[str], error: BaseException, where: str) -> None:
        if self.options.raises:
            raise error
        text = "".join(traceback.format_exception(error))
        self.listener.failed(rows, fits, f"{where}: {raised(error)} {culprit(error)}".rstrip(), text)

    def _tell(self, key: str) -> None:
        """Say which fit is at hand: the swept values of its trial, or which nested fit it is."""
        cells = self.plan.cells_of.get(key)
        fit, seed = self.plan.fits[key]
        name = label(cells[0].trial) if cells else f"{fit.stream or 'fit'} seed={seed}"
        self.listener.current(name, cells[0].row if cells else -1)


def history_is_lost(plan: Plan, fit: str, certificate: Mapping[str, Any] | None, known: Callable[[str], bool]) -> bool:
    """Whether results at a fit's snapshots are gone, so that only the fit itself can bring them back.

    Those of an evaluator that was added later never were: a changed evaluator does not retrain, but for one that
    reduces what nobody measured on the way.
    """
    cells = plan.cells_of.get(fit, [])
    if certificate is None:
        return bool(cells) and plan.fits[fit][0].optimizer.trajectory
    noted = set(certificate.get("noted", ()))
    there = [step_key(c.measured, step) for c in cells if c.measured in noted for step in certificate["snapshots"]]
    if not all(map(known, there)):
        return True
    new = [c for c in cells if c.evaluator.needs == "trajectory" and not known(c.key)]
    return any(c.measured not in noted for c in new) and plan.fits[fit][0].optimizer.trajectory


def _for_theory(cell: Cell, session: Session) -> Fitted:
    configuration = cell.trial.configuration
    run = None
    if cell.evaluator.needs == "task":
        fit = configuration.fit
        run = session.run_of(fit, cell.trial.seed) if fit else session.run_of_seed(cell.trial.seed)
    return Fitted.unfitted(configuration, run)


def label(trial: Trial) -> str:
    """`n_train=1000 penalty=0.1 seed=3`."""
    parts = [f"{name.rpartition('.')[2]}={_short(value)}" for name, value in trial.configuration.axes.items()]
    return " ".join([*parts, f"seed={trial.seed}"])


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
