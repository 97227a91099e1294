"""Other views of a posterior that attacks look at: its samples side by side, new samples at each look."""

from __future__ import annotations

import torch
from kempeframe_standard.attacks import BoundAttack
from torch import Tensor, nn

from kempeframe import component
from kempeframe.runs import Run
from kempeframe.task import Batch, CannotGive
from kempeframe_attacking_bayes.stacked import StackedNetwork, draw, stacked
from kempeframe_attacking_bayes.theory_predictive import (
    epistemic_uncertainty,
    log_mean_softmax,
    total_uncertainty,
)


class SideBySide(nn.Module):
    """Every sample's logits, (n, S, outputs), for attacks whose objective looks at single samples."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.stack = stacked(network)
        self.train(network.training)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.stack.logits_per_sample(inputs).transpose(0, 1)


@component
class BoundToSamples(BoundAttack):
    """A ball attack that is shown every sample's logits, (n, S, outputs); not for specs."""

    def perturb(self, network: nn.Module, batch: Batch, run: Run) -> Tensor:
        return super().perturb(SideBySide(network), batch, run)


def predictive(outputs: Tensor) -> Tensor:
    """log pbar (n, classes) from all samples' logits (n, S, classes)."""
    return log_mean_softmax(outputs.transpose(0, 1))


def refuse_constant(kind: str, samples: int) -> None:
    """Before an attack, so that it does not depend on whether an input gets as far as being asked for it.

    Raises:
        CannotGive: "epistemic", of one sample: it is 0 everywhere.
    """
    if kind == "epistemic" and samples == 1:
        raise CannotGive("epistemic uncertainty of a single network is 0 everywhere: there is nothing to attack")


def uncertainty(outputs: Tensor, kind: str) -> Tensor:
    """ "total" or "epistemic", (n,), from all samples' logits (n, S, classes).

    Raises:
        CannotGive: epistemic, of one sample: it is 0 everywhere.
    """
    refuse_constant(kind, outputs.shape[1])
    if kind == "total":
        return total_uncertainty(predictive(outputs))
    return epistemic_uncertainty(outputs.transpose(0, 1))


class Resampled(StackedNetwork):
    """K of a posterior's samples, others at each look (expectation over transformation)."""

    def __init__(self, network: StackedNetwork, count: int, generator: torch.Generator):
        super().__init__()
        self.network, self.count, self.generator, self.link = network, count, generator, network.link
        self.train(network.training)

    @property
    def samples_held(self) -> int:
        return min(self.count, self.network.samples_held)

    def logits_per_sample(self, inputs: Tensor) -> Tensor:
        index = draw(self.count, self.network.samples_held, self.generator)
        return self.network.subset(index).logits_per_sample(inputs)
