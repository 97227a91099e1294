"""Specs of strong_collapse: each smoke version runs; where the effect is switched off the claim does not hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import kempeframe

SPECS = Path(__file__).parents[3] / "specs"
ALL = [SPECS / "strong_collapse.toml", *sorted((SPECS / "strong_collapse").glob("*.toml"))]
MIRROR = {"hub_images": "ylecun/mnist", "hub_text": "karpathy/tiny_shakespeare"}


def needed(path: Path) -> list[str]:
    """The data sets that a spec reads from a mirror or the hub."""
    return [name for component, name in MIRROR.items() if component in path.read_text()]


@pytest.mark.parametrize("path", [p for p in ALL if not p.stem.startswith("large_")], ids=lambda p: p.stem)
def test_the_smoke_version_runs(path: Path, tmp_path: Path) -> None:
    mirror = os.environ.get("KEMPEFRAME_HUB")
    absent = [name for name in needed(path) if not mirror or not (Path(mirror) / name).exists()]
    if absent:
        pytest.skip(f"KEMPEFRAME_HUB names no mirror with {absent[0]}")
    study = kempeframe.run(path, smoke=True, store=tmp_path)
    assert not study.failures
    assert set(study.rows.columns["status"]) == {"done"}
    assert len(study.claims) == len(study.spec.claims)


def verdicts(study: kempeframe.Study) -> dict[str, str]:
    return {verdict.claim.statement: verdict.decision for verdict in study.claims}


def test_sabotage_without_synthetic_data_nothing_stops_the_scaling_law(tmp_path: Path) -> None:
    """The effect switched off: quality 0 makes synthetic labels real ones."""
    overrides = {"data.quality": 0.0, "data.dimension": 30, "sweep.data.n_train": [1e3, 1e4, 1e5, 1e6, 1e7]}
    found = verdicts(kempeframe.run(SPECS / "strong_collapse.toml", overrides, seeds=6, store=tmp_path))
    assert found["1 % of synthetic data stops the scaling law"] == "fails"
    assert found["more synthetic data is worse, at every size from 10,000 on"] != "holds"
    assert found["without synthetic data the error falls like 1/n"] == "holds"


def test_sabotage_a_fraction_of_zero_gives_no_verdict(tmp_path: Path) -> None:
    study = kempeframe.run(SPECS / "strong_collapse.toml", {"data.synthetic_fraction": 0.0}, seeds=3, store=tmp_path)
    assert verdicts(study)["1 % of synthetic data stops the scaling law"] != "holds"


def test_sabotage_without_shift_no_width_amplifies(tmp_path: Path) -> None:
    path = SPECS / "strong_collapse" / "pareto.toml"
    overrides = {"sweep.data.quality": [0.0, 3.0], "data.synthetic_fraction": 0.0, "data.dimension": 150}
    found = verdicts(kempeframe.run(path, overrides, seeds=8, store=tmp_path))
    claim = "C7: with bad synthetic labels (c² = 3) the best network is smaller than the number of examples"
    assert found[claim] != "holds"


def test_sabotage_weight_zero_keeps_the_law(tmp_path: Path) -> None:
    path = SPECS / "strong_collapse" / "mixing.toml"
    overrides = {"data.quality": 0.0, "data.dimension": 30}
    found = verdicts(kempeframe.run(path, overrides, seeds=5, store=tmp_path))
    assert found["C10: with a weight of 0.1 on synthetic data the error still stops falling"] == "fails"
