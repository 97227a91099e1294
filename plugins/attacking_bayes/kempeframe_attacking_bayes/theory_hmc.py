"""Hamiltonian Monte Carlo: leapfrog and dual averaging. Many chains at once: positions and momenta are (chains, d)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Potential = Callable[[Tensor], tuple[Tensor, Tensor]]  # positions -> U (chains,), float64, and grad U (chains, d)
Gradient = Callable[[Tensor], Tensor]  # positions -> grad U


def leapfrog(
    potential: Potential,
    position: Tensor,
    momentum: Tensor,
    gradient: Tensor,
    step_size: float,
    steps: int,
    gradient_alone: Gradient | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`steps` of p -= e/2 g, q += e p, g = grad U(q), p -= e/2 g; gives (q, p, U(q), g).

    One gradient a step: that at the start is given, and the half steps between two are taken as one. U is needed at the
    end; before it `gradient_alone` is asked, where that is given.
    """
    momentum = torch.add(momentum, gradient, alpha=-step_size / 2)
    for _ in range(steps - 1):
        position = torch.add(position, momentum, alpha=step_size)
        gradient = gradient_alone(position) if gradient_alone else potential(position)[1]
        momentum.add_(gradient, alpha=-step_size)
    position = torch.add(position, momentum, alpha=step_size)
    energy, gradient = potential(position)
    return position, momentum.add_(gradient, alpha=-step_size / 2), energy, gradient


class DualAveraging:
    """Finds the step size at which the mean acceptance probability is `target` (Hoffman and Gelman, 2014, section 3.2).

    H_t = (1 - 1/(t + t0)) H_{t-1} + (target - a_t)/(t + t0),  log e_t = mu - sqrt(t)/gamma H_t with mu = log(10 e_0),
    log ebar_t = t^-kappa log e_t + (1 - t^-kappa) log ebar_{t-1}; ebar is what sampling uses.
    """

    GAMMA, T0, KAPPA = 0.05, 10.0, 0.75

    def __init__(self, first: float, target: float):
        self.mu, self.target = math.log(10 * first), target
        self.t, self.error = 0, 0.0
        self.log_size, self.log_average = math.log(first), math.log(first)

    def update(self, acceptance: float) -> None:
        """After a trajectory whose mean acceptance probability over the chains was this."""
        self.t += 1
        share = 1 / (self.t + self.T0)
        self.error += share * (self.target - acceptance - self.error)
        self.log_size = self.mu - math.sqrt(self.t) / self.GAMMA * self.error
        weight = self.t**-self.KAPPA
        self.log_average += weight * (self.log_size - self.log_average)

    @property
    def size(self) -> float:
        """The step size of the next trajectory of the warm-up."""
        return math.exp(self.log_size)

    @property
    def average(self) -> float:
        """The one for sampling."""
        return math.exp(self.log_average)

    def state(self) -> dict[str, float]:
        """What going on from here needs."""
        return dict(vars(self))

    def resume(self, state: Mapping[str, float]) -> None:
        """Go on from a state."""
        vars(self).update(state)
