"""Figures: what is drawn is what the table says."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kempeframe.curves import theory_curves
from kempeframe.figures import Curve, Figure, draw, in_words, number, save
from kempeframe.intervals import mean_interval
from kempeframe.series import NotDrawable, series_of
from kempeframe.spec import load_spec
from kempeframe.store import Store
from kempeframe.study import run_study
from kempeframe.survival import survival
from kempeframe.table import Table

FLAGSHIP = Path(__file__).parents[1] / "specs" / "strong_collapse.toml"


def table(**extra: list[object]) -> Table:
    columns: dict[str, list[object]] = {
        "a": [1, 1, 1, 2, 2, 2],
        "seed": [0, 1, 2, 0, 1, 2],
        "y": [1.0, 2.0, 3.0, 4.0, 6.0, 8.0],
        "status": ["done"] * 6,
    }
    return Table({**columns, **extra}, axes=["a"])


def test_points_are_means_with_t_intervals() -> None:
    (series,) = series_of(Figure(name="f", x="a", y="y"), table())
    assert series.x.tolist() == [1, 2]
    assert series.y.tolist() == [2, 6]
    assert series.high[0] == mean_interval([1.0, 2.0, 3.0]).high
    assert series.high[0] - series.y[0] > 4.30 / np.sqrt(3)  # at least t of 2 degrees of freedom


def test_theory_has_no_error_bars() -> None:
    exact = Table(table().columns, axes=["a"], exact=frozenset({"y"}))
    (series,) = series_of(Figure(name="f", x="a", y="y"), exact)
    assert np.isnan(series.low).all()


def test_failed_trials_leave_out_their_point() -> None:
    rows = table(y=[1.0, 2.0, 3.0, None, None, None])
    (series,) = series_of(Figure(name="f", x="a", y="y"), rows)
    assert series.x.tolist() == [1]


def test_hue_facet_and_where_select() -> None:
    rows = table(kind=["u", "u", "u", "v", "v", "v"])
    figure = Figure(name="f", x="a", y="y", hue="kind")
    assert [s.hue for s in series_of(figure, rows)] == ["u", "v"]
    assert [s.hue for s in series_of(Figure(name="f", x="a", y="y", hue="kind", where={"a": 2}), rows)] == ["v"]
    assert [s.facet for s in series_of(Figure(name="f", x="a", y="y", facet="kind"), rows)] == ["u", "v"]


def test_text_is_not_drawable() -> None:
    with pytest.raises(NotDrawable, match="status holds text"):
        series_of(Figure(name="f", x="a", y="status"), table())


def test_a_name_must_be_a_file_name() -> None:
    with pytest.raises(ValueError, match="names a file"):
        Figure(name="../up", x="a", y="y")
    with pytest.raises(ValueError, match="the picture of the claims is called so"):
        Figure(name="claims", x="a", y="y")


@pytest.mark.parametrize("scale", ["linear", "log-log", "semilog-x", "semilog-y"])
@pytest.mark.parametrize("values", [[1.0, 2.0, 3.0, 4.0, 6.0, 8.0], [0.0, -2.0, 3.0, 4.0, 6.0, 8.0], [None] * 6])
def test_every_scale_draws_whatever_the_values(tmp_path: Path, scale: str, values: list[float]) -> None:
    figure = Figure(name="f", x="a", y="y", scale=scale, levels=(1.0,), verticals=(1.5,), title="A title " * 9)  # type: ignore[arg-type]
    png, pdf = save(draw(figure, series_of(figure, table(y=values))), tmp_path, "f")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert pdf.read_bytes().startswith(b"%PDF")


def test_equal_pictures_are_equal_files(tmp_path: Path) -> None:
    figure = Figure(name="f", x="a", y="y")
    files = [save(draw(figure, series_of(figure, table())), tmp_path / part, "f") for part in "ab"]
    assert [f.read_bytes() for f in files[0]] == [f.read_bytes() for f in files[1]]


def test_numbers_are_short() -> None:
    shown = [number(v) for v in (0.001, 100, 1e6, 31622776.0, True, "x")]
    assert shown == ["0.001", "100", "1e6", "3.16e7", "True", "x"]


def test_dense_theory_goes_through_the_trials(tmp_path: Path) -> None:
    study = run_study(load_spec(FLAGSHIP, smoke=True), Store(tmp_path))
    (figure,) = study.spec.figures
    curves = theory_curves(study, figure)
    assert [curve.hue for curve in curves] == [0.0, 0.01]
    for curve, series in zip(curves, series_of(figure, study.rows), strict=True):
        assert len(curve.x) >= 200
        assert series.theory is not None
        at = np.searchsorted(curve.x, series.x)
        assert curve.y[at] == pytest.approx(series.theory, rel=1e-12)


def test_columns_of_lists_are_drawn_as_curves() -> None:
    epsilon = [0.0, 0.1, 0.2]
    columns = {
        "model.width": [1, 1, 2, 2],
        "seed": [0, 1, 0, 1],
        "epsilon": [epsilon] * 4,
        "robust": [[1.0, 0.5, 0.0], [0.8, 0.7, 0.2], [1.0, 0.9, 0.8], None],
    }
    table = Table(columns, ["model.width"])
    one, two = series_of(Figure(name="f", x="epsilon", y="robust", hue="model.width"), table)
    assert one.x.tolist() == two.x.tolist() == epsilon
    assert one.y.tolist() == pytest.approx([0.9, 0.6, 0.1])
    assert two.y.tolist() == [1.0, 0.9, 0.8]


def test_lists_of_different_lengths_are_refused() -> None:
    table = Table({"x": [[1.0, 2.0]], "y": [[1.0]]}, [])
    with pytest.raises(NotDrawable, match="lists of different lengths"):
        series_of(Figure(name="f", x="x", y="y"), table)


def test_a_figure_of_the_history_has_a_point_for_each_step() -> None:
    columns = {"rate": [1, 1, 2, 2] * 2, "seed": [0] * 4 + [1] * 4, "step": [1, 2] * 4}
    columns["loss"] = [4, 2, 8, 6, 2, 0, 8, 4]
    one, two = series_of(Figure(name="f", rows="history", x="step", y="loss", hue="rate"), Table(columns, ["rate"]))
    assert (one.x.tolist(), one.y.tolist()) == ([1, 2], [3, 1])
    assert (two.x.tolist(), two.y.tolist()) == ([1, 2], [8, 5])


def test_the_curve_of_kaplan_and_meier_by_hand() -> None:
    """Five fits: events at 10, 20 and 20, one lost at 15, one that waits to the end. Shares 4/5, then 4/5 * 1/3."""
    found = survival([10, 20, 20, math.inf, math.inf], [30, 30, 30, 15, 30])
    assert found.x.tolist() == [0, 10, 20, 30]
    assert found.share == pytest.approx([1, 0.8, 0.8 / 3, 0.8 / 3])
    variance = 1 / (5 * 4) + 2 / (3 * 1)
    width = 1.96 * math.sqrt(variance) / abs(math.log(0.8 / 3))
    assert found.low[2] == pytest.approx((0.8 / 3) ** math.exp(width), rel=1e-3)


def test_where_none_is_lost_the_share_is_a_proportion_of_all() -> None:
    found = survival([10, 20, math.inf, math.inf], [30] * 4)
    assert found.share.tolist() == [1, 0.75, 0.5, 0.5]
    assert (found.low[1], found.high[1]) == pytest.approx((0.19412, 0.99369), abs=1e-5)  # 3 of 4
    none = survival([math.inf] * 6, [30] * 6)
    assert none.x.tolist() == [0, 30] and none.share.tolist() == [1, 1]
    assert none.low[0] == pytest.approx(0.54074, abs=1e-5)
    for steps, until in (([40], [30]), ([], []), ([math.nan], [30]), ([1, 2], [3])):
        with pytest.raises(ValueError):
            survival(steps, until)


def test_intervals_of_survival_cover_as_they_say() -> None:
    """Exponential waiting times, all watched up to 2: the share at 1 is exp(-1)."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        times = rng.exponential(size=12)
        found = survival(np.where(times < 2, times, math.inf), np.full(12, 2.0))
        at = np.searchsorted(found.x, 1.0, side="right") - 1
        inside += found.low[at] <= math.exp(-1) <= found.high[at] if at else 1
    assert inside / 400 > 0.93


