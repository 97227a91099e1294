"""Optimizers that step along gradients: one training loop, and a `torch.optim.Optimizer` for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs

from kempeframe import Attack, Evaluator, Model, Optimizer, component, field
from kempeframe_standard.schedules import Schedule, rate_factor, spaced

if TYPE_CHECKING:
    import torch
    from torch import nn

    from kempeframe.components import Fit, FitJob
    from kempeframe.runs import Run
    from kempeframe.task import Snapshot, Task


@attrs.frozen(kw_only=True)
class Spaced:
    """Steps between two: { geometric = [1, 1e5], points = 60 } or { linear = [0, 1000], points = 11 }."""

    points: int = field(doc="number of steps; those that round to one whole number count once", ge=2)
    geometric: tuple[int, int] | None = field(None, "first and last step, spaced evenly in the logarithm", ge=1)
    linear: tuple[int, int] | None = field(None, "first and last step, spaced evenly", ge=0)

    def __attrs_post_init__(self) -> None:
        ends = [ends for ends in (self.geometric, self.linear) if ends is not None]
        if len(ends) != 1:
            raise ValueError("expected either geometric or linear")
        if ends[0][0] >= ends[0][1]:
            raise ValueError(f"expected the first step before the last, got {list(ends[0])}")

    @property
    def steps(self) -> list[int]:
        """The steps, in order."""
        first, last = self.geometric or self.linear or (0, 0)
        return spaced(self.geometric is not None, first, last, self.points)


@attrs.frozen(kw_only=True)
class EarlyStopping:
    """End a fit that no longer gets better on the task's validation split, and take its best weights."""

    metric: Literal["loss", "accuracy"] = field("loss", "what gets better")
    every: int = field(doc="steps between two looks at the validation split", ge=1)
    patience: int = field(doc="looks without a new best after which the fit ends", ge=1)


@attrs.frozen(kw_only=True)
class Monitor:
    """End a fit once an evaluator's metric passes a level: a training accuracy of 1, say, or a loss of 1e-6."""

    evaluator: Evaluator = field(doc="what is measured on the way")
    metric: str | None = field(None, "one of its columns; not given: the first")
    every: int = field(doc="steps between two looks", ge=1)
    stop_above: float | None = field(None, "the fit ends once the metric is at least this")
    stop_below: float | None = field(None, "the fit ends once the metric is at most this")

    def __attrs_post_init__(self) -> None:
        if (self.stop_above is None) == (self.stop_below is None):
            raise ValueError("expected exactly one of stop_above and stop_below")
        columns = self.evaluator.columns()
        if self.metric is not None and self.metric not in columns:
            raise ValueError(f"metric = {self.metric!r}: the evaluator gives {', '.join(columns)}")

    @property
    def column(self) -> str:
        """The metric that is looked at."""
        return self.metric or next(iter(self.evaluator.columns()))

    def reached(self, value: float) -> bool:
        """Whether a fit with this value is done."""
        if self.stop_above is not None:
            return value >= self.stop_above
        assert self.stop_below is not None
        return value <= self.stop_below


