"""The five kinds of component, and the fit that holds one of each.

A component is a frozen attrs class: its fields are what a spec may set, its methods are what it does. Nothing here
imports torch, so that a study which is stored already is shown without paying for that import.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, dataclass_transform

import attrs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kempeframe.runs import Run
    from kempeframe.task import Batch, Snapshot, Task
    from kempeframe.trial import Fitted

C = TypeVar("C", bound=type)
Needs = Literal["components", "task", "network", "trajectory"]
Measured = float | Sequence[float]


def field(
    default: Any = attrs.NOTHING,
    doc: str = "",
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    unit: str = "",
) -> Any:
    """Declare a field of a component: its default (none: a spec must give it), one line of documentation, its range.

    `ge`, `gt`, `le`, `lt` bound a number, or every number of a list. Choices are spelled as a `Literal` type.
    """
    limits = {">=": ge, ">": gt, "<=": le, "<": lt}
    limits = {sign: bound for sign, bound in limits.items() if bound is not None}
    metadata = {"doc": doc, "limits": limits, "unit": unit}
    return attrs.field(default=default, metadata=metadata, validator=_in_range if limits else None)


def range_text(limits: Mapping[str, float]) -> str:
    """`>= 0 and < 1`, as messages and help show it."""
    return " and ".join(f"{sign} {bound:g}" for sign, bound in limits.items())


def _in_range(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    limits = attribute.metadata["limits"]
    for number in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(number, (int, float)) and not _within(number, limits):
            raise ValueError(f"{attribute.name} = {number!r}: expected a value {range_text(limits)}")


def _within(number: float, limits: Mapping[str, float]) -> bool:
    tests: dict[str, Callable[[float, float], bool]] = {
        ">=": lambda a, b: a >= b,
        ">": lambda a, b: a > b,
        "<=": lambda a, b: a <= b,
        "<": lambda a, b: a < b,
    }
    return not math.isnan(number) and all(tests[sign](number, bound) for sign, bound in limits.items())


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field, attrs.field))
def component(cls: C) -> C:
    """Make a class a component: frozen, keyword-only fields. Its name in specs is its class name in snake_case."""
    return attrs.frozen(cls, kw_only=True, slots=False)


def fields_of(cls: type) -> tuple[attrs.Attribute[Any], ...]:
    """The fields of a component class, or of any attrs class."""
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(cls)
    return fields


def snake_case(name: str) -> str:
    """`GaussianMixture` -> `gaussian_mixture`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class Component:
    """What the five kinds share.

    `version` enters the digest: raise it when the same fields come to mean something else.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1

    @classmethod
    def component_name(cls) -> str:
        """The name under which a spec's `use` finds it, without the plugin."""
        return snake_case(cls.__name__)

    @cached_property
    def digest(self) -> str:
        """32 hex digits that stand for the component, its version and every field; the same on every machine."""
        from kempeframe.digest import digest_of

        return digest_of(self)

    def check_with(self, fit: Fit) -> None:
        """Whether it can be used with the fit's other components; asked of every trial before anything runs.

        What only the task or the network shows is said by `kempeframe.task.CannotGive`, when it shows.

        Raises:
            ValueError: it can't; the message says what was expected.
        """


class NoTheory(Exception):
    """An evaluator's equations do not cover these components. Its columns stay empty; the trial does not fail."""


class Data(Component):
    """Loads a task: train, validation and test splits, and, where there is one, the ground truth."""

    kind: ClassVar[str] = "data"

    def load(self, run: Run) -> Task:
        """Draw or read the task. Randomness comes from `run.rng("data", ...)` alone."""
        raise NotImplementedError


class Model(Component):
    """Builds a network for a task.

    `stackable` says that many networks of this model train faster as one stack (`torch.func.vmap`, or layers that take
    stacked weights) than one by one: they are small, and no layer looks at the whole batch.
    """

    kind: ClassVar[str] = "model"

    @property
    def stackable(self) -> bool:
        """Whether optimizers should train many of its networks as one stack."""
        return False

    @property
    def seeds_together(self) -> int:
        """Of how many seeds the fits make a unit where optimizers train stacks: few where a small stack is as fast."""
        return 16

    def build(self, task: Task, run: Run) -> nn.Module:
        """A new network in the task's dtype, initialised from the model's random stream."""
        raise NotImplementedError


