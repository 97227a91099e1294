"""Models and evaluators: sizes, metrics against answers made by hand, theory that refuses, networks that write."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from kempeframe_repeated_examples import evaluators as measured
from kempeframe_repeated_examples.data import Eigenvalues, Gcd, ModularMultiplication
from kempeframe_repeated_examples.evaluators import EigenvalueAccuracy, GcdCount, SequenceAccuracy
from kempeframe_repeated_examples.evaluators_steps import EscapeStep, Staircase
from kempeframe_repeated_examples.evaluators_theory import GcdBaseline, ModularPlateau, Repetition
from kempeframe_repeated_examples.integers import EOS
from kempeframe_repeated_examples.models import CompactEncoder, Seq2seqTransformer
from kempeframe_repeated_examples.problems import MatrixToSpectrum
from kempeframe_standard.data import Digits
from kempeframe_standard.models import Linear
from kempeframe_standard.optimizers_gradient import Adam, Adamw, Monitor
from torch import Tensor, nn

from kempeframe import Fit, NoTheory
from kempeframe.components import FitJob
from kempeframe.runs import Run
from kempeframe.task import CannotGive
from kempeframe.trial import Fitted, Session

PRODUCTS = dict(modulus=7, minimum=0, maximum=1023, base=32, fixed_width=True, answer="class", n_test=300)
DIVISORS = dict(maximum=960, base=31, fixed_width=True, answer="class", test_outcomes=12, test_per_outcome=20)
SMALL = CompactEncoder(width=8, heads=2)
WRITER = Seq2seqTransformer(width=16, heads=2, encoder_layers=1, decoder_layers=1)


def fitted(data: Any, network: nn.Module, session: Session, **parts: Any) -> Fitted:
    given = dict(data=data, model=SMALL, optimizer=Adam(steps=1), run=Run(0, session), given_network=network)
    return Fitted(**{**given, **parts})


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_the_compact_encoder_has_102983_parameters(session: Session) -> None:
    task = ModularMultiplication(**PRODUCTS).load(Run(0, session))
    assert parameters(CompactEncoder().build(task, Run(0, session))) == 102_983


@pytest.mark.parametrize(("layers", "words", "millions"), [(4, 1019, 34.67), (1, 1306, 22.35)])
def test_the_transformer_is_as_large_as_the_papers(layers: int, words: int, millions: float, session: Session) -> None:
    """W6. The paper's has 4096 positions on both sides; ours as many as there are tokens."""
    model = Seq2seqTransformer(decoder_layers=layers)
    data: Any = Gcd() if layers == 4 else Eigenvalues(dimension=5)
    task = data.load(Run(0, session))
    network = model.build(task, Run(0, session))
    layout = task.truth.layout
    positions = (2 * 4096 - layout.source - layout.target) * 512
    vocabulary = 2 * (words - len(layout.vocabulary)) * 512 + words - len(layout.vocabulary)
    assert (parameters(network) + positions + vocabulary) / 1e6 == pytest.approx(millions, abs=0.005)
    norms = [m for m in network.modules() if isinstance(m, nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-12}


def test_embeddings_start_with_variance_one_over_the_width(session: Session) -> None:
    task = Gcd().load(Run(0, session))
    network: Any = Seq2seqTransformer(width=64, heads=4).build(task, Run(0, session))
    for table in (network.encoder.tokens.weight, network.decoder.tokens.weight):
        assert float(table.detach().std()) == pytest.approx(1 / 8, rel=0.02)


def test_models_refuse_tasks_of_the_other_form(session: Session) -> None:
    run = Run(0, session)
    with pytest.raises(CannotGive, match=r'compact_encoder gives one class an answer: the data needs answer = "class"'):
        SMALL.build(Gcd().load(run), run)
    with pytest.raises(CannotGive, match=r'seq2seq_transformer writes its answers: the data needs answer = "sequence"'):
        WRITER.build(ModularMultiplication(**PRODUCTS).load(run), run)
    with pytest.raises(ValueError, match=r"heads = 3: expected a divisor of width = 64"):
        CompactEncoder(heads=3)


class Says(nn.Module):
    """Gives fixed outputs, one row for each test question, in order."""

    def __init__(self, outputs: Tensor):
        super().__init__()
        self.outputs, self.at = outputs, 0

    def forward(self, inputs: Tensor) -> Tensor:
        rows = self.outputs[self.at : self.at + len(inputs)]
        self.at = (self.at + len(inputs)) % len(self.outputs)
        return rows


def says(classes: np.ndarray, count: int) -> Says:
    return Says(10.0 * torch.nn.functional.one_hot(torch.from_numpy(classes), count).float())


def test_accuracy_is_the_share_of_right_answers_and_per_outcome(session: Session) -> None:
    data = ModularMultiplication(**PRODUCTS)
    right = data.load(Run(0, session)).truth.test_answers()
    said = np.where(np.arange(300) % 3 == 0, right, (right + 1) % 7)
    evaluator = SequenceAccuracy(per_outcome=True, success=0.3)
    found: Mapping[str, Any] = evaluator.evaluate(fitted(data, says(said, 7), session), Run(0, session))
    assert found["accuracy"] == pytest.approx(1 / 3) and found["solved"] and found["undecodable"] == 0
    assert found["outcome"] == [0, 1, 2, 3, 4, 5, 6]
    weights = np.bincount(right, minlength=7) / 300
    assert np.dot(found["outcome_accuracy"], weights) == pytest.approx(1 / 3)
    assert found["test_loss"] == pytest.approx(math.log(1 + 6 * math.exp(-10)) + 10 * 2 / 3, rel=1e-5)
    assert found.keys() == evaluator.columns().keys()


def test_divisors_count_where_nearly_all_their_pairs_are_right(session: Session) -> None:
    data = Gcd(**DIVISORS)
    right = data.load(Run(0, session)).truth.test_answers()
    assert np.bincount(right)[1:].tolist() == [20] * 12
    said = np.where(right <= 3, right, 1)
    said[np.flatnonzero(right == 2)[0]] = 1  # 19 of 20: still 95 %
    said[np.flatnonzero(right == 3)[:2]] = 1
    evaluator = GcdCount(outcomes=12)
    found: Any = evaluator.evaluate(fitted(data, says(said - 1, 13), session), Run(0, session))
    assert found["gcd_count"] == 2 and found["known"] == [1, 2]
    assert found["balanced_accuracy"] == pytest.approx((1 + 0.95 + 0.9) / 12)
    assert found["uniform_accuracy"] == pytest.approx(0.6080 + 0.95 * 0.152 + 0.9 * 0.0676, abs=2e-3)
    other = says(np.full(len(right), 12), 13)
    nothing: Any = SequenceAccuracy().evaluate(fitted(data, other, session), Run(0, session))
    assert nothing["undecodable"] == 1 and nothing["accuracy"] == 0


def test_balanced_pairs_have_the_gcd_that_they_are_drawn_for(session: Session) -> None:
    """T16: and are uniform among those pairs."""
    data = Gcd(maximum=12, base=10, test_outcomes=3, test_per_outcome=4000)
    questions = data.test_questions(Run(0, session))
    assert (np.gcd(*questions.T) == np.repeat([1, 2, 3], 4000)).all()
    pairs = [(a, b) for a in range(1, 13) for b in range(1, 13) if math.gcd(a, b) == 2]
    counts = [((questions[4000:8000] == pair).all(axis=1)).sum() for pair in pairs]
    expected = 4000 / len(pairs)
    assert sum((c - expected) ** 2 / expected for c in counts) < len(pairs) + 5 * math.sqrt(2 * len(pairs))


RIGHT = np.array([[3.0, -1.0], [2.0, 2.0], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
SAID = np.array([[3.1, -1.1], [2.0, 2.0], [0.0, 0.0], [0.1, 0.0], [np.nan, 1.0]])


@pytest.mark.parametrize(
    ("norm", "errors"),
    [("l1", [0.05, 0, 0, math.inf]), ("l2sq", [0.002, 0, 0, math.inf]), ("max", [1 / 30, 0, 0, math.inf])],
)
def test_errors_of_spectra(norm: str, errors: list[float]) -> None:
    found = measured.relative_error(SAID, RIGHT, norm)
    np.testing.assert_allclose(found, [*errors, math.inf], atol=1e-12)


class Writes(nn.Module):
    """Writes the right answers, but for broken ones."""

    def __init__(self, written: Tensor, vocabulary: int):
        super().__init__()
        self.written, self.vocabulary = written, vocabulary

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.zeros(len(inputs), self.written.shape[1], self.vocabulary)

    def begin(self, prompts: Tensor, lengths: Tensor, capacity: int) -> tuple[Tensor, list[int]]:
        return self._logits(0), [0]

    def advance(self, tokens: Tensor, cache: list[int]) -> Tensor:
        cache[0] += 1
        return self._logits(cache[0])

    def _logits(self, place: int) -> Tensor:
        return torch.nn.functional.one_hot(self.written[:, place], self.vocabulary).float()


def test_what_can_not_be_decoded_is_wrong_and_counted(session: Session) -> None:
    data = Eigenvalues(dimension=2, n_test=50)
    task = data.load(Run(0, session))
    layout: MatrixToSpectrum = task.truth.layout
    right = task.truth.test_answers()
    written = layout.write_answers(right * np.where(np.arange(50) < 20, 1.03, 1.0)[:, None])[0]
    written[40:, 2] = EOS
    network = Writes(torch.from_numpy(written), len(layout.vocabulary))
    found: Any = EigenvalueAccuracy().evaluate(fitted(data, network, session), Run(0, session))
    assert found["within_5_percent"] == 0.8 and found["within_2_percent"] == 0.4
    assert found["within_0_5_percent"] == pytest.approx(0.4, abs=0.1) and found["undecodable"] == pytest.approx(0.2)
    exact: Any = SequenceAccuracy().evaluate(fitted(data, network, session), Run(0, session))
    assert exact["accuracy"] == pytest.approx(0.4) and exact["undecodable"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    "data",
    [
        Gcd(maximum=99, base=10, test_outcomes=5, test_per_outcome=4),
        ModularMultiplication(modulus=67, n_test=20),
        ModularMultiplication(maximum=99, base=10, fixed_width=True, n_test=20),
        Eigenvalues(dimension=2, n_test=20),
        Eigenvalues(dimension=3, n_test=20, encoding="P10", distribution="gaussian"),
    ],
    ids=lambda data: f"{type(data).__name__}",
)
def test_networks_train_and_write_on_each_problem(data: Any, session: Session) -> None:
    fit = Fit(data=data, model=WRITER, optimizer=Adam(steps=3, batch_size=8, gradient_clipping=5.0))
    found: Any = SequenceAccuracy().evaluate(session.fitted(fit, Run(0, session)), Run(0, session))
    assert 0 <= found["accuracy"] <= 1 and math.isfinite(found["test_loss"])


def test_a_network_learns_to_write_a_small_table(session: Session) -> None:
    """Greedy decoding through the cache: all 81 products mod 3 by heart."""
    data = ModularMultiplication(modulus=3, maximum=9, base=3, n_test=200)
    model = Seq2seqTransformer(width=32, heads=2, encoder_layers=1, decoder_layers=1, norm="pre")
    optimizer = Adam(steps=400, batch_size=64, learning_rate=3e-3, warmup_steps=20)
    found: Any = SequenceAccuracy().evaluate(
        session.fitted(Fit(data=data, model=model, optimizer=optimizer), Run(0, session)), Run(0, session)
    )
    assert found["accuracy"] > 0.95 and found["undecodable"] == 0


def history(accuracies: list[float], losses: list[float] | None = None) -> list[tuple[int, dict[str, float]]]:
    losses = losses or [1.0] * len(accuracies)
    return [
        (10 * i, {"accuracy": a, "test_loss": loss}) for i, (a, loss) in enumerate(zip(accuracies, losses, strict=True))
    ]


def test_the_escape_step_is_the_first_above_a_level_or_censored(session: Session) -> None:
    seen = fitted(ModularMultiplication(**PRODUCTS), nn.Identity(), session)
    seen.history = history([0.2, 0.4, 0.96, 0.3, 0.97])
    evaluator = EscapeStep(level=0.95)
    assert evaluator.evaluate(seen, Run(0, session)) == {"step": 20, "escaped": True, "last_step": 40}
    assert EscapeStep(level=0.99).evaluate(seen, Run(0, session)) == {
        "step": math.inf,
        "escaped": False,
        "last_step": 40,
    }
    with pytest.raises(ValueError, match=r"metric = 'speed': the evaluator gives accuracy"):
        EscapeStep(level=0.5, metric="speed")


def test_the_staircase_compares_accuracies_where_the_loss_is_a_plateaus(session: Session) -> None:
    data = ModularMultiplication(**{**PRODUCTS, "n_test": 2000})
    seen = fitted(data, nn.Identity(), session)
    answers = seen.task.truth.test_answers()
    zero = (answers == 0).mean()
    one, two = zero + (1 - zero) / 6, zero + (1 - zero) / 3
    first, second = (1 - zero) * math.log(6), (1 - zero) * math.log(3)
    losses = [1.9, first, first + 0.02, second, second, first, 1.0]
    seen.history = history([0.27, 0.3, one + 0.01, 0.9, two - 0.02, 0.6, 0.5], losses)
    found: Any = Staircase().evaluate(seen, Run(0, session))
    assert found["snapshots"] == 2 and found["reached"] == 2
    assert found["accuracy"] - found["plateau_accuracy"] == pytest.approx(-0.005)
    assert found["worst"] == pytest.approx(0.02 / math.sqrt(two * (1 - two) / 2000))


def theory_of(evaluator: Any, data: Any, session: Session, **optimizer: Any) -> Any:
    given = Adamw(**{"steps": 6000, "batch_size": 64, **optimizer})
    return evaluator.evaluate(Fitted(data=data, model=SMALL, optimizer=given), Run(0, session))


def test_plateaus_of_the_operands_at_hand(session: Session) -> None:
    found = theory_of(ModularPlateau(index=0), ModularMultiplication(**PRODUCTS), session)
    assert found == pytest.approx({"accuracy": 0.266501427, "cross_entropy": 1.894000959})
    whole = ModularMultiplication(**{**PRODUCTS, "maximum": 1028})  # 1029 = 3 * 343: residues even
    found = theory_of(ModularPlateau(index=3), whole, session)
    assert found == pytest.approx({"accuracy": 0.632653061, "cross_entropy": 0.509251}, abs=1e-6)


@pytest.mark.parametrize(
    ("evaluator", "data", "message"),
    [
        (ModularPlateau(), Gcd(), "plateaus are those of"),
        (GcdBaseline(), ModularMultiplication(**PRODUCTS), "the baseline is that of"),
        (Repetition(), Digits(), "repetition is of a repeated_examples task"),
    ],
)
def test_theory_refuses_what_it_does_not_cover(evaluator: Any, data: Any, message: str, session: Session) -> None:
    with pytest.raises(NoTheory, match=message):
        theory_of(evaluator, data, session)


@pytest.mark.parametrize(
    ("evaluator", "modulus", "message"),
    [
        (ModularPlateau(), 6, "modulus = 6: plateaus are those of a prime"),
        (Staircase(), 8, "modulus = 8: plateaus are those of a prime"),
        (ModularPlateau(index=4), 7, "index = 4: expected a divisor of modulus - 1 = 6"),
    ],
)
def test_plateaus_are_refused_before_anything_runs(evaluator: Any, modulus: int, message: str) -> None:
    def fit(modulus: int) -> Fit:
        data = ModularMultiplication(**{**PRODUCTS, "modulus": modulus})
        return Fit(data=data, model=SMALL, optimizer=Adamw(steps=1))

    with pytest.raises(ValueError, match=message):
        evaluator.check_with(fit(modulus))
    evaluator.check_with(fit(13))


def test_evaluators_refuse_data_that_are_not_theirs_before_anything_runs() -> None:
    fit = Fit(data=Gcd(**DIVISORS), model=SMALL, optimizer=Adamw(steps=1))
    GcdCount(outcomes=12).check_with(fit)
    with pytest.raises(ValueError, match="outcomes = 13: expected at most the data's test_outcomes = 12"):
        GcdCount(outcomes=13).check_with(fit)
    with pytest.raises(ValueError, match=r"expected repeated_examples\.eigenvalues, got gcd"):
        EigenvalueAccuracy().check_with(fit)
    with pytest.raises(ValueError, match=r"expected repeated_examples\.gcd, got modular_multiplication"):
        GcdCount().check_with(attrs.evolve(fit, data=ModularMultiplication(**PRODUCTS)))
    EigenvalueAccuracy().check_with(attrs.evolve(fit, data=Eigenvalues()))
    GcdCount().check_with(attrs.evolve(fit, data=Digits()))


def test_the_baseline_of_base_100(session: Session) -> None:
    data = Gcd(maximum=9999, base=100, test_outcomes=60)
    found = theory_of(GcdBaseline(digits=1, outcomes=60), data, session)
    assert found["gcd_count"] == 8 and found["uniform_accuracy"] == pytest.approx(0.8311, abs=5e-5)
    with pytest.raises(ValueError, match="primes: 4 is none"):
        GcdBaseline(primes=(4,))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, dict(small_repetition=0, rest_repetition=1, distinct=321_539, test_overlap=0.30664)),
        (dict(data_budget=10_000), dict(small_repetition=0, rest_repetition=38.4, distinct=9_952)),
        (dict(small_set=2500, small_set_probability=0.5), dict(small_repetition=76.8, test_overlap=0.1692)),
        (dict(small_set=2500, small_set_probability=0.25, data_budget=10_000), dict(rest_repetition=38.4)),
        (dict(small_set=2500, small_set_probability=0.5, shift_every=1000), dict(small_repetition=12.8)),
    ],
)
def test_how_often_examples_are_seen(fields: dict[str, Any], expected: dict[str, float], session: Session) -> None:
    found = theory_of(Repetition(), ModularMultiplication(**PRODUCTS, **fields), session)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-3)
    assert found["repetition"] == pytest.approx(384_000 / found["distinct"])


