"""Real numbers as tokens, three significant digits: P10, P1000, B1999, FP15 (Charton, 2021; brief, Section 3.5)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from kempeframe_repeated_examples.integers import Tokens, Vocabulary

Encoding = Literal["P10", "P1000", "B1999", "FP15"]
Vector = NDArray[np.float64]

LARGEST_EXPONENT = 100
TOKENS = {"P10": 5, "P1000": 3, "B1999": 2, "FP15": 1}  # of one number
FIXED_SCALE = 1e9  # of FP15: a value is m 10^e / 10^9, e from 0 to 15


def symbols(encoding: Encoding) -> list[str]:
    """The words of an encoding."""
    exponents = [f"E{e}" for e in range(-LARGEST_EXPONENT, LARGEST_EXPONENT + 1)]
    if encoding == "P10":
        return ["+", "-", *map(str, range(10)), *exponents]
    if encoding == "P1000":
        return ["+", "-", *map(str, range(1000)), *exponents]
    if encoding == "B1999":
        return [*(f"N{m}" for m in range(-999, 1000)), *exponents]
    mantissas = [*range(-999, -99), *range(100, 1000)]
    tiny = [f"N{m}e0" for m in range(-99, 100)]
    return ["NaN", "-NaN", *tiny, *(f"N{m}e{e}" for e in range(16) for m in mantissas)]


def parts(values: Vector) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Signed mantissas of three digits and exponents: v = m 10^e, as `%.2e` rounds; 0 is (0, 0).

    The rounding is of the binary number: -9.995 is -999 10^-2.
    """
    size = np.abs(values)
    with np.errstate(divide="ignore"):
        exponent = np.where(size > 0, np.floor(np.log10(size)), 2).astype(np.int64) - 2
    scaled = size / 10.0**exponent
    mantissa = np.rint(scaled).astype(np.int64)
    carried = mantissa >= 1000
    mantissa, exponent = np.where(carried, 100, mantissa), exponent + carried
    # Where the third digit is nearly a tie, or the logarithm nearly whole, floats may round the other way.
    doubtful = (size > 0) & ((np.abs(scaled % 1 - 0.5) < 1e-6) | (mantissa < 101) | carried | (scaled < 100))
    for place in zip(*np.nonzero(doubtful), strict=True):
        mantissa[place], exponent[place] = _by_text(float(size[place]))
    return np.where(values < 0, -mantissa, mantissa), np.where(size > 0, exponent, 0)


def _by_text(size: float) -> tuple[int, int]:
    digits, _, exponent = f"{size:.2e}".partition("e")
    return int(digits.replace(".", "")), int(exponent) - 2


@attrs.frozen
class RealWords:
    """Numbers in the words of one encoding, and back."""

    encoding: Encoding
    vocabulary: Vocabulary

    @cached_property
    def _index(self) -> dict[str, int]:
        return {word: token for token, word in enumerate(self.vocabulary.words)}

    @property
    def tokens(self) -> int:
        """Of one number."""
        return TOKENS[self.encoding]

    def encode(self, values: Vector) -> Tokens:
        """(n, k) -> (n, k * tokens)."""
        mantissa, exponent = parts(values)
        if self.encoding == "FP15":
            words = np.array([self._index[self._fixed(v, m, e)] for v, m, e in _rows(values, mantissa, exponent)])
            return words.reshape(values.shape)
        table = self._tokens_of
        exponent = np.clip(exponent, -LARGEST_EXPONENT, LARGEST_EXPONENT)
        last = table(lambda e: f"E{e}", -LARGEST_EXPONENT, LARGEST_EXPONENT, exponent)
        if self.encoding == "B1999":
            pieces = [table(lambda m: f"N{m}", -999, 999, mantissa), last]
        else:
            sign = np.where(mantissa < 0, self._index["-"], self._index["+"])
            size = np.abs(mantissa)
            if self.encoding == "P1000":
                pieces = [sign, table(str, 0, 999, size), last]
            else:
                three = [table(str, 0, 9, size // d % 10) for d in (100, 10, 1)]
                pieces = [sign, *three, last]
        return np.stack(pieces, axis=-1).reshape(len(values), -1)

    def decode(self, tokens: Tokens) -> Vector:
        """(n, k * tokens) -> (n, k); nan where the words are no number."""
        groups = tokens.reshape(len(tokens), -1, self.tokens)
        columns = [self._values[kind][groups[..., place]] for place, kind in enumerate(self._kinds)]
        if self.encoding == "FP15":
            return columns[0]
        exponent = columns[-1]
        if self.encoding == "B1999":
            size = columns[0]
        elif self.encoding == "P1000":
            size = columns[0] * columns[1]
        else:
            size = columns[0] * (100 * columns[1] + 10 * columns[2] + columns[3])
        with np.errstate(invalid="ignore"):
            return size * 10.0**exponent

    @property
    def _kinds(self) -> list[str]:
        """What each token of a number must be."""
        return {
            "P10": ["sign", "digit", "digit", "digit", "exponent"],
            "P1000": ["sign", "thousand", "exponent"],
            "B1999": ["signed", "exponent"],
            "FP15": ["whole"],
        }[self.encoding]

    @cached_property
    def _values(self) -> dict[str, Vector]:
        """Kind of token -> value of each word of the vocabulary; nan: not of that kind."""
        readers: dict[str, Callable[[str], float]] = {
            "sign": lambda w: {"+": 1.0, "-": -1.0}[w],
            "digit": lambda w: float(w) if w.isdigit() and len(w) == 1 else np.nan,
            "thousand": lambda w: float(w) if w.isdigit() else np.nan,
            "exponent": lambda w: float(w[1:]) if w[0] == "E" else np.nan,
            "signed": lambda w: float(w[1:]) if w[0] == "N" else np.nan,
            "whole": _fixed_value,
        }
        return {kind: self._read(readers[kind]) for kind in dict.fromkeys(self._kinds)}

    def _read(self, reader: Callable[[str], float]) -> Vector:
        found = np.full(len(self.vocabulary), np.nan)
        for token, word in enumerate(self.vocabulary.words):
            try:
                found[token] = reader(word)
            except (KeyError, ValueError):
                continue
        return found

    def _tokens_of(self, name: Callable[[int], str], first: int, last: int, values: NDArray[np.int64]) -> Tokens:
        table = np.array([self._index[name(number)] for number in range(first, last + 1)])
        found: Tokens = table[values - first]
        return found

    def _fixed(self, value: float, mantissa: int, exponent: int) -> str:
        """The one word of FP15."""
        place = exponent + 9
        if place > 15:  # 10^9 and more
            return "NaN" if value > 0 else "-NaN"
        if mantissa == 0 or place < 0:
            return f"N{round(value * FIXED_SCALE)}e0"
        return f"N{mantissa}e{place}"


def _rows(values: Vector, mantissa: NDArray[np.int64], exponent: NDArray[np.int64]) -> list[tuple[float, int, int]]:
    return list(zip(values.ravel().tolist(), mantissa.ravel().tolist(), exponent.ravel().tolist(), strict=True))


def _fixed_value(word: str) -> float:
    mantissa, _, exponent = word.removeprefix("N").partition("e")
    return int(mantissa) * 10.0 ** int(exponent) / FIXED_SCALE