class Optimizer(Component):
    """Trains, solves or samples: turns a fresh network into a fitted one.

    `together` names what may differ between fits that are always computed as one unit, all that the spec has of them
    ("seed", "data" or a field of the optimizer; seeds in blocks of `seeds_together`); `stack_over` names what else may
    differ within one stack ("seed", "data") without changing any fit's result. `distributed` says that one fit uses all
    processes of a run with several; the fits of other optimizers are dealt out among them.
    """

    kind: ClassVar[str] = "optimizer"
    uses_attack: ClassVar[bool] = False
    together: ClassVar[tuple[str, ...]] = ()
    stack_over: ClassVar[tuple[str, ...]] = ()
    distributed: ClassVar[bool] = False
    in_place: ClassVar[bool] = False  # it trains the network that it is given; others leave that as it was
    trajectory: ClassVar[bool] = False  # it yields more than the last snapshot: each is evaluated as it comes

    @property
    def needs_attack(self) -> bool:
        """Whether it can't do without the trial's attack."""
        return False

    def unit(self, model: Model) -> tuple[str, ...]:
        """`together`, for networks of this model."""
        return self.together

    def seeds_together(self, model: Model) -> int:
        """Seeds in a block of `together`; and so many fits stay one stack though several processes share the work."""
        return 16

    def fit(self, network: nn.Module, task: Task, attack: Attack | None, run: Run) -> Iterator[Snapshot]:
        """Yield snapshots; the last one is the fit.

        A long fit saves its state to `run.checkpoints` whenever that is due, and starts from what it finds there.
        """
        raise NotImplementedError

    def fit_many(self, jobs: Sequence[FitJob]) -> Iterator[tuple[int, Snapshot]]:
        """Fit a stack; yields (index of the job, snapshot). A loop unless an optimizer knows better.

        The stack has one place for its state, `jobs[0].run.checkpoints`; fits that know nothing of each other can't
        share it, so that the loop keeps none where it has several.
        """
        from kempeframe.checkpoints import Checkpoints

        for index, job in enumerate(jobs):
            if len(jobs) > 1:
                job.run.checkpoints = Checkpoints()
            for snapshot in job.optimizer.fit(job.network, job.task, job.attack, job.run):
                yield index, snapshot

    def restore(self, network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
        """Put stored weights into a freshly built network."""
        network.load_state_dict(dict(state))
        return network


class Attack(Component):
    """Perturbs inputs inside a threat model: within `size` of the clean input in some norm, and in the task's box.

    An attack is used bound: `attack.bind(task, run).perturb(network, batch, run)`.
    """

    kind: ClassVar[str] = "attack"

    @property
    def size(self) -> float | None:
        """Radius of the threat model's ball; once bound, with all resolved that depends on the drawn data."""
        return None

    @property
    def dual_norm(self) -> str | None:
        """The norm by which the ball lowers a linear network's margin: min y w(x + s) = y w x - size |w|_dual.

        For exact solvers and theory. None where the attack is not the worst case of a linear network without a box.
        """
        return None

    def bind(self, task: Task, run: Run) -> Attack:
        """The attack as it is used on a task: with its box, and with every size that depends on the drawn data."""
        return self

    def perturb(self, network: nn.Module, batch: Batch, run: Run) -> Tensor:
        """Perturbed inputs of the batch, same shape and dtype.

        A network in training mode (`network.training`) is being trained against the attack.
        """
        raise NotImplementedError


class Evaluator(Component):
    """Measures a fitted network, or solves a paper's equations for its components (then it is theory).

    `needs` says what it looks at: "components" (theory: neither network nor seed), "task" (theory on the drawn data),
    "network", or "trajectory": it holds another evaluator, `measured`, and reduces what that one found at all snapshots
    of the fit (`fitted.history`) to numbers.
    """

    kind: ClassVar[str] = "evaluator"
    needs: ClassVar[Needs] = "network"
    uses_attack: ClassVar[bool] = False

    @property
    def needs_attack(self) -> bool:
        """Whether it can't do without the trial's attack."""
        return False

    @property
    def is_theory(self) -> bool:
        """Whether it looks at no network."""
        return self.needs in ("components", "task")

    @property
    def measured(self) -> Evaluator:
        """What is evaluated at each snapshot: itself, or the evaluator that one of a trajectory holds."""
        return self

    def columns(self) -> Mapping[str, str]:
        """What `evaluate` returns: metric -> one line of documentation; known before anything runs."""
        raise NotImplementedError

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        """The metrics of one snapshot: numbers, or lists of numbers, which figures draw as curves."""
        raise NotImplementedError

    def evaluate_many(self, fits: Sequence[Fitted], runs: Sequence[Run]) -> Sequence[Mapping[str, Measured]]:
        """The metrics of many at once. A loop unless an evaluator knows better."""
        return [self.evaluate(fitted, run) for fitted, run in zip(fits, runs, strict=True)]


KINDS: dict[str, type[Component]] = {
    "data": Data,
    "model": Model,
    "optimizer": Optimizer,
    "attack": Attack,
    "evaluator": Evaluator,
}


@attrs.frozen(kw_only=True, slots=False)
class Fit:
    """(data, model, optimizer, attack) and the rule that gives its seed: what a network comes of.

    A component may hold a fit as a field: that is how stages nest. `stream` names the fit within its trial, so that its
    seed derives from the trial's seed and that name; `seed` fixes it for all trial seeds.
    """

    data: Data
    model: Model
    optimizer: Optimizer
    attack: Attack | None = None
    seed: int | None = None
    stream: str = ""

    @cached_property
    def digest(self) -> str:
        """Stands for the components and the seed rule; the attack enters only where the optimizer trains against it."""
        from kempeframe.digest import digest_of

        return digest_of(self)

    @property
    def training_attack(self) -> Attack | None:
        """The attack the optimizer trains against, if it does."""
        return self.attack if self.optimizer.uses_attack else None


@attrs.define
class FitJob:
    """One fit of a stack, ready to be computed."""

    optimizer: Optimizer
    network: nn.Module
    task: Task
    attack: Attack | None
    run: Run
    fit: Fit | None = None  # what it is a job of
