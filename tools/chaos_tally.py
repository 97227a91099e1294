"""What tools/chaos.py did, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import attrs


@attrs.define
class Tally:
    """What was done, and what came of it."""

    kills: Counter[str] = attrs.field(factory=Counter)  # of a parent, a worker, in a write ...
    calls: Counter[str] = attrs.field(factory=Counter)  # in which the processes ended that ended in a write
    damage: Counter[str] = attrs.field(factory=Counter)
    stopped: int = 0  # workers, for longer than their lease
    full: int = 0  # disks
    stores: int = 0
    rows: int = 0  # compared
    lost: int = 0
    wrong: int = 0
    fits: int = 0  # that were needed
    again: int = 0  # fits that were computed more than once, counted as often
    resumed: int = 0
    problems: list[str] = attrs.field(factory=list)

    @property
    def total(self) -> int:
        """All kills."""
        return sum(self.kills.values())

    @property
    def good(self) -> bool:
        """Whether nothing is lost, wrong or left behind."""
        return not (self.lost or self.wrong or self.problems)

    def __str__(self) -> str:
        def several(counts: Mapping[str, int]) -> str:
            return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"

        lines = {
            "kills": f"{self.total}: {several(self.kills)}",
            "ended in": several(self.calls),
            "damage": several(self.damage),
            "workers stopped": self.stopped,
            "disks filled": self.full,
            "stores": self.stores,
            "fits": f"{self.fits} needed, {self.again} computed again, {self.resumed} went on from a checkpoint",
            "rows": f"{self.rows} compared, {self.lost} lost, {self.wrong} wrong",
            "problems": len(self.problems),
        }
        return "\n".join([f"{name:<17}{what}" for name, what in lines.items()] + self.problems)
