"""Reductions of trajectories, the power schedule, and fits whose loss ends above its start."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from kempeframe_standard.evaluators import Accuracy
from kempeframe_standard.evaluators_trajectory import AlongLevels, AtBest, AtLevel
from kempeframe_standard.optimizers_gradient import Sgd
from kempeframe_standard.schedules import rate_factor
from kempeframe_standard.training import DivergedError

from kempeframe import Evaluator, component
from kempeframe.runs import Run
from kempeframe.trial import Fitted


@component
class Fall(Evaluator):
    """A loss, and its square."""

    def columns(self) -> Mapping[str, str]:
        return {"loss": "x", "square": "x^2"}


def reached(losses: list[float], level: float, direction: Any = "falling") -> Mapping[str, Any]:
    history = [(10 * i, {"loss": x, "square": x * x}) for i, x in enumerate(losses)]
    evaluator = AtLevel(measure=Fall(), metric="loss", level=level, direction=direction)
    fitted = Fitted(data=None, history=history)  # type: ignore[arg-type]
    found = evaluator.evaluate(fitted, None)  # type: ignore[arg-type]
    assert found.keys() == evaluator.columns().keys()
    return found


def test_between_two_snapshots_everything_is_interpolated_in_the_metric() -> None:
    assert reached([3.0, 1.0, -1.0], 0.5) == pytest.approx({"step": 12.5, "loss": 0.5, "square": 1.0})
    assert reached([math.inf, 1.0], 1.5) == pytest.approx({"step": 10, "loss": 1.0, "square": 1.0})
    assert reached([1.0, 3.0, 5.0], 4.0, "rising") == pytest.approx({"step": 15, "loss": 4.0, "square": 17.0})


def test_along_levels_there_is_a_list_of_what_is_at_each() -> None:
    history = [(10 * i, {"loss": x, "square": x * x}) for i, x in enumerate([3.0, 1.0, -1.0])]
    evaluator = AlongLevels(measure=Fall(), metric="loss", first=3.0, last=-3.0, points=4)
    found = evaluator.evaluate(Fitted(data=None, history=history), None)  # type: ignore[arg-type]
    assert found.keys() == evaluator.columns().keys()
    assert found["level"] == pytest.approx([3, 1, -1, -3])
    assert found["step"] == pytest.approx([0, 10, 20, math.inf])
    assert found["square"] == pytest.approx([9, 1, 1, math.nan], nan_ok=True)
    with pytest.raises(ValueError, match="expected two levels"):
        AlongLevels(measure=Fall(), metric="loss", first=1.0, last=1.0)


def test_what_is_there_at_once_has_its_first_values_and_what_never_gets_there_none() -> None:
    assert reached([3.0, 1.0], 3.0) == {"step": 0, "loss": 3.0, "square": 9.0}
    never = reached([3.0, 1.0], 0.0)
    assert never["step"] == math.inf and math.isnan(never["loss"]) and math.isnan(never["square"])


def test_a_level_is_of_a_metric_that_there_is() -> None:
    with pytest.raises(ValueError, match=r"metric = 'loss': the evaluator gives accuracy"):
        AtLevel(measure=Accuracy(), metric="loss", level=0.0, direction="falling")


def test_the_best_point_of_a_trajectory_is_its_first_best() -> None:
    history = [(10 * i, {"loss": x, "square": x * x}) for i, x in enumerate([math.nan, 3.0, -1.0, -1.0, 2.0])]
    fitted = Fitted(data=None, history=history)  # type: ignore[arg-type]
    for best, step, loss in (("lowest", 20, -1.0), ("highest", 10, 3.0)):
        evaluator = AtBest(measure=Fall(), metric="loss", best=best)  # type: ignore[arg-type]
        found = evaluator.evaluate(fitted, None)  # type: ignore[arg-type]
        assert found == {"step": step, "loss": loss, "square": loss**2} and found.keys() == evaluator.columns().keys()
    with pytest.raises(ValueError, match=r"metric = 'loss': the evaluator gives accuracy"):
        AtBest(measure=Accuracy(), metric="loss", best="lowest")


def test_the_power_schedule_starts_at_the_full_rate() -> None:
    found = [rate_factor("power", step, 100, warmup=2, decay_exponent=0.5) for step in (0, 1, 2, 5, 17)]
    assert found == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.25])


class Descent(Sgd):
    """Whose loss must not rise."""

    descends: ClassVar[bool] = True


@pytest.mark.parametrize("members", [1, 3])
def test_a_learning_rate_that_makes_the_loss_rise_is_refused(
    classification: Any, perceptron: Any, session: Any, members: int
) -> None:
    from kempeframe.components import FitJob

    def fit(learning_rate: float, batch_size: Any = "full") -> None:
        optimizer = Descent(steps=15, learning_rate=learning_rate, batch_size=batch_size)
        jobs = [
            FitJob(optimizer, perceptron(seed=s), classification(seed=s), None, Run(s, session)) for s in range(members)
        ]
        for _ in optimizer.fit_many(jobs):
            pass

    with pytest.raises(
        DivergedError, match=r"step 15: the loss is .*, above its .* at the start: learning_rate = 300 "
    ):
        fit(300.0)
    fit(0.1)
    fit(300.0, batch_size=10)
