"""A process that computes units for another: it loads the spec itself, takes units, and tells what comes of them.

`python -m kempeframe.workers FD` is started by the pool; jobs on a cluster call `compute_units`.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

if TYPE_CHECKING:
    from kempeframe.computing import Computer, Options
    from kempeframe.plan import Plan, Unit
    from kempeframe.spec import Spec

Messages: TypeAlias = "queue.SimpleQueue[dict[str, Any]]"
Emit = Callable[[list[Any]], None]  # takes [name of the listener's method, *arguments], plain data
HELD_SECONDS = 0.25  # until a job tries a unit again that another process holds


class PlanChanged(Exception):
    """The plugins or files behind a spec are not what they were when the study began."""


def request_of(spec: Spec, plan: Plan, store: Path, options: Options) -> dict[str, Any]:
    """All that another process needs to compute units of a study: plain data."""
    return {
        "path": str(spec.path.resolve()),
        "raw": spec.raw,
        "plan": plan.digest,
        "store": str(store.resolve()),
        "options": attrs.asdict(options),
    }


def unit_as_data(unit: Unit, plan: Plan) -> dict[str, Any]:
    """A unit as plain data, with the number of trials it is for."""
    return {**attrs.asdict(unit), "trials": len({row for key in unit.keys for row in plan.rows_of(key)}) or 1}


def unit_of_data(data: Mapping[str, Any]) -> Unit:
    """The unit again."""
    from kempeframe.plan import Unit

    return Unit(tuple(data["fits"]), tuple(data["theory"]), data["stored"])


class Emitter:
    """A listener that passes everything on."""

    def __init__(self, emit: Emit):
        self.emit = emit
        self.next_report = 0.0

    def result(self, key: str, metrics: dict[str, Any]) -> None:
        self.emit(["result", key, metrics])

    def failed(self, rows: list[int], fits: list[str], error: str, trace: str) -> None:
        self.emit(["failed", rows, fits, error, trace])

    def current(self, label: str, row: int) -> None:
        self.emit(["current", label, row])

    def advance(self, rows: list[int], fits: list[str]) -> None:
        self.emit(["advance", rows, fits])

    def report(self, step: int, metrics: dict[str, float]) -> None:
        if time.monotonic() >= self.next_report:
            self.next_report = time.monotonic() + 0.25
            self.emit(["report", step, metrics])


def computer_of(request: Mapping[str, Any], emit: Emit) -> Computer:
    """What computes a request's units in this process.

    Raises:
        PlanChanged: the spec's plugins changed since the request was made.
    """
    from kempeframe.computing import Computer, Options
    from kempeframe.plan import Plan
    from kempeframe.spec import spec_of
    from kempeframe.store import Store
    from kempeframe.trial import Session

    plan = Plan.of(spec_of(Path(request["path"]), request["raw"]))
    if plan.digest != request["plan"]:
        raise PlanChanged(f"{request['path']}: a plugin that the spec uses was changed while the study ran")
    options = Options(**request["options"])
    return Computer(plan, Session(Store(Path(request["store"])), options.device), options, Emitter(emit))


def compute_units(request: Mapping[str, Any], units: Sequence[Mapping[str, Any]], emit: Emit) -> None:
    """Compute units one after the other; after each, `["unit", index]` is emitted."""
    from kempeframe.limits import limited_threads

    with limited_threads(request["options"]["threads"]):
        compute_all(computer_of(request, emit), [unit_of_data(unit) for unit in units], emit)


def compute_all(computer: Computer, units: Sequence[Unit], emit: Emit) -> None:
    """Compute units one after the other; those that another process holds, when it is through with them."""
    from kempeframe.computing import Held

    waiting = list(enumerate(units))
    while waiting:
        later = []
        for index, unit in waiting:
            try:
                computer.compute(unit)
            except Held:
                later.append((index, unit))
            else:
                computer.session.store.flush()
                emit(["unit", index])
        if len(later) == len(waiting):
            time.sleep(HELD_SECONDS)
        waiting = later


def main() -> None:
    """Serve the pool at the other end of a socket until it closes that."""
    connection = Connection(int(sys.argv[1]))
    messages: Messages = queue.SimpleQueue()
    request = json.loads(connection.recv_bytes())
    stores: list[Any] = []

    def listen() -> None:
        """The pool's end closes when it wants no more, and when its process dies."""
        while True:
            try:
                messages.put(json.loads(connection.recv_bytes()))
            except (EOFError, OSError):
                for store in stores:
                    store.flush()
                os._exit(0)

    threading.Thread(target=listen, daemon=True, name="listen").start()
    buffer: list[list[Any]] = []

    def send() -> None:
        if buffer:
            connection.send_bytes(json.dumps(buffer).encode())
            buffer.clear()

    def emit(event: list[Any]) -> None:
        buffer.append(event)
        if event[0] in ("failed", "report", "current"):
            send()

    from kempeframe.store import StoreError

    try:
        computer = computer_of(request, emit)
        stores.append(computer.session.store)
        emit(["ready"])
        _serve(computer, messages, emit, send)
    except BaseException as error:  # reported where a person sees it; the pool decides what becomes of the study
        emit(["fatal", type(error).__name__, str(error)])
        send()
        if isinstance(error, (PlanChanged, StoreError)):  # said, and no fault of any code's
            os._exit(1)
        raise


def _serve(computer: Computer, messages: Messages, emit: Emit, send: Callable[[], None]) -> None:
    from kempeframe.computing import Held

    send()
    while True:
        message = messages.get()
        try:
            computer.compute(unit_of_data(message))
        except Held:
            emit(["held"])
        else:
            emit(["done"])
        send()


if __name__ == "__main__":
    main()
