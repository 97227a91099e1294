"""Specs of attacking_bayes: each smoke version runs; where an effect is switched off its claim does not hold."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import pytest
from kempeframe_attacking_bayes import numerics
from kempeframe_attacking_bayes.evaluators_posterior import PosteriorDiagnostics

import kempeframe

SPECS = Path(__file__).parents[3] / "specs"
FOLDER = SPECS / "attacking_bayes"
ALL = [SPECS / "attacking_bayes.toml", *sorted(FOLDER.glob("*.toml"))]
SMALL = [path for path in ALL if not path.stem.startswith("large_")]
MIRROR = {"hub_images": ("ylecun/mnist", "uoft-cs/cifar10")}


def absent(path: Path) -> list[str]:
    """The data sets that a spec reads and no mirror has."""
    mirror = os.environ.get("KEMPEFRAME_HUB")
    needed = [name for component, names in MIRROR.items() if component in path.read_text() for name in names]
    return [name for name in needed if not mirror or not (Path(mirror) / name).exists()]


@pytest.mark.parametrize("path", SMALL, ids=lambda p: p.stem)
def test_the_smoke_version_runs(path: Path, tmp_path: Path) -> None:
    if missing := absent(path):
        pytest.skip(f"KEMPEFRAME_HUB names no mirror with {missing[0]}")
    study = kempeframe.run(path, smoke=True, store=tmp_path)
    assert not study.failures
    assert set(study.rows.columns["status"]) == {"done"}
    assert len(study.claims) == len(study.spec.claims)


@pytest.mark.parametrize("path", [path for path in ALL if path not in SMALL], ids=lambda p: p.stem)
def test_the_large_ones_are_sound(path: Path) -> None:
    assert kempeframe.load_spec(path).trial_count >= 100


def verdicts(study: kempeframe.Study) -> dict[str, str]:
    """By the beginning of the statement."""
    return {verdict.claim.statement.partition(":")[0]: verdict.decision for verdict in study.claims}


QUICK = {
    "sweep.inference": {"map": {"optimizer": {"use": "attacking_bayes.map", "steps": 150}}},
    "data.n_train": 400,
    "data.n_test": 100,
    "evaluator.sanity.attack.steps": 5,
}


def test_sabotage_an_attack_that_stands_still_breaks_no_posterior(tmp_path: Path) -> None:
    """The effect switched off: noise in the place of PGD. The headline claim must not hold."""
    kinds = {"pgd": {"attack.use": "standard.noise"}}
    overrides = {**QUICK, "sweep.kind": kinds, "sweep.attack.epsilon": [0.3]}
    found = verdicts(kempeframe.run(SPECS / "attacking_bayes.toml", overrides, seeds=4, store=tmp_path))
    assert found["C1"] == "fails"


def test_without_sabotage_it_holds(tmp_path: Path) -> None:
    """The same small study with PGD, so that the test above can't fail for another reason."""
    kinds = {"pgd": {"attack.use": "standard.pgd", "attack.steps": 20}}
    overrides = {**QUICK, "sweep.kind": kinds, "sweep.attack.epsilon": [0.3]}
    found = verdicts(kempeframe.run(SPECS / "attacking_bayes.toml", overrides, seeds=4, store=tmp_path))
    assert found["C1"] == "holds"


def test_sabotage_raising_the_uncertainty_of_shifted_inputs_does_not_break_detection(tmp_path: Path) -> None:
    """Without a perturbation (epsilon 1e-6) no AUROC falls below one half."""
    inference = {"deterministic": {"optimizer": {"use": "attacking_bayes.map", "steps": 150}}}
    overrides = {
        "sweep.inference": inference,
        "sweep.attack.epsilon": [1e-6],
        "data.data.n_train": 400,
        "data.data.n_test": 100,
    }
    study = kempeframe.run(FOLDER / "shift.toml", overrides, seeds=3, store=tmp_path)
    assert min(study.rows.columns["auroc_both_attacked"]) > 0.5


