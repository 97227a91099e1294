"""What attacks leave alone and what they do not depend on: the network, the batch, the global random state."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
from kempeframe_standard.attacks import BallAttack, Fgsm, Noise, Pgd
from torch import Tensor, nn

from kempeframe import component
from kempeframe.runs import Run
from kempeframe.task import Batch, Task

NORMS = ["l_inf", "l_2", "l_1"]
RADII = {"l_inf": 0.15, "l_2": 0.6, "l_1": 1.5}
TASK = Task({}, (8,), (4,), classes=4, bounds=(0.0, 1.0))


def run_of(seed: int = 0) -> Run:
    return Run(seed, cast(Any, None))  # attacks ask a run for random numbers alone


def network(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), *(layers or [nn.Tanh()]), nn.Linear(16, 4)).double().eval()


def batch(n: int = 40) -> Batch:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(n, 8, generator=generator, dtype=torch.float64)
    return Batch(inputs, torch.randint(4, (n,), generator=generator), torch.arange(n))


def part(of: Batch, rows: Tensor) -> Batch:
    return Batch(of.inputs[rows], cast(Tensor, of.targets)[rows], cast(Tensor, of.index)[rows])


# ---- the batch -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("target", ["none", "random"])
def test_an_example_is_attacked_the_same_in_whatever_batch_it_comes(norm: Any, target: Any) -> None:
    model, of = network(), batch(60)
    attacks: list[BallAttack] = [
        Pgd(norm=norm, epsilon=RADII[norm], steps=10, restarts=3, target=target),
        Pgd(norm=norm, epsilon=RADII[norm], steps=10, early_stop=False, target=target),
        Noise(norm=norm, epsilon=RADII[norm]),
    ]
    for attack in attacks:
        bound = attack.bind(TASK, run_of())
        whole = bound.perturb(model, of, run_of())
        for rows in torch.randperm(60, generator=torch.Generator().manual_seed(1)).split([1, 7, 20, 32]):
            alone = bound.perturb(model, part(of, rows), run_of())
            torch.testing.assert_close(alone, whole[rows], rtol=0, atol=1e-9)
        assert not torch.equal(whole, bound.perturb(model, of, run_of(1)))


def test_a_batch_that_names_no_examples_counts_them() -> None:
    model, of = network(), batch()
    bound = Noise(epsilon=0.1).bind(TASK, run_of())
    unnamed = bound.perturb(model, Batch(of.inputs, of.targets), run_of())
    assert torch.equal(unnamed, bound.perturb(model, of, run_of()))


def test_training_draws_new_numbers_each_time_from_the_attacks_stream() -> None:
    model, of, run = network().train(), batch(), run_of()
    bound = Pgd(epsilon=0.1, steps=2).bind(TASK, run)
    first, second = bound.perturb(model, of, run), bound.perturb(model, of, run)
    assert not torch.equal(first, second)
    other = run_of()
    state = other.generator("attack").get_state()
    assert torch.equal(bound.perturb(model, of, other), first)
    other.generator("attack").set_state(state)
    assert torch.equal(bound.perturb(model, of, other), first)
    # Two processes that share a batch attack each example as one process does.
    halves = [bound.perturb(model, part(of, rows), run_of()) for rows in torch.arange(40).split(20)]
    torch.testing.assert_close(torch.cat(halves), first, rtol=0, atol=1e-9)


def test_training_gets_the_largest_loss_also_of_broken_examples() -> None:
    model, of = network(), batch()
    bound = Pgd(epsilon=0.2, random_start=False).bind(TASK, run_of())
    evaluated, trained = (bound.perturb(model.train(mode), of, run_of()) for mode in (False, True))
    losses = [nn.functional.cross_entropy(model(x), cast(Tensor, of.targets)) for x in (of.inputs, evaluated, trained)]
    assert losses[0] < losses[1] < losses[2] - 0.05


# ---- the network ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", [Fgsm(epsilon=0.1), Pgd(epsilon=0.1, steps=3), Noise(epsilon=0.1)])
def test_the_network_is_left_alone(attack: BallAttack) -> None:
    model = network(nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.5)).train()
    cast(nn.Module, model[1]).eval()  # a mode of its own
    cast(nn.Module, model[0]).requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes, of = [module.training for module in model.modules()], batch()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    attack.bind(TASK, run_of()).perturb(model, of, run_of())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == [False] * 2 + [True] * 4
    assert all(p.grad is None for p in model.parameters())


class Failing(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        raise RuntimeError("no")


def test_the_mode_is_put_back_also_after_an_error() -> None:
    model = nn.Sequential(nn.Dropout(), Failing()).train()
    with pytest.raises(RuntimeError, match="no"):
        Fgsm(epsilon=0.1).bind(TASK, run_of()).perturb(model, batch(), run_of())
    assert all(module.training for module in model.modules())


def test_gradients_may_be_switched_off_outside() -> None:
    model, of = network(), batch()
    bound = Pgd(epsilon=0.1, steps=3).bind(TASK, run_of())
    wanted = bound.perturb(model, of, run_of())
    with torch.no_grad():
        assert torch.equal(bound.perturb(model, of, run_of()), wanted)
    with torch.inference_mode():
        inputs = of.inputs.clone()
        found = bound.perturb(model, Batch(inputs, of.targets, of.index), run_of())
    assert torch.equal(found, wanted) and torch.is_grad_enabled()


class Strange(nn.Module):
    """Of eight inputs four outputs, with gradients that are nothing to go by."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind, self.scale = kind, nn.Parameter(torch.ones(()))

    def forward(self, inputs: Tensor) -> Tensor:
        pairs = inputs.unflatten(1, (4, 2)).sum(dim=2)
        return {
            "none": pairs.detach().round(),
            "of the weights alone": pairs.detach() * self.scale,
            "zero": (10 * pairs).round(),
            "infinite": (inputs[:, :4] - inputs[:, :4]).sqrt() + pairs,
            "huge": pairs * 1e300,
            "tiny": pairs * 1e-300,
        }[self.kind]


