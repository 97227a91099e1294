"""Adam on a loss that no float holds any more: moments in units of the loss, as a torch optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class LogAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba, 2015, with torch's conventions) on a loss L, given log L and its gradient.

    The gradient of L is e^a s with a = log L and s the gradient of log L. The moments are kept as m / e^a and
    v / e^(2a), and brought to the new a at each step, so that

        theta <- theta - lr m_hat / (sqrt(v_hat) + epsilon)

    has no under- or overflow at L = e^-100000: with epsilon = 0 the step does not know the size of L; with epsilon > 0
    it ends where sqrt(v_hat) falls below epsilon, as it truly does (Section 3.9 of the brief). 0/0 is 0.

    `step` needs a closure that leaves s in .grad and returns a: one number, or (S,) in a stack of networks.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        stacked: bool = False,
    ):
        self.stacked = stacked
        super().__init__(params, dict(lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's, with the group's options checked.

        Raises:
            ValueError: an option is out of its range.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if not group["lr"] > 0:
            wrong = f"lr = {group['lr']}: expected a number above 0"
        elif not all(0 <= beta < 1 for beta in group["betas"]):
            wrong = f"betas = {group['betas']}: expected numbers in [0, 1)"
        elif not group["eps"] >= 0:
            wrong = f"eps = {group['eps']}: expected a number of at least 0"
        else:
            return
        self.param_groups.pop()
        raise ValueError(wrong)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step.

        Raises:
            ValueError: there is no closure: a gradient alone does not tell the size of the loss.
        """
        if closure is None:
            raise ValueError("LogAdam.step needs a closure that returns the log of the loss")
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    logs = torch.as_tensor(loss, dtype=parameter.dtype, device=parameter.device).detach().reshape(-1)
                    self._update(group, parameter, parameter.grad, logs)
        return loss

    def _update(self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, logs: Tensor) -> None:
        """logs: (S,), or (1,) for one network."""
        state, (beta1, beta2) = self.state[parameter], group["betas"]
        if not state:
            state.update(step=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter), log_loss=logs)
        shape = (-1, *[1] * (parameter.dim() - 1)) if self.stacked else (1,) * parameter.dim()
        fall = (state["log_loss"] - logs).view(shape)  # log of what one unit of the loss before is in units of now
        mean, square = state["mean"], state["square"]
        mean.mul_((fall + math.log(beta1)).exp() if beta1 else 0.0).add_(gradient, alpha=1 - beta1)
        square.mul_((2 * fall + math.log(beta2)).exp() if beta2 else 0.0).addcmul_(gradient, gradient, value=1 - beta2)
        state["step"] += 1
        state["log_loss"] = logs.clone()
        size = (square / (1 - beta2 ** state["step"])).sqrt_()
        if group["eps"]:
            size = size + (math.log(group["eps"]) - logs).exp().view(shape)
        step = torch.where(size > 0, mean / (1 - beta1 ** state["step"]) / size, torch.zeros_like(size))
        if group["weight_decay"]:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(step, alpha=group["lr"])
