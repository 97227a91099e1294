"""Specs of pilaf: each smoke version runs; where the effect is switched off the claims do not hold."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import kempeframe

SPECS = Path(__file__).parents[3] / "specs"
ALL = [SPECS / "pilaf.toml", *sorted((SPECS / "pilaf").glob("*.toml"))]


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_the_smoke_version_runs(path: Path, tmp_path: Path) -> None:
    """Those at full size too: human data, transformers and an oracle, with tiny random weights."""
    if path.stem.startswith("large_"):
        mirror = os.environ.get("KEMPEFRAME_HUB")
        if find_spec("transformers") is None:
            pytest.skip("the extra kempeframe-pilaf[llm] is not installed")
        if not mirror or not (Path(mirror) / "Anthropic" / "hh-rlhf").exists():
            pytest.skip("KEMPEFRAME_HUB names no mirror with Anthropic/hh-rlhf")
    study = kempeframe.run(path, smoke=True, store=tmp_path)
    assert not study.failures
    assert set(study.rows.columns["status"]) == {"done"}
    assert len(study.claims) == len(study.spec.claims)


def decided(study: kempeframe.Study, beginning: str) -> str:
    (verdict,) = [v for v in study.claims if v.claim.statement.startswith(beginning)]
    return str(verdict.decision)


def run(name: str, tmp_path: Path, overrides: dict[str, Any], seeds: int) -> kempeframe.Study:
    return kempeframe.run(SPECS / name, overrides, seeds=seeds, store=tmp_path)


SMALL = {
    "fit.sft.data.n_train": 4000,
    "fit.sft.optimizer.steps": 100,
    "fit.overfitted.optimizer.epochs": 20,
    "optimizer.steps": 16,
    "optimizer.snapshots": [8],
    "sweep.data.use": ["pilaf.vanilla", "pilaf.pilaf"],
    "evaluator.value.n_prompts": 200,
    "evaluator.value.frontier_draws": 200,
    "evaluator.at_level.measure.n_prompts": 200,
    "evaluator.at_level.measure.frontier_draws": 200,
}


@pytest.mark.slow
def test_sabotage_a_pilaf_that_never_tilts_is_vanilla(tmp_path: Path) -> None:
    """The effect switched off: branch_probability 0. Under shared random numbers it is vanilla to the last bit."""
    study = run("pilaf.toml", tmp_path, {**SMALL, "data.branch_probability": 0.0}, 3)
    assert decided(study, "C9: after 3200 labels") != "holds"
    values = study.table.groupby("data.use")["value.objective"].apply(list)
    assert values["pilaf.pilaf"] == values["pilaf.vanilla"]


def test_sabotage_without_its_weight_t_pilaf_is_not_aligned(tmp_path: Path) -> None:
    """The weighted variant made the unweighted one: the residual no longer vanishes."""
    raw = (SPECS / "pilaf" / "alignment.toml").read_text()
    path = tmp_path / "alignment.toml"
    assert 'data.prompt_weight" = true' in raw
    path.write_text(raw.replace('data.prompt_weight" = true', 'data.prompt_weight" = false'))
    study = kempeframe.run(path, seeds=6, store=tmp_path / "store")
    assert decided(study, "C1: the residual of weighted T-PILAF") == "fails"
    assert decided(study, "without its prompt weight") == "holds"


def test_sabotage_with_even_pairs_no_error_is_isotropic(tmp_path: Path) -> None:
    """T-PILAF drawn with the wrong branch probability: the sign of the tilt's weight is gone."""
    raw = (SPECS / "pilaf" / "asymptotics.toml").read_text()
    path = tmp_path / "asymptotics.toml"
    path.write_text(raw.replace('"T-PILAF" = {}', '"T-PILAF" = { "data.use" = "pilaf.plus_minus" }'))
    study = kempeframe.run(path, seeds=4, store=tmp_path / "store")
    assert decided(study, "C4: with one prompt T-PILAF's error is isotropic") == "fails"
