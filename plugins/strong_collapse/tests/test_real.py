"""Real inputs: labels of a fitted network, the population's risk, and the theory on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kempeframe_standard.data import Digits, LinearRegression
from kempeframe_standard.models import Linear, RandomFeatures
from kempeframe_standard.optimizers import Ridge
from kempeframe_strong_collapse.data_labels import SyntheticLabels
from kempeframe_strong_collapse.evaluators_real import PopulationRisk, RealTheory, population_of

import kempeframe
from kempeframe import Fit, NoTheory
from kempeframe.registry import Registry
from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.trial import Fitted, Session

SPECS = Path(__file__).parents[3] / "specs" / "strong_collapse"


@pytest.fixture
def session(tmp_path: Path) -> Session:
    Registry().load("standard")
    return Session(Store(tmp_path))


def mixture(fraction: float = 0.5, skip: int = 100, n_train: int = 200, **digits: Any) -> SyntheticLabels:
    fields = {"centre": True, "dtype": "float64", **digits}
    generator = Fit(
        data=Digits(n_train=100, **fields), model=Linear(), optimizer=Ridge(penalty=0.01), stream="generator"
    )
    source = Digits(n_train=n_train, skip=skip, **fields)
    return SyntheticLabels(source=source, generator=generator, synthetic_fraction=fraction)


def test_the_last_examples_carry_the_generators_labels(session: Session) -> None:
    data, run = mixture(), Run(0, session)
    batch = data.load(run).train.examples()
    source = data.source.load(run).train.examples()
    assert batch.targets is not None
    assert source.targets is not None
    assert torch.equal(batch.inputs, source.inputs)
    one_hot = torch.nn.functional.one_hot(source.targets, 10) - 0.1
    torch.testing.assert_close(batch.targets[:100], one_hot[:100].double())
    with torch.no_grad():
        torch.testing.assert_close(batch.targets[100:], run.fit(data.generator).network(source.inputs[100:]))
    assert batch.groups is not None
    assert int(batch.groups.sum()) == 100


def test_the_inputs_do_not_depend_on_the_fraction(session: Session) -> None:
    inputs = [mixture(p).load(Run(0, session)).train.examples().inputs for p in (0.0, 0.3, 1.0)]
    assert torch.equal(inputs[0], inputs[1])
    assert torch.equal(inputs[0], inputs[2])


def test_the_generators_examples_must_not_be_the_students(session: Session) -> None:
    with pytest.raises(ValueError, match="40 examples of the generator are among the student's: set `skip`"):
        mixture(skip=60).load(Run(0, session))


def test_regression_is_labelled_too(session: Session) -> None:
    generator = Fit(data=LinearRegression(n_train=30), model=Linear(), optimizer=Ridge(), stream="generator")
    data = SyntheticLabels(source=LinearRegression(n_train=50), generator=generator, synthetic_fraction=1.0)
    batch = data.load(Run(0, session)).train.examples()
    with torch.no_grad():
        labels = Run(0, session).fit(generator).network(batch.inputs)
    torch.testing.assert_close(batch.targets, labels)


def test_the_population_is_its_own_least_squares(session: Session) -> None:
    task = mixture().load(Run(0, session))
    population = population_of(task.truth)
    batch = task.truth.population()
    inputs, targets = batch.inputs.flatten(1).numpy(), batch.targets.numpy()
    weight, *_ = np.linalg.lstsq(inputs, targets, rcond=1e-10)
    np.testing.assert_allclose(population.basis @ population.weight, weight, atol=1e-8)
    assert population.residual == pytest.approx(((targets - inputs @ weight) ** 2).sum(axis=1).mean())


def test_the_population_risk_is_the_excess_over_it(session: Session) -> None:
    fit = Fit(data=mixture(), model=Linear(), optimizer=Ridge(penalty=0.01))
    fitted = session.fitted(fit, Run(0, session))
    found = PopulationRisk().evaluate(fitted, Run(0, session))["test_error"]
    batch = fitted.task.truth.population()
    with torch.no_grad():
        loss = float((fitted.network(batch.inputs) - batch.targets).square().sum(dim=1).mean())
    assert found == pytest.approx(loss - population_of(fitted.task.truth).residual)


def test_the_theory_predicts_ridge_on_digits_in_law(session: Session) -> None:
    """No Gaussian in sight: agreement within 15 % over 20 seeds, where 5 % is the Monte-Carlo error."""
    for fraction in (0.0, 0.5, 1.0):
        fit = Fit(data=mixture(fraction), model=Linear(), optimizer=Ridge(penalty=0.02))
        pairs = []
        for seed in range(20):
            fitted = session.fitted(fit, Run(seed, session))
            run = Run(seed, session)
            pairs.append(
                (PopulationRisk().evaluate(fitted, run)["test_error"], RealTheory().evaluate(fitted, run)["test_error"])
            )
        measured, predicted = np.mean(pairs, axis=0)
        assert measured == pytest.approx(predicted, rel=0.15)


def test_theory_refuses_what_it_does_not_cover(session: Session) -> None:
    run = Run(0, session)
    for change in ({"model": RandomFeatures()}, {"optimizer": None}, {"data": Digits()}):
        parts: dict[str, Any] = {"data": mixture(), "model": Linear(), "optimizer": Ridge(), "run": run, **change}
        with pytest.raises(NoTheory):
            RealTheory().evaluate(Fitted(**parts), run)
    with pytest.raises(NoTheory):
        population_of(None)


def test_sabotage_without_synthetic_labels_width_amplifies_nothing(tmp_path: Path) -> None:
    overrides = {
        "sweep.model.width": [100, 2000],
        "sweep.data.synthetic_fraction": [0.0, 0.5],
        "fit.generator.data.n_train": 60,
        "data.synthetic_fraction": 0.0,
    }
    study = kempeframe.run(SPECS / "digits_features.toml", overrides, seeds=3, store=tmp_path)
    assert all(verdict.decision != "holds" for verdict in study.claims)
