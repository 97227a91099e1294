"""Training losses and learning rates in TensorBoard while networks train, in the runs that remain."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kempeframe.study import Progress
from kempeframe.tracking_events import EventFile, events_of, scalar
from kempeframe.tracking_names import run_names
from kempeframe.trial import fit_key

if TYPE_CHECKING:
    from kempeframe.plan import Plan
    from kempeframe.sweep import Trial

LIVE = ".live"  # last ending of event files that are written while a study runs
MOST_CONFIGURATIONS = 200  # beyond, runs are of no use to anybody, and TensorBoard switches 500 off


def live_ending(trial: Trial) -> str:
    """Ending of a trial's event file; it tells which fit the curve is of."""
    fit = trial.configuration.fit
    key = fit_key(fit, trial.seed)[:12] if fit else ""
    return f".{key}{LIVE}"


def wanted(plan: Plan, names: Mapping[int, str]) -> set[tuple[str, str]]:
    """(run, ending) of the event files that belong to the fits of this plan."""
    return {(names[id(t.configuration)], live_ending(t)) for t in plan.trials if id(t.configuration) in names}


class LiveEvents(Progress):
    """An event file for each trial that trains, in its configuration's run.

    A fit that starts again takes the place of what an earlier attempt has left; one that goes on from a checkpoint
    continues it.
    """

    def __init__(self, plan: Plan, folder: Path):
        self.plan, self.folder = plan, folder
        configurations = list({id(t.configuration): t.configuration for t in plan.trials}.values())
        self.names = run_names(configurations) if len(configurations) <= MOST_CONFIGURATIONS else {}
        self.rows: dict[int, int] = {}  # worker -> row of the trial it is at
        self.files: dict[int, EventFile] = {}

    def current(self, label: str, row: int = -1, worker: int = 0) -> None:
        self.rows[worker] = row
        done = self.files.pop(worker, None)
        if done is not None:
            done.close()

    def close(self) -> None:
        """Of the trials that ran last."""
        while self.files:
            self.files.popitem()[1].close()

    def report(self, step: int, metrics: Mapping[str, float], worker: int = 0) -> None:
        row = self.rows.get(worker, -1)
        if row < 0 or not self.names:
            return
        trial = self.plan.trials[row]
        if worker not in self.files:
            self.files[worker] = self._open(trial, step)
        values = [scalar(training_tag(name, trial.seed), value) for name, value in metrics.items()]
        self.files[worker].summary(values, step, at=time.time())
        self.files[worker].flush()

    def _open(self, trial: Trial, first: int) -> EventFile:
        folder, ending = self.folder / self.names[id(trial.configuration)], live_ending(trial)
        earlier = sorted(folder.glob(f"*{ending}"))
        kept = [event for path in earlier for event in events_of(path) if event.step < first]
        for path in earlier:
            path.unlink(missing_ok=True)
        file = EventFile(folder, time.time(), ending)
        for event in kept:
            file.event(event)
        return file


def training_tag(name: str, seed: int) -> str:
    """`training/loss, seed 3`."""
    return f"training/{name}, seed {seed}"


def clear(folder: Path, keep: set[tuple[str, str]]) -> None:
    """Remove what earlier runs wrote, but for the curves of this study's own fits: nothing else has those."""
    kept = set(_files(folder, keep))
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file() and path not in kept:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _files(folder: Path, keep: set[tuple[str, str]]) -> Iterator[Path]:
    for run, ending in keep:
        yield from (folder / run).glob(f"*{ending}")
