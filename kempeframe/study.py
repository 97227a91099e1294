"""Trials -> table: what the store has is read, the rest goes to an executor, and results are joined into rows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from kempeframe.blame import place_in
from kempeframe.claims import Verdicts, decide_all
from kempeframe.computing import NOT_COVERED, Computer, Held, Listener, Options, history_is_lost
from kempeframe.limits import limited_threads
from kempeframe.plan import Plan, Unit, certificate_key, step_key
from kempeframe.problems import nearest
from kempeframe.queues import Queue
from kempeframe.rows import build_history, build_table, steps_of
from kempeframe.spec import Spec
from kempeframe.store import Store
from kempeframe.sweep import Trial
from kempeframe.table import Table
from kempeframe.trial import Fitted, Session

if TYPE_CHECKING:
    from kempeframe.figures import Figure
    from kempeframe.pictures import Picture

STORED_TOGETHER = 32  # stored fits that are evaluated in one go, at most


@attrs.frozen(eq=False)
class Failure:
    """A trial that raised."""

    trial: Trial
    error: str
    traceback: str
    row: int = -1  # of the table
    place: str = ""  # in the spec: file, line, and which part


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
    def snapshots(self) -> Table:
        """One row for each snapshot of each trial: the last one always, the earlier ones of a trajectory."""
        return build_history(self)

    @property
    def history(self) -> Any:
        """`snapshots` as a pandas data frame."""
        return self.snapshots.pandas()

    @cached_property
    def history_rows(self) -> list[list[int]]:
        """For each row of the table its rows of `snapshots`, in the order of the steps."""
        found: list[list[int]] = []
        number = 0
        for row in range(len(self.plan.trials)):
            count = len(steps_of(self, row))
            found.append(list(range(number, number + count)))
            number += count
        return found

    @cached_property
    def claims(self) -> Verdicts:
        """The verdicts; a notebook shows them as a table."""
        return Verdicts(decide_all(self.spec.claims, self.rows))

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

    def figure(self, name: str) -> Picture:
        """A figure of the spec as a matplotlib figure, which a notebook shows.

        Raises:
            LookupError: the spec has no figure of that name; the message has the nearest.
            NotDrawable: its columns hold nothing that can be drawn.
        """
        figures = {figure.name: figure for figure in self.spec.figures}
        if name not in figures:
            raise LookupError(f"no figure {name!r}{nearest(name, figures)}")
        return self.draw(figures[name])

    def draw(self, figure: Figure) -> Picture:
        """Any figure of this study's columns.

        Raises:
            NotDrawable: its columns hold nothing that can be drawn.
        """
        from kempeframe.curves import theory_curves
        from kempeframe.figures import draw
        from kempeframe.heat_maps import draw_heat_map, grids_of
        from kempeframe.series import series_of

        rows = self.snapshots if figure.rows == "history" else self.rows
        if figure.cells:
            return draw_heat_map(figure, grids_of(figure, rows))
        return draw(figure, series_of(figure, rows), theory_curves(self, figure))

    def write(self, folder: str | Path) -> Path:
        """Write a run directory: tables, claims, figures, TensorBoard. Returns its path."""
        from kempeframe.outputs import RunDirectory

        directory = RunDirectory(Path(folder))
        directory.begin(self.spec, self.plan, self.session.store)
        directory.write(self)
        return directory.path

    def _repr_html_(self) -> str:
        from kempeframe.notebook import study_html

        return study_html(self)

    def fitted(self, trial: int) -> Fitted:
        """The fit of a row of the table, with its network; fitted again where the store lost it.

        Raises:
            IndexError: there is no such row.
            LookupError: the study fits nothing.
        """
        if not 0 <= trial < len(self.plan.trials):
            raise IndexError(f"no trial {trial}: the table has rows 0 to {len(self.plan.trials) - 1}")
        chosen = self.plan.trials[trial]
        if chosen.configuration.fit is None:
            raise LookupError("this study fits nothing: it is theory alone")
        from kempeframe.runs import Run

        return self.session.fitted(chosen.configuration.fit, Run(chosen.seed, self.session))


class Progress:
    """What a study tells while it runs; the command line shows it, others may ignore it."""

    def start(self, trials: int, stored: int) -> None:
        """Before anything is computed."""

    def current(self, label: str, row: int = -1, worker: int = 0) -> None:
        """What a worker computes now, "" for nothing, and the first row of the table that it is for, -1 for none."""

    def report(self, step: int, metrics: Mapping[str, float], worker: int = 0) -> None:
        """How far a worker's long fit is."""

    def advance(self, trials: int) -> None:
        """So many more trials are done."""

    def failed(self, failure: Failure) -> None:
        """A trial raised."""

    def say(self, text: str) -> None:
        """Something a person should know: a worker died, what a component printed."""


class Executor(Protocol):
    """Computes units: in this process, in others, or on other machines."""

    @property
    def processes(self) -> int:
        """How many units are computed at once."""

    def execute(self, queue: Queue, work: Work) -> None:
        """Take units from the queue until it is empty."""


@attrs.define(eq=False)
class Work:
    """What an executor needs to know of a study."""

    spec: Spec
    plan: Plan
    session: Session
    options: Options
    collector: Collector


