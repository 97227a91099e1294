"""Logistic regression by Newton's method on the weights of a network whose single output is affine in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from kempeframe.task import Batch, CannotGive, Snapshot, Task
from kempeframe_standard.training.losses import signs

if TYPE_CHECKING:
    from kempeframe_standard.optimizers import LogisticRegression

AFFINE = 1e-6  # relative error up to which a function of the weights counts as affine
HALVINGS = 40


def solve(settings: LogisticRegression, network: nn.Module, task: Task) -> Snapshot:
    """The network with the solution in its weights.

    Raises:
        CannotGive: several outputs, float targets, or an output that is not affine in the weights.
    """
    batch = task.train.examples()
    design, offset, start = affine(network, batch.inputs)
    y = _signs(batch)
    weights = torch.ones_like(y) if batch.weights is None else batch.weights.double()
    weights = weights / len(y)
    unit = float(torch.einsum("n,nd->", weights, design.square())) / 4 / design.shape[1]
    problem = _Problem(design * y[:, None], offset * y, weights, settings.penalty * unit)
    solution, steps, converged = problem.minimise(start, settings.tolerance, settings.most_steps)
    _put(network, solution)
    margins = problem.rows @ solution + problem.offset
    found = {
        "converged": converged,
        "steps": float(steps),
        "separable": bool(((margins > 0) | (problem.rows == 0).all(dim=1)).all()),  # a zero row says nothing
        "training_loss": float(weights @ functional.softplus(-margins)),
    }
    return Snapshot(steps, network.eval(), found)


def affine(network: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """f(w) = X w + o on these inputs: X (n, d), o (n,) and the weights as they are, (d,), in float64.

    Raises:
        CannotGive: several outputs, no trained weights, or another kind of function.
    """
    trained = {name: p.detach().double() for name, p in network.named_parameters() if p.requires_grad}
    if not trained:
        raise CannotGive("logistic regression: the network has no weights to train")
    fixed = {name: _double(p.detach()) for name, p in network.named_parameters() if not p.requires_grad}
    fixed |= {name: _double(b) for name, b in network.named_buffers()}
    inputs = _double(inputs)

    def outputs(flat: Tensor) -> Tensor:
        parts = torch.split(flat, [p.numel() for p in trained.values()])
        given = {name: part.view(p.shape) for (name, p), part in zip(trained.items(), parts, strict=True)}
        found: Tensor = functional_call(network, {**given, **fixed}, (inputs,))
        if found.dim() != 2 or found.shape[1] != 1:
            raise CannotGive(f"logistic regression is for networks of one output, this one gives {tuple(found.shape)}")
        return found[:, 0]

    start = torch.cat([p.flatten() for p in trained.values()])
    zero = torch.zeros_like(start)
    offset = outputs(zero)
    units = torch.eye(len(start), dtype=start.dtype, device=start.device)
    design = torch.stack([outputs(unit) - offset for unit in units], dim=1)
    elsewhere = torch.linspace(-1, 2, len(start), dtype=start.dtype, device=start.device)
    wanted = design @ elsewhere + offset
    if not torch.allclose(outputs(elsewhere), wanted, rtol=AFFINE, atol=AFFINE * float(wanted.abs().max() + 1)):
        raise CannotGive(f"logistic regression: the output of {type(network).__name__} is not affine in its weights")
    return design, offset, start


class _Problem:
    """sum_i weights_i log(1 + exp(-rows_i w - offset_i)) + (penalty / 2) |w|^2; rows and offset carry the sign y."""

    def __init__(self, rows: Tensor, offset: Tensor, weights: Tensor, penalty: float):
        self.rows, self.offset, self.weights, self.penalty = rows, offset, weights, penalty

    def value(self, w: Tensor) -> Tensor:
        """The objective."""
        return self.weights @ functional.softplus(-(self.rows @ w + self.offset)) + self.penalty / 2 * (w @ w)

    def minimise(self, start: Tensor, tolerance: float, most_steps: int) -> tuple[Tensor, int, bool]:
        """Newton steps, each halved until the objective falls; the solution, the steps, whether it has converged."""
        w, value = start, self.value(start)
        for step in range(most_steps):
            wrong = torch.sigmoid(-(self.rows @ w + self.offset))
            gradient = self.penalty * w - self.rows.mT @ (self.weights * wrong)
            hessian = self.rows.mT @ ((self.weights * wrong * (1 - wrong))[:, None] * self.rows)
            hessian.diagonal().add_(self.penalty)
            direction = torch.linalg.lstsq(hessian, gradient[:, None]).solution[:, 0]
            if not bool(torch.isfinite(direction).all()):
                return w, step, False
            if float(gradient @ direction) <= tolerance * float(self.weights.sum()):
                return w - direction, step + 1, True
            size = 1.0
            for _ in range(HALVINGS):
                moved = w - size * direction
                lower = self.value(moved)
                if lower < value:
                    break
                size /= 2
            else:  # rounding alone decides: it will not get better
                return w, step, False
            w, value = moved, lower
        return w, most_steps, False


def _signs(batch: Batch) -> Tensor:
    if batch.targets is None or batch.targets.is_floating_point():
        raise CannotGive("logistic regression needs class targets (int64)")
    return signs(batch.inputs.new_empty((), dtype=torch.float64), batch.targets)


def _put(network: nn.Module, flat: Tensor) -> None:
    with torch.no_grad():
        at = 0
        for p in network.parameters():
            if p.requires_grad:
                p.copy_(flat[at : at + p.numel()].view(p.shape))
                at += p.numel()


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor
