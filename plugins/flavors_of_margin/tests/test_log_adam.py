"""Adam in units of the loss: torch's Adam where floats hold the loss, and the same where they do not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from kempeframe_flavors_of_margin.log_adam import LogAdam
from torch import Tensor, nn

X = torch.tensor(np.random.default_rng(0).uniform(-0.2, 1.0, (6, 4)))


def trained(make: Any, steps: int, log: bool, start: float = 0.0) -> Tensor:
    """Weights after steps on the mean of exp(-x w), or on its log; all examples have class +1."""
    weight = nn.Parameter(torch.full((4,), start, dtype=torch.float64))
    optimizer = make([weight])

    def closure() -> Tensor:
        optimizer.zero_grad()
        logs = torch.logsumexp(-X @ weight, 0) - math.log(len(X))
        loss = logs if log else logs.exp()
        loss.backward()
        return loss.detach()

    for _ in range(steps):
        optimizer.step(closure)
    return weight.detach()


@pytest.mark.parametrize("eps", [0.0, 1e-8, 1e-2])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.9, 0.95), (0.0, 0.0)])
def test_it_is_adam_where_floats_hold_the_loss(eps: float, betas: tuple[float, float]) -> None:
    found = trained(lambda p: LogAdam(p, 0.01, betas, eps), 300, log=True)
    wanted = trained(lambda p: torch.optim.Adam(p, 0.01, betas, eps), 300, log=False)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_without_memory_and_epsilon_it_is_sign_descent() -> None:
    found = trained(lambda p: LogAdam(p, 0.01, (0.0, 0.0), 0.0), 50, log=True)
    assert torch.allclose((found / 0.01).round() * 0.01, found)


def test_below_the_smallest_float_it_goes_on_without_epsilon_and_stops_with_one() -> None:
    start = 1000.0  # a loss of about e^-2000
    moved = trained(lambda p: LogAdam(p, 0.01, (0.9, 0.95), 0.0), 100, log=True, start=start)
    assert float((moved - start).abs().max()) > 0.1
    still = trained(lambda p: LogAdam(p, 0.01, (0.9, 0.95), 1e-8), 100, log=True, start=start)
    assert torch.equal(still, torch.full_like(still, start))


def test_a_coordinate_without_gradient_stays_where_it_is() -> None:
    weight = nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = LogAdam([weight], 0.1, eps=0.0)
    weight.grad = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
    optimizer.step(lambda: torch.tensor(-5.0))
    assert weight.tolist() == pytest.approx([0.9, 1.0, 1.1])


def test_networks_of_a_stack_have_losses_of_their_own() -> None:
    rng = torch.Generator().manual_seed(0)
    logs = torch.randn(20, 3, generator=rng, dtype=torch.float64).cumsum(0) * 20
    gradients = torch.randn(20, 3, 2, 2, generator=rng, dtype=torch.float64)

    def run(at: Any) -> Tensor:
        weight = nn.Parameter(torch.zeros_like(gradients[0][at]))
        optimizer = LogAdam([weight], 0.1, eps=1e-8, stacked=weight.dim() == 3)
        for log, gradient in zip(logs, gradients, strict=True):
            weight.grad = gradient[at].clone()
            optimizer.step(lambda log=log: log[at])
        return weight.detach()

    together = run(slice(None))
    for s in range(3):
        torch.testing.assert_close(together[s], run(s))


def test_it_does_not_guess_the_loss() -> None:
    weight = nn.Parameter(torch.ones(3))
    with pytest.raises(ValueError, match="needs a closure that returns the log of the loss"):
        LogAdam([weight]).step()
    for options in ({"lr": 0.0}, {"betas": (1.0, 0.9)}, {"eps": -1.0}):
        with pytest.raises(ValueError, match="expected"):
            LogAdam([weight], **options)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="expected"):
            LogAdam([nn.Parameter(torch.ones(2))]).add_param_group({"params": [weight], **options})
