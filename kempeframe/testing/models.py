"""What models have to do: networks of the task's shape and type, drawn from the model's stream."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from kempeframe.task import Task
from kempeframe.testing.surroundings import (
    Around,
    CheckFunction,
    close,
    concerning,
    on_cuda,
    outputs_of,
    same,
    some_batch,
    state,
)


def _has_weights(around: Around) -> bool:
    return any(p.requires_grad for p in around.network(around.task()).parameters())


def outputs_have_the_tasks_shape(around: Around) -> None:
    """One example or several: (n, ...) inputs give (n, *output_shape) finite outputs."""
    task = around.task()
    network = around.network(task)
    inputs = _inputs(task, network, around)
    for n in (1, len(inputs)):
        outputs = outputs_of(network, inputs[:n])
        wanted = (n, *task.output_shape)
        assert tuple(outputs.shape) == wanted, f"outputs have shape {tuple(outputs.shape)}, expected {wanted}"
        assert bool(outputs.isfinite().all()), "some outputs are not finite"


def _inputs(task: Task, network: nn.Module, around: Around, device: str = "cpu") -> Tensor:
    return some_batch(task, network, around.run(device=device)).inputs


def same_seed_same_network(around: Around) -> None:
    """Built twice under one seed, weights and buffers are the same."""
    task = around.task()
    first, second = (state(around.network(task)) for _ in range(2))
    assert same(first, second), "two networks of one seed differ: initial weights come from the model's stream"


def other_seed_other_network(around: Around) -> None:
    """Under another seed the weights are others."""
    task = around.task()
    first, second = (state(around.network(task, seed)) for seed in (0, 1))
    assert not same(first, second), "two seeds give the same network"


def examples_are_seen_one_by_one(around: Around) -> None:
    """In evaluation mode the outputs for an example do not depend on the others in its batch."""
    task = around.task()
    network = around.network(task)
    inputs = _inputs(task, network, around)
    whole = outputs_of(network, inputs)
    alone = torch.cat([outputs_of(network, inputs[i : i + 1]) for i in range(len(inputs))])
    close(alone, whole, "outputs of examples alone and in a batch")


@concerning(_has_weights)
def gradients_reach_every_parameter(around: Around) -> None:
    """What is to be trained can be: no parameter that requires a gradient gets none."""
    task = around.task()
    network = around.network(task).train()
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}
    outputs: Tensor = network(_inputs(task, network, around))
    gradients = torch.autograd.grad(outputs.square().sum(), list(named.values()), allow_unused=True)
    left = [name for name, gradient in zip(named, gradients, strict=True) if gradient is None]
    assert not left, f"these parameters have no influence on the outputs: {', '.join(left)}"


def the_state_is_the_network(around: Around) -> None:
    """A network of another seed that is given the state computes the same: nothing of it lies outside `state_dict`."""
    task = around.task()
    network, other = around.network(task, 0), around.network(task, 1)
    other.load_state_dict(state(network))
    inputs = _inputs(task, network, around)
    close(outputs_of(other, inputs), outputs_of(network, inputs), "outputs of a network and of one with its state")


@concerning(lambda around: around.model.stackable)
def a_stack_is_its_networks(around: Around) -> None:
    """`stackable`: networks run as one by torch.func.vmap give what each gives."""
    task = around.task()
    networks = [around.network(task, seed).eval() for seed in (0, 1)]
    inputs = _inputs(task, networks[0], around)
    parameters, buffers = torch.func.stack_module_state(networks)

    def call(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        outputs: Tensor = torch.func.functional_call(networks[0], (parameters, buffers), (inputs,))
        return outputs

    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")  # one by one then: slower, and as right
        stacked = torch.func.vmap(call)(parameters, buffers)
    for network, outputs in zip(networks, stacked, strict=True):
        close(outputs, outputs_of(network, inputs), "outputs of a stack and of its networks")


def _works(around: Around, dtype: str | None, device: str) -> None:
    task = around.task(dtype=dtype)
    network = around.network(task, device=device)
    for name, parameter in network.named_parameters():
        right = not parameter.is_floating_point() or parameter.dtype == task.dtype
        assert right, f"the parameter {name} is {parameter.dtype}, the task {task.dtype}"
    outputs = outputs_of(network, _inputs(task, network, around, device))
    assert bool(outputs.isfinite().all()), "some outputs are not finite"


def works_in_float32(around: Around) -> None:
    """Weights and outputs are in the task's type."""
    _works(around, "float32", "cpu")


def works_in_float64(around: Around) -> None:
    """Weights and outputs are in the task's type."""
    _works(around, "float64", "cpu")


@concerning(on_cuda)
def works_on_cuda(around: Around) -> None:
    """The same on a GPU."""
    _works(around, None, "cuda")


CHECKS: list[CheckFunction] = [
    outputs_have_the_tasks_shape,
    same_seed_same_network,
    other_seed_other_network,
    examples_are_seen_one_by_one,
    gradients_reach_every_parameter,
    the_state_is_the_network,
    a_stack_is_its_networks,
    works_in_float32,
    works_in_float64,
    works_on_cuda,
]
