"""The joint law of mini-batches: every protocol against what it says, and what arms have in common."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kempeframe_repeated_examples.curation import chosen
from kempeframe_repeated_examples.data import Eigenvalues, ModularMultiplication
from kempeframe_repeated_examples.theory import distinct
from scipy.stats import binom, kstest
from torch import Tensor

import kempeframe
from kempeframe.problems import SpecError
from kempeframe.runs import Run
from kempeframe.task import CannotGive
from kempeframe.trial import Session


def products(**fields: Any) -> ModularMultiplication:
    """Multiplication mod 7 as the default spec has it."""
    given = dict(modulus=7, minimum=0, maximum=1023, base=32, fixed_width=True, answer="class", n_test=300)
    return ModularMultiplication(**{**given, **fields})


def drawn(data: ModularMultiplication, session: Session, count: int, size: int = 64, seed: int = 0) -> Tensor:
    """(count, size): the number of the question in each slot of the first batches."""
    run = Run(seed, session)
    batches = itertools.islice(data.load(run).train.batches(None, size, run), count)
    places = 32 ** torch.arange(3, -1, -1)
    return torch.stack([(batch.inputs * places).sum(dim=1) for batch in batches])


TWO_SETS = dict(small_set=200, small_set_probability=0.25)


def small(session: Session, count: int, **fields: Any) -> np.ndarray:
    """(batches, slots): which slots of the first batches of 64 come from the small set."""
    task = products(**{**TWO_SETS, **fields}).load(Run(0, session))
    return task.train.is_small(0, 64 * count, 64).reshape(count, 64)  # type: ignore[attr-defined]


def test_within_batches_the_number_of_small_slots_is_binomial(session: Session) -> None:
    counts = small(session, 4000).sum(axis=1)
    assert abs(counts.mean() - 16) < 4 * math.sqrt(12 / 4000)
    assert counts.var() == pytest.approx(64 * 0.25 * 0.75, rel=0.1)
    frequencies = np.bincount(counts, minlength=65) / 4000
    assert np.abs(frequencies - binom.pmf(np.arange(65), 64, 0.25)).max() < 0.02


def test_mono_batches_have_the_same_share_and_another_law(session: Session) -> None:
    counts = small(session, 4000, mixing="between").sum(axis=1)
    assert set(counts) == {0, 64}
    assert abs((counts == 64).mean() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 4000)


@pytest.mark.parametrize("mixing", ["within", "between"])
def test_small_slots_hold_the_first_examples_of_the_pool_and_others_fresh_ones(mixing: str, session: Session) -> None:
    slots = drawn(products(**TWO_SETS, mixing=mixing), session, 200)
    fresh = drawn(products(), session, 200)
    pool = set(drawn(products(data_budget=200), session, 100).flatten().tolist())
    from_small = torch.from_numpy(small(session, 200, mixing=mixing))
    assert torch.equal(slots[~from_small], fresh[~from_small])
    assert set(slots[from_small].tolist()) <= pool and len(pool) > 195


def test_pools_are_nested_and_of_the_size_that_they_say(session: Session) -> None:
    """T5: a smaller pool is the start of a larger one."""
    pools = [set(drawn(products(data_budget=n), session, 400).flatten().tolist()) for n in (64, 300, 1000)]
    assert [len(pool) for pool in pools] == [64, 300, 1000]
    assert pools[0] < pools[1] < pools[2]


def test_as_many_draws_as_examples_see_63_percent(session: Session) -> None:
    """T2; the multiplicity of an example is binomial."""
    slots = drawn(products(data_budget=6400), session, 100)
    counts = np.unique(slots.numpy(), return_counts=True)[1]
    assert len(counts) == pytest.approx(distinct(6400, 6400), rel=0.02)
    assert (counts >= 2).sum() / 6400 == pytest.approx(1 - 2 / math.e, abs=0.025)


def test_epochs_see_each_example_once(session: Session) -> None:
    """T3."""
    slots = drawn(products(data_budget=640, sampling="epochs"), session, 30).reshape(3, 640)
    assert all(len(epoch.unique()) == 640 for epoch in slots)
    assert not torch.equal(slots[0], slots[1])


def test_with_the_small_sets_share_of_the_budget_two_sets_are_a_pool(session: Session) -> None:
    """p = S / DB: each example is as likely as any other."""
    data = products(data_budget=400, small_set=100, small_set_probability=0.25)
    slots = drawn(data, session, 2000).flatten().numpy()
    counts = np.unique(slots, return_counts=True)[1]
    assert len(counts) == 400
    expected = len(slots) / 400
    assert ((counts - expected) ** 2 / expected).sum() < 399 + 5 * math.sqrt(2 * 399)


def test_the_two_sets_of_a_budget_are_apart_and_have_their_shares(session: Session) -> None:
    """T8."""
    data = products(data_budget=1000, small_set=100, small_set_probability=0.5)
    slots = drawn(data, session, 500)
    from_small = torch.from_numpy(small(session, 500, data_budget=1000, small_set=100, small_set_probability=0.5))
    one, other = set(slots[from_small].tolist()), set(slots[~from_small].tolist())
    assert not one & other and len(one) == 100 and len(other) == 900


@pytest.mark.parametrize("budget", [math.inf, 1000])
def test_the_small_set_is_replaced_every_so_many_steps(budget: float, session: Session) -> None:
    data = products(data_budget=budget, small_set=100, small_set_probability=1.0 if budget == math.inf else 0.9)
    shifting = products(
        data_budget=budget, small_set=100, small_set_probability=data.small_set_probability, shift_every=20
    )
    slots = drawn(shifting, session, 60)
    windows = [np.unique(part.numpy(), return_counts=True) for part in slots.split(20)]
    held = [set(values[counts >= 4].tolist()) for values, counts in windows]
    assert all(90 < len(one) <= 101 for one in held)
    assert len(held[0] & held[1]) < 3 and len(held[1] & held[2]) < 3
    assert torch.equal(slots[:20], drawn(data, session, 20))


def test_a_set_that_is_replaced_at_once_is_fresh_data_in_distribution(session: Session) -> None:
    data = products(small_set=2000, small_set_probability=1.0, shift_every=1)
    slots = drawn(data, session, 150).flatten().numpy()
    assert len(np.unique(slots)) > 0.96 * len(slots)  # 64 draws of 2000 repeat by accident
    assert kstest(slots / 2**20, "uniform").pvalue > 1e-3


def test_arms_share_weights_test_set_and_fresh_examples(session: Session) -> None:
    """T6: neither depends on budget, small set, probability or mixing."""
    from kempeframe_repeated_examples.models import CompactEncoder

    arms = [products(), products(data_budget=100), products(**TWO_SETS), products(**TWO_SETS, mixing="between")]
    networks, tests = [], []
    for arm in arms:
        run = Run(3, session)
        task = arm.load(run)
        with run.global_seed("model"):
            networks.append(CompactEncoder(width=8, heads=2).build(task, run).state_dict())
        tests.append(task.test.examples().inputs)
    assert all(torch.equal(tests[0], other) for other in tests)
    assert all(torch.equal(networks[0][name], other[name]) for other in networks for name in networks[0])
    assert not torch.equal(drawn(arms[0], session, 2), drawn(arms[0], session, 2, seed=1))


PROTOCOLS: dict[str, dict[str, Any]] = {
    "fresh": {},
    "pool": dict(data_budget=500),
    "epochs": dict(data_budget=500, sampling="epochs"),
    "two sets": TWO_SETS,
    "between": dict(**TWO_SETS, mixing="between"),
    "two sets of a budget": dict(**TWO_SETS, data_budget=900),
    "shifting": dict(**TWO_SETS, shift_every=7),
    "shifting in a budget": dict(**TWO_SETS, data_budget=900, shift_every=7),
    "balanced": dict(**TWO_SETS, curation="balanced"),
}


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("size", [64, 100])
def test_a_stream_goes_on_from_any_batch_and_answers_are_right(name: str, size: int, session: Session) -> None:
    run = Run(0, session)
    data = products(**PROTOCOLS[name])
    whole = list(itertools.islice(data.load(run).train.batches(None, size, run), 90))
    for start in (1, 63, 64, 71):
        split = data.load(run).train
        for batch, expected in zip(split.batches_from(start, None, size, run), whole[start:], strict=False):
            assert torch.equal(batch.inputs, expected.inputs) and torch.equal(batch.targets, expected.targets)
    for batch in whole[:5]:
        a, b = (32 * batch.inputs[:, 2 * i] + batch.inputs[:, 2 * i + 1] for i in range(2))
        assert torch.equal(a * b % 7, batch.targets)


def test_batches_of_another_size_hold_the_same_slots(session: Session) -> None:
    """What stands in a slot depends on its number alone, but for what is decided batch by batch."""
    for fields in (dict(data_budget=500), TWO_SETS, {}):
        large = drawn(products(**fields), session, 30, size=64).flatten()
        few = drawn(products(**fields), session, 60, size=32).flatten()
        assert torch.equal(large, few)


ANSWERS = np.array([3, 1, 1, 1, 2, 2, 3, 1, 5, 2])
SIZES = np.array([4.0, 9, 8, 7, 1, 2, 3, 6, 5, 0])


def curated(rule: Any, count: int) -> list[int]:
    found: list[int] = chosen(rule, count, ANSWERS, SIZES, np.random.default_rng(0)).tolist()
    return found


def test_each_rule_of_curation_chooses_what_it_says() -> None:
    assert curated("random", 4) == [0, 1, 2, 3]
    assert curated("small_operands", 4) == [9, 4, 5, 6]
    assert curated("rare_outcome", 5) == [8, 0, 6, 4, 5]  # 5 once, 3 twice, 2 three times; ties in order
    balanced = curated("balanced", 6)
    assert sorted(balanced[:4]) == [0, 1, 4, 8] and len(set(balanced)) == 6


@pytest.mark.parametrize("budget", [math.inf, 4000])
def test_a_balanced_small_set_has_equal_shares_and_the_test_split_stays(budget: float, session: Session) -> None:
    fields = dict(small_set=210, small_set_probability=1.0 if budget == math.inf else 0.99, data_budget=budget)
    data = products(**fields, curation="balanced")
    run = Run(0, session)
    task = data.load(run)
    batches = list(itertools.islice(task.train.batches(None, 64, run), 300))
    _questions, first = np.unique(torch.cat([b.inputs for b in batches]).numpy(), axis=0, return_index=True)
    counts = np.unique(torch.cat([b.inputs for b in batches]).numpy(), axis=0, return_counts=True)[1]
    targets = torch.cat([b.targets for b in batches]).numpy()[first][counts > 10]
    assert np.bincount(targets, minlength=7).tolist() == [30] * 7
    assert torch.equal(task.test.examples().inputs, products().load(run).test.examples().inputs)


def test_a_budget_smaller_than_a_batch_is_refused(session: Session) -> None:
    run = Run(0, session)
    with pytest.raises(CannotGive, match=r"data_budget = 50 is smaller than a batch of 64 examples"):
        products(data_budget=50).load(run).train.batches(None, 64, run)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(base=1), r"base = 1: expected a value >= 2"),
        (dict(data_budget=10, small_set=20), r"small_set = 20 is larger than data_budget = 10"),
        (dict(data_budget=10.5), r"data_budget = 10.5: expected a whole number, or inf"),
        (dict(data_budget=20, small_set=20, small_set_probability=0.5), r"leaves nothing of data_budget"),
        (dict(small_set_probability=0.5), r"small_set_probability = 0.5: there is no small_set"),
        (dict(sampling="epochs"), r'sampling = "epochs": expected a finite data_budget'),
        (dict(shift_every=10), r"shift_every = 10: there is no small_set"),
        (dict(minimum=2000), r"minimum = 2000 is larger than maximum = 1023"),
        (dict(maximum=2**60), r"maximum = .*: expected a value"),
        (dict(fixed_width=False), r'answer = "class": digits stand without signs'),
        (
            dict(small_set=5, small_set_probability=0.1, data_budget=100, shift_every=9, curation="balanced"),
            r"curation = 'balanced': a small set that shifts",
        ),
    ],
)
def test_bad_fields_are_said(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        products(**fields)


@pytest.mark.parametrize(("encoding", "bound"), [("FP15", 1e9), ("P1000", 1e103)])
def test_operands_that_have_no_words_are_refused(encoding: Any, bound: float) -> None:
    with pytest.raises(ValueError, match=rf"coefficient_bound = .*: {encoding} has no words for eigenvalues above"):
        Eigenvalues(dimension=2, encoding=encoding, coefficient_bound=bound)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"data.data_budget": 32}, "data_budget = 32 is smaller than a batch of 64 examples"),
        ({"data.answer": "sequence"}, "compact_encoder gives one class an answer"),
        ({"model": {"use": "repeated_examples.seq2seq_transformer"}}, "seq2seq_transformer writes its answers"),
    ],
)
def test_what_does_not_go_together_is_said_before_anything_runs(override: dict[str, Any], message: str) -> None:
    spec = Path(__file__).parents[3] / "specs" / "repeated_examples.toml"
    with pytest.raises(SpecError, match=message):
        kempeframe.run(spec, {"sweep.arm": {"one": {}}, **override})
