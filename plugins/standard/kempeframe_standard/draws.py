"""Random numbers that belong to an example: the same in whatever batch, on whatever device, it comes.

A number is a hash of (seed, example, stream, position), so that any of them is drawn without those before it. The hash
is splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): position j of a row
is output j of a generator whose seed is the hash of the row's name.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kempeframe.runs import Run
from kempeframe.task import Batch

GAMMA = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio, odd
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


class Draws:
    """Random numbers for n examples."""

    def __init__(self, seed: int, index: Tensor):
        """index: (n,) int64, which examples these are."""
        self.index = index
        self.rows = _mixed(index * _signed(GAMMA) + _signed(seed))

    @classmethod
    def of_several(cls, seeds: Tensor, index: Tensor) -> Draws:
        """Of the same examples (n,) under each of these seeds (m,) int64, in turn: m n rows."""
        several = cls.__new__(cls)
        several.index = index.repeat(len(seeds))
        several.rows = _mixed((index * _signed(GAMMA))[None] + seeds[:, None]).flatten()
        return several

    @classmethod
    def of(cls, network: nn.Module, batch: Batch, run: Run) -> Draws:
        """Those of an attack: the same at each call, but new ones at each call while the network is being trained.

        A batch that does not say which examples it holds counts them.
        """
        if network.training:
            seed = int(torch.randint(2**62, (), generator=run.generator("attack")))
        else:
            seed = int(run.rng("attack", "draws").integers(2**62))
        index = batch.index
        if index is None:
            index = torch.arange(len(batch.inputs))
        return cls(seed, index.to(batch.inputs.device))

    def keep(self, rows: Tensor) -> Draws:
        """Those of the examples with these numbers."""
        kept = Draws.__new__(Draws)
        kept.index, kept.rows = self.index[rows], self.rows[rows]
        return kept

    def uniform(self, stream: int, count: int) -> Tensor:
        """(n, count) float64, uniform in the open interval (0, 1)."""
        rows = _mixed(self.rows + _signed((stream + 1) * GAMMA))
        positions = torch.arange(1, count + 1, device=rows.device) * _signed(GAMMA)
        bits = _shifted(_mixed(rows[:, None] + positions), 12)
        return (bits.double() + 0.5).mul_(2.0**-52)


def _mixed(numbers: Tensor) -> Tensor:
    """splitmix64's output function. int64 wraps around as uint64 does."""
    numbers = (numbers ^ _shifted(numbers, 30)).mul_(_signed(MULTIPLIERS[0]))
    numbers = (numbers ^ _shifted(numbers, 27)).mul_(_signed(MULTIPLIERS[1]))
    return numbers ^ _shifted(numbers, 31)


def _shifted(numbers: Tensor, by: int) -> Tensor:
    """To the right, with zeros coming in: torch's >> brings the sign in."""
    return (numbers >> by).bitwise_and_((1 << (64 - by)) - 1)


def _signed(number: int) -> int:
    """The int64 of the same 64 bits."""
    return (number + 2**63) % 2**64 - 2**63
