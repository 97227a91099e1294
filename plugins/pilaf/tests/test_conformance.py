"""Every component of the plugin through the conformance kit; a test counts that none is left out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from kempeframe_pilaf.data import Bandit, Grammar
from kempeframe_pilaf.data_pairs import (
    BestOfN,
    EstimatedPilaf,
    Hybrid,
    OptimalDesign,
    Pilaf,
    PlusMinus,
    TPilaf,
    Uniform,
    Vanilla,
)
from kempeframe_pilaf.evaluators import Cost, Frontier, Value
from kempeframe_pilaf.evaluators_theory import Alignment, Asymptotics
from kempeframe_pilaf.models import HuggingfaceChat, ImplicitReward, LogLinearPolicy
from kempeframe_standard.optimizers import LogisticRegression, Untrained
from kempeframe_standard.optimizers_gradient import Sgd

from kempeframe import Fit, load_plugin
from kempeframe.testing import Check, conformance

SOURCE = Bandit(n_prompts=3, n_responses=4, n_features=3)
TABULAR = Bandit(n_prompts=2, n_responses=3, n_features=0)
MODEL = ImplicitReward(policy=LogLinearPolicy(init_scale=0.5), beta=1.0)
TRUTH = Fit(data=Vanilla(source=SOURCE), model=MODEL, optimizer=Untrained(), stream="policy")
FROZEN: dict[str, Any] = dict(source=SOURCE, policy=TRUTH, n_pairs=40, n_test=20)
ONLINE = Vanilla(source=SOURCE, n_test=20)
SOLVER = LogisticRegression()
# The implicit reward is in the type of its policy, and that is the type of the source.
OF_ONE_TYPE = {"works_in_float32", "works_in_float64"}


@conformance(
    SOURCE,
    TABULAR,
    without={"other_seed_other_task", "splits_are_disjoint"},  # prompts are few and numbered; what differs is the truth
    model=LogLinearPolicy(),
    optimizer=Untrained(),
)
def test_bandit(check: Check) -> None:
    check()


@conformance(Grammar(n_train=40, n_test=10))
def test_grammar(check: Check) -> None:
    check()


@conformance(
    Vanilla(**FROZEN),
    Hybrid(**FROZEN),
    PlusMinus(**FROZEN),
    Pilaf(**FROZEN),
    TPilaf(**FROZEN, prompt_weight=True),
    EstimatedPilaf(**FROZEN),
    BestOfN(**FROZEN),
    Uniform(**FROZEN),
    OptimalDesign(**FROZEN),
    Vanilla(**{**FROZEN, "labels": "argmax"}),
    model=MODEL,
    optimizer=SOLVER,
    without={"splits_are_disjoint"},  # there are 48 pairs
)
def test_schemes(check: Check) -> None:
    check()


@conformance(
    MODEL, task=Vanilla(**FROZEN), optimizer=Sgd(loss="logistic", steps=3, learning_rate=0.1), without=OF_ONE_TYPE
)
def test_implicit_reward(check: Check) -> None:
    check()


@conformance(LogLinearPolicy(init_scale=0.5), task=SOURCE, without=OF_ONE_TYPE)
def test_log_linear_policy(check: Check) -> None:
    check()


@conformance(
    HuggingfaceChat(width=16, heads=2, depth=1), task=Grammar(n_train=40, n_test=10), without={"works_in_float64"}
)  # its dtype is a field
def test_huggingface_chat(check: Check) -> None:
    pytest.importorskip("transformers", reason="the extra kempeframe-pilaf[llm] is not installed")
    check()


@conformance(
    Value(),
    Alignment(),
    Alignment(reward_error=0.1),
    Asymptotics(),
    Frontier(points=5),
    task=Vanilla(**FROZEN),
    model=MODEL,
    optimizer=Untrained(),
    without=OF_ONE_TYPE,
)
def test_evaluators(check: Check) -> None:
    check()


@conformance(
    Cost(),
    task=Vanilla(**FROZEN),
    model=MODEL,
    optimizer=Sgd(loss="logistic", steps=3, batch_size=8, learning_rate=0.1),
    without=OF_ONE_TYPE,
)
def test_cost(check: Check) -> None:
    """What a pair cost on average is known once there are pairs."""
    check()


TESTED = {"HhRlhf", "HumanPairs", "RewardOracle"}  # in test_conversations.py, with files of their own


def test_no_component_is_left_out() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    classes = set(vars(load_plugin("pilaf"))) - TESTED
    assert not {name for name in classes if not re.search(rf"\b{name}\(", here)}
