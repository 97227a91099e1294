"""Attacks keep to their threat model, never help, depend on nothing but the example, and leave the network alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kempeframe_standard.attacks import BallAttack, Fgsm, GradientAttack, LinearAttack, Noise, Pgd, Transfer
from kempeframe_standard.data import Digits
from kempeframe_standard.judging import DONE, misclassified
from kempeframe_standard.models import Linear
from kempeframe_standard.optimizers import Ridge
from kempeframe_standard.training.losses import correct
from torch import Tensor, nn

from kempeframe import Attack, Fit, component
from kempeframe.runs import Run
from kempeframe.task import Batch, CannotGive, Task

NORMS = ["l_inf", "l_2", "l_1"]
RADII = {"l_inf": 0.15, "l_2": 0.6, "l_1": 1.5}


def run_of(seed: int = 0) -> Run:
    return Run(seed, cast(Any, None))  # attacks ask a run for random numbers alone


def network(inputs: int = 8, outputs: int = 4, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
    """A small one, confident enough to be right on most of what `batch` draws."""
    torch.manual_seed(seed)
    layers = [nn.Flatten(), nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, outputs)]
    model = nn.Sequential(*layers).to(torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.to(dtype).eval()


def batch(
    model: nn.Module, n: int = 40, shape: tuple[int, ...] = (8,), dtype: torch.dtype = torch.float64, seed: int = 0
) -> Batch:
    """Inputs in [0, 1], and the network's own classes but for one in five."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.rand(n, *shape, generator=generator, dtype=torch.float64).to(dtype)
    with torch.no_grad():
        outputs = model(inputs)
    classes = max(2, outputs.shape[1])
    guesses = outputs.argmax(dim=1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).long()
    wrong = torch.rand(n, generator=generator) < 0.2
    return Batch(inputs, torch.where(wrong, (guesses + 1) % classes, guesses), torch.arange(n) + 100)


def bound(attack: Attack, box: tuple[float, float] | None = (0.0, 1.0)) -> Attack:
    return attack.bind(Task({}, (8,), (4,), classes=4, bounds=box), run_of())


def attacked(attack: Attack, model: nn.Module, of: Batch, box: tuple[float, float] | None = (0.0, 1.0)) -> Tensor:
    return bound(attack, box).perturb(model, of, run_of())


def wrong(model: nn.Module, inputs: Tensor, of: Batch) -> Tensor:
    assert of.targets is not None
    with torch.no_grad():
        return misclassified(model(inputs), of.targets)


def size(norm: str, shifts: Tensor) -> Tensor:
    flat = shifts.double().flatten(1)
    return {"l_inf": flat.abs().amax(1), "l_2": flat.square().sum(1).sqrt(), "l_1": flat.abs().sum(1)}[norm]


# ---- the threat model ----------------------------------------------------------------------------------------------


class Loop(BallAttack):
    """Goes far out."""

    def search(self, network: nn.Module, batch: Batch, region: Any, run: Run) -> Tensor:
        return cast(Tensor, region.centres + 100 * torch.randn(region.centres.shape))


MAKERS: list[Callable[..., Attack]] = [
    Fgsm,
    lambda **ball: Pgd(steps=4, **ball),
    lambda **ball: Pgd(steps=3, restarts=2, loss="margin", **ball),
    lambda **ball: Pgd(steps=3, early_stop=False, keep_best=False, step_size=0.5, **ball),
    lambda **ball: Pgd(steps=3, target="random", random_start=False, **ball),
    Noise,
    component(Loop),
]


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(MAKERS),
    st.sampled_from(NORMS),
    st.sampled_from([0.0, 1e-4, 0.03, 0.5, 20.0]),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    st.sampled_from([(8,), (2, 2, 2), (1, 8)]),
    st.sampled_from([None, (0.0, 1.0), (-0.5, 1.7)]),
    st.integers(0, 6),
    st.integers(0, 1000),
)
def test_inside_ball_and_box_and_never_better_for_the_network(
    make: Callable[..., Attack],
    norm: str,
    epsilon: float,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    box: tuple[float, float] | None,
    n: int,
    seed: int,
) -> None:
    model = network(dtype=dtype, seed=seed % 5)
    of = batch(model, n, shape, dtype, seed)
    before = of.inputs.clone()
    perturbed = bound(make(norm=norm, epsilon=epsilon), box).perturb(model, of, run_of(seed))
    assert perturbed.shape == before.shape and perturbed.dtype == dtype and not perturbed.requires_grad
    assert torch.equal(of.inputs, before) and perturbed.isfinite().all()
    assert (size(norm, perturbed.double() - before.double()) <= epsilon * (1 + 1e-12)).all()
    if box is not None and n:
        low, high = torch.tensor(box, dtype=dtype)
        assert perturbed.min() >= low and perturbed.max() <= high
    if n and dtype in (torch.float32, torch.float64):
        # In half precision the last digit of the outputs depends on how many examples are multiplied at once.
        assert (wrong(model, perturbed, of) >= wrong(model, before, of)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_radius_of_zero_changes_nothing(norm: str) -> None:
    model = network()
    of = batch(model)
    for make in MAKERS:
        assert torch.equal(attacked(make(norm=norm, epsilon=0.0), model, of), of.inputs)


def test_what_is_no_clean_input_is_refused() -> None:
    model = network()
    attack = bound(Fgsm(epsilon=0.1))
    with pytest.raises(ValueError, match=r"reach from -0.5 to 0.5, outside of the task's box \[0, 1\]"):
        attack.perturb(model, Batch(torch.linspace(-0.5, 0.5, 8)[None], torch.tensor([0])), run_of())
    with pytest.raises(ValueError, match="outside of the task's box"):
        attack.perturb(model, Batch(torch.full((1, 8), math.nan), torch.tensor([0])), run_of())
    with pytest.raises(TypeError, match="floating-point"):
        attack.perturb(model, Batch(torch.zeros(1, 8, dtype=torch.int64), torch.tensor([0])), run_of())
    with pytest.raises(CannotGive, match="needs targets"):
        attack.perturb(model, Batch(torch.zeros(1, 8, dtype=torch.float64)), run_of())
    with pytest.raises(RuntimeError, match=r"attack.bind\(task, run\)"):
        Pgd(epsilon=0.1).perturb(model, batch(model), run_of())


def test_fields_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="restarts > 1 needs random_start"):
        Pgd(epsilon=0.1, restarts=2, random_start=False)
    with pytest.raises(ValueError, match="restarts > 1 needs keep_best"):
        Pgd(epsilon=0.1, restarts=2, keep_best=False)
    with pytest.raises(ValueError, match="epsilon = inf"):
        Pgd(epsilon=math.inf)


