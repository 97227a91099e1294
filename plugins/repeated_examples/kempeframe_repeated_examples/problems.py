"""The three problems: how examples are drawn, what the right answer is, and how both are written as tokens.

A problem draws from uniform numbers or from a generator, vectorised; a layout turns questions into inputs, answers into
targets, and what a network says back into answers.
"""

from __future__ import annotations

from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from kempeframe_repeated_examples.integers import EOS, PAD, WRONG, IntegerWords, Tokens, Vocabulary, digits, width
from kempeframe_repeated_examples.reals import Encoding, RealWords, symbols

Array = NDArray[Any]
NOTHING = -100  # the target of a position that is not predicted


class Problem(Protocol):
    """Questions (n, ...) and their answers (n, ...)."""

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        """So many questions of the training law."""

    def answer(self, questions: Array) -> Array:
        """The exact answers."""

    def size(self, questions: Array) -> NDArray[np.float64]:
        """How large the operands are, (n,): what `small_operands` sorts by."""


@attrs.frozen
class Gcd:
    """(a, b), both uniform on 1..maximum -> gcd(a, b)."""

    maximum: int

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        return uniform_integers(rng, (count, 2), 1, self.maximum)

    def answer(self, questions: Array) -> Array:
        found: Array = np.gcd(questions[:, 0], questions[:, 1])
        return found

    def size(self, questions: Array) -> NDArray[np.float64]:
        return np.asarray(questions.max(axis=1), dtype=np.float64)

    def draw_with(self, rng: np.random.Generator, gcd: int, count: int) -> Array:
        """So many questions whose answer is this one: g u, g v with u, v coprime, uniform on 1..maximum / g."""
        kept = np.empty((0, 2), dtype=np.int64)
        while len(kept) < count:
            pairs = uniform_integers(rng, (2 * count + 8, 2), 1, self.maximum // gcd)
            kept = np.concatenate([kept, pairs[np.gcd(pairs[:, 0], pairs[:, 1]) == 1]])
        return gcd * kept[:count]


@attrs.frozen
class ModularProduct:
    """(a, b), both uniform on minimum..maximum -> a b mod modulus."""

    modulus: int
    minimum: int
    maximum: int

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        return uniform_integers(rng, (count, 2), self.minimum, self.maximum)

    def answer(self, questions: Array) -> Array:
        # Of the residues: the product of the operands may not fit into 64 bits.
        found: Array = (questions[:, 0] % self.modulus) * (questions[:, 1] % self.modulus) % self.modulus
        return found

    def size(self, questions: Array) -> NDArray[np.float64]:
        return np.asarray(questions.max(axis=1), dtype=np.float64)


@attrs.frozen
class Spectrum:
    """A symmetric matrix, entries on and below the diagonal independent -> its eigenvalues, falling.

    The entries are uniform on -bound..bound, or Gaussian with the same variance.
    """

    dimension: int
    bound: float
    gaussian: bool = False

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        shape = (count, self.dimension, self.dimension)
        if self.gaussian:
            entries = rng.standard_normal(shape) * (self.bound / np.sqrt(3))
        else:
            entries = rng.uniform(-self.bound, self.bound, shape)
        lower = np.tril(entries)
        return np.asarray(lower + np.tril(entries, -1).transpose(0, 2, 1))

    def answer(self, questions: Array) -> Array:
        found: Array = np.linalg.eigvalsh(questions)[:, ::-1]
        return found

    def size(self, questions: Array) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.linalg.norm(questions, axis=(1, 2))
        return found


def uniform_integers(rng: np.random.Generator, shape: tuple[int, ...], first: int, last: int) -> Array:
    """Uniform on first..last, one number of the generator each: arms that differ in the range stay in step.

    From 53 bits: no number is more likely than another by more than (last - first) 2^-53.
    """
    return first + np.floor(rng.random(shape) * (last - first + 1)).astype(np.int64)


class Layout(Protocol):
    """How questions and answers become tensors.

    Shapes are the task's: output_shape (classes,) where there is one output for the whole answer.
    """

    @property
    def vocabulary(self) -> Vocabulary:
        """The words of inputs."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one example."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of one example."""

    def inputs(self, questions: Array, answers: Array) -> Tokens:
        """(n, *input_shape)."""

    def targets(self, answers: Array) -> Tokens:
        """Class indices (n,), or tokens (n, positions) with -100 where nothing is predicted."""

    def decode(self, said: Tokens) -> Array:
        """What a network says, class indices (n,) or tokens (n, positions) -> answers; `WRONG` or nan: none."""


@attrs.frozen
class DigitsToClass:
    """Two numbers of fixed width, digit after digit; the answer is one of `classes`, the last of them "other" if so.

    For networks with one output an answer (`compact_encoder`): no sign, no end, no padding.
    """

    base: int
    places: int  # digits of an operand
    first: int  # the answer that class 0 is
    classes: int
    other: bool  # the last class is every answer above

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(tuple(map(str, range(self.base))))

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (2 * self.places,)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.classes,)

    def inputs(self, questions: Array, answers: Array) -> Tokens:
        return digits(questions, self.base, self.places).reshape(len(questions), -1)

    def targets(self, answers: Array) -> Tokens:
        found: Tokens = np.minimum(answers - self.first, self.classes - 1)
        return found

    def decode(self, said: Tokens) -> Array:
        found = said + self.first
        return np.where(said == self.classes - 1, WRONG, found) if self.other else found


