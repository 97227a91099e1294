"""A study in several processes that Accelerate started: large fits are computed by all together, others are dealt out.

`kempeframe run SPEC --processes 2` and `accelerate launch -m kempeframe run SPEC` are the same thing. Rank 0 decides
what is computed, evaluates, and writes the outputs; the others follow its commands. What a fit's data, model and
optimizer do must not depend on the rank, so that an error is raised by all of them or by none.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from kempeframe.computing import Computer, Held, Options
from kempeframe.limits import limited_threads
from kempeframe.plan import Plan, Unit
from kempeframe.pool import fail_unit
from kempeframe.problems import Problem, SpecError
from kempeframe.queues import Queue
from kempeframe.store import Store
from kempeframe.study import Work
from kempeframe.trial import Session, fit_stack
from kempeframe.workers import Emitter, compute_all

PATIENCE = timedelta(days=7)  # that a process waits for the others: a long evaluation is no error
DEALT = 4  # units for each process between two exchanges of results
EXIT_CODE = "KEMPEFRAME_EXIT_CODE"  # names the file that takes rank 0's exit code; launchers know only 0 and not 0


def world() -> tuple[int, int]:
    """This process's rank and the number of processes, as a launcher has set them; (0, 1) without one."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def check_time_limit(arguments: argparse.Namespace) -> None:
    """Refuse a time limit with several processes: one would stop while the others wait for it.

    Raises:
        SpecError: there are both.
    """
    if arguments.time_limit is not None and max(arguments.processes or 1, world()[1]) > 1:
        message = "can't be used where several processes train one network: one would stop while the others wait for it"
        raise SpecError("command line", [Problem("--time-limit", "", message)])


def join_world(device: str) -> str:
    """Connect with the other processes; returns this one's device."""
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu", timeout=PATIENCE)
    return device if device == "cpu" else str(state.device)


def launch(arguments: Sequence[str], processes: int, cpu: bool) -> int:
    """Run `kempeframe` with these arguments in so many processes, by Accelerate's launcher; returns the exit code."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        code = Path(folder) / "exit"
        command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]  # its name for "on one machine"
        command += ["--num_processes", str(processes), "--num_machines", "1", "--main_process_port", str(port)]
        command += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "kempeframe", *arguments]
        environment = {**os.environ, EXIT_CODE: str(code)}
        if cpu:
            environment["ACCELERATE_USE_CPU"] = "true"
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
        launched = subprocess.run(command, env=environment, check=False).returncode
        with contextlib.suppress(OSError, ValueError):
            return int(code.read_text())
        return launched or 1


def leave_exit_code(code: int) -> int:
    """What the process returns to its launcher: 0 where the launcher's parent reads the true code."""
    path = os.environ.get(EXIT_CODE)
    if path is None:
        return code
    Path(path).write_text(str(code))
    return 0


def _broadcast(command: list[Any] | None) -> list[Any]:
    """Rank 0's command, in every process."""
    from accelerate.utils import broadcast_object_list

    box = [command]
    broadcast_object_list(box)
    assert box[0] is not None
    return box[0]


def _gather(events: list[Any]) -> list[list[Any]]:
    """Every process's events, in every process."""
    from accelerate.utils import gather_object

    return [list(one) for one in gather_object([events])]


class Ranks:
    """Rank 0's executor."""

    @property
    def processes(self) -> int:
        return world()[1]

    def execute(self, queue: Queue, work: Work) -> None:
        _broadcast(["plan", work.plan.digest])
        leading = _Leading(work.plan, work.session, work.options, work.collector)
        with limited_threads(work.options.threads):
            try:
                while queue:
                    ready = list(iter(queue.take, None))
                    together = [unit for unit in ready if is_distributed(work.plan, unit)]
                    alone = [unit for unit in ready if unit not in together]
                    self._deal(alone, queue, work)
                    for unit in together:
                        try:
                            leading.compute(unit)
                        except Held:
                            queue.later(unit)
                        else:
                            queue.done(unit)
                    if not ready:
                        time.sleep(0.05)
            finally:
                _broadcast(["end"])

    def _deal(self, units: Sequence[Unit], queue: Queue, work: Work) -> None:
        size = DEALT * world()[1]
        for start in range(0, len(units), size):
            chunk = list(units[start : start + size])
            _broadcast(["share", chunk])
            finished = set()
            for rank, events in enumerate(_share(chunk, work.plan, work.session, work.options)):
                for event in events:
                    if not work.collector.hear(event, rank):  # then it says that a unit is done
                        finished.add(event[1])
                work.collector.current("", -1, rank)
            for index, unit in enumerate(chunk):
                if index in finished:
                    queue.done(unit)
                else:
                    fail_unit(work, queue, unit, "the process that it was dealt to could not compute it")


def is_distributed(plan: Plan, unit: Unit) -> bool:
    """Whether all processes compute the unit together: a single large fit. Stacks of small ones are dealt out."""
    return len(unit.fits) == 1 and plan.fits[unit.fits[0]][0].optimizer.distributed and not unit.stored


def _share(units: Sequence[Unit], plan: Plan, session: Session, options: Options) -> list[list[Any]]:
    """Compute this process's share of the units; returns the events of all processes."""
    rank, size = world()
    events: list[Any] = []

    def emit(event: list[Any]) -> None:
        if event[0] == "unit":
            event = ["unit", rank + size * event[1]]
        events.append(event)

    compute_all(Computer(plan, session, options, Emitter(emit)), units[rank::size], emit)
    return _gather(events)


class _Leading(Computer):
    """Tells the other processes of each stack before it is fitted."""

    def _fit(self, stack: Sequence[str]) -> None:
        if len(stack) > 1 or not self.plan.fits[stack[0]][0].optimizer.distributed:
            super()._fit(stack)
            return
        _broadcast(["fit", list(stack)])
        self.session.collective = True
        try:
            super()._fit(stack)
        finally:
            self.session.collective = False


def follow(plan: Plan, store: Store, options: Options) -> None:
    """What the processes other than rank 0 do: as they are told, until the end."""
    session = Session(store, options.device)
    quiet = Emitter(lambda event: None)
    computer = Computer(plan, session, options, quiet)
    with limited_threads(options.threads):
        while True:
            name, *arguments = _broadcast(None)
            if name == "end":
                return
            if name == "plan" and arguments[0] != plan.digest:
                raise RuntimeError("this process and rank 0 read different specs or plugins")
            if name == "share":
                store.fits.refresh()
                _share(arguments[0], plan, session, options)
            elif name == "fit":
                store.fits.refresh()
                session.collective = True
                members = [plan.fits[key] for key in arguments[0]]
                with contextlib.suppress(Exception):  # rank 0 raises it too, and tells
                    for _ in fit_stack(members, session, computer.checkpoints(arguments[0])):
                        pass
                session.collective = False
