"""Verdicts -> one picture, for slides and for TensorBoard's first page."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kempeframe.claims import Verdict
from kempeframe.console import interval_text, region_text

if TYPE_CHECKING:
    from kempeframe.pictures import Picture

COLOURS = {"holds": "#1b7f4b", "fails": "#b3261e", "undecided": "#a06a00", "not comparable": "#a06a00"}
LINE = 0.24  # inches


def draw_claims(verdicts: Sequence[Verdict]) -> Picture:
    """Each claim with its verdict in colour, and the interval that decides below it."""
    from kempeframe.pictures import Picture

    rows = [(verdict, textwrap.wrap(verdict.claim.statement, 78) or [""], _measured(verdict)) for verdict in verdicts]
    height = sum(len(lines) + 1.9 for _, lines, _ in rows) * LINE + 0.3
    picture = Picture(figsize=(9.0, height))
    y = height - 0.3
    for verdict, lines, measured in rows:
        colour = COLOURS[verdict.decision]
        picture.text(0.02, y / height, verdict.decision, color=colour, fontsize=12, fontweight="bold")
        for line in lines:
            picture.text(0.2, y / height, line, fontsize=11)
            y -= LINE
        picture.text(0.2, y / height, measured, fontsize=9.5, color="#555555")
        y -= 1.9 * LINE
    return picture


def _measured(verdict: Verdict) -> str:
    part = verdict.decisive
    if part is None:
        return textwrap.shorten(verdict.reason, 100)
    expected = "" if verdict.expected else f"   (expected: {verdict.claim.expect})"
    return f"{interval_text(part)}, wanted {region_text(part)}, {part.interval.n} seeds{expected}"
