"""Runs -> one self-contained page: claims with verdicts, figures, tables, and what is needed to run them again."""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kempeframe import __version__
from kempeframe.console import interval_text, region_text
from kempeframe.problems import Problem, SpecError
from kempeframe.report_comparing import claim_rows, environment_differences, picture_rows, spec_differences
from kempeframe.report_reading import RunRecord, Unreadable, read_run
from kempeframe.report_table import script_json
from kempeframe.report_view import FAILURES, SYMBOLS, PictureView, RunView, labels_of
from kempeframe.status import write_text

PAGE = Path(__file__).parent / "report_page"
SCRIPTS = ("tables.js", "page.js")


def report_command(runs: Sequence[Path], out: Path) -> int:
    """Write the page of these runs; returns 0.

    Raises:
        SpecError: a folder is no run, or `out` can't be a file; nothing was written.
    """
    records = read_runs(runs)
    if problem := _no_file(out):
        raise SpecError("command line", [Problem(f"--out {out}", "", problem)])
    page = render(records)
    write_text(out, page)
    print(f"report  {out} ({_size(len(page.encode()))}, {len(records)} run{'s' if len(records) > 1 else ''})")
    sys.stdout.flush()
    return 0


def read_runs(folders: Sequence[Path]) -> list[RunRecord]:
    """Read run directories; one that is named twice is shown once.

    Raises:
        SpecError: with every folder that is no run directory, or a damaged one.
    """
    records, problems = [], []
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        try:
            records.append(read_run(folder))
        except Unreadable as error:
            problems.append(error.problem)
    if problems:
        raise SpecError("command line", problems)
    return records


def render(records: Sequence[RunRecord]) -> str:
    """The page, an HTML document that needs nothing else."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = "\n".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    labels = labels_of([record.folder for record in records])
    views = [RunView(number, label, run) for number, (label, run) in enumerate(zip(labels, records, strict=True), 1)]
    several = len(views) > 1
    environment.globals.update(
        symbols=SYMBOLS,
        interval_text=interval_text,
        region_text=region_text,
        json=lambda value: Markup(script_json(value)),
        highlighted=lambda text: Markup(highlighted(text)),
        picture_view=PictureView,
        most=FAILURES,
    )
    return environment.get_template("page.html").render(
        version=__version__,
        title=f"{len(views)} runs side by side" if several else views[0].run.title,
        style=Markup((PAGE / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        views=views,
        several=several,
        claim_rows=claim_rows(records) if several else [],
        picture_rows=picture_rows(records) if several else [],
        spec_differences=spec_differences(records) if several else [],
        environment_differences=environment_differences(records) if several else [],
    )


def highlighted(toml: str) -> str:
    """TOML as HTML: escaped, with a class for each kind of token."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers.configs import TOMLLexer

    made: Any = highlight(toml, TOMLLexer(stripnl=False), HtmlFormatter(nowrap=True))
    return str(made)


def _no_file(out: Path) -> str | None:
    """Why no file can be written there; None where one can."""
    try:
        if out.is_dir():
            return "is a directory, expected the name of a file, say report.html"
        blocking = [folder for folder in out.parents if folder.exists() and not folder.is_dir()]
    except (OSError, ValueError) as error:
        return f"can't be a file: {error}"
    return f"{str(blocking[0])!r} is a file, expected a folder" if blocking else None


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
