"""Specs that use the common plugin alone: each smoke version runs, and a sabotaged one does not hold."""

from __future__ import annotations

from pathlib import Path

import pytest

import kempeframe

SPECS = Path(__file__).parents[3] / "specs"


@pytest.mark.parametrize("name", ["digits", "digits_mlp", "adversarial_training"])
def test_the_smoke_version_runs(name: str, tmp_path: Path) -> None:
    study = kempeframe.run(SPECS / f"{name}.toml", smoke=True, store=tmp_path)
    assert not study.failures
    assert set(study.rows.columns["status"]) == {"done"}
    assert len(study.claims) == len(study.spec.claims)


def test_sabotage_against_an_attack_of_no_size_adversarial_training_is_worth_nothing(tmp_path: Path) -> None:
    overrides = {"attack.epsilon": 0.0, "optimizer.epochs": 2, "evaluator.robust_accuracy.epsilons": [0.0, 0.2]}
    study = kempeframe.run(SPECS / "adversarial_training.toml", overrides, seeds=3, store=tmp_path)
    assert not study.failures
    verdicts = {verdict.claim.statement: verdict.decision for verdict in study.claims}
    assert verdicts["adversarial training keeps more accuracy under the attack it was trained against"] != "holds"
