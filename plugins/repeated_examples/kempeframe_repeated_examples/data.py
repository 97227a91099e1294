"""Data: greatest common divisors, modular products and eigenvalues, and how often an example is seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import attrs

from kempeframe import Data, component, field

if TYPE_CHECKING:
    from kempeframe import Fit
    from kempeframe.runs import Run
    from kempeframe.task import Task
    from kempeframe_repeated_examples.problems import Array, Layout, Problem
    from kempeframe_repeated_examples.sampling import Protocol

LARGEST = 2**53 - 1  # of an operand: they are drawn from uniform floats


@attrs.frozen(eq=False)
class Truth:
    """What a task of this plugin knows besides its splits: `problem` answers exactly, `layout` reads and writes tokens.

    test_answers() gives the exact answers of the test split, in its order.
    """

    problem: Problem
    layout: Layout
    test_answers: Callable[[], Array]


@component
class Sampled(Data):
    """Examples that are generated, and the protocol by which training sees them (brief, Section 3.6).

    Without limits each slot of a mini-batch has a fresh example. A data budget makes a pool, drawn from with
    replacement, or in epochs. A small set fills each slot with its probability; the other slots are uniform on the rest
    of the budget, or fresh. Pools are nested, and what arms have in common is the same numbers.
    """

    data_budget: float = field(math.inf, "distinct training examples; inf: fresh ones without end", ge=1)
    small_set: int = field(0, "size of the set that is repeated more; 0: there is none", ge=0)
    small_set_probability: float = field(0.0, "that a slot is filled from the small set", ge=0, le=1)
    mixing: Literal["within", "between"] = field(
        "within", "whether each slot, or each mini-batch as a whole (mono-batches), chooses between the sets"
    )
    shift_every: float = field(math.inf, "steps after which a new small set takes the old one's place", ge=1)
    curation: Literal["random", "rare_outcome", "balanced", "small_operands"] = field(
        "random", "how the small set is chosen among ten times as many candidates"
    )
    sampling: Literal["replacement", "epochs"] = field(
        "replacement", "draws from the budget: independent, or each example once an epoch"
    )

    def __attrs_post_init__(self) -> None:
        for name in ("data_budget", "shift_every"):
            value = getattr(self, name)
            if math.isfinite(value) and value != int(value):
                raise ValueError(f"{name} = {value:g}: expected a whole number, or inf")
        if self.small_set > self.data_budget:
            raise ValueError(f"small_set = {self.small_set} is larger than data_budget = {self.data_budget:g}")
        if self.small_set == self.data_budget and self.small_set_probability < 1:
            raise ValueError(f"small_set = {self.small_set} leaves nothing of data_budget for the other slots")
        if self.small_set_probability > 0 and self.small_set == 0:
            raise ValueError(f"small_set_probability = {self.small_set_probability:g}: there is no small_set")
        if self.sampling == "epochs" and (math.isinf(self.data_budget) or self.small_set):
            raise ValueError('sampling = "epochs": expected a finite data_budget and no small_set')
        if math.isfinite(self.shift_every) and not self.small_set:
            raise ValueError(f"shift_every = {self.shift_every:g}: there is no small_set")
        if math.isfinite(self.shift_every) and math.isfinite(self.data_budget) and self.curation != "random":
            raise ValueError(f"curation = {self.curation!r}: a small set that shifts through a budget is random")

    def check_with(self, fit: Fit) -> None:
        size = getattr(fit.optimizer, "batch_size", None)
        if isinstance(size, int) and self.data_budget < size:
            raise ValueError(f"data_budget = {self.data_budget:g} is smaller than a batch of {size} examples")

    @property
    def protocol(self) -> Protocol:
        """How slots are filled."""
        from kempeframe_repeated_examples.sampling import Protocol

        return Protocol(
            budget=int(self.data_budget) if math.isfinite(self.data_budget) else None,
            small_set=self.small_set,
            probability=self.small_set_probability,
            within=self.mixing == "within",
            shift_every=int(self.shift_every) if math.isfinite(self.shift_every) else None,
            curation=self.curation,
            replacement=self.sampling == "replacement",
        )

    @property
    def question_count(self) -> float:
        """How many different questions there are."""
        return math.inf

    def problem(self) -> Problem:
        """What is asked."""
        raise NotImplementedError

    def layout(self) -> Layout:
        """How it is written."""
        raise NotImplementedError

    def test_questions(self, run: Run) -> Array:
        """Those of the test split, whatever the protocol."""
        raise NotImplementedError

    def load(self, run: Run) -> Task:
        import torch

        from kempeframe.task import Examples, Task
        from kempeframe_repeated_examples.sampling import RepeatedExamples

        problem, layout = self.problem(), self.layout()

        def test() -> Examples:
            questions = self.test_questions(run)
            answers = problem.answer(questions)
            inputs, targets = layout.inputs(questions, answers), layout.targets(answers)
            return Examples(torch.from_numpy(inputs).long(), torch.from_numpy(targets).long())

        return Task(
            splits={"train": lambda: RepeatedExamples(problem, layout, self.protocol, run), "test": test},
            input_shape=layout.input_shape,
            output_shape=layout.output_shape,
            classes=layout.output_shape[0] if len(layout.output_shape) == 1 else None,
            truth=Truth(problem, layout, lambda: problem.answer(self.test_questions(run))),
        )


@component
class Integers(Sampled):
    """Two operands in a base. As a sequence `V2 + 1 24 + 16`, or, for networks that classify, digit after digit."""

    maximum: int = field(1_000_000, "largest operand", ge=1, le=LARGEST)
    base: int = field(1000, "of the digits", ge=2)
    answer: Literal["sequence", "class"] = field(
        "sequence", "the network writes the answer's tokens, or it chooses one class"
    )
    fixed_width: bool = field(False, "operands have zeros in front, so that all have as many digits")

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.answer == "class" and not self.fixed_width:
            raise ValueError('answer = "class": digits stand without signs and need fixed_width = true')

    @property
    def places(self) -> int:
        """Digits of the largest operand."""
        from kempeframe_repeated_examples.integers import width

        return width(self.maximum, self.base)

    def written(self, largest_answer: int) -> Layout:
        """Operands and an answer as sequences."""
        from kempeframe_repeated_examples.problems import IntegersToInteger

        return IntegersToInteger(self.base, self.maximum, largest_answer, self.places if self.fixed_width else None)


@component
class Gcd(Integers):
    """The greatest common divisor of two integers, uniform on 1..maximum (Charton, arXiv:2308.15594).

    The test split has the same number of pairs for each answer from 1 to test_outcomes. As a class the answers are
    those, and one for all larger.
    """

    test_outcomes: int = field(100, "largest answer K of the test split", ge=1)
    test_per_outcome: int = field(1000, "test pairs of each answer", ge=1)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.test_outcomes > self.maximum:
            raise ValueError(f"test_outcomes = {self.test_outcomes} is larger than maximum = {self.maximum}")

    @property
    def question_count(self) -> float:
        return float(self.maximum) ** 2

    def problem(self) -> Problem:
        from kempeframe_repeated_examples.problems import Gcd as GcdProblem

        return GcdProblem(self.maximum)

    def layout(self) -> Layout:
        from kempeframe_repeated_examples.problems import DigitsToClass

        if self.answer == "sequence":
            return self.written(self.maximum)
        return DigitsToClass(self.base, self.places, first=1, classes=self.test_outcomes + 1, other=True)

    def test_questions(self, run: Run) -> Array:
        import numpy as np

        problem: Any = self.problem()
        rng = run.rng("data", "test")
        outcomes = range(1, self.test_outcomes + 1)
        return np.concatenate([problem.draw_with(rng, gcd, self.test_per_outcome) for gcd in outcomes])


@component
class ModularMultiplication(Integers):
    """a b mod q for a, b uniform on minimum..maximum. The modulus is not among the inputs."""

    modulus: int = field(67, "q; theory needs a prime", ge=2, le=2**31)
    minimum: int = field(1, "smallest operand", ge=0)
    n_test: int = field(10_000, "test pairs, fresh", ge=1)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.minimum > self.maximum:
            raise ValueError(f"minimum = {self.minimum} is larger than maximum = {self.maximum}")

    @property
    def question_count(self) -> float:
        return float(self.maximum - self.minimum + 1) ** 2

    def problem(self) -> Problem:
        from kempeframe_repeated_examples.problems import ModularProduct

        return ModularProduct(self.modulus, self.minimum, self.maximum)

    def layout(self) -> Layout:
        from kempeframe_repeated_examples.problems import DigitsToClass

        if self.answer == "sequence":
            return self.written(self.modulus - 1)
        return DigitsToClass(self.base, self.places, first=0, classes=self.modulus, other=False)

    def test_questions(self, run: Run) -> Array:
        return self.problem().draw(run.rng("data", "test"), self.n_test)


@component
class Eigenvalues(Sampled):
    """Eigenvalues, falling, of symmetric matrices with independent entries (Charton, arXiv:2112.01898)."""

    dimension: int = field(5, "rows of a matrix", ge=1, le=20)
    coefficient_bound: float = field(10.0, "entries are uniform on -bound..bound", gt=0)
    distribution: Literal["uniform", "gaussian"] = field("uniform", "of the entries; both with the same variance")
    encoding: Literal["P10", "P1000", "B1999", "FP15"] = field("P1000", "of numbers, with three significant digits")
    n_test: int = field(10_000, "test matrices, fresh", ge=1)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        largest = 1e8 if self.encoding == "FP15" else 1e90
        if self.coefficient_bound * self.dimension > largest:
            raise ValueError(
                f"coefficient_bound = {self.coefficient_bound:g}: {self.encoding} has no words for eigenvalues above "
                f"{largest:g}"
            )

    def problem(self) -> Problem:
        from kempeframe_repeated_examples.problems import Spectrum

        return Spectrum(self.dimension, self.coefficient_bound, self.distribution == "gaussian")

    def layout(self) -> Layout:
        from kempeframe_repeated_examples.problems import MatrixToSpectrum

        return MatrixToSpectrum(self.dimension, self.encoding)

    def test_questions(self, run: Run) -> Array:
        return self.problem().draw(run.rng("data", "test"), self.n_test)
