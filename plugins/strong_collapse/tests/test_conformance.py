"""Every component of the plugin through the conformance kit."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from kempeframe_standard.data import Digits
from kempeframe_standard.data_text import HubText
from kempeframe_standard.models import Linear
from kempeframe_standard.models_text import Decoder
from kempeframe_standard.optimizers import Ridge
from kempeframe_standard.optimizers_gradient import Adam

from kempeframe import Fit, load_plugin
from kempeframe.testing import Check, check_component, conformance

ours = load_plugin("strong_collapse")

RIDGE = Ridge(penalty=1e-3)
MIXTURE = ours.GaussianMixture(dimension=6, n_train=40, synthetic_fraction=0.25)
GENERAL = ours.GeneralMixture(dimension=6, n_train=40, synthetic_fraction=0.25)
GENERATOR = Fit(data=Digits(n_train=40), model=Linear(), optimizer=RIDGE, stream="generator")
LABELS = ours.SyntheticLabels(
    source=Digits(n_train=60, n_test=100, skip=40), generator=GENERATOR, synthetic_fraction=0.25
)
# The population's moments are what the data hold; what they hold is in float64.
IN_FLOAT64 = {"works_in_float32", "works_in_float64"}


@conformance(
    MIXTURE,
    GENERAL,
    ours.GaussianMixture(dimension=6, n_train=40, sampler="moments"),
    ours.IterativeMixture(dimension=6, n_train=40, synthetic_fraction=0.25),
    model=Linear(),
)
def test_mixtures(check: Check) -> None:
    check()


@conformance(LABELS, model=Linear())
def test_synthetic_labels(check: Check) -> None:
    check()


@conformance(
    ours.RandomProjection(width=8),
    task=MIXTURE,
    without={"other_seed_other_network", "gradients_reach_every_parameter"},  # what is trained starts at zero
)
def test_random_projection(check: Check) -> None:
    check()


@conformance(
    ours.ExcessRisk(),
    ours.Theory(),
    ours.OptimalPenalty(),
    ours.OptimalWeight(),
    task=MIXTURE,
    model=Linear(),
    optimizer=RIDGE,
    without=IN_FLOAT64,
)
def test_evaluators(check: Check) -> None:
    check()


@conformance(ours.GeneralTheory(), task=GENERAL, model=Linear(), optimizer=RIDGE, without=IN_FLOAT64)
def test_general_theory(check: Check) -> None:
    check()


@conformance(
    ours.IterativeTheory(), task=ours.IterativeMixture(dimension=6, n_train=40), model=Linear(), optimizer=RIDGE
)
def test_iterative_theory(check: Check) -> None:
    check()


@conformance(ours.PopulationRisk(), ours.RealTheory(), task=LABELS, model=Linear(), optimizer=RIDGE, without=IN_FLOAT64)
def test_evaluators_on_real_inputs(check: Check) -> None:
    check()


MIRROR = Path(os.environ.get("KEMPEFRAME_HUB", "/nowhere"))


@pytest.mark.skipif(not (MIRROR / "karpathy").is_dir(), reason="KEMPEFRAME_HUB names no mirror with tiny Shakespeare")
def test_synthetic_text() -> None:
    model = Decoder(width=8, heads=2, depth=1)
    text = HubText(n_train=600, n_test=600, context=16)
    writer = Fit(data=text, model=model, optimizer=Adam(steps=3), stream="writer")
    source = HubText(n_train=600, n_test=600, context=16, skip=600)
    data = ours.SyntheticText(source=source, generator=writer, synthetic_fraction=0.5, prompt=4)
    check_component(data, model=model, without={"a_pass_has_every_example_once"})


def test_no_component_is_left_out() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert not {name for name in vars(ours) if not re.search(rf"\bours\.{name}\(", source)}
