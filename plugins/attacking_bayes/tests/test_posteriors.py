"""Posteriors as networks: stacks, dropout masks, ensembles, variational families, exact ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from kempeframe_attacking_bayes.data import GaussianLinear
from kempeframe_attacking_bayes.dropout import dropped, masked_copies, with_dropout
from kempeframe_attacking_bayes.exact import GaussianLinearNetwork
from kempeframe_attacking_bayes.forward import flattened, forward_many, unflattened
from kempeframe_attacking_bayes.models import Bayesian, Dropout
from kempeframe_attacking_bayes.networks import LastLayerNetwork, VariationalNetwork
from kempeframe_attacking_bayes.optimizers import Ensemble, ExactGaussian, Map, McDropout
from kempeframe_attacking_bayes.optimizers_variational import Fsvi, Mfvi, Psvi
from kempeframe_attacking_bayes.stacked import PosteriorNetwork, StackedNetwork, stacked
from kempeframe_attacking_bayes.theory_gaussian import GaussianPosterior, conjugate
from kempeframe_attacking_bayes.theory_predictive import log_mean_softmax
from kempeframe_attacking_bayes.variational import context, function_space_penalty
from kempeframe_standard.data import Digits
from kempeframe_standard.models import Linear, Mlp
from kempeframe_standard.models_images import Cnn
from kempeframe_standard.optimizers_gradient import Adam, Sgd
from torch import Tensor, nn

from kempeframe.runs import Run
from kempeframe.task import CannotGive, Task
from kempeframe.trial import Fitted

F64 = torch.float64
Stack = Callable[..., PosteriorNetwork]
Fit = Callable[..., Fitted]
SMALL = Mlp(width=16, depth=1, activation="tanh", weight_scale=1.0)
QUICK = Adam(learning_rate=0.01, steps=40, batch_size="full")


def digits(run: Run, **more: Any) -> Task:
    return Digits(**{"n_train": 60, "n_test": 20, "dtype": "float64", **more}).load(run)


# ---- stacks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        Mlp(width=5, depth=2, activation="gelu"),
        Mlp(width=5, depth=1, bias=False),
        Mlp(width=5, depth=2, parametrisation="ntk", activation="tanh"),
        Dropout(model=Mlp(width=5, depth=2)),
        Cnn(channels=(3, 4), hidden=(6,)),
        Linear(),
    ],
    ids=["gelu", "no bias", "ntk", "dropout", "cnn", "linear"],
)
def test_a_stack_gives_what_its_networks_give_one_by_one(model: Any, run: Run) -> None:
    task = digits(run)
    network = model.build(task, run).eval()
    flat = torch.randn(4, len(flattened(network)), dtype=F64, generator=torch.Generator().manual_seed(0))
    posterior = PosteriorNetwork(network, flat).eval()
    inputs = task.test.examples().inputs
    found = posterior.logits_per_sample(inputs)
    for sample in range(4):
        torch.nn.utils.vector_to_parameters(flat[sample], network.parameters())
        assert torch.allclose(found[sample], network(inputs), atol=1e-10)
    assert torch.allclose(posterior(inputs), log_mean_softmax(found), atol=1e-12)


def test_gradients_of_a_stack_are_those_of_its_networks(posterior: Stack) -> None:
    stack, inputs = posterior(3), torch.rand(5, 6, dtype=F64)
    flat = stack.samples.clone().requires_grad_()
    total = forward_many(stack.network, unflattened(stack.network, flat), inputs).square().sum()
    (found,) = torch.autograd.grad(total, flat)
    for sample in range(3):
        network = stack.network.requires_grad_(True)
        torch.nn.utils.vector_to_parameters(stack.samples[sample].clone(), network.parameters())
        parts = torch.autograd.grad(network(inputs).square().sum(), list(network.parameters()))
        assert torch.allclose(found[sample], torch.cat([p.reshape(-1) for p in parts]), atol=1e-10)


def test_subsets_temperatures_and_lifting(posterior: Stack) -> None:
    stack, inputs = posterior(5), torch.rand(4, 6, dtype=F64)
    logits = stack.logits_per_sample(inputs)
    index = torch.tensor([3, 0])
    assert torch.equal(stack.subset(index).logits_per_sample(inputs), logits[index])
    tempered = stack.tempered(4.0)
    assert torch.allclose(tempered(inputs), log_mean_softmax(logits / 4))
    assert torch.allclose(tempered.subset(index)(inputs), log_mean_softmax(logits[index] / 4))
    ordinary = nn.Linear(6, 4, dtype=F64)
    lifted = stacked(ordinary)
    assert lifted.samples_held == 1
    assert torch.allclose(lifted(inputs), ordinary(inputs).log_softmax(dim=1))
    assert stacked(stack) is stack


def test_a_posterior_stays_itself_in_training_mode_and_in_other_types(posterior: Stack) -> None:
    stack = posterior(4)
    inputs = torch.rand(3, 6, dtype=F64)
    before = stack(inputs)
    assert torch.equal(stack.train()(inputs), before)  # masks and samples do not change with the mode
    assert not stack.network.training
    single = stack.float()
    assert torch.allclose(single(inputs.float()).double(), before, atol=1e-5)


# ---- dropout -------------------------------------------------------------------------------------------------------


def test_a_mask_is_a_copy_of_the_next_layers_weights() -> None:
    """The network with units left out by hand, against the masked copy."""
    torch.manual_seed(0)
    first, second = nn.Linear(6, 8, dtype=F64), nn.Linear(8, 4, dtype=F64)
    network = with_dropout(nn.Sequential(nn.Flatten(), first, nn.Tanh(), second), 0.25)
    assert [name for name, _ in dropped(network)] == ["3"]
    inputs = torch.rand(5, 6, dtype=F64)
    for flat in masked_copies(network, 20, torch.Generator().manual_seed(1)):
        weights = unflattened(network, flat[None])
        kept = (weights["3.layer.weight"][0] != 0).any(dim=0)
        by_hand = second(torch.tanh(first(inputs)) * kept / 0.75)
        assert torch.allclose(forward_many(network.eval(), weights, inputs)[0], by_hand, atol=1e-12)


def test_masks_leave_out_the_rate_and_keep_the_mean() -> None:
    network = with_dropout(nn.Sequential(nn.Flatten(), nn.Linear(3, 200), nn.ReLU(), nn.Linear(200, 2)), 0.3)
    weight = network[3].layer.weight.detach()  # type: ignore[union-attr, index]
    copies = [unflattened(network, flat[None])["3.layer.weight"][0] for flat in masked_copies(network, 300, gen())]
    kept = torch.stack([(copy != 0).any(dim=0).double().mean() for copy in copies])
    assert float(kept.mean()) == pytest.approx(0.7, abs=0.01)
    assert float((torch.stack(copies).mean(dim=0) - weight).abs().mean() / weight.abs().mean()) < 0.06


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_mc_dropout_fits_and_comes_back(fitted: Fit) -> None:
    model = Bayesian(model=Dropout(model=SMALL, rate=0.2))
    fit = fitted(McDropout(optimizer=QUICK, n_samples=12), model)
    network = fit.network
    assert isinstance(network, PosteriorNetwork)
    assert network.samples_held == 12
    accuracy = (
        (network(fit.task.test.examples().inputs).argmax(dim=1) == fit.task.test.examples().targets).float().mean()
    )
    assert accuracy > 0.7
    with pytest.raises(CannotGive, match="mc_dropout needs dropout"):
        fitted(McDropout(optimizer=QUICK))
    with pytest.raises(CannotGive, match="no dense layer behind others"):
        with_dropout(nn.Linear(3, 2), 0.1)


def test_snapshots_of_the_training_become_posteriors(fitted: Fit, run: Run) -> None:
    model = Bayesian(model=Dropout(model=SMALL))
    trained = McDropout(optimizer=Sgd(steps=3, snapshots=(0, 1)), n_samples=2)
    assert trained.trajectory
    task = digits(run, dtype="float32")
    snapshots = list(trained.fit(model.build(task, run), task, None, run))
    assert [snapshot.step for snapshot in snapshots] == [0, 1, 3]
    first, last = snapshots[0].network, snapshots[-1].network
    assert isinstance(first, PosteriorNetwork)
    assert isinstance(last, PosteriorNetwork)
    assert not torch.equal(first.samples, last.samples)


# ---- point estimates and ensembles ---------------------------------------------------------------------------------


def test_the_map_has_no_gradient_of_the_posterior(fitted: Fit, run: Run) -> None:
    """Its weight decay is the prior's: at its end the gradient of U vanishes."""
    from kempeframe_attacking_bayes.networks import BayesianNetwork
    from kempeframe_attacking_bayes.sampling import Energy

    data = Digits(n_train=40, n_test=10, dtype="float64")
    fit = fitted(Map(steps=2000, learning_rate=0.01, schedule="cosine"), Bayesian(model=SMALL, prior_std=0.5), data)
    assert isinstance(fit.network, BayesianNetwork)
    position = flattened(fit.network)[None]
    _, gradient = Energy(fit.network, fit.task, 1.0, "cpu")(position)
    start = Bayesian(model=SMALL, prior_std=0.5).build(fit.task, run)
    assert isinstance(start, BayesianNetwork)
    _, before = Energy(start, fit.task, 1.0, "cpu")(flattened(start)[None])
    assert gradient.norm() < 1e-3 * before.norm()


