"""The searches of attacks on uncertainty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kempeframe_standard.ascent import Course, ascend
from kempeframe_standard.attacks import Pgd
from kempeframe_standard.draws import Draws
from kempeframe_standard.judging import BROKEN, Found, Standing, take
from kempeframe_standard.regions import Region
from kempeframe_standard.restarts import FIRST_STREAM, climb_from_all_starts
from torch import Tensor, nn

from kempeframe.runs import Run
from kempeframe.task import Batch
from kempeframe_attacking_bayes.views import SideBySide, refuse_constant

if TYPE_CHECKING:
    from kempeframe_attacking_bayes.attacks import PgdPlus, UncertaintyAttack


def break_then_lower(attack: PgdPlus, network: nn.Module, batch: Batch, region: Region, run: Run) -> Found:
    """Stage 1 on the mean predictive, stage 2 on the uncertainty of what it broke."""
    assert isinstance(network, SideBySide)
    refuse_constant(attack.uncertainty, network.stack.samples_held)
    names = ("norm", "epsilon", "steps", "step_size", "random_start")
    first = Pgd(**{name: getattr(attack, name) for name in names}, loss="margin", early_stop=False)
    found = climb_from_all_starts(first, network.stack, batch, region, run)
    rows = (found.standing.broken >= BROKEN).nonzero()[:, 0]
    found = Found(found.points, Standing.unknown(len(found.points), found.points))  # by stage 2's measure
    if len(rows):
        course = _course(attack.step_size, attack.uncertainty_steps, region)
        start = found.points[rows]
        found.put(rows, ascend(network, take(batch, rows), region.keep(rows), attack, start, course))
    return found


def climb(attack: UncertaintyAttack, network: nn.Module, batch: Batch, region: Region, run: Run) -> Found:
    """Steepest steps along the gradient of the uncertainty."""
    start = _start(attack.random_start, network, batch, region, run)
    return ascend(network, batch, region, attack, start, _course(attack.step_size, attack.steps, region))


def _course(step_size: float | None, steps: int, region: Region) -> Course:
    size = step_size if step_size is not None else 2.5 * region.epsilon / steps
    return Course(steps=steps, step_size=size, keep_best=True, early_stop=False)


def _start(random: bool, network: nn.Module, batch: Batch, region: Region, run: Run) -> Tensor:
    return region.uniform(Draws.of(network, batch, run), FIRST_STREAM) if random else region.centres
