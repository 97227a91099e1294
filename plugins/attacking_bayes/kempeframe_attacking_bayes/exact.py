"""Exact Gaussian posteriors over the weights of linear models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from kempeframe.runs import Run
from kempeframe.task import CannotGive, Snapshot, Task
from kempeframe_attacking_bayes.members import examples_of, inside
from kempeframe_attacking_bayes.networks import bayesian
from kempeframe_attacking_bayes.stacked import PosteriorNetwork, StackedNetwork
from kempeframe_attacking_bayes.theory_gaussian import GaussianPosterior, conjugate

if TYPE_CHECKING:
    from kempeframe_attacking_bayes.optimizers import ExactGaussian


class GaussianLinearNetwork(PosteriorNetwork):
    """w ~ N(m, V) with a probit likelihood: the exact mean predictive Phi(m.x / sqrt(1 + x'Vx)), as log-odds (n, 1).

    A subset of its samples is a stack of linear networks: their mean probit, as log-odds.
    """

    def __init__(self, network: nn.Module, samples: Tensor, mean: Tensor, covariance: Tensor):
        super().__init__(network, samples, {"mean": mean, "covariance": covariance})

    def logits_per_sample(self, inputs: Tensor) -> Tensor:
        return probit_log_odds(super().logits_per_sample(inputs))

    def forward(self, inputs: Tensor) -> Tensor:
        mean, covariance = self.diagnostic("mean"), self.diagnostic("covariance")
        assert mean is not None and covariance is not None
        flat = inputs.flatten(1)
        spread = 1 + ((flat @ covariance.to(flat)) * flat).sum(dim=1)
        return probit_log_odds(flat @ mean.to(flat) / spread.sqrt())[:, None]

    def subset(self, index: Tensor) -> StackedNetwork:
        return _ProbitStack(self.network, self.samples[index]).train(self.training)


class _ProbitStack(PosteriorNetwork):
    def logits_per_sample(self, inputs: Tensor) -> Tensor:
        return probit_log_odds(super().logits_per_sample(inputs))

    def subset(self, index: Tensor) -> StackedNetwork:
        return _ProbitStack(self.network, self.samples[index]).train(self.training)


def probit_log_odds(scores: Tensor) -> Tensor:
    """log Phi(s) - log Phi(-s), without a probability that rounds to 1."""
    log_ndtr = torch.special.log_ndtr
    difference: Tensor = log_ndtr(scores) - log_ndtr(-scores)
    return difference


def fit_exactly(settings: ExactGaussian, network: nn.Module, task: Task, run: Run) -> Snapshot:
    """The posterior in closed form, and draws from it.

    Raises:
        CannotGive: the network is not linear with one output, or nothing says what its posterior is.
    """
    inner, _ = inside(network)
    if sum(p.numel() for p in inner.parameters()) != task.inputs or task.outputs != 1:
        raise CannotGive("an exact posterior is for a linear model with one output and no bias: standard.linear")
    if isinstance(task.truth, GaussianPosterior):
        found = task.truth
    elif task.classes is None:
        found = _conjugate(settings, bayesian(network, "exact_gaussian").prior_std, task)
    else:
        raise CannotGive("the posterior of a linear classifier is not Gaussian; gaussian_linear data come with one")
    mean, covariance = torch.from_numpy(found.mean), torch.from_numpy(found.covariance)
    factor = np.linalg.cholesky(found.covariance + 1e-14 * np.trace(found.covariance) * np.eye(len(found.mean)))
    noise = run.rng("optimizer", "draws").standard_normal((settings.n_samples, len(found.mean)))
    samples = torch.from_numpy(found.mean + noise @ factor.T).to(task.dtype)
    if task.classes is not None:
        return Snapshot(0, GaussianLinearNetwork(inner, samples, mean, covariance).eval(), {"converged": True})
    diagnostics = {"mean": mean, "covariance": covariance}
    return Snapshot(0, PosteriorNetwork(inner, samples, diagnostics, "mean").eval(), {"converged": True})


def _conjugate(settings: ExactGaussian, prior_std: float, task: Task) -> GaussianPosterior:
    examples = examples_of(task)
    inputs, targets = examples.inputs.flatten(1).double().numpy(), examples.targets.reshape(-1).double().numpy()
    return conjugate(inputs, targets, settings.noise_variance, prior_std)


def restored(network: nn.Module, state: Mapping[str, Tensor]) -> PosteriorNetwork:
    """A stored one."""
    inner, link = inside(network)
    mean, covariance = state["diagnostics.mean"], state["diagnostics.covariance"]
    if link == "mean":
        return PosteriorNetwork.restored(inner, state, link)
    made = GaussianLinearNetwork(inner, state["samples"], mean, covariance)
    made.load_state_dict(dict(state))
    return made
