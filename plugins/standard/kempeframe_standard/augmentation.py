"""Random crops and flips of the images of training batches."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import torch
from torch import Tensor, nn

from kempeframe.runs import Run
from kempeframe.task import Batch, Examples

PADDING = 4  # pixels on each side, before a crop


@attrs.define(eq=False)
class AugmentedExamples(Examples):
    """Images (n, channels, height, width) that every batch shows otherwise; `examples()` gives them as they are.

    Each batch draws from the data stream in turn; a pass that goes on after `start` batches finds the stream as they
    left it.
    """

    crop: bool = False
    flip: bool = False

    def batches_from(self, start: int, network: nn.Module | None, batch_size: int, run: Run) -> Iterator[Batch]:
        batches = super().batches_from(start, network, batch_size, run)
        return (self._changed(batch, run) for batch in batches)

    def _changed(self, batch: Batch, run: Run) -> Batch:
        return attrs.evolve(batch, inputs=augmented(batch.inputs, *self._changes(len(batch.inputs), run)))

    @property
    def form(self) -> tuple[object, ...]:
        return (*super().form, id(self))  # it is trained on alone: a stack would not augment

    def _changes(self, count: int, run: Run) -> tuple[Tensor | None, Tensor | None]:
        generator = run.generator("data")
        shifts = torch.randint(0, 2 * PADDING + 1, (count, 2), generator=generator) if self.crop else None
        flips = torch.rand(count, generator=generator) < 0.5 if self.flip else None
        return shifts, flips


def augmented(images: Tensor, shifts: Tensor | None, flips: Tensor | None) -> Tensor:
    """The images, flipped where `flips` (n,) says, and cut out of their zero-padded selves at `shifts` (n, 2)."""
    if flips is not None:
        images = torch.where(flips[:, None, None, None], images.flip(-1), images)
    if shifts is None:
        return images
    height, width = images.shape[-2:]
    padded = nn.functional.pad(images, (PADDING,) * 4)
    rows = shifts[:, :1] + torch.arange(height)
    columns = shifts[:, 1:] + torch.arange(width)
    index = torch.arange(len(images))[:, None, None]
    # Indexed dimensions come to the front: (n, height, width, channels).
    return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
