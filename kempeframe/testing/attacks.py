"""What attacks have to do: stay within ball and box, and leave everything else as it is."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from kempeframe.components import Attack
from kempeframe.task import Batch
from kempeframe.testing.surroundings import (
    Around,
    CheckFunction,
    concerning,
    global_randomness_left_alone,
    on_cuda,
    on_device,
    same,
    some_batch,
    state,
    take,
)

DUAL = {"l_1": "l_inf", "l_2": "l_2", "l_inf": "l_1"}


def _can_be_zero(around: Around) -> bool:
    try:
        attrs.evolve(around.attack, epsilon=0.0)
    except (TypeError, ValueError):
        return False
    return True


@attrs.define
class Scene:
    """An attack bound to a task, a network, and a batch."""

    attack: Attack
    network: Any
    batch: Batch
    bounds: tuple[float, float] | None
    around: Around
    device: str = "cpu"

    @classmethod
    def of(cls, around: Around, dtype: str | None = None, device: str = "cpu", attack: Attack | None = None) -> Scene:
        fitted = around.fitted(dtype=dtype, device=device)
        run = around.run(device=device)
        batch = on_device(some_batch(fitted.task, fitted.network, run, size=12), device)
        given = attack or around.attack
        assert given is not None
        return cls(given.bind(fitted.task, run), fitted.network.eval(), batch, fitted.task.bounds, around, device)

    def perturbed(self, batch: Batch | None = None, seed: int = 0) -> Tensor:
        """The batch's perturbed inputs."""
        return self.attack.perturb(self.network, batch or self.batch, self.around.run(seed, self.device))


def _norm_of(attack: Attack, around: Around) -> str | None:
    given = around.norm or getattr(attack, "norm", None)
    return given or (DUAL.get(attack.dual_norm) if attack.dual_norm else None)


def _has_a_ball(around: Around) -> bool:
    bound = Scene.of(around).attack
    return _norm_of(bound, around) is not None and bound.size is not None


def _distance(perturbed: Tensor, clean: Tensor, norm: str) -> float:
    moved = (perturbed.double() - clean.double()).flatten(1)
    order = {"l_1": 1.0, "l_2": 2.0, "l_inf": float("inf")}[norm]
    return float(torch.linalg.vector_norm(moved, ord=order, dim=1).max())


def _in_ball(scene: Scene) -> None:
    norm, size, found = _norm_of(scene.attack, scene.around), scene.attack.size, scene.perturbed()
    if norm is None or size is None:
        return
    distance = _distance(found, scene.batch.inputs, norm)
    rounding = 4 * float(torch.finfo(scene.batch.inputs.dtype).eps) * max(1.0, float(scene.batch.inputs.abs().max()))
    dimensions = scene.batch.inputs[0].numel() if norm == "l_1" else scene.batch.inputs[0].numel() ** 0.5
    allowed = size + rounding * (1.0 if norm == "l_inf" else dimensions)
    assert distance <= allowed, f"an input was moved by {distance:.9g} in {norm}; the ball's radius is {size:g}"


@concerning(_has_a_ball)
def stays_in_the_ball(around: Around) -> None:
    """No input is moved farther than the attack's size in its norm."""
    _in_ball(Scene.of(around))


@concerning(lambda around: around.task().bounds is not None)
def stays_in_the_box(around: Around) -> None:
    """Where the task has bounds, no perturbed input leaves them."""
    scene = Scene.of(around)
    assert scene.bounds is not None
    low, high = scene.bounds
    found = scene.perturbed()
    least, most = float(found.min()), float(found.max())
    assert low <= least and most <= high, f"perturbed inputs from {least:g} to {most:g}, bounds are {scene.bounds}"


def shape_and_type_are_kept(around: Around) -> None:
    """Perturbed inputs look like the clean ones, are finite, and carry no gradient."""
    scene = Scene.of(around)
    found = scene.perturbed()
    clean = scene.batch.inputs
    assert found.shape == clean.shape and found.dtype == clean.dtype, f"{found.dtype} {tuple(found.shape)}"
    assert bool(found.isfinite().all()), "some perturbed inputs are not finite"
    assert not found.requires_grad, "perturbed inputs carry a gradient: detach them"


def network_and_batch_are_left_alone(around: Around) -> None:
    """Weights, gradients, the training mode and the clean inputs are what they were."""
    scene = Scene.of(around)
    before, clean = state(scene.network), scene.batch.inputs.clone()
    needed = [p.requires_grad for p in scene.network.parameters()]
    scene.perturbed()
    assert same(before, state(scene.network)), "the network was changed"
    assert all(p.grad is None for p in scene.network.parameters()), "gradients were left in the network"
    assert needed == [p.requires_grad for p in scene.network.parameters()], "requires_grad was changed"
    assert not scene.network.training, "the network was put in training mode"
    assert torch.equal(clean, scene.batch.inputs), "the clean inputs were changed in place"


def same_seed_same_perturbation(around: Around) -> None:
    """Called twice under one seed, it gives the same."""
    scene = Scene.of(around)
    assert same(scene.perturbed(), scene.perturbed()), "two calls under one seed differ"


def the_batch_does_not_matter(around: Around) -> None:
    """An example is perturbed the same in whatever batch it comes: batch size and processes change nothing."""
    scene = Scene.of(around, dtype="float64")
    n = len(scene.batch.inputs)
    whole = scene.perturbed()
    batch = scene.batch if scene.batch.index is not None else attrs.evolve(scene.batch, index=torch.arange(n))
    parts = torch.cat([scene.perturbed(take(batch, slice(at, at + 5))) for at in range(0, n, 5)])
    apart = float((whole - parts).abs().max())
    assert apart <= 1e-6, f"batches of 5 and of {n} differ by {apart:.3g}: draw for each example by its index"


@concerning(_can_be_zero)
def size_zero_changes_nothing(around: Around) -> None:
    """With epsilon = 0 inputs stay what they are."""
    assert around.attack is not None
    none: Any = attrs.evolve(around.attack, epsilon=0.0)
    scene = Scene.of(around, attack=none)
    assert torch.equal(scene.perturbed(), scene.batch.inputs), "with epsilon = 0 inputs were changed"


def global_generators_are_left_alone(around: Around) -> None:
    """It draws from the run's streams."""
    scene = Scene.of(around)
    with global_randomness_left_alone():
        scene.perturbed()


def works_in_float32(around: Around) -> None:
    """In the ball also there."""
    _in_ball(Scene.of(around, dtype="float32"))


def works_in_float64(around: Around) -> None:
    """In the ball also there."""
    _in_ball(Scene.of(around, dtype="float64"))


@concerning(on_cuda)
def works_on_cuda(around: Around) -> None:
    """The same on a GPU."""
    _in_ball(Scene.of(around, device="cuda"))


CHECKS: list[CheckFunction] = [
    stays_in_the_ball,
    stays_in_the_box,
    shape_and_type_are_kept,
    network_and_batch_are_left_alone,
    same_seed_same_perturbation,
    the_batch_does_not_matter,
    size_zero_changes_nothing,
    global_generators_are_left_alone,
    works_in_float32,
    works_in_float64,
    works_on_cuda,
]
