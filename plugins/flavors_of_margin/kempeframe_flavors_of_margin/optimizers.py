"""Optimizers: steepest descent in a norm, by the common training loop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from kempeframe_standard.optimizers_gradient import GradientOptimizer

from kempeframe import component, field
from kempeframe_flavors_of_margin.names import check_geometry, column_of

if TYPE_CHECKING:
    import torch
    from torch import nn

LOSSES = Literal["cross_entropy", "logistic", "exponential", "squared", "hinge"]
CYCLE = 0.5  # share of undone steps above which coordinate descent stands in a cycle


@component
class _LogDomain(GradientOptimizer):
    """What all of them share: the loss in the log domain, all examples in a step, and a step for each of a stack."""

    separable: ClassVar[bool] = True  # stacked_optimizer has a state for each network

    loss: LOSSES = field("exponential", "of outputs and targets; the theorem is for exponential and logistic")
    log_domain: bool = field(True, "minimise the log of the mean loss: the same directions at any loss")
    batch_size: int | Literal["full"] = field("full", 'examples in a batch; "full": all of them', ge=1)

    def torch_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return self._made(parameters, stacked=False)

    def stacked_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return self._made(parameters, stacked=True)

    def _made(self, parameters: Iterable[nn.Parameter], stacked: bool) -> torch.optim.Optimizer:
        raise NotImplementedError


@component
class _Steepest(_LogDomain):
    """Steepest descent in the norm that `geometry` names."""

    elementwise: ClassVar[bool] = False
    descends: ClassVar[bool] = True

    step: Literal["unit", "dual"] = field(
        "unit", "length: learning_rate, or that times the dual norm of the gradient (the paper's flow)"
    )
    momentum: float = field(0.0, "of the gradient, before the direction is taken", ge=0, lt=1)

    @property
    def geometry(self) -> Mapping[str, Any]:
        """norm, scope and what belongs to them, as `steepest.SteepestDescent` takes them."""
        raise NotImplementedError

    @property
    def margin_norm(self) -> str:
        """The norm whose margin it maximises, as the evaluators' columns name it."""
        norm, scope = self.geometry["norm"], self.geometry.get("scope", "flat")
        return column_of(norm if scope == "flat" else f"{scope}_{norm}")

    def _made(self, parameters: Iterable[nn.Parameter], stacked: bool) -> torch.optim.Optimizer:
        from kempeframe_flavors_of_margin.steepest import SteepestDescent as Steps

        options: dict[str, Any] = dict(step=self.step, momentum=self.momentum, weight_decay=self.weight_decay)
        return Steps(parameters, self.learning_rate, **options, **self.geometry, spend_gradients=True, stacked=stacked)

    def diagnostics(self, optimizer: torch.optim.Optimizer, fit: int) -> Mapping[str, float]:
        from kempeframe_flavors_of_margin.steepest import SteepestDescent as Steps

        assert isinstance(optimizer, Steps)
        undone = optimizer.undo_fraction(fit)
        if undone > CYCLE:
            _warn_of_cycle(undone)
        return {"undo_fraction": undone}


def _warn_of_cycle(undone: float) -> None:
    import logging

    logging.getLogger("kempeframe").warning(
        'coordinate descent undid %.0f %% of its steps: it stands in a cycle across a kink; see kink = "clarke"',
        100 * undone,
    )


@component
class SteepestDescent(_Steepest):
    """theta <- theta - learning_rate u: u is the unit vector of a norm along which the loss falls fastest.

    For the flow of any norm, the margin in that norm over its power L does not fall once the summed loss is below 1,
    in a network that is homogeneous of degree L (Theorem of arXiv:2410.22069). Loss in the log domain: the direction
    does not change, and losses of e^-1000 are trained. Full batch by default: the sign of a mini-batch's gradient is
    another flow.
    """

    norm: Literal["l_1", "l_2", "l_inf", "spectral"] | float = field("l_2", "of the unit step; a number is p of l_p")
    scope: Literal["flat", "max", "l_2", "sum"] = field(
        "flat", "one l_p norm of all weights, or how the norms of the layers are combined; spectral needs the latter"
    )
    ball: tuple[float, ...] = field((), "sizes of the layers' balls, in the order of the weights; none given: all 1")
    kink: Literal["none", "clarke"] = field(
        "none", "coordinate descent: what a step does that would undo the last one across a kink of ReLU"
    )
    orthogonalization: Literal["svd", "newton_schulz"] = field("svd", "of spectral steps; Muon's is approximate")

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        check_geometry(self.norm, self.scope, self.kink, self.ball)

    @property
    def geometry(self) -> Mapping[str, Any]:
        names = ("norm", "scope", "ball", "kink", "orthogonalization")
        return {name: getattr(self, name) for name in names}


@component
class CoordinateDescent(_Steepest):
    """Steepest descent in the l_1 norm: the weight with the largest partial derivative moves by learning_rate."""

    kink: Literal["none", "clarke"] = field("none", "what a step does that would undo the last one across a kink")

    @property
    def geometry(self) -> Mapping[str, Any]:
        return {"norm": "l_1", "kink": self.kink}


@component
class NormalizedGradientDescent(_Steepest):
    """Steepest descent in the l_2 norm: theta <- theta - learning_rate gradient / |gradient|."""

    @property
    def geometry(self) -> Mapping[str, Any]:
        return {"norm": "l_2"}


@component
class SignDescent(_Steepest):
    """Steepest descent in the l_inf norm: every weight moves by learning_rate against its gradient's sign."""

    @property
    def geometry(self) -> Mapping[str, Any]:
        return {"norm": "l_inf"}


@component
class SpectralDescent(_Steepest):
    """Steepest descent in the largest spectral norm of a layer: every weight matrix moves by U V^T of its gradient.

    With momentum and `orthogonalization = "newton_schulz"` it is Muon (Jordan et al., 2024), here for every layer;
    the exact U V^T is Shampoo without accumulation (Gupta et al., 2018).
    """

    scope: Literal["max", "l_2", "sum"] = field("max", "how the spectral norms of the layers are combined")
    orthogonalization: Literal["svd", "newton_schulz"] = field("svd", "exact, or Muon's approximate one")

    @property
    def geometry(self) -> Mapping[str, Any]:
        return {"norm": "spectral", "scope": self.scope, "orthogonalization": self.orthogonalization}


@component
class LogAdam(_LogDomain):
    """Adam on the mean loss, to losses that no float holds: its moments are kept in units of the loss.

    epsilon = 0 is allowed (0/0 is 0): Adam then resembles sign descent, as long as the loss falls more slowly than
    beta2 forgets (the speed limit of Section 3.9 of the brief: at most log(1/beta2)/2 a step).
    """

    margin_norm: ClassVar[str] = "l_inf"

    beta1: float = field(0.9, "decay of the gradient's mean", ge=0, lt=1)
    beta2: float = field(0.999, "decay of its square's mean", ge=0, lt=1)
    epsilon: float = field(1e-8, "added to the root of the square's mean; 0: the loss has no scale", ge=0)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if not self.log_domain:
            raise ValueError("log_domain = false: log_adam needs the log of the loss; standard.adam takes the loss")
        if self.gradient_clipping is not None:
            raise ValueError("gradient_clipping: it would clip the gradient of the log of the loss")

    def _made(self, parameters: Iterable[nn.Parameter], stacked: bool) -> torch.optim.Optimizer:
        from kempeframe_flavors_of_margin import log_adam

        betas = (self.beta1, self.beta2)
        return log_adam.LogAdam(parameters, self.learning_rate, betas, self.epsilon, self.weight_decay, stacked)
