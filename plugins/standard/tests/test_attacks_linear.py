"""The closed form on linear networks: against corners, against long PGD, against the dual norm."""

from __future__ import annotations

import itertools
from typing import Any, cast

import pytest
import torch
from kempeframe_standard.attacks import DUAL, Fgsm, LinearAttack, Pgd
from kempeframe_standard.networks import Readout, ReluFeatures
from torch import Tensor, nn

from kempeframe.runs import Run
from kempeframe.task import Batch, CannotGive, Task

NORMS = ["l_inf", "l_2", "l_1"]
RADII = {"l_inf": 0.3, "l_2": 0.5, "l_1": 0.8}
BOXES: list[tuple[float, float] | None] = [None, (0.0, 1.0)]


def run_of() -> Run:
    return Run(0, cast(Any, None))  # attacks ask a run for random numbers alone


def linear(outputs: int, inputs: int = 6) -> Readout:
    model = Readout(inputs, outputs, torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.randn(inputs, outputs, generator=torch.Generator().manual_seed(outputs)))
    return model.eval()


def batch(outputs: int, n: int = 50, inputs: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, inputs, generator=generator, dtype=torch.float64)
    return Batch(x, torch.randint(max(2, outputs), (n,), generator=generator), torch.arange(n))


def margins(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """(n,), by definition: what an attacker wants large."""
    with torch.no_grad():
        outputs = model(inputs)
    if outputs.shape[1] == 1:
        return (1 - 2 * targets) * outputs[:, 0]
    rows = []
    for output, target in zip(outputs, targets, strict=True):
        rows.append(max(output[j] for j in range(len(output)) if j != target) - output[target])
    return torch.stack(rows)


def attacked(attack: Any, model: nn.Module, of: Batch, box: tuple[float, float] | None) -> Tensor:
    task = Task({}, (6,), (3,), classes=3, bounds=box)
    return cast(Tensor, attack.bind(task, run_of()).perturb(model, of, run_of()))


@pytest.mark.parametrize("outputs", [1, 2, 4])
@pytest.mark.parametrize("box", BOXES)
def test_no_corner_is_worse(outputs: int, box: tuple[float, float] | None) -> None:
    model, of = linear(outputs), batch(outputs)
    targets = cast(Tensor, of.targets)
    found = margins(model, attacked(LinearAttack(epsilon=0.3), model, of, box), targets)
    corners = torch.tensor(list(itertools.product((-0.3, 0.3), repeat=6)), dtype=torch.float64)
    points = of.inputs[:, None] + corners
    points = points if box is None else points.clamp(*box)
    wanted = torch.stack([margins(model, points[:, c], targets) for c in range(len(corners))]).amax(dim=0)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("outputs", [1, 2, 4])
@pytest.mark.parametrize("box", BOXES)
def test_long_pgd_comes_to_it_and_not_beyond(norm: Any, outputs: int, box: tuple[float, float] | None) -> None:
    model, of = linear(outputs), batch(outputs)
    targets, ball = cast(Tensor, of.targets), {"norm": norm, "epsilon": RADII[norm]}
    exact = margins(model, attacked(LinearAttack(**ball), model, of, box), targets)
    pgd = Pgd(steps=150, loss="margin", restarts=4, early_stop=False, **ball)
    searched = margins(model, attacked(pgd, model, of, box), targets)
    assert (searched <= exact + 1e-9).all()
    # With several wrong classes an ascent may end at another one's maximum.
    gaps = (exact - searched) / exact.abs().max()
    assert gaps.median() < 0.01 and (outputs > 2 or gaps.max() < 0.02)


@pytest.mark.parametrize("norm", NORMS)
def test_a_margin_falls_by_the_dual_norm_of_the_weights(norm: Any) -> None:
    order = {"l_inf": torch.inf, "l_2": 2, "l_1": 1}
    attack, model, of = LinearAttack(norm=norm, epsilon=RADII[norm]), linear(1), batch(1)
    targets = cast(Tensor, of.targets)
    lowered = margins(model, of.inputs, targets) + RADII[norm] * model.weight.detach().norm(p=order[DUAL[norm]])
    torch.testing.assert_close(margins(model, attacked(attack, model, of, None), targets), lowered)
    # One steepest step of the whole radius is exact too, without a box.
    fgsm = attacked(Fgsm(norm=norm, epsilon=RADII[norm]), model, of, None)
    torch.testing.assert_close(margins(model, fgsm, targets), lowered)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("box", BOXES)
def test_the_largest_error_of_a_regression(norm: Any, box: tuple[float, float] | None) -> None:
    model, of = linear(1), batch(1)
    of.targets = torch.randn(50, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    ball = {"norm": norm, "epsilon": RADII[norm]}
    with torch.no_grad():
        exact, searched = (
            (model(attacked(attack, model, of, box)) - of.targets).abs()
            for attack in (LinearAttack(**ball), Pgd(steps=200, restarts=6, **ball))
        )
    assert (searched <= exact + 1e-9).all() and (exact - searched).max() < 0.02


def test_what_has_no_closed_form_is_refused() -> None:
    of = batch(2)
    of.targets = torch.randn(50, 2, dtype=torch.float64)
    with pytest.raises(CannotGive, match="squared error of 2 outputs"):
        attacked(LinearAttack(epsilon=0.1), linear(2), of, None)
    relu = ReluFeatures(torch.randn(6, 7).numpy(), torch.zeros(7).numpy(), 2, torch.float64)
    with pytest.raises(CannotGive, match="not linear in its inputs"):
        attacked(LinearAttack(epsilon=0.1), relu, batch(2), None)
