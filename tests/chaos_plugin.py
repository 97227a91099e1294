"""A plugin file for tools/chaos.py: fits of every sort, and processes that kill themselves in the middle of a write.

`KEMPEFRAME_CHAOS` names a folder. Each finished fit leaves a line in its `fits`. Each file in its `orders` is an
order that one process, the first to reach that call, carries out: it kills itself inside the call.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from kempeframe import Attack, Data, Evaluator, Fit, Model, Optimizer, component, field, hookimpl
from kempeframe.components import Needs, NoTheory
from kempeframe.locks import Locks

FOLDER = os.environ.get("KEMPEFRAME_CHAOS", "")
LEASE = os.environ.get("KEMPEFRAME_CHAOS_LEASE", "")
real_open, real_write = os.open, os.write


def note(name: str, line: str) -> None:
    """Append a line to a file of the folder, whole even when several processes do."""
    if FOLDER:
        fd = real_open(f"{FOLDER}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        real_write(fd, f"{line}\n".encode())
        os.close(fd)


class Orders:
    """The orders to this process: at which call of which function it kills itself."""

    def __init__(self, folder: Path):
        self.role = "worker" if sys.argv[0].endswith("workers.py") else "parent"
        self.place = str(folder.parent)  # calls that concern files elsewhere do not count
        self.own = str(folder)
        self.left: dict[str, list[tuple[int, Path]]] = {}
        self.counts: dict[str, int] = {}
        self.lock = threading.RLock()
        for path in sorted((folder / "orders").glob("*.json")):
            order = json.loads(path.read_text())
            if order["role"] == self.role:
                self.left.setdefault(order["call"], []).append((order["number"], path))

    def due(self, call: str, where: object) -> bool:
        """Whether an order says to end in this call; it is carried out once, by one process."""
        with self.lock:
            name = f"/proc/self/fd/{where}" if isinstance(where, int) else os.fspath(where)  # type: ignore[call-overload]
            place = os.readlink(name) if isinstance(where, int) else str(name)
            if not place.startswith(self.place) or place.startswith(self.own):
                return False
            self.counts[call] = self.counts.get(call, 0) + 1
            for number, path in self.left[call]:
                if number == self.counts[call]:
                    try:
                        os.unlink(path)
                    except FileNotFoundError:
                        continue
                    note("carried_out", f"{self.role} {call} {place}")
                    return True
            return False

    def install(self) -> None:
        """Put the functions that kill in place of those of `os` and `io`, where there are orders for them."""
        for module, call in ((os, "fsync"), (os, "replace"), (os, "unlink"), (os, "rename"), (os, "ftruncate")):
            if call in self.left:
                setattr(module, call, self._around(getattr(module, call), call))
        for module, call in ((os, "os.open"), (io, "io.open")):
            if call in self.left:
                module.open = self._after(module.open, call)  # type: ignore[attr-defined]
        if "write" in self.left:
            os.write = self._half  # type: ignore[assignment]

    def _around(self, real: Callable[..., Any], call: str) -> Callable[..., Any]:
        """Before the call or right after it, by turns."""

        def chaotic(where: Any, *rest: Any, **named: Any) -> Any:
            if not self.due(call, where):
                return real(where, *rest, **named)
            if self.counts[call] % 2:
                real(where, *rest, **named)
            return end()

        return chaotic

    def _after(self, real: Callable[..., Any], call: str) -> Callable[..., Any]:
        """When a file is made, or emptied: nothing is written to it yet."""

        def chaotic(where: Any, mode: Any = "r", *rest: Any, **named: Any) -> Any:
            opened = real(where, mode, *rest, **named)
            writes = mode & os.O_CREAT if isinstance(mode, int) else set(mode) & set("wx")
            if writes and not isinstance(where, int) and self.due(call, where):
                end()
            return opened

        return chaotic

    def _half(self, fd: int, data: Any) -> int:
        """Write the first half and end."""
        if self.due("write", fd):
            real_write(fd, memoryview(data)[: len(data) // 2])
            end()
        return real_write(fd, data)


def end() -> None:
    """End this process as the kernel would, out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


if FOLDER:
    Orders(Path(FOLDER)).install()
if LEASE:
    Locks.__init__.__defaults__ = (float(LEASE),)


@component
class Number(Data):
    """A task without examples; its truth is a number drawn from the data stream."""

    shift: float = field(0.0, "added to the truth")
    teacher: Fit | None = field(None, "a fit whose weight is added to the truth")

    def load(self, run: Any) -> Any:
        from kempeframe.task import Task

        truth = self.shift + float(run.rng("data", "truth").standard_normal())
        if self.teacher is not None:
            truth += float(run.fit(self.teacher).network.weight.detach()[0])
        return Task(splits={}, input_shape=(1,), output_shape=(1,), truth=truth)


@component
class Weights(Model):
    """So many weights, from the global torch generator."""

    size: int = field(3, "how many", ge=1)

    def build(self, task: Any, run: Any) -> Any:
        import torch

        class Network(torch.nn.Module):
            def __init__(self, size: int) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.randn(size))

        return Network(self.size)


