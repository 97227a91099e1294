"""Claims: statements of a paper as typed checks, decided by 95 % confidence intervals over seeds."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs
import numpy as np

from kempeframe.components import field
from kempeframe.contrasts import Contrast, Undecidable, column, pooled
from kempeframe.intervals import Interval, Region
from kempeframe.kinds_of_claim import (
    KINDS_OF_CLAIM,
    Agreement,
    Difference,
    Location,
    Monotone,
    Order,
    Ratio,
    Slope,
    Threshold,
)
from kempeframe.table import Table, matches

Decision = Literal["holds", "fails", "undecided", "not comparable"]


@attrs.frozen(kw_only=True)
class Comparable:
    """What must be equal for a comparison to mean anything."""

    of: str = field(doc="column that must agree, say train_accuracy")
    within: float = field(doc="largest allowed difference between the means of its configurations", ge=0)


@attrs.frozen(kw_only=True)
class Claim:
    """A statement, the rows it is about, and the region its quantity must lie in."""

    statement: str = field(doc="the paper's statement in words")
    source: str = field("", "where the paper says it")
    slope: Slope | None = None
    order: Order | None = None
    ratio: Ratio | None = None
    difference: Difference | None = None
    agreement: Agreement | None = None
    threshold: Threshold | None = None
    monotone: Monotone | None = None
    location: Location | None = None
    above: float | None = field(None, "the quantity is above this")
    below: float | None = field(None, "the quantity is below this")
    within: tuple[float, float] | None = field(None, "the quantity lies between these")
    statistic: Literal["mean", "median"] = field("mean", "what is taken over seeds")
    across: Literal["each", "mean"] = field(
        "each", "free axes: the claim must hold in each configuration, or for the mean over them"
    )
    comparable: Comparable | None = None
    expect: Literal["holds", "fails", "undecided"] = field("holds", "the verdict that --strict expects")

    def __attrs_post_init__(self) -> None:
        kinds = [name for name in KINDS_OF_CLAIM if getattr(self, name) is not None]
        if len(kinds) != 1:
            found = f", got {' and '.join(kinds)}" if kinds else ""
            raise ValueError(f"expected exactly one of {', '.join(KINDS_OF_CLAIM)}{found}")
        self.check.validate(self.given_region)

    @property
    def kind(self) -> str:
        """Which of the eight kinds it is."""
        return next(name for name in KINDS_OF_CLAIM if getattr(self, name) is not None)

    @property
    def check(self) -> Any:
        """The typed check itself."""
        return getattr(self, self.kind)

    @property
    def given_region(self) -> Region | None:
        """The region of `above`, `below`, `within`; None where none is given.

        Raises:
            ValueError: it is empty.
        """
        low = max(v for v in (self.above, self.within and self.within[0], -math.inf) if v is not None)
        high = min(v for v in (self.below, self.within and self.within[1], math.inf) if v is not None)
        if low >= high:
            raise ValueError(f"the region from {low:g} to {high:g} is empty")
        return None if low == -math.inf and high == math.inf else Region(low, high)

    def columns(self) -> list[str]:
        """Every column it names."""
        extra = [self.comparable.of] if self.comparable else []
        return [*self.check.columns(), *self.check.where, *extra]

    def selections(self) -> list[tuple[str, Any]]:
        """Every (column, wanted value) by which it selects rows."""
        sides = [getattr(self.check, side) or {} for side in self.check.sides]
        sides += getattr(self.check, "minus", None) or [] if self.kind == "difference" else []
        return [pair for side in (self.check.where, *sides) for pair in side.items()]


@attrs.frozen(kw_only=True)
class Part:
    """The decision in one configuration."""

    label: str
    interval: Interval
    region: Region
    decision: Decision


@attrs.frozen(kw_only=True)
class Verdict:
    """What a study says about a claim."""

    claim: Claim
    decision: Decision
    reason: str = ""
    parts: tuple[Part, ...] = ()
    seeds_needed: int | None = None

    @property
    def expected(self) -> bool:
        """Whether it is what the claim expects."""
        return self.decision == self.claim.expect

    @property
    def decisive(self) -> Part | None:
        """The part that a reader should see: the one farthest from what the claim wants."""
        return decisive(self.parts)

    def as_json(self) -> dict[str, Any]:
        """For `claims.json`."""
        return {
            "statement": self.claim.statement,
            "source": self.claim.source,
            "kind": self.claim.kind,
            "verdict": self.decision,
            "expected": self.claim.expect,
            "reason": self.reason,
            "seeds_needed": self.seeds_needed,
            "parts": [
                {
                    "configuration": part.label,
                    "estimate": part.interval.estimate,
                    "interval": [part.interval.low, part.interval.high],
                    "seeds": part.interval.n,
                    "method": part.interval.method,
                    "region": [part.region.low, part.region.high],
                    "verdict": part.decision,
                }
                for part in self.parts
            ],
        }


class Verdicts(list[Verdict]):
    """The verdicts of a study, in the order of its claims."""

    def _repr_html_(self) -> str:
        from kempeframe.notebook import verdicts_html

        return verdicts_html(self)


def decisive(parts: Sequence[Part]) -> Part | None:
    """The part that a reader should see: the one farthest from what the claim wants; None of no parts."""
    return min(parts, key=_room, default=None)


def _room(part: Part) -> tuple[int, float]:
    rank = {"fails": 0, "not comparable": 1, "undecided": 2, "holds": 3}[part.decision]
    edges = [part.interval.low - part.region.low, part.region.high - part.interval.high]
    scale = abs(part.interval.high - part.interval.low) or 1.0
    room = min(e for e in edges if not math.isnan(e)) / scale if not all(map(math.isnan, edges)) else 0.0
    return rank, room


def decide_all(claims: tuple[Claim, ...], table: Table) -> list[Verdict]:
    """The verdicts of all claims; one whose rows are absent (in a smoke version, say) is undecided with that reason."""
    return [decide_claim(claim, table) for claim in claims]


def decide_claim(claim: Claim, table: Table) -> Verdict:
    """Decide one claim: holds where every configuration's interval lies in the region, fails where one lies outside.

    It never raises: what can't be decided is undecided, with a reason.
    """
    with np.errstate(all="ignore"):  # inf - inf and the like give nan, and that is undecided
        return _decide(claim, table)


def _decide(claim: Claim, table: Table) -> Verdict:
    try:
        rows = _rows(claim, table)
        contrasts = list(_contrasts(claim, rows))
        if not contrasts:
            raise Undecidable("no rows to decide it on")
        if claim.comparable is not None and (difference := _not_comparable(claim, claim.comparable, rows)):
            return Verdict(claim=claim, decision="not comparable", reason=difference)
    except Undecidable as error:
        return Verdict(claim=claim, decision="undecided", reason=str(error))
    parts = tuple(_part(claim, contrast) for contrast in contrasts)
    decisions = [part.decision for part in parts]
    if "fails" in decisions:
        decision: Decision = "fails"
    else:
        decision = "holds" if all(d == "holds" for d in decisions) else "undecided"
    reason = "; ".join(dict.fromkeys(p.interval.reason for p in parts if p.interval.reason))
    open_ones = [c for c, part in zip(contrasts, parts, strict=True) if part.decision == "undecided"]
    needed = [contrast.seeds_to_decide(claim.statistic) for contrast in open_ones]
    known = [n for n in needed if n is not None]
    return Verdict(
        claim=claim,
        decision=decision,
        reason=reason,
        parts=parts,
        seeds_needed=max(known) if decision == "undecided" and known and len(known) == len(needed) else None,
    )


def _part(claim: Claim, contrast: Contrast) -> Part:
    interval, decision = contrast.decide(claim.statistic)
    return Part(label=contrast.label, interval=interval, region=contrast.region, decision=decision)


def _contrasts(claim: Claim, rows: Table) -> Iterator[Contrast]:
    """The claim's contrasts in every configuration of the axes that it leaves free."""
    check = claim.check
    found: dict[str, list[Contrast]] = {}  # of each step, where the kind has several
    for values, group in rows.groups(_free(rows, check.used(rows))):
        label = ", ".join(f"{_short(name)} = {_number(value)}" for name, value in values.items())
        for contrast in check.contrasts(group, claim.given_region):
            if claim.across == "mean":
                found.setdefault(contrast.label, []).append(contrast)
            else:
                yield attrs.evolve(contrast, label=", ".join(filter(None, [label, contrast.label])))
    yield from map(pooled, found.values())


