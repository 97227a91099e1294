"""Specs of repeated_examples: each smoke version runs; where nothing can be learned the claims do not hold."""

from __future__ import annotations

from pathlib import Path

import pytest

import kempeframe
from kempeframe.plan import Plan

SPECS = Path(__file__).parents[3] / "specs"
ALL = [SPECS / "repeated_examples.toml", *sorted((SPECS / "repeated_examples").glob("*.toml"))]


@pytest.mark.parametrize("path", [p for p in ALL if not p.stem.startswith("large_")], ids=lambda p: p.stem)
def test_the_smoke_version_runs(path: Path, tmp_path: Path) -> None:
    study = kempeframe.run(path, smoke=True, store=tmp_path)
    assert not study.failures
    assert set(study.rows.columns["status"]) == {"done"}
    assert {verdict.decision for verdict in study.claims} <= {"undecided"}, "one seed decides nothing"


@pytest.mark.parametrize("path", [p for p in ALL if p.stem.startswith("large_")], ids=lambda p: p.stem)
def test_large_specs_are_sound(path: Path) -> None:
    assert kempeframe.load_spec(path).claims


def test_sabotage_the_residue_given_away_leaves_no_advantage(tmp_path: Path) -> None:
    """In base 7 the last digit is the residue: fresh examples learn as well, and the headline claim must not hold."""
    overrides = {
        "data.base": 7,
        "data.maximum": 48,
        "model.width": 32,
        "optimizer.learning_rate": 3e-3,
        "optimizer.steps": 500,
        "optimizer.snapshots": [250],
        "data.n_test": 500,
        "sweep.arm": {"fresh": {}, "pool": {"data.data_budget": 10000}},
    }
    study = kempeframe.run(SPECS / "repeated_examples.toml", overrides, seeds=3, store=tmp_path)
    found = {verdict.claim.statement: verdict.decision for verdict in study.claims}
    assert found["C3: a pool of 10,000 examples learns the task more often than fresh ones"] != "holds"
    assert all(study.rows.columns["sequence_accuracy.solved"]), "the control itself: both arms learn"


@pytest.mark.parametrize(("processes", "stacks"), [(1, [18]), (2, [9, 9]), (3, [6, 6, 6]), (16, [3] * 6)])
def test_processes_share_the_seeds_of_the_default_spec_evenly(processes: int, stacks: list[int]) -> None:
    """A unit is all arms of one seed: what is computed together does not depend on what is left to do."""
    plan = Plan.of(kempeframe.load_spec(SPECS / "repeated_examples.toml"))
    units = list(plan.units(set(plan.fits), stored=lambda key: False, processes=processes))
    assert [len(unit.fits) for unit in units] == stacks
    some = list(plan.units({next(iter(plan.fits))}, stored=lambda key: False, processes=2))
    assert [len(unit.fits) for unit in some] == [3]
