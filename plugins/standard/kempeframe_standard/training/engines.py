"""What one step of training computes: here for one network, called directly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from kempeframe.components import FitJob
from kempeframe.task import Batch, CannotGive
from kempeframe_standard.optimizers_gradient import GradientOptimizer
from kempeframe_standard.training.losses import LOG_LOSSES, LOSSES, Loss

EXAMPLES_AT_ONCE = 4096  # of a validation split


class Engine:
    """Takes steps, and gives the outputs and the weights that it has come to.

    Engines of several networks ("fits") have a leading dimension everywhere; `example_dim` is where examples lie.
    """

    example_dim = 0
    rank = 0  # of this process among those that compute the fit; the first one keeps the checkpoints

    def __init__(self, job: FitJob, parameters: Sequence[nn.Parameter] | None = None):
        assert isinstance(job.optimizer, GradientOptimizer)
        self.job, self.settings = job, job.optimizer
        self.network = job.network
        self.parameters = [p for p in parameters or self.network.parameters() if p.requires_grad]
        if not self.parameters:
            raise ValueError("the network has no parameter to train")
        self.torch_optimizer = self._torch_optimizer()
        self.rates = [group["lr"] for group in self.torch_optimizer.param_groups]
        self.plain: Loss = LOSSES[self.settings.loss]
        self.per_example = LOG_LOSSES[self.settings.loss] if self.settings.log_domain else self.plain
        self.group: list[Batch] = []
        self.total: Tensor | int = 0
        self.first: Tensor | None = None
        self.equal_shares: tuple[Any, Tensor] = (None, torch.empty(0))

    def _torch_optimizer(self) -> torch.optim.Optimizer:
        return self.settings.torch_optimizer(self.parameters)

    # ---- a step ----------------------------------------------------------------------------------------------------

    def step(self, group: list[Batch]) -> Tensor:
        """One update on these batches; the loss before it, (fits,), without waiting for the device."""
        self.total = self._total(group)
        self.group = self._prepared(group)
        self.first = None
        self._update()
        return self._loss_before()

    def _prepared(self, group: list[Batch]) -> list[Batch]:
        """The batches as the network gets them."""
        if not self.settings.adversarial:
            return group
        attack = self.job.attack
        if attack is None:
            raise ValueError("adversarial = true: the trial has no [attack] to train against")
        return [attrs.evolve(batch, inputs=attack.perturb(self.network, batch, self.job.run)) for batch in group]

    def _update(self) -> None:
        self.torch_optimizer.step(self.closure)  # type: ignore[arg-type]  # a tensor waits for no device

    def _loss_before(self) -> Tensor:
        if self.first is None:
            raise RuntimeError(f"{type(self.torch_optimizer).__name__}.step did not call its closure")
        return self.first

    def closure(self) -> Tensor:
        """Gradients of the loss over the step's batches, and the loss; some optimizers ask more than once a step."""
        self.torch_optimizer.zero_grad()
        loss = self._gradients()
        if self.settings.regularised:
            loss = loss + self._regulariser_gradients()
        if self.settings.gradient_clipping is not None:
            self._clip(self.settings.gradient_clipping)
        if self.first is None:
            self.first = loss
        return loss

    def _gradients(self) -> Tensor:
        """Gradients of sum(w l) / sum(w), and its value, (fits,).

        The loss is differentiated as it stands, example by example, with w / sum(w) as the incoming gradient: no
        reduction enters the graph.
        """
        if self.settings.log_domain:
            return self._log_gradients()
        value: Tensor | None = None
        for batch in self.group:
            part = self._gradients_of(batch, last=batch is self.group[-1])
            value = part if value is None else value + part
        assert value is not None
        return value.reshape(-1)

    def _regulariser_gradients(self) -> Tensor:
        """Add the gradients of what the optimizer puts beside the loss; its value, (1,)."""
        value = self.settings.regulariser(self.network, self.job.task)
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach().reshape(-1)

    def _log_gradients(self) -> Tensor:
        """Gradients of log(sum(w l) / sum(w)), and its value, (fits,); the losses are log l.

        Example i has the incoming gradient w_i l_i / sum(w l), a softmax: nothing underflows.
        """
        (batch,) = self.group
        losses = self._losses(batch)
        logs = losses.detach() if batch.weights is None else losses.detach() + _weights(batch).log()
        total = self._over_processes(logs.logsumexp(dim=-1))
        self._backward(losses, (logs - total.unsqueeze(-1)).exp())
        count = self.total.log() if isinstance(self.total, Tensor) else math.log(self.total)
        return (total - count).reshape(-1)

    def _over_processes(self, log_sums: Tensor) -> Tensor:
        """The log of the sum of what all processes have."""
        return log_sums

    def _gradients_of(self, batch: Batch, last: bool) -> Tensor:
        """Add one batch's gradients; its part of the loss. `last`: the last batch of the step."""
        losses = self._losses(batch)
        shares = self._shares(batch, losses)
        self._backward(losses, shares)
        part: Tensor = torch.linalg.vecdot(losses.detach(), shares)
        return part

    def _total(self, group: Sequence[Batch]) -> Tensor | int:
        """Sum of the weights of all examples of the step, for each fit."""
        if group[0].weights is None:
            count = 0
            for batch in group:
                count += batch.inputs.shape[self.example_dim]
            return count
        total = torch.stack([_weights(batch).sum(dim=-1) for batch in group]).sum(dim=0)
        return total.clamp_min(torch.finfo(total.dtype).tiny)  # where all weights are 0 the loss is 0

    def _shares(self, batch: Batch, losses: Tensor) -> Tensor:
        """w / sum(w), in the shape of the losses."""
        total = self.total
        if isinstance(total, int):
            key = (losses.shape, total)
            if self.equal_shares[0] != key:
                self.equal_shares = key, torch.full_like(losses, 1 / total, requires_grad=False)
            return self.equal_shares[1]
        return (_weights(batch) / total.unsqueeze(-1)).to(losses)

    def _losses(self, batch: Batch) -> Tensor:
        if batch.targets is None:
            raise CannotGive("gradient descent needs targets; this split's batches have none")
        return self._per_example(self.per_example, self.forward(batch.inputs), batch.targets)

    def _per_example(self, function: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
        return function(outputs, targets)

    def _backward(self, losses: Tensor, shares: Tensor) -> None:
        losses.backward(shares)  # type: ignore[no-untyped-call]

    def _clip(self, norm: float) -> None:
        nn.utils.clip_grad_norm_(self.parameters, norm)

    def forward(self, inputs: Tensor) -> Tensor:
        """The outputs that are trained."""
        outputs: Tensor = self.network(inputs)
        return outputs

    def set_rate(self, factor: float) -> None:
        """Set the learning rate to a multiple of its largest."""
        for group, rate in zip(self.torch_optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    @property
    def rate(self) -> float:
        """The learning rate as it stands."""
        return float(self.torch_optimizer.param_groups[0]["lr"])

    # ---- what it has come to ---------------------------------------------------------------------------------------

    def outputs(self, inputs: Tensor) -> Tensor:
        """Outputs in evaluation mode."""
        outputs: Tensor = self.network(inputs)
        return outputs

    def mean(self, function: Loss, examples: Batch) -> list[float]:
        """A per-example quantity's weighted mean over examples, in evaluation mode, for each fit."""
        assert examples.targets is not None
        self.train(False)
        parts = []
        with torch.no_grad():
            dim = self.example_dim
            pieces = [torch.split(part, EXAMPLES_AT_ONCE, dim) for part in (examples.inputs, examples.targets)]
            for inputs, targets in zip(*pieces, strict=True):
                parts.append(self._per_example(function, self.outputs(inputs), targets))
        self.train(True)
        values = torch.cat(parts, dim=-1).double()
        if examples.weights is None:
            return values.mean(dim=-1).reshape(-1).tolist()
        return ((values * examples.weights).sum(dim=-1) / examples.weights.sum(dim=-1)).reshape(-1).tolist()

    def train(self, mode: bool) -> None:
        """Put the network in training or evaluation mode."""
        self.network.train(mode)

    def weights(self, fit: int) -> dict[str, Tensor]:
        """A copy of one fit's state."""
        return {name: tensor.clone() for name, tensor in self.network.state_dict().items()}

    def install(self, fit: int, network: nn.Module) -> None:
        """Put one fit's weights, as they stand, into its network."""

    def keep(self, fits: Sequence[int]) -> None:
        """Go on with these fits alone."""
        raise NotImplementedError("one fit ends as a whole")

    def close(self) -> None:
        """The last step is done."""
        self.torch_optimizer.zero_grad()

    def state(self) -> dict[str, Any]:
        """What going on from here needs."""
        return {"network": self.network.state_dict(), "optimizer": self.torch_optimizer.state_dict()}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.network.load_state_dict(state["network"])
        self.torch_optimizer.load_state_dict(state["optimizer"])


def _weights(batch: Batch) -> Tensor:
    if batch.weights is None:
        raise CannotGive("some batches of a step have weights, others have none")
    return batch.weights
