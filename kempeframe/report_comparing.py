"""Several runs -> what stands side by side: claims of one statement, figures of one name, and how the specs differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from kempeframe.report_drawing import Graphic, graphic, scale_of
from kempeframe.report_reading import JudgedClaim, Picture, RunRecord


@attrs.frozen(kw_only=True)
class Cell:
    """A claim in one run; `number` is its place there."""

    claim: JudgedClaim
    number: int
    graphic: Graphic | None


@attrs.frozen(kw_only=True)
class ClaimRow:
    """A claim in every run, None where a run has not stated or not yet judged it."""

    statement: str
    cells: tuple[Cell | None, ...]

    @property
    def sources(self) -> list[str]:
        """Where the paper says it."""
        return list(dict.fromkeys(cell.claim.source for cell in self.cells if cell and cell.claim.source))

    @property
    def differs(self) -> bool:
        """Whether two runs come to different verdicts."""
        return len({cell.claim.verdict for cell in self.cells if cell}) > 1

    @property
    def unexpected(self) -> bool:
        """Whether a verdict in it is not the one that its spec expects."""
        return any(cell and not cell.claim.as_expected for cell in self.cells)


def claim_rows(runs: Sequence[RunRecord]) -> list[ClaimRow]:
    """The claims of all runs, those of one statement in one row, drawn on one axis."""
    found: dict[tuple[str, int], dict[int, tuple[int, JudgedClaim]]] = {}
    for at, run in enumerate(runs):
        seen: dict[str, int] = {}
        for number, claim in enumerate(run.claims or (), 1):
            occurrence = seen[claim.statement] = seen.get(claim.statement, 0) + 1
            found.setdefault((claim.statement, occurrence), {})[at] = number, claim
    return [_row(statement, cells, len(runs)) for (statement, _), cells in found.items()]


def _row(statement: str, found: Mapping[int, tuple[int, JudgedClaim]], runs: int) -> ClaimRow:
    claims = [claim for _, claim in found.values()]
    shown = [part for claim in claims if (part := claim.decisive) is not None]
    scale = scale_of(shown, claims[0].kind)
    cells: list[Cell | None] = [None] * runs
    for at, (number, claim) in found.items():
        part = claim.decisive
        cells[at] = Cell(claim=claim, number=number, graphic=graphic(part, scale) if part else None)
    return ClaimRow(statement=statement, cells=tuple(cells))


def picture_rows(runs: Sequence[RunRecord]) -> list[tuple[str, list[tuple[int, Picture]]]]:
    """(name, [(run, picture)]) for every figure that two runs have drawn or more."""
    found: dict[str, list[tuple[int, Picture]]] = {}
    for at, run in enumerate(runs):
        for picture in run.pictures:
            if picture.png is not None:
                found.setdefault(picture.name, []).append((at, picture))
    return [(name, pictures) for name, pictures in found.items() if len(pictures) > 1]


@attrs.frozen(kw_only=True)
class Difference:
    """A key that is not the same in all runs, and its value in each as TOML writes it; None where it is absent."""

    key: str
    values: tuple[str | None, ...]


def spec_differences(runs: Sequence[RunRecord]) -> list[Difference]:
    """What differs between the specs, in the order in which their keys stand."""
    return _differences([flat(run.spec) for run in runs])


def environment_differences(runs: Sequence[RunRecord]) -> list[Difference]:
    """What differs between the environments, as the page shows them."""
    return _differences([dict(run.environment_rows) for run in runs])


def _differences(tables: Sequence[Mapping[str, str]]) -> list[Difference]:
    keys = dict.fromkeys(key for table in tables for key in table)
    rows = [Difference(key=key, values=tuple(table.get(key) for table in tables)) for key in keys]
    return [row for row in rows if len(set(row.values)) > 1]


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted keys -> values as TOML; members of an array of tables go by name, statement or use, else by number."""
    found: dict[str, str] = {}
    for key, value in table.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{path}.")
        elif isinstance(value, list) and value and all(isinstance(member, Mapping) for member in value):
            for name, member in _named(value):
                found |= flat(member, f"{path} {name}: ")
        else:
            found[path] = value_text(value)
    return found


def _named(members: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    named: dict[str, Mapping[str, Any]] = {}
    for number, member in enumerate(members, 1):
        own = next((member[key] for key in ("name", "statement", "use") if isinstance(member.get(key), str)), None)
        name = f"“{own}”" if own is not None else str(number)
        named[name if name not in named else f"{name} ({number})"] = member
    return list(named.items())


def value_text(value: Any) -> str:
    """A value as TOML writes it on one line; what TOML can't say (null) as Python does."""
    from kempeframe.written import inline

    try:
        return inline(value)
    except (TypeError, ValueError):
        return str(value)