@component
class GradientOptimizer(Optimizer):
    """The training loop, for any loss; a subclass gives the `torch.optim.Optimizer`, and nothing else.

    A step takes `accumulate` batches and minimises sum(w l) / sum(w) over all their examples (w = 1 where a batch has
    no weights). In one process without mixed precision, network and torch optimizer are called as they are.

    Fits of one shape that differ in seed and data are trained as one stack, where the model says that this is faster.
    In several processes each takes its share of every batch, and the result is that of one process but for rounding;
    what the network (dropout) or the attack draws at random is then drawn by each process for its share.

    A loss that is not finite ends the fit with DivergedError.
    """

    in_place: ClassVar[bool] = True
    distributed: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True  # each weight's update looks at that weight alone: many networks share one step
    regularised: ClassVar[bool] = False  # `regulariser` gives something: then one network at a time, in one process
    descends: ClassVar[bool] = False  # on all examples a loss that ends above its start is an error: too large steps

    loss: Literal["cross_entropy", "negative_log_likelihood", "logistic", "exponential", "squared", "hinge"] = field(
        "cross_entropy", "of outputs and targets; class targets become -1/+1 or one-hot minus 1/classes inside"
    )
    log_domain: bool = field(
        False, "minimise the log of the mean loss, exactly also where losses underflow: exponential, logistic and such"
    )
    learning_rate: float = field(1e-3, "largest step size", gt=0)
    steps: int | None = field(None, "updates; give this or epochs", ge=1)
    epochs: int | None = field(None, "passes over the training split; give this or steps", ge=1)
    batch_size: int | Literal["full"] = field(32, 'examples in a batch; "full": all of them', ge=1)
    accumulate: int = field(1, "batches in a step", ge=1)
    weight_decay: float = field(0.0, "as the torch optimizer means it", ge=0)
    gradient_clipping: float | None = field(None, "largest Euclidean norm of a step's gradient", gt=0)
    schedule: Schedule = field("constant", "of the learning rate, after the warm-up")
    warmup_steps: int = field(0, "updates over which the learning rate grows linearly", ge=0)
    decay_steps: int | None = field(None, 'updates between two decays of schedule "step"', ge=1)
    decay_factor: float = field(0.1, 'what schedule "step" multiplies the learning rate by', gt=0, le=1)
    decay_exponent: float = field(0.5, 'of schedule "power": update t has learning_rate / t^decay_exponent', ge=0, le=1)
    mixed_precision: Literal["no", "bf16", "fp16"] = field("no", "type in which the network computes, by autocast")
    adversarial: bool = field(False, "train against the trial's attack")
    early_stopping: EarlyStopping | None = field(None, "on the validation split; the fit takes the best weights")
    monitor: Monitor | None = field(None, "end the fit once a metric passes a level; else it has not converged")
    snapshots: tuple[int, ...] | Spaced = field((), "steps before the last one at which evaluators look too", ge=0)

    def __attrs_post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("expected exactly one of steps and epochs")
        if (self.schedule == "step") != (self.decay_steps is not None):
            raise ValueError('expected decay_steps with schedule = "step", and only there')
        if self.batch_size == "full" and self.accumulate > 1:
            raise ValueError('accumulate > 1: with batch_size = "full" a step has one batch')
        if self.early_stopping is not None and self.monitor is not None:
            raise ValueError("early_stopping and monitor both end a fit: give one")
        if self.log_domain and self.loss not in ("cross_entropy", "logistic", "exponential"):
            raise ValueError(f'log_domain: the {self.loss} loss can be 0; it is for "exponential", "logistic" and such')
        if self.log_domain and self.accumulate > 1:
            raise ValueError("log_domain: the log of a mean can't be accumulated over batches")

    def check_with(self, fit: Fit) -> None:
        if self.monitor is not None:
            self.monitor.evaluator.check_with(fit)

    @property
    def uses_attack(self) -> bool:  # type: ignore[override]
        """Whether the fit depends on the trial's attack."""
        return self.adversarial

    @property
    def needs_attack(self) -> bool:
        return self.adversarial

    @property
    def trajectory(self) -> bool:  # type: ignore[override]
        """Whether there are snapshots before the last."""
        return bool(self.snapshot_steps)

    @property
    def snapshot_steps(self) -> Sequence[int]:
        """Steps of the snapshots; those from the last step on do not come."""
        return self.snapshots.steps if isinstance(self.snapshots, Spaced) else self.snapshots

    def torch_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimizer of these parameters, with the learning rate at its largest.

        Its `step` is given a closure, which it may call more than once.
        """
        raise NotImplementedError

    def regulariser(self, network: nn.Module, task: Task) -> torch.Tensor:
        """What is added to each step's mean loss besides: a scalar that depends on the network, not on the batch.

        Only where `regularised` says so. It may draw from torch's global generator, which is seeded at each step.
        """
        raise NotImplementedError

    def rate_factor(self, step: int, steps: int) -> float:
        """What the learning rate is multiplied by in one update of so many."""
        decay = (self.decay_steps, self.decay_factor, self.decay_exponent)
        return rate_factor(self.schedule, step, steps, self.warmup_steps, *decay)

    @property
    def constant_rate(self) -> bool:
        """Whether every update has the same learning rate."""
        return self.schedule == "constant" and self.warmup_steps == 0

    def stacked_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimizer of weights with the networks of a stack in front, each of which takes its own step."""
        return self.torch_optimizer(parameters)

    @property
    def separable(self) -> bool:
        """Whether `stacked_optimizer` gives each network of a stack its own step."""
        return self.elementwise

    @property
    def can_stack(self) -> bool:
        """Whether one step of this optimizer can serve many networks at once."""
        plain = not self.adversarial and not self.regularised and self.mixed_precision == "no"
        return self.separable and plain

    def diagnostics(self, optimizer: torch.optim.Optimizer, fit: int) -> Mapping[str, float]:
        """What the torch optimizer can tell about a fit (number `fit` of its stack) at its end, for the certificate."""
        return {}

    def unit(self, model: Model) -> tuple[str, ...]:
        return ("seed", "data") if model.stackable and self.can_stack else ()

    def seeds_together(self, model: Model) -> int:
        return model.seeds_together

    def fit(self, network: nn.Module, task: Task, attack: Attack | None, run: Run) -> Iterator[Snapshot]:
        from kempeframe.components import FitJob
        from kempeframe_standard.training import fit_one

        yield from fit_one(FitJob(self, network, task, attack, run))

    def fit_many(self, jobs: Sequence[FitJob]) -> Iterator[tuple[int, Snapshot]]:
        from kempeframe_standard.training import fit_many

        yield from fit_many(jobs)


@component
class Sgd(GradientOptimizer):
    """w <- w - learning_rate v, with the velocity v <- momentum v + gradient + weight_decay w."""

    momentum: float = field(0.0, "of the velocity", ge=0, lt=1)
    nesterov: bool = field(False, "look ahead along the velocity")

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov = true needs a momentum above 0")

    def torch_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        from torch.optim import SGD

        return SGD(
            parameters,
            lr=self.learning_rate,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            fused=True,  # one kernel for all: on small networks a third of the time
        )


@component
class Adam(GradientOptimizer):
    """Adam (Kingma and Ba, 2015); its weight decay is an L2 penalty, part of the gradient."""

    beta1: float = field(0.9, "decay of the gradient's mean", ge=0, lt=1)
    beta2: float = field(0.999, "decay of its square's mean", ge=0, lt=1)
    epsilon: float = field(1e-8, "added to the root of the square's mean", gt=0)

    def torch_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        from torch import optim

        return optim.Adam(parameters, **self.settings)

    @property
    def settings(self) -> dict[str, Any]:
        """What torch's Adam and AdamW are given."""
        betas = (self.beta1, self.beta2)
        return dict(lr=self.learning_rate, betas=betas, eps=self.epsilon, weight_decay=self.weight_decay, fused=True)


@component
class Adamw(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019): w <- w - learning_rate weight_decay w besides."""

    weight_decay: float = field(0.01, "times the learning rate: what share of a weight a step takes away", ge=0)

    def torch_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        from torch.optim import AdamW

        return AdamW(parameters, **self.settings)
