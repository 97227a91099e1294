"""Projected steepest ascent from several starts: each example keeps the worst that was found from any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from kempeframe.runs import Run
from kempeframe.task import Batch
from kempeframe_standard.ascent import Course, ascend
from kempeframe_standard.draws import Draws
from kempeframe_standard.judging import DONE, Found, take
from kempeframe_standard.regions import Region

if TYPE_CHECKING:
    from kempeframe_standard.attacks import Pgd

FIRST_STREAM = 1  # of random starts; 0 is that of random goals


def climb_from_all_starts(attack: Pgd, network: nn.Module, batch: Batch, region: Region, run: Run) -> Found:
    """The worst points. With early stopping a restart is for those alone that are not broken yet."""
    early_stop = attack.early_stop and not network.training
    size = attack.step_size if attack.step_size is not None else 2.5 * region.epsilon / attack.steps
    course = Course(steps=attack.steps, step_size=size, keep_best=attack.keep_best, early_stop=early_stop)
    draws = Draws.of(network, batch, run) if attack.random_start else None
    found = ascend(network, batch, region, attack, _start(region, draws, 0), course)
    for restart in range(1, attack.restarts):
        worst = DONE - 1 if early_stop else DONE
        rows = (found.standing.broken <= worst).nonzero()[:, 0]
        if not len(rows) or draws is None:
            break
        part = region.keep(rows)
        again = ascend(network, take(batch, rows), part, attack, _start(part, draws.keep(rows), restart), course)
        before = found.take(rows)
        before.improve(again.points, again.standing, frozen=False)
        found.put(rows, before)
    return found


def _start(region: Region, draws: Draws | None, restart: int) -> Tensor:
    return region.centres if draws is None else region.uniform(draws, FIRST_STREAM + restart)