class SequenceLayout:
    """Source and shifted target, end to end, as encoder-decoders read them; the end token also begins the target."""

    source: int  # longest, with its end token
    target: int

    @property
    def vocabulary(self) -> Vocabulary:
        """The words of source and target."""
        raise NotImplementedError

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.source + self.target,)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.target, len(self.vocabulary))

    def inputs(self, questions: Array, answers: Array) -> Tokens:
        written, _ = self.write_answers(answers)
        begun = np.concatenate([np.full((len(written), 1), EOS), written[:, :-1]], axis=1)
        return np.concatenate([self.write_questions(questions), begun], axis=1)

    def targets(self, answers: Array) -> Tokens:
        written, lengths = self.write_answers(answers)
        return np.where(np.arange(self.target) < lengths[:, None], written, NOTHING)

    def write_questions(self, questions: Array) -> Tokens:
        """(n, source), padded."""
        raise NotImplementedError

    def write_answers(self, answers: Array) -> tuple[Tokens, Tokens]:
        """(n, target), padded behind the end token, and lengths with it, (n,)."""
        raise NotImplementedError


class IntegersToInteger(SequenceLayout):
    """`V2 + 1 24 + 16` -> `+ 16` (Int2Int); with `places` operands have that many digits, zeros in front."""

    def __init__(self, base: int, largest: int, largest_answer: int, places: int | None = None):
        self.words = IntegerWords(Vocabulary.of([*IntegerWords.symbols(base), "V1", "V2"]), base)
        self.head = self.vocabulary.numbers(["V2"])[0]
        self.places = places
        self.source = 2 + 2 * (1 + (places or width(largest, base)))
        self.target = 2 + width(largest_answer, base)

    @property
    def vocabulary(self) -> Vocabulary:
        return self.words.vocabulary

    def write_questions(self, questions: Array) -> Tokens:
        written = np.full((len(questions), self.source), PAD)
        written[:, 0] = self.head
        lengths = np.ones(len(questions), dtype=np.int64)
        for operand in range(2):
            if self.places is None:
                self.words.append(written, lengths, questions[:, operand])
                continue
            at = 1 + operand * (1 + self.places)
            written[:, at] = self.words.plus
            tokens = self.words.digit[digits(questions[:, operand], self.words.base, self.places)]
            written[:, at + 1 : at + 1 + self.places] = tokens
            lengths += 1 + self.places
        written[np.arange(len(written)), lengths] = EOS
        return written

    def write_answers(self, answers: Array) -> tuple[Tokens, Tokens]:
        written = np.full((len(answers), self.target), PAD)
        lengths = np.zeros(len(answers), dtype=np.int64)
        self.words.append(written, lengths, answers)
        written[np.arange(len(written)), lengths] = EOS
        return written, lengths + 1

    def decode(self, said: Tokens) -> Array:
        return self.words.decode(said)


class MatrixToSpectrum(SequenceLayout):
    """`Vn Vn`, entries row by row -> `Vn V1`, eigenvalues falling (LAWT)."""

    def __init__(self, dimension: int, encoding: Encoding):
        shape = [f"V{k}" for k in sorted({1, dimension})]
        self.words = RealWords(encoding, Vocabulary.of([*symbols(encoding), *shape]))
        self.dimension = dimension
        self.square = self.vocabulary.numbers([f"V{dimension}", f"V{dimension}"])
        self.column = self.vocabulary.numbers([f"V{dimension}", "V1"])
        self.source = 3 + dimension**2 * self.words.tokens
        self.target = 3 + dimension * self.words.tokens

    @property
    def vocabulary(self) -> Vocabulary:
        return self.words.vocabulary

    def write_questions(self, questions: Array) -> Tokens:
        return self._framed(self.square, questions.reshape(len(questions), -1))

    def write_answers(self, answers: Array) -> tuple[Tokens, Tokens]:
        return self._framed(self.column, answers), np.full(len(answers), self.target)

    def _framed(self, head: list[int], values: Array) -> Tokens:
        front, end = np.tile(head, (len(values), 1)), np.full((len(values), 1), EOS)
        return np.concatenate([front, self.words.encode(values), end], axis=1)

    def decode(self, said: Tokens) -> Array:
        """(n, dimension), nan in rows that are no column of so many numbers."""
        if said.shape[1] < self.target:
            return np.full((len(said), self.dimension), np.nan)
        values = self.words.decode(said[:, 2 : self.target - 1])
        sound = (said[:, :2] == self.column).all(axis=1) & (said[:, self.target - 1] == EOS)
        sound &= np.isfinite(values).all(axis=1)
        values[~sound] = np.nan
        return values
