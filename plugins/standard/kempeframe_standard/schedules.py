"""Learning rates and snapshots along the steps of a fit: numbers alone, no tensors."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

Schedule = Literal["constant", "cosine", "linear", "step", "power"]


def rate_factor(
    schedule: Schedule,
    step: int,
    steps: int,
    warmup: int = 0,
    decay_steps: int | None = None,
    decay_factor: float = 1,
    decay_exponent: float = 0.5,
) -> float:
    """What the learning rate is multiplied by in update `step` of `steps`, counted from 0.

    During warm-up (step + 1) / warmup. After it, with progress p = (step - warmup) / (steps - warmup) in [0, 1):

        constant  1
        cosine    (1 + cos(pi p)) / 2
        linear    1 - p
        step      decay_factor ** floor((step - warmup) / decay_steps)
        power     (step - warmup + 1) ** -decay_exponent
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / (steps - warmup)
    if schedule == "cosine":
        return (1 + math.cos(math.pi * progress)) / 2
    if schedule == "linear":
        return 1 - progress
    if schedule == "step":
        assert decay_steps is not None
        return float(decay_factor ** ((step - warmup) // decay_steps))
    if schedule == "power":
        return float((step - warmup + 1) ** -decay_exponent)
    return 1.0


def spaced(geometric: bool, first: int, last: int, points: int) -> list[int]:
    """Whole numbers from `first` to `last`, evenly spaced or evenly in the logarithm, without repetitions."""
    space = np.geomspace if geometric else np.linspace
    return sorted({round(number) for number in space(first, last, points).tolist()})
