"""Hamiltonian Monte Carlo is exact where the answer is known, and says where it is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kempeframe_attacking_bayes.forward import flattened, forward_many, unflattened
from kempeframe_attacking_bayes.models import Bayesian
from kempeframe_attacking_bayes.networks import BayesianNetwork
from kempeframe_attacking_bayes.optimizers_sampling import Hmc
from kempeframe_attacking_bayes.perceptrons import PerceptronLikelihood, tanh_
from kempeframe_attacking_bayes.sampling import Energy, Sampler, sample
from kempeframe_attacking_bayes.stacked import PosteriorNetwork
from kempeframe_attacking_bayes.theory_chains import effective_sample_size, split_r_hat
from kempeframe_attacking_bayes.theory_gaussian import conjugate
from kempeframe_attacking_bayes.theory_hmc import DualAveraging, leapfrog
from kempeframe_standard.data import Digits
from kempeframe_standard.models import Linear, Mlp
from kempeframe_standard.models_images import Cnn
from torch import Tensor

from kempeframe.checkpoints import Checkpoints
from kempeframe.runs import Run
from kempeframe.task import CannotGive, Task
from kempeframe.trial import Fitted, Session

F64 = torch.float64


def quartic(q: Tensor) -> tuple[Tensor, Tensor]:
    return (q**2 / 2 + q**4 / 4).sum(dim=1), q + q**3


def gaussian(precision: Tensor, mean: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    def potential(q: Tensor) -> tuple[Tensor, Tensor]:
        shift = q - mean
        gradient = shift @ precision
        return (shift * gradient).sum(dim=1) / 2, gradient

    return potential


Q, P = torch.tensor([[1.0, -0.5]], dtype=F64), torch.tensor([[0.3, 0.7]], dtype=F64)


def energy(q: Tensor, p: Tensor) -> float:
    return float(quartic(q)[0] + (p**2).sum() / 2)


def test_w6() -> None:
    q, p, _, _ = leapfrog(quartic, Q, P, quartic(Q)[1], 0.1, 10)
    assert q[0].tolist() == pytest.approx([0.4037915228, 0.3356973383], abs=1e-10)
    assert p[0].tolist() == pytest.approx([-1.1864235371, 0.8074497758], abs=1e-10)
    assert energy(q, p) - energy(Q, P) == pytest.approx(-0.0031458359, abs=1e-10)


def test_leapfrog_goes_back_the_way_it_came() -> None:
    q, p, _, g = leapfrog(quartic, Q, P, quartic(Q)[1], 0.1, 50)
    q, p, _, _ = leapfrog(quartic, q, -p, g, 0.1, 50)
    assert (q - Q).abs().max() < 1e-13
    assert (p + P).abs().max() < 1e-13


def test_its_energy_error_falls_with_the_square_of_the_step() -> None:
    errors = []
    for step, count in ((0.1, 10), (0.05, 20), (0.025, 40), (0.0125, 80)):
        q, p, _, _ = leapfrog(quartic, Q, P, quartic(Q)[1], step, count)
        errors.append(abs(energy(q, p) - energy(Q, P)))
    ratios = np.array(errors[:-1]) / np.array(errors[1:])
    assert ratios == pytest.approx(4, rel=0.03)


def test_it_keeps_volume() -> None:
    """The Jacobian of (q, p) -> (q', p') has determinant 1."""

    def move(state: Tensor) -> Tensor:
        q, p = state[None, :2], state[None, 2:]
        out = leapfrog(quartic, q, p, quartic(q)[1], 0.2, 7)
        return torch.cat([out[0], out[1]], dim=1)[0]

    found = torch.autograd.functional.jacobian(move, torch.cat([Q, P], dim=1)[0])
    assert float(torch.linalg.det(found)) == pytest.approx(1, abs=1e-12)


def test_dual_averaging_finds_the_step_of_a_given_acceptance() -> None:
    """Acceptance exp(-e^2) has 0.8 at e = sqrt(-log 0.8)."""
    averaging = DualAveraging(0.01, 0.8)
    for _ in range(2000):
        averaging.update(math.exp(-(averaging.size**2)))
    assert averaging.average == pytest.approx(math.sqrt(-math.log(0.8)), rel=0.01)


def test_five_dimensional_gaussian(run: Run) -> None:
    """16 chains: means within 4 standard errors, covariance within 10 %, chains agree."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((5, 10))
    covariance = root @ root.T / 10 + 0.1 * np.eye(5)
    mean = torch.from_numpy(rng.standard_normal(5))
    settings = Hmc(n_chains=16, n_warmup=60, n_samples=400, thin=1, step_size_init=0.1, trajectory_length=1.2)
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(16, 5, dtype=F64, generator=generator)
    sampler = Sampler(settings, gaussian(torch.from_numpy(np.linalg.inv(covariance)), mean), start, generator)
    sampler.run(run)
    draws = torch.stack(sampler.kept, dim=1).numpy()
    ess = effective_sample_size(draws)
    errors = (draws.mean(axis=(0, 1)) - mean.numpy()) / np.sqrt(np.diag(covariance) / ess)
    assert np.abs(errors).max() < 4
    found = np.cov(draws.reshape(-1, 5).T)
    assert np.linalg.norm(found - covariance) / np.linalg.norm(covariance) < 0.1
    assert split_r_hat(draws).max() < 1.02
    diagnostics = sampler.diagnostics()
    assert diagnostics["divergences"].sum() == 0
    assert 0.6 < float(diagnostics["acceptance"].mean()) < 0.97


