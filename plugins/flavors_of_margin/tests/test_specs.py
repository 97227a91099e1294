"""Specs of flavors_of_margin: each smoke version runs; where the effect is switched off the claim does not hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import kempeframe

SPECS = Path(__file__).parents[3] / "specs"
ALL = [SPECS / "flavors_of_margin.toml", *sorted((SPECS / "flavors_of_margin").glob("*.toml"))]
SETS = ("ylecun/mnist", "uoft-cs/cifar10")


@pytest.mark.parametrize("path", [p for p in ALL if p.stem != "large_spectral"], ids=lambda p: p.stem)
def test_the_smoke_version_runs(path: Path, tmp_path: Path) -> None:
    mirror = os.environ.get("KEMPEFRAME_HUB")
    needed = [name for name in SETS if name in path.read_text()]
    absent = [name for name in needed if not mirror or not (Path(mirror) / name).exists()]
    if absent:
        pytest.skip(f"KEMPEFRAME_HUB names no mirror with {absent[0]}")
    study = kempeframe.run(path, smoke=True, store=tmp_path)
    assert not study.failures
    assert set(study.rows.columns["status"]) == {"done"}
    assert len(study.claims) == len(study.spec.claims)


def test_the_spec_that_needs_a_large_data_set_is_sound() -> None:
    from kempeframe.spec import load_spec

    assert load_spec(SPECS / "flavors_of_margin" / "large_spectral.toml").claims


def verdicts(study: kempeframe.Study) -> dict[str, str]:
    return {verdict.claim.statement: verdict.decision for verdict in study.claims}


COMMON = {"optimizer.steps": 600, "data.n_train": 20, "data.dimension": 10, "model.width": 20}
FEW = {"every": 20, "stop_below": -101, "evaluator": {"use": "flavors_of_margin.log_loss"}}


def of_gradient_and_sign(tmp_path: Path, sign: dict[str, object]) -> dict[str, str]:
    algorithms = {"gradient": {"optimizer.learning_rate": 0.06}, "sign": {"optimizer.learning_rate": 0.005, **sign}}
    overrides = {**COMMON, "optimizer.monitor": FEW, "sweep.algorithm": algorithms}
    overrides["optimizer.snapshots"] = list(range(20, 600, 20))
    return verdicts(kempeframe.run(SPECS / "flavors_of_margin.toml", overrides, seeds=6, store=tmp_path))


MARGINS = (
    "C4: at log loss -100 the l_2 margin of gradient descent is above that of sign descent",
    "C4: at log loss -100 the l_inf margin of sign descent is above that of gradient descent",
)


def test_sabotage_an_algorithm_in_another_ones_norm_has_not_its_margin(tmp_path: Path) -> None:
    """The effect, and the effect switched off: "sign descent" that steps in the l_2 norm has no larger l_inf margin."""
    honest = of_gradient_and_sign(tmp_path, {"optimizer.use": "flavors_of_margin.sign_descent"})
    assert [honest[claim] for claim in MARGINS] == ["holds", "holds"]
    sabotaged = of_gradient_and_sign(tmp_path, {"optimizer.learning_rate": 0.06})
    assert all(sabotaged[claim] != "holds" for claim in MARGINS)


def test_sabotage_with_norm_and_dual_norm_swapped_no_claim_about_linear_models_holds(tmp_path: Path) -> None:
    """T5: sign descent under the name of coordinate descent, and the other way round."""
    swapped = {
        "coordinate": {"optimizer.norm": "l_inf"},
        "gradient": {"optimizer.norm": "l_2"},
        "sign": {"optimizer.norm": "l_1"},
    }
    overrides = {"sweep.algorithm": swapped, "optimizer.steps": 600}
    path = SPECS / "flavors_of_margin" / "linear.toml"
    found = verdicts(kempeframe.run(path, overrides, seeds=4, store=tmp_path))
    own = [claim for claim in found if "coordinate descent" in claim.split(" than ")[-1] and "smaller l_1" in claim]
    own += [claim for claim in found if claim.endswith("smaller l_inf margin than sign descent")]
    assert len(own) == 4
    assert all(found[claim] != "holds" for claim in own)


def test_sabotage_epsilon_does_not_matter_to_sign_descent(tmp_path: Path) -> None:
    """Adam without memory and without epsilon at every point of the axis: nothing depends on it."""
    path = SPECS / "flavors_of_margin" / "adam.toml"
    overrides = {"optimizer.steps": 800, "optimizer.beta2": 0.0, "optimizer.beta1": 0.0}
    overrides |= {"sweep.optimizer.epsilon": [0.0, 1e-300], "sweep.optimizer.beta2": [0.0]}
    found = verdicts(kempeframe.run(path, overrides, seeds=4, store=tmp_path))
    assert found["C5: the larger epsilon, the farther Adam is from the largest l_inf margin"] != "holds"
