"""Variational inference: mean-field over all parameters, and in the space of functions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from kempeframe_standard.optimizers_gradient import Adam

from kempeframe import Attack, Model, component, field
from kempeframe_attacking_bayes.optimizers import PosteriorOptimizer

if TYPE_CHECKING:
    import torch
    from torch import nn

    from kempeframe.components import FitJob
    from kempeframe.runs import Run
    from kempeframe.task import Snapshot, Task

Losses = Literal["cross_entropy", "negative_log_likelihood", "logistic", "exponential", "squared", "hinge"]


@component
class Variational(PosteriorOptimizer, Adam):
    """What variational families share: Adam on the expected mean loss plus the family's divergence over n.

    With one output (two classes, regression) write mc_samples = 1 and loss = "logistic" or "squared", which then stands
    for a noise variance of 1/2.
    """

    distributed: ClassVar[bool] = False
    regularised: ClassVar[bool] = True

    loss: Losses = field("negative_log_likelihood", "of outputs and targets, whose mean over samples is taken")
    learning_rate: float = field(0.01, "largest step size", gt=0)
    batch_size: int | Literal["full"] = field(250, 'examples in a batch; "full": all of them', ge=1)
    mc_samples: int = field(2, "draws in a training step, in antithetic pairs", ge=1)
    n_samples: int = field(100, "draws that the posterior keeps", ge=1)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.weight_decay:
            raise ValueError("weight_decay: the prior takes its place")
        if self.mc_samples > 1 and self.loss != "negative_log_likelihood":
            raise ValueError(f'loss = "{self.loss}" needs mc_samples = 1: the network gives mean log-likelihoods')
        if self.early_stopping is not None or self.monitor is not None or self.adversarial or self.log_domain:
            raise ValueError("early_stopping, monitor, adversarial and log_domain do not go with variational inference")

    def unit(self, model: Model) -> tuple[str, ...]:
        return ()

    def fit(self, network: nn.Module, task: Task, attack: Attack | None, run: Run) -> Iterator[Snapshot]:
        from kempeframe_attacking_bayes.variational import fit_family

        yield from fit_family(self, network, task, run)

    def fit_many(self, jobs: Sequence[FitJob]) -> Iterator[tuple[int, Snapshot]]:
        from kempeframe.components import Optimizer

        yield from Optimizer.fit_many(self, jobs)


@component
class Mfvi(Variational):
    """Mean-field variational inference: q = N(mu, diag softplus(rho)^2) over all parameters (Blundell et al., 2015).

    loss = E_q NLL + KL(q || prior), brief 3.4; the KL counts once a step, whatever the batch. Also called Bayes by
    backprop and PSVI. softplus(-3) is 0.0486.
    """

    rho_init: float = field(-3.0, "rho before training", gt=-math.inf, lt=math.inf)

    def regulariser(self, network: nn.Module, task: Task) -> torch.Tensor:
        from kempeframe_attacking_bayes.variational import mean_field_penalty

        return mean_field_penalty(network, task)


@component
class Psvi(Mfvi):
    """Mean-field variational inference under the name that the paper uses: parameter-space variational inference."""


@component
class Fsvi(Variational):
    """Function-space variational inference on the last layer (Rudner et al., 2022), brief 3.4.

    loss = E_q NLL + sum_k KL of the last layer's functions at context points: half of them training inputs with noise,
    half training inputs with shuffled pixels, new ones at each step. The features are a point estimate under
    N(0, feature_prior_std^2); without that prior many more of them saturate.
    """

    n_context: int = field(32, "context points", ge=2)
    context_noise: float = field(0.3, "standard deviation of the noise on the first half of them", ge=0)
    jitter: float = field(1e-3, "on the diagonal of both covariances", gt=0)
    feature_prior_std: float | Literal["prior", "none"] = field(
        "prior", 'of the features\' parameters; "prior": the model\'s, "none": no prior', gt=0
    )
    rho_init: float = field(-4.0, "rho before training", gt=-math.inf, lt=math.inf)

    def regulariser(self, network: nn.Module, task: Task) -> torch.Tensor:
        from kempeframe_attacking_bayes.variational import function_space_penalty

        return function_space_penalty(self, network, task)
