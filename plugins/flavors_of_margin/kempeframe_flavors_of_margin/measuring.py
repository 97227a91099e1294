"""What evaluators compute of a homogeneous network: margins, norms, and the gradient of the log of the loss."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import torch
from kempeframe_standard.linear_attack import LinearNetwork
from kempeframe_standard.training.losses import LOG_LOSSES, signs
from torch import Tensor, nn

from kempeframe.runs import Run
from kempeframe.task import CannotGive
from kempeframe.trial import Fitted
from kempeframe_flavors_of_margin import theory
from kempeframe_flavors_of_margin.names import geometry_of
from kempeframe_flavors_of_margin.norms import Norm

EULER = 1e-6  # relative error of <theta, grad f> = L f that rounding may make


@attrs.frozen(eq=False)
class Measured:
    """A network on its training examples, in float64. weights and gradient: the trained tensors, and s of each.

    margins: (n,); log_loss of the sum over examples; s = -grad log_loss = sum_i c_i grad q_i, with share = sum_i c_i
    and product = <theta, s>.
    """

    degree: int
    weights: list[Tensor]
    gradient: list[Tensor]
    margins: Tensor
    log_loss: float
    share: float
    product: float


def degree_of(network: nn.Module) -> int:
    """The degree L in its parameters that a network states.

    Raises:
        CannotGive: it states none.
    """
    degree = getattr(network, "homogeneity", None)
    if degree is None:
        raise CannotGive(
            f"{type(network).__name__} states no degree of homogeneity: margins are of networks with "
            "f(c theta) = c^L f(theta), without biases (standard.linear, standard.diagonal, standard.mlp, bias = false)"
        )
    return int(degree)


def in_double(network: nn.Module) -> dict[str, Tensor]:
    """Its state in float64, the trained weights ready for gradients."""
    state = {name: tensor.detach().double() for name, tensor in network.named_buffers() if tensor.is_floating_point()}
    for name, parameter in network.named_parameters():
        state[name] = parameter.detach().double().requires_grad_(parameter.requires_grad)
    return state


def measure(fitted: Fitted, run: Run, loss: str, robust: bool = False) -> Measured:
    """All that margins and gaps are made of, by one pass forward and one back over the training split.

    robust: margins are those under the trial's attack, q_i - epsilon |w|_dual, in closed form for linear functions.

    Raises:
        CannotGive: the network states no degree, or the loss has no soft margin.
        ValueError: the stated degree is not the network's: <theta, grad f> is not L f.
    """
    network, degree = fitted.network, degree_of(fitted.network)
    if loss not in LOG_LOSSES:
        raise CannotGive(f"the {loss} loss has no soft margin: the theorem is for exponential and logistic losses")
    batch = fitted.task.train.examples()
    assert batch.targets is not None
    state = in_double(network)
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    inputs, targets = batch.inputs.to(run.device).double(), batch.targets.to(run.device)
    outputs = torch.func.functional_call(network, state, (inputs,))
    if robust:
        outputs = outputs - _shrunk(fitted, run, state, outputs, targets)
    logs = LOG_LOSSES[loss](outputs, targets)
    total = logs.logsumexp(0)
    by_outputs, *gradients = torch.autograd.grad(total, [outputs, *(state[name] for name in trained)])
    outputs, log_loss = outputs.detach(), float(total.detach())
    weights = [state[name].detach() for name in trained]
    gradient = [-g for g in gradients]
    product = float(torch.stack([(w * s).sum() for w, s in zip(weights, gradient, strict=True)]).sum())
    _check_degree(degree, product, float(-(by_outputs * outputs).sum()), weights, gradient)
    margins = margins_of(outputs, targets)
    share = float(-(by_outputs * _ones(outputs, targets)).sum())
    return Measured(degree, weights, gradient, margins, log_loss, share, product)


def margins_of(outputs: Tensor, targets: Tensor) -> Tensor:
    """q: y f with one output, else the right score less the largest other one; (n,)."""
    if outputs.shape[1] == 1:
        return signs(outputs, targets) * outputs[:, 0]
    right = targets[:, None]
    rivals = outputs.scatter(1, right, -torch.inf).amax(dim=1)
    return outputs.gather(1, right)[:, 0] - rivals


def sizes(measured: Measured, names: Sequence[str | float]) -> dict[str | float, tuple[float, float]]:
    """Norm of the weights and dual norm of s, for each named norm."""
    found = {}
    for name in names:
        norm, scope = geometry_of(name)
        geometry = Norm(norm, scope)  # type: ignore[arg-type]
        found[name] = (float(geometry.value(measured.weights)), float(geometry.dual(measured.gradient)))
    return found


def soft_margin_loss(loss: str) -> theory.Loss:
    """The loss whose inverse the soft margin takes: cross-entropy is the logistic loss."""
    return "exponential" if loss == "exponential" else "logistic"


def _ones(outputs: Tensor, targets: Tensor) -> Tensor:
    """The change of the outputs that raises every margin by 1."""
    if outputs.shape[1] == 1:
        raised: Tensor = signs(outputs, targets)[:, None]
        return raised
    return torch.zeros_like(outputs).scatter(1, targets[:, None], 1.0)


def _check_degree(degree: int, product: float, expected: float, weights: list[Tensor], gradient: list[Tensor]) -> None:
    """Euler's identity: <theta, s> is L times what the outputs contribute; a bias or a normalisation breaks it."""
    size = sum(float(w.norm() * s.norm()) for w, s in zip(weights, gradient, strict=True))
    if abs(product - degree * expected) > EULER * max(size, abs(product)):
        raise ValueError(
            f"the network states the degree {degree} in its parameters, and has not: <theta, grad f> = "
            f"{product / expected if expected else float('nan'):.4g} f; biases, normalisation or dropout break it"
        )


def _shrunk(fitted: Fitted, run: Run, state: dict[str, Tensor], outputs: Tensor, targets: Tensor) -> Tensor:
    """What an attack takes from the outputs of a linear function, as outputs: epsilon |w|_dual in the margin."""
    from kempeframe_flavors_of_margin.theory_oracles import DUAL_NORMS

    size, dual = attack_of(fitted, run)
    network = fitted.network
    if not isinstance(network, LinearNetwork):
        raise CannotGive(f"robust margins in closed form need a linear function; {type(network).__name__} is none")
    if outputs.shape[1] > 1:
        raise CannotGive("robust margins in closed form are of one output: give the data outputs = 1")
    weight = torch.func.functional_call(_Weight(network), {f"network.{k}": v for k, v in state.items()}, ())
    lost = size * torch.linalg.vector_norm(weight, DUAL_NORMS[dual])
    raised: Tensor = signs(outputs, targets)[:, None] * lost
    return raised


class _Weight(nn.Module):
    """Gives a network's effective weight, as a function of its parameters."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self) -> Tensor:
        weight: Tensor = self.network.effective_weight()  # type: ignore[operator]
        return weight


def attack_of(fitted: Fitted, run: Run) -> tuple[float, str]:
    """Size of the trial's attack on this task, and the norm by which it lowers a linear margin.

    Raises:
        CannotGive: there is no attack, or none with a dual norm.
    """
    if fitted.attack is None:
        raise CannotGive("robust = true: the trial has no [attack]")
    bound = fitted.attack.bind(fitted.task, run)
    if bound.dual_norm is None or bound.size is None:
        raise CannotGive(
            "robust = true: the attack states no dual norm; standard.linear_attack does, on data without a box"
        )
    return bound.size, bound.dual_norm
