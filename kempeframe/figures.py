"""Table -> pictures: points with 95 % intervals over seeds, theory as lines. Heat maps are in `heat_maps`."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs
import numpy as np

from kempeframe.components import field

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from kempeframe.pictures import Picture
    from kempeframe.series import Series


LINES_ONLY = ("hue", "theory", "line", "scale", "levels", "verticals")  # fields that heat maps do not take


@attrs.frozen(kw_only=True)
class Figure:
    """One picture of the results table."""

    name: str = field(doc="file name without ending")
    rows: Literal["trials", "history", "events"] = field(
        "trials",
        "the results table; one row for each snapshot of each trial; or, of steps at which something happened (inf: it "
        "did not), the share of trials that still wait for it",
    )
    x: str = field(doc="column on the x axis, of numbers or names; of the history also step; of events their steps")
    y: str = field(doc="column on the y axis; of events, up to which step each was looked for")
    hue: str | None = field(None, "column that gives the colour")
    facet: str | None = field(None, "column that gives the panel")
    cells: str | None = field(None, "column whose mean over seeds colours the cells of a heat map over x and y")
    theory: str | None = field(None, "column of theory, drawn as a line; dense where x is a component's field")
    line: tuple[str, str] | None = field(
        None, "two columns of lists, x and y of one grey line: a bound, say; the mean over the trials shown"
    )
    line_label: str = field("", "of that line, in the legend; default: the name of its second column")
    where: dict[str, Any] = field(attrs.Factory(dict), "rows that are shown; see claims")
    scale: Literal["linear", "log-log", "semilog-x", "semilog-y"] = field("linear", "which axes are logarithmic")
    statistic: Literal["mean", "median"] = field("mean", "what is taken over seeds")
    hold: bool = field(
        False, "of the history over steps: a fit that has ended counts on with its last value, as one that is done does"
    )
    levels: tuple[float, ...] = field((), "heights of dotted horizontal lines")
    verticals: tuple[float, ...] = field((), "places of dotted vertical lines")
    title: str = field("", "above the picture")
    x_label: str = field("", "default: the column's name")
    y_label: str = field("", "default: the column's name")
    hue_label: str = field("", "title of the legend; default: the column's name")
    cells_label: str = field("", "beside the colours of a heat map; default: the column's name")

    def __attrs_post_init__(self) -> None:
        if not self.name or not all(c.isalnum() or c in "-_." for c in self.name) or self.name.startswith("."):
            raise ValueError(f"name = {self.name!r}: expected letters, digits, '-', '_' and '.', for it names a file")
        if self.name == "claims":
            raise ValueError("name = 'claims': the picture of the claims is called so; expected another name")
        if self.hold and (self.rows != "history" or self.x != "step"):
            raise ValueError('hold = true: expected rows = "history" and x = "step"')
        others = [name for name in LINES_ONLY if getattr(self, name) not in (None, (), "linear")]
        if self.cells and (others or self.rows == "events"):
            raise ValueError(f"cells = {self.cells!r} is a heat map, which has no {others[0] if others else 'events'}")

    def columns(self) -> list[str]:
        """Every column it names."""
        named = [self.x, self.y, self.hue, self.facet, self.cells, self.theory, *(self.line or ()), *self.where]
        return [name for name in named if name]

    def logarithmic(self, axis: str) -> bool:
        """Whether the "x" or "y" axis is logarithmic."""
        return self.scale == "log-log" or self.scale == f"semilog-{axis}"


@attrs.frozen(eq=False)
class Curve:
    """A dense line of theory."""

    hue: Any
    facet: Any
    x: np.ndarray
    y: np.ndarray


def draw(figure: Figure, series: Sequence[Series], curves: Sequence[Curve] = ()) -> Picture:
    """The picture. `curves`, where there are any, take the place of theory at the points."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from kempeframe.pictures import Picture

    events = figure.rows == "events"
    facets: list[Any] = list(dict.fromkeys(s.facet for s in series)) or [None]
    with matplotlib.rc_context(STYLE):
        columns = len(facets) if len(facets) <= 3 else 2
        rows = -(-len(facets) // columns)
        picture = Picture(figsize=(2.2 + 5.2 * columns, 0.4 + 4.2 * rows), layout="constrained")
        grid = picture.subplots(rows, columns, sharey=True, squeeze=False)
        panels = list(grid.flat)[: len(facets)]
        for unused in list(grid.flat)[len(facets) :]:
            unused.set_axis_off()
        colours = _colours([s.hue for s in series])
        names = next((s.names for s in series if s.names), ())
        if names:
            series, beyond, curves = _beside(series), None, ()
        else:
            series, beyond = _placed(series, figure.logarithmic("x"))
        for panel, facet in zip(panels, facets, strict=True):
            own = [s for s in series if s.facet == facet]
            _panel(panel, figure, own, [c for c in curves if c.facet == facet], colours)
            if facet is not None and figure.facet:
                panel.set_title(f"{plain(figure.facet)} = {in_words(facet)}", fontsize=11)
            if beyond is not None:
                _tick_infinity(panel, *beyond)
            if names:
                _tick_names(panel, names)
        for panel in grid[:, 0]:
            panel.set_ylabel(figure.y_label or ("share still before it" if events else plain(figure.y)))
        _legend(grid[0, -1], figure, series, bool(curves), colours)
        if figure.title:
            # Wrapped to the panels' width: the legend stands beside them.
            picture.suptitle(textwrap.fill(figure.title, int(48 * columns**0.9)), fontsize=13, fontweight="bold")
    return picture


MANY = 25  # points of a series beyond which it is drawn as a line with a band
STYLE: Any = {
    "font.size": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "pdf.fonttype": 42,
}
OTHER = "#666666"  # of a curve that belongs to no colour
# Okabe and Ito's colours: told apart with any colour vision.
CATEGORIES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]