class InProcess:
    """One unit after the other, here."""

    processes = 1

    def execute(self, queue: Queue, work: Work) -> None:
        computer = Computer(work.plan, work.session, work.options, work.collector)
        with limited_threads(work.options.threads):
            while queue:
                unit = queue.take()
                if unit is None:
                    time.sleep(0.05)
                    continue
                try:
                    computer.compute(unit)
                except Held:
                    queue.later(unit)
                else:
                    queue.done(unit)


class Collector(Listener):
    """Gathers what is computed, wherever that is."""

    def __init__(self, spec: Spec, plan: Plan, progress: Progress):
        self.spec, self.plan, self.progress = spec, plan, progress
        self.results: dict[str, dict[str, Any]] = {}
        self.failures: dict[int, Failure] = {}  # row -> its first failure
        self.failed_fits: dict[str, str] = {}
        self.computed: set[str] = set()
        self.advanced: set[int] = set()

    def hear(self, event: Sequence[Any], worker: int = 0) -> bool:
        """What a listener in another process was told; False where that is no listener's event."""
        name, *arguments = event
        if name in ("result", "failed", "advance"):
            getattr(self, name)(*arguments)
        elif name in ("current", "report"):
            getattr(self, name)(*arguments, worker)
        else:
            return False
        return True

    def result(self, key: str, metrics: dict[str, Any]) -> None:
        self.results[key] = metrics

    def failed(self, rows: list[int], fits: list[str], error: str, trace: str) -> None:
        self.failed_fits.update(dict.fromkeys(fits, error))
        for row in rows:
            if row not in self.failures:
                place = place_in(self.spec, self.plan.trials[row].configuration, error)
                self.failures[row] = Failure(self.plan.trials[row], error, trace, row, place)
                self.progress.failed(self.failures[row])

    def current(self, label: str, row: int = -1, worker: int = 0) -> None:
        self.progress.current(label, row, worker)

    def advance(self, rows: list[int], fits: list[str]) -> None:
        self.computed.update(fits)
        new = set(rows) - self.advanced  # a unit that was begun twice tells some things twice
        self.advanced |= new
        self.progress.advance(len(new))

    def report(self, step: int, metrics: dict[str, float], worker: int = 0) -> None:
        self.progress.report(step, metrics, worker)


def run_study(
    spec: Spec,
    store: Store,
    options: Options = Options(),
    progress: Progress | None = None,
    executor: Executor | None = None,
    plan: Plan | None = None,
) -> Study:
    """Compute what is missing and return the study. A trial that raises becomes a failed row."""
    start = time.perf_counter()
    plan = plan or Plan.of(spec)
    session = Session(store, options.device)
    collector = Collector(spec, plan, progress or Progress())
    try:
        if not options.fresh:
            recall(plan, store, collector.results)
        there = (row for row, cells in enumerate(plan.cells) if all(cell.key in collector.results for cell in cells))
        collector.advanced.update(there)  # once: a unit that lacks one of its fits computes them all again
        collector.progress.start(len(plan.trials), len(collector.advanced))
        executor = executor or InProcess()
        units = units_left(plan, store, collector.results, options.fresh, executor.processes)
        queue = Queue(plan, units, collector)
        if queue:
            executor.execute(queue, Work(spec, plan, session, options, collector))
    finally:
        store.flush()
    failures = [collector.failures[row] for row in sorted(collector.failures)]
    seconds = time.perf_counter() - start
    return Study(spec, plan, collector.results, failures, seconds, len(collector.computed), session)


def recall(plan: Plan, store: Store, results: dict[str, dict[str, Any]]) -> None:
    """Read the results that the store has."""

    def read(key: str) -> None:
        payload = store.results.get(key)
        if payload is not None:
            results[key] = json.loads(payload)

    for key in {cell.key for cells in plan.cells for cell in cells}:
        read(key)
    for key in plan.fits:
        read(certificate_key(key))
    for fit, cells in plan.cells_of.items():
        for step in results.get(certificate_key(fit), {}).get("snapshots", []):
            for cell in cells:
                read(step_key(cell.key, step))


def units_left(plan: Plan, store: Store, results: Mapping[str, Any], fresh: bool, processes: int = 1) -> Iterator[Unit]:
    """What has to be computed: theory first (it is quick, and its errors concern whole configurations), then fits."""
    theory = {key for key in plan.theory if key not in results}
    yield from plan.theory_units(theory)
    waiting = [
        key
        for key, cells in plan.cells_of.items()
        if certificate_key(key) not in results
        or any(cell.key not in results for cell in cells)
        or history_is_lost(plan, key, results[certificate_key(key)], results.__contains__)
    ]
    stored = [] if fresh else [key for key in waiting if key in store.fits]
    for first in range(0, len(stored), STORED_TOGETHER):
        yield Unit(fits=tuple(stored[first : first + STORED_TOGETHER]), stored=True)
    needed = {key for result in theory for key in plan.nested.get(result, ()) if fresh or key not in store.fits}
    needed |= set(waiting) - set(stored)
    yield from plan.units(needed, lambda key: not fresh and key in store.fits, processes)


__all__ = ["Collector", "Executor", "Failure", "InProcess", "Options", "Progress", "Study", "Work", "run_study"]
