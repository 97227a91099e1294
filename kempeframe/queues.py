"""The units of a study that are left: which can be computed now, and what becomes of those that hold a failed fit."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kempeframe.plan import Plan, Unit

if TYPE_CHECKING:
    from kempeframe.study import Collector

RETRY_SECONDS = 0.25  # until a unit is tried again that another process holds


class Queue:
    """Units in order; one comes when every fit that its fits hold is done."""

    def __init__(self, plan: Plan, units: Iterable[Unit], collector: Collector):
        self.plan = plan
        self.collector = collector  # knows which fits failed
        self.ready: deque[Unit] = deque()
        self.blocked: dict[str, list[Unit]] = {}  # fit key -> units that wait for it
        self.missing: dict[Unit, set[str]] = {}  # unit -> fits it waits for
        self.held: deque[tuple[float, Unit]] = deque()  # when to try again, units that another process holds
        self.open: set[Unit] = set()  # given out or waiting
        units = list(units)
        computed = {key for unit in units for key in unit.fits}
        for unit in units:
            self.open.add(unit)
            needs = {inner for key in unit.keys for inner in plan.nested.get(key, ()) if inner in computed}
            if needs:
                self.missing[unit] = needs
                for key in needs:
                    self.blocked.setdefault(key, []).append(unit)
            else:
                self.ready.append(unit)

    def __bool__(self) -> bool:
        """Whether anything is not done."""
        return bool(self.open)

    def take(self) -> Unit | None:
        """The next unit that can be computed; None where all wait."""
        if self.held and (self.held[0][0] <= time.monotonic()):
            return self.held.popleft()[1]
        return self.ready.popleft() if self.ready else None

    def put_back(self, unit: Unit) -> None:
        """Its process died, or was stopped: next, please."""
        self.ready.appendleft(unit)

    def later(self, unit: Unit) -> None:
        """Another process holds it: in a while."""
        self.held.append((time.monotonic() + RETRY_SECONDS, unit))

    def split(self, unit: Unit) -> bool:
        """Take its fits one by one instead; those that are only computed together stay so. False where that is all."""

        def part_of(key: str) -> tuple[str, ...]:
            return (key,) if unit.stored else next(self.plan.units({key}, stored=lambda other: True)).fits

        parts = list(dict.fromkeys(map(part_of, unit.fits)))
        if len(parts) < 2:
            return False
        self.open.discard(unit)
        for part in reversed(parts):
            piece = Unit(fits=part, stored=unit.stored)
            self.open.add(piece)
            self.ready.appendleft(piece)
        return True

    def done(self, unit: Unit) -> None:
        """The unit's fits are stored, or failed."""
        self.open.discard(unit)
        for key in unit.fits:
            for waiting in self.blocked.pop(key, []):
                if waiting not in self.missing:
                    continue
                self.missing[waiting].discard(key)
                if not self.missing[waiting]:
                    del self.missing[waiting]
                    self._release(waiting)

    def _release(self, unit: Unit) -> None:
        """A unit whose nested fits are done; what of it needs a failed one fails with that."""
        good = [key for key in unit.keys if not self._fails(key)]
        if len(good) == len(unit.keys):
            self.ready.append(unit)
            return
        self.open.discard(unit)
        if good:
            rest = Unit(theory=tuple(good)) if unit.theory else Unit(fits=tuple(good))
            self.open.add(rest)
            self.ready.append(rest)
        self.done(Unit(fits=tuple(key for key in unit.fits if key not in good)))

    def _fails(self, key: str) -> bool:
        """Whether a fit or a result needs a fit that failed; then its trials are failed."""
        broken = [inner for inner in self.plan.nested.get(key, ()) if inner in self.collector.failed_fits]
        if not broken:
            return False
        name = self.plan.fits[broken[0]][0].stream or "an inline one"
        error = f"the fit it holds, {name}, failed: {self.collector.failed_fits[broken[0]]}"
        rows = self.plan.rows_of(key)
        self.collector.failed(rows, [key] if key in self.plan.fits else [], error, "")
        if key in self.plan.fits:
            self.collector.advance(rows, [])
        return True
