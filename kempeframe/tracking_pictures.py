"""Pictures as small as TensorBoard's cards, which scale without smoothing: a large one is unreadable there."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kempeframe.claims_picture import COLOURS
from kempeframe.console import interval_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

    from kempeframe.claims import Verdict

CARD = (430, 205)  # pixels that a picture has in a card of the tab Time Series
DOTS = 100.0  # per inch
LINE = 14  # pixels from line to line
BETWEEN = 5  # pixels between claims
GREY = "#555555"


def small_picture(picture: Path) -> bytes:
    """A PNG that is as high as a card."""
    from PIL import Image

    with Image.open(picture) as found:
        scale = min(CARD[0] / found.width, CARD[1] / found.height)
        size = (max(1, round(found.width * scale)), max(1, round(found.height * scale)))
        data = io.BytesIO()
        found.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(data, "PNG", optimize=True)
    return data.getvalue()


def small_claims(verdicts: Sequence[Verdict]) -> bytes:
    """The verdicts, with what was measured where there is room, as a PNG of a card's size."""
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(CARD[0] / DOTS, CARD[1] / DOTS))
    measured = sum(_height(verdict, True) for verdict in verdicts) <= CARD[1]
    y = CARD[1] - 2.0
    for place, verdict in enumerate(verdicts):
        if y - _height(verdict, measured) < (0 if place == len(verdicts) - 1 else LINE):
            _write(picture, y, "", f"and {len(verdicts) - place} more: see the tab Text", GREY)
            break
        for number, line in enumerate(_lines(verdict)):
            _write(picture, y, verdict.decision if number == 0 else "", line, colour=COLOURS[verdict.decision])
            y -= LINE
        if measured and verdict.decisive:
            _write(picture, y, "", interval_text(verdict.decisive), GREY)
            y -= LINE
        y -= BETWEEN
    data = io.BytesIO()
    picture.savefig(data, dpi=DOTS)
    return data.getvalue()


def _lines(verdict: Verdict) -> list[str]:
    return textwrap.wrap(verdict.claim.statement, 58, max_lines=2, placeholder=" ...") or [""]


def _height(verdict: Verdict, measured: bool) -> float:
    return (len(_lines(verdict)) + (measured and verdict.decisive is not None)) * LINE + BETWEEN


def _write(picture: Picture, y: float, decision: str, text: str, shade: str = "black", colour: str = "black") -> None:
    for x, words, tone, weight in ((4, decision, colour, "bold"), (82, text, shade, "normal")):
        written = words.replace("$", r"\$")
        place = (x / CARD[0], y / CARD[1])
        picture.text(*place, written, color=tone, fontsize=7.6, fontweight=weight, va="top")
