"""What every attack inside a ball goes through: checks before its search, ball and box after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor, nn

from kempeframe.runs import Run
from kempeframe.task import Batch
from kempeframe_standard.judging import DONE, MISSED, Aim, AimedBatch, Found, Standing, evaluating, take
from kempeframe_standard.regions import limits

if TYPE_CHECKING:
    from kempeframe_standard.attacks import BallAttack

Box = tuple[float, float]


def perturb(attack: BallAttack, box: Box | None, network: nn.Module, batch: Batch, run: Run) -> Tensor:
    """The attack's search, then exactly into ball and box.

    Raises:
        TypeError: the inputs are no floating-point numbers.
        ValueError: the inputs do not lie in the box, or the search changed their number or shape.
    """
    with torch.inference_mode(False), torch.no_grad():
        batch = ready(batch, box)
        if not batch.inputs.numel():
            return batch.inputs.clone()
        batch = attack.prepare(network, batch, run)
        region = attack.region(batch.inputs.flatten(1), box)
        found = attack.search(network, batch, region, run)
        if isinstance(found, Tensor):
            found = Found(found, Standing.unknown(len(found), region.centres))
        if found.points.shape != region.inputs.shape:
            wanted, got = list(region.inputs.shape), list(found.points.shape)
            raise ValueError(f"{type(attack).__name__}.search returned points of shape {got}, expected {wanted}")
        if isinstance(batch, AimedBatch) and batch.goals is not None and batch.targets is not None:
            found.replace(batch.goals == batch.targets, region.centres, Standing.unknown(1, region.centres))
        points = region.contain(found.points)
        moved = (points.to(region.dtype) != found.points).any(dim=1)
        found.replace(moved, points.to(region.dtype), Standing.unknown(1, region.centres))
        points = points.view_as(batch.inputs)
        return points if network.training else not_better(network, batch, points, found.standing, attack)


def not_better(network: nn.Module, batch: Batch, points: Tensor, standing: Standing, aim: Aim) -> Tensor:
    """The perturbed inputs; the clean ones where those are worse for the network.

    The network looks at perturbed inputs whose standing is unknown, and at clean ones where the perturbed are not done.
    """
    with evaluating(network):
        rows = (standing.broken < MISSED).nonzero()[:, 0]
        if len(rows):
            standing.put(rows, Standing.of(aim, network(points[rows]), take(batch, rows)))
        rows = (standing.broken < DONE).nonzero()[:, 0]
        if len(rows):
            doubtful = take(batch, rows)
            clean = Standing.of(aim, network(doubtful.inputs), doubtful)
            rows = rows[clean.beats(standing.take(rows))]
            points[rows] = batch.inputs[rows]
    return points


def ready(batch: Batch, box: Box | None) -> Batch:
    """The batch, checked, on the device of its inputs.

    Raises:
        TypeError, ValueError: as in `perturb`.
    """
    inputs = batch.inputs
    if not inputs.is_floating_point():
        raise TypeError(f"the inputs are {inputs.dtype}: an attack moves floating-point numbers")
    if box is not None and inputs.numel():
        low, high = limits(box, inputs.dtype)
        least, largest = (float(end) for end in torch.aminmax(inputs))
        if not (low <= least and largest <= high):
            reach = f"from {least:g} to {largest:g}, outside of the task's box [{box[0]:g}, {box[1]:g}]"
            raise ValueError(f"the inputs reach {reach}: normalise inside the network, not before the attack")
    parts = {a.name: getattr(batch, a.name) for a in attrs.fields(type(batch))}
    tensors = {name: _usable(part, inputs.device) for name, part in parts.items() if isinstance(part, Tensor)}
    return attrs.evolve(batch, **tensors)


def _usable(tensor: Tensor, device: torch.device) -> Tensor:
    tensor = tensor.detach().to(device)
    return tensor.clone() if tensor.is_inference() else tensor
