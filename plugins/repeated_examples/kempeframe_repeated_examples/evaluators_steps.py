"""Evaluators of learning curves: when a level is left behind, and whether a curve stands on the plateaus of theory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from kempeframe import Evaluator, Fit, NoTheory, component, field
from kempeframe.components import Needs
from kempeframe_repeated_examples.evaluators import SequenceAccuracy
from kempeframe_repeated_examples.evaluators_theory import check_plateau

if TYPE_CHECKING:
    from kempeframe.components import Measured
    from kempeframe.runs import Run
    from kempeframe.trial import Fitted

_DEFAULTS: dict[str, Any] = {}
MEASURE = SequenceAccuracy(**_DEFAULTS)


@component
class EscapeStep(Evaluator):
    """The first snapshot at which a metric lies above a level; inf where none does: censored at the last step.

    Between the plateaus of modular multiplication levels are the midpoints of their accuracies; for q = 7 these are
    0.3265, 0.4490, 0.5714, 0.8163. Compare arms by an order claim (log-rank), or by medians: both know inf.
    """

    needs: ClassVar[Needs] = "trajectory"

    measure: Evaluator = field(MEASURE, "what is measured at each snapshot")
    metric: str = field("accuracy", "one of its columns")
    level: float = field(doc="that the metric rises above")

    def __attrs_post_init__(self) -> None:
        columns = self.measure.columns()
        if self.metric not in columns:
            raise ValueError(f"metric = {self.metric!r}: the evaluator gives {', '.join(columns)}")

    @property
    def measured(self) -> Evaluator:
        return self.measure

    def columns(self) -> Mapping[str, str]:
        return {
            "step": f"first snapshot with {self.metric} above {self.level:g}; inf: none up to the last step",
            "escaped": "whether there is one",
            "last_step": "up to which it was looked for",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        above = [step for step, found in fitted.history if found[self.metric] > self.level]
        last = max((step for step, _ in fitted.history), default=fitted.step)
        return {"step": float(min(above, default=math.inf)), "escaped": bool(above), "last_step": float(last)}


@component
class Staircase(Evaluator):
    """Whether modular multiplication is learned in the steps of theory (C12).

    A snapshot stands on the plateau of index r where its test loss and that of the snapshot before are the plateau's
    within `tolerance`: what only passes by does not count. Compared is the accuracy, which the loss does not imply.
    The theory is that of the test split's own share of zeros.
    """

    needs: ClassVar[Needs] = "trajectory"

    measure: Evaluator = field(MEASURE, "sequence_accuracy, as it is measured at each snapshot")
    tolerance: float = field(0.03, "nats between a snapshot's loss and a plateau's", gt=0)

    def __attrs_post_init__(self) -> None:
        missing = {"accuracy", "test_loss"} - set(self.measure.columns())
        if missing:
            raise ValueError(f"measure: expected sequence_accuracy; it gives no {sorted(missing)[0]}")

    def check_with(self, fit: Fit) -> None:
        check_plateau(fit, 1)

    @property
    def measured(self) -> Evaluator:
        return self.measure

    def columns(self) -> Mapping[str, str]:
        return {
            "snapshots": "that stand on a plateau between ignorance and knowing all",
            "accuracy": "mean over them",
            "plateau_accuracy": "of theory, for each of them its plateau's, mean",
            "worst": "largest |accuracy - theory| of them, in standard errors of the test split",
            "reached": "highest index whose plateau the last accuracy lies closest to",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        import numpy as np

        from kempeframe_repeated_examples.data import ModularMultiplication
        from kempeframe_repeated_examples.theory import staircase

        data = fitted.data
        if not isinstance(data, ModularMultiplication):
            raise NoTheory("the staircase is that of repeated_examples.modular_multiplication")
        answers = fitted.task.truth.test_answers()
        shares = np.bincount(answers, minlength=data.modulus) / len(answers)
        levels = staircase(data.modulus, shares)
        between = {index: level for index, level in levels.items() if 0 < index < data.modulus - 1}
        found = []
        for (_, before), (_, metrics) in itertools.pairwise(fitted.history):
            for level in between.values():
                losses = (before["test_loss"], metrics["test_loss"])
                if all(abs(loss - level.cross_entropy) < self.tolerance for loss in losses):
                    found.append((metrics["accuracy"], level.accuracy))
        # Given the share of zeros, what is random is the guess among the members of a coset.
        gaps = [abs(a - p) / math.sqrt(max(p * (1 - p), 1e-12) / len(answers)) for a, p in found]
        last = fitted.history[-1][1]["accuracy"] if fitted.history else math.nan
        return {
            "snapshots": float(len(found)),
            "accuracy": float(np.mean([a for a, _ in found])) if found else math.nan,
            "plateau_accuracy": float(np.mean([p for _, p in found])) if found else math.nan,
            "worst": max(gaps, default=math.nan),
            "reached": float(min(levels, key=lambda index: abs(levels[index].accuracy - last))),
        }
