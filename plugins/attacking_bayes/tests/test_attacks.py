"""Attacks on posteriors: they keep to the threat model, reach what theory says, and faulty ones show their symptoms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from kempeframe_attacking_bayes.attacks import PgdPlus, PosteriorSubset, Tempered, UncertaintyAttack
from kempeframe_attacking_bayes.attacks_faulty import (
    FaultyDoubleSoftmax,
    FaultyPgd,
    FaultySamples,
    FaultySingleSample,
    FaultyTinyStep,
    FaultyUnrelatedStep,
)
from kempeframe_attacking_bayes.data import GaussianLinear
from kempeframe_attacking_bayes.detection import uncertainty_of
from kempeframe_attacking_bayes.optimizers import ExactGaussian
from kempeframe_attacking_bayes.stacked import PosteriorNetwork, stacked
from kempeframe_attacking_bayes.theory_gaussian import GaussianPosterior
from kempeframe_attacking_bayes.theory_predictive import log_mean_softmax
from kempeframe_standard.attacks import Fgsm, Noise, Pgd
from kempeframe_standard.evaluators_robust import RobustAccuracy, sized
from kempeframe_standard.models import Linear
from torch import Tensor, nn

from kempeframe import Attack
from kempeframe.runs import Run
from kempeframe.task import Batch, CannotGive, Task
from kempeframe.trial import Fitted

F64 = torch.float64
Stack, Data = Callable[..., PosteriorNetwork], Callable[..., Batch]
LAST = {"keep_best": False, "early_stop": False}


def attacked(attack: Attack, network: nn.Module, of: Batch, task: Task, run: Run) -> Tensor:
    return attack.bind(task, run).perturb(network, of, run)


def loss(network: nn.Module, inputs: Tensor, of: Batch) -> Tensor:
    with torch.no_grad():
        return nn.functional.cross_entropy(network(inputs), of.targets, reduction="none")  # type: ignore[arg-type]


ALL: list[Attack] = [
    PgdPlus(epsilon=0.1, steps=5, uncertainty_steps=5),
    PgdPlus(epsilon=0.4, norm="l_2", steps=5, uncertainty_steps=5, uncertainty="epistemic"),
    UncertaintyAttack(epsilon=0.1, steps=5),
    UncertaintyAttack(epsilon=0.1, steps=5, direction="raise", uncertainty="epistemic"),
    PosteriorSubset(attack=Pgd(epsilon=0.1, steps=5), n_posterior_samples=2),
    PosteriorSubset(attack=Pgd(epsilon=0.1, steps=5, keep_best=False, early_stop=False), resample=True),
    Tempered(attack=Pgd(epsilon=0.1, steps=5), temperatures=(1.0, 5.0)),
    Tempered(attack=Pgd(epsilon=0.1, steps=5), precision="float64"),
    FaultyDoubleSoftmax(epsilon=0.1, steps=5),
    FaultyUnrelatedStep(epsilon=0.1, steps=5),
    FaultyTinyStep(epsilon=0.1, steps=5),
    FaultySamples(epsilon=0.1, steps=5),
    FaultySamples(epsilon=0.1, steps=5, average="logits"),
    FaultySingleSample(attack=Pgd(epsilon=0.1, steps=5)),
]


def name(attack: Attack) -> str:
    return type(attack).component_name()


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("attack", ALL, ids=name)
def test_every_attack_stays_in_ball_and_box(
    attack: Any, dtype: torch.dtype, posterior: Stack, batch: Data, box_task: Task, run: Run
) -> None:
    network, of = posterior(5, dtype=dtype), batch(dtype=dtype)
    before = network.samples.clone()
    points = attacked(attack, network, of, box_task, run)
    assert points.shape == of.inputs.shape
    assert points.dtype == dtype
    shift = (points.double() - of.inputs.double()).flatten(1)
    size = shift.abs().amax(1) if attack.norm == "l_inf" else shift.norm(dim=1)
    assert float(size.max()) <= attack.size
    assert points.min() >= 0
    assert points.max() <= 1
    assert torch.equal(network.samples, before)
    assert torch.equal(points, attacked(attack, network, of, box_task, run))  # the same run, the same points


@pytest.mark.parametrize("attack", [a for a in ALL if not getattr(a, "resample", False)], ids=name)
def test_no_attack_depends_on_how_the_batch_is_cut(
    attack: Attack, posterior: Stack, batch: Data, box_task: Task, run: Run
) -> None:
    network, of = posterior(4), batch(12)
    whole = attacked(attack, network, of, box_task, run)
    parts = [attacked(attack, network, part(of, rows), box_task, run) for rows in (range(5), range(5, 12))]
    assert torch.allclose(whole, torch.cat(parts), atol=1e-12)


def part(of: Batch, rows: range) -> Batch:
    index = torch.tensor(list(rows))
    return Batch(of.inputs[index], of.targets[index], of.index[index])  # type: ignore[index]


@pytest.mark.parametrize("attack", ALL, ids=name)
def test_epsilon_zero_moves_nothing_and_negative_ones_are_refused(
    attack: Any, posterior: Stack, batch: Data, box_task: Task, run: Run
) -> None:
    of = batch(6)
    assert torch.equal(attacked(sized(attack, 0.0), posterior(3), of, box_task, run), of.inputs)
    with pytest.raises(ValueError, match="expected a value >= 0"):
        sized(attack, -0.1)


def test_bad_batches_are_refused(posterior: Stack, batch: Data, box_task: Task, run: Run) -> None:
    of, network = batch(4), posterior(3)
    attack = PgdPlus(epsilon=0.1, steps=2)
    with pytest.raises(ValueError, match="outside of the task's box"):
        attacked(attack, network, Batch(of.inputs + 1, of.targets), box_task, run)
    with pytest.raises(CannotGive, match="needs targets"):
        attacked(attack, network, Batch(of.inputs), box_task, run)
    with pytest.raises(CannotGive, match="class targets"):
        attacked(attack, network, Batch(of.inputs, torch.rand(4, dtype=F64)), box_task, run)
    with pytest.raises(ValueError, match="give the attack keep_best = false"):
        PosteriorSubset(attack=Pgd(epsilon=0.1), resample=True)
    with pytest.raises(ValueError, match="expected at least one"):
        Tempered(attack=Pgd(epsilon=0.1), temperatures=())


@pytest.mark.parametrize("attack", [PgdPlus(epsilon=0.1, uncertainty="epistemic"), ALL[3]], ids=name)
def test_a_single_network_has_no_epistemic_uncertainty_to_attack(
    attack: Attack, batch: Data, box_task: Task, run: Run
) -> None:
    """Whether or not one of its inputs can be broken."""
    network = nn.Linear(6, 4, dtype=F64)
    network.weight.data *= 1e-3
    network.bias.data = torch.arange(4, dtype=F64)
    with pytest.raises(CannotGive, match="epistemic uncertainty of a single network is 0 everywhere"):
        attacked(attack, network, batch(30, network), box_task, run)


# ---- PGD+ and uncertainty ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["total", "epistemic"])
def test_pgd_plus_breaks_as_much_as_pgd_and_is_less_uncertain(
    kind: Any, posterior: Stack, batch: Data, box_task: Task, run: Run
) -> None:
    network = posterior(6, scale=1.5)
    of = batch(80, network)
    assert of.targets is not None
    label = Pgd(epsilon=0.2, loss="margin", early_stop=False)
    plain = attacked(label, network, of, box_task, run)
    plus = attacked(PgdPlus(epsilon=0.2, uncertainty=kind), network, of, box_task, run)
    wrong, wrong_plus = (network(points).argmax(dim=1) != of.targets for points in (plain, plus))
    assert torch.equal(wrong, wrong_plus)
    assert wrong.sum() > 15
    before, after = (uncertainty_of(network, points[wrong], kind) for points in (plain, plus))
    assert (after <= before + 1e-9).all()
    assert after.mean() < before.mean() - 0.02
    assert torch.equal(plain[~wrong], plus[~wrong])  # what stage 1 did not break keeps its point


def test_uncertainty_goes_where_it_is_told_without_targets(
    posterior: Stack, batch: Data, box_task: Task, run: Run
) -> None:
    network, of = posterior(6), Batch(batch(40).inputs)
    clean = uncertainty_of(network, of.inputs, "total")
    for direction, sign in (("lower", -1), ("raise", 1)):
        attack = UncertaintyAttack(epsilon=0.15, direction=direction, steps=20)  # type: ignore[arg-type]
        change = sign * (uncertainty_of(network, attacked(attack, network, of, box_task, run), "total") - clean)
        assert (change > -1e-9).all()
        assert change.mean() > 0.05


def test_the_epistemic_attack_follows_the_gradient_of_the_mutual_information(
    posterior: Stack, batch: Data, box_task: Task, run: Run
) -> None:
    """One step: its sign, by finite differences."""
    network, of = posterior(5), batch(3)
    attack = UncertaintyAttack(
        epsilon=1e-3, steps=1, step_size=1e-3, direction="raise", uncertainty="epistemic", random_start=False
    )
    points = attacked(attack, network, of, box_task, run)
    inside = (of.inputs > 0.01) & (of.inputs < 0.99)
    for j in range(6):
        step = torch.zeros(6, dtype=F64)
        step[j] = 1e-5
        up, down = (uncertainty_of(network, of.inputs + s * step, "epistemic") for s in (1, -1))
        moved = (points - of.inputs)[:, j]
        clear = inside[:, j] & ((up - down).abs() > 1e-9) & (moved != 0)
        assert (moved[clear].sign() == (up - down)[clear].sign()).all()


# ---- the posterior, some of it, and the exact theory ---------------------------------------------------------------


def test_all_samples_are_the_posterior(posterior: Stack, batch: Data, box_task: Task, run: Run) -> None:
    network, inner = posterior(5), Pgd(epsilon=0.1, steps=5, early_stop=False)
    of = batch(20, network)
    whole = attacked(PosteriorSubset(attack=inner, n_posterior_samples=99), network, of, box_task, run)
    plain = attacked(inner, network, of, box_task, run)
    assert torch.allclose(loss(network, whole, of), loss(network, plain, of), atol=1e-9)


def test_more_samples_are_a_stronger_attack(posterior: Stack, batch: Data, box_task: Task, run: Run) -> None:
    network = posterior(40)
    of = batch(100, network)
    losses = []
    for count in (1, 5, 40):
        attack = PosteriorSubset(attack=Pgd(epsilon=0.1, steps=10, early_stop=False), n_posterior_samples=count)
        losses.append(float(loss(network, attacked(attack, network, of, box_task, run), of).mean()))
    fresh = PosteriorSubset(attack=Pgd(epsilon=0.1, steps=40, **LAST), n_posterior_samples=1, resample=True)  # type: ignore[arg-type]
    assert losses[0] < losses[1] < losses[2]
    assert float(loss(network, attacked(fresh, network, of, box_task, run), of).mean()) > losses[0]


def gaussian(fitted: Callable[..., Fitted], n: int = 1000) -> tuple[Fitted, GaussianPosterior, Any, Any]:
    fit = fitted(ExactGaussian(n_samples=400), Linear(), GaussianLinear(n_test=n))
    examples = fit.task.test.examples()
    assert examples.targets is not None
    return fit, fit.task.truth, examples.inputs.numpy(), examples.targets.numpy() * 2.0 - 1


def measured(fit: Fitted, attack: Attack) -> float:
    found = RobustAccuracy(attack=attack).evaluate(fit, fit.run)["robust_accuracy"]  # type: ignore[arg-type]
    assert isinstance(found, float)
    return found


def test_pgd_reaches_the_exact_robust_accuracy_of_a_gaussian_posterior(fitted: Callable[..., Fitted]) -> None:
    fit, truth, x, y = gaussian(fitted)
    for epsilon in (0.05, 0.1, 0.2):
        exact = truth.robust_accuracy(x, y, epsilon)
        assert measured(fit, Pgd(epsilon=epsilon)) == pytest.approx(exact, abs=0.002)
        assert measured(fit, Fgsm(epsilon=epsilon)) >= exact - 1e-12


@pytest.mark.parametrize("count", [1, 4, 16])
def test_an_attack_on_k_samples_reaches_kappa(count: int, fitted: Callable[..., Fitted]) -> None:
    """Averaged over draws of the K samples."""
    fit, truth, x, y = gaussian(fitted, 500)
    found = []
    for draw in range(12):
        fit.run = Run(draw, fit.run.session, fit.run.root)  # type: ignore[union-attr]
        found.append(measured(fit, PosteriorSubset(attack=Pgd(epsilon=0.1, steps=20), n_posterior_samples=count)))
    assert np.mean(found) == pytest.approx(truth.accuracy_against(x, y, 0.1, count), abs=0.02)


# ---- numerics ------------------------------------------------------------------------------------------------------


def test_saturated_logits_stop_a_sign_attack_and_tempering_starts_it_again(
    posterior: Stack, batch: Data, box_task: Task, run: Run
) -> None:
    network = posterior(1, dtype=torch.float32)
    of = batch(100, network, torch.float32)
    scaled = stacked(network).tempered(1 / 1000)

    def accuracy(attack: Attack) -> float:
        points = attacked(attack, scaled, of, box_task, run)
        return float((scaled(points).argmax(dim=1) == of.targets).double().mean())

    inner = Pgd(epsilon=0.15, random_start=False)
    truth = attacked(inner, network, of, box_task, run)
    right = float((network(truth).argmax(dim=1) == of.targets).double().mean())
    assert accuracy(inner) > right + 0.3  # it stands still and looks robust
    assert accuracy(Tempered(attack=inner, temperatures=(1000.0,))) == pytest.approx(right, abs=0.03)
    assert accuracy(Tempered(attack=inner, temperatures=(1.0,), precision="float64")) < accuracy(inner)


# ---- the faulty ones and their symptoms ----------------------------------------------------------------------------


def test_each_faulty_attack_names_its_symptom() -> None:
    assert all(attack.symptom for attack in ALL if isinstance(attack, (FaultyPgd, FaultySingleSample)))


def test_double_softmax_confines_the_loss() -> None:
    logits = 50 * torch.randn(500, 10, dtype=F64, generator=torch.Generator().manual_seed(0))
    of = Batch(torch.zeros(500, 1), torch.randint(10, (500,), generator=torch.Generator().manual_seed(1)))
    found = FaultyDoubleSoftmax(epsilon=0.1).objective(logits.log_softmax(dim=1), of)
    low, high = math.log(1 + 9 / math.e), math.log(math.e + 9)
    assert low == pytest.approx(1.46, abs=0.01)
    assert high == pytest.approx(2.46, abs=0.01)
    assert found.min() >= low - 1e-9
    assert found.max() <= high + 1e-9


def test_an_unrelated_step_lands_on_vertices(posterior: Stack, batch: Data, box_task: Task, run: Run) -> None:
    network = posterior(4)
    of = batch(30, network)
    attack = FaultyUnrelatedStep(epsilon=0.1, steps=7)
    moved = (attacked(attack, network, of, box_task, run) - of.inputs).abs()
    room = torch.minimum(torch.full_like(of.inputs, 0.1), torch.maximum(of.inputs, 1 - of.inputs))
    at_a_face = (
        torch.isclose(moved, room) | torch.isclose(moved, torch.minimum(of.inputs, 1 - of.inputs)) | (moved == 0)
    )
    assert at_a_face.all()


def test_a_tiny_step_stays_inside(posterior: Stack, batch: Data, box_task: Task, run: Run) -> None:
    network = posterior(4)
    of = batch(50, network)
    tiny = attacked(FaultyTinyStep(epsilon=0.2), network, of, box_task, run)
    assert float((tiny - of.inputs).abs().max()) <= 0.2 * 40 / 400 + 1e-9
    one = attacked(Fgsm(epsilon=0.2), network, of, box_task, run)
    assert loss(network, tiny, of).mean() < loss(network, one, of).mean()


def test_other_averages_attack_another_loss(posterior: Stack, batch: Data) -> None:
    network, of = posterior(6), batch(20)
    assert of.targets is not None
    logits = network.logits_per_sample(of.inputs)
    side_by_side = logits.transpose(0, 1)
    truth = nn.functional.cross_entropy(log_mean_softmax(logits), of.targets, reduction="none")
    losses = FaultySamples(epsilon=0.1).objective(side_by_side, of)
    by_hand = sum(nn.functional.cross_entropy(one, of.targets, reduction="none") for one in logits) / 6
    assert torch.allclose(losses, by_hand)
    assert (losses >= truth - 1e-12).all()  # Jensen
    of_logits = FaultySamples(epsilon=0.1, average="logits").objective(side_by_side, of)
    assert torch.allclose(of_logits, nn.functional.cross_entropy(logits.mean(dim=0), of.targets, reduction="none"))
    assert not torch.allclose(of_logits, truth, atol=0.05)


def test_no_attack_leaves_the_box_even_if_it_is_written_to() -> None:
    """The fault "no clipping" of SEBR can't be written as a component: what a search finds is brought back."""
    from kempeframe_standard.attacks import BallAttack

    class NoClipping(BallAttack):
        def search(self, network: nn.Module, batch: Batch, region: Any, run: Run) -> Tensor:
            return batch.inputs.flatten(1) + 5

    task = Task({}, (3,), (2,), dtype=F64, classes=2, bounds=(0.0, 1.0))
    of = Batch(torch.full((4, 3), 0.95, dtype=F64), torch.zeros(4, dtype=torch.int64))
    run = Run(0, None)  # type: ignore[arg-type]
    points = NoClipping(epsilon=0.2).bind(task, run).perturb(nn.Linear(3, 2, dtype=F64).eval(), of, run)
    assert points.max() <= 1


def test_noise_beats_no_attack_and_attacks_beat_noise(posterior: Stack, batch: Data, box_task: Task, run: Run) -> None:
    network = posterior(10)
    of = batch(100, network)
    losses = [
        float(loss(network, attacked(attack, network, of, box_task, run), of).mean())
        for attack in (Noise(epsilon=0.1), Fgsm(epsilon=0.1), Pgd(epsilon=0.1, early_stop=False))
    ]
    assert losses[0] < losses[1] <= losses[2] + 1e-9
