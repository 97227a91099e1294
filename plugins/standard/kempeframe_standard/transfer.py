"""Attacks against another network than the one that is perturbed for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kempeframe import Attack
from kempeframe.runs import Run
from kempeframe.task import Batch
from kempeframe_standard.judging import Mistakes, Standing
from kempeframe_standard.perturbing import not_better, ready


class BoundTransfer(Attack):
    """An attack and the network that it looks at instead."""

    def __init__(self, attack: Attack, surrogate: nn.Module):
        self.attack, self.surrogate = attack, surrogate

    @property
    def size(self) -> float | None:
        return self.attack.size

    def perturb(self, network: nn.Module, batch: Batch, run: Run) -> Tensor:
        """Perturbed inputs, same shape and dtype; the clean ones where those are worse for the network."""
        # Its mode says whether the random numbers are new at every call; the search itself switches to evaluation.
        self.surrogate.train(network.training)
        points = self.attack.perturb(self.surrogate, batch, run)
        if network.training or batch.targets is None:
            return points
        with torch.inference_mode(False), torch.no_grad():
            unknown = Standing.unknown(len(points), points)
            return not_better(network, ready(batch, None), points, unknown, Mistakes())
