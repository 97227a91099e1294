"""Every component of the plugin through the conformance kit; a test counts that none is left out."""

from __future__ import annotations

import re
from pathlib import Path

from kempeframe_repeated_examples.data import Eigenvalues, Gcd, ModularMultiplication
from kempeframe_repeated_examples.evaluators import EigenvalueAccuracy, GcdCount, SequenceAccuracy
from kempeframe_repeated_examples.evaluators_steps import EscapeStep, Staircase
from kempeframe_repeated_examples.evaluators_theory import GcdBaseline, ModularPlateau, Repetition
from kempeframe_repeated_examples.models import CompactEncoder, Seq2seqTransformer
from kempeframe_standard.optimizers_gradient import Adam

from kempeframe import load_plugin
from kempeframe.testing import Check, conformance

SMALL = dict(minimum=0, maximum=31, base=8, modulus=5, n_test=20)
CLASSES = ModularMultiplication(fixed_width=True, answer="class", **SMALL)
SEQUENCES = ModularMultiplication(**SMALL)
DIVISORS = Gcd(maximum=60, base=8, fixed_width=True, answer="class", test_outcomes=5, test_per_outcome=4)
SPECTRA = Eigenvalues(dimension=2, n_test=10)
ENCODER = CompactEncoder(width=8, heads=2)
WRITER = Seq2seqTransformer(width=8, heads=2, encoder_layers=1, decoder_layers=1)
QUICK = Adam(steps=6, batch_size=8, snapshots=(3,))


@conformance(CLASSES, SEQUENCES, DIVISORS, SPECTRA)
def test_data(check: Check) -> None:
    check()


@conformance(ENCODER, task=CLASSES)
def test_the_compact_encoder(check: Check) -> None:
    check()


# Its stacks do without vmap, which the kit's check uses; see standard's test_stacks.py.
@conformance(WRITER, task=SEQUENCES, without={"a_stack_is_its_networks"})
def test_the_transformer(check: Check) -> None:
    check()


@conformance(
    SequenceAccuracy(per_outcome=True),
    EscapeStep(level=-1.0),
    ModularPlateau(),
    Repetition(),
    task=CLASSES,
    model=ENCODER,
    optimizer=QUICK,
)
def test_evaluators_of_products(check: Check) -> None:
    check()


# Untrained networks stand on no plateau and write no numbers: nan and inf are the answers.
FINITE = {"metrics_are_finite_and_declared", "works_in_float32", "works_in_float64"}


@conformance(Staircase(), task=CLASSES, model=ENCODER, optimizer=QUICK, without=FINITE)
def test_the_staircase(check: Check) -> None:
    check()


@conformance(GcdCount(outcomes=5), GcdBaseline(outcomes=5), task=DIVISORS, model=ENCODER, optimizer=QUICK)
def test_evaluators_of_divisors(check: Check) -> None:
    check()


@conformance(SequenceAccuracy(), task=SPECTRA, model=WRITER, optimizer=QUICK)
def test_accuracy_of_sequences(check: Check) -> None:
    check()


@conformance(EigenvalueAccuracy(), task=SPECTRA, model=WRITER, optimizer=QUICK, without=FINITE)
def test_evaluators_of_spectra(check: Check) -> None:
    check()


def test_none_is_left_out() -> None:
    text = Path(__file__).read_text()
    classes = set(vars(load_plugin("repeated_examples")))
    assert not {name for name in classes if not re.search(rf"\b{name}\(", text)}
