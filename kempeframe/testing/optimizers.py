"""What optimizers have to do: the same fit from the same seed, alone or in a stack, stored or interrupted."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from kempeframe.checkpoints import Checkpoints
from kempeframe.components import FitJob
from kempeframe.testing.surroundings import (
    Around,
    CheckFunction,
    close,
    concerning,
    global_randomness_left_alone,
    on_cuda,
    outputs_of,
    same,
    some_batch,
    state,
)
from kempeframe.trial import pack, restore


def snapshots_come_in_order(around: Around) -> None:
    """At least one snapshot, steps that do not fall, certificates of numbers."""
    steps = []
    job = around.job()
    for snapshot in job.optimizer.fit(job.network, job.task, job.attack, job.run):
        steps.append(snapshot.step)
        for name, value in snapshot.certificate.items():
            number = isinstance(value, (bool, int, float))
            assert number, f"certificate: {name} is a {type(value).__name__}, expected a number or true or false"
    assert steps, "the optimizer yielded no snapshot"
    assert steps == sorted(steps), f"the steps of the snapshots fall: {steps}"
    more = len(steps) > 1
    assert not more or job.optimizer.trajectory, "it yields several snapshots: say so by `trajectory = True`"


def same_seed_same_fit(around: Around) -> None:
    """Two fits of one seed have the same weights, but for what linear algebra rounds by where tensors lie in memory."""
    first, second = (state(around.fitted().network) for _ in range(2))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        other = second[name]
        rounding = 100 * torch.finfo(tensor.dtype).eps if tensor.is_floating_point() else 0.0
        right = same(tensor, other) or torch.allclose(tensor, other, rtol=rounding, atol=rounding, equal_nan=True)
        assert right, f"two fits of one seed differ in {name}"


@concerning(lambda around: around.depends_on_seed)
def other_seed_other_fit(around: Around) -> None:
    """Another seed, another fit."""
    first, second = (state(around.fitted(seed).network) for seed in (0, 1))
    assert not same(first, second), "two seeds give the same fit"


@concerning(lambda around: not around.optimizer.in_place)
def the_given_network_is_left_alone(around: Around) -> None:
    """The network it starts from is not changed; an optimizer that trains it says so by `in_place = True`."""
    job = around.job()
    before = state(job.network)
    around.snapshots(job)
    assert same(before, state(job.network)), "the given network was changed: say so by `in_place = True`"


def a_stored_fit_is_the_fit(around: Around) -> None:
    """What the store keeps of it, put into a new network, computes the same."""
    job = around.job()
    last = around.snapshots(job)[-1]
    stored = restore(around.fit(), 0, pack(last), around.session())
    batch = some_batch(job.task, last.network, around.run())
    torch.manual_seed(0)
    expected = outputs_of(last.network, batch.inputs)
    torch.manual_seed(0)
    close(outputs_of(stored.network, batch.inputs), expected, "outputs of a fit and of the stored one")
    assert stored.step == last.step


def a_stack_is_its_fits(around: Around) -> None:
    """Two seeds fitted together are, but for rounding, the two fitted one by one."""
    alone = [around.fitted(seed) for seed in (0, 1)]
    jobs = [around.job(seed) for seed in (0, 1)]
    last = dict(around.optimizer.fit_many(jobs))
    assert last.keys() == {0, 1}, f"fit_many gave fits {sorted(last)} of 0 and 1"
    for seed, fitted in enumerate(alone):
        batch = some_batch(jobs[seed].task, fitted.network, around.run(seed))
        stacked = outputs_of(last[seed].network, batch.inputs)
        close(stacked, outputs_of(fitted.network, batch.inputs), f"outputs of seed {seed} in a stack and alone")


class _Stop(Exception):
    """Ends a fit, as a kill would."""


class _Kept(Checkpoints):
    """Keeps every state; the second one ends the fit."""

    def __init__(self, stop: bool):
        self.stop, self.saved = stop, 0
        self.state: Mapping[str, Any] | None = None

    def due(self) -> bool:
        return True

    def save(self, state: Mapping[str, Any]) -> None:
        self.saved += 1
        self.state = copy.deepcopy(dict(state))
        if self.stop and self.saved == 2:
            raise _Stop

    def load(self) -> Mapping[str, Any] | None:
        return copy.deepcopy(self.state) if self.state is not None else None


def goes_on_where_it_stopped(around: Around) -> None:
    """A fit that keeps its state and is interrupted goes on from there to the fit that it would have been."""
    kept = _Kept(stop=True)
    job = around.job()
    job.run.checkpoints = kept
    try:
        around.snapshots(job)
    except _Stop:
        kept.stop = False
    if kept.stop:  # it keeps no state, or too short a fit for one
        return
    again = around.job()
    again.run.checkpoints = kept
    resumed = around.snapshots(again)[-1]
    whole = around.fitted()
    assert resumed.step == whole.step, f"it ended at step {resumed.step}, without an interruption at {whole.step}"
    assert same(state(resumed.network), state(whole.network)), "a fit that was interrupted ends elsewhere"


def global_generators_are_left_alone(around: Around) -> None:
    """It draws from the run's streams."""
    job = around.job()
    with global_randomness_left_alone():
        around.snapshots(job)


def _works(around: Around, dtype: str | None, device: str) -> None:
    job: FitJob = around.job(dtype=dtype, device=device)
    last = around.snapshots(job)[-1]
    for name, tensor in last.network.state_dict().items():
        assert not tensor.is_floating_point() or bool(tensor.isfinite().all()), f"{name} is not finite"
    batch = some_batch(job.task, last.network, around.run(device=device))
    assert bool(outputs_of(last.network, batch.inputs).isfinite().all()), "some outputs are not finite"


def works_in_float32(around: Around) -> None:
    """The fit is finite."""
    _works(around, "float32", "cpu")


def works_in_float64(around: Around) -> None:
    """The fit is finite."""
    _works(around, "float64", "cpu")


@concerning(on_cuda)
def works_on_cuda(around: Around) -> None:
    """The same on a GPU."""
    _works(around, None, "cuda")


CHECKS: list[CheckFunction] = [
    snapshots_come_in_order,
    same_seed_same_fit,
    other_seed_other_fit,
    the_given_network_is_left_alone,
    a_stored_fit_is_the_fit,
    a_stack_is_its_fits,
    goes_on_where_it_stopped,
    global_generators_are_left_alone,
    works_in_float32,
    works_in_float64,
    works_on_cuda,
]
