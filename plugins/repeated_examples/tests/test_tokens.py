"""Tokens: the brief's worked encodings, there and back, and answers that can't be decoded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kempeframe_repeated_examples.integers import EOS, PAD, WRONG, IntegerWords, Vocabulary, digits
from kempeframe_repeated_examples.problems import DigitsToClass, Gcd, IntegersToInteger, MatrixToSpectrum, Spectrum
from kempeframe_repeated_examples.reals import RealWords, parts, symbols

WORDS = IntegerWords(Vocabulary.of([*IntegerWords.symbols(1000), "V2"]), 1000)


def written(values: list[int], words: IntegerWords = WORDS) -> np.ndarray:
    sequences, lengths = np.full((len(values), 12), PAD), np.zeros(len(values), dtype=np.int64)
    words.append(sequences, lengths, np.array(values))
    sequences[np.arange(len(values)), lengths] = EOS
    return sequences


@pytest.mark.parametrize(
    ("value", "text"),
    [(16, "+ 16"), (0, "+ 0"), (-3500, "- 3 500"), (1_000_000, "+ 1 0 0"), (999, "+ 999"), (1000, "+ 1 0")],
)
def test_integers_are_written_as_int2int_does(value: int, text: str) -> None:
    assert WORDS.vocabulary.text(written([value])[0]) == text


def test_a_problem_is_written_as_int2int_does() -> None:
    layout = IntegersToInteger(1000, 10**6, 10**6)
    pairs = np.array([[1024, 16], [10**6, 999_999]])
    answers = Gcd(10**6).answer(pairs)
    rows = layout.write_questions(pairs)
    assert [layout.vocabulary.text(row) for row in rows] == ["V2 + 1 24 + 16", "V2 + 1 0 0 + 999 999"]
    targets, lengths = layout.write_answers(answers)
    assert layout.vocabulary.text(targets[0]) == "+ 16" and lengths[0] == 3
    inputs, wanted = layout.inputs(pairs, answers), layout.targets(answers)
    assert inputs.shape == (2, *layout.input_shape) and wanted.shape == (2, layout.output_shape[0])
    assert inputs[0, layout.source] == EOS and (inputs[0, layout.source + 1 :] == targets[0, :-1]).all()
    assert (wanted[0] == -100).sum() == layout.target - 3
    assert len(layout.vocabulary) == 1019  # 15 specials, 1000 digits, two signs, V1 and V2


def test_fixed_width_puts_zeros_in_front() -> None:
    layout = IntegersToInteger(10, 999, 999, places=3)
    assert layout.vocabulary.text(layout.write_questions(np.array([[7, 120]]))[0]) == "V2 + 0 0 7 + 1 2 0"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=5), st.sampled_from([2, 7, 10, 1000]))
def test_integers_come_back(values: list[int], base: int) -> None:
    words = IntegerWords(Vocabulary.of(IntegerWords.symbols(base)), base)
    sequences, lengths = np.full((len(values), 60), PAD), np.zeros(len(values), dtype=np.int64)
    words.append(sequences, lengths, np.array(values))
    sequences[np.arange(len(values)), lengths] = EOS
    assert words.decode(sequences).tolist() == values


@pytest.mark.parametrize(
    "text", ["16 <eos>", "+ <eos>", "+ + 1 <eos>", "+ 1 V2 <eos>", "+ 0 1 <eos>", "<eos>", "+ 1 2", "+ <pad> 3 <eos>"]
)
def test_answers_that_can_not_be_decoded_are_wrong_and_never_raise(text: str) -> None:
    row = WORDS.vocabulary.numbers(text.split())
    assert WORDS.decode(np.array([row + [PAD] * (6 - len(row))]) if "<eos>" in text else np.array([row])) == [WRONG]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, len(WORDS.vocabulary) - 1), min_size=2, max_size=40))
def test_no_row_of_tokens_makes_the_decoders_raise(tokens: list[int]) -> None:
    WORDS.decode(np.array([tokens]))
    layout = MatrixToSpectrum(2, "P10")
    row = np.array([tokens[: layout.target]]) % len(layout.vocabulary)
    assert np.isnan(layout.decode(row)).all() or np.isfinite(layout.decode(row)).all()


def test_digits_are_those_of_the_base() -> None:
    assert digits(np.array([1023, 33, 0]), 32, 2).tolist() == [[31, 31], [1, 1], [0, 0]]
    layout = DigitsToClass(31, 2, first=1, classes=61, other=True)
    assert layout.targets(np.array([1, 60, 61, 960])).tolist() == [0, 59, 60, 60]
    assert layout.decode(np.array([0, 59, 60])).tolist() == [1, 60, WRONG]


REALS = {
    "P1000": {3.14159: "+ 314 E-2", -0.0271828: "- 272 E-4", 12.5: "+ 125 E-1", 1234567: "+ 123 E4", 0.0: "+ 0 E0"},
    "P10": {3.14159: "+ 3 1 4 E-2", -0.0271828: "- 2 7 2 E-4", 0.0: "+ 0 0 0 E0"},
    "B1999": {3.14159: "N314 E-2", -0.0271828: "N-272 E-4", 0.0: "N0 E0"},
    "FP15": {3.14159: "N314e7", 12.5: "N125e8", -0.0271828: "N-272e5", 2e9: "NaN", -2e9: "-NaN", 0.0: "N0e0"},
}


@pytest.mark.parametrize("encoding", REALS)
def test_numbers_are_written_as_the_brief_says(encoding: str) -> None:
    words = RealWords(encoding, Vocabulary.of(symbols(encoding)))  # type: ignore[arg-type]
    for value, text in REALS[encoding].items():
        assert words.vocabulary.text(list(words.encode(np.array([[value]]))[0])) == text
    assert words.vocabulary.text(words.encode(np.array([[-0.0]]))[0]) == REALS[encoding][0.0]  # T17


def test_the_vocabulary_of_fp15_has_29001_words() -> None:
    assert len(symbols("FP15")) == 2 + 199 + 28_800 == 29_001


@settings(max_examples=300, deadline=None)
@given(st.floats(min_value=-1e80, max_value=1e80).filter(lambda v: v == 0 or abs(v) > 1e-80))
def test_mantissas_and_exponents_are_those_of_the_decimal_text(value: float) -> None:
    mantissa, exponent = parts(np.array([[value]]))
    text = f"{value:.2e}"
    wanted = int(text.partition("e")[0].replace(".", "")), int(text.partition("e")[2]) - 2
    assert (mantissa[0, 0], exponent[0, 0]) == (wanted if wanted[0] else (0, 0))


def test_ties_are_rounded_as_the_binary_number_has_them() -> None:
    values = np.array([[-9.995, 9.995, 0.9995, 99.95, 1.005, 2.675, 1e-3, 1000.0, 999.5]])
    mantissa, exponent = parts(values)
    for value, m, e in zip(values[0], mantissa[0], exponent[0], strict=True):
        text = f"{value:.2e}"
        assert (m, e) == (int(text[:-4].replace(".", "")), int(text[-3:]) - 2), value


@pytest.mark.parametrize("encoding", REALS)
def test_numbers_come_back_to_three_digits(encoding: str) -> None:
    words = RealWords(encoding, Vocabulary.of(symbols(encoding)))  # type: ignore[arg-type]
    values = np.random.default_rng(0).uniform(-40, 40, (500, 3))
    np.testing.assert_allclose(words.decode(words.encode(values)), values, rtol=5.01e-3)


def test_spectra_are_written_as_the_brief_says() -> None:
    """W5."""
    matrix = np.array([[[4, 1, -2], [1, 3, 0.5], [-2, 0.5, -1]]])
    answers = Spectrum(3, 10.0).answer(matrix)
    np.testing.assert_allclose(answers[0], [5.01677709, 2.82062241, -1.83739949], atol=1e-8)
    layout = MatrixToSpectrum(3, "P1000")
    rows, _ = layout.write_answers(answers)
    assert layout.vocabulary.text(rows[0]) == "V3 V1 + 502 E-2 + 282 E-2 - 184 E-2"
    assert layout.vocabulary.text(layout.write_questions(matrix)[0]).startswith("V3 V3 + 400 E-2 + 100 E-2 - 200 E-2")
    np.testing.assert_allclose(layout.decode(rows), [[5.02, 2.82, -1.84]])
    broken = rows.copy()
    broken[0, 2] = EOS
    assert np.isnan(layout.decode(broken)).all()


def test_spectra_have_the_semicircles_width_and_inputs_cost_little() -> None:
    """Section 3.1 and 3.4: standard deviation sqrt(n) 10 / sqrt(3); three digits move the spectrum by 2.6e-4."""
    problem, layout = Spectrum(5, 10.0), MatrixToSpectrum(5, "P1000")
    matrices = problem.draw(np.random.default_rng(0), 4000)
    spectra = problem.answer(matrices)
    assert spectra.std() == pytest.approx(12.910, rel=0.01)
    tokens = layout.write_questions(matrices)[:, 2:-1]
    read = layout.words.decode(tokens).reshape(-1, 5, 5)
    moved = np.abs(problem.answer(read) - spectra).sum(axis=1) / np.abs(spectra).sum(axis=1)
    assert moved.mean() == pytest.approx(2.6e-4, rel=0.1)
    mean = np.abs(spectra.mean(axis=0) - spectra).sum(axis=1) / np.abs(spectra).sum(axis=1)
    assert mean.mean() == pytest.approx(0.297, abs=0.01)
