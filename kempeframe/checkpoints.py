"""Where a long fit leaves its state, so that an interrupted one goes on from there."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kempeframe.store import Namespace

SECONDS = 5.0  # between two checkpoints, at least
COST = 0.02  # of the time of a fit, at most


class Checkpoints:
    """The state of one fit, or of one stack of fits. This one keeps nothing."""

    def due(self) -> bool:
        """Whether enough time has passed to save again. Takes well under a microsecond."""
        return False

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep the state in place of the one before: tensors, numbers, texts, in nested tables and lists."""

    def load(self) -> Mapping[str, Any] | None:
        """The state that an interrupted fit left, on the CPU; None where there is none."""
        return None

    def discard(self) -> None:
        """Forget it: the fit is done."""


class StoredCheckpoints(Checkpoints):
    """Kept in the store under the keys of the fits.

    `notes` is what the core itself has to remember besides the optimizer's state.
    """

    def __init__(self, namespace: Namespace, key: str, seconds: float = SECONDS):
        self.namespace, self.key, self.seconds = namespace, key, seconds
        self.next = time.monotonic() + seconds
        self.notes: dict[str, Any] = {}
        self.kept = False  # whether there is one, as far as this process knows

    def due(self) -> bool:
        return time.monotonic() >= self.next

    def save(self, state: Mapping[str, Any]) -> None:
        import torch

        start = time.monotonic()
        buffer = io.BytesIO()
        torch.save({"state": dict(state), "notes": self.notes}, buffer)
        self.namespace.put(self.key, buffer.getvalue())
        self.namespace.flush()
        self.kept = True
        end = time.monotonic()
        self.next = end + max(self.seconds, (end - start) / COST)

    def load(self) -> Mapping[str, Any] | None:
        import torch

        payload = self.namespace.get(self.key)
        if payload is None:
            return None
        found = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        self.kept = True
        self.notes.clear()
        self.notes.update(found["notes"])
        state: Mapping[str, Any] = found["state"]
        return state

    def discard(self) -> None:
        if self.kept:
            self.namespace.remove(self.key)
            self.kept = False