def test_map_needs_a_prior_and_no_weight_decay(fitted: Fit) -> None:
    with pytest.raises(ValueError, match="weight_decay: the model's prior gives it"):
        Map(steps=3, weight_decay=0.1)
    with pytest.raises(CannotGive, match="map needs a prior"):
        fitted(Map(steps=3), SMALL)


def test_members_of_an_ensemble_are_independent_fits(fitted: Fit) -> None:
    fit = fitted(Ensemble(optimizer=QUICK, n_members=3))
    network = fit.network
    assert isinstance(network, PosteriorNetwork)
    assert network.samples.shape[0] == 3
    distances = torch.pdist(network.samples)
    assert distances.min() > 1
    more = fitted(Ensemble(optimizer=QUICK, n_members=4)).network
    assert isinstance(more, PosteriorNetwork)
    assert torch.allclose(more.samples[:3], network.samples, atol=1e-4)  # a larger one holds the smaller
    with pytest.raises(ValueError, match="expected one that trains by gradients"):
        Ensemble(optimizer=ExactGaussian())
    with pytest.raises(CannotGive, match="an ensemble"):
        fitted(Ensemble(optimizer=QUICK), SMALL)


# ---- variational families ------------------------------------------------------------------------------------------


def test_mean_field_finds_the_best_gaussian_approximation(run: Run, regression: Callable[..., Task]) -> None:
    """W5's kind: linear regression with noise variance 1/2, where "squared" is minus the log-likelihood.

    The optimum is known: the posterior's mean, and variances 1 / L_jj of its precision L.
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 3)) @ np.array([[1, 0.9, 0], [0, 0.4, 0], [0, 0, 1]])
    task = regression(x, x @ np.array([1.0, -0.5, 0.3]) + 0.7 * rng.standard_normal(30))
    y = task.train.examples().targets
    assert y is not None
    exact = conjugate(x, y[:, 0].numpy(), 0.5, 1.3)
    settings = Mfvi(
        loss="squared",
        mc_samples=1,
        steps=2500,
        learning_rate=0.03,
        schedule="cosine",
        batch_size="full",
        n_samples=4000,
    )
    network = Bayesian(model=Linear(), prior_std=1.3).build(task, run)
    *_, last = settings.fit(network, task, None, run)
    assert isinstance(last.network, PosteriorNetwork)
    mean, deviation = last.network.diagnostic("mean"), last.network.diagnostic("deviation")
    assert mean is not None
    assert deviation is not None
    precision = np.linalg.inv(exact.covariance)
    sizes = np.sqrt(1 / np.diag(precision))
    assert mean.numpy() == pytest.approx(exact.mean, abs=0.25 * sizes.min())
    assert deviation.numpy() == pytest.approx(sizes, rel=0.08)
    drawn = last.network.samples.numpy()
    assert drawn.std(axis=0) == pytest.approx(deviation.numpy(), rel=0.06)


def test_the_loss_of_the_family_is_the_expected_one(run: Run) -> None:
    """mean_s -log p_s(y), against a loop over networks with the same noise."""
    task = digits(run)
    network = SMALL.build(task, run)
    family = VariationalNetwork(network, -1.0, 4, "log_mean_softmax").train()
    examples = task.train.examples()
    assert examples.targets is not None
    torch.manual_seed(5)
    found = -family(examples.inputs).gather(1, examples.targets[:, None])[:, 0]
    torch.manual_seed(5)
    noise = torch.randn(2, len(family.mean), dtype=F64)
    expected = torch.zeros(len(examples.inputs), dtype=F64)
    for one in (*noise, *-noise):
        flat = (family.mean + family.deviation * one).detach()
        logits = forward_many(network, unflattened(network, flat[None]), examples.inputs)[0]
        expected += nn.functional.cross_entropy(logits, examples.targets, reduction="none") / 4
    assert torch.allclose(found, expected, atol=1e-10)


def test_the_kl_counts_once_a_step_whatever_the_batch(run: Run) -> None:
    """Trap 12: with a KL for every batch the posterior collapses to the prior."""
    task = digits(run, n_train=300, dtype="float32")
    accuracies = []
    for size in (300, 30):
        network = Bayesian(model=SMALL).build(task, run)
        settings = Mfvi(steps=600, batch_size=size, n_samples=20)
        *_, last = settings.fit(network, task, None, run)
        examples = task.test.examples()
        accuracies.append(float((last.network(examples.inputs).argmax(dim=1) == examples.targets).double().mean()))
        deviation = last.network.diagnostic("deviation")  # type: ignore[union-attr, operator]
        assert float(deviation.mean()) < 0.75  # collapsed to the prior it would be 1
    assert min(accuracies) > 0.6


def test_function_space_penalty_and_context(run: Run) -> None:
    task = digits(run)
    settings = Fsvi(steps=1, n_context=8)
    family = LastLayerNetwork(SMALL.build(task, run), -2.0, 2, "log_mean_softmax")
    family.prior_std = 0.7  # type: ignore[assignment]
    torch.manual_seed(3)
    points = context(settings, task, torch.device("cpu"))
    assert points.shape == (8, 1, 8, 8)
    assert points.min() >= 0
    assert points.max() <= 1
    originals = task.train.examples().inputs.flatten(1).sort(dim=1).values
    shuffled = points[4:].flatten(1).sort(dim=1).values
    assert all((originals - row).abs().amax(dim=1).min() < 1e-12 for row in shuffled)  # shuffled pixels of some image
    torch.manual_seed(3)
    found = function_space_penalty(settings, family, task)
    phi = family.features(points).detach()
    weight, rho = family.mean.detach(), family.deviation.detach()
    noise, many = 1e-3 * torch.eye(8, dtype=F64), torch.distributions.MultivariateNormal
    prior = many(torch.zeros(8, dtype=F64), 0.49 * phi @ phi.T + noise)
    kl = sum(
        torch.distributions.kl_divergence(many(phi @ m, phi @ torch.diag(s**2) @ phi.T + noise), prior)
        for m, s in zip(weight, rho, strict=True)
    )
    features = sum(p.square().sum() for name, p in family.network.named_parameters() if not name.startswith("3."))
    assert float(found.detach()) == pytest.approx(float((kl + features / (2 * 0.49)).detach()) / 60, rel=1e-8)
    free = function_space_penalty(Fsvi(steps=1, n_context=8, feature_prior_std="none"), family, task)
    assert torch.isfinite(free)


@pytest.mark.parametrize(
    "settings", [Mfvi(steps=300, n_samples=15), Psvi(steps=300, n_samples=15), Fsvi(steps=200, n_samples=15)]
)
def test_variational_fits_come_back_from_the_store(settings: Any, fitted: Fit) -> None:
    fit = fitted(settings)
    network = fit.network
    assert isinstance(network, PosteriorNetwork)
    assert network.samples_held == 15
    examples = fit.task.test.examples()
    assert (network(examples.inputs).argmax(dim=1) == examples.targets).float().mean() > 0.6
    mean = network.diagnostic("mean")
    assert mean is not None
    if isinstance(settings, Fsvi):  # the features are the same in every sample
        width = flattened(network.network).numel() - mean.numel()
        assert torch.equal(network.samples[0, :width], network.samples[1, :width])
        assert not torch.equal(network.samples[0, width:], network.samples[1, width:])


def test_what_variational_inference_refuses(run: Run, regression: Callable[..., Task]) -> None:
    with pytest.raises(ValueError, match="needs mc_samples = 1"):
        Mfvi(steps=3, loss="squared")
    with pytest.raises(ValueError, match="do not go with variational inference"):
        Mfvi(steps=3, adversarial=True)
    with pytest.raises(ValueError, match="the prior takes its place"):
        Fsvi(steps=3, weight_decay=0.1)
    task = regression(np.ones((4, 2)), np.ones(4))
    network = Bayesian(model=Linear()).build(task, run)
    with pytest.raises(CannotGive, match="one output: write mc_samples = 1"):
        list(Mfvi(steps=3).fit(network, task, None, run))


# ---- exact posteriors ----------------------------------------------------------------------------------------------


def test_the_conjugate_posterior_is_drawn(run: Run, regression: Callable[..., Task]) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((20, 3))
    task = regression(x, x @ np.array([1.0, 2.0, -1.0]) + rng.standard_normal(20))
    network = Bayesian(model=Linear(), prior_std=2.0).build(task, run)
    (last,) = ExactGaussian(n_samples=20_000).fit(network, task, None, run)
    assert isinstance(last.network, PosteriorNetwork)
    y = task.train.examples().targets
    assert y is not None
    exact = conjugate(x, y[:, 0].numpy(), 1.0, 2.0)
    drawn = last.network.samples.numpy()
    assert drawn.mean(axis=0) == pytest.approx(exact.mean, abs=0.01)
    assert np.cov(drawn.T) == pytest.approx(exact.covariance, abs=0.01)
    assert last.network(torch.from_numpy(x))[:, 0].numpy() == pytest.approx(x @ drawn.mean(axis=0))


def test_gaussian_linear_predicts_exactly_and_comes_back(fitted: Fit) -> None:
    data = GaussianLinear(dimension=6, n_test=50)
    fit = fitted(ExactGaussian(n_samples=3000), Linear(), data)
    network, truth = fit.network, fit.task.truth
    assert isinstance(network, GaussianLinearNetwork)
    assert isinstance(truth, GaussianPosterior)
    x = fit.task.test.examples().inputs
    assert torch.sigmoid(network(x))[:, 0].numpy() == pytest.approx(truth.predictive(x.numpy()), abs=1e-10)
    stack = network.subset(torch.arange(3000))
    assert isinstance(stack, StackedNetwork)
    assert torch.sigmoid(stack(x))[:, 0].numpy() == pytest.approx(truth.predictive(x.numpy()), abs=0.03)
    with pytest.raises(CannotGive, match="linear model with one output"):
        fitted(ExactGaussian(), SMALL, data)


def test_gaussian_linear_labels_follow_the_predictive(run: Run) -> None:
    task = GaussianLinear(dimension=5, n_test=40_000).load(run)
    examples = task.test.examples()
    assert examples.targets is not None
    expected = task.truth.predictive(examples.inputs.numpy())
    error = expected - examples.targets.numpy()
    assert abs(error.mean()) < 4 * error.std() / math.sqrt(40_000)
    assert np.mean(error * (expected - 0.5)) == pytest.approx(0, abs=0.005)  # calibrated


def test_numbers_far_out_stay_finite() -> None:
    from kempeframe_attacking_bayes.exact import probit_log_odds

    scores = torch.tensor([-40.0, -4.0, 0.0, 4.0, 40.0], dtype=F64)
    found = probit_log_odds(scores)
    assert torch.isfinite(found).all()
    assert torch.allclose(found, -found.flip(0))
    small: Tensor = torch.special.ndtr(scores[1:4])
    assert torch.allclose(found[1:4], (small / torch.special.ndtr(-scores[1:4])).log(), atol=1e-6)
