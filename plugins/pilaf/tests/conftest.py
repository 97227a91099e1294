"""Small fits that tests share: a reference and an over-trained policy of the tiny language, and bandits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kempeframe_pilaf.data import Bandit, Grammar
from kempeframe_pilaf.data_pairs import Preferences, Vanilla
from kempeframe_pilaf.models import ImplicitReward, LogLinearPolicy
from kempeframe_standard.models_text import Decoder
from kempeframe_standard.optimizers import Untrained
from kempeframe_standard.optimizers_gradient import Adamw, Sgd

from kempeframe import Fit
from kempeframe.registry import Registry
from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.trial import Session


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all tests: each fit is computed once."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def session(folder: Path) -> Session:
    for plugin in ("standard", "pilaf"):  # names of components are those of their plugins
        Registry().load(plugin)
    return Session(Store(folder))


@pytest.fixture
def run(session: Session) -> Run:
    return Run(0, session)


GRAMMAR = Grammar(n_train=400, n_test=50)


@pytest.fixture
def sft() -> Fit:
    """A reference that has learned a little."""
    optimizer = Adamw(steps=40, learning_rate=3e-3, batch_size=64)
    return Fit(data=GRAMMAR, model=Decoder(width=32, heads=2), optimizer=optimizer, seed=0, stream="sft")


@pytest.fixture
def trained(sft: Fit) -> Fit:
    """A policy away from that reference."""
    data = Vanilla(source=GRAMMAR, reference=sft, policy=sft, n_pairs=64)
    optimizer = Adamw(loss="logistic", epochs=10, learning_rate=3e-3, batch_size=32)
    return Fit(data=data, model=ImplicitReward(reference=sft, beta=0.5), optimizer=optimizer, seed=0, stream="trained")


def bandit_fit(scheme: type[Preferences], settings: dict[str, Any], init_scale: float = 0.7, **fields: Any) -> Fit:
    """An untrained policy on a bandit, and a scheme."""
    source = Bandit(n_prompts=3, n_responses=5, n_features=4, beta=0.7, **fields)
    model = ImplicitReward(policy=LogLinearPolicy(init_scale=init_scale), beta=0.7)
    return Fit(data=scheme(source=source, **settings), model=model, optimizer=Untrained())


@pytest.fixture
def bandit() -> Callable[..., Fit]:
    return bandit_fit


def online_sgd(steps: int = 20, **settings: Any) -> Sgd:
    return Sgd(loss="logistic", learning_rate=0.5, steps=steps, batch_size=8, **settings)


@pytest.fixture
def online() -> Callable[..., Sgd]:
    return online_sgd


class FixedLogits(torch.nn.Module):
    """The same next-token logits everywhere; counts the rows that it is asked for."""

    def __init__(self, logits: list[float]):
        super().__init__()
        self.logits, self.rows = torch.tensor(logits), 0

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(*tokens.shape, -1)

    def begin(self, prompts: torch.Tensor, lengths: torch.Tensor, capacity: int) -> tuple[torch.Tensor, None]:
        self.rows += len(prompts)
        return self.logits.expand(len(prompts), -1), None

    def advance(self, tokens: torch.Tensor, cache: None) -> torch.Tensor:
        self.rows += len(tokens)
        return self.logits.expand(len(tokens), -1)


@pytest.fixture
def fixed_logits() -> type[FixedLogits]:
    return FixedLogits
