"""What a person sees in the terminal: progress, verdicts, where things are. Piped output stays plain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from kempeframe.intervals import ALPHA
from kempeframe.only import command_for
from kempeframe.study import Failure, Progress

if TYPE_CHECKING:
    from kempeframe.claims import Part, Verdict

COLOURS = {"holds": "green", "fails": "red", "undecided": "yellow", "not comparable": "yellow"}


class ProgressBar(Progress):
    """Trials done, time left, current trial; failures are said at once. Without a terminal only failures are shown."""

    def __init__(self, console: Console, argv: Sequence[str] = ()):
        self.console = console
        self.argv = argv  # of the command, from which that for one trial is made
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("trials"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[current]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("running", total=None, current="")
        self.failures = 0

    def __enter__(self) -> ProgressBar:
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def start(self, trials: int, stored: int) -> None:
        self.bar.update(self.task, total=trials, completed=stored)

    def current(self, label: str, row: int = -1, worker: int = 0) -> None:
        if label:
            self.bar.update(self.task, current=escape(label[:60]))

    def report(self, step: int, metrics: Mapping[str, float], worker: int = 0) -> None:
        shown = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self.bar.update(self.task, current=escape(f"step {step:,} {shown}"[:60]))

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, style="dim")

    def advance(self, trials: int) -> None:
        self.bar.advance(self.task, trials)

    def failed(self, failure: Failure) -> None:
        self.failures += 1
        if self.failures <= 5:
            axes = ", ".join(f"{k} = {v}" for k, v in failure.trial.configuration.axes.items())
            where = f"{axes}, seed {failure.trial.seed}" if axes else f"seed {failure.trial.seed}"
            lines = [where, failure.error, failure.place]
            if self.argv:
                lines.append(command_for(self.argv, failure.row))
            shown = "\n       ".join(escape(line) for line in lines if line)
            self.console.print(f"[red]failed[/] {shown}", highlight=False, soft_wrap=True)
        elif self.failures == 6:
            self.console.print("[red]failed[/] more trials; all are in failures.json", highlight=False)


class Several(Progress):
    """Tells each of several."""

    def __init__(self, *members: Progress):
        self.members = members

    def start(self, trials: int, stored: int) -> None:
        for member in self.members:
            member.start(trials, stored)

    def current(self, label: str, row: int = -1, worker: int = 0) -> None:
        for member in self.members:
            member.current(label, row, worker)

    def report(self, step: int, metrics: Mapping[str, float], worker: int = 0) -> None:
        for member in self.members:
            member.report(step, metrics, worker)

    def advance(self, trials: int) -> None:
        for member in self.members:
            member.advance(trials)

    def failed(self, failure: Failure) -> None:
        for member in self.members:
            member.failed(failure)

    def say(self, text: str) -> None:
        for member in self.members:
            member.say(text)


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """Each claim with its verdict, and below it the interval that decides, what was wanted, and the seeds behind it."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for verdict in verdicts:
        shown = f"[bold {COLOURS[verdict.decision]}]{verdict.decision}[/]"
        remarks = "".join(f"\n[dim]{escape(remark)}[/]" for remark in remarks_on(verdict))
        table.add_row(shown, escape(verdict.claim.statement) + remarks)
    return table


def remarks_on(verdict: Verdict) -> list[str]:
    """What stands below a claim: the interval that decides, what was wanted, and the seeds behind it."""
    remarks = []
    part = verdict.decisive
    if part is not None:
        label = f" at {part.label}" if part.label else ""
        seeds = f", {part.interval.n} seeds" if part.interval.method != "exact" else ""
        remarks.append(f"{interval_text(part)}{label}; wanted {region_text(part)}{seeds}")
    if len(verdict.parts) > 1:
        holding = sum(p.decision == "holds" for p in verdict.parts)
        remarks.append(f"holds in {holding} of {len(verdict.parts)} comparisons; the closest is shown")
    if verdict.reason:
        remarks.append(verdict.reason)
    if verdict.seeds_needed:
        remarks.append(f"about {verdict.seeds_needed:,} seeds would decide it")
    if not verdict.expected:
        remarks.append(f"expected: {verdict.claim.expect}")
    return remarks


def interval_text(part: Part) -> str:
    """`-0.0074 in [-0.0104, -0.0044]`; where no interval is known, what is."""
    interval = part.interval
    if interval.low == interval.high:
        return f"{interval.estimate:.4g} ({interval.method})"
    if interval.by_ranks:
        return interval.method
    if not math.isfinite(interval.low) and not math.isfinite(interval.high):
        return "no estimate" if math.isnan(interval.estimate) else f"{interval.estimate:.4g}, no interval"
    return f"{interval.estimate:.4g} in [{interval.low:.4g}, {interval.high:.4g}]"


def region_text(part: Part) -> str:
    """`> -0.05`, `0.9 to 1.1`."""
    if part.interval.by_ranks:
        return f"earlier, p <= {ALPHA:g}"
    low, high = part.region.low, part.region.high
    if math.isinf(low):
        return f"< {high + 0.0:g}"
    if math.isinf(high):
        return f"> {low + 0.0:g}"
    return f"{low:g} to {high:g}"
