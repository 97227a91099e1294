"""Losses: functions of outputs (n, k) and targets, one value per example.

Class targets are int64 indices (n,). With k >= 2 outputs, f_t is the right class's; with one output f there are two
classes, and y = -1 for class 0, +1 for class 1. The negative margins of an example are

    f_j - f_t for every j other than t        (k >= 2)
    -y f                                      (k = 1)

and their log-sum-exp L gives the exponential loss exp(L) and the logistic loss log(1 + exp(L)), which is the
cross-entropy. Both are exact down to the smallest number that the type holds.

Of sequences, outputs (n, positions, k) and int64 targets (n, positions) with -100 where nothing is predicted, the
cross-entropy is the mean over each example's predicted positions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from kempeframe.task import CannotGive
from kempeframe_standard.networks import centred_targets

Loss = Callable[[Tensor, Tensor], Tensor]
NOTHING = -100  # the target of a position where nothing is predicted, as torch has it


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """-log of the right class's softmax probability; with one output, of its sigmoid. Targets may be probabilities."""
    if outputs.dim() > 2:
        losses = functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
        return _over_positions(losses.view(targets.shape), targets)
    if outputs.shape[1] == 1 and not targets.is_floating_point():
        return logistic(outputs, targets)
    return functional.cross_entropy(outputs, targets, reduction="none")


def negative_log_likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
    """Minus the right class's output: of networks whose outputs are log-probabilities, normalised or not."""
    if targets.is_floating_point() or outputs.shape[1] == 1:
        raise CannotGive("the negative log-likelihood is for class targets (int64), and one log-probability a class")
    return -outputs.gather(1, targets[:, None])[:, 0]


def logistic(outputs: Tensor, targets: Tensor) -> Tensor:
    """log(1 + exp(L)): with one output log(1 + exp(-y f)), with several the cross-entropy."""
    return -functional.logsigmoid(-_log_sum(outputs, targets))


def exponential(outputs: Tensor, targets: Tensor) -> Tensor:
    """exp(L): with one output exp(-y f), with several the sum over j other than t of exp(f_j - f_t)."""
    return _log_sum(outputs, targets).exp()


def hinge(outputs: Tensor, targets: Tensor) -> Tensor:
    """max(0, 1 - margin): with several outputs the smallest margin f_t - f_j (Crammer and Singer, 2001)."""
    return functional.relu(1 + _negative_margins(outputs, targets).amax(dim=1))


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    """|f - y|^2, summed over outputs. Class targets: one-hot minus 1/k; with one output -1 and +1."""
    if targets.is_floating_point():
        wanted = targets.reshape(outputs.shape)
    elif outputs.shape[1] == 1:
        wanted = signs(outputs, targets)[:, None]
    else:
        wanted = centred_targets(targets, outputs.shape[1]).to(outputs)
    return (outputs - wanted).square().sum(dim=1)


def log_exponential(outputs: Tensor, targets: Tensor) -> Tensor:
    """L, the log of the exponential loss."""
    return _log_sum(outputs, targets)


def log_logistic(outputs: Tensor, targets: Tensor) -> Tensor:
    """log log(1 + exp(L)), which is L where exp(L) is below the type's resolution."""
    sums = _log_sum(outputs, targets)
    small = sums < -30
    return torch.where(small, sums, functional.softplus(sums.masked_fill(small, 0.0)).log())


LOG_LOSSES: dict[str, Loss] = {
    "cross_entropy": log_logistic,
    "logistic": log_logistic,
    "exponential": log_exponential,
}
LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "negative_log_likelihood": negative_log_likelihood,
    "logistic": logistic,
    "exponential": exponential,
    "squared": squared,
    "hinge": hinge,
}


def correct(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 where the largest output is the right class's (with one output: where its sign is right), else 0; (n,).

    Of sequences: the share of predicted positions where it is.
    """
    if targets.is_floating_point():
        raise CannotGive("accuracy is for class targets; these are floats")
    if outputs.dim() > 2:
        right = (outputs.argmax(dim=-1) == targets).to(outputs.dtype)
        return _over_positions(right, targets)
    guesses = (outputs[:, 0] > 0).long() if outputs.shape[1] == 1 else outputs.argmax(dim=1)
    return (guesses == targets).to(outputs.dtype)


def signs(outputs: Tensor, targets: Tensor) -> Tensor:
    """-1 for class 0 and +1 for class 1, (n,), in the type of the outputs."""
    return targets.to(outputs.dtype) * 2 - 1


def _over_positions(values: Tensor, targets: Tensor) -> Tensor:
    """(n, positions) -> (n,): the mean over predicted positions; 0 where there are none."""
    predicted = targets != NOTHING
    return (values * predicted).sum(dim=1) / predicted.sum(dim=1).clamp_min(1)


def _negative_margins(outputs: Tensor, targets: Tensor) -> Tensor:
    """(n, k), -inf in the place of the right class; with one output (n, 1)."""
    if targets.is_floating_point():
        raise CannotGive("this loss is for class targets (int64); these are floats")
    if outputs.shape[1] == 1:
        return -signs(outputs, targets)[:, None] * outputs
    right = targets[:, None]
    return (outputs - outputs.gather(1, right)).scatter(1, right, -torch.inf)


def _log_sum(outputs: Tensor, targets: Tensor) -> Tensor:
    """L, (n,)."""
    margins = _negative_margins(outputs, targets)
    return margins[:, 0] if margins.shape[1] == 1 else margins.logsumexp(dim=1)
