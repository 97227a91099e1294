"""Attacks that look at a posterior: at its uncertainty, at some of its samples, or at it with other numerics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from kempeframe_standard.attacks import BallAttack, to_the_end

from kempeframe import Attack, component, field

if TYPE_CHECKING:
    from kempeframe_standard.judging import Found
    from kempeframe_standard.regions import Region
    from torch import Tensor, nn

    from kempeframe.runs import Run
    from kempeframe.task import Batch, Task
    from kempeframe_attacking_bayes.stacked import StackedNetwork

Uncertainty = Literal["total", "epistemic"]
UNCERTAINTY = "total: entropy of the mean predictive; epistemic: mutual information (needs several samples)"


class OnSamples(BallAttack):
    """A ball attack whose objective is a function of every sample's logits, (n, S, classes)."""

    def bind(self, task: Task, run: Run) -> Attack:
        from kempeframe_attacking_bayes.views import BoundToSamples

        return BoundToSamples(attack=self, box=task.bounds)


@component
class PgdPlus(OnSamples):
    """PGD+: first break the label, then lower the uncertainty of what is broken (the paper's attack on detection).

    Stage 1 is PGD on the margin. Stage 2 goes on from there by steepest steps that lower the uncertainty, in the same
    ball round the clean input; of its iterates that are misclassified the least uncertain one is taken. Examples that
    stage 1 did not break keep its point.
    """

    steps: int = field(40, "gradients of stage 1", ge=1)
    uncertainty_steps: int = field(40, "gradients of stage 2", ge=1)
    step_size: float | None = field(None, "length of a step; by default 2.5 epsilon / steps of the stage", gt=0)
    uncertainty: Uncertainty = field("total", UNCERTAINTY)
    random_start: bool = field(True, "start at a random point of the ball, else at the clean input")

    def search(self, network: nn.Module, batch: Batch, region: Region, run: Run) -> Found:
        from kempeframe_attacking_bayes.lowering import break_then_lower

        return break_then_lower(self, network, batch, region, run)

    def objective(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Minus the uncertainty where misclassified, else the margin: these are not compared with one another."""
        import torch
        from kempeframe_standard.judging import margin, misclassified, targets_of

        from kempeframe_attacking_bayes.views import predictive, uncertainty

        outputs_mean, targets = predictive(outputs), targets_of(batch)
        missed = misclassified(outputs_mean, targets)
        return torch.where(missed, -uncertainty(outputs, self.uncertainty), margin(outputs_mean, targets))

    def broken(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Broken once misclassified; never done, for the uncertainty may fall further."""
        from kempeframe_standard.judging import BROKEN, misclassified, targets_of

        from kempeframe_attacking_bayes.views import predictive

        return misclassified(predictive(outputs), targets_of(batch)) * BROKEN


@component
class UncertaintyAttack(OnSamples):
    """Lowers (or raises) the uncertainty by projected steepest steps; it needs no targets.

    Lowered on inputs from elsewhere, raised on those from the training distribution, it breaks the detection of
    semantic shift.
    """

    direction: Literal["lower", "raise"] = field("lower", "which way the uncertainty goes")
    uncertainty: Uncertainty = field("total", UNCERTAINTY)
    steps: int = field(40, "number of gradients", ge=1)
    step_size: float | None = field(None, "length of a step; by default 2.5 epsilon / steps", gt=0)
    random_start: bool = field(True, "start at a random point of the ball, else at the clean input")

    @property
    def dual_norm(self) -> str | None:
        return None

    def search(self, network: nn.Module, batch: Batch, region: Region, run: Run) -> Found:
        from kempeframe_attacking_bayes.lowering import climb

        return climb(self, network, batch, region, run)

    def objective(self, outputs: Tensor, batch: Batch) -> Tensor:
        from kempeframe_attacking_bayes.views import uncertainty

        found = uncertainty(outputs, self.uncertainty)
        return -found if self.direction == "lower" else found

    def broken(self, outputs: Tensor, batch: Batch) -> Tensor:
        """None is: only the uncertainty counts."""
        import torch

        return torch.zeros(len(outputs), dtype=torch.int64, device=outputs.device)


class SurrogateAttack(Attack):
    """Another attack, against other views of the same network; the worst point of all for the network itself counts.

    The attack does not stop early: what breaks a view need not break the network.
    """

    attack: Attack

    @property
    def size(self) -> float | None:
        return self.attack.size

    @property
    def norm(self) -> Any:
        """Of the wrapped attack."""
        return getattr(self.attack, "norm", None)

    @property
    def epsilon(self) -> Any:
        """Of the wrapped attack."""
        return getattr(self.attack, "epsilon", None)

    def bind(self, task: Task, run: Run) -> Attack:
        from kempeframe_attacking_bayes.surrogates import BoundSurrogate

        return BoundSurrogate(self, to_the_end(self.attack).bind(task, run))

    def surrogates(self, network: StackedNetwork, run: Run) -> Sequence[nn.Module]:
        """What is attacked in place of the network."""
        raise NotImplementedError


@component
class PosteriorSubset(SurrogateAttack):
    """Attacks the mean predictive of K of a posterior's samples; what comes of it is scored on all of them.

    The same K at each step, or, with `resample`, others at each (expectation over transformation): then the attack has
    to take its last point, for a point that is best by some samples is not so by others.
    """

    attack: Attack = field(doc="what attacks them: standard.pgd, say")
    n_posterior_samples: int = field(1, "K; all, where there are no more", ge=1)
    resample: bool = field(False, "draw new samples at each step")

    def __attrs_post_init__(self) -> None:
        if self.resample and getattr(self.attack, "keep_best", False):
            raise ValueError("resample = true: give the attack keep_best = false")

    def surrogates(self, network: StackedNetwork, run: Run) -> Sequence[nn.Module]:
        from kempeframe_attacking_bayes.surrogates import some_samples

        return [some_samples(network, self.n_posterior_samples, self.resample, run)]


@component
class Tempered(SurrogateAttack):
    """Attacks softmax(z / temperature) of each sample, in place of networks whose softmax is saturated.

    From a margin of 16.64 on a float32 softmax is one-hot, its gradient wrong and then 0, and the network looks robust
    (brief, 3.9). Choose temperatures so that the median margin is about 5 to 10; the worst over all of them counts.
    `precision = "float64"` attacks a copy in double precision, which alone is no cure.
    """

    attack: Attack = field(doc="what attacks: standard.pgd, say")
    temperatures: tuple[float, ...] = field((1.0, 10.0), "each is tried", gt=0)
    precision: Literal["same", "float64"] = field("same", "in which gradients are computed")

    def __attrs_post_init__(self) -> None:
        if not self.temperatures:
            raise ValueError("temperatures = []: expected at least one")

    def surrogates(self, network: StackedNetwork, run: Run) -> Sequence[nn.Module]:
        from kempeframe_attacking_bayes.surrogates import doubled

        base = doubled(network) if self.precision == "float64" else network
        return [base if temperature == 1 else base.tempered(temperature) for temperature in self.temperatures]
