"""How a study and its verdicts look in a notebook: HTML without scripts, in the notebook's own colours."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from kempeframe.console import remarks_on

if TYPE_CHECKING:
    from kempeframe.claims import Verdict
    from kempeframe.study import Study

COLOURS = {"holds": "#1a7f37", "fails": "#cf222e", "undecided": "#9a6700", "not comparable": "#9a6700"}
CELL = "text-align: left; vertical-align: top; white-space: normal"


def verdicts_html(verdicts: Sequence[Verdict]) -> str:
    """One row for each claim: verdict, statement, and what decided."""
    if not verdicts:
        return "<p>no claims</p>"
    rows = []
    for verdict in verdicts:
        colour = COLOURS[verdict.decision]
        remarks = "".join(f"<br><small>{escape(remark)}</small>" for remark in remarks_on(verdict))
        rows.append(
            f'<tr><td style="{CELL}; color: {colour}; font-weight: bold">{escape(verdict.decision)}</td>'
            f'<td style="{CELL}">{escape(verdict.claim.statement)}{remarks}</td></tr>'
        )
    return f"<table>{''.join(rows)}</table>"


def study_html(study: Study) -> str:
    """Title, size, failures, and the verdicts."""
    from kempeframe.running import size_text

    spec = study.spec
    paper = f" <small>({escape(spec.paper)})</small>" if spec.paper else ""
    computed = f"{study.computed:,} fits computed" if study.computed else "all from the store"
    size = f"{escape(size_text(spec))}; {computed}, {study.seconds:.1f} s"
    lines = [f"<p><b>{escape(spec.title)}</b>{paper}<br>{size}</p>"]
    if study.failures:
        first = study.failures[0].error
        lines.append(f'<p style="color: {COLOURS["fails"]}">{len(study.failures):,} trials failed: {escape(first)}</p>')
    if study.claims:
        lines.append(verdicts_html(study.claims))
    shown = [f"<code>.figure({figure.name!r})</code>" for figure in spec.figures]
    lines.append(f"<p><small>{', '.join(['<code>.table</code>', '<code>.history</code>', *shown])}</small></p>")
    return "".join(lines)