def test_evaluators_refuse_other_tasks(session: Session) -> None:
    data = Digits(n_train=20, n_test=10)
    seen = fitted(data, Linear().build(data.load(Run(0, session)), Run(0, session)), session)
    with pytest.raises(CannotGive, match="for the arithmetic tasks of repeated_examples"):
        SequenceAccuracy().evaluate(seen, Run(0, session))
    with pytest.raises(CannotGive, match="gcd_count is for"):
        GcdCount().evaluate(seen, Run(0, session))


def test_arms_train_as_one_stack_each_with_its_own_data_clipping_and_end(session: Session) -> None:
    """Equal to separate training within rounding, whoever else is in the stack."""
    monitor = Monitor(evaluator=SequenceAccuracy(), metric="test_loss", every=5, stop_below=1.93)
    optimizer = Adamw(steps=60, batch_size=16, learning_rate=3e-3, gradient_clipping=0.5, monitor=monitor)
    arms = [{}, dict(data_budget=40), dict(small_set=20, small_set_probability=0.5)]

    def jobs() -> list[FitJob]:
        made = []
        for seed, fields in enumerate([*arms, *arms]):
            data, run = ModularMultiplication(**{**PRODUCTS, "n_test": 60}, **fields), Run(seed, session)
            task = data.load(run)
            with run.global_seed("model"):
                network = SMALL.build(task, run)
            fit = Fit(data=data, model=SMALL, optimizer=optimizer)
            made.append(FitJob(optimizer, network, task, None, run, fit))
        return made

    from kempeframe_standard.training import fit_one
    from kempeframe_standard.training.many import partition

    assert partition(jobs()) == [[0, 1, 2, 3, 4, 5]]
    many = dict(optimizer.fit_many(jobs()))
    steps = {snapshot.step for snapshot in many.values()}
    assert len(steps) > 1, "they were to end at different steps"
    for number, job in enumerate(jobs()):
        *_, own = fit_one(job)
        assert own.step == many[number].step
        # Outputs, not weights: the bias of the keys has no influence, its gradient is rounding, and Adam blows that up.
        inputs = job.task.test.examples().inputs
        with torch.no_grad():
            torch.testing.assert_close(many[number].network(inputs), own.network(inputs), rtol=1e-3, atol=1e-4)