@pytest.mark.parametrize("kind", ["none", "of the weights alone", "zero", "infinite", "huge", "tiny"])
@pytest.mark.parametrize("norm", NORMS)
def test_bad_gradients_do_no_harm(kind: str, norm: Any) -> None:
    model, of = Strange(kind).eval(), batch()
    for attack in (Fgsm(norm=norm, epsilon=0.1), Pgd(norm=norm, epsilon=0.1, steps=3)):
        perturbed = attack.bind(TASK, run_of()).perturb(model, of, run_of())
        assert perturbed.isfinite().all() and perturbed.min() >= 0 and perturbed.max() <= 1
        if kind == "tiny" and isinstance(attack, Pgd):
            assert not torch.equal(perturbed, of.inputs)


@component
class Short(BallAttack):
    """Loses an example."""

    def search(self, network: nn.Module, batch: Batch, region: Any, run: Run) -> Tensor:
        return cast(Tensor, region.centres[1:])


def test_a_search_that_loses_examples_is_told() -> None:
    with pytest.raises(ValueError, match=r"Short.search returned points of shape \[39, 8\], expected \[40, 8\]"):
        Short(epsilon=0.1).bind(TASK, run_of()).perturb(network(), batch(), run_of())


def test_outputs_that_are_no_numbers_are_not_preferred() -> None:
    class Overflowing(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            outputs = inputs.unflatten(1, (4, 2)).sum(dim=2)
            return outputs.masked_fill(inputs[:, :1] > 0.9, math.nan)

    perturbed = Pgd(epsilon=0.05).bind(TASK, run_of()).perturb(Overflowing().eval(), batch(), run_of())
    assert perturbed.isfinite().all()
