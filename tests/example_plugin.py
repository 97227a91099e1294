"""A plugin of one file with tiny components of all five kinds, whose fields have every type that a field may have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

from kempeframe import Attack, Data, Evaluator, Fit, Model, Optimizer, component, field, hookimpl
from kempeframe.components import Needs


@component
class Toy(Data):
    """Data with a field of every plain type."""

    size: int = field(10, "number of examples", ge=1, le=1000)
    noise: float = field(0.1, "noise level", ge=0)
    limit: float = field(math.inf, "largest value")
    shape: Literal["round", "square"] = field("round", "form of the cloud")
    shift: Literal["none"] | int = field("none", "no shift, or by how much", ge=0)
    weights: tuple[float, ...] = field((), "weights of the classes", ge=0)
    box: tuple[float, float] = field((0.0, 1.0), "lowest and highest value")
    label: str | None = field(None, "a name")
    balanced: bool = field(True, "as many of each class")

    def __attrs_post_init__(self) -> None:
        if self.weights and len(self.weights) > self.size:
            raise ValueError(f"{len(self.weights)} weights for size = {self.size}")


@component
class Sized(Data):
    """Data of another sort: its one field is required, and no default of another's."""

    count: int = field(doc="number of examples", ge=1)
    noise: float = field(0.0, "noise level", ge=0)


@component
class Staged(Data):
    """Data that holds a fit, a model and an evaluator."""

    teacher: Fit | None = field(None, "labels the examples")
    probe: Model | None = field(None, "looks at the examples")
    score: Evaluator | None = field(None, "scores the examples")
    size: int = field(10, "number of examples", ge=1)


@component
class Odd(Data):
    """Data whose own check fails in ways that no component should."""

    how: Literal["fine", "lookup", "exit", "silent", "clash", "sulk", "stumble"] = field("fine", "how it fails")

    def __attrs_post_init__(self) -> None:
        if self.how == "lookup":
            raise KeyError("nothing there")
        if self.how == "exit":
            raise SystemExit(7)
        if self.how == "silent":
            raise ValueError

    def check_with(self, fit: Fit) -> None:
        if self.how == "clash":
            raise ValueError(f"odd data do not go with {fit.model.component_name()} models")
        if self.how == "sulk":
            raise ValueError
        if self.how == "stumble":
            raise LookupError("nowhere")


@component
class Plain(Model):
    """A model without fields."""


@component
class Wide(Model):
    """A model with a width."""

    width: int = field(8, "hidden units", ge=1)


@component
class Step(Optimizer):
    """An optimizer that steps."""

    uses_attack: ClassVar[bool] = True

    rate: float = field(0.1, "learning rate", gt=0, lt=10)
    steps: int = field(100, "number of steps", ge=0)
    schedule: tuple[int, ...] = field((), "steps at which the rate drops", ge=0)


@component
class Push(Attack):
    """An attack."""

    epsilon: float = field(0.1, "radius", ge=0)


@component
class Error(Evaluator):
    """Measures a network."""

    split: Literal["test", "train"] = field("test", "which examples")

    def columns(self) -> Mapping[str, str]:
        return {"risk": "share of wrong answers", "loss": "mean loss"}


@component
class Theory(Evaluator):
    """Solves equations."""

    needs: ClassVar[Needs] = "components"

    order: int = field(2, "terms kept", ge=1)

    def columns(self) -> Mapping[str, str]:
        return {"risk": "predicted share", **{f"term_{i}": f"term {i}" for i in range(self.order)}}


@component
class Oracle(Evaluator):
    """Theory on the drawn data."""

    needs: ClassVar[Needs] = "task"

    def columns(self) -> Mapping[str, str]:
        return {"floor": "lowest error that there is"}


@component
class Fussy(Evaluator):
    """Measures wide networks alone."""

    def check_with(self, fit: Fit) -> None:
        if not isinstance(fit.model, Wide):
            raise ValueError(f"fussy does not measure {fit.model.component_name()} models")

    def columns(self) -> Mapping[str, str]:
        return {"taste": "of the network"}


@component
class Last(Evaluator):
    """The last of what another evaluator measured."""

    needs: ClassVar[Needs] = "trajectory"

    of: Evaluator = field(doc="what is measured")

    @property
    def measured(self) -> Evaluator:
        return self.of

    def columns(self) -> Mapping[str, str]:
        return {"last": "its last value"}


@hookimpl
def kempeframe_data() -> list[type[Data]]:
    return [Toy, Sized, Staged, Odd]


@hookimpl
def kempeframe_model() -> list[type[Model]]:
    return [Plain, Wide]


@hookimpl
def kempeframe_optimizer() -> list[type[Optimizer]]:
    return [Step]


@hookimpl
def kempeframe_attack() -> list[type[Attack]]:
    return [Push]


@hookimpl
def kempeframe_evaluator() -> list[type[Evaluator]]:
    return [Error, Theory, Oracle, Fussy, Last]
