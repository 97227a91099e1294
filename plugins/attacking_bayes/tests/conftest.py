"""What the tests share: sessions, small posteriors, tasks with known answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kempeframe_attacking_bayes.models import Bayesian
from kempeframe_attacking_bayes.stacked import PosteriorNetwork
from kempeframe_standard.data import Digits
from kempeframe_standard.models import Mlp
from torch import nn

from kempeframe.checkpoints import Checkpoints
from kempeframe.components import Data, Fit, Model, Optimizer
from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.task import Batch, Examples, Task
from kempeframe.trial import Fitted, Session, fit_stack, pack, restore


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(Store(tmp_path))


@pytest.fixture
def run(session: Session) -> Run:
    return Run(0, session)


def perceptron(inputs: int = 6, hidden: int = 8, outputs: int = 4, dtype: torch.dtype = torch.float64) -> nn.Module:
    layers = [nn.Flatten(), nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs)]
    return nn.Sequential(*layers).to(dtype)


@pytest.fixture
def posterior() -> Callable[..., PosteriorNetwork]:
    """Random samples of a small perceptron."""

    def make(samples: int = 7, scale: float = 1.0, seed: int = 0, dtype: torch.dtype = torch.float64) -> Any:
        generator = torch.Generator().manual_seed(seed)
        network = perceptron(dtype=dtype)
        count = sum(p.numel() for p in network.parameters())
        flat = torch.randn(samples, count, generator=generator, dtype=torch.float64) * scale
        return PosteriorNetwork(network, flat.to(dtype)).eval()

    return make


@pytest.fixture
def batch() -> Callable[..., Batch]:
    """Inputs in [0, 1] with random classes, or with those that a network gives them."""

    def make(n: int = 30, network: nn.Module | None = None, dtype: torch.dtype = torch.float64) -> Batch:
        generator = torch.Generator().manual_seed(1)
        inputs = torch.rand(n, 6, generator=generator, dtype=torch.float64).to(dtype)
        if network is None:
            return Batch(inputs, torch.randint(4, (n,), generator=generator), torch.arange(n))
        with torch.no_grad():
            return Batch(inputs, network(inputs).argmax(dim=1), torch.arange(n))

    return make


@pytest.fixture
def box_task() -> Task:
    return Task({}, (6,), (4,), dtype=torch.float64, classes=4, bounds=(0.0, 1.0))


@pytest.fixture
def regression() -> Callable[[np.ndarray, np.ndarray], Task]:
    """A task of inputs (n, d) and targets (n,)."""

    def make(x: np.ndarray, y: np.ndarray) -> Task:
        examples = Examples(torch.from_numpy(x), torch.from_numpy(y[:, None]))
        splits = {"train": lambda: examples, "test": lambda: examples}
        return Task(splits, (x.shape[1],), (1,), dtype=torch.float64)

    return make


@pytest.fixture
def fitted(session: Session) -> Callable[..., Fitted]:
    """A fit as it comes back from the store."""

    def make(optimizer: Optimizer, model: Model | None = None, data: Data | None = None, seed: int = 0) -> Fitted:
        small = Bayesian(model=Mlp(width=16, depth=1, activation="tanh", weight_scale=1.0))
        fit = Fit(data=data or Digits(n_train=300, n_test=100), model=model or small, optimizer=optimizer)
        for _, snapshot in fit_stack([(fit, seed)], session, Checkpoints()):
            last = snapshot
        return restore(fit, seed, pack(last), session)

    return make
