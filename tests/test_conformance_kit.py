"""The conformance kit itself: components with one fault each fail the check that is about it, and no other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kempeframe import (
    Attack,
    Batch,
    Data,
    Evaluator,
    Examples,
    Model,
    Optimizer,
    Snapshot,
    Task,
    component,
    field,
)
from kempeframe.components import Component
from kempeframe.runs import Run
from kempeframe.testing import Blobs, ConformanceError, Line, check_component, checks_of
from kempeframe.trial import Fitted


def failing(component: Component, **surroundings: Any) -> set[str]:
    """The names of the checks that fail."""
    found = set()
    for check in checks_of(component, **surroundings):
        try:
            check()
        except Exception:
            found.add(check.name)
    return found


# ---- data ----------------------------------------------------------------------------------------------------------


@component
class Faulty(Data):
    """Data with one fault."""

    fault: str = field(default="", doc="which")

    def load(self, run: Run) -> Task:
        task = Blobs().load(run)
        splits = {name: (lambda name=name: self.spoiled(name, task.split(name), run)) for name in task.splits}
        return Task(splits, (4,), (3,), classes=2 if self.fault == "classes" else 3, bounds=(0.0, 1.0))

    def spoiled(self, name: str, split: Any, run: Run) -> Examples:
        inputs, targets = split.inputs.clone(), split.targets
        if self.fault == "global":
            inputs = torch.rand_like(inputs)
        if self.fault == "constant":
            inputs, targets = torch.linspace(0, 1 - len(name) / 100, inputs.numel()).reshape(inputs.shape), 0 * targets
        if self.fault == "leak" and name == "test":
            inputs[0] = Blobs().load(run).train.examples().inputs[0]
        if self.fault == "box":
            inputs[0] += 2
        if self.fault == "type":
            inputs = inputs.double()
        if self.fault == "order":
            return Disordered(inputs, targets)
        if self.fault == "stream":  # goes on where the last draw left off
            inputs = torch.rand(inputs.shape, generator=run.generator("data"))
        return Examples(inputs, targets)


class Disordered(Examples):
    """Leaves out the last example, and does not go on where it stopped."""

    def batches(self, network: nn.Module | None, batch_size: int, run: Run) -> Iterator[Batch]:
        whole = list(super().batches(network, batch_size, run))
        return iter([*whole[:-1], self._take(torch.arange(1))])


@pytest.mark.parametrize(
    ("fault", "checks"),
    [
        ("", set()),
        ("global", {"same_seed_same_task", "drawn_again_it_is_the_same", "global_generators_are_left_alone"}),
        ("constant", {"other_seed_other_task"}),
        ("leak", {"splits_are_disjoint"}),
        ("box", {"inputs_lie_in_the_box"}),
        ("type", {"shapes_are_as_declared"}),
        ("classes", {"shapes_are_as_declared"}),
        ("order", {"a_pass_has_every_example_once"}),
        ("stream", {"drawn_again_it_is_the_same"}),
    ],
)
def test_faults_of_data(fault: str, checks: set[str]) -> None:
    assert failing(Faulty(fault=fault)) == checks


# ---- models --------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """A linear network with one fault."""

    def __init__(self, fault: str, task: Task):
        super().__init__()
        self.fault = fault
        dtype = torch.float32 if fault == "type" else task.dtype
        self.layer = nn.Linear(task.inputs, task.outputs - (fault == "shape"), dtype=dtype)
        self.unused = nn.Parameter(torch.zeros(1, dtype=task.dtype)) if fault == "unused" else None
        self.hidden = torch.randn(1, dtype=task.dtype) if fault == "hidden" else 0.0

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs.to(self.layer.weight.dtype)) + self.hidden
        return outputs - outputs.mean(dim=0) if self.fault == "batch" else outputs


@component
class FaultyModel(Model):
    """A model with one fault."""

    fault: str = field(default="", doc="which")

    @property
    def stackable(self) -> bool:
        return True

    def build(self, task: Task, run: Run) -> nn.Module:
        if self.fault == "unseeded":
            torch.manual_seed(torch.seed() % 2**31)
        return Net(self.fault, task)


@pytest.mark.parametrize(
    ("fault", "checks"),
    [
        ("", set()),
        ("shape", {"outputs_have_the_tasks_shape"}),
        ("batch", {"examples_are_seen_one_by_one"}),
        ("unused", {"gradients_reach_every_parameter"}),
        ("hidden", {"the_state_is_the_network", "a_stack_is_its_networks"}),
        ("type", {"works_in_float64"}),
        ("unseeded", {"same_seed_same_network"}),
    ],
)
def test_faults_of_models(fault: str, checks: set[str]) -> None:
    assert failing(FaultyModel(fault=fault)) == checks


# ---- optimizers ----------------------------------------------------------------------------------------------------


@component
class FaultyOptimizer(Optimizer):
    """One step of the plainest sort, with one fault."""

    fault: str = field(default="", doc="which")

    def fit(self, network: nn.Module, task: Task, attack: Attack | None, run: Run) -> Iterator[Snapshot]:
        import copy

        trained = network if self.fault == "in place" else copy.deepcopy(network)
        with torch.no_grad():
            for parameter in trained.parameters():
                noise = torch.randn(parameter.shape) if self.fault == "global" else 0.0
                parameter.add_(noise + (float("nan") if self.fault == "nan" else 0.1))
        if self.fault == "unstored":
            trained.register_forward_hook(lambda module, inputs, outputs: outputs + 1)
        certificate: Any = {"residual": "small"} if self.fault == "certificate" else {"residual": 0.0}
        if self.fault == "several":
            yield Snapshot(0, trained, {})
        yield Snapshot(1, trained.eval(), certificate)
        if self.fault == "order":
            yield Snapshot(0, trained, {})

    def fit_many(self, jobs: Any) -> Iterator[tuple[int, Snapshot]]:
        for index, snapshot in super().fit_many(jobs):
            if self.fault == "stack" and index == 1:
                with torch.no_grad():
                    next(snapshot.network.parameters()).add_(1.0)
            yield index, snapshot


@pytest.mark.parametrize(
    ("fault", "checks"),
    [
        ("", set()),
        ("in place", {"the_given_network_is_left_alone"}),
        ("global", {"same_seed_same_fit", "a_stack_is_its_fits", "global_generators_are_left_alone"}),
        ("nan", {"a_stored_fit_is_the_fit", "a_stack_is_its_fits", "works_in_float32", "works_in_float64"}),
        ("unstored", {"a_stored_fit_is_the_fit"}),
        ("certificate", {"snapshots_come_in_order", "a_stored_fit_is_the_fit"}),
        ("order", {"snapshots_come_in_order"}),
        ("several", {"snapshots_come_in_order"}),
        ("stack", {"a_stack_is_its_fits"}),
    ],
)
def test_faults_of_optimizers(fault: str, checks: set[str]) -> None:
    assert failing(FaultyOptimizer(fault=fault)) - {"other_seed_other_fit"} == checks


# ---- attacks -------------------------------------------------------------------------------------------------------


BALL = {"stays_in_the_ball", "works_in_float32", "works_in_float64"}


@component
class Shift(Attack):
    """Moves every input by epsilon along the first coordinate, with one fault."""

    fault: str = field(default="", doc="which")
    epsilon: float = field(default=0.1, doc="radius", ge=0)

    @property
    def size(self) -> float:
        return self.epsilon

    @property
    def dual_norm(self) -> str:
        return "l_1"

    def perturb(self, network: nn.Module, batch: Batch, run: Run) -> Tensor:
        inputs = batch.inputs if self.fault == "in place" else batch.inputs.clone()
        shift = self.epsilon * (2 if self.fault == "ball" else 1)
        moved = inputs[:, 0] + shift if self.fault == "box" else (inputs[:, 0] + shift).clamp(max=1)
        if self.fault == "batch":
            moved = moved * inputs[:, 0].mean()
        if self.fault == "train":
            network.train()
        if self.fault == "gradient":
            network(inputs).sum().backward()
        if self.fault == "zero":
            moved = (inputs[:, 0] + max(shift, 0.01)).clamp(max=1)
        if self.fault == "random":
            moved = inputs[:, 0] * (1 - 0.01 * torch.rand(len(inputs)))
        inputs[:, 0] = moved
        return inputs.double() if self.fault == "type" else inputs


@pytest.mark.parametrize(
    ("fault", "checks"),
    [
        ("", set()),
        ("ball", BALL),
        ("box", {"stays_in_the_box"}),
        ("in place", {"network_and_batch_are_left_alone", "same_seed_same_perturbation", "size_zero_changes_nothing"}),
        ("batch", {"the_batch_does_not_matter", "size_zero_changes_nothing", *BALL}),
        ("train", {"network_and_batch_are_left_alone"}),
        ("gradient", {"network_and_batch_are_left_alone"}),
        ("zero", {"size_zero_changes_nothing"}),
        ("type", {"shape_and_type_are_kept"}),
        (
            "random",
            {
                "same_seed_same_perturbation",
                "the_batch_does_not_matter",
                "size_zero_changes_nothing",
                "global_generators_are_left_alone",
            },
        ),
    ],
)
def test_faults_of_attacks(fault: str, checks: set[str]) -> None:
    found = failing(Shift(fault=fault))
    if fault == "in place":  # whatever else an attack that changes its inputs breaks
        assert "network_and_batch_are_left_alone" in found
    else:
        assert found == checks


# ---- evaluators ----------------------------------------------------------------------------------------------------


@component
class FaultyEvaluator(Evaluator):
    """Mean output on the test split, with one fault."""

    fault: str = field(default="", doc="which")

    def columns(self) -> Mapping[str, str]:
        name = "mean output" if self.fault == "name" else "mean"
        return {name: "" if self.fault == "doc" else "of the outputs"}

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        value = float(fitted.network(fitted.task.test.examples().inputs).mean().detach())
        if self.fault == "random":
            value += float(torch.rand(1))
        if self.fault == "train":
            fitted.network.train()
        if self.fault == "attack" and fitted.attack is not None:
            value += 1
        return {next(iter(self.columns())): float("nan") if self.fault == "nan" else value} | (
            {"more": 1.0} if self.fault == "undeclared" else {}
        )


ALL = {
    "metrics_are_finite_and_declared",
    "same_seed_same_metrics",
    "many_are_each",
    "works_in_float32",
    "works_in_float64",
    "the_attack_is_declared",
}


@pytest.mark.parametrize(
    ("fault", "checks"),
    [
        ("", set()),
        ("name", {"columns_are_named_and_documented"}),
        ("doc", {"columns_are_named_and_documented"}),
        ("nan", {"metrics_are_finite_and_declared", "works_in_float32", "works_in_float64"}),
        ("train", {"the_network_is_left_alone"}),
        ("attack", {"the_attack_is_declared"}),
        ("undeclared", ALL),
        (
            "random",
            {
                "same_seed_same_metrics",
                "many_are_each",
                "global_generators_are_left_alone",
                "the_attack_is_declared",
            },
        ),
    ],
)
def test_faults_of_evaluators(fault: str, checks: set[str]) -> None:
    assert failing(FaultyEvaluator(fault=fault), attack=Shift()) == checks


# ---- the kit -------------------------------------------------------------------------------------------------------


def test_all_failures_are_said_at_once_each_with_its_place() -> None:
    with pytest.raises(ConformanceError, match="FaultyEvaluator fails 3 of its checks") as raised:
        check_component(FaultyEvaluator(fault="nan"))
    assert "metrics_are_finite_and_declared: mean is nan (evaluators.py:" in str(raised.value)


def test_a_component_without_documentation_is_said() -> None:
    @component
    class Bare(Line):
        width: int = field(default=1)

    assert failing(Bare()) >= {"documented"}


def test_a_check_that_there_is_not_can_t_be_left_out() -> None:
    with pytest.raises(ValueError, match="did you mean 'other_seed_other_task'"):
        checks_of(Blobs(), without=["other_seed_other_tasks"])


PLUGIN = '''
"""An optimizer whose digest depends on the order of a set, and whose range is said but not kept."""
import attrs
from kempeframe import Optimizer, Snapshot, component, field, hookimpl

@component
class Odd(Optimizer):
    """Does nothing."""
    rate: float = attrs.field(default=1.0, metadata={"doc": "of steps", "limits": {">": 0}, "unit": ""})

    @property
    def digest(self):
        return str(hash("odd"))

    def fit(self, network, task, attack, run):
        yield Snapshot(0, network)

@hookimpl
def kempeframe_optimizer():
    return [Odd]
'''


def test_faults_that_only_a_plugin_can_have(tmp_path: Path) -> None:
    from kempeframe import load_plugin

    file = tmp_path / "odd_plugin.py"
    file.write_text(PLUGIN, encoding="utf-8")
    found = failing(load_plugin(file).Odd())
    assert found >= {"digest_is_stable_across_processes", "fields_are_validated"}


def test_a_task_can_be_given_as_it_is() -> None:
    task = Task({"test": lambda: Examples(torch.rand(9, 4), torch.zeros(9, dtype=torch.int64))}, (4,), (2,), classes=2)
    check_component(Line(), task)