def test_a_bound_attack_tells_its_size_and_its_dual_norm() -> None:
    for norm, dual in zip(NORMS, ["l_1", "l_2", "l_inf"], strict=True):
        attack = bound(Pgd(norm=norm, epsilon=0.25))
        assert attack.size == 0.25 and attack.dual_norm == dual
        assert Noise(norm=norm, epsilon=0.25).dual_norm is None


# ---- how good it is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_more_effort_breaks_more(norm: str) -> None:
    model = network()
    of, ball = batch(model, 200), {"norm": norm, "epsilon": RADII[norm]}
    pgd = Pgd(steps=20, **ball)
    efforts: list[Attack] = [Noise(**ball), Fgsm(**ball), pgd, Pgd(steps=20, restarts=4, **ball)]
    broken = [int(wrong(model, attacked(attack, model, of), of).sum()) for attack in efforts]
    assert int(wrong(model, of.inputs, of).sum()) <= broken[0] < broken[2] <= broken[3] < 200
    assert broken[1] <= broken[2]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_early_stopping_breaks_the_same_examples(norm: str, loss: Any) -> None:
    model, seen = network(), []
    of = batch(model, 100)
    handle = model.register_forward_hook(lambda module, given, outputs: seen.append(len(outputs)))
    parts = {"norm": norm, "epsilon": RADII[norm], "steps": 20, "loss": loss, "restarts": 2}
    early = attacked(Pgd(**parts), model, of)
    examples, seen[:] = sum(seen), []
    whole = attacked(Pgd(early_stop=False, **parts), model, of)
    assert examples < 0.8 * sum(seen)
    handle.remove()
    assert torch.equal(wrong(model, early, of), wrong(model, whole, of))


def test_the_best_point_is_kept() -> None:
    model = network()
    of = batch(model, 100)
    jumps = {"epsilon": 0.3, "step_size": 0.6, "steps": 7, "early_stop": False}  # from corner to corner
    best, last = (attacked(Pgd(keep_best=keep, **jumps), model, of) for keep in (True, False))
    assert (wrong(model, best, of) >= wrong(model, last, of)).all()
    assert wrong(model, best, of).sum() > wrong(model, last, of).sum()


def test_one_step_from_the_clean_input_is_fgsm() -> None:
    model = network()
    of = batch(model)
    pgd = Pgd(epsilon=0.1, steps=1, step_size=0.1, random_start=False, keep_best=False, early_stop=False)
    assert torch.equal(attacked(pgd, model, of), attacked(Fgsm(epsilon=0.1), model, of))
    inputs = of.inputs.clone().requires_grad_()
    nn.functional.cross_entropy(model(inputs), cast(Tensor, of.targets)).backward()
    wanted = (of.inputs + 0.1 * cast(Tensor, inputs.grad).sign()).clamp(0, 1)
    kept = wrong(model, of.inputs, of) & ~wrong(model, wanted, of)
    found = attacked(Fgsm(epsilon=0.1), model, of)
    torch.testing.assert_close(found[~wrong(model, of.inputs, of)], wanted[~wrong(model, of.inputs, of)])
    assert torch.equal(found[kept], of.inputs[kept])


