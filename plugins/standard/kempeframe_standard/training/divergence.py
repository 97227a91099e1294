"""The losses of a fit as it goes, and the end of one that diverges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class DivergedError(RuntimeError):
    """The loss is not finite."""


class Losses:
    """The losses of the last steps, one for each fit.

    They are looked at `together` steps at a time: on a GPU each look waits for all that was asked of it before.
    """

    def __init__(self, together: int):
        self.together = together
        self.waiting: list[Tensor] = []
        self.step = 0
        self.first: list[float] = []  # of the first step
        self.last: list[float] = []  # of the last step that was looked at
        self.finite = 0  # the last step with a finite loss

    def add(self, step: int, losses: Tensor) -> None:
        """Note the losses, (fits,), of a step."""
        if self.together == 1:
            self._see(step, losses.tolist())
            return
        self.step = step
        self.waiting.append(losses)
        if len(self.waiting) >= self.together:
            self.look()

    def look(self) -> list[float]:
        """The losses of the last step; empty where there was none.

        Raises:
            DivergedError: the loss of a step is not finite.
        """
        if self.waiting:
            first, found = self.step - len(self.waiting) + 1, torch.stack(self.waiting)
            self.waiting = []
            for step, losses in enumerate(found.tolist(), start=first):
                self._see(step, losses)
        return self.last

    def _see(self, step: int, losses: list[float]) -> None:
        if not all(map(math.isfinite, losses)):
            fit = next(fit for fit, loss in enumerate(losses) if not math.isfinite(loss))
            raise DivergedError(f"step {step}: the loss is {losses[fit]}{self._before(fit)}")
        self.first = self.first or losses
        self.last, self.finite = losses, step

    def must_have_fallen(self, fits: Sequence[int], learning_rate: float) -> None:
        """Refuse fits whose loss ends above its start.

        Raises:
            DivergedError: one does.
        """
        for fit in fits:
            first, last = self.first[fit], self.last[fit]
            if last > first:
                raise DivergedError(
                    f"step {self.finite}: the loss is {last:g}, above its {first:g} at the start: "
                    f"learning_rate = {learning_rate:g} is too large"
                )

    def _before(self, fit: int) -> str:
        return f"; the last finite loss was {self.last[fit]:g} at step {self.finite}" if self.last else ""

    def keep(self, fits: Sequence[int]) -> None:
        """Go on with these fits alone."""
        self.first = [self.first[fit] for fit in fits]
        self.last = [self.last[fit] for fit in fits]

    def state(self) -> dict[str, Any]:
        """What going on from here needs."""
        return {"last": self.look(), "first": self.first, "finite": self.finite}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.first, self.last, self.finite = list(state["first"]), list(state["last"]), state["finite"]
