"""Logistic regression by Newton: the stationary point, agreement with scikit-learn, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kempeframe_standard.data import LinearRegression
from kempeframe_standard.models import Linear, Mlp
from kempeframe_standard.optimizers import LogisticRegression, Untrained

from kempeframe.runs import Run
from kempeframe.task import CannotGive, Examples, Task


def binary_task(inputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None) -> Task:
    split = Examples(inputs, targets, weights)
    return Task({"train": lambda: split}, (inputs.shape[1],), (1,), dtype=torch.float64, classes=2)


def noisy(n: int = 400, d: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((n, d)))
    rule = torch.from_numpy(rng.standard_normal(d))
    return x, (torch.from_numpy(rng.random(n)) < torch.sigmoid(x @ rule)).long()


def fitted(task: Task, run: Run, **settings: float) -> tuple[torch.Tensor, dict[str, float]]:
    network = Linear().build(task, run)
    (snapshot,) = LogisticRegression(**settings).fit(network, task, None, run)
    (weight,) = (p.detach().flatten() for p in network.parameters())
    return weight, dict(snapshot.certificate)


def test_without_a_penalty_the_gradient_is_zero(run: Run) -> None:
    x, y = noisy()
    weight, certificate = fitted(binary_task(x, y), run, penalty=0.0)
    gradient = x.mT @ (torch.sigmoid(x @ weight) - y) / len(y)
    assert certificate["converged"] and not certificate["separable"]
    assert float(gradient.abs().max()) < 1e-9


def test_it_is_scikit_learns(run: Run) -> None:
    from sklearn.linear_model import LogisticRegression as Peer

    x, y = noisy()
    weight, _ = fitted(binary_task(x, y), run, penalty=0.1)
    unit = float(x.square().sum()) / len(y) / 4 / x.shape[1]
    peer = Peer(C=1 / (0.1 * unit * len(y)), fit_intercept=False, tol=1e-10, max_iter=1000).fit(x, y)
    np.testing.assert_allclose(weight, peer.coef_[0], rtol=1e-5)


def test_a_weight_of_two_is_an_example_given_twice(run: Run) -> None:
    x, y = noisy(n=50)
    weights = torch.ones(50, dtype=torch.float64)
    weights[:10] = 2
    once, _ = fitted(binary_task(x, y, weights), run, penalty=0.0)
    twice, _ = fitted(binary_task(torch.cat([x, x[:10]]), torch.cat([y, y[:10]])), run, penalty=0.0)
    torch.testing.assert_close(once, twice, rtol=1e-7, atol=1e-9)


def test_separable_examples_are_said_to_be_so_and_nothing_overflows(run: Run) -> None:
    x, _ = noisy(n=30)
    weight, certificate = fitted(binary_task(x, (x[:, 0] > 0).long()), run)
    assert certificate["separable"]
    assert bool(torch.isfinite(weight).all())


def test_what_it_refuses(run: Run) -> None:
    x, y = noisy(n=30)
    task = binary_task(x, y)
    with pytest.raises(CannotGive, match="not affine"):
        list(LogisticRegression().fit(Mlp(width=4).build(task, run), task, None, run))
    several = Task(task.splits, task.input_shape, (3,), dtype=torch.float64, classes=3)
    with pytest.raises(CannotGive, match="one output"):
        list(LogisticRegression().fit(Linear().build(several, run), several, None, run))
    regression = LinearRegression(n_train=20).load(run)
    with pytest.raises(CannotGive, match="class targets"):
        list(LogisticRegression().fit(Linear().build(regression, run), regression, None, run))


def test_untrained_leaves_the_network_as_it_was_built(run: Run) -> None:
    x, y = noisy(n=30)
    task = binary_task(x, y)
    network = Mlp(width=4).build(task, run)
    before = [p.clone() for p in network.parameters()]
    (snapshot,) = Untrained().fit(network, task, None, run)
    assert snapshot.step == 0
    assert all(torch.equal(a, b) for a, b in zip(before, snapshot.network.parameters(), strict=True))
