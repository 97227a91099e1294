"""Evaluators: errors on the test split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kempeframe import Evaluator, component

if TYPE_CHECKING:
    from kempeframe.runs import Run
    from kempeframe.trial import Fitted


@component
class TestError(Evaluator):
    """Mean squared error on the test split, summed over outputs; class indices count as one-hot minus 1/classes."""

    __test__ = False  # no test class of pytest's

    def columns(self) -> Mapping[str, str]:
        return {"test_error": "mean squared error on the test split, summed over outputs"}

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        from kempeframe_standard.evaluation import outputs_and_targets
        from kempeframe_standard.networks import centred_targets

        outputs, targets = outputs_and_targets(fitted, run, "test")
        outputs = outputs.double()
        targets = centred_targets(targets, fitted.task.classes).to(outputs)
        return {"test_error": float((outputs - targets).square().sum(dim=1).mean())}


@component
class Accuracy(Evaluator):
    """Share of the test split whose largest output is the right class."""

    def columns(self) -> Mapping[str, str]:
        return {"accuracy": "share of test examples classified correctly"}

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        from kempeframe_standard.evaluation import class_outputs

        outputs, targets = class_outputs(fitted, run, "test")
        return {"accuracy": float((outputs.argmax(dim=1) == targets).double().mean())}
