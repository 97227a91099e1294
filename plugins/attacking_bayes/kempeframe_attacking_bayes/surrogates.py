"""Attacks on other views of a network, kept within the limits and scored on the network itself."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import attrs
import torch
from kempeframe_standard.judging import Mistakes, Standing, evaluating
from kempeframe_standard.perturbing import not_better, ready
from kempeframe_standard.regions import rounded_towards
from torch import Tensor, nn

from kempeframe import Attack
from kempeframe.runs import Run
from kempeframe.task import Batch
from kempeframe_attacking_bayes.stacked import StackedNetwork, draw, stacked
from kempeframe_attacking_bayes.views import Resampled

if TYPE_CHECKING:
    from kempeframe_attacking_bayes.attacks import SurrogateAttack


class BoundSurrogate(Attack):
    """A surrogate attack that knows the box of its task."""

    def __init__(self, settings: SurrogateAttack, attack: Attack):
        self.settings, self.attack = settings, attack

    @property
    def size(self) -> float | None:
        return self.settings.size

    def perturb(self, network: nn.Module, batch: Batch, run: Run) -> Tensor:
        """Perturbed inputs, same shape and type: of each example the worst that was found against any view."""
        found = [self._against(view, batch, run) for view in self.settings.surrogates(stacked(network), run)]
        if batch.targets is None or network.training:
            return found[0]
        with torch.inference_mode(False), torch.no_grad():
            batch, aim = ready(batch, None), Mistakes()
            points, standing = found[0], Standing.unknown(len(found[0]), found[0])
            for others in found if len(found) > 1 else ():
                with evaluating(network):
                    new = Standing.of(aim, network(others), batch)
                better = new.beats(standing).nonzero()[:, 0]
                points = points.index_copy(0, better, others[better])
                standing.put(better, new.take(better))
            return not_better(network, batch, points.clone(), standing, aim)

    def _against(self, view: nn.Module, batch: Batch, run: Run) -> Tensor:
        kind = next(
            (tensor.dtype for tensor in (*view.parameters(), *view.buffers()) if tensor.is_floating_point()), None
        )
        if kind is None or kind == batch.inputs.dtype:
            return self.attack.perturb(view, batch, run)
        points = self.attack.perturb(view, attrs.evolve(batch, inputs=batch.inputs.to(kind)), run)
        return rounded_towards(batch.inputs, points, points - batch.inputs)


def some_samples(network: StackedNetwork, count: int, resample: bool, run: Run) -> StackedNetwork:
    """K samples; those of a run are the same at each call, so that batches are attacked on the same ones."""
    seed = int(run.rng("attack", "samples").integers(2**62))
    generator = torch.Generator().manual_seed(seed)
    if resample:
        return Resampled(network, count, generator)
    return network.subset(draw(count, network.samples_held, generator))


def doubled(network: StackedNetwork) -> StackedNetwork:
    """A copy in float64."""
    return copy.deepcopy(network).double()