def _colours(hues: Sequence[Any]) -> dict[Any, Any]:
    """Categories get distinct colours, numbers a dark-to-light scale in their order."""
    import matplotlib

    distinct = list(dict.fromkeys(hues))
    if all(isinstance(h, (int, float)) and not isinstance(h, bool) for h in distinct) and len(distinct) > 2:
        scale = matplotlib.colormaps["plasma"]
        ordered = sorted(distinct)
        return {h: scale(0.85 * i / (len(ordered) - 1)) for i, h in enumerate(ordered)}
    return {h: CATEGORIES[i % len(CATEGORIES)] for i, h in enumerate(distinct)}


def _panel(
    panel: Axes, figure: Figure, series: Sequence[Series], curves: Sequence[Curve], colours: Mapping[Any, Any]
) -> None:
    exact = all(s.exact for s in series)
    for one in series if figure.rows == "events" else ():
        colour = colours[one.hue]
        panel.step(one.x, one.y, where="post", color=colour, linewidth=1.8)
        if len(series) <= 3:  # bands of more lie over each other
            panel.fill_between(one.x, one.low, one.high, step="post", color=colour, alpha=0.15, linewidth=0)
        panel.set_ylim(-0.03, 1.03)
    for one in series if not (exact and curves) and figure.rows != "events" else ():
        bars = np.vstack([one.y - one.low, one.high - one.y])
        bars = np.nan_to_num(np.clip(bars, 0, None))
        if figure.logarithmic("y"):  # a bar that reaches below 0 would vanish: it goes down to a tenth of the point
            bars[0] = np.where(one.y > 0, np.minimum(bars[0], 0.9 * one.y), bars[0])
        style = "o" if one.names else "-" if one.exact else "o" if figure.theory else "o-"
        # A learning curve has a band, for bars would hide it.
        if _has_band(one, figure):
            panel.plot(one.x, one.y, color=colours[one.hue], linewidth=1.6)
            low, high = one.y - bars[0], one.y + bars[1]
            panel.fill_between(one.x, low, high, color=colours[one.hue], alpha=0.2, linewidth=0)
            continue
        panel.errorbar(
            one.x,
            one.y,
            yerr=bars,
            fmt=style,
            color=colours[one.hue],
            markersize=5,
            capsize=2.5,
            linewidth=1.6,
            elinewidth=1.2,
        )
        if one.theory is not None and not curves and figure.theory != figure.x:
            panel.plot(one.x, one.theory, color=colours[one.hue], linewidth=1.6, **_of_theory(bool(one.names)))
    for curve in curves:
        line = "-" if exact else "--"
        panel.plot(curve.x, curve.y, line, color=colours.get(curve.hue, OTHER), linewidth=1.6, zorder=1.5)
    if figure.theory == figure.x and series:  # theory against itself: the diagonal on which points should lie
        ends = [min(s.x.min() for s in series), max(s.x.max() for s in series)]
        panel.plot(ends, ends, "--", color="#888888", linewidth=1.4, zorder=1)
    for level in figure.levels:
        panel.axhline(level, linestyle=":", color="#666666", linewidth=1)
    for place in figure.verticals:
        panel.axvline(place, linestyle=":", color="#666666", linewidth=1)
    if not series:
        panel.text(0.5, 0.5, "no finished trials", transform=panel.transAxes, ha="center", color="#666666")
    named = any(s.names for s in series)
    if figure.logarithmic("x") and series and not named and all((s.x > 0).all() for s in series):
        panel.set_xscale("log")
        _tick(panel.xaxis, np.concatenate([s.x for s in series]))
    if figure.logarithmic("y") and any((s.y > 0).any() for s in series):
        panel.set_yscale("log")
        _tick(panel.yaxis, np.concatenate([s.y for s in series]))
    panel.set_xlabel(figure.x_label or plain(figure.x))


