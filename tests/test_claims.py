"""What a claim is about: rows, pairs of seeds, configurations; what can't be decided says why, and no table raises."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kempeframe.claims import Claim, Verdict, decide_claim
from kempeframe.console import remarks_on
from kempeframe.registry import Registry
from kempeframe.report_drawing import graphic, scale_of
from kempeframe.structure import Context, structure
from kempeframe.table import Table
from tests.claim_tables import KINDS, claim, table

# --- what a claim is about ------------------------------------------------------------------------------------


def verdict(made: Claim, rows: Table) -> Verdict:
    return decide_claim(made, rows)


def test_pairing_by_seed_cancels_what_seeds_share() -> None:
    rng = np.random.default_rng(0)
    common = 10 * rng.standard_normal((1, 10))
    rows = table(np.array([[0.0], [0.5]]) + common + 0.1 * rng.standard_normal((2, 10)))
    assert verdict(claim(order={"of": "y", "lower": {"x": 0}, "higher": {"x": 1}}), rows).decision == "holds"


def two_settings(means: dict[str, float], n: int = 10) -> Table:
    rng = np.random.default_rng(1)
    rows = table(np.concatenate([m + rng.standard_normal((1, n)) for m in means.values()]))
    rows.columns["setting"] = [name for name in means for _ in range(n)]
    return Table(rows.columns, axes=["setting"])


def test_every_free_configuration_must_hold() -> None:
    made = claim(threshold={"of": "y"}, above=0.0)
    assert verdict(made, two_settings({"a": 5.0, "b": 5.0})).decision == "holds"
    assert verdict(made, two_settings({"a": 5.0, "b": 0.0})).decision == "undecided"
    found = verdict(made, two_settings({"a": 5.0, "b": -5.0}))
    assert found.decision == "fails"
    assert found.decisive is not None
    assert found.decisive.label == "setting = b"


def test_across_mean_takes_the_mean_over_configurations() -> None:
    rows = two_settings({"a": 5.0, "b": -1.0})
    assert verdict(claim(threshold={"of": "y"}, above=0.0), rows).decision == "fails"
    assert verdict(claim(threshold={"of": "y"}, above=0.0, across="mean"), rows).decision == "holds"


def test_where_takes_a_value_a_list_or_a_range() -> None:
    rows = table(np.arange(5)[:, None] + 0.1 * np.random.default_rng(0).standard_normal((5, 6)))
    for where in ({"x": 3}, {"x": 3.0}, {"x": [3, 4]}, {"x": {"between": [2.5, 4]}}):
        assert verdict(claim(threshold={"of": "y", "where": where}, above=2.5), rows).decision == "holds"
    found = verdict(claim(threshold={"of": "y", "where": {"x": 7}}, above=2.5), rows)
    assert (found.decision, "no row has x = 7" in found.reason) == ("undecided", True)


def test_a_failed_trial_leaves_the_claim_undecided() -> None:
    rows = table(5 + np.random.default_rng(0).standard_normal((1, 10)))
    rows.columns["status"][3] = "failed"
    found = verdict(claim(threshold={"of": "y"}, above=0.0), rows)
    assert found.decision == "undecided"
    assert "1 of 10 trials failed" in found.reason


def test_a_missing_value_leaves_the_claim_undecided() -> None:
    rows = table(5 + np.random.default_rng(0).standard_normal((1, 10)))
    rows.columns["y"][3] = None
    assert "missing in 1 of 10" in verdict(claim(threshold={"of": "y"}, above=0.0), rows).reason


def test_unequal_arms_are_not_comparable() -> None:
    rows = two_settings({"a": 5.0, "b": 5.0})
    rows.columns["train"] = [0.9] * 10 + [0.5] * 10
    made = claim(threshold={"of": "y"}, above=0.0, comparable={"of": "train", "within": 0.1})
    found = verdict(made, rows)
    assert (found.decision, found.expected) == ("not comparable", False)
    assert "differs by 0.4" in found.reason


def test_few_seeds_and_no_spread_are_undecided() -> None:
    made = claim(threshold={"of": "y"}, above=0.0)
    assert verdict(made, table(np.array([[5.0, 6.0]]))).decision == "undecided"
    assert verdict(made, table(np.full((1, 10), 5.0))).decision == "undecided"


def test_an_order_of_steps_never_reached_is_told_by_pairs_and_p_values() -> None:
    """Not by an interval: there is none, and `1 in [-inf, inf], wanted < 0` would seem to contradict `holds`."""
    made = claim(order={"of": "y", "lower": {"x": 0}, "higher": {"x": 1}})
    early, never = [10.0, 20, 30, 40, 50, 60], [math.inf] * 6
    for steps, decision, found in (
        ([early, never], "holds", "6 of 6 pairs earlier, 0 later (log-rank, p = 0.016)"),
        ([never, early], "fails", "0 of 6 pairs earlier, 6 later (log-rank, p = 0.016 for later)"),
        ([early[:5], never[:5]], "undecided", "5 of 5 pairs earlier, 0 later (log-rank, undecidable)"),
    ):
        decided = decide_claim(made, table(np.array(steps)))
        (part,) = decided.parts
        assert decided.decision == decision
        assert remarks_on(decided)[0] == f"{found}; wanted earlier, p <= 0.025, {len(steps[0])} seeds"
        assert graphic(part, scale_of([part], "order")) is None, "no axis, where there is no interval"


def test_exact_theory_needs_no_spread() -> None:
    rows = table(np.array([[1.0] * 3, [4.0] * 3, [9.0] * 3]), exact=True)
    assert verdict(claim(monotone={"of": "y", "along": "x", "direction": "increasing"}), rows).decision == "holds"
    location = {"of": "y", "along": "x", "at": "maximum"}
    assert verdict(claim(location=location, above=1.5), rows).decision == "holds"
    assert verdict(claim(location=location, below=1.5), rows).decision == "fails"


def test_seeds_needed_would_decide() -> None:
    rng = np.random.default_rng(3)
    made = claim(threshold={"of": "y"}, above=0.0)
    found = verdict(made, table(0.4 + rng.standard_normal((1, 8))))
    assert found.decision == "undecided"
    assert found.seeds_needed is not None
    assert found.seeds_needed > 8


def test_minus_subtracts_seed_by_seed() -> None:
    rng = np.random.default_rng(0)
    common = rng.standard_normal((1, 12))
    rows = table(np.concatenate([common, common + 2.0 + 0.01 * rng.standard_normal((1, 12))]))
    rows.columns["theory"] = [2.0] * len(rows)
    made = claim(agreement={"of": "y", "theory": "theory", "relative": 0.05, "minus": {"x": 0}})
    assert verdict(made, rows).decision == "holds"


def test_a_difference_of_differences() -> None:
    rng = np.random.default_rng(0)
    values = np.array([[0.0], [1.0], [0.0], [4.0]]) + 0.1 * rng.standard_normal((4, 10))
    fields = {"of": "y", "first": {"x": 3}, "second": {"x": 2}, "minus": [{"x": 1}, {"x": 0}]}
    assert verdict(claim(difference=fields, within=[2.5, 3.5]), table(values)).decision == "holds"


def test_minus_of_agreement_pairs_seeds_not_places() -> None:
    rng = np.random.default_rng(0)
    common = 5 * rng.standard_normal((1, 12))
    rows = table(np.concatenate([common, common + 2.0 + 0.01 * rng.standard_normal((1, 12))]))
    rows.columns["theory"] = [2.0] * len(rows)
    order = [*rng.permutation(12), *(12 + rng.permutation(12))]
    made = claim(agreement={"of": "y", "theory": "theory", "absolute": 0.1, "minus": {"x": 0}})
    assert verdict(made, rows.take(order)).decision == "holds"
    fewer = verdict(made, rows.take(order[3:]))  # three seeds have no baseline
    assert (fewer.decision, fewer.parts[0].interval.n) == ("holds", 9)


def test_minus_of_a_location_subtracts_along_the_axis() -> None:
    rng = np.random.default_rng(0)
    x = [x for _ in range(2) for x in range(5) for _ in range(8)]
    kind = ["base"] * 40 + ["new"] * 40
    seed = list(range(8)) * 10
    common = 10 * rng.standard_normal(8)
    y = [common[s] + 3 * i + (4 - (i - 2) ** 2 if k == "new" else 0) for i, k, s in zip(x, kind, seed, strict=True)]
    y = (np.array(y) + 0.1 * rng.standard_normal(80)).tolist()
    rows = Table({"x": x, "kind": kind, "seed": seed, "y": y}, axes=["x", "kind"])
    optimum = {"of": "y", "along": "x", "at": "maximum", "minus": {"kind": "base"}}
    assert verdict(claim(location=optimum, within=[1.5, 2.5]), rows).decision == "holds"
    crossing = {"of": "y", "along": "x", "at": "crossing", "level": 3.5, "minus": {"kind": "base"}}
    assert verdict(claim(location=crossing, within=[0.5, 3.5]), rows).decision == "holds"
    missing = rows.take(np.array(x) + np.array([k == "base" for k in kind]) < 5)
    assert "differ in their seeds or points" in verdict(claim(location=optimum, above=0), missing).reason


def two_curves(baseline: np.ndarray, rise: np.ndarray) -> Table:
    """Rows of two kinds, `base` and `more`, (points, seeds) each, with noise that a seed shares between the kinds."""
    shared = np.random.default_rng(0).normal(size=baseline.shape) * 5
    rows, other = table(baseline + shared), table(baseline + shared + rise)
    for name, part in (("base", rows), ("more", other)):
        part.columns["kind"] = [name] * len(part)
    return Table({name: rows.columns[name] + other.columns[name] for name in rows.columns}, ["x", "kind"])


def test_minus_of_a_slope_subtracts_slopes_seed_by_seed() -> None:
    x = np.arange(4.0)[:, None]
    jitter = np.random.default_rng(1).normal(size=(4, 6)) * 0.01
    rows = two_curves(2 * x + np.zeros((4, 6)), 0.5 * x + jitter)
    fields = {"of": "y", "against": "x", "scale": "linear", "minus": {"kind": "base"}}
    found = verdict(claim(slope=fields, within=[0.45, 0.55]), rows)
    assert found.decision == "holds"
    assert found.parts[0].interval.estimate == pytest.approx(0.5, abs=0.02)
    assert verdict(claim(slope=fields, above=0.6), rows).decision == "fails"


def test_minus_of_a_monotone_claim_subtracts_along_the_axis() -> None:
    jitter = np.random.default_rng(1).normal(size=(3, 6)) * 0.01
    rows = two_curves(np.array([[9.0], [5.0], [1.0]]) + np.zeros((3, 6)), np.array([[0.0], [1.0], [2.0]]) + jitter)
    fields = {"of": "y", "along": "x", "direction": "increasing"}
    assert verdict(claim(monotone={**fields, "minus": {"kind": "base"}}), rows).decision == "holds"
    plain = claim(monotone={**fields, "where": {"kind": "more"}})
    assert verdict(plain, rows).decision != "holds"


def test_ints_and_floats_are_one_number() -> None:
    rows = table(np.array([[5.0], [7.0]]) + np.random.default_rng(0).standard_normal((2, 8)) / 10)
    rows.columns["x"] = [1000] * 8 + [1_000_000] * 8
    for wanted in (1e6, 1_000_000, [1e6], {"between": [1e5, 1e6]}):
        assert verdict(claim(threshold={"of": "y", "where": {"x": wanted}}, above=6.0), rows).decision == "holds"
    made = claim(order={"of": "y", "lower": {"x": 1e3}, "higher": {"x": 1e6}})
    assert verdict(made, rows).decision == "holds"


def test_a_mean_over_configurations_keeps_the_steps_of_a_monotone_claim_apart() -> None:
    rng = np.random.default_rng(0)
    up_and_down = np.array([0.0, 5.0, 4.0] * 2)[:, None] + 0.1 * rng.standard_normal((6, 8))
    rows = table(up_and_down)
    rows.columns["x"] = [x for _ in range(2) for x in range(3) for _ in range(8)]
    rows.columns["setting"] = ["a"] * 24 + ["b"] * 24
    rows = Table(rows.columns, axes=["x", "setting"])
    found = verdict(claim(monotone={"of": "y", "along": "x", "direction": "increasing"}, across="mean"), rows)
    assert found.decision == "fails"
    assert [part.label for part in found.parts] == ["x 0 to 1, mean of 2", "x 1 to 2, mean of 2"]


def test_a_mean_over_configurations_needs_the_same_seeds() -> None:
    rows = two_settings({"a": 5.0, "b": 5.0})
    rows.columns["seed"] = [*range(10), *range(1, 11)]
    found = verdict(claim(threshold={"of": "y"}, above=0.0, across="mean"), rows)
    assert (found.decision, found.reason) == ("undecided", "the configurations differ in their seeds")


def test_a_mean_over_configurations_pairs_by_seed() -> None:
    common = 10 * np.random.default_rng(0).standard_normal((1, 10))
    noise = 0.1 * np.random.default_rng(1).standard_normal((2, 10))
    rows = table(np.concatenate([common, -common]) + noise + 1.0)
    order = [*range(10), *(10 + np.random.default_rng(2).permutation(10))]
    rows = rows.take(order)
    assert verdict(claim(threshold={"of": "y"}, above=0.5), rows).decision == "undecided"
    assert verdict(claim(threshold={"of": "y"}, above=0.5, across="mean"), rows).decision == "holds"


def test_an_axis_that_moves_with_the_claims_own_is_not_free() -> None:
    rows = table(np.arange(4.0)[:, None] + 0.1 * np.random.default_rng(0).standard_normal((4, 6)))
    rows.columns["rate"] = [0.1 / (1 + x) for x in rows.columns["x"]]
    rows = Table(rows.columns, axes=["x", "rate"])
    made = claim(slope={"of": "y", "against": "x", "scale": "linear"}, within=[0.5, 1.5])
    assert verdict(made, rows).decision == "holds"
    assert verdict(claim(order={"of": "y", "lower": {"x": 0}, "higher": {"x": 1}}), rows).decision == "holds"


def test_only_what_is_compared_must_be_comparable() -> None:
    rows = table(np.array([[0.0], [5.0], [9.0]]) + np.random.default_rng(0).standard_normal((3, 8)))
    rows.columns["train"] = [0.9] * 16 + [0.1] * 8
    fields = {"order": {"of": "y", "lower": {"x": 0}, "higher": {"x": 1}}}
    assert verdict(claim(**fields, comparable={"of": "train", "within": 0.1}), rows).decision == "holds"
    rows.columns["train"][0] = math.nan
    assert "finite" in verdict(claim(**fields, comparable={"of": "train", "within": 0.1}), rows).reason


def test_every_kind_is_exact_where_theory_is() -> None:
    rows = table(np.array([[1.0] * 2, [2.0] * 2, [4.0] * 2]), exact=True)
    rows.columns["theory"] = [value * 1.01 for value in rows.columns["y"]]
    rows = Table(rows.columns, axes=["x"], exact=frozenset({"y", "theory"}))
    sides = ({"x": 0}, {"x": 2})
    for fields in (
        {"threshold": {"of": "y"}, "above": 0.5},
        {"difference": {"of": "y", "first": sides[0], "second": sides[1]}, "within": [-3.1, -2.9]},
        {"ratio": {"of": "y", "numerator": sides[1], "denominator": sides[0]}, "within": [3.9, 4.1]},
        {"order": {"of": "y", "lower": sides[0], "higher": sides[1]}},
        {"slope": {"of": "y", "against": "x", "scale": "semilog-y"}, "within": [0.69, 0.7]},
        {"agreement": {"of": "y", "theory": "theory", "relative": 0.02}},
        {"location": {"of": "y", "along": "x", "at": "crossing", "level": 3.0}, "within": [1.4, 1.6]},
    ):
        assert verdict(claim(**fields), rows).decision == "holds", fields
    nowhere = {"location": {"of": "y", "along": "x", "at": "crossing", "level": 9.0}, "above": 0.0}
    found = verdict(claim(**nowhere), rows)
    assert (found.decision, found.reason) == ("undecided", "the mean doesn't cross 9")


def test_as_many_seeds_decide_as_it_says() -> None:
    made = claim(threshold={"of": "y"}, above=0.0)

    def sample(n: int) -> Table:
        """Mean 0.4 and deviation 1, whatever the size."""
        values = np.arange(n) - (n - 1) / 2
        return table(0.4 + (values / values.std(ddof=1))[None, :])

    needed = verdict(made, sample(8)).seeds_needed
    assert needed is not None
    assert 24 <= needed <= 32  # (1.96 / 0.4)^2 = 24, and some for few degrees of freedom
    assert verdict(made, sample(needed)).decision == "holds"
    assert verdict(made, sample(needed - 1)).decision == "undecided"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"threshold": {"of": "none"}, "above": 0}, "there is no column none"),
        ({"threshold": {"of": "y", "where": {"none": 1}}, "above": 0}, "there is no column none"),
        ({"order": {"of": "y", "lower": {"x": 9}, "higher": {"x": 1}}}, "no row has x = 9"),
        ({"order": {"of": "y", "lower": {"none": 9}, "higher": {"x": 1}}}, "there is no column none"),
        ({"slope": {"of": "y", "against": "none"}, "above": 0}, "there is no column none"),
        ({"slope": {"of": "y", "against": "x"}, "above": 0}, "no logarithm"),
        ({"slope": {"of": "y", "against": "status"}, "above": 0}, "status holds text"),
        ({"threshold": {"of": "status"}, "above": 0}, "status holds text"),
        ({"agreement": {"of": "y", "theory": "zero", "relative": 0.1}}, "zero is 0"),
        ({"location": {"of": "y", "along": "x", "at": "maximum", "where": {"x": 1}}, "above": 0}, "fewer than two"),
        ({"location": {"of": "y", "along": "x", "at": "maximum"}, "above": 0, "across": "mean"}, ""),
        ({"ratio": {"of": "zero", "numerator": {"x": 0}, "denominator": {"x": 1}}, "above": 0}, "not of positive"),
    ],
)
def test_what_cannot_be_decided_says_why(fields: dict[str, Any], reason: str) -> None:
    rows = table(np.random.default_rng(0).standard_normal((2, 6)))
    rows.columns["zero"] = [0.0] * len(rows)
    found = verdict(claim(**fields), rows)
    assert found.decision == "undecided"
    assert reason in found.reason
    assert verdict(claim(**fields), Table({})).reason == "no rows to decide it on"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "expected exactly one of slope"),
        ({"threshold": {"of": "y"}, "slope": {"of": "y", "against": "x"}, "above": 1}, "got slope and threshold"),
        ({"threshold": {"of": "y"}}, "above, below or within"),
        ({"threshold": {"of": "y"}, "above": 2, "below": 1}, "is empty"),
        ({"order": {"of": "y", "lower": {"x": 0}, "higher": {"x": 1}}, "above": 1}, "needs no above"),
        ({"agreement": {"of": "y", "theory": "t"}}, "either relative or absolute"),
        ({"location": {"of": "y", "along": "x", "at": "crossing"}, "above": 1}, "`level` goes with"),
    ],
)
def test_claims_that_make_no_sense_are_refused(fields: dict[str, Any], message: str) -> None:
    context = Context(Registry())
    assert structure({"statement": "s", **fields}, Claim, context) is None
    assert any(message in text for _, text in context.problems)


SIDES = ({"x": 0}, {"x": 1})
ANY_CLAIM: list[dict[str, Any]] = [
    *(fields for fields, _ in KINDS.values()),
    {"ratio": {"of": "y", "numerator": SIDES[0], "denominator": SIDES[1]}, "above": 1.0},
    {"difference": {"of": "y", "first": SIDES[0], "second": SIDES[1], "minus": [{"x": 2}, {"x": 3}]}, "above": 1.0},
    {"agreement": {"of": "y", "theory": "theory", "relative": 0.1, "minus": {"x": 0}}},
    {"location": {"of": "y", "along": "z", "at": "minimum", "minus": {"x": 0}}, "above": 0.0},
    {"slope": {"of": "y", "against": "theory"}, "above": 0.0},
    {"threshold": {"of": "y", "where": {"x": {"between": [0, 2]}}}, "below": 1.0},
]
EXTREMES = st.sampled_from([1e308, -1e308, 5e-324, 10**400, math.inf, -math.inf, math.nan])
ANY_VALUES = st.one_of(
    st.lists(st.booleans(), min_size=12, max_size=12),
    st.lists(st.one_of(st.floats(), EXTREMES), min_size=12, max_size=12),
    st.lists(
        st.one_of(st.none(), st.floats(), st.booleans(), st.just("text"), st.just([1, 2])), min_size=12, max_size=12
    ),
)


@settings(max_examples=200, deadline=None)
@given(
    fields=st.sampled_from(ANY_CLAIM),
    y=ANY_VALUES,
    x=st.one_of(
        st.just([0] * 6 + [1] * 6),
        st.lists(st.one_of(st.integers(0, 3), st.sampled_from(["a", [1], math.nan])), min_size=12, max_size=12),
    ),
    seeds=st.one_of(st.just([*range(6)] * 2), st.lists(st.integers(0, 9), min_size=12, max_size=12)),
    n=st.sampled_from([0, 1, 6, 12]),
    exact=st.booleans(),
    options=st.sampled_from(
        [{}, {"across": "mean"}, {"statistic": "median"}, {"comparable": {"of": "y", "within": 0.1}}]
    ),
)
def test_no_table_makes_a_claim_raise(
    fields: dict[str, Any],
    y: list[Any],
    x: list[Any],
    seeds: list[int],
    n: int,
    exact: bool,
    options: dict[str, Any],
) -> None:
    columns = {"x": x[:n], "z": (y[3:] + y[:3])[:n], "seed": seeds[:n], "y": y[:n], "theory": y[::-1][:n]}
    rows = Table(columns, axes=["x", "z"] if exact else ["x"], exact=frozenset({"y", "theory"} if exact else ()))
    found = decide_claim(claim(**fields, **options), rows)
    assert found.reason or found.parts
    assert found.as_json()["verdict"] == found.decision
