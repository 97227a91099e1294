"""A run as the page's templates ask for it: facts, captions, claims with their graphics, how to reproduce it."""

from __future__ import annotations

import base64
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs

from kempeframe.claims import Part
from kempeframe.report_comparing import value_text
from kempeframe.report_drawing import Graphic, graphic, scale_of
from kempeframe.report_reading import ENVIRONMENT, JudgedClaim, Picture, RunRecord
from kempeframe.report_table import predicted_data, results_data
from kempeframe.status import duration, headline

VERDICTS = ("holds", "fails", "undecided", "not comparable")
SYMBOLS = {"holds": "✓", "fails": "✗", "undecided": "?", "not comparable": "≠"}
FAILURES = 50  # that are shown; of trials with one error, as many
ALIKE = 20.0  # widths of intervals that differ by more than this factor are not drawn on one axis


@attrs.frozen
class PartView:
    """One comparison of a claim, and its graphic."""

    part: Part
    graphic: Graphic | None


@attrs.frozen
class ClaimView:
    """A claim of a run; `number` counts from 1."""

    number: int
    claim: JudgedClaim

    @cached_property
    def one_axis(self) -> bool:
        """Whether all comparisons can be seen on one axis."""
        widths = [part.interval.high - part.interval.low for part in self.claim.parts]
        widths = [width for width in widths if math.isfinite(width) and width > 0]
        return not widths or max(widths) / min(widths) < ALIKE

    @cached_property
    def parts(self) -> list[PartView]:
        """All comparisons, on one axis where they are alike."""
        kind, parts = self.claim.kind, self.claim.parts
        common = scale_of(parts, kind)
        return [PartView(part, graphic(part, common if self.one_axis else scale_of([part], kind))) for part in parts]

    @property
    def shown(self) -> PartView | None:
        """The comparison that decides, on an axis of its own."""
        part = self.claim.decisive
        return PartView(part, graphic(part, scale_of([part], self.claim.kind))) if part is not None else None

    @property
    def seeds(self) -> int:
        """Seeds behind the decision; 0 where there are none."""
        part = self.claim.decisive
        return part.interval.n if part is not None and part.interval.method != "exact" else 0

    @property
    def holding(self) -> int:
        """Comparisons in which it holds."""
        return sum(part.decision == "holds" for part in self.claim.parts)

    @property
    def definition(self) -> list[tuple[str, str]]:
        """What the spec says that is compared: ("of", "test_error"), ("where", "n_train = 100") ..."""
        stated = self.claim.stated.get(self.claim.kind)
        if not isinstance(stated, Mapping):
            return []
        pairs = [(key, _selection(v) if isinstance(v, Mapping) else _plain(v)) for key, v in stated.items()]
        extra = ("statistic", "across", "comparable")
        return pairs + [(key, _plain(self.claim.stated[key])) for key in extra if key in self.claim.stated]


def _selection(where: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_condition(value)}" for name, value in where.items())


def _condition(value: Any) -> str:
    if isinstance(value, Mapping) and isinstance(between := value.get("between"), list) and len(between) == 2:
        return f"from {_plain(between[0])} to {_plain(between[1])}"
    if isinstance(value, list):
        return f"in {', '.join(map(_plain, value))}"
    return f"= {_plain(value)}"


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return value_text(value)


@attrs.frozen(eq=False)
class PictureView:
    """A figure, as an element with its size and caption."""

    picture: Picture

    @property
    def source(self) -> str:
        """A data URL."""
        assert self.picture.png is not None
        return "data:image/png;base64," + base64.b64encode(self.picture.png).decode("ascii")

    @property
    def title(self) -> str:
        """Its title, or else its name."""
        return str(self.picture.stated.get("title") or self.picture.name)

    @property
    def caption(self) -> str:
        """What is drawn, in words: from the spec."""
        stated = self.picture.stated
        if "x" not in stated or "y" not in stated:
            return ""
        text = f"{stated['y']} against {stated['x']}"
        if "hue" in stated:
            text += f"; colour: {stated['hue']}"
        if "facet" in stated:
            text += f"; panels: {stated['facet']}"
        if "theory" in stated:
            text += f"; theory: {stated['theory']}"
        if isinstance(stated.get("where"), Mapping) and stated["where"]:
            text += f"; where {_selection(stated['where'])}"
        if stated.get("statistic") == "median":
            text += "; medians"
        return text


@attrs.frozen
class FailureView:
    """An error, and the trials that failed with it."""

    error: str
    traceback: str
    trials: list[str]


