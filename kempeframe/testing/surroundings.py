"""What a component is tried in: tiny components of the other kinds, runs, and tasks in other floating-point types."""

from __future__ import annotations

import atexit
import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from kempeframe.components import Attack, Component, Data, Fit, FitJob, Model, Optimizer, component, field
from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.task import Batch, CannotGive, Examples, Snapshot, Split, Task
from kempeframe.trial import Fitted, Session


@component
class Blobs(Data):
    """Three clouds of points in the unit cube of four dimensions; targets are the cloud, or two floats."""

    n_train: int = field(default=48, doc="training examples", ge=1)
    n_test: int = field(default=32, doc="test examples", ge=1)
    targets: Literal["classes", "floats"] = field(default="classes", doc="class indices, or two floats")

    def load(self, run: Run) -> Task:
        def draw(name: str, n: int) -> Examples:
            rng = run.rng("data", name)
            labels = rng.integers(3, size=n)
            inputs = np.clip(0.2 + 0.3 * labels[:, None] + 0.1 * rng.standard_normal((n, 4)), 0, 1)
            floats = np.stack([labels - 1.0, inputs.sum(axis=1)], axis=1).astype(np.float32)
            targets = labels if self.targets == "classes" else floats
            return Examples(torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(targets))

        sizes = {"train": self.n_train, "validation": self.n_test, "test": self.n_test}
        classes = 3 if self.targets == "classes" else None
        splits = {name: (lambda name=name, n=n: draw(name, n)) for name, n in sizes.items()}
        return Task(splits, (4,), (classes or 2,), classes=classes, bounds=(0.0, 1.0))


@component
class Line(Model):
    """A linear network on flattened inputs."""

    def build(self, task: Task, run: Run) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(task.inputs, task.outputs, dtype=task.dtype), nn.Unflatten(1, task.output_shape)
        )


@component
class Untouched(Optimizer):
    """Leaves the network as it was initialised."""

    def fit(self, network: nn.Module, task: Task, attack: Attack | None, run: Run) -> Iterator[Snapshot]:
        yield Snapshot(0, network.eval(), {"converged": True})


@component
class Given(Data):
    """A task that exists already; the seed changes nothing."""

    task: Any = field(doc="what is loaded")

    @property
    def digest(self) -> str:
        """Of this object: a task has no fields to digest."""
        return f"{id(self.task):032x}"

    def load(self, run: Run) -> Task:
        made: Task = self.task
        return made


@component
class Typed(Data):
    """Another data component in a floating-point type."""

    data: Data = field(doc="what is loaded")
    dtype: Literal["float32", "float64"] = field(doc="of inputs and of float targets")

    def load(self, run: Run) -> Task:
        task, dtype = self.data.load(run), getattr(torch, self.dtype)
        splits = {name: (lambda name=name: cast(task.split(name), dtype)) for name in task.splits}
        return attrs.evolve(task, splits=splits, dtype=dtype)


class CastSplit(Split):
    """A split whose batches are in another type."""

    def __init__(self, of: Split, dtype: torch.dtype):
        self.of, self.dtype = of, dtype

    def batches(self, network: nn.Module | None, batch_size: int, run: Run) -> Iterator[Batch]:
        return (cast_batch(batch, self.dtype) for batch in self.of.batches(network, batch_size, run))

    def batches_from(self, start: int, network: nn.Module | None, batch_size: int, run: Run) -> Iterator[Batch]:
        return (cast_batch(batch, self.dtype) for batch in self.of.batches_from(start, network, batch_size, run))

    def examples(self) -> Batch:
        return cast_batch(self.of.examples(), self.dtype)

    def moments(self) -> Any:
        return self.of.moments()


def cast(split: Split, dtype: torch.dtype) -> Split:
    """A split with its floating-point tensors in a type."""
    if type(split) is Examples:
        inputs, targets, weights = (_cast(t, dtype) for t in (split.inputs, split.targets, split.weights))
        return Examples(inputs, targets, weights, split.groups)
    return CastSplit(split, dtype)


def cast_batch(batch: Batch, dtype: torch.dtype) -> Batch:
    """A batch with its floating-point tensors in a type."""
    names = ("inputs", "targets", "weights")
    return attrs.evolve(batch, **{name: _cast(getattr(batch, name), dtype) for name in names})


def _cast(tensor: Any, dtype: torch.dtype) -> Any:
    return tensor.to(dtype) if isinstance(tensor, Tensor) and tensor.is_floating_point() else tensor


