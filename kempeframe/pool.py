"""Units side by side in processes of their own; one that is killed is replaced and its unit computed again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from multiprocessing.connection import Connection, wait
from typing import IO, Any

import attrs

from kempeframe.limits import THREAD_VARIABLES
from kempeframe.plan import Unit
from kempeframe.problems import Breakdown
from kempeframe.queues import Queue
from kempeframe.store import StoreError
from kempeframe.study import InProcess, Work
from kempeframe.workers import request_of, unit_as_data

MOST_DEATHS = 3  # of workers over one unit, until it counts as failed
STOP_SECONDS = 0.5  # that workers have to end by themselves


class WorkerError(Breakdown):
    """Workers can't be started, or can't load the spec."""


@attrs.define(eq=False)
class Worker:
    """One process and what it was given."""

    number: int
    process: subprocess.Popen[bytes]
    connection: Connection
    output: IO[bytes]
    unit: Unit | None = None  # what it computes
    ready: bool = False


class WorkerPool:
    """An executor with so many processes, each with its own threads, and its own GPU where there are several."""

    def __init__(self, jobs: int, devices: int = 1):
        self.processes = jobs
        self.devices = devices  # number of GPUs that are dealt out

    def execute(self, queue: Queue, work: Work) -> None:
        if len(queue.open) == 1:
            InProcess().execute(queue, work)
            return
        running = _Running(self, queue, work)
        try:
            running.until_done()
        finally:
            running.stop()


class _Running:
    def __init__(self, pool: WorkerPool, queue: Queue, work: Work):
        self.pool, self.queue, self.work = pool, queue, work
        self.workers: dict[int, Worker] = {}
        self.deaths: dict[Unit, int] = {}
        self.early_deaths = 0  # of workers that never came up

    def until_done(self) -> None:
        wanted = min(self.pool.processes, len(self.queue.open))
        for number in range(wanted):
            self._start(number)
        while self.queue:
            self._give()
            connections = {w.connection.fileno(): w for w in self.workers.values()}
            outputs = {w.output.fileno(): w for w in self.workers.values()}
            for found in wait([*connections, *outputs], timeout=0.25):
                assert isinstance(found, int)
                if found in outputs:
                    self._relay(outputs[found])
                elif connections[found].number in self.workers:
                    self._receive(connections[found])

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        threads = str(self.work.options.threads or 1)
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, threads)}
        process = subprocess.Popen(
            [sys.executable, "-m", "kempeframe.workers", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which ends them
        )
        theirs.close()
        connection = Connection(ours.detach())
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self.workers[number] = Worker(number, process, connection, process.stdout)
        options = attrs.evolve(self.work.options, device=self._device(number))
        request = request_of(self.work.spec, self.work.plan, self.work.session.store.root, options)
        connection.send_bytes(json.dumps(request).encode())

    def _device(self, number: int) -> str:
        device = self.work.options.device
        return f"cuda:{number % self.pool.devices}" if device == "cuda" and self.pool.devices > 1 else device

    def _give(self) -> None:
        """A unit for each idle worker; none is given ahead, for it might have to wait behind a long one."""
        for worker in self.workers.values():
            if worker.unit is None:
                worker.unit = self.queue.take()
                if worker.unit is None:
                    return
                message = json.dumps(unit_as_data(worker.unit, self.work.plan)).encode()
                with contextlib.suppress(OSError):  # it died; that is read next
                    worker.connection.send_bytes(message)

    def _receive(self, worker: Worker) -> None:
        try:
            events = json.loads(worker.connection.recv_bytes())
        except (EOFError, OSError):
            self._died(worker)
            return
        for event in events:
            if not self.work.collector.hear(event, worker.number):
                self._event(worker, *event)

    def _event(self, worker: Worker, name: str, *arguments: Any) -> None:
        """What a worker says of itself."""
        if name == "ready":
            worker.ready, self.early_deaths = True, 0
        elif name in ("done", "held"):
            assert worker.unit is not None
            (self.queue.done if name == "done" else self.queue.later)(worker.unit)
            worker.unit = None
            if not self.queue.ready:
                self.work.collector.current("", -1, worker.number)
        elif name == "fatal":
            kind, text = arguments
            raise StoreError(text) if kind == "StoreError" else WorkerError(f"a worker stopped: {kind}: {text}")

    def _died(self, worker: Worker) -> None:
        """Replace it, and have its unit computed again."""
        self._relay(worker)
        worker.connection.close()
        worker.output.close()
        del self.workers[worker.number]
        status = worker.process.wait()
        reason = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
        if worker.unit is not None and worker.ready:
            self._again(worker.unit, reason)
        elif worker.unit is not None:
            self.queue.put_back(worker.unit)
        if not worker.ready:
            self.early_deaths += 1
            if self.early_deaths >= MOST_DEATHS:
                raise WorkerError(f"workers end before they begin ({reason}); --jobs 1 runs without them")
        if self.queue:
            self._start(worker.number)

    def _again(self, unit: Unit, reason: str) -> None:
        self.deaths[unit] = self.deaths.get(unit, 0) + 1
        if self.deaths[unit] < MOST_DEATHS:
            self.work.collector.progress.say(f"a worker ended ({reason}); what it was at is computed again")
            self.queue.put_back(unit)
        elif not self.queue.split(unit):
            fail_unit(self.work, self.queue, unit, f"its process ended {MOST_DEATHS} times ({reason})")

    def _relay(self, worker: Worker) -> None:
        """What components print, and what Python says when it crashes."""
        try:
            text = os.read(worker.output.fileno(), 1 << 16)
        except (BlockingIOError, ValueError, OSError):
            return
        if text.strip():
            self.work.collector.progress.say(text.decode(errors="replace").rstrip())

    def stop(self) -> None:
        """End the workers: each leaves when its connection closes, and is killed if it does not."""
        for worker in self.workers.values():
            worker.connection.close()
        for worker in self.workers.values():
            try:
                worker.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.output.close()
        self.workers.clear()


def fail_unit(work: Work, queue: Queue, unit: Unit, error: str) -> None:
    """Give a unit up: its trials fail."""
    rows = {row for key in unit.keys for row in work.plan.rows_of(key)}
    work.collector.failed(sorted(rows), list(unit.fits), error, "")
    work.collector.advance(sorted(rows), [])
    queue.done(unit)