def test_many_attacks_and_radii_cost_no_refit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two attacks at three radii are evaluations of one fit; so is a radius that comes later.

    What does not depend on the trial's attack is evaluated once for a fit, not once for each attack.
    """
    examined: list[int] = []
    examine = numerics.examine
    monkeypatch.setattr(numerics, "examine", lambda *given: (examined.append(1), examine(*given))[1])
    overrides = {
        **QUICK,
        "sweep.kind": {"fgsm": {"attack.use": "standard.fgsm"}, "noise": {"attack.use": "standard.noise"}},
        "sweep.attack.epsilon": [0.05, 0.1, 0.2],
    }
    spec = SPECS / "attacking_bayes.toml"
    first = kempeframe.run(spec, overrides, seeds=1, store=tmp_path)
    assert first.computed == 2  # the posterior, and the surrogate of the transfer attack
    more = kempeframe.run(spec, {**overrides, "sweep.attack.epsilon": [0.05, 0.3]}, seeds=1, store=tmp_path)
    assert more.computed == 0
    assert not more.failures
    assert len(examined) == 1


DIVERGENT = """
title = "Chains whose step is too long"
seeds = 1

[data]
use = "standard.digits"
n_train = 60
n_test = 20

[model]
use = "attacking_bayes.bayesian"
model = { use = "standard.mlp", width = 4, depth = 1, activation = "tanh" }

[optimizer]
use = "attacking_bayes.hmc"
n_chains = 2
n_warmup = 0
n_samples = 10
thin = 1
warm_start_steps = 10
step_size_init = 5.0

[[evaluator]]
use = "attacking_bayes.posterior_diagnostics"
"""


def test_diverged_chains_are_marked_and_their_diagnostics_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fit says it, the row is marked, the terminal says so, and TensorBoard shows what went wrong."""
    from kempeframe.cli import main

    spec, out = tmp_path / "divergent.toml", tmp_path / "out"
    spec.write_text(DIVERGENT)
    assert main(["run", str(spec), "--store", str(tmp_path / "store"), "--out", str(out)]) == 0
    assert "1 of 1 trials rest on fits that did not converge: column converged" in capsys.readouterr().out
    (row,) = csv.DictReader((out / "table.csv").read_text().splitlines())
    assert row["converged"] == "False"
    assert float(row["divergences"]) > 0
    shown = events(out / "tensorboard")
    assert {f"training/{name}, seed 0" for name in ("acceptance", "r_hat", "divergences")} <= set(shown)
    for name in PosteriorDiagnostics().columns():
        value = float(row[name] or "nan")
        assert not math.isfinite(value) or shown[f"posterior_diagnostics/{name}"] == pytest.approx(value, rel=1e-5)


def events(folder: Path) -> dict[str, float]:
    """The last value under each tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, float] = {}
    for part in {file.parent for file in folder.rglob("*tfevents*")}:
        accumulator = EventAccumulator(str(part))
        accumulator.Reload()
        found |= {tag: accumulator.Scalars(tag)[-1].value for tag in accumulator.Tags()["scalars"]}
    return found


def test_the_histogram_shows_the_clean_inputs_of_the_posterior_that_it_is_of(tmp_path: Path) -> None:
    from kempeframe.curves import theory_curves

    few = {"use": "attacking_bayes.map", "steps": 5}
    inference = {"hmc": {"optimizer": few}, "map": {"optimizer": {**few, "steps": 150}}}
    kinds = {"noise": {"attack.use": "standard.noise"}}
    overrides = {**QUICK, "sweep.inference": inference, "sweep.kind": kinds, "sweep.attack.epsilon": [0.3]}
    study = kempeframe.run(SPECS / "attacking_bayes.toml", overrides, seeds=1, store=tmp_path)
    (figure,) = [figure for figure in study.spec.figures if figure.name == "histogram"]
    (line,) = theory_curves(study, figure)
    first, second = study.rows.columns["density_clean"]
    assert line.y.tolist() == first
    assert first != second
