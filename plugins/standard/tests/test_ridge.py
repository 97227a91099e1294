"""Ridge: scikit-learn's, however it is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kempeframe_standard.data import Digits, LinearRegression
from kempeframe_standard.evaluators import Accuracy, TestError
from kempeframe_standard.models import Linear, RandomFeatures
from kempeframe_standard.networks import Readout
from kempeframe_standard.optimizers import Ridge
from sklearn.linear_model import Ridge as Reference

from kempeframe.components import Fit, FitJob
from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.task import CannotGive, Examples, MomentSplit, Task
from kempeframe.trial import Session


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(Store(tmp_path))


def task(n: int, k: int, weights: bool = False, seed: int = 0, moments: bool = False) -> Task:
    rng = np.random.default_rng(seed)
    inputs, targets = torch.tensor(rng.standard_normal((n, k))), torch.tensor(rng.standard_normal((n, 2)))
    split = Examples(inputs, targets, torch.tensor(rng.random(n)) if weights else None)
    given = MomentSplit(split.moments()) if moments else split
    return Task({"train": lambda: given}, (k,), (2,), dtype=torch.float64)


def solve(problems: list[tuple[Task, float]], session: Session) -> list[np.ndarray]:
    jobs = [
        FitJob(Ridge(penalty=penalty), Readout(of.inputs, 2, torch.float64), of, None, Run(0, session))
        for of, penalty in problems
    ]
    found: dict[int, Any] = dict(jobs[0].optimizer.fit_many(jobs))
    return [found[i].network.weight.detach().numpy() for i in range(len(jobs))]


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize(("n", "k"), [(40, 7), (7, 40), (20, 20)])
def test_it_is_scikit_learns(session: Session, n: int, k: int, weights: bool) -> None:
    of = task(n, k, weights)
    batch = of.train.examples()
    (found,) = solve([(of, 0.03)], session)
    reference = Reference(alpha=n * 0.03, fit_intercept=False, tol=1e-12)
    reference.fit(batch.inputs, batch.targets, sample_weight=batch.weights)
    np.testing.assert_allclose(found, reference.coef_.T, atol=1e-10)


@pytest.mark.parametrize(("n", "k"), [(40, 7), (7, 40)])
@pytest.mark.parametrize("weights", [False, True])
def test_moments_do_as_well_as_examples(session: Session, n: int, k: int, weights: bool) -> None:
    one, two = solve([(task(n, k, weights), 0.1)], session), solve([(task(n, k, weights, moments=True), 0.1)], session)
    np.testing.assert_allclose(one[0], two[0], atol=1e-10)


@pytest.mark.parametrize(("n", "k"), [(40, 7), (7, 40)])
def test_penalty_0_is_the_minimum_norm_solution(session: Session, n: int, k: int) -> None:
    of = task(n, k)
    batch = of.train.examples()
    (found,) = solve([(of, 0.0)], session)
    np.testing.assert_allclose(found, np.linalg.pinv(batch.inputs.numpy()) @ batch.targets.numpy(), atol=1e-9)


@pytest.mark.parametrize(("n", "k"), [(40, 7), (7, 40)])
def test_many_penalties_at_once_are_each_alone(session: Session, n: int, k: int) -> None:
    of = task(n, k)
    penalties = np.geomspace(1e-6, 10, 50).tolist()
    together = solve([(of, p) for p in penalties], session)
    for penalty, found in zip(penalties, together, strict=True):
        np.testing.assert_allclose(found, solve([(task(n, k), penalty)], session)[0], rtol=1e-7, atol=1e-10)


def test_a_stack_changes_no_bit(session: Session) -> None:
    """Shapes mixed, other labels of one design included: each result is bitwise that of the fit alone."""
    shapes = ((40, 7), (30, 7), (7, 40), (9, 40), (50, 20), (300, 199))
    tasks = [task(n, k, seed=s) for n, k in shapes for s in range(3)]
    shared = tasks[0].train.examples()
    other = Examples(shared.inputs, shared.targets.flip(0))  # type: ignore[union-attr]
    tasks.append(Task({"train": lambda: other}, (7,), (2,), dtype=torch.float64))
    together = solve([(of, 0.1) for of in tasks], session)
    for of, found in zip(tasks, together, strict=True):
        assert np.array_equal(found, solve([(of, 0.1)], session)[0])


def test_the_certificate_says_how_well_it_is_solved(session: Session) -> None:
    job = FitJob(Ridge(penalty=0.1), Readout(7, 2, torch.float64), task(40, 7), None, Run(0, session))
    ((_, snapshot),) = list(job.optimizer.fit_many([job]))
    assert snapshot.certificate["converged"]
    assert snapshot.certificate["residual"] < 1e-12


def test_what_it_cannot_solve_it_refuses(session: Session) -> None:
    job = FitJob(Ridge(), torch.nn.Linear(7, 2), task(40, 7), None, Run(0, session))
    with pytest.raises(TypeError, match="linear in their weights"):
        list(job.optimizer.fit_many([job]))
    moments = task(40, 7, moments=True)
    network = RandomFeatures(width=5).build(moments, Run(0, session))
    with pytest.raises(CannotGive, match="need examples"):
        list(Ridge().fit(network, moments, None, Run(0, session)))


def test_a_wider_random_feature_network_holds_the_narrower_one(session: Session) -> None:
    of = Digits().load(Run(0, session))
    narrow, wide = (RandomFeatures(width=m, bias_scale=0.1).build(of, Run(0, session)) for m in (5, 9))
    assert torch.equal(narrow.first, wide.first[:, :5])
    assert torch.equal(narrow.bias, wide.bias[:5])


def test_digits_are_disjoint_balanced_and_in_range(session: Session) -> None:
    of = Digits(n_train=1000, n_test=700, skip=97).load(Run(3, session))
    train, test = of.train.examples(), of.test.examples()
    assert train.inputs.shape == (1000, 1, 8, 8)
    assert 0 <= float(train.inputs.min()) < float(train.inputs.max()) <= 1
    assert set(train.targets.tolist()) == set(range(10))  # type: ignore[union-attr]
    rows = {row.tobytes() for row in train.inputs.numpy().reshape(1000, -1)}
    assert not rows & {row.tobytes() for row in test.inputs.numpy().reshape(700, -1)}
    with pytest.raises(ValueError, match="there are 1797 digits"):
        Digits(n_train=1500, n_test=500)


def test_test_error_and_accuracy_are_what_they_say(session: Session) -> None:
    fitted = session.fitted(Fit(data=Digits(), model=Linear(), optimizer=Ridge()), Run(0, session))
    batch = fitted.task.test.examples()
    with torch.no_grad():
        outputs = fitted.network(batch.inputs).numpy()
    labels = batch.targets.numpy()  # type: ignore[union-attr]
    one_hot = np.eye(10)[labels] - 0.1
    run = Run(0, session)
    squared = ((outputs - one_hot) ** 2).sum(1).mean()
    assert TestError().evaluate(fitted, run)["test_error"] == pytest.approx(squared, rel=1e-5)
    assert Accuracy().evaluate(fitted, run)["accuracy"] == (outputs.argmax(1) == labels).mean()
    regression = session.fitted(Fit(data=LinearRegression(), model=Linear(), optimizer=Ridge()), Run(0, session))
    assert TestError().evaluate(regression, run)["test_error"] < 0.1
    with pytest.raises(TypeError, match="no classes"):
        Accuracy().evaluate(regression, run)
