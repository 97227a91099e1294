"""Batches, pass after pass over a split, and where in them a fit stands."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kempeframe.runs import Run
from kempeframe.task import Batch, CannotGive

Draw = Callable[[int], Iterator[Batch]]  # the batches of a new pass, after its first so many


class Passes:
    """The batches of each step, on the run's device.

    A pass begins when the last one has ended; a stream may never end. The runs are those of the fits that the batches
    are for: their data streams give the order, and belong to what a checkpoint keeps.
    """

    def __init__(self, draw: Draw, runs: Sequence[Run], accumulate: int):
        self.draw, self.accumulate = draw, accumulate
        self.device = torch.device(runs[0].device)
        self.on_cpu = self.device.type == "cpu"
        self.streams = [run.generator("data") for run in runs]
        self.begun = 0  # passes
        self.consumed = 0  # batches of this pass
        self.start = self._states()  # of the streams, at the start of this pass
        self.batches: Iterator[Batch] = iter(())

    def step(self) -> list[Batch]:
        """The batches of the next step: `accumulate` of them, fewer at the end of a pass.

        Raises:
            CannotGive: the split is empty.
        """
        group = self._next()
        if not group:
            self.begun, self.consumed, self.start = self.begun + 1, 0, self._states()
            self.batches = iter(self.draw(0))
            group = self._next()
            if not group:
                raise CannotGive("the training split gave no batch")
        self.consumed += len(group)
        return group if self.on_cpu else [moved(batch, self.device) for batch in group]

    def _next(self) -> list[Batch]:
        if self.accumulate > 1:
            return list(itertools.islice(self.batches, self.accumulate))
        for batch in self.batches:
            return [batch]
        return []

    def state(self) -> dict[str, Any]:
        """Where it stands: tensors and numbers."""
        return {"begun": self.begun, "consumed": self.consumed, "start": self.start, "now": self._states()}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.begun, self.consumed, self.start = state["begun"], state["consumed"], list(state["start"])
        if self.begun:
            self._put(self.start)
            self.batches = iter(self.draw(self.consumed))
        self._put(state["now"])

    def _states(self) -> list[Tensor]:
        return [stream.get_state() for stream in self.streams]

    def _put(self, states: Sequence[Tensor]) -> None:
        for stream, state in zip(self.streams, states, strict=True):
            stream.set_state(state)


def moved(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device."""
    return changed(batch, lambda tensor: tensor.to(device, non_blocking=True))


def changed(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with every tensor of it changed."""

    def each(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else change(tensor)

    inputs = change(batch.inputs)
    return Batch(inputs, each(batch.targets), each(batch.index), each(batch.weights), each(batch.groups))