class Around:
    """One component among others, ready to be tried under any seed, in any type, on any device."""

    def __init__(
        self,
        component: Component,
        task: Data | Task | None = None,
        model: Model | None = None,
        optimizer: Optimizer | None = None,
        attack: Attack | None = None,
        norm: str | None = None,
    ):
        parts: dict[str, Any] = {
            "data": Given(task=task) if isinstance(task, Task) else task or Blobs(),
            "model": model or Line(),
            "optimizer": optimizer or Untouched(),
            "attack": attack,
        }
        parts[component.kind] = component
        self.component, self.norm = component, norm
        self.data, self.model, self.optimizer, self.attack = (
            parts[k] for k in ("data", "model", "optimizer", "attack")
        )
        self.depends_on_seed = not isinstance(self.data, Given)

    def session(self, device: str = "cpu") -> Session:
        """A new session; what it stores is forgotten at the end of the process."""
        return Session(Store(_folder()), device)

    def run(self, seed: int = 0, device: str = "cpu") -> Run:
        """A new run: all its streams stand at their start."""
        return Run(seed, self.session(device))

    def fit(self, dtype: Any = None) -> Fit:
        """The fit that the component is in, or that it measures or attacks."""
        data = self.data if dtype is None else Typed(data=self.data, dtype=dtype)
        return Fit(data=data, model=self.model, optimizer=self.optimizer, attack=self.attack)

    def task(self, seed: int = 0, dtype: Any = None) -> Task:
        """The task, drawn anew."""
        return self.fit(dtype).data.load(self.run(seed))

    def network(self, task: Task, seed: int = 0, device: str = "cpu") -> nn.Module:
        """A fresh network of the model."""
        run = self.run(seed, device)
        with run.global_seed("model"):
            made: nn.Module = self.model.build(task, run).to(device)
        return made

    def job(self, seed: int = 0, dtype: Any = None, device: str = "cpu") -> FitJob:
        """A fit that is ready to be computed."""
        fit, run = self.fit(dtype), self.run(seed, device)
        task = run.session.task(fit.data, run)
        with run.global_seed("model"):
            network = fit.model.build(task, run).to(device)
        attack = fit.training_attack
        return FitJob(fit.optimizer, network, task, attack.bind(task, run) if attack else None, run, fit)

    def snapshots(self, job: FitJob) -> list[Snapshot]:
        """All snapshots of a fit; the networks of the earlier ones have gone on since."""
        return list(job.optimizer.fit(job.network, job.task, job.attack, job.run))

    def fitted(self, seed: int = 0, dtype: Any = None, device: str = "cpu") -> Fitted:
        """The computed fit, as evaluators see it."""
        job = self.job(seed, dtype, device)
        last = self.snapshots(job)[-1]
        made = Fitted.of(self.fit(dtype), seed, job.run.session, last)
        made.run = job.run
        made.__dict__["task"] = job.task
        return made


CheckFunction = Callable[[Around], None]
_CONCERNS: dict[CheckFunction, Callable[[Around], bool]] = {}


def concerning(predicate: Callable[[Around], bool]) -> Callable[[CheckFunction], CheckFunction]:
    """Decorate a check that concerns only the components of which a predicate is true."""

    def mark(function: CheckFunction) -> CheckFunction:
        _CONCERNS[function] = predicate
        return function

    return mark


def concerns(function: CheckFunction, around: Around) -> bool:
    """Whether a check concerns a component."""
    predicate = _CONCERNS.get(function)
    return predicate is None or predicate(around)


def on_cuda(around: Around) -> bool:
    """Whether this machine has a GPU to try the component on."""
    return torch.cuda.is_available()


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="kempeframe-testing-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def some_batch(task: Task, network: nn.Module | None, run: Run, size: int = 8) -> Batch:
    """A few examples of the test split, or of whatever split has some, on the run's device."""
    for name in ("test", "validation", "train", *task.splits):
        if name not in task.splits:
            continue
        with contextlib.suppress(CannotGive):
            whole = task.split(name).examples()
            return on_device(take(whole, slice(0, size)), run.device)
        with contextlib.suppress(CannotGive):
            batch = next(iter(task.split(name).batches(network, size, run)), None)
            if batch is not None:
                return on_device(take(batch, slice(0, size)), run.device)
    raise AssertionError("no split of the task has examples: give another task")


def take(batch: Batch, rows: slice | Tensor) -> Batch:
    """Some rows of a batch."""
    parts: dict[str, Any] = {a.name: getattr(batch, a.name) for a in attrs.fields(Batch)}
    rows_of: dict[str, Any] = {name: None if part is None else part[rows] for name, part in parts.items()}
    return Batch(**rows_of)


def on_device(batch: Batch, device: str) -> Batch:
    """The batch with its tensors on a device."""
    parts: dict[str, Any] = {a.name: getattr(batch, a.name) for a in attrs.fields(Batch)}
    return Batch(**{name: part.to(device) if isinstance(part, Tensor) else part for name, part in parts.items()})


def outputs_of(network: nn.Module, inputs: Tensor) -> Tensor:
    """The network's outputs in evaluation mode, without a gradient."""
    with torch.no_grad():
        outputs: Tensor = network.eval()(inputs)
    return outputs


def same(first: Any, second: Any) -> bool:
    """Whether nested lists and tables of tensors and numbers are equal, bit by bit; nan equals nan."""
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and first.dtype == second.dtype and _equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second or (first != first and second != second))


def _equal(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and bool(torch.all((first == second) | ((first != first) & (second != second))))


def state(network: nn.Module) -> dict[str, Tensor]:
    """A copy of weights and buffers."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def close(first: Tensor, second: Tensor, what: str) -> None:
    """Equal but for rounding."""
    tolerance = 1e-4 if first.dtype == torch.float32 else 1e-8
    scale = max(1.0, float(second.abs().max())) if second.numel() else 1.0
    worst = float((first - second).abs().max()) if second.numel() else 0.0
    assert worst <= tolerance * scale, f"{what}: they differ by up to {worst:.3g}"


@contextlib.contextmanager
def global_randomness_left_alone() -> Iterator[None]:
    """Fails where the block draws from the generators that everybody shares, or seeds them."""
    before = torch.random.get_rng_state(), str(np.random.get_state())
    yield
    what = "use run.rng(kind, ...), run.generator(kind) or run.global_seed(kind)"
    assert torch.equal(before[0], torch.random.get_rng_state()), f"torch's global generator was used: {what}"
    assert before[1] == str(np.random.get_state()), f"NumPy's global generator was used: {what}"


def first_batches(split: Split, network: nn.Module | None, run: Run, count: int, size: int = 4) -> Sequence[Batch]:
    """The first batches of a pass."""
    found = []
    for batch in split.batches(network, size, run):
        found.append(batch)
        if len(found) == count:
            break
    return found
