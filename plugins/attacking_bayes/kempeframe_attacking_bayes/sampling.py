"""Chains of Hamiltonian Monte Carlo on a network's parameters, all chains as one stack."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from kempeframe.checkpoints import Checkpoints
from kempeframe.runs import Run
from kempeframe.task import Snapshot, Task
from kempeframe_attacking_bayes.forward import forward_many, unflattened
from kempeframe_attacking_bayes.members import examples_of, member_runs, trained_members
from kempeframe_attacking_bayes.networks import BayesianNetwork, bayesian
from kempeframe_attacking_bayes.perceptrons import PerceptronLikelihood
from kempeframe_attacking_bayes.stacked import PosteriorNetwork
from kempeframe_attacking_bayes.theory_chains import split_r_hat, worst_of
from kempeframe_attacking_bayes.theory_hmc import DualAveraging, Potential, leapfrog
from kempeframe_attacking_bayes.theory_predictive import log_softmax_in_front

if TYPE_CHECKING:
    from kempeframe_attacking_bayes.optimizers_sampling import Hmc

DIVERGENT = 1000.0  # energy error from which on a trajectory counts as divergent, as in Stan
WATCHED = 100  # training inputs whose probabilities say whether the chains agree
REPORT_SECONDS = 0.2


def sample(settings: Hmc, network: nn.Module, task: Task, run: Run) -> Snapshot:
    """Run the chains; the posterior holds the kept draws, chain after chain, and its diagnostics.

    Raises:
        CannotGive: the network has no prior.
        ValueError: the energy of a chain is not finite where it starts.
    """
    prior = bayesian(network, "hmc")
    potential = Energy(prior, task, settings.noise_variance, run.device)
    state = run.checkpoints.load() or {}
    start = None if "sampler" in state else starts(settings, prior, task, run)
    sampler = Sampler(settings, potential, start, run.generator("optimizer"), state.get("sampler"))
    sampler.run(run)
    kept = torch.stack(sampler.kept, dim=1)  # (chains, draws, d)
    draws = kept.flatten(0, 1)
    inner = prior.network
    trace = _watched(PosteriorNetwork(inner, draws, link=prior.link), task, kept.shape[:2], run.device)
    r_hat = worst_of(split_r_hat(trace))
    diagnostics = sampler.diagnostics()
    divergences, acceptance = int(diagnostics["divergences"].sum()), diagnostics["acceptance"]
    certificate = {
        "converged": divergences == 0 and float(diagnostics["moved"].min()) > 0 and r_hat < settings.largest_r_hat,
        "residual": r_hat - 1,
        "training_loss": float(diagnostics["potential"].mean()) / len(examples_of(task)),
    }
    run.report(sampler.done, {"acceptance": float(acceptance.mean()), "r_hat": r_hat, "divergences": divergences})
    posterior = PosteriorNetwork(inner, draws, diagnostics, prior.link).eval()
    return Snapshot(sampler.leapfrogs, posterior, certificate)


class Energy:
    """U(q) = sum of losses + |q|^2 / (2 prior_std^2), (chains,) in float64, and its gradient (chains, d).

    The losses: cross-entropy; logistic with one output; (f - y)^2 / (2 noise_variance) in regression.
    """

    def __init__(self, network: BayesianNetwork, task: Task, noise_variance: float, device: str):
        examples = examples_of(task)
        self.inputs, self.targets = examples.inputs.to(device), examples.targets.to(device)
        self.network, self.prior_std = network.network.eval(), network.prior_std
        self.noise_variance = noise_variance
        self.by_hand = PerceptronLikelihood.of(self.network, self.inputs, self.targets)

    def __call__(self, position: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = self.by_hand(position) if self.by_hand else self._by_autograd(position)
        prior = position.square().sum(dim=1, dtype=torch.float64) / (2 * self.prior_std**2)
        return value + prior, gradient.add_(position, alpha=1 / self.prior_std**2)

    def gradient(self, position: Tensor) -> Tensor:
        """The gradient alone."""
        found = self.by_hand.gradient(position) if self.by_hand else self._by_autograd(position)[1]
        return found.add_(position, alpha=1 / self.prior_std**2)

    def _by_autograd(self, position: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            position = position.detach().requires_grad_()
            logits = forward_many(self.network, unflattened(self.network, position), self.inputs)
            value = self._losses(logits).sum(dim=1, dtype=torch.float64)
            (gradient,) = torch.autograd.grad(value.sum(), position)
        return value.detach(), gradient

    def _losses(self, logits: Tensor) -> Tensor:
        """(chains, n, outputs) -> (chains, n)."""
        targets = self.targets
        if targets.is_floating_point():
            return (logits - targets.reshape(logits.shape[1:])).square().sum(dim=2) / (2 * self.noise_variance)
        if logits.shape[2] == 1:
            return nn.functional.softplus(-(targets.to(logits) * 2 - 1) * logits[:, :, 0])
        return -log_softmax_in_front(logits).gather(0, targets.expand(1, len(logits), -1))[0]


def starts(settings: Hmc, network: BayesianNetwork, task: Task, run: Run) -> Tensor:
    """Where the chains begin, (chains, d): each at a MAP fit from its own initial weights, or at a prior draw."""
    from kempeframe_attacking_bayes.optimizers import Map

    runs = member_runs(run, settings.n_chains)
    runs[0].checkpoints = Checkpoints()  # the chains' own state goes there
    if settings.warm_start_steps:
        given: dict[str, Any] = {"loss": "cross_entropy" if task.classes is not None else "squared"}
        climb = Map(**given, learning_rate=settings.warm_start_learning_rate, steps=settings.warm_start_steps)
        return trained_members(network, climb, task, None, runs)[0]
    count = sum(parameter.numel() for parameter in network.parameters())
    drawn = [torch.randn(count, generator=one.generator("optimizer"), dtype=task.dtype) for one in runs]
    return torch.stack(drawn).to(run.device) * network.prior_std


class Sampler:
    """The chains as they go; `state` is what a checkpoint kept of them."""

    def __init__(
        self,
        settings: Hmc,
        potential: Potential,
        start: Tensor | None,
        generator: torch.Generator,
        state: Mapping[str, Any] | None = None,
    ):
        self.settings, self.potential, self.generator = settings, potential, generator
        self.gradient_alone = potential.gradient if isinstance(potential, Energy) else None
        self.averaging = DualAveraging(settings.step_size_init, settings.target_acceptance)
        self.done = self.leapfrogs = 0
        self.kept: list[Tensor] = []
        self.trace: dict[str, list[Tensor]] = {name: [] for name in ("potential", "acceptance", "error", "moved")}
        if state is not None:
            self._resume(state)
            return
        assert start is not None
        self.position = start
        self.energy, self.gradient = potential(start)
        bad = (~torch.isfinite(self.energy)).nonzero()[:, 0].tolist()
        if bad:
            raise ValueError(f"hmc: the energy of chain {bad[0]} is {float(self.energy[bad[0]])} where it starts")

    def run(self, run: Run) -> None:
        """All trajectories that are left."""
        warmup, total = self.settings.n_warmup, self.settings.n_warmup + self.settings.n_samples
        report_at = time.monotonic()
        while self.done < total:
            accepted, error, moved = self._trajectory()
            self.done += 1
            if self.done <= warmup:
                self.averaging.update(float(accepted.mean()))
            else:
                found = {"potential": self.energy, "acceptance": accepted, "error": error, "moved": moved.double()}
                for name, value in found.items():
                    self.trace[name].append(value)
                if (self.done - warmup) % self.settings.thin == 0:
                    self.kept.append(self.position)
            if time.monotonic() >= report_at:
                shown = {"acceptance": float(accepted.mean()), "step_size": self.step_size}
                run.report(self.done, {**shown, "potential": float(self.energy.mean())})
                report_at = time.monotonic() + REPORT_SECONDS
            if run.checkpoints.due():
                run.checkpoints.save({"sampler": self.state()})

    @property
    def step_size(self) -> float:
        """Before jitter: adapted in the warm-up, frozen after it."""
        if not self.settings.adapt_step or not self.settings.n_warmup:
            return self.settings.step_size_init
        return self.averaging.size if self.done < self.settings.n_warmup else self.averaging.average

    def _trajectory(self) -> tuple[Tensor, Tensor, Tensor]:
        """One proposal for each chain: acceptance probabilities, energy errors, and whether it was taken."""
        settings, position = self.settings, self.position
        uniform = torch.rand(1 + len(position), generator=self.generator, dtype=torch.float64)
        step_size = self.step_size * (1 + settings.step_jitter * (2 * float(uniform[0]) - 1))
        steps = min(settings.max_leapfrog, max(1, math.ceil(settings.trajectory_length / step_size)))
        momentum = torch.randn(position.shape, generator=self.generator, dtype=position.dtype).to(position.device)
        before = self.energy + _kinetic(momentum)
        proposal, end, energy, gradient = leapfrog(
            self.potential, position, momentum, self.gradient, step_size, steps, self.gradient_alone
        )
        self.leapfrogs += steps
        error = energy + _kinetic(end) - before
        error = torch.where(torch.isfinite(error), error, torch.inf)
        accepted = (-error).clamp_max(0).exp()
        moved = uniform[1:].to(accepted.device) < accepted
        self.position = torch.where(moved[:, None], proposal, position)
        self.gradient = torch.where(moved[:, None], gradient, self.gradient)
        self.energy = torch.where(moved, energy, self.energy)
        return accepted, error, moved

    def diagnostics(self) -> dict[str, Tensor]:
        """Of each chain after the warm-up; potential and error (chains, draws), the others (chains,)."""
        trace = {name: torch.stack(values, dim=1).cpu() for name, values in self.trace.items()}
        return {
            "potential": trace["potential"],
            "energy_error": trace["error"],
            "acceptance": trace["acceptance"].mean(dim=1),
            "moved": trace["moved"].mean(dim=1),
            "divergences": (trace["error"] > DIVERGENT).sum(dim=1),
            "step_size": torch.tensor(self.step_size, dtype=torch.float64),
            "leapfrog_steps": torch.tensor(self.leapfrogs),
        }

    def state(self) -> dict[str, Any]:
        """What going on from here needs."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        return {**plain, "averaging": self.averaging.state(), "generator": self.generator.get_state()}

    def _resume(self, state: Mapping[str, Any]) -> None:
        for name in _PLAIN:
            setattr(self, name, state[name])
        self.averaging.resume(state["averaging"])
        self.generator.set_state(state["generator"])


_PLAIN = ("position", "energy", "gradient", "done", "leapfrogs", "kept", "trace")


def _kinetic(momentum: Tensor) -> Tensor:
    return momentum.square().sum(dim=1, dtype=torch.float64) / 2


def _watched(posterior: PosteriorNetwork, task: Task, shape: torch.Size, device: str) -> np.ndarray:
    """Predictions on a few training inputs, (chains, draws, ...): what the chains have to agree on."""
    inputs = examples_of(task).inputs[:WATCHED].to(device)
    with torch.no_grad():
        logits = posterior.logits_per_sample(inputs)
    if task.classes is not None:
        logits = logits.softmax(dim=-1) if logits.shape[-1] > 1 else logits.sigmoid()
    found: np.ndarray = logits.reshape(*shape, *logits.shape[1:]).cpu().numpy()
    return found
