"""A plugin file for tests: fits that do nothing, wait, raise, take too much memory, or hold another fit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from kempeframe import Attack, Data, Evaluator, Fit, Model, Optimizer, component, field, hookimpl
from kempeframe.components import Needs


@component
class Numbers(Data):
    """A task without examples; its truth is a number drawn from the data stream."""

    shift: float = field(0.0, "added to the truth")
    teacher: Fit | None = field(None, "a fit whose weight is added to the truth")

    def load(self, run: Any) -> Any:
        from kempeframe.task import Task

        truth = self.shift + float(run.rng("data", "truth").standard_normal())
        if self.teacher is not None:
            truth += float(run.fit(self.teacher).network.weight.detach())
        return Task(splits={}, input_shape=(1,), output_shape=(1,), truth=truth)


@component
class Scalar(Model):
    """One weight, from the global torch generator."""

    def build(self, task: Any, run: Any) -> Any:
        import torch

        class Network(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.randn(()))

        return Network()


@component
class Copy(Optimizer):
    """Sets the weight to the task's truth."""

    fail: bool = field(False, "raise instead")
    seconds: float = field(0.0, "wait so long", ge=0)
    gigabytes: float = field(0.0, "allocate so much", ge=0)
    steps: int = field(1, "snapshots", ge=1)

    def fit(self, network: Any, task: Any, attack: Attack | None, run: Any) -> Iterator[Any]:
        import torch

        from kempeframe.task import Snapshot

        if self.fail:
            raise RuntimeError("told to fail")
        if self.gigabytes:
            torch.empty(int(self.gigabytes * 2**30), dtype=torch.uint8)
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            time.sleep(0.01)
        with torch.no_grad():
            network.weight.fill_(task.truth)
        for step in range(self.steps):
            yield Snapshot(step, network, {"converged": True})


@component
class Halving(Optimizer):
    """Halves the distance to the truth at each of its steps, and yields every step."""

    trajectory: ClassVar[bool] = True

    steps: int = field(3, "how many", ge=1)

    def fit(self, network: Any, task: Any, attack: Attack | None, run: Any) -> Iterator[Any]:
        import torch

        from kempeframe.task import Snapshot

        with torch.no_grad():
            network.weight.zero_()
            for step in range(1, self.steps + 1):
                network.weight += (task.truth - network.weight) / 2
                yield Snapshot(step, network, {"converged": True})


@component
class Recorded(Copy):
    """Like copy; appends a line to a file for each fit, and can end its own process."""

    log: str = field("", "file that gets the process id and the truth")
    kill: str = field("", "end the process by SIGKILL, unless this file exists: it is made first; 'always' for always")
    words: str = field("", "print them")

    def fit(self, network: Any, task: Any, attack: Attack | None, run: Any) -> Iterator[Any]:
        if self.words:
            print(self.words, flush=True)
        if self.kill and (self.kill == "always" or not os.path.exists(self.kill)):
            if self.kill != "always":
                open(self.kill, "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        yield from super().fit(network, task, attack, run)
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{os.getpid()} {task.truth}\n")


@component
class Counting(Optimizer):
    """Counts up to `steps`, a hundredth of a second each, and keeps its state on the way; the weight is the count."""

    steps: int = field(100, "how far", ge=1)
    log: str = field("", "file that gets a line for each step")
    every: int = field(0, "yield a snapshot after so many steps; 0 for the last one alone", ge=0)

    @property
    def trajectory(self) -> bool:  # type: ignore[override]
        return self.every > 0

    def fit(self, network: Any, task: Any, attack: Attack | None, run: Any) -> Iterator[Any]:
        import torch

        from kempeframe.task import Snapshot

        state = run.checkpoints.load() or {"step": 0}
        for step in range(state["step"] + 1, self.steps + 1):
            time.sleep(0.01)
            with open(self.log or os.devnull, "a") as file:
                file.write(f"{step}\n")
            with torch.no_grad():
                network.weight.fill_(step)
            if step == self.steps or (self.every and step % self.every == 0):
                yield Snapshot(step, network)
            if run.checkpoints.due():
                run.checkpoints.save({"step": step})


@component
class Together(Copy):
    """Like copy, with all seeds computed together; counts how many it was given."""

    together: ClassVar[tuple[str, ...]] = ("seed",)
    sizes: ClassVar[list[int]] = []

    def fit_many(self, jobs: Any) -> Any:
        Together.sizes.append(len(jobs))
        yield from super().fit_many(jobs)


@component
class Weight(Evaluator):
    """The fitted weight."""

    offset: float = field(0.0, "added")
    fail: bool = field(False, "raise instead")

    def columns(self) -> Mapping[str, str]:
        return {"weight": "the fitted weight"}

    def evaluate(self, fitted: Any, run: Any) -> Mapping[str, float]:
        if self.fail:
            raise RuntimeError("evaluator told to fail")
        return {"weight": fitted.network.weight + self.offset}


@component
class Largest(Evaluator):
    """The largest of what an evaluator measured at the snapshots, and how many there were."""

    needs: ClassVar[Needs] = "trajectory"

    of: Evaluator = field(doc="what is measured")

    @property
    def measured(self) -> Evaluator:
        return self.of

    def columns(self) -> Mapping[str, str]:
        return {"largest": "the largest value", "looks": "number of snapshots"}

    def evaluate(self, fitted: Any, run: Any) -> Mapping[str, float]:
        (metric,) = self.of.columns()
        return {"largest": max(found[metric] for _, found in fitted.history), "looks": len(fitted.history)}


@component
class Prediction(Evaluator):
    """Theory: the shift."""

    needs: ClassVar[Needs] = "components"

    def columns(self) -> Mapping[str, str]:
        return {"weight": "expected weight"}

    def evaluate(self, fitted: Any, run: Any) -> Mapping[str, float]:
        return {"weight": fitted.data.shift}


@component
class Truth(Evaluator):
    """Theory on the drawn data: the task's truth."""

    needs: ClassVar[Needs] = "task"

    def columns(self) -> Mapping[str, str]:
        return {"truth": "the task's truth"}

    def evaluate(self, fitted: Any, run: Any) -> Mapping[str, float]:
        return {"truth": fitted.task.truth}


@hookimpl
def kempeframe_data() -> list[type[Data]]:
    return [Numbers]


@hookimpl
def kempeframe_model() -> list[type[Model]]:
    return [Scalar]


@hookimpl
def kempeframe_optimizer() -> list[type[Optimizer]]:
    return [Copy, Counting, Halving, Recorded, Together]


@hookimpl
def kempeframe_evaluator() -> list[type[Evaluator]]:
    return [Weight, Largest, Prediction, Truth]
