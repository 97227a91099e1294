"""One experiment: data -> model -> optimizer (against an attack) -> evaluators."""

from __future__ import annotations

import contextlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import attrs

from kempeframe.checkpoints import Checkpoints, StoredCheckpoints
from kempeframe.components import Attack, Data, Evaluator, Fit, FitJob, Model, Optimizer
from kempeframe.digest import join
from kempeframe.runs import Run, stream_seed
from kempeframe.store import Store

if TYPE_CHECKING:
    from torch import nn

    from kempeframe.sweep import Configuration
    from kempeframe.task import Snapshot, Task


PATIENCE = 60.0  # seconds to wait for another process that computes a nested fit; then it is computed here too


class Session:
    """What a process needs to compute trials: the store, the device, and the tasks in use."""

    TASKS = 64  # tasks kept at most: fits that differ only in the optimizer share theirs
    TASK_BYTES = 1 << 30  # of their drawn examples

    def __init__(self, store: Store, device: str = "cpu"):
        self.store = store
        self.device = device
        self.tasks: OrderedDict[str, Task] = OrderedDict()
        self.collective = False  # whether the fit at hand is computed by all processes together
        self.report: Callable[[int, Mapping[str, float]], None] = lambda step, metrics: None

    def run_of(self, fit: Fit, trial_seed: int) -> Run:
        """The run of a fit inside the trial with this seed."""
        if fit.seed is not None:
            return Run(fit.seed, self)
        root = Run(trial_seed, self)
        return root if not fit.stream else Run(stream_seed(trial_seed, "fit", fit.stream), self, root)

    def run_of_seed(self, trial_seed: int) -> Run:
        """The run of a trial that has no fit."""
        return Run(trial_seed, self)

    def run_of_components(self) -> Run:
        """For theory, which draws nothing: a run that is the same for every trial."""
        return Run(0, self)

    def task(self, data: Data, run: Run) -> Task:
        """The task of a data component under a run's seed; its splits are not drawn yet."""
        key = join(data.digest, run.seed, run.root.seed)
        if key not in self.tasks:
            self.tasks[key] = data.load(run)
            while len(self.tasks) > self.TASKS or (len(self.tasks) > 1 and self._task_bytes() > self.TASK_BYTES):
                self.tasks.popitem(last=False)
        return self.tasks[key]

    def _task_bytes(self) -> int:
        return sum(task.nbytes for task in self.tasks.values())

    def fitted(self, fit: Fit, root: Run) -> Fitted:
        """A nested fit: from the store, or computed and stored.

        A study computes nested fits before those that hold them; this is for one that was lost since, and for fits
        outside a study.
        """
        key = fit_key(fit, root.seed)
        lock, deadline = None, time.monotonic() + PATIENCE
        while (stored := self.store.fits.get(key)) is None and lock is None and time.monotonic() < deadline:
            lock = self.store.locks.acquire([key])
            if lock is None:
                time.sleep(0.1)
            self.store.fits.refresh()
        with lock or contextlib.nullcontext():
            if stored is not None:
                return restore(fit, root.seed, stored, self)
            checkpoints = StoredCheckpoints(self.store.checkpoints, join("checkpoint", key))
            for _, snapshot in fit_stack([(fit, root.seed)], self, checkpoints):
                last = snapshot
            self.store.fits.put(key, pack(last))
            checkpoints.discard()
            return Fitted.of(fit, root.seed, self, last)


