"""Many networks of one shape as one: stacked weights, one forward pass, one step of one torch optimizer.

The forward pass is the network's own where its layers take stacked weights (`folds`, see layers.py): attention then has
its fused kernels, and no operation has to know of a rule for many. Else it is torch.func.vmap's.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from kempeframe.components import FitJob
from kempeframe.task import Batch
from kempeframe_standard.training.engines import Engine
from kempeframe_standard.training.losses import Loss
from kempeframe_standard.training.sources import VALIDATION, settings

Tensors = dict[str, Tensor]


class StackEngine(Engine):
    """Fits in front: outputs (fits, n, k), losses (fits, n), weights (fits, ...).

    The losses of all fits are differentiated at once and not averaged over fits, so that each fit's gradient is its
    own; an elementwise optimizer then takes each fit's own step.
    """

    example_dim = 1

    def __init__(self, jobs: Sequence[FitJob]):
        trained, self.fixed = _stacked([job.network for job in jobs])
        self.trained = {name: nn.Parameter(tensor) for name, tensor in trained.items()}
        super().__init__(jobs[0], list(self.trained.values()))
        self.call = vmap(self._alone, randomness="error")
        if jobs[0].run.collective:  # every process computes the stack for itself, the first one keeps it
            from accelerate import PartialState

            self.rank = PartialState().process_index

    def _torch_optimizer(self) -> torch.optim.Optimizer:
        return self.settings.stacked_optimizer(self.parameters)

    def _alone(self, trained: Mapping[str, Tensor], fixed: Tensors, inputs: Tensor) -> Tensor:
        outputs: Tensor = functional_call(self.network, {**trained, **fixed}, (inputs,))
        return outputs

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.call(self.trained, self.fixed, inputs)
        return outputs

    def outputs(self, inputs: Tensor) -> Tensor:
        return self.forward(inputs)

    def _per_example(self, function: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
        return function(outputs.flatten(0, 1), targets.flatten(0, 1)).view(targets.shape[:2])

    def _clip(self, norm: float) -> None:
        """Each fit's gradient to its own norm, by torch's formula."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norms = torch.stack([g.flatten(1).square().sum(dim=1) for g in gradients]).sum(dim=0).sqrt()
        factors = (norm / (norms + 1e-6)).clamp_max(1.0)
        for gradient in gradients:
            gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))

    def weights(self, fit: int) -> Tensors:
        return {name: tensor.detach()[fit].clone() for name, tensor in self.trained.items()}

    def everything(self) -> Tensors:
        """Weights and buffers as they stand, (fits, ...) each."""
        return {**{name: tensor.detach() for name, tensor in self.trained.items()}, **self.fixed}

    def install(self, fit: int, network: nn.Module) -> None:
        network.load_state_dict(self.weights(fit), strict=False)

    def keep(self, fits: Sequence[int]) -> None:
        rows = torch.tensor(fits, device=self.parameters[0].device)
        for parameter in self.parameters:
            state, count = self.torch_optimizer.state.get(parameter, {}), len(parameter)
            for name, value in state.items():
                if isinstance(value, Tensor) and value.dim() and len(value) == count:
                    state[name] = value[rows]
            parameter.grad = None
            parameter.data = parameter.data[rows]
        self.fixed = {name: tensor[rows] for name, tensor in self.fixed.items()}

    def state(self) -> dict[str, Any]:
        trained = {name: tensor.detach() for name, tensor in self.trained.items()}
        return {"trained": trained, "optimizer": self.torch_optimizer.state_dict()}

    def resume(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            for name, tensor in self.trained.items():
                tensor.copy_(state["trained"][name])
        self.torch_optimizer.load_state_dict(state["optimizer"])


class FoldedEngine(StackEngine):
    """The same through a network of layers that take stacked weights; the examples of all fits lie end to end."""

    def __init__(self, jobs: Sequence[FitJob]):
        super().__init__(jobs)
        self.body = copy.deepcopy(self.network)
        self._place()

    def _place(self) -> None:
        """Put the stacked weights into the body."""
        for name in dict(self.network.named_parameters()):
            owner, _, last = name.rpartition(".")
            stacked = self.trained.get(name)
            if stacked is None:
                stacked = nn.Parameter(self.fixed[name], requires_grad=False)
            setattr(self.body.get_submodule(owner), last, stacked)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.body(inputs.flatten(0, 1))
        return outputs.view(*inputs.shape[:2], *outputs.shape[1:])

    def train(self, mode: bool) -> None:
        super().train(mode)
        self.body.train(mode)

    def keep(self, fits: Sequence[int]) -> None:
        super().keep(fits)
        self._place()


def stack_engine(jobs: Sequence[FitJob]) -> StackEngine:
    """The engine of a stack."""
    return FoldedEngine(jobs) if folds(jobs) else StackEngine(jobs)


def folds(jobs: Sequence[FitJob]) -> bool:
    """Whether the networks say that their layers take stacked weights; their buffers must then be the same."""
    first, *others = (job.network for job in jobs)
    if not getattr(first, "folds", False):
        return False
    buffers = dict(first.named_buffers())
    return all(torch.equal(buffers[name], own) for other in others for name, own in other.named_buffers())


def _stacked(networks: Sequence[nn.Module]) -> tuple[Tensors, Tensors]:
    """The weights that are trained, and the frozen ones and buffers, with the networks in front."""
    trained: Tensors = {}
    fixed: Tensors = {}
    parameters = [dict(network.named_parameters()) for network in networks]
    for name, parameter in parameters[0].items():
        into = trained if parameter.requires_grad else fixed
        into[name] = torch.stack([own[name].detach() for own in parameters])
    buffers = [dict(network.named_buffers()) for network in networks]
    for name in buffers[0]:
        fixed[name] = torch.stack([own[name] for own in buffers])
    return trained, fixed


def form(job: FitJob) -> tuple[object, ...] | None:
    """What fits of one stack have in common; None where a fit is none for a stack."""
    optimizer, names = settings(job), ["train"]
    if optimizer.early_stopping is not None:
        names.append(VALIDATION)
    if not optimizer.can_stack:
        return None
    forms = [job.task.split(name).form for name in names]
    if None in forms:
        return None
    network = job.network
    parameters = [(name, p.shape, p.dtype, p.requires_grad) for name, p in network.named_parameters()]
    buffers = [(name, b.shape, b.dtype) for name, b in network.named_buffers()]
    return (optimizer, type(network), repr(network), *parameters, *buffers, *map(repr, forms))


def one_pass_serves(jobs: Sequence[FitJob]) -> bool:
    """Whether the networks' forward pass in training can be one for all.

    It can't where it draws random numbers (dropout: a fit's would depend on who else is in the stack), changes buffers
    (batch norm), or decides by the values it sees. Tried on two examples of two jobs.
    """
    if not any(p.requires_grad for p in jobs[0].network.parameters()):
        return False
    if folds(jobs):
        return True
    engine = StackEngine(jobs[:2])
    engine.train(True)
    before = {name: tensor.clone() for name, tensor in engine.fixed.items()}
    inputs = torch.stack([_two_examples(job).inputs for job in jobs[:2]])
    try:
        with torch.no_grad():
            engine.forward(inputs.to(engine.parameters[0].device))
    except Exception:  # of whatever kind: the network is then trained alone, and says itself what is wrong
        return False
    return all(torch.equal(tensor, before[name]) for name, tensor in engine.fixed.items())


def _two_examples(job: FitJob) -> Batch:
    """Of the training split; the fit's random streams and the network's buffers stay as they are."""
    stream = job.run.generator("data")
    position, buffers = stream.get_state(), [(buffer, buffer.clone()) for buffer in job.network.buffers()]
    batch = next(iter(job.task.train.batches(job.network, 2, job.run)))
    stream.set_state(position)
    for buffer, before in buffers:
        buffer.copy_(before)
    return batch
