"""A matplotlib figure that notebooks show, without pyplot and its global state."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """What `draw` draws on; a notebook shows it as the value of a cell."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()
