"""Evaluators that look at no network: plateaus, what a base reveals, how often examples are seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from kempeframe import Evaluator, Fit, NoTheory, component, field
from kempeframe.components import Needs

if TYPE_CHECKING:
    from kempeframe.components import Measured
    from kempeframe.runs import Run
    from kempeframe.trial import Fitted


def check_plateau(fit: Fit, index: int) -> None:
    """Modular multiplication has the plateau of this index r; other data are not asked.

    Raises:
        ValueError: the modulus is not prime, or r does not divide modulus - 1.
    """
    from kempeframe_repeated_examples.data import ModularMultiplication
    from kempeframe_repeated_examples.theory import plateau

    if isinstance(fit.data, ModularMultiplication):
        plateau(fit.data.modulus, index)


@component
class ModularPlateau(Evaluator):
    """What a model of modular multiplication reaches that knows the coset of a product, and nothing more.

    Of the subgroup of index r in (Z/q)*: with r = 1 it knows the zeros, with r = 2 the quadratic character, with
    r = q - 1 everything; index 0 is the ignorant model (brief, Section 3.2). For operands as the data has them.
    """

    needs: ClassVar[Needs] = "components"

    index: int = field(1, "r, a divisor of modulus - 1; 0: it knows nothing", ge=0)

    def check_with(self, fit: Fit) -> None:
        check_plateau(fit, self.index or 1)

    def columns(self) -> Mapping[str, str]:
        return {"accuracy": f"of the plateau of index {self.index}", "cross_entropy": "of that plateau, nats"}

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        from kempeframe_repeated_examples.data import ModularMultiplication
        from kempeframe_repeated_examples.theory import product_distribution, staircase

        data = fitted.data
        if not isinstance(data, ModularMultiplication):
            raise NoTheory("plateaus are those of repeated_examples.modular_multiplication")
        levels = staircase(data.modulus, product_distribution(data.modulus, data.minimum, data.maximum))
        level = levels[self.index]
        return {"accuracy": level.accuracy, "cross_entropy": level.cross_entropy}


@component
class GcdBaseline(Evaluator):
    """What a model reaches that says the largest divisor which both operands' digits show (arXiv:2308.15594).

    Its divisors are those k of which the base's m-th power is a multiple, and their products with powers of `primes`.
    It is right iff the gcd is one of them.
    """

    needs: ClassVar[Needs] = "components"

    digits: int | Literal["all"] = field("all", "m, trailing digits that are read", ge=1)
    primes: tuple[int, ...] = field((), "primes learned besides", ge=2)
    outcomes: int = field(100, "count among 1..outcomes", ge=1)

    def __attrs_post_init__(self) -> None:
        from kempeframe_repeated_examples.theory import is_prime

        for number in self.primes:
            if not is_prime(number):
                raise ValueError(f"primes: {number} is none")

    def columns(self) -> Mapping[str, str]:
        return {
            "gcd_count": f"divisors known, of 1..{self.outcomes}",
            "balanced_accuracy": "their share of 1..outcomes",
            "uniform_accuracy": "on uniform operands, of the outcomes up to `outcomes`",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        from kempeframe_repeated_examples.data import Gcd
        from kempeframe_repeated_examples.theory import divisor_accuracy, revealed, with_primes

        data = fitted.data
        if not isinstance(data, Gcd):
            raise NoTheory("the baseline is that of repeated_examples.gcd")
        shown = revealed(data.base, None if self.digits == "all" else self.digits, self.outcomes)
        known = with_primes(shown, self.primes, self.outcomes)
        return {
            "gcd_count": float(len(known)),
            "balanced_accuracy": len(known) / self.outcomes,
            "uniform_accuracy": divisor_accuracy(known, data.maximum),
        }


@component
class Repetition(Evaluator):
    """How often examples are seen: the mean for each set, how many distinct ones, and what of the test is among them.

    Expected values for draws with replacement; fresh examples repeat by accident where there are few questions (T4).
    """

    needs: ClassVar[Needs] = "components"

    def columns(self) -> Mapping[str, str]:
        return {
            "examples": "training examples that are processed, the training budget",
            "repetition": "of them, for each distinct one",
            "small_repetition": "mean number of times an example of the small set is seen; 0 without one",
            "rest_repetition": "of an example of the rest, or of a fresh one; 0 where there is none",
            "distinct": "different questions that are seen, expected",
            "test_overlap": "share of test questions that are seen in training, expected",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        from kempeframe_repeated_examples.data import Sampled
        from kempeframe_repeated_examples.theory import distinct

        data, optimizer = fitted.data, fitted.optimizer
        steps, size = getattr(optimizer, "steps", None), getattr(optimizer, "batch_size", None)
        if not isinstance(data, Sampled) or not isinstance(steps, int) or not isinstance(size, int):
            raise NoTheory("repetition is of a repeated_examples task and an optimizer with steps and a batch_size")
        total = float(steps * size * getattr(optimizer, "accumulate", 1))
        small, share = data.small_set, data.small_set_probability
        rest, of_small = (1 - share) * total, share * total
        windows = 1 if math.isinf(data.shift_every) else math.ceil(steps / data.shift_every)
        if math.isinf(data.data_budget):
            drawn = rest + windows * distinct(small, of_small / windows) if small else rest
            per_rest = 1.0 if rest else 0.0
        elif windows > 1 or data.sampling == "epochs":
            drawn = distinct(data.data_budget, total) if data.sampling != "epochs" else min(data.data_budget, total)
            per_rest = total / data.data_budget
        else:
            remaining = data.data_budget - small
            drawn = (distinct(small, of_small) if small else 0.0) + (distinct(remaining, rest) if remaining else 0.0)
            per_rest = rest / remaining if remaining else 0.0
        questions = data.question_count
        found = distinct(questions, drawn)
        return {
            "examples": total,
            "repetition": total / found,
            "small_repetition": of_small / windows / small if small else 0.0,
            "rest_repetition": per_rest,
            "distinct": found,
            "test_overlap": 0.0 if math.isinf(questions) else found / questions,
        }
