"""What the tests of training share: small tasks and networks with known answers, and checkpoints in memory."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from kempeframe.checkpoints import Checkpoints
from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.task import Examples, Task
from kempeframe.trial import Session


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(Store(tmp_path))


@pytest.fixture
def run(session: Session) -> Run:
    return Run(0, session)


def classification_task(
    n: int = 40, inputs: int = 5, classes: int = 3, seed: int = 0, dtype: str = "float64", weights: bool = False
) -> Task:
    """Random inputs with classes by a random linear rule, and a validation split."""
    rng = np.random.default_rng(seed)
    rule, kind = rng.standard_normal((inputs, classes)), getattr(torch, dtype)

    def split(count: int) -> Examples:
        x = rng.standard_normal((count, inputs))
        y = (x @ rule + 0.5 * rng.standard_normal((count, classes))).argmax(axis=1)
        given = torch.tensor(rng.random(count), dtype=kind) if weights else None
        return Examples(torch.tensor(x, dtype=kind), torch.tensor(y), given)

    parts = {"train": split(n), "validation": split(30), "test": split(30)}
    splits = {name: lambda part=part: part for name, part in parts.items()}
    return Task(splits, (inputs,), (classes,), dtype=kind, classes=classes)


def perceptron_network(
    inputs: int = 5, outputs: int = 3, seed: int = 0, dtype: str = "float64", dropout: float = 0
) -> nn.Module:
    """A small network of two layers."""
    torch.manual_seed(seed)
    hidden = [nn.Linear(inputs, 7), nn.Tanh(), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*hidden, nn.Linear(7, outputs)).to(getattr(torch, dtype))


@pytest.fixture
def classification() -> Callable[..., Task]:
    return classification_task


@pytest.fixture
def perceptron() -> Callable[..., nn.Module]:
    return perceptron_network


class Interrupted(Exception):
    """The fit was killed."""


class Memory(Checkpoints):
    """Checkpoints in memory; ends the fit at its so-and-so-manieth question whether one is due, after saving it."""

    def __init__(self, interrupt: int | None = None, keep: int | None = None):
        self.interrupt, self.keep = interrupt, interrupt if keep is None else keep
        self.asked = 0
        self.payload: bytes | None = None

    def due(self) -> bool:
        self.asked += 1
        if self.interrupt is not None and self.asked > self.interrupt:
            raise Interrupted
        return self.asked == self.keep

    def save(self, state: Mapping[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        self.payload = buffer.getvalue()

    def load(self) -> Mapping[str, Any] | None:
        if self.payload is None:
            return None
        found: Mapping[str, Any] = torch.load(io.BytesIO(self.payload), weights_only=True)
        return found

    def again(self) -> Memory:
        """The same store in the next process."""
        other = Memory()
        other.payload = copy.copy(self.payload)
        return other


@pytest.fixture
def memory() -> type[Memory]:
    return Memory


@pytest.fixture
def interrupted() -> type[Interrupted]:
    return Interrupted
