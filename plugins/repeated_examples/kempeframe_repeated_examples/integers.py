"""Integers as tokens: digits in a base, of fixed width or with a sign and no leading zeros (brief, Section 3.5)."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]

EOS, PAD, SEPARATOR = 0, 1, 2
SPECIALS = ("<eos>", "<pad>", "<sep>", "(", ")", *(f"<special{i}>" for i in range(10)))
WRONG = np.iinfo(np.int64).min  # what an answer that can't be decoded becomes


@attrs.frozen
class Vocabulary:
    """The specials, then a problem's symbols, sorted as strings (Int2Int)."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, symbols: Sequence[str]) -> Vocabulary:
        """The specials and these."""
        return cls((*SPECIALS, *sorted(symbols)))

    def __len__(self) -> int:
        return len(self.words)

    def numbers(self, words: Sequence[str]) -> list[int]:
        """Tokens of words; KeyError for one that is none."""
        index = {word: token for token, word in enumerate(self.words)}
        return [index[word] for word in words]

    def text(self, tokens: Sequence[int]) -> str:
        """Words with blanks between them, up to the end token."""
        row = [int(t) for t in tokens]
        ends = row.index(EOS) if EOS in row else len(row)
        return " ".join(self.words[t] for t in row[:ends] if t != PAD)


def width(largest: int, base: int) -> int:
    """Digits of a number."""
    count = 1
    while largest >= base:
        largest //= base
        count += 1
    return count


def digits(values: NDArray[np.int64], base: int, places: int) -> Tokens:
    """(...,) numbers >= 0 -> (..., places) digits, most significant first."""
    found = np.empty((*values.shape, places), dtype=np.int64)
    rest = values
    for place in range(places - 1, -1, -1):
        rest, found[..., place] = np.divmod(rest, base)
    return found


@attrs.frozen
class IntegerWords:
    """A sign, then digits without leading zeros; tokens are those of a vocabulary that has `+`, `-`, 0..base-1."""

    vocabulary: Vocabulary
    base: int
    digit: Tokens = attrs.field(init=False, eq=False, repr=False)  # token of each digit
    value: Tokens = attrs.field(init=False, eq=False, repr=False)  # digit of each token; -1: none
    plus: int = attrs.field(init=False)
    minus: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        tokens = np.array(self.vocabulary.numbers([str(d) for d in range(self.base)]))
        values = np.full(len(self.vocabulary), -1)
        values[tokens] = np.arange(self.base)
        plus, minus = self.vocabulary.numbers(["+", "-"])
        for name, found in (("digit", tokens), ("value", values), ("plus", plus), ("minus", minus)):
            object.__setattr__(self, name, found)

    @staticmethod
    def symbols(base: int) -> list[str]:
        """What the vocabulary must have."""
        return ["+", "-", *map(str, range(base))]

    def append(self, sequences: Tokens, lengths: Tokens, values: NDArray[np.int64]) -> None:
        """Write the words of values (n,) into the rows of sequences behind their lengths (n,), which grow."""
        rows, size = np.arange(len(values)), np.abs(values)
        sequences[rows, lengths] = np.where(values < 0, self.minus, self.plus)
        places = width(int(size.max(initial=0)), self.base)
        found = digits(size, self.base, places)
        leading = np.minimum((np.cumsum(found, axis=1) == 0).sum(axis=1), places - 1)
        lengths += 1
        for place in range(places):
            shown = place >= leading
            sequences[rows[shown], lengths[shown]] = self.digit[found[shown, place]]
            lengths[shown] += 1

    def decode(self, sequences: Tokens) -> NDArray[np.int64]:
        """Answers (n, length), each ended by the end token -> (n,) numbers; `WRONG` where a row is malformed.

        Malformed: no end token, no sign, no digit, a token that is no digit, a leading zero, more digits than fit.
        """
        found = np.full(len(sequences), WRONG)
        if sequences.shape[1] < 2:
            return found
        ends = np.where((sequences == EOS).any(axis=1), (sequences == EOS).argmax(axis=1), -1)
        sign = np.select([sequences[:, 0] == self.plus, sequences[:, 0] == self.minus], [1, -1], 0)
        inside = np.arange(sequences.shape[1] - 1) < ends[:, None] - 1
        places = np.where(inside, self.value[sequences[:, 1:]], 0)
        count = inside.sum(axis=1)
        sound = (sign != 0) & (count > 0) & (places >= 0).all(axis=1)
        sound &= (count == 1) | (places[:, 0] > 0)
        sound &= count * np.log2(self.base) < 62
        value = np.zeros(len(sequences), dtype=np.int64)
        for place in range(places.shape[1]):
            value = np.where(sound & inside[:, place], value * self.base + places[:, place], value)
        return np.where(sound, sign * value, found)