@pytest.mark.parametrize("seed", [0, 1])
def test_conjugate_regression(seed: int, session: Session, regression: Callable[..., Task]) -> None:
    """The whole optimizer against the posterior in closed form: means within 4 standard errors, variances in 20 %."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((40, 4)) @ np.array([[1, 0.8, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.3], [0, 0, 0, 0.5]])
    task = regression(x, x @ rng.standard_normal(4) + 0.7 * rng.standard_normal(40))
    y = task.train.examples().targets
    assert y is not None
    exact = conjugate(x, y[:, 0].numpy(), 0.5, 1.5)
    run = Run(seed, session)
    settings = Hmc(n_chains=8, n_warmup=60, n_samples=300, thin=1, noise_variance=0.5, trajectory_length=0.4)
    network = Bayesian(model=Linear(), prior_std=1.5).build(task, run)
    snapshot = sample(settings, network, task, run)
    posterior = snapshot.network
    assert isinstance(posterior, PosteriorNetwork)
    assert snapshot.certificate["converged"]
    draws = posterior.samples.reshape(8, 300, 4).numpy()
    errors = (draws.mean(axis=(0, 1)) - exact.mean) / np.sqrt(np.diag(exact.covariance) / effective_sample_size(draws))
    assert np.abs(errors).max() < 4
    assert draws.reshape(-1, 4).var(axis=0) == pytest.approx(np.diag(exact.covariance), rel=0.2)
    assert posterior(torch.from_numpy(x))[:, 0].numpy() == pytest.approx(x @ exact.mean, abs=0.15)


def digits_energy(run: Run, dtype: str = "float64") -> tuple[Task, BayesianNetwork, Any]:
    task = Digits(n_train=50, n_test=20, dtype=dtype).load(run)  # type: ignore[arg-type]
    network = Bayesian(model=Mlp(width=5, depth=1, activation="tanh"), prior_std=0.8).build(task, run)
    assert isinstance(network, BayesianNetwork)
    return task, network, Energy(network, task, 1.0, "cpu")


def test_the_energy_is_the_sum_of_losses_and_the_prior(run: Run) -> None:
    """One network by hand, and its gradient by torch."""
    task, network, potential = digits_energy(run)
    examples = task.train.examples()
    assert examples.targets is not None
    position = torch.stack([torch.nn.utils.parameters_to_vector(network.parameters()).detach()] * 2)
    position[1] *= 1.7
    found, gradient = potential(position)
    for row in range(2):
        torch.nn.utils.vector_to_parameters(position[row], network.parameters())
        likelihood = torch.nn.functional.cross_entropy(
            network.network(examples.inputs), examples.targets, reduction="sum"
        )
        value = likelihood + sum(p.square().sum() for p in network.parameters()) / (2 * 0.64)
        assert float(found[row]) == pytest.approx(float(value.detach()), rel=1e-12)
        parts = torch.autograd.grad(value, list(network.parameters()))
        assert torch.allclose(gradient[row], torch.cat([p.reshape(-1) for p in parts]), atol=1e-10)


PERCEPTRONS = [
    Mlp(width=5, depth=1, activation="tanh"),
    Mlp(width=5, depth=3, activation="relu"),
    Mlp(width=5, depth=2, activation="tanh", bias=False),
    Mlp(width=5, depth=2, activation="relu", parametrisation="ntk"),
    Mlp(depth=0),
]


@pytest.mark.parametrize("model", PERCEPTRONS, ids=["tanh", "deep relu", "no bias", "ntk", "linear"])
def test_the_likelihood_by_hand_is_autograds(model: Mlp, run: Run) -> None:
    task = Digits(n_train=40, n_test=10, dtype="float64").load(run)
    examples, network = task.train.examples(), model.build(task, run)
    assert examples.targets is not None
    by_hand = PerceptronLikelihood.of(network, examples.inputs, examples.targets)
    assert by_hand is not None
    generator = torch.Generator().manual_seed(2)
    flat = torch.randn(3, len(flattened(network)), dtype=F64, generator=generator).requires_grad_()
    logits = forward_many(network.eval(), unflattened(network, flat), examples.inputs)
    repeated = examples.targets.repeat(3)
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), repeated, reduction="none").view(3, -1).sum(dim=1)
    (expected,) = torch.autograd.grad(losses.sum(), flat)
    value, gradient = by_hand(flat.detach())
    assert torch.allclose(value, losses.detach(), rtol=1e-12)
    assert torch.allclose(gradient, expected, atol=1e-9)
    assert torch.allclose(by_hand.gradient(flat.detach()), expected, atol=1e-9)


def test_what_is_not_done_by_hand(run: Run) -> None:
    task = Digits(n_train=10, n_test=5).load(run)
    examples = task.train.examples()
    assert examples.targets is not None
    for model in (Mlp(width=3, activation="gelu"), Cnn(channels=(2,)), Mlp(width=3, dropout=0.1)):
        assert PerceptronLikelihood.of(model.build(task, run), examples.inputs, examples.targets) is None
    network = Mlp(width=3).build(task, run)
    assert PerceptronLikelihood.of(network, examples.inputs, examples.targets.float()) is None


def test_fast_tanh_is_tanh() -> None:
    values = torch.cat([torch.linspace(-12, 12, 999), torch.tensor([-1e30, 1e30, 0.0, 1e-20])])
    assert torch.allclose(tanh_(values.clone()), values.tanh(), atol=2e-7, rtol=0)


def test_two_classes_with_one_output_are_logistic(run: Run, session: Session) -> None:
    task, _, _ = digits_energy(run)
    two = Task(task.splits, task.input_shape, (1,), dtype=task.dtype, classes=2)
    two._drawn["train"] = task.train
    task.train.targets = (task.train.examples().targets < 5).long()  # type: ignore[union-attr, attr-defined, operator]
    network = Bayesian(model=Mlp(width=3, depth=1, activation="tanh")).build(two, run)
    assert isinstance(network, BayesianNetwork)
    flat = torch.nn.utils.parameters_to_vector(network.parameters()).detach()[None]
    examples = two.train.examples()
    logits, targets = network.network(examples.inputs).detach()[:, 0], examples.targets
    assert targets is not None
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets.double(), reduction="sum")
    found, _ = Energy(network, two, 1.0, "cpu")(flat)
    assert float(found) == pytest.approx(float(expected + flat.square().sum() / 2), rel=1e-12)


SMALL = {"n_chains": 2, "n_warmup": 6, "n_samples": 8, "warm_start_steps": 20, "max_leapfrog": 20}


def test_a_stored_posterior_comes_back_with_its_diagnostics(fitted: Callable[..., Fitted]) -> None:
    fit = fitted(Hmc(**SMALL))  # type: ignore[arg-type]
    network = fit.network
    assert isinstance(network, PosteriorNetwork)
    assert network.samples.shape[0] == 2 * 8 // 2
    assert network.diagnostics.get_buffer("potential").shape == (2, 8)
    outputs = network(fit.task.test.examples().inputs)
    assert outputs.logsumexp(dim=1).abs().max() < 1e-5
    assert "residual" in fit.certificate


def test_chains_do_not_depend_on_each_others_number(fitted: Callable[..., Fitted]) -> None:
    """Starts are the chain's own: the first chain's MAP is the same whether there are two or three."""
    starts = [
        fitted(Hmc(**{**SMALL, "n_chains": n, "n_warmup": 0, "n_samples": 2, "step_size_init": 1e-9})) for n in (2, 3)
    ]  # type: ignore[arg-type]
    first, second = (fit.network.samples[0] for fit in starts)  # type: ignore[union-attr]
    assert torch.allclose(first, second, atol=1e-4)  # type: ignore[arg-type]


def test_a_divergent_chain_is_said_and_not_averaged_silently(fitted: Callable[..., Fitted]) -> None:
    fit = fitted(Hmc(**{**SMALL, "adapt_step": False, "step_size_init": 5.0}))  # type: ignore[arg-type]
    assert fit.certificate["converged"] is False
    network = fit.network
    assert isinstance(network, PosteriorNetwork)
    assert network.diagnostics.get_buffer("divergences").sum() > 0
    assert torch.isfinite(network.samples).all()  # a divergent proposal is rejected


def test_chains_that_stand_still_have_not_converged(fitted: Callable[..., Fitted]) -> None:
    """As in an earlier work: trajectories of length 0.03 from the prior, acceptance near 1."""
    settings = {"adapt_step": False, "step_size_init": 0.001, "trajectory_length": 0.03, "warm_start_steps": 0}
    fit = fitted(Hmc(**{**SMALL, "n_samples": 12, **settings}))  # type: ignore[arg-type]
    network = fit.network
    assert isinstance(network, PosteriorNetwork)
    assert float(network.diagnostics.get_buffer("acceptance").mean()) > 0.99
    assert fit.certificate["converged"] is False
    assert fit.certificate["residual"] > 0.5


class Memory(Checkpoints):
    """Keeps what is saved after so many trajectories, then ends the fit."""

    def __init__(self, after: int | None, found: Any = None):
        self.after, self.found, self.asked = after, found, 0

    def due(self) -> bool:
        self.asked += 1
        if self.after is not None and self.asked > self.after:
            raise KeyboardInterrupt
        return self.asked == self.after

    def save(self, state: Any) -> None:
        import io

        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        self.found = torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)

    def load(self) -> Any:
        return self.found


def test_an_interrupted_fit_goes_on_to_the_same_bits(session: Session, tmp_path: Path) -> None:
    def whole(checkpoints: Checkpoints) -> Tensor:
        run = Run(3, session)
        run.checkpoints = checkpoints
        task = Digits(n_train=60, n_test=20).load(run)
        network = Bayesian(model=Mlp(width=4, depth=1, activation="tanh")).build(task, run)
        found = sample(Hmc(**SMALL), network, task, run).network  # type: ignore[arg-type]
        assert isinstance(found, PosteriorNetwork)
        return found.samples

    memory = Memory(9)
    with pytest.raises(KeyboardInterrupt):
        whole(memory)
    assert torch.equal(whole(Memory(None, memory.found)), whole(Checkpoints()))


def test_what_it_refuses(run: Run) -> None:
    with pytest.raises(ValueError, match=r"thin = 9: a chain has 5 draws"):
        Hmc(n_samples=5, thin=9)
    task = Digits(n_train=20, n_test=5).load(run)
    with pytest.raises(CannotGive, match=r"hmc needs a prior: write \[model\]"):
        sample(Hmc(), Mlp(width=3).build(task, run), task, run)
    settings = Hmc(**{**SMALL, "warm_start_steps": 0})  # type: ignore[arg-type]

    def nowhere(q: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tensor([1.0, math.inf], dtype=F64), q

    with pytest.raises(ValueError, match="the energy of chain 1 is inf where it starts"):
        Sampler(settings, nowhere, torch.zeros(2, 3), torch.Generator())
