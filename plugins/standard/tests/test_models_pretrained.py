"""Fits that start from fits: copies, frozen parts, new heads, and what of the first fit is asked for again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from kempeframe_standard.data import Digits
from kempeframe_standard.models import Linear, Mlp
from kempeframe_standard.models_images import Cnn
from kempeframe_standard.models_pretrained import Pretrained
from kempeframe_standard.optimizers_gradient import Sgd
from torch import nn

from kempeframe import Data, Fit, component, field
from kempeframe.runs import Run
from kempeframe.task import CannotGive, Examples, Split, Task
from kempeframe.trial import Session

SMALL = Cnn(channels=(3,))


@component
class Counted(Data):
    """Random images; counts how often its training split is drawn."""

    drawn: ClassVar[list[str]] = []
    name: str = field("first", "what the count is under")
    classes: int = field(4, "number of classes")

    def load(self, run: Run) -> Task:
        def train() -> Split:
            self.drawn.append(self.name)
            generator = torch.Generator().manual_seed(0)
            inputs = torch.rand(12, 1, 4, 4, generator=generator)
            return Examples(inputs, torch.arange(12) % self.classes)

        return Task({"train": train}, (1, 4, 4), (self.classes,), classes=self.classes)


def first(steps: int = 3, model: Any = SMALL, **fields: Any) -> Fit:
    return Fit(data=Counted(**fields), model=model, optimizer=Sgd(steps=steps, learning_rate=0.1), stream="first")


def second(steps: int = 2, data: Data | None = None, **fields: Any) -> Fit:
    model = Pretrained(**{"fit": first(), **fields})
    return Fit(data=data or Counted(name="second"), model=model, optimizer=Sgd(steps=steps, learning_rate=0.1))


@pytest.fixture
def built(run: Run) -> Callable[..., nn.Module]:
    def build(data: Data | None = None, **fields: Any) -> nn.Module:
        model = Pretrained(**{"fit": first(), **fields})
        with run.global_seed("model"):
            return model.build((data or Counted()).load(run), run)

    return build


def test_it_starts_where_the_other_fit_ended_and_leaves_that_alone(session: Session, run: Run) -> None:
    start = {name: tensor.clone() for name, tensor in run.fit(first()).network.state_dict().items()}
    end = session.fitted(second(), run).network.state_dict()
    again = run.fit(first()).network.state_dict()
    assert all(torch.equal(start[name], again[name]) for name in start)
    assert not any(torch.equal(start[name], end[name]) for name in start)
    one_step = session.fitted(second(steps=1), run).network
    gradient = (start["head.weight"] - one_step.head.weight) / 0.1
    assert 0 < float(gradient.detach().norm()) < 1


def test_parts_are_frozen_by_the_beginnings_of_their_names(session: Session, run: Run) -> None:
    start = run.fit(first()).network.state_dict()
    frozen = session.fitted(second(freeze=("convolutions.",)), run).network.state_dict()
    alone = session.fitted(second(train_only=("convolutions.",)), run).network.state_dict()
    for name in start:
        inner = name.startswith("convolutions.")
        assert torch.equal(start[name], frozen[name]) == inner
        assert torch.equal(start[name], alone[name]) == (not inner)


def test_what_the_first_fit_froze_is_trained_again_unless_it_is_said(session: Session, run: Run) -> None:
    inner = second(freeze=("head",))
    outer = Fit(data=Counted(), model=Pretrained(fit=inner), optimizer=Sgd(steps=1, learning_rate=0.1), stream="outer")
    assert all(parameter.requires_grad for parameter in session.fitted(outer, run).network.parameters())


def test_a_stored_fit_comes_back_without_any_training_data(session: Session, run: Run) -> None:
    session.fitted(second(), run)
    Counted.drawn.clear()
    other = Session(session.store)
    network = other.fitted(second(), Run(0, other)).network
    assert Counted.drawn == []
    assert torch.equal(network.head.weight, session.fitted(second(), run).network.head.weight)


def test_a_new_head_has_the_outputs_of_the_new_task(built: Callable[..., nn.Module], run: Run) -> None:
    network = built(Counted(classes=7), new_head=True)
    assert network(torch.zeros(2, 1, 4, 4)).shape == (2, 7)
    assert torch.equal(network.convolutions[0][0].weight, run.fit(first()).network.convolutions[0][0].weight)
    perceptron = built(Counted(classes=3), new_head=True, fit=first(model=Mlp(width=5, depth=1)))
    assert perceptron(torch.zeros(2, 1, 4, 4)).shape == (2, 3)
    assert torch.equal(built(Counted(), new_head=True).head.weight, built(Counted(), new_head=True).head.weight)


def test_what_does_not_fit_is_refused(built: Callable[..., nn.Module]) -> None:
    with pytest.raises(CannotGive, match="has 4 outputs, this task needs 7"):
        built(Counted(classes=7))
    with pytest.raises(CannotGive, match=r"begins with 'dense'; there are convolutions\.0\.0\.weight"):
        built(freeze=("dense",))
    with pytest.raises(CannotGive, match="Readout has no last layer"):
        built(fit=first(model=Linear()), new_head=True)
    with pytest.raises(ValueError, match="not both"):
        Pretrained(fit=first(), freeze=("a",), train_only=("b",))


def test_it_takes_the_dtype_of_the_task_and_the_stackability_of_the_model(built: Callable[..., nn.Module]) -> None:
    digits = Fit(data=Digits(), model=Mlp(width=4), optimizer=Sgd(steps=1), stream="digits")
    network = built(Digits(dtype="float64"), fit=digits)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float64}
    assert Pretrained(fit=digits).stackable
    assert not Pretrained(fit=first(model=Cnn(channels=(64, 64)))).stackable
