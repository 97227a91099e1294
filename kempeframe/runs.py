"""What a component gets besides its inputs: random streams, device, stored fits. Only the seed is science."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from kempeframe.checkpoints import Checkpoints

if TYPE_CHECKING:
    import torch

    from kempeframe.components import Fit
    from kempeframe.trial import Fitted, Session


def stream_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for a named stream; streams of different names are independent."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class Run:
    """One fit's surroundings.

    Each kind has its own random streams, so that two trials which differ only in the optimizer see the same data.
    `root` is the run of the trial: what a nested fit shares with the trial that holds it (the ground truth, say) is
    drawn from `run.root`, what is its own (the sample) from `run`.
    """

    def __init__(self, seed: int, session: Session, root: Run | None = None):
        self.seed = seed
        self.session = session
        self.root = root or self
        self.checkpoints = Checkpoints()  # keep nothing, unless the session gives others

    @property
    def collective(self) -> bool:
        """Whether all processes of the run compute this fit together, each on its share of every batch."""
        return self.session.collective

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show how a long fit is doing (its training loss, say). Cheap enough for every step."""
        self.session.report(step, metrics)

    @property
    def device(self) -> str:
        """The device that networks and batches are put on."""
        return self.session.device

    def rng(self, kind: str, *names: str | int) -> np.random.Generator:
        """A NumPy generator at the start of the stream (seed, kind, names): the same call gives the same numbers."""
        return np.random.default_rng(stream_seed(self.seed, kind, *names))

    def generator(self, kind: str) -> torch.Generator:
        """The kind's torch generator on the CPU; it goes on where the last call left it."""
        return self._generators(kind)

    @cached_property
    def _generators(self) -> _Generators:
        return _Generators(self.seed)

    @contextlib.contextmanager
    def global_seed(self, kind: str) -> Iterator[None]:
        """Seed torch's global generator from the kind's stream inside the block, and put the old state back after it.

        `nn.Linear` and its like draw their initial weights from the global generator.
        """
        import torch

        # Not torch.manual_seed: for every backend that is not in use it formats the call stack, half a millisecond.
        state = torch.random.get_rng_state()
        seed = stream_seed(self.seed, kind, "global")
        torch.default_generator.manual_seed(seed)
        if self.device.startswith("cuda"):
            torch.cuda.manual_seed_all(seed)
        try:
            yield
        finally:
            torch.random.set_rng_state(state)

    def fit(self, fit: Fit) -> Fitted:
        """The network of a nested fit: from the store, or fitted now and stored."""
        return self.session.fitted(fit, self.root)


class _Generators:
    def __init__(self, seed: int):
        self.seed = seed
        self.made: dict[str, torch.Generator] = {}

    def __call__(self, kind: str) -> torch.Generator:
        import torch

        if kind not in self.made:
            self.made[kind] = torch.Generator().manual_seed(stream_seed(self.seed, kind))
        return self.made[kind]
