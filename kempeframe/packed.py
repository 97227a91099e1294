"""What runs inside a job: the job's units, one after the other, each event written to the job's file."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from kempeframe.jobfiles import EventWriter, JobFolder, running
from kempeframe.problems import raised

COMPUTE = "kempeframe.workers:compute_units"  # what computes units; a request may name another
REPORT_SECONDS = 2.0  # between two reports of one fit


class PackedUnits:
    """Computes the units of a job. Pickled by submitit; all it carries is where they stand.

    A job that is started again (requeued after a preemption or a time-out) goes on with the unit it was in: the units
    before that one are marked in its file, and what that one had computed is in the store.
    """

    def __init__(self, folder: Path, name: str):
        self.folder, self.name = str(folder), name

    def __call__(self) -> None:
        folder = JobFolder(Path(self.folder))
        request, units = folder.work(self.name)
        before = folder.events(self.name)
        before.read()
        positions = [position for position in range(len(units)) if position not in before.finished]
        with EventWriter(before.path) as writer:
            _keep_signals_apart()
            try:
                if positions:
                    module, _, function = str(request.get("compute", COMPUTE)).partition(":")
                    compute = getattr(import_module(module), function)
                    compute(request, [units[position] for position in positions], _Emit(writer, positions))
            except Exception as error:
                writer.write({"raised": raised(error)})
                raise
            writer.write({"end": True})

    def checkpoint(self) -> Any:
        """What submitit puts back into the queue at a time-out or a preemption."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class _Emit:
    """Writes events under the position of the unit that they belong to.

    Units come one after the other, but one that another process holds is put off: only `["unit", ...]` itself is sure.
    """

    def __init__(self, writer: EventWriter, positions: Sequence[int]):
        self.writer, self.positions = writer, positions
        self.finished: list[int] = []
        self.next_report = 0.0

    def __call__(self, event: list[Any]) -> None:
        name, now = event[0], time.monotonic()
        if name == "report" and now < self.next_report:  # a fit of a day would fill the disk
            return
        if name == "report":
            self.next_report = now + REPORT_SECONDS
        if name == "unit":
            self.finished.append(self.positions[event[1]])
            self.writer.write({"unit": self.finished[-1], "event": ["unit", self.finished[-1]]})
        else:
            self.writer.write({"unit": running(self.finished, self.positions), "event": event})


def _keep_signals_apart() -> None:
    """Let nothing that goes wrong in submitit's signal handler look like an error of the computation.

    The handler runs between two instructions of the main thread. Where it cannot requeue the job (too many time-outs,
    a cluster that forbids it) it raises an ordinary exception, which the study would take for a trial that failed.
    """
    from submitit import JobEnvironment

    number = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
    submitits = signal.getsignal(number)
    if not callable(submitits):  # called outside a job
        return

    def handle(received: int, frame: FrameType | None) -> None:
        try:
            submitits(received, frame)
        except Exception as error:
            raise SystemExit(f"not requeued: {raised(error)}") from error

    signal.signal(number, handle)
