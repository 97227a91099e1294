"""Table -> a heat map: two columns span a grid, the colour of a cell is the mean of a third over seeds."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from kempeframe.figures import STYLE, Figure, in_words, number, plain
from kempeframe.series import NotDrawable, along, held
from kempeframe.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

    from kempeframe.pictures import Picture

WRITTEN = 12  # columns of a panel up to which every cell has its number in it
TICKS = 14  # labels that an axis has room for


@attrs.frozen(eq=False)
class Grid:
    """One panel: `values` (rows, columns) by the figure's y and x, nan where no trial has one."""

    facet: Any
    x: list[Any]
    y: list[Any]
    values: np.ndarray


def grids_of(figure: Figure, table: Table) -> list[Grid]:
    """The figure's panels, all with the same x and y: numbers ascend, names stand in the order of the table.

    Raises:
        NotDrawable: `cells` holds text, or two configurations fall into one cell.
    """
    assert figure.cells is not None
    try:
        rows = table.where(figure.where).unrolled([figure.x, figure.y, figure.cells])
    except ValueError as error:
        raise NotDrawable(f"figure {figure.name!r}: {error}") from None
    rows = held(rows) if figure.hold else rows
    x, y = ([value for value in rows.unique(name) if value is not None] for name in (figure.x, figure.y))
    made = []
    for facet, panel in rows.groups([figure.facet] if figure.facet else []):
        values = np.full((len(y), len(x)), np.nan)
        for place, cell in panel.groups([figure.x, figure.y]):
            if place[figure.x] is not None and place[figure.y] is not None:
                value = _value(figure, table, cell, place)
                values[y.index(place[figure.y]), x.index(place[figure.x])] = value
        made.append(Grid(facet.get(figure.facet) if figure.facet else None, x, y, values))
    return made


def _value(figure: Figure, table: Table, cell: Table, place: dict[str, Any]) -> float:
    """The mean or median of a cell; nan where no trial has a value."""
    assert figure.cells is not None
    found = cell.column(figure.cells)
    if found.dtype == object:
        raise NotDrawable(f"figure {figure.name!r}: {figure.cells} holds text, not numbers")
    configurations = len(list(cell.groups([*table.axes, *along(figure, cell)])))
    if configurations > 1:
        at = ", ".join(f"{name} = {number(value)}" for name, value in place.items())
        raise NotDrawable(
            f"figure {figure.name!r}: {configurations} configurations fall into the cell {at}; expected one: choose by "
            "where, or give them panels by facet"
        )
    found = found[~np.isnan(found)]
    if not len(found):
        return np.nan
    return float(np.median(found) if figure.statistic == "median" else np.mean(found))


def draw_heat_map(figure: Figure, grids: list[Grid]) -> Picture:
    """The picture: cells with their numbers where there is room, grey where there is none, one scale for all panels."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from kempeframe.pictures import Picture

    columns = max(1, len(grids) if len(grids) <= 3 else 2)
    rows = max(1, -(-len(grids) // columns))
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        picture = Picture(figsize=(2.2 + 5.2 * columns, 0.4 + 4.2 * rows), layout="constrained")
        panels = list(picture.subplots(rows, columns, sharey=True, squeeze=False).flat)
        for unused in panels[len(grids) :]:
            unused.set_axis_off()
        finite = np.concatenate([grid.values[np.isfinite(grid.values)] for grid in grids] or [np.empty(0)])
        if not len(finite):
            panels[0].set_axis_on()
            panels[0].text(0.5, 0.5, "no finished trials", transform=panels[0].transAxes, ha="center", color="#666666")
        meshes = [_panel(panel, figure, grid, finite) for panel, grid in zip(panels, grids, strict=False)]
        for panel in panels[::columns]:
            panel.set_ylabel(figure.y_label or plain(figure.y))
        if len(finite):
            picture.colorbar(meshes[0], ax=panels, label=figure.cells_label or plain(figure.cells or ""))
        if figure.title:
            picture.suptitle(textwrap.fill(figure.title, int(48 * columns**0.9)), fontsize=13, fontweight="bold")
    return picture


def _panel(panel: Axes, figure: Figure, grid: Grid, finite: np.ndarray) -> QuadMesh:
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    shown = np.ma.masked_invalid(grid.values)
    mesh = panel.pcolormesh(
        shown, cmap="viridis", vmin=low, vmax=high if high > low else low + 1, edgecolors="white", linewidth=0.8
    )
    panel.set_facecolor("#dddddd")
    if len(grid.x) <= WRITTEN:
        bright = low + 0.6 * (high - low)  # viridis ends in yellow
        for (row, column), value in np.ndenumerate(grid.values):
            light = not np.isfinite(value) or value > bright
            text = f"{value:.3g}" if np.isfinite(value) else "-"
            colour = "black" if light else "white"
            panel.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour, fontsize=10)
    for axis, values in ((panel.xaxis, grid.x), (panel.yaxis, grid.y)):
        kept = range(0, len(values), -(-len(values) // TICKS) or 1)
        axis.set_ticks([place + 0.5 for place in kept], [in_words(values[place]) for place in kept])
        axis.set_tick_params(length=0)
    if max((len(in_words(value)) for value in grid.x), default=0) * len(grid.x) > 55:
        panel.tick_params(axis="x", rotation=30)
    for spine in panel.spines.values():
        spine.set_visible(False)
    panel.set_xlabel(figure.x_label or plain(figure.x))
    if figure.facet:
        panel.set_title(f"{plain(figure.facet)} = {in_words(grid.facet)}", fontsize=11)
    return mesh
