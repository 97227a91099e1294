"""The worst inputs of a linear network, in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from kempeframe.task import Batch, CannotGive
from kempeframe_standard.judging import evaluating, targets_of
from kempeframe_standard.regions import Region
from kempeframe_standard.training.losses import signs


@runtime_checkable
class LinearNetwork(Protocol):
    """A network that is a linear function of its flattened inputs, plus a constant."""

    def effective_weight(self) -> Tensor:
        """(inputs, outputs); raises CannotGive where the network is not linear."""


def worst_points(network: nn.Module, batch: Batch, region: Region) -> Tensor:
    """The points of the region at which the margin is smallest, or the error of a single output largest; (n, d).

    Each is the best of a few linear problems over the region: one for each wrong class, with direction w_j - w_t and
    value f_j - f_t; with one output the direction -y w; in regression both directions w and -w.

    Raises:
        CannotGive: the network is not linear, or a regression has several outputs (a quadratic maximum).
    """
    if not isinstance(network, LinearNetwork):
        raise CannotGive(f"a closed form needs a linear network; {type(network).__name__} has no effective_weight()")
    with evaluating(network):
        outputs = network(batch.inputs).to(region.dtype)
    weight = network.effective_weight().detach().to(region.dtype)
    worst, points = outputs.new_full((len(outputs),), -torch.inf), region.centres
    for directions, values in _problems(weight, outputs, targets_of(batch)):
        there = region.best(directions)
        gains = values + (directions * (there - region.centres)).sum(dim=1)
        better = gains > worst
        worst, points = torch.where(better, gains, worst), torch.where(better[:, None], there, points)
    return points


def _problems(weight: Tensor, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Directions (n, d) and the values (n,) that are without a shift; the largest of value plus gain is the worst."""
    if targets.is_floating_point():
        if outputs.shape[1] > 1:
            raise CannotGive(f"the largest squared error of {outputs.shape[1]} outputs at once has no closed form")
        residuals = (outputs - targets.reshape(outputs.shape)).to(weight)[:, 0]
        for sign in (1.0, -1.0):
            yield (sign * weight.mT).expand(len(outputs), -1), sign * residuals
    elif outputs.shape[1] == 1:
        classes = signs(outputs, targets)
        yield -classes[:, None] * weight.mT, -classes * outputs[:, 0]
    else:
        right, right_weight = outputs.gather(1, targets[:, None])[:, 0], weight.mT[targets]
        for rival in range(outputs.shape[1]):
            values = torch.where(targets == rival, -torch.inf, outputs[:, rival] - right)
            yield weight[:, rival] - right_weight, values