def _placed(series: Sequence[Series], logarithmic: bool) -> tuple[list[Series], tuple[float, float] | None]:
    """Where x is infinite (no limit), points stand beyond the largest: the series so, the largest, and that place."""
    found = np.concatenate([s.x for s in series]) if series else np.empty(0)
    finite = found[np.isfinite(found)]
    if not np.isposinf(found).any() or not len(finite) or (logarithmic and finite.min() <= 0):
        return list(series), None
    low, high = finite.min(), finite.max()
    beyond = high * max((high / low) ** 0.25, 2.0) if logarithmic else high + max((high - low) / 4, abs(high) / 4, 1e-9)
    return [attrs.evolve(s, x=np.where(np.isposinf(s.x), beyond, s.x)) for s in series], (float(high), float(beyond))


def _has_band(one: Series, figure: Figure) -> bool:
    return len(one.x) > MANY and not one.names and not figure.theory


def _of_theory(named: bool) -> dict[str, Any]:
    """A line, or a dash at each name."""
    return {"linestyle": "none", "marker": "_", "markersize": 16} if named else {"linestyle": "--"}


def _beside(series: Sequence[Series]) -> list[Series]:
    """Where x are names, the colours stand side by side at each."""
    hues = list(dict.fromkeys(s.hue for s in series))
    width = min(0.15, 0.7 / len(hues))
    return [attrs.evolve(s, x=s.x + width * (hues.index(s.hue) - (len(hues) - 1) / 2)) for s in series]


def _tick_names(panel: Axes, names: Sequence[str]) -> None:
    """The names under their places, slanted where they would run into each other."""
    crowded = max(len(name) for name in names) * len(names) > 55
    slant = {"rotation": 25, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    panel.set_xticks(range(len(names)), [in_words(name) for name in names], **slant)  # type: ignore[arg-type]
    panel.set_xlim(-0.6, len(names) - 0.4)
    panel.grid(False, axis="x")


def _tick_infinity(panel: Axes, largest: float, place: float) -> None:
    """Label the place of infinity, and nothing beyond the largest number."""
    low, high = panel.get_xlim()
    across = panel.transData.transform  # to pixels, for labels need room
    room = across((place, 0))[0] - 25
    panel.minorticks_off()
    kept = [tick for tick in panel.get_xticks() if low <= tick <= largest and across((tick, 0))[0] < room]
    panel.set_xticks([*kept, place], [*(number(float(tick)) for tick in kept), "∞"])
    panel.set_xlim(low, high)


def _tick(axis: Axis, values: np.ndarray) -> None:
    """On an axis of few decades label 1, 2, 5 times the powers of ten, as plain numbers, and nothing between."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    values = values[values > 0]
    if len(values) and values.max() / values.min() < 300:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def _legend(panel: Axes, figure: Figure, series: Sequence[Series], dense: bool, colours: Mapping[Any, Any]) -> None:
    from matplotlib.lines import Line2D

    handles = []
    if figure.hue:
        exact = all(s.exact for s in series)
        named = any(s.names for s in series)
        joined: Any = "none" if named or (figure.theory and not exact) else "-"
        marker = "" if (exact and not named) or all(_has_band(s, figure) for s in series) else "o"
        handles = [
            Line2D([], [], marker=marker, linestyle=joined, color=colour, label=in_words(hue))
            for hue, colour in colours.items()
        ]
    if figure.theory and not all(s.exact for s in series):
        seeds = "measured, 95 % interval" if any(np.isfinite(s.low).any() for s in series) else "measured"
        handles.append(Line2D([], [], marker="o", linestyle="none", color="#444444", label=seeds))
        dash = _of_theory(any(s.names for s in series))
        handles.append(Line2D([], [], color="#444444", label="theory", **dash))
    if figure.line:
        label = figure.line_label or plain(figure.line[1])
        handles.append(Line2D([], [], linestyle="--", color=OTHER, label=label))
    if handles:
        title = figure.hue_label or (plain(figure.hue) if figure.hue else None)
        panel.legend(
            handles=handles,
            title=title,
            loc="upper left",
            bbox_to_anchor=(1.02, 1.0),
            borderaxespad=0.0,
            alignment="left",
            fontsize=10,
            title_fontsize=10,
        )


def plain(column: str) -> str:
    """A column's name as a label: `data.synthetic_fraction` -> `synthetic fraction`."""
    return column.rpartition(".")[2].replace("_", " ")


def number(value: Any) -> str:
    """A value for a legend: 1e6 rather than 1000000."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:g}" if abs(value) < 1e5 else f"{value:.3g}".replace("e+0", "e").replace("e+", "e")


def in_words(value: Any) -> str:
    """A value as it is written into a picture: names in words, infinity as its sign."""
    return "∞" if value == math.inf else number(value).replace("_", " ")


def save(picture: Picture, folder: Path, name: str) -> list[Path]:
    """Write PNG (150 dots per inch) and PDF, without dates, so that equal pictures are equal files."""
    folder.mkdir(parents=True, exist_ok=True)
    png, pdf = folder / f"{name}.png", folder / f"{name}.pdf"
    picture.savefig(png, dpi=150)
    picture.savefig(pdf, metadata={"CreationDate": None})
    return [png, pdf]