@attrs.frozen(eq=False)
class RunView:
    """A run on the page; `number` counts from 1, `label` tells it from the others."""

    number: int
    label: str
    run: RunRecord

    @property
    def id(self) -> str:
        """What its anchors begin with."""
        return f"run{self.number}"

    @property
    def paper_link(self) -> str | None:
        """Where the paper can be read, if its name says that."""
        return paper_link(str(self.run.spec.get("paper", "")))

    @property
    def paper(self) -> str:
        """As the spec names it."""
        return str(self.run.spec.get("paper", ""))

    @property
    def description(self) -> str:
        """As the spec gives it."""
        return str(self.run.spec.get("description", "")).strip()

    @cached_property
    def claims(self) -> list[ClaimView]:
        """Its claims, numbered."""
        return [ClaimView(number, claim) for number, claim in enumerate(self.run.claims or (), 1)]

    @property
    def tally(self) -> list[tuple[str, int]]:
        """(verdict, how many claims have it), the usual order, without zeros."""
        verdicts = [claim.verdict for claim in self.run.claims or ()]
        return [(verdict, verdicts.count(verdict)) for verdict in VERDICTS if verdict in verdicts]

    @cached_property
    def pictures(self) -> list[PictureView]:
        """Figures that were drawn."""
        return [PictureView(picture) for picture in self.run.pictures if picture.png is not None]

    @property
    def not_drawn(self) -> list[str]:
        """Names of figures that the spec has and the run directory has not."""
        return [picture.name for picture in self.run.pictures if picture.png is None]

    @cached_property
    def results(self) -> dict[str, Any] | None:
        """The results table, for the page's script."""
        return None if self.run.table is None else results_data(self.run.table)

    @cached_property
    def predicted(self) -> dict[str, Any] | None:
        """Measured beside theory, for the page's script."""
        return None if self.run.predicted is None else predicted_data(self.run.predicted)

    @property
    def sections(self) -> list[tuple[str, str, str]]:
        """(end of the anchor, name, how many) of the sections that the run has."""
        found = [("claims", "Claims", str(len(self.claims) or ""))]
        if self.run.pictures:
            found.append(("figures", "Figures", str(len(self.run.pictures))))
        found.append(("results", "Results", f"{self.results['rows']:,}" if self.results else ""))
        if self.predicted:
            found.append(("theory", "Measured beside theory", ""))
        if self.run.failures:
            found.append(("failures", "Failures", str(len(self.run.failures))))
        return [*found, ("reproduce", "Reproduce", "")]

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What a reader wants to know first."""
        run, facts = self.run, []
        size = self._size()
        if size:
            facts.append(("Trials", size))
        if run.status is not None:
            facts.append(("State", headline(run.status)))
            facts.append(("Started", _time(run.status["started"])))
        environment = run.environment or {}
        if environment.get("device"):
            facts.append(("Device", str(environment["device"])))
        return facts

    def _size(self) -> str:
        table, status = self.run.table, self.run.status
        if table is None:
            return f"{status['done']:,} of {status['trials']:,} done" if status and status["trials"] else ""
        names = list(table)
        axes = names[: names.index("seed")] if "seed" in names else []
        rows = len(next(iter(table.values()), ()))
        points = len(set(zip(*(map(repr, table[name]) for name in axes), strict=True))) if axes else min(rows, 1)
        seeds = len(set(table.get("seed", ())))
        return f"{rows:,} = {_count(points, 'configuration')} × {_count(seeds, 'seed')}"  # noqa: RUF001

    @cached_property
    def failures(self) -> list[FailureView]:
        """What failed, trials of one error and traceback together."""
        found: dict[tuple[str, str], list[str]] = {}
        for failure in self.run.failures:
            key = str(failure.get("error", "")), str(failure.get("traceback", ""))
            found.setdefault(key, []).append(_where(failure))
        return [FailureView(error, traceback, trials) for (error, traceback), trials in found.items()]

    @property
    def file_name(self) -> str:
        """What the spec is called when it is saved."""
        return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', self.run.folder.name).strip('-') or 'spec'}.toml"

    @property
    def command(self) -> str:
        """The command that runs the saved spec again."""
        device = str((self.run.environment or {}).get("device", "cpu"))
        words = ["kempeframe", "run", self.file_name, *(["--device", device] if device != "cpu" else [])]
        return shlex.join(words)

    @property
    def original_command(self) -> str | None:
        """The command as it was given; None where the run was made from Python, or by an older version."""
        given = (self.run.status or {}).get("command")
        return shlex.join(map(str, given)) if isinstance(given, list) and given else None

    @property
    def files(self) -> list[str]:
        """Plugins of one file: what the spec needs besides installed plugins."""
        plugins = self.run.spec.get("plugins")
        return [str(name) for name in plugins] if isinstance(plugins, list) else []

    @property
    def environment(self) -> list[tuple[str, str]]:
        """(name, value), one line each."""
        rows = self.run.environment_rows
        seconds = (self.run.environment or {}).get("seconds")
        if isinstance(seconds, (int, float)):
            rows.insert(len(ENVIRONMENT), ("time of all trials", duration(seconds)))
        return rows


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _where(failure: Mapping[str, Any]) -> str:
    axes = failure.get("configuration")
    pairs = [f"{name} = {value}" for name, value in axes.items()] if isinstance(axes, Mapping) else []
    return ", ".join([*pairs, f"seed {failure.get('seed')}"])


def _time(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, OSError, ValueError):
        return "unknown"


def paper_link(paper: str) -> str | None:
    """A link for `arXiv:2410.04840`, `doi:10.1000/x` or a web address; None for anything else."""
    if found := re.fullmatch(r"(?i)arxiv:\s*(\d{4}\.\d{4,5}(?:v\d+)?|[a-z.-]+/\d{7})", paper.strip()):
        return f"https://arxiv.org/abs/{found[1]}"
    if found := re.fullmatch(r"(?i)doi:\s*(10\.\d{4,9}/\S+)", paper.strip()):
        return f"https://doi.org/{found[1]}"
    return paper.strip() if re.fullmatch(r"https?://\S+", paper.strip()) else None


def labels_of(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    for depth in range(1, max((len(folder.parts) for folder in folders), default=1) + 1):
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]