@component
class Pull(Optimizer):
    """Moves the weights to the task's truth; something of where they began is left."""

    seconds: float = field(0.0, "wait so long", ge=0)
    failing_seed: int = field(-1, "raise at this one")

    def fit(self, network: Any, task: Any, attack: Attack | None, run: Any) -> Iterator[Any]:
        from kempeframe.task import Snapshot

        time.sleep(self.seconds)
        if run.seed == self.failing_seed:
            raise RuntimeError("told to fail")
        pull(network, task.truth)
        yield Snapshot(1, network, {"converged": True})
        note("fits", f"{self.digest} {run.seed} {task.truth!r}")


def pull(network: Any, truth: float) -> None:
    """Move weights to the truth."""
    import torch

    with torch.no_grad():
        network.weight.mul_(0.01).add_(truth)


@component
class Stacked(Pull):
    """Many at once, without a change of any result."""

    stack_over: ClassVar[tuple[str, ...]] = ("seed", "data")


@component
class Joined(Pull):
    """All seeds together: each result depends on all, so that a stack which was not whole shows."""

    together: ClassVar[tuple[str, ...]] = ("seed",)

    deadly: bool = field(False, "end the process, unless a fit is alone")

    def fit_many(self, jobs: Any) -> Iterator[Any]:
        from kempeframe.task import Snapshot

        time.sleep(self.seconds)
        if self.deadly and len(jobs) > 1:
            end()
        mean = sum(job.task.truth for job in jobs) / len(jobs) + 100.0 * len(jobs)
        for index, job in enumerate(jobs):
            pull(job.network, job.task.truth + mean)
            yield index, Snapshot(1, job.network, {"converged": True})
            note("fits", f"{self.digest} {job.run.seed} {job.task.truth!r}")


@component
class Long(Optimizer):
    """Many steps with noise of their own; keeps its state on the way."""

    steps: int = field(40, "how many", ge=1)
    pause: float = field(0.01, "seconds for each", ge=0)
    keep: int = field(5, "keep the state after so many steps", ge=1)
    every: int = field(0, "yield a snapshot after so many steps; 0 for the last one alone", ge=0)

    @property
    def trajectory(self) -> bool:  # type: ignore[override]
        return self.every > 0

    def fit(self, network: Any, task: Any, attack: Attack | None, run: Any) -> Iterator[Any]:
        import torch

        from kempeframe.task import Snapshot

        state = run.checkpoints.load()
        first = 1
        if state is not None:
            first = int(state["step"]) + 1
            network.load_state_dict(state["network"])
            note("resumed", str(first))
        for step in range(first, self.steps + 1):
            time.sleep(self.pause)
            noise = float(run.rng("optimizer", step).standard_normal())
            with torch.no_grad():
                network.weight.mul_(0.9).add_(0.1 * task.truth + 0.01 * noise)
            if step == self.steps or (self.every and step % self.every == 0):
                yield Snapshot(step, network, {"converged": True})
            if step % self.keep == 0 and step < self.steps:
                run.checkpoints.save({"step": step, "network": network.state_dict()})
        note("fits", f"{self.digest} {run.seed} {task.truth!r}")


@component
class Weight(Evaluator):
    """The mean and the last of the fitted weights."""

    offset: float = field(0.0, "added")

    def columns(self) -> Mapping[str, str]:
        return {"mean": "the mean weight", "last": "the last weight"}

    def evaluate(self, fitted: Any, run: Any) -> Mapping[str, float]:
        weight = fitted.network.weight.detach().double()
        return {"mean": weight.mean() + self.offset, "last": weight[-1] + self.offset}


@component
class Truth(Evaluator):
    """Theory on the drawn data: the task's truth."""

    needs: ClassVar[Needs] = "task"

    def columns(self) -> Mapping[str, str]:
        return {"truth": "the task's truth"}

    def evaluate(self, fitted: Any, run: Any) -> Mapping[str, float]:
        return {"truth": fitted.task.truth}


@component
class Prediction(Evaluator):
    """Theory: the shift, unless that is odd."""

    needs: ClassVar[Needs] = "components"

    def columns(self) -> Mapping[str, str]:
        return {"mean": "expected weight"}

    def evaluate(self, fitted: Any, run: Any) -> Mapping[str, float]:
        if fitted.data.shift % 2:
            raise NoTheory("the shift is odd")
        return {"mean": fitted.data.shift}


@hookimpl
def kempeframe_data() -> list[type[Data]]:
    return [Number]


@hookimpl
def kempeframe_model() -> list[type[Model]]:
    return [Weights]


@hookimpl
def kempeframe_optimizer() -> list[type[Optimizer]]:
    return [Joined, Long, Pull, Stacked]


@hookimpl
def kempeframe_evaluator() -> list[type[Evaluator]]:
    return [Weight, Truth, Prediction]
