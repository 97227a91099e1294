"""The list of checks of a component, by name; pytest's parametrisation of them."""

from __future__ import annotations

import traceback
from collections.abc import Collection
from typing import Any

import attrs

from kempeframe.components import Attack, Component, Data, Model, Optimizer
from kempeframe.problems import nearest
from kempeframe.task import Task
from kempeframe.testing import attacks, data, evaluators, every, models, optimizers
from kempeframe.testing.surroundings import Around, CheckFunction, concerns

CHECKS: dict[str, list[CheckFunction]] = {
    "data": data.CHECKS,
    "model": models.CHECKS,
    "optimizer": optimizers.CHECKS,
    "attack": attacks.CHECKS,
    "evaluator": evaluators.CHECKS,
}


class ConformanceError(AssertionError):
    """A component does not do all that its kind has to; the message lists what."""


@attrs.frozen(eq=False)
class Check:
    """One check of one component; call it. It fails with AssertionError, or with what the component raised."""

    name: str
    component: Component
    around: Around
    function: CheckFunction

    def __call__(self) -> None:
        self.function(self.around)

    def __str__(self) -> str:
        return f"{self.component.component_name()}-{self.name}"


def checks_of(component: Component, without: Collection[str] = (), **surroundings: Any) -> list[Check]:
    """The checks that concern a component.

    Args:
        component: what is tried.
        without: names of checks that can't hold for it (`other_seed_other_task` of data that are always the same, say).
        surroundings: `task` (a data component or a task), `model`, `optimizer`, `attack`: what it is tried with; tiny
            ones where they are not given. `norm`: of an attack's ball, where `dual_norm` does not say it.

    Raises:
        ValueError: `without` names a check that there is not.
    """
    around = Around(component, **surroundings)
    functions = {f.__name__: f for f in [*every.CHECKS, *CHECKS[component.kind]]}
    for name in without:
        if name not in functions:
            raise ValueError(f"without: there is no check {name!r}{nearest(name, functions)}")
    return [
        Check(name, component, around, function)
        for name, function in functions.items()
        if name not in without and concerns(function, around)
    ]


def check_component(
    component: Component,
    task: Data | Task | None = None,
    *,
    model: Model | None = None,
    optimizer: Optimizer | None = None,
    attack: Attack | None = None,
    norm: str | None = None,
    without: Collection[str] = (),
) -> None:
    """Run all checks of a component; see `checks_of`.

    Raises:
        ConformanceError: with every check that failed, and why.
    """
    given = dict(task=task, model=model, optimizer=optimizer, attack=attack, norm=norm)
    failed = []
    for check in checks_of(component, without, **given):
        try:
            check()
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            message = str(error) or type(error).__name__
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            failed.append(f"  {check.name}: {kind}{message} ({place.filename.rpartition('/')[2]}:{place.lineno})")
    if failed:
        name = type(component).__name__
        raise ConformanceError(f"{name} fails {len(failed)} of its checks:\n" + "\n".join(failed))


def conformance(*components: Component, without: Collection[str] = (), **surroundings: Any) -> Any:
    """A pytest decorator: the test's argument `check` runs through the checks of the components."""
    import pytest

    checks = [check for component in components for check in checks_of(component, without, **surroundings)]
    return pytest.mark.parametrize("check", checks, ids=str)