@attrs.define(eq=False, slots=False, kw_only=True)
class Fitted:
    """What an evaluator looks at: the components, the task, and the network of one snapshot.

    For evaluators that need the components alone there is neither task nor network.
    """

    data: Data
    model: Model | None = None
    optimizer: Optimizer | None = None
    attack: Attack | None = None
    run: Run | None = None
    step: int = 0
    certificate: Mapping[str, Any] = attrs.field(factory=dict)
    given_network: nn.Module | None = None
    packed: bytes | None = None
    history: Sequence[tuple[int, Mapping[str, Any]]] = ()  # for needs = "trajectory": (step, what was measured there)

    @classmethod
    def of(cls, fit: Fit, trial_seed: int, session: Session, snapshot: Snapshot) -> Fitted:
        """The fit as it stands at a snapshot."""
        return cls(
            data=fit.data,
            model=fit.model,
            optimizer=fit.optimizer,
            attack=fit.attack,
            run=session.run_of(fit, trial_seed),
            step=snapshot.step,
            certificate=snapshot.certificate,
            given_network=snapshot.network,
        )

    @classmethod
    def unfitted(cls, configuration: Configuration, run: Run | None = None) -> Fitted:
        """The components alone, for theory; with a run also the drawn task."""
        assert configuration.data is not None
        return cls(
            data=configuration.data,
            model=configuration.model,
            optimizer=configuration.optimizer,
            attack=configuration.attack,
            run=run,
        )

    @classmethod
    def in_training(cls, job: FitJob, network: nn.Module, step: int) -> Fitted:
        """A fit that is under way, for an evaluator that looks at it on the way."""
        if job.fit is None:
            raise LookupError("this fit is not one of a study: it has no components to look at")
        fit = job.fit
        made = cls(
            data=fit.data,
            model=fit.model,
            optimizer=fit.optimizer,
            attack=fit.attack,
            run=job.run,
            step=step,
            given_network=network,
        )
        made.__dict__["task"] = job.task
        return made

    @cached_property
    def task(self) -> Task:
        """The task that the fit was trained on."""
        if self.run is None:
            raise LookupError('an evaluator with needs = "components" has no task')
        return self.run.session.task(self.data, self.run)

    @cached_property
    def network(self) -> nn.Module:
        """The fitted network; a stored one is built again and given its weights."""
        if self.given_network is not None:
            return self.given_network
        if self.packed is None or self.model is None or self.optimizer is None or self.run is None:
            raise LookupError('only an evaluator with needs = "network" has a network')
        from safetensors.torch import load

        with self.run.global_seed("model"):
            network = self.model.build(self.task, self.run)
        return self.optimizer.restore(network, load(self.packed)).eval()  # as an optimizer leaves it


def fit_key(fit: Fit, trial_seed: int) -> str:
    """What a fit is stored under; a fit of fixed seed is the same for all trial seeds."""
    return join("fit", fit.digest, trial_seed if fit.seed is None else fit.seed)


def fit_stack(
    members: Sequence[tuple[Fit, int]], session: Session, checkpoints: Checkpoints
) -> Iterator[tuple[int, Snapshot]]:
    """Fit (fit, trial seed) pairs whose optimizer takes them as one stack; yields (index, snapshot)."""
    jobs = []
    for fit, trial_seed in members:
        run = session.run_of(fit, trial_seed)
        run.checkpoints = checkpoints
        task = session.task(fit.data, run)
        with run.global_seed("model"):
            network = fit.model.build(task, run).to(run.device)
        attack = fit.training_attack
        jobs.append(FitJob(fit.optimizer, network, task, attack.bind(task, run) if attack else None, run, fit))
    start = time.perf_counter()
    for index, snapshot in jobs[0].optimizer.fit_many(jobs):
        seconds = (time.perf_counter() - start) / len(jobs)
        snapshot.certificate = {"fit_seconds": seconds, **snapshot.certificate}
        yield index, snapshot


def pack(snapshot: Snapshot) -> bytes:
    """A snapshot as stored: weights and buffers as safetensors, step and certificate as its metadata."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in snapshot.network.state_dict().items()}
    certificate = {k: v if isinstance(v, bool) else float(v) for k, v in snapshot.certificate.items()}
    return bytes(save(tensors, {"step": str(snapshot.step), "certificate": json.dumps(certificate)}))


def restore(fit: Fit, trial_seed: int, packed: bytes, session: Session) -> Fitted:
    """A stored fit; the network is built when it is asked for."""
    size = int.from_bytes(packed[:8], "little")
    metadata = json.loads(packed[8 : 8 + size])["__metadata__"]
    return Fitted(
        data=fit.data,
        model=fit.model,
        optimizer=fit.optimizer,
        attack=fit.attack,
        run=session.run_of(fit, trial_seed),
        step=int(metadata["step"]),
        certificate=json.loads(metadata["certificate"]),
        packed=packed,
    )


Metric = float | bool | list[float]


def checked_metrics(evaluator: Evaluator, metrics: Mapping[str, Any]) -> dict[str, Metric]:
    """What an evaluator returned, as plain numbers, or lists of numbers (the points of a curve).

    Raises:
        TypeError: a metric is no number and no list of numbers, or is not among the declared columns.
    """
    declared = evaluator.columns()
    plain: dict[str, Metric] = {}
    who = f"{type(evaluator).__name__}.evaluate"
    for name, given in metrics.items():
        if name not in declared:
            raise TypeError(f"{who} returned {name!r}, which columns() does not declare")
        value = given.tolist() if hasattr(given, "tolist") else given
        if isinstance(value, (list, tuple)) and all(isinstance(v, (bool, int, float)) for v in value):
            plain[name] = [float(v) for v in value]
        elif isinstance(value, (bool, int, float)):
            plain[name] = value if isinstance(value, bool) else float(value)
        else:
            raise TypeError(f"{who}: {name} is a {type(value).__name__}, expected a number or a list of numbers")
    missing = declared.keys() - plain.keys()
    if missing:
        raise TypeError(f"{who} did not return {', '.join(sorted(missing))}")
    return plain