def test_a_figure_of_events_shows_who_still_waits() -> None:
    figure = Figure(name="f", rows="events", x="y", y="end", hue="a")
    rows = table(y=[10.0, 20.0, math.inf, 5.0, 5.0, 5.0], end=[30.0] * 6)
    first, second = series_of(figure, rows)
    assert (first.hue, second.hue) == (1, 2)
    assert first.y == pytest.approx([1, 2 / 3, 1 / 3, 1 / 3]) and second.y.tolist() == [1, 0, 0]
    assert first.x.tolist() == [0, 10, 20, 30] and second.x.tolist() == [0, 5, 30]
    (panel,) = draw(figure, [first, second]).axes
    assert panel.lines[0].get_drawstyle() == "steps-post" and panel.get_ylabel() == "share still before it"
    with pytest.raises(NotDrawable, match="lies after the end"):
        series_of(figure, table(y=[40.0] * 6, end=[30.0] * 6))


def test_a_line_is_the_mean_of_lists_over_trials_and_a_median_figure_takes_the_median_of_x() -> None:
    rows = table(bound=[[1.0, 2.0]] * 3 + [[3.0, 4.0]] * 3, at=[[0.0, 1.0]] * 6, x=[0.0, 1.0, 5.0, 0.0, 0.0, 9.0])
    figure = Figure(name="f", x="x", y="y", line=("at", "bound"), statistic="median", line_label="bound")
    assert [s.x.tolist() for s in series_of(figure, rows)] == [[0.0, 1.0]]
    study: Any = SimpleNamespace(rows=rows, spec=SimpleNamespace(configurations=(), evaluator_columns={}))
    assert theory_curves(study, figure) == []  # no panel
    picture = draw(figure, series_of(figure, rows), [Curve(None, None, np.array([0.0, 1.0]), np.array([2.0, 3.0]))])
    (panel,) = picture.axes
    assert panel.lines[-1].get_ydata().tolist() == [2.0, 3.0]
    assert panel.get_legend().get_texts()[0].get_text() == "bound"