@pytest.mark.parametrize("target", ["random", "least_likely", 2])
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_targeted_attacks_reach_their_class(target: Any, loss: Any) -> None:
    model = network()
    of = batch(model, 60)
    attack = Pgd(norm="l_2", epsilon=5.0, steps=40, target=target, loss=loss)
    perturbed = attacked(attack, model, of, box=None)
    before, after = model(of.inputs), model(perturbed).argmax(dim=1)
    targets = cast(Tensor, of.targets)
    if target == 2:
        assert torch.equal(perturbed[targets == 2], of.inputs[targets == 2])
        assert (after[targets != 2] == 2).double().mean() > 0.9
    else:
        assert (after != targets).double().mean() > 0.9
        assert len(set(after.tolist())) > 1
    if target == "least_likely":
        least = before.scatter(1, targets[:, None], math.inf).argmin(dim=1)
        assert (after == least).double().mean() > 0.9
    with pytest.raises(CannotGive, match="target = 4: the network tells 4 classes apart"):
        attacked(Pgd(epsilon=0.1, target=4), model, of)


def test_one_output_stands_for_two_classes() -> None:
    model = network(outputs=1)
    of = batch(model, 100)
    for loss in ("cross_entropy", "margin"):
        perturbed = attacked(Pgd(epsilon=0.3, loss=cast(Any, loss)), model, of)
        assert wrong(model, perturbed, of).sum() > wrong(model, of.inputs, of).sum() + 10
    targeted = attacked(Pgd(epsilon=0.3, target="random"), model, of)
    assert wrong(model, targeted, of).sum() > wrong(model, of.inputs, of).sum() + 10
    outputs = torch.tensor([[0.0], [-1.0], [2.0]])
    for targets in (torch.tensor([0, 1, 1]), torch.tensor([1, 0, 0])):
        assert torch.equal(misclassified(outputs, targets), correct(outputs, targets) == 0)


def test_regression_errors_grow() -> None:
    model = network(outputs=2)
    of = Batch(torch.rand(30, 8, dtype=torch.float64), torch.randn(30, 2, dtype=torch.float64))
    perturbed = attacked(Pgd(epsilon=0.1), model, of)
    errors = [(model(inputs) - cast(Tensor, of.targets)).square().sum(dim=1) for inputs in (of.inputs, perturbed)]
    assert (errors[1] > errors[0]).all()
    with pytest.raises(CannotGive, match='loss = "margin" is for class targets'):
        attacked(Pgd(epsilon=0.1, loss="margin"), model, of)
    with pytest.raises(CannotGive, match="a targeted attack needs class targets"):
        attacked(Pgd(epsilon=0.1, target=1), model, of)


@component
class Confident(Pgd):
    """Raises the largest probability, whatever the class: asks for no targets."""

    def objective(self, outputs: Tensor, batch: Batch) -> Tensor:
        return outputs.log_softmax(dim=1).amax(dim=1)

    def broken(self, outputs: Tensor, batch: Batch) -> Tensor:
        return torch.zeros(len(outputs), dtype=torch.int64)


def test_a_subclass_attacks_what_it_likes() -> None:
    model = network()
    of = Batch(batch(model).inputs)
    perturbed = attacked(Confident(epsilon=0.1), model, of)
    confidence = [model(inputs).log_softmax(dim=1).amax(dim=1) for inputs in (of.inputs, perturbed)]
    assert (confidence[1] >= confidence[0]).all() and (confidence[1] - confidence[0]).mean() > 0.05


# ---- transfer ------------------------------------------------------------------------------------------------------


def test_transfer_attacks_another_network(run: Run) -> None:
    fit = Fit(data=Digits(n_train=300), model=Linear(), optimizer=Ridge())
    fitted = run.fit(fit)
    examples = fitted.task.test.examples()
    task = Task({}, (64,), (10,), classes=10, bounds=(-20.0, 20.0), dtype=fitted.task.dtype)
    attack = Transfer(fit=fit, attack=Pgd(epsilon=0.2)).bind(task, run)
    assert attack.size == 0.2
    torch.manual_seed(1)
    victim = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).to(examples.inputs.dtype).eval()
    perturbed = attack.perturb(victim, examples, run)
    surrogate = fitted.network.eval()
    direct = Pgd(epsilon=0.2, early_stop=False).bind(task, run).perturb(surrogate, examples, run)  # to the end
    kept = (perturbed == examples.inputs).flatten(1).all(dim=1)
    assert torch.equal(perturbed[~kept], direct[~kept])
    assert (wrong(victim, perturbed, examples) >= wrong(victim, examples.inputs, examples)).all()
    assert wrong(surrogate, direct, examples).sum() > wrong(surrogate, examples.inputs, examples).sum() + 20


def test_only_linear_networks_have_a_closed_form() -> None:
    model = network()
    with pytest.raises(CannotGive, match="Sequential has no effective_weight"):
        attacked(LinearAttack(epsilon=0.1), model, batch(model))


def test_done_is_what_the_documentation_says() -> None:
    assert DONE == 2 and issubclass(Pgd, GradientAttack)
