"""Evaluators: exact match of whole answers, greatest common divisors that are known, eigenvalues by tolerance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import attrs

from kempeframe import Data, Evaluator, Fit, component, field

if TYPE_CHECKING:
    from torch import Tensor

    from kempeframe.components import Measured
    from kempeframe.runs import Run
    from kempeframe.trial import Fitted
    from kempeframe_repeated_examples.problems import Array

WRITTEN_AT_ONCE = 1000  # answers that are generated together


@attrs.frozen(eq=False)
class Answers:
    """What a network says to the test questions, and what it should have said."""

    said: Array  # decoded: (n, ...)
    right: Array  # exact answers
    expected: Array  # the right answers as they read once written
    loss: float  # mean cross-entropy of the targets


def answers_of(fitted: Fitted, run: Run) -> Answers:
    """Ask a network all test questions; it chooses classes, or writes tokens greedily.

    Raises:
        CannotGive: the task is none of this plugin's.
    """
    import torch
    from kempeframe_standard.evaluation import outputs_and_targets
    from kempeframe_standard.training.losses import cross_entropy

    from kempeframe.task import CannotGive
    from kempeframe_repeated_examples.data import Truth

    truth = fitted.task.truth
    if not isinstance(truth, Truth):
        raise CannotGive("this evaluator is for the arithmetic tasks of repeated_examples")
    outputs, targets = outputs_and_targets(fitted, run, "test")
    loss = float(cross_entropy(outputs, targets).double().mean())
    if outputs.dim() == 2:
        said, written = outputs.argmax(dim=1), targets
    else:
        from kempeframe_repeated_examples.integers import PAD

        said = torch.cat([_written(fitted, part) for part in _questions(fitted, run)])
        written = targets.masked_fill(targets < 0, PAD)
    decode = truth.layout.decode
    return Answers(decode(said.cpu().numpy()), truth.test_answers(), decode(written.cpu().numpy()), loss)


def _questions(fitted: Fitted, run: Run) -> list[Tensor]:
    import torch

    inputs = fitted.task.test.examples().inputs.to(run.device)
    return list(torch.split(inputs[:, : fitted.task.truth.layout.source], WRITTEN_AT_ONCE))


def _written(fitted: Fitted, sources: Tensor) -> Tensor:
    """(n, target) tokens, padded behind the end token."""
    from kempeframe_standard.generation import generate
    from torch.nn.functional import pad

    from kempeframe_repeated_examples.integers import EOS, PAD

    prompts = pad(sources, (0, 1), value=EOS)
    steps = fitted.task.truth.layout.target
    return generate(fitted.network, prompts, steps=steps, temperature=0.0, stop_token=EOS, pad=PAD).responses


def exact(answers: Answers) -> Array:
    """(n,): whether the whole answer is right."""
    import numpy as np

    same = np.asarray(answers.said == answers.expected)  # nan is never the same
    whole = same.reshape(len(same), -1).all(axis=1)
    return np.asarray(whole & readable(answers.said))


def readable(said: Array) -> Array:
    """(n,): whether an answer could be decoded."""
    import numpy as np

    from kempeframe_repeated_examples.integers import WRONG

    return np.asarray(said != WRONG) if said.ndim == 1 else np.asarray(np.isfinite(said).all(axis=1))


@component
class SequenceAccuracy(Evaluator):
    """The share of test questions whose whole answer is right, and the cross-entropy of the right answers.

    An answer that can't be decoded is wrong, and counted. Never single tokens: sign and end are always right (T10).
    """

    success: float = field(0.95, "`solved` is an accuracy above this", ge=0, le=1)
    per_outcome: bool = field(False, "also the accuracy for each answer that the test split holds, as a curve")

    def columns(self) -> Mapping[str, str]:
        curve = {"outcome": "the answers (a list)", "outcome_accuracy": "accuracy for each of them (a list)"}
        return {
            "accuracy": "share of test questions whose whole answer is right",
            "solved": f"whether that is above {self.success:g}",
            "test_loss": "mean cross-entropy of the right answers; of sequences, over an answer's tokens",
            "undecodable": "share of answers that can't be decoded; they are wrong",
            **(curve if self.per_outcome else {}),
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        answers = answers_of(fitted, run)
        right = exact(answers)
        accuracy = float(right.mean())
        found: dict[str, Any] = {
            "accuracy": accuracy,
            "solved": accuracy > self.success,
            "test_loss": answers.loss,
            "undecodable": float(1 - readable(answers.said).mean()),
        }
        if self.per_outcome:
            outcomes, shares = by_outcome(answers.right, right)
            found |= {"outcome": outcomes.astype(float).tolist(), "outcome_accuracy": shares.tolist()}
        return found


def by_outcome(outcomes: Array, right: Array) -> tuple[Array, Array]:
    """Distinct outcomes, rising, and the share of right answers for each.

    Raises:
        CannotGive: outcomes are no integers.
    """
    import numpy as np

    from kempeframe.task import CannotGive

    if outcomes.ndim != 1:
        raise CannotGive("per_outcome: these answers are vectors of numbers, of which each comes once")
    distinct, place = np.unique(outcomes, return_inverse=True)
    return distinct, np.bincount(place, weights=right.astype(float)) / np.bincount(place)


def _check_data(fit: Fit, expected: type[Data]) -> None:
    """Of this plugin's data none but that kind; what other data make of a task shows when it is loaded."""
    from kempeframe_repeated_examples.data import Sampled

    if isinstance(fit.data, Sampled) and not isinstance(fit.data, expected):
        name = expected.component_name()
        raise ValueError(f"data: expected repeated_examples.{name}, got {fit.data.component_name()}")


