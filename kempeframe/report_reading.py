"""A run directory -> what the report shows of it; whatever a run has not written (yet) is absent, not an error."""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import attrs
import tomli

from kempeframe.claims import Decision, Part, decisive
from kempeframe.intervals import Interval, Region
from kempeframe.problems import Problem, raised
from kempeframe.status import alive

Columns = Mapping[str, Sequence[Any]]
STATES = ("done", "running", "stopped", "broken")
ENVIRONMENT = ("commit", "device", "python", "platform", "cores")
DRAWN_CLAIMS = "claims"  # figures/claims.png: the page draws the claims itself


class Unreadable(Exception):
    """A folder that holds no run, or one that is damaged."""

    def __init__(self, problem: Problem):
        super().__init__(str(problem))
        self.problem = problem


@attrs.frozen(kw_only=True)
class JudgedClaim:
    """A claim as `claims.json` holds it, and the table of the spec that states it."""

    statement: str
    source: str
    kind: str
    verdict: Decision
    expected: Decision
    reason: str
    seeds_needed: int | None
    parts: tuple[Part, ...]
    stated: Mapping[str, Any]

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the one that the spec expects."""
        return self.verdict == self.expected

    @property
    def decisive(self) -> Part | None:
        """The part that a reader should see: the one farthest from what the claim wants."""
        return decisive(self.parts)


@attrs.frozen(kw_only=True, eq=False)
class Picture:
    """A figure as it was drawn: `png` is None where the run has not drawn it; width and height in pixels."""

    name: str
    stated: Mapping[str, Any]  # the [[figure]] table of the spec; empty where it has none of that name
    png: bytes | None
    width: int = 0
    height: int = 0


@attrs.frozen(kw_only=True, eq=False)
class RunRecord:
    """All that a run directory holds; None for a file that is not there."""

    folder: Path
    spec: Mapping[str, Any]
    spec_text: str
    status: Mapping[str, Any] | None
    environment: Mapping[str, Any] | None
    claims: tuple[JudgedClaim, ...] | None
    pictures: tuple[Picture, ...]
    table: Columns | None
    predicted: Columns | None
    failures: tuple[Mapping[str, Any], ...]

    @property
    def title(self) -> str:
        """The study's title; the folder's name where it has none."""
        return str(self.spec.get("title") or self.folder.name)

    @property
    def state(self) -> str:
        """`done`, `running`, `stopped`, `broken`; `broken` also where the process of a running one is gone."""
        if self.status is None:  # written from Python, by `study.write`
            return "done" if self.claims is not None else "broken"
        if self.status["state"] == "running" and not alive(self.status):
            return "broken"
        return str(self.status["state"])

    @property
    def unexpected(self) -> list[JudgedClaim]:
        """The claims whose verdict is not the expected one."""
        return [claim for claim in self.claims or () if not claim.as_expected]

    @property
    def environment_rows(self) -> list[tuple[str, str]]:
        """(name, value) of where it ran and of what was installed there, one line each."""
        found = self.environment or {}
        rows = [(name, str(found[name])) for name in ENVIRONMENT if found.get(name) is not None]
        versions, plugins = found.get("versions"), found.get("plugins")
        rows += [(str(k), str(v)) for k, v in versions.items()] if isinstance(versions, Mapping) else []
        for name, plugin in plugins.items() if isinstance(plugins, Mapping) else ():
            held = plugin if isinstance(plugin, Mapping) else {}
            editable = " (editable)" if held.get("editable") else ""
            rows.append((f"plugin {name}", f"{held.get('version', '')}{editable}"))
        return rows


def read_run(folder: Path) -> RunRecord:
    """Read a run directory.

    Raises:
        Unreadable: it is no run directory, or a file in it is damaged.
    """
    folder = folder.resolve()
    spec_text = _text(folder / "spec.toml")
    if spec_text is None:
        hint = "expected a run directory with a spec.toml, as `kempeframe run` makes it (runs/NAME)"
        raise _problem(folder, hint if folder.is_dir() else f"there is no such directory; {hint}")
    try:
        spec = tomli.loads(spec_text)
    except tomli.TOMLDecodeError as error:
        raise _problem(folder / "spec.toml", f"not TOML: {error}") from None
    status = _status(folder / "status.json")
    running = status is not None and status["state"] == "running"
    return RunRecord(
        folder=folder,
        spec=spec,
        spec_text=spec_text,
        status=status,
        environment=_json(folder / "environment.json", dict),
        claims=_claims(folder / "claims.json", _tables(spec, "claim")),
        pictures=_pictures(folder / "figures", _tables(spec, "figure"), running),
        table=_parquet(folder / "table.parquet", running),
        predicted=_csv(folder / "predicted.csv"),
        failures=_failures(folder / "failures.json"),
    )


def _problem(path: Path, message: str) -> Unreadable:
    return Unreadable(Problem(str(path), "", message))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise _problem(path, f"can't be read: {raised(error)}") from None


def _json(path: Path, expected: type) -> Any:
    text = _text(path)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise _problem(path, "not JSON; run the spec again to write it anew") from None
    if not isinstance(found, expected):
        raise _problem(path, f"expected a JSON {'object' if expected is dict else 'array'}")
    return found


def _status(path: Path) -> Mapping[str, Any] | None:
    found: dict[str, Any] | None = _json(path, dict)
    if found is None:
        return None
    numbers = ("pid", "started", "updated", "trials", "done", "stored_before", "failed")
    sound = found.get("state") in STATES and all(isinstance(found.get(name), (int, float)) for name in numbers)
    sound = sound and all(isinstance(found.get(name), str) for name in ("host", "executor"))
    if not sound or not isinstance(found.get("ended", 0.0), (int, float)) or not isinstance(found.get("running"), dict):
        raise _problem(path, "expected what `kempeframe run` writes")
    if found["state"] != "running":
        found.setdefault("ended", found["updated"])
    return found


def _tables(spec: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The tables of an array of tables; whatever else stands there gives none."""
    found = spec.get(key)
    return [table for table in found if isinstance(table, Mapping)] if isinstance(found, list) else []


