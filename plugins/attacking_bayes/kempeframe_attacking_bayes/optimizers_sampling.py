"""Hamiltonian Monte Carlo."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kempeframe import Attack, component, field
from kempeframe_attacking_bayes.optimizers import PosteriorOptimizer

if TYPE_CHECKING:
    from torch import nn

    from kempeframe.runs import Run
    from kempeframe.task import Snapshot, Task


@component
class Hmc(PosteriorOptimizer):
    """Hamiltonian Monte Carlo over all parameters of a model with a prior (`bayesian`): the reference posterior.

    U = sum of the losses over the training set + |w|^2 / (2 prior_std^2), leapfrog, Metropolis (brief, 3.3; Neal,
    2011). Chains go in step, as one stack: each starts at a MAP fit of its own, or, with warm_start_steps = 0, at a
    draw from the prior. The step size is found in the warm-up by dual averaging and frozen then; it is jittered, which
    breaks periodic orbits. The natural trajectory length is pi/2 prior_std, a quarter period of the prior.

    `converged`: no divergent trajectory after the warm-up, every chain moved, and 95 % of the predictive probabilities
    on training inputs have a split R-hat below `largest_r_hat`. `residual`: that quantile of R-hat, less 1.
    """

    n_chains: int = field(4, "chains", ge=1)
    n_warmup: int = field(40, "trajectories that find the step size", ge=0)
    n_samples: int = field(60, "trajectories after that, in each chain", ge=1)
    thin: int = field(2, "keep every so-and-so-manieth draw", ge=1)
    trajectory_length: float = field(1.5, "step size times number of steps", gt=0, lt=math.inf)
    max_leapfrog: int = field(200, "steps of a trajectory at most", ge=1)
    step_size_init: float = field(0.02, "first step size; without a warm-up the step size", gt=0, lt=math.inf)
    step_jitter: float = field(0.1, "step sizes lie within this share of the step size", ge=0, lt=1)
    target_acceptance: float = field(0.8, "mean acceptance probability that the warm-up aims at", gt=0, lt=1)
    adapt_step: bool = field(True, "find the step size in the warm-up, else keep the first one")
    warm_start_steps: int = field(400, "steps of Adam to the MAP before the warm-up; 0: start at the prior", ge=0)
    warm_start_learning_rate: float = field(0.01, "of Adam", gt=0, lt=math.inf)
    noise_variance: float = field(1.0, "of the targets, in regression", gt=0, lt=math.inf)
    largest_r_hat: float = field(1.1, "beyond which the chains have not converged", gt=1)

    def __attrs_post_init__(self) -> None:
        if self.thin > self.n_samples:
            raise ValueError(f"thin = {self.thin}: a chain has {self.n_samples} draws (n_samples)")

    def fit(self, network: nn.Module, task: Task, attack: Attack | None, run: Run) -> Iterator[Snapshot]:
        from kempeframe_attacking_bayes.sampling import sample

        yield sample(self, network, task, run)
