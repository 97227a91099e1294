"""Data and models of standard: the laws they draw from, the streams they draw by, and ridge beside scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kempeframe_standard.data import Digits, LinearRegression
from kempeframe_standard.evaluators import Accuracy, TestError
from kempeframe_standard.models import Linear, RandomFeatures
from kempeframe_standard.networks import Readout, centred_targets
from kempeframe_standard.optimizers import Ridge
from kempeframe_standard.pool import Pool
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge as Reference
from sklearn.metrics import accuracy_score, mean_squared_error

from kempeframe.components import Data, Fit, FitJob, Model
from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.task import Task
from kempeframe.trial import Fitted, Session


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(Store(tmp_path))


def fitted(session: Session, data: Data, model: Model | None = None, penalty: float = 1e-3, seed: int = 0) -> Fitted:
    fit = Fit(data=data, model=model or Linear(), optimizer=Ridge(penalty=penalty))
    return session.fitted(fit, Run(seed, session))


# ---- data ----------------------------------------------------------------------------------------------------------


def test_linear_regression_has_unit_signal_and_the_noise_it_says(session: Session) -> None:
    data = LinearRegression(dimension=5, n_train=20_000, noise=0.5)
    task = data.load(Run(0, session))
    batch = task.train.examples()
    assert batch.targets is not None
    assert np.linalg.norm(task.truth) == pytest.approx(1)
    noise = batch.targets[:, 0].numpy() - batch.inputs.numpy() @ task.truth
    # 4.5 standard errors: of a variance sigma^2 sqrt(2/n), of a covariance sigma/sqrt(n)
    assert noise.var() == pytest.approx(0.25, rel=4.5 * (2 / 20_000) ** 0.5)
    np.testing.assert_allclose(batch.inputs.numpy().T @ noise / 20_000, 0, atol=4.5 * 0.5 / 20_000**0.5)
    np.testing.assert_allclose(np.cov(batch.inputs.numpy().T), np.eye(5), atol=4.5 * (2 / 20_000) ** 0.5)


def test_linear_regression_draws_what_it_is_asked_for_by_streams(session: Session) -> None:
    def inputs(of: Run, **fields: Any) -> torch.Tensor:
        return LinearRegression(**fields).load(of).train.examples().inputs

    root = Run(0, session)
    nested = Run(9, session, root)
    assert torch.equal(inputs(root), inputs(root))
    assert torch.equal(inputs(root, n_train=50), inputs(root)[:50])
    assert torch.equal(inputs(root, noise=3.0), inputs(root))
    assert not torch.equal(inputs(nested), inputs(root))  # a stage draws its own sample
    truths = [LinearRegression().load(run).truth for run in (root, nested, Run(1, session))]
    np.testing.assert_array_equal(truths[0], truths[1])  # of the trial's truth
    assert not np.array_equal(truths[0], truths[2])
    task = LinearRegression(n_train=30, n_test=30).load(root)
    assert not torch.equal(task.train.examples().inputs, task.test.examples().inputs)


def test_linear_regression_reaches_the_classical_risk(session: Session) -> None:
    """E excess = sigma^2 d/(n - d - 1) for Gaussian least squares, exactly; 200 seeds."""
    data = LinearRegression(dimension=10, n_train=50, noise=1.0, n_test=1)
    excess = [
        float(((fitted(session, data, penalty=0.0, seed=s).network.weight[:, 0].detach().numpy() - truth) ** 2).sum())
        for s in range(200)
        for truth in [data.load(Run(s, session)).truth]
    ]
    assert abs(np.mean(excess) - 10 / 39) < 4.5 * np.std(excess) / 200**0.5


def test_digits_are_scikit_learns(session: Session) -> None:
    pixels, labels = load_digits(return_X_y=True)
    task = Digits(dtype="float64", n_train=1797 - 100, n_test=100).load(Run(0, session))
    assert isinstance(task.truth, Pool)
    np.testing.assert_array_equal(task.train.examples().inputs.flatten(1).numpy(), pixels[task.truth.train] / 16)
    np.testing.assert_array_equal(task.test.examples().targets, labels[task.truth.test])
    assert sorted([*task.truth.train, *task.truth.test]) == list(range(1797))
    assert task.bounds == (0, 1)
    assert len(task.split("population").examples().inputs) == 1797


def test_centred_digits_have_mean_zero_over_all(session: Session) -> None:
    task = Digits(centre=True, dtype="float64").load(Run(0, session))
    np.testing.assert_allclose(task.split("population").examples().inputs.mean(dim=0), 0, atol=1e-12)
    assert task.bounds is None


def test_a_pool_counts_what_two_tasks_share(session: Session) -> None:
    def pool(seed: int = 0, **fields: Any) -> Pool:
        truth = Digits(n_test=100, **fields).load(Run(seed, session)).truth
        assert isinstance(truth, Pool)
        return truth

    student = pool(n_train=200, skip=50)
    assert student.shared(pool(n_train=50)) == 0
    assert student.shared(pool(n_train=60)) == 10
    assert student.shared(pool(n_train=1697)) == 200  # its test images are the student's test images, not training ones
    assert pool(n_train=200).shared(pool(n_train=1000, skip=697)) == 0
    assert student.shared(Pool("another", "", student.train, student.test)) == 0


# ---- models --------------------------------------------------------------------------------------------------------


def test_random_features_are_what_the_formula_says(session: Session) -> None:
    task = Digits(dtype="float64").load(Run(0, session))
    network = RandomFeatures(width=7, weight_scale=2.0, bias_scale=0.3).build(task, Run(0, session))
    inputs = task.train.examples().inputs[:5]
    expected = np.sqrt(2 / 7) * np.maximum(inputs.flatten(1).numpy() @ network.first.numpy() + network.bias.numpy(), 0)
    np.testing.assert_allclose(network.features(inputs), expected, rtol=1e-12)
    assert not network(inputs).any()  # the readout starts at 0
    assert [name for name, _ in network.named_parameters()] == ["weight"]


def test_random_features_have_the_law_they_say(session: Session) -> None:
    task = Digits().load(Run(0, session))
    network = RandomFeatures(width=4000, weight_scale=3.0, bias_scale=0.2).build(task, Run(0, session))
    entries = network.first.numel()
    assert float(network.first.double().var()) == pytest.approx(9 / 64, rel=4.5 * (2 / entries) ** 0.5)
    assert float(network.bias.double().var()) == pytest.approx(0.04, rel=4.5 * (2 / 4000) ** 0.5)
    assert abs(float(network.first.double().mean())) < 4.5 * 3 / 8 / entries**0.5
    other = RandomFeatures(width=4000).build(task, Run(1, session))
    assert not torch.equal(network.first, other.first)


def test_random_relu_features_converge_to_the_arc_cosine_kernel(session: Session) -> None:
    """phi(x).phi(y) -> |x||y| (sin a + (pi - a) cos a)/pi at weight scale 1/sqrt(d) (Cho and Saul, 2009, order 1).

    One product 2 relu(a) relu(b) has at most the variance of 2 relu(a)^2, 4 * 3/2 - 1 = 5 = 2.24^2 times |x|^4.
    """
    task = LinearRegression(dimension=8, n_train=6).load(Run(0, session))
    inputs = task.train.examples().inputs
    network = RandomFeatures(width=100_000, weight_scale=8**0.5).build(task, Run(0, session))
    features = network.features(inputs).numpy()
    x = inputs.numpy()
    norms = np.linalg.norm(x, axis=1)
    angle = np.arccos(np.clip(x @ x.T / np.outer(norms, norms), -1, 1))
    kernel = np.outer(norms, norms) * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi
    np.testing.assert_allclose(features @ features.T, kernel, atol=4.5 * 2.3 * max(norms) ** 2 / 100_000**0.5)


def test_a_stored_network_draws_its_first_layer_again(session: Session) -> None:
    one = fitted(session, Digits(), RandomFeatures(width=30, bias_scale=0.1))
    two = fitted(session, Digits(), RandomFeatures(width=30, bias_scale=0.1))
    assert two.packed is not None and len(two.packed) < 4 * 30 * 64  # the readout alone is stored
    inputs = one.task.test.examples().inputs
    with torch.no_grad():
        assert torch.equal(one.network(inputs), two.network(inputs))


# ---- ridge and the evaluators beside scikit-learn --------------------------------------------------------------------


@pytest.mark.parametrize("width", [100, 700])
def test_ridge_on_digits_is_scikit_learns(session: Session, width: int) -> None:
    """Primal and dual, features and labels included; predictions, error and accuracy."""
    data = Digits(n_train=400, dtype="float64")
    found = fitted(session, data, RandomFeatures(width=width), penalty=1e-4)
    train, test = found.task.train.examples(), found.task.test.examples()
    assert isinstance(found.network, Readout)
    features, other = found.network.features(train.inputs).numpy(), found.network.features(test.inputs).numpy()
    one_hot, wanted = (np.eye(10)[np.asarray(batch.targets)] - 0.1 for batch in (train, test))
    reference = Reference(alpha=400 * 1e-4, fit_intercept=False, solver="cholesky").fit(features, one_hot)
    outputs = reference.predict(other)
    with torch.no_grad():
        np.testing.assert_allclose(found.network(test.inputs).numpy(), outputs, atol=1e-9)
    run = Run(0, session)
    error = TestError().evaluate(found, run)["test_error"]
    assert error == pytest.approx(10 * mean_squared_error(wanted, outputs), rel=1e-6)
    right = accuracy_score(np.asarray(test.targets), outputs.argmax(axis=1))
    assert Accuracy().evaluate(found, run)["accuracy"] == pytest.approx(right)


@pytest.mark.parametrize(("n", "k"), [(60, 20), (20, 60)])
def test_fifty_penalties_together_are_each_scikit_learns_to_ten_digits(session: Session, n: int, k: int) -> None:
    task = LinearRegression(dimension=k, n_train=n, noise=1.0).load(Run(0, session))
    penalties = np.geomspace(1e-4, 1e2, 50).tolist()

    def weights(chosen: list[float]) -> list[np.ndarray]:
        jobs = [FitJob(Ridge(penalty=p), Readout(k, 1, torch.float64), task, None, Run(0, session)) for p in chosen]
        found: dict[int, Any] = dict(Ridge().fit_many(jobs))
        return [found[i].network.weight.detach().numpy()[:, 0] for i in range(len(jobs))]

    batch = task.train.examples()
    for penalty, together in zip(penalties, weights(penalties), strict=True):
        size = np.linalg.norm(together)
        np.testing.assert_allclose(together, weights([penalty])[0], atol=1e-10 * size, rtol=0)
        reference = Reference(alpha=n * penalty, fit_intercept=False, solver="svd").fit(batch.inputs, batch.targets)
        np.testing.assert_allclose(together, reference.coef_.ravel(), atol=1e-10 * size, rtol=0)


def test_class_targets_are_one_hot_minus_one_over_classes() -> None:
    found = centred_targets(torch.tensor([2, 0]), 4)
    assert found.tolist() == [[-0.25, -0.25, 0.75, -0.25], [0.75, -0.25, -0.25, -0.25]]
    assert centred_targets(torch.tensor([1.0, 2.0]), None).shape == (2, 1)


def test_a_task_without_a_test_split_is_refused(session: Session) -> None:
    found = fitted(session, LinearRegression())
    bare = Task({"train": lambda: found.task.train}, (20,), (1,), dtype=torch.float64)
    other = Fitted(data=found.data, given_network=found.network)
    other.__dict__["task"] = bare
    with pytest.raises(TypeError, match="no test split"):
        TestError().evaluate(other, Run(0, session))