def _free(rows: Table, used: set[str]) -> list[str]:
    """The axes that the claim neither goes along nor compares.

    One that those determine (`"data.n, optimizer.rate" = [[10, 0.1], [20, 0.2]]`) moves with them: it isn't free.
    """
    used = used.intersection(rows.axes)
    points = sum(1 for _ in rows.groups(sorted(used))) if used else 0
    free = []
    for axis in rows.axes:
        if axis in used or len(rows.unique(axis)) < 2:
            continue
        if not used or sum(1 for _ in rows.groups([*sorted(used), axis])) > points:
            free.append(axis)
    return free


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:g}" if abs(value) < sys.float_info.max else str(value)


def _rows(claim: Claim, table: Table) -> Table:
    """The rows a claim is about. A failed trial among them leaves the claim undecided: nothing is averaged away."""
    if not len(table):
        raise Undecidable("no rows to decide it on")
    for name, wanted in claim.check.where.items():
        values = column(table, name)
        for value in wanted if isinstance(wanted, list) else [wanted]:
            if not isinstance(value, Mapping) and not len(table.where({name: value})):
                shown = ", ".join(_number(v) for v in table.unique(name)[:8]) if len(values) else "nothing"
                raise Undecidable(f"no row has {name} = {_number(value)} (there is {shown})")
    rows = table.where(claim.check.where)
    failed = [status for status in rows.columns.get("status", []) if status != "done"]
    if failed:
        raise Undecidable(f"{len(failed)} of {len(rows)} trials failed or did not finish")
    return rows


def _not_comparable(claim: Claim, rule: Comparable, rows: Table) -> str:
    """Why the configurations that the claim compares are not comparable; empty where they are."""
    sides = [side for name in claim.check.sides if (side := getattr(claim.check, name))]
    if len(sides) > 1:  # two named sides: the rows of neither don't matter
        sides += list(getattr(claim.check, "minus", None) or ())
        keep = np.zeros(len(rows), dtype=bool)
        for side in sides:
            keep |= np.all([matches(column(rows, name), wanted) for name, wanted in side.items()], axis=0)
        rows = rows.take(keep)
    values = column(rows, rule.of)
    if values.dtype == object or not np.isfinite(values).all():
        raise Undecidable(f"{rule.of} is not a finite number in every row: nothing says whether they are comparable")
    means = [float(np.mean(group.column(rule.of))) for _, group in rows.groups(rows.axes)]
    spread = max(means) - min(means)
    if spread <= rule.within:
        return ""
    return f"{rule.of} differs by {spread:.3g} between configurations, more than {rule.within:g}"


__all__ = ["Claim", "Comparable", "Decision", "Part", "Verdict", "decide_all", "decide_claim", "decisive"]