def _claims(path: Path, stated: Sequence[Mapping[str, Any]]) -> tuple[JudgedClaim, ...] | None:
    found = _json(path, list)
    if found is None:
        return None
    by_statement = {str(table.get("statement")): table for table in stated}
    try:
        return tuple(_claim(claim, by_statement.get(str(claim["statement"]), {})) for claim in found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _problem(path, f"expected what `kempeframe run` writes: {raised(error)}") from None


def _claim(found: Mapping[str, Any], stated: Mapping[str, Any]) -> JudgedClaim:
    return JudgedClaim(
        statement=str(found["statement"]),
        source=str(found["source"]),
        kind=str(found["kind"]),
        verdict=_decision(found["verdict"]),
        expected=_decision(found["expected"]),
        reason=str(found["reason"]),
        seeds_needed=found["seeds_needed"],
        parts=tuple(_part(part) for part in found["parts"]),
        stated=stated,
    )


def _decision(found: Any) -> Decision:
    if found not in get_args(Decision):
        raise ValueError(f"no verdict is {found!r}")
    decision: Decision = found
    return decision


def _part(found: Mapping[str, Any]) -> Part:
    low, high = map(float, found["interval"])
    interval = Interval(float(found["estimate"]), low, high, int(found["seeds"]), str(found["method"]))
    region = Region(*map(float, found["region"]))
    return Part(
        label=str(found["configuration"]), interval=interval, region=region, decision=_decision(found["verdict"])
    )


def _pictures(folder: Path, stated: Sequence[Mapping[str, Any]], running: bool) -> tuple[Picture, ...]:
    """Those of the spec in its order, then what else was drawn."""
    by_name = {str(table.get("name")): table for table in stated}
    names = list(by_name)
    if folder.is_dir():
        others = sorted(path.stem for path in folder.glob("*.png") if path.stem not in by_name)
        names += [name for name in others if name != DRAWN_CLAIMS]
    return tuple(_picture(folder / f"{name}.png", by_name.get(name, {}), running) for name in names)


def _picture(path: Path, stated: Mapping[str, Any], running: bool) -> Picture:
    name = path.name.removesuffix(".png")
    absent = Picture(name=name, stated=stated, png=None)
    try:
        png = path.read_bytes() if path.parent.name == "figures" else None  # a name with a slash leads elsewhere
    except OSError:
        png = None
    if png is None:
        return absent
    if not png.startswith(b"\x89PNG\r\n\x1a\n") or len(png) < 24:
        if running:
            return absent  # it is being written
        raise _problem(path, "not a PNG picture; run the spec again to draw it anew")
    width, height = struct.unpack(">II", png[16:24])
    return Picture(name=name, stated=stated, png=png, width=width, height=height)


def _parquet(path: Path, running: bool) -> Columns | None:
    if not path.exists():
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns: Columns = pq.ParquetFile(path).read().to_pydict()
    except (pa.ArrowException, OSError) as error:
        if running:
            return None  # it is being written
        raise _problem(path, f"can't be read: {raised(error)}") from None
    return columns


def _csv(path: Path) -> Columns | None:
    text = _text(path)
    if text is None:
        return None
    head, *rows = list(csv.reader(text.splitlines(keepends=True))) or [[]]
    rows = [row for row in rows if len(row) == len(head)]  # the last one may be half-written
    return {name: [_value(row[i]) for row in rows] for i, name in enumerate(head)}


def _value(text: str) -> Any:
    """What a cell of a CSV file says: nothing, true or false, a number, else text."""
    if text == "":
        return None
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _failures(path: Path) -> tuple[Mapping[str, Any], ...]:
    found = _json(path, list) or []
    if not all(isinstance(failure, dict) for failure in found):
        raise _problem(path, "expected what `kempeframe run` writes")
    return tuple(found)
