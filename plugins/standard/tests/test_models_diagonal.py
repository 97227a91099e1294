"""The diagonal linear network: a linear function, homogeneous, with the gradient of its parametrisation."""

from __future__ import annotations

import pytest
import torch
from kempeframe_standard.diagonal import DiagonalNetwork
from kempeframe_standard.models_diagonal import Diagonal

from kempeframe.runs import Run
from kempeframe.task import Task


def network(run: Run, outputs: int = 1, **fields: object) -> DiagonalNetwork:
    task = Task({}, (2, 3), (outputs,), dtype=torch.float64)
    found = Diagonal(**fields).build(task, run)  # type: ignore[arg-type]
    assert isinstance(found, DiagonalNetwork)
    return found


def randomised(of: DiagonalNetwork) -> DiagonalNetwork:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in of.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return of


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_it_is_linear_with_the_weight_it_says(run: Run, depth: int) -> None:
    of = randomised(network(run, outputs=2, depth=depth))
    weight = of.effective_weight()
    expected = torch.stack([of.positive] * depth).prod(dim=0) - torch.stack([of.negative] * depth).prod(dim=0)
    torch.testing.assert_close(weight, expected)
    inputs = torch.randn(5, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(of(inputs), inputs.flatten(1) @ expected)
    with torch.no_grad():
        for parameter in of.parameters():
            parameter.mul_(3)
    torch.testing.assert_close(of.effective_weight(), weight * 3**of.homogeneity)
    assert of.homogeneity == depth


def test_it_starts_at_zero_and_its_gradient_is_the_chain_rules(run: Run) -> None:
    of = network(run, init_scale=0.1)
    inputs = torch.randn(7, 6, dtype=torch.float64)
    outputs = of(inputs)
    assert not outputs.any()
    outputs.sum().backward()
    slope = inputs.sum(dim=0)[:, None]
    torch.testing.assert_close(of.positive.grad, 2 * 0.1 * slope)
    torch.testing.assert_close(of.negative.grad, -2 * 0.1 * slope)


def test_the_initial_norm_can_be_the_same_in_any_dimension(run: Run) -> None:
    of = network(run, init_scale=1e-3, unit_norm=True)
    norm = torch.cat([of.positive, of.negative]).norm()
    assert float(norm.detach()) == pytest.approx(1e-3)
    assert float(network(run, init_scale=0.5).positive.detach().max()) == 0.5


def test_gradient_descent_from_a_small_start_finds_the_sparse_interpolator(run: Run) -> None:
    """y = x_1 alone, two equations, six unknowns: the minimum l1 norm is e_1, the minimum l2 norm spreads."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    inputs[:, 0] += 2
    targets = inputs[:, :1]
    of = network(run, init_scale=1e-3)
    optimizer = torch.optim.SGD(of.parameters(), lr=0.03)
    for _ in range(3000):
        optimizer.zero_grad()
        (of(inputs) - targets).square().mean().backward()
        optimizer.step()
    found = of.effective_weight().detach()
    least_squares = torch.linalg.pinv(inputs) @ targets
    assert float((inputs @ found - targets).abs().max()) < 1e-3
    assert float(found.abs().sum()) == pytest.approx(1, abs=1e-2)
    assert float(least_squares.abs().sum()) > 1.05
