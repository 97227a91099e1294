"""Optimizers that give a point estimate, an ensemble, or an exact posterior. Samplers and variational ones: beside."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from kempeframe_standard.optimizers_gradient import Adam, GradientOptimizer

from kempeframe import Attack, Model, Optimizer, component, field

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kempeframe.components import FitJob
    from kempeframe.runs import Run
    from kempeframe.task import Snapshot, Task


class PosteriorOptimizer(Optimizer):
    """What leaves a posterior of many samples behind."""

    def restore(self, network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
        from kempeframe_attacking_bayes.members import restored

        return restored(network, state)


@component
class Map(Adam):
    """Maximum a posteriori: Adam on mean loss + |w|^2 / (2 n prior_std^2), that is weight_decay 1 / (n prior_std^2).

    For models with a prior (`bayesian`). The loss is a mean over n training examples, the posterior's a sum.
    """

    learning_rate: float = field(0.01, "largest step size", gt=0)
    batch_size: int | Literal["full"] = field("full", 'examples in a batch; "full": all of them', ge=1)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.weight_decay:
            raise ValueError("weight_decay: the model's prior gives it")

    def fit(self, network: nn.Module, task: Task, attack: Attack | None, run: Run) -> Iterator[Snapshot]:
        from kempeframe.components import FitJob

        for _, snapshot in self.fit_many([FitJob(self, network, task, attack, run)]):
            yield snapshot

    def fit_many(self, jobs: Sequence[FitJob]) -> Iterator[tuple[int, Snapshot]]:
        from kempeframe_attacking_bayes.members import with_prior

        yield from super().fit_many([with_prior(job) for job in jobs])


@component
class Ensemble(PosteriorOptimizer):
    """Independent fits of one model as a posterior (Lakshminarayanan et al., 2017): they start and shuffle differently.

    For models that can be built again (`bayesian`). All members are trained as one stack where the model is small.
    """

    optimizer: Optimizer = field(doc="what trains a member, any optimizer by gradients")
    n_members: int = field(10, "number of networks", ge=1)

    def __attrs_post_init__(self) -> None:
        _by_gradients(self.optimizer)

    def fit(self, network: nn.Module, task: Task, attack: Attack | None, run: Run) -> Iterator[Snapshot]:
        from kempeframe_attacking_bayes.members import fit_ensemble

        yield fit_ensemble(self, network, task, attack, run)

    @property
    def uses_attack(self) -> bool:  # type: ignore[override]
        """Whether its members are trained against the trial's attack."""
        return self.optimizer.uses_attack

    @property
    def needs_attack(self) -> bool:
        return self.optimizer.needs_attack


@component
class McDropout(PosteriorOptimizer):
    """Dropout masks as posterior samples (Gal and Ghahramani, 2016), drawn once, after training.

    For models with dropout (`dropout`); in every sample whole hidden units are absent.
    """

    in_place: ClassVar[bool] = True

    optimizer: Optimizer = field(doc="what trains the network, any optimizer by gradients")
    n_samples: int = field(100, "masks", ge=1)

    def __attrs_post_init__(self) -> None:
        _by_gradients(self.optimizer)

    def fit(self, network: nn.Module, task: Task, attack: Attack | None, run: Run) -> Iterator[Snapshot]:
        from kempeframe_attacking_bayes.members import fit_with_masks

        yield from fit_with_masks(self, network, task, attack, run)

    @property
    def uses_attack(self) -> bool:  # type: ignore[override]
        """Whether the network is trained against the trial's attack."""
        return self.optimizer.uses_attack

    @property
    def needs_attack(self) -> bool:
        return self.optimizer.needs_attack

    @property
    def trajectory(self) -> bool:  # type: ignore[override]
        """Whether the training has snapshots before the last: each gets masks of its own."""
        return self.optimizer.trajectory

    def unit(self, model: Model) -> tuple[str, ...]:
        return ()


@component
class ExactGaussian(PosteriorOptimizer):
    """Draws from a Gaussian posterior over a linear model's weights, and their exact mean and covariance.

    In regression (one output) the conjugate posterior under the model's prior; on `gaussian_linear` data the posterior
    that the data come with. float64 inside.
    """

    noise_variance: float = field(1.0, "of the targets, in regression", gt=0, lt=math.inf)
    n_samples: int = field(100, "draws", ge=1)

    def fit(self, network: nn.Module, task: Task, attack: Attack | None, run: Run) -> Iterator[Snapshot]:
        from kempeframe_attacking_bayes.exact import fit_exactly

        yield fit_exactly(self, network, task, run)

    def restore(self, network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
        from kempeframe_attacking_bayes.exact import restored

        return restored(network, state)


def _by_gradients(optimizer: Optimizer) -> None:
    if not isinstance(optimizer, GradientOptimizer):
        name = type(optimizer).component_name()
        raise ValueError(f"optimizer = {name}: expected one that trains by gradients, standard.adam say")