def test_a_place_without_limit_stands_beyond_the_largest_and_is_labelled() -> None:
    rows = Table(
        {"a": [10, 10, 100, 100, math.inf, math.inf], "seed": [0, 1] * 3, "y": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]},
        axes=["a"],
    )
    figure = Figure(name="f", x="a", y="y", scale="semilog-x")
    panel = draw(figure, series_of(figure, rows)).axes[0]
    places = [float(x) for x in panel.lines[0].get_xdata()]
    assert places == pytest.approx([10, 100, 200]) and panel.get_xlim()[1] > 200
    assert [label.get_text() for label in panel.get_xticklabels()] == ["10", "20", "50", "100", "∞"]


def test_names_on_the_x_axis_stand_in_the_order_of_the_table_with_the_colours_beside_each_other() -> None:
    rows = table(a=["sign_descent", "adam"] * 3, kind=["u"] * 2 + ["v"] * 4, seed=[0, 0, 0, 0, 1, 1])
    figure = Figure(name="f", x="a", y="y", hue="kind", scale="semilog-y")
    series = series_of(figure, rows)
    assert [(s.hue, s.x.tolist(), s.names) for s in series] == [
        ("u", [0, 1], ("sign_descent", "adam")),
        ("v", [0, 1], ("sign_descent", "adam")),
    ]
    assert series[1].y.tolist() == [4.5, 6]
    picture = draw(figure, series)
    (panel,) = picture.axes
    assert [label.get_text() for label in panel.get_xticklabels()] == ["sign descent", "adam"]
    left, right = (np.asarray(container.lines[0].get_xdata()) for container in panel.containers)
    assert (left < [0, 1]).all() and (right > [0, 1]).all() and np.allclose(left + right, [0, 2])
    assert {line.get_linestyle() for container in panel.containers for line in container.lines[:1]} == {"None"}


def test_truth_values_on_the_x_axis_are_names_and_theory_is_a_dash_at_each() -> None:
    rows = table(a=[False] * 3 + [True] * 3, limit=[2.5] * 3 + [5.5] * 3)
    figure = Figure(name="f", x="a", y="y", theory="limit")
    (series,) = series_of(figure, rows)
    assert series.names == ("False", "True") and series.y.tolist() == [2, 6]
    (panel,) = draw(figure, [series], [Curve(None, None, np.arange(9.0), np.arange(9.0))]).axes
    dashes = [line for line in panel.lines if line.get_marker() == "_" and line.get_markersize() > 10]  # caps are small
    assert [line.get_ydata().tolist() for line in dashes] == [[2.5, 5.5]]  # type: ignore[union-attr]


def test_fits_that_have_ended_are_held_at_their_last_value() -> None:
    """Two fits of one configuration, one of which is done after two of four looks; the other configuration's go on."""
    columns: dict[str, list[object]] = {
        "a": [1] * 6 + [2] * 4,
        "seed": [0, 0, 1, 1, 1, 1, 0, 0, 0, 0],
        "step": [1, 2, 1, 2, 3, 4, 1, 2, 3, 5],
        "y": [0.5, 1.0, 0.1, 0.2, 0.3, 0.4, 0.0, 0.0, 0.0, 0.0],
    }
    history = Table(columns, axes=["a"])
    given: dict[str, Any] = {"name": "f", "rows": "history", "x": "step", "y": "y", "where": {"a": 1}}
    (without,) = series_of(Figure(**given), history)
    assert without.y.tolist() == [0.3, 0.6, 0.3, 0.4], "the mean falls, for the best has left"
    (held,) = series_of(Figure(**given, hold=True), history)
    assert held.x.tolist() == [1, 2, 3, 4]
    assert held.y.tolist() == pytest.approx([0.3, 0.6, 0.65, 0.7])
    with pytest.raises(ValueError, match="hold = true: expected rows"):
        Figure(name="f", x="a", y="y", hold=True)


def test_pictures_say_names_in_words_and_infinity_by_its_sign() -> None:
    assert [in_words(value) for value in ("small_operands", math.inf, 1_000_000, 0.5, True)] == [
        "small operands", "∞", "1e6", "0.5", "True",
    ]  # fmt: skip
    rows = table(kind=["two_set"] * 3 + ["one"] * 3)
    figure = Figure(name="f", x="a", y="y", hue="kind")
    legend = draw(figure, series_of(figure, rows)).axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()][:2] == ["two set", "one"]