@component
class GcdCount(Evaluator):
    """How many greatest common divisors a network knows: those it gets right in nearly all test pairs.

    On few pairs an outcome the count jumps, and it may be 0 at a high accuracy (T22): the means stand beside it.
    """

    threshold: float = field(0.95, "share of an outcome's pairs that must be right", gt=0, le=1)
    outcomes: int = field(100, "count among 1..outcomes", ge=1)

    def check_with(self, fit: Fit) -> None:
        from kempeframe_repeated_examples.data import Gcd

        _check_data(fit, Gcd)
        tested = getattr(fit.data, "test_outcomes", self.outcomes)
        if tested < self.outcomes:
            raise ValueError(f"outcomes = {self.outcomes}: expected at most the data's test_outcomes = {tested}")

    def columns(self) -> Mapping[str, str]:
        return {
            "gcd_count": f"outcomes of 1..{self.outcomes} with at least {self.threshold:g} of their pairs right",
            "balanced_accuracy": "mean accuracy over these outcomes",
            "uniform_accuracy": "the same, weighted as uniform operands have them; larger outcomes are wrong",
            "known": "the outcomes that count (a list)",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        from kempeframe.task import CannotGive
        from kempeframe_repeated_examples.problems import Gcd
        from kempeframe_repeated_examples.theory import gcd_probability

        problem = getattr(fitted.task.truth, "problem", None)
        if not isinstance(problem, Gcd):
            raise CannotGive("gcd_count is for repeated_examples.gcd")
        answers = answers_of(fitted, run)
        tested, shares = by_outcome(answers.right, exact(answers))
        if tested[0] != 1 or len(tested) < self.outcomes:
            raise CannotGive(f"outcomes = {self.outcomes}: the test split has {len(tested)} (test_outcomes)")
        shares = shares[: self.outcomes]
        weights = [gcd_probability(gcd, problem.maximum) for gcd in range(1, self.outcomes + 1)]
        known = tested[: self.outcomes][shares >= self.threshold]
        return {
            "gcd_count": float(len(known)),
            "balanced_accuracy": float(shares.mean()),
            "uniform_accuracy": float(shares @ weights),
            "known": known.astype(float).tolist(),
        }


@component
class EigenvalueAccuracy(Evaluator):
    """The share of spectra that are right within a tolerance (brief, Section 3.4; LAWT).

    The error of an answer is sum |said - right| / sum |right| ("l1"), the same of squares ("l2sq"), or of largest
    values ("max"). What can't be decoded is wrong; where all is 0, only 0 is right.
    """

    tolerances: tuple[float, ...] = field((0.05, 0.02, 0.01, 0.005), "errors below which an answer is right", gt=0)
    norm: Literal["l1", "l2sq", "max"] = field("l1", "of the error")

    def check_with(self, fit: Fit) -> None:
        from kempeframe_repeated_examples.data import Eigenvalues

        _check_data(fit, Eigenvalues)

    def columns(self) -> Mapping[str, str]:
        return {
            **{percent(t): f"share of answers with an error below {100 * t:g} %" for t in self.tolerances},
            "median_error": "median error; inf for an answer that can't be decoded",
            "undecodable": "share of answers that can't be decoded",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        import numpy as np

        from kempeframe.task import CannotGive

        answers = answers_of(fitted, run)
        if answers.right.ndim != 2:
            raise CannotGive("eigenvalue_accuracy is for repeated_examples.eigenvalues")
        errors = relative_error(answers.said, answers.right, self.norm)
        return {
            **{percent(t): float((errors < t).mean()) for t in self.tolerances},
            "median_error": float(np.median(errors)),
            "undecodable": float(1 - readable(answers.said).mean()),
        }


def percent(tolerance: float) -> str:
    """0.005 -> `within_0_5_percent`."""
    return f"within_{100 * tolerance:g}_percent".replace(".", "_")


def relative_error(said: Array, right: Array, norm: str) -> Array:
    """(n, k) and (n, k) -> (n,); inf where an answer is nan, or nonzero where the right one is all 0."""
    import numpy as np

    measures: dict[str, Callable[[Array], Array]] = {
        "l1": lambda x: np.abs(x).sum(axis=1),
        "l2sq": lambda x: np.square(x).sum(axis=1),
        "max": lambda x: np.abs(x).max(axis=1),
    }
    measure = measures[norm]
    distance, size = measure(said - right), measure(right)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(size > 0, distance / size, np.where(distance == 0, 0.0, np.inf))
    found: Array = np.where(np.isnan(error), np.inf, error)
    return found
