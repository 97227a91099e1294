"""Evaluators: losses, accuracies and calibration of a network's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from kempeframe import Evaluator, component, field

if TYPE_CHECKING:
    from kempeframe.components import Measured
    from kempeframe.runs import Run
    from kempeframe.trial import Fitted

SPLIT = "of the task"


@component
class TestLoss(Evaluator):
    """The mean of a training loss over a split; of sequences, over all their tokens."""

    __test__ = False  # no test class of pytest's

    loss: Literal["cross_entropy", "negative_log_likelihood", "logistic", "exponential", "squared", "hinge"] = field(
        "cross_entropy", "as for the optimizers"
    )
    split: str = field("test", SPLIT)

    def columns(self) -> Mapping[str, str]:
        return {"test_loss": "mean loss"}

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        from kempeframe_standard.evaluation import outputs_and_targets
        from kempeframe_standard.training.losses import LOSSES

        outputs, targets = outputs_and_targets(fitted, run, self.split)
        return {"test_loss": float(LOSSES[self.loss](outputs, targets).double().mean())}


@component
class PerClassAccuracy(Evaluator):
    """The share of each class' examples that are classified correctly: curves for figures, and the worst."""

    split: str = field("test", SPLIT)

    def columns(self) -> Mapping[str, str]:
        return {
            "class": "0, 1, ... (a list: the x axis of a figure)",
            "class_accuracy": "share of each class' examples classified correctly (a list)",
            "worst_class_accuracy": "the smallest of them",
            "worst_class": "the class that has it",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        import torch

        from kempeframe_standard.evaluation import class_outputs

        outputs, targets = class_outputs(fitted, run, self.split)
        classes = outputs.shape[1]
        right = (outputs.argmax(dim=1) == targets).double()
        counts = torch.bincount(targets, minlength=classes)
        accuracy = torch.bincount(targets, weights=right, minlength=classes) / counts
        worst = accuracy.nan_to_num(torch.inf).argmin()
        return {
            "class": [float(number) for number in range(classes)],
            "class_accuracy": accuracy.tolist(),
            "worst_class_accuracy": float(accuracy[worst]),
            "worst_class": float(worst),
        }


@component
class CalibrationError(Evaluator):
    """Expected calibration error (Naeini et al., 2015): the mean gap between confidence and accuracy, over bins.

    The confidence is the largest softmax probability; bins have equal width and count by their number of examples.
    """

    bins: int = field(15, "of the confidence, between 0 and 1", ge=1)
    split: str = field("test", SPLIT)

    def columns(self) -> Mapping[str, str]:
        return {
            "calibration_error": "mean |confidence - accuracy| over bins, weighted by their examples",
            "confidence": "mean of the largest probability",
            "bin_confidence": "mean confidence of each bin that holds examples (a list)",
            "bin_accuracy": "accuracy in each of them (a list)",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        from kempeframe_standard.evaluation import calibration, class_outputs

        means, accuracies, shares = calibration(*class_outputs(fitted, run, self.split), self.bins)
        held = shares > 0
        means, accuracies, shares = means[held], accuracies[held], shares[held]
        return {
            "calibration_error": float((shares * (means - accuracies).abs()).sum()),
            "confidence": float((shares * means).sum()),
            "bin_confidence": means.tolist(),
            "bin_accuracy": accuracies.tolist(),
        }
