"""One network under Accelerate: on all processes of a run, or in mixed precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from kempeframe.components import FitJob
from kempeframe.task import Batch
from kempeframe_standard.training.engines import Engine
from kempeframe_standard.training.passes import changed


class AcceleratedEngine(Engine):
    """Every process draws the same batches and takes its share of each, examples rank, rank + processes, ...

    Gradients are of sum(w l) / sum(w) over the examples of all processes, whatever their shares: none has to be of
    equal size. Without `run.collective` this process computes the fit alone.
    """

    def __init__(self, job: FitJob):
        super().__init__(job)
        if self.settings.regularised:
            name = type(self.settings).__name__
            raise ValueError(f"{name} adds a regulariser to its loss: that goes in one process and full precision")
        if self.settings.mixed_precision == "fp16" and job.run.device == "cpu":  # Accelerate would leave it out
            raise ValueError('mixed_precision = "fp16" needs a GPU; on the CPU there is "bf16"')
        # The settings of Accelerate are the process's. Those of the fit before are forgotten, its processes are not.
        AcceleratorState._reset_state()
        GradientState._reset_state()
        self.accelerator = Accelerator(
            mixed_precision=self.settings.mixed_precision,
            cpu=job.run.device == "cpu",
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
        together = job.run.collective
        self.processes = self.accelerator.num_processes if together else 1
        self.rank = self.accelerator.process_index if together else 0
        if self.processes > 1:
            _refuse_batch_norm(self.network)
        # Accelerate wraps a shell, so that evaluators find the network itself as it was built.
        self.shell = self.accelerator.prepare_model(_Shell(self.network), evaluation_mode=not together)
        self.stepper = self.accelerator.prepare_optimizer(self.torch_optimizer)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.shell(inputs)
        return outputs

    def _prepared(self, group: list[Batch]) -> list[Batch]:
        if self.processes > 1:
            mine = slice(self.rank, None, self.processes)
            group = [changed(batch, lambda tensor: tensor[mine]) for batch in group]
        return super()._prepared(group)

    def _update(self) -> None:
        if self.accelerator.scaler is None:
            self.stepper.step(self.closure)
        else:  # which decides whether there is an update when the gradients are there
            self.closure()
            self.stepper.step()

    def _gradients(self) -> Tensor:
        value = super()._gradients()
        if self.processes == 1 or self.settings.log_domain:
            return value
        reduced: Tensor = self.accelerator.reduce(value, "sum")
        return reduced

    def _over_processes(self, log_sums: Tensor) -> Tensor:
        if self.processes == 1:
            return log_sums
        gathered: Tensor = self.accelerator.gather(log_sums.unsqueeze(0))
        return gathered.logsumexp(dim=0)

    def _gradients_of(self, batch: Batch, last: bool) -> Tensor:
        if last:
            return super()._gradients_of(batch, last)
        with self.accelerator.no_sync(self.shell):
            return super()._gradients_of(batch, last)

    def _backward(self, losses: Tensor, shares: Tensor) -> None:
        # Times the number of processes: their gradients are averaged.
        self.accelerator.backward(losses, gradient=shares * self.processes)

    def _clip(self, norm: float) -> None:
        self.accelerator.clip_grad_norm_(self.parameters, norm)

    def state(self) -> dict[str, Any]:
        scaler = self.accelerator.scaler
        return {**super().state(), "scaler": scaler.state_dict() if scaler else None}

    def resume(self, state: Mapping[str, Any]) -> None:
        super().resume(state)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])


class _Shell(nn.Module):
    """Calls the network."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.network(inputs)
        return outputs


def _refuse_batch_norm(network: nn.Module) -> None:
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"{name or 'the network'} is a {type(module).__name__}: each process would take the statistics of its "
                "share of a batch, and the result would depend on the number of processes; use one process, or a layer "
                "that looks at one example (LayerNorm, GroupNorm)"
            )
