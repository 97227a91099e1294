"""Heat maps: each cell is the mean of its trials, and says so."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kempeframe.figures import Figure, save
from kempeframe.heat_maps import draw_heat_map, grids_of
from kempeframe.series import NotDrawable
from kempeframe.table import Table


def rows(**extra: list[Any]) -> Table:
    """Two sizes by two shares by two seeds, one cell of which has failed; sizes stand from the largest."""
    columns: dict[str, list[Any]] = {
        "size": [math.inf, math.inf, math.inf, math.inf, 10, 10, 10, 10],
        "share": [0.5, 0.5, 0.25, 0.25, 0.5, 0.5, 0.25, 0.25],
        "seed": [0, 1] * 4,
        "accuracy": [0.5, 0.7, 1.0, 1.0, None, None, 0.25, None],
    }
    return Table({**columns, **extra}, axes=["size", "share"])


def figure(**changes: Any) -> Figure:
    return Figure(**{"name": "f", "x": "size", "y": "share", "cells": "accuracy", **changes})


def test_cells_are_means_over_seeds_and_numbers_ascend() -> None:
    (grid,) = grids_of(figure(), rows())
    assert (grid.x, grid.y) == ([10, math.inf], [0.25, 0.5])
    np.testing.assert_allclose(grid.values, [[0.25, 1.0], [np.nan, 0.6]])


def test_the_median_where_it_is_asked_for() -> None:
    table = Table({"a": [1] * 3, "b": [1] * 3, "seed": [0, 1, 2], "y": [0.0, 1.0, 9.0]}, axes=["a", "b"])
    (grid,) = grids_of(figure(x="a", y="b", cells="y", statistic="median"), table)
    assert grid.values.tolist() == [[1.0]]


def test_names_stand_in_the_order_of_the_table_and_facets_share_axes() -> None:
    names = ["plain"] * 4 + ["dropout"] * 4
    table = Table({**rows().columns, "variant": names}, axes=["size", "share", "variant"])
    left, right = grids_of(figure(x="variant", facet="size"), table)
    assert left.x == right.x == ["plain", "dropout"]
    assert (left.facet, right.facet) == (math.inf, 10)
    assert np.isnan(left.values[:, 1]).all()  # infinite sizes have no dropout


def test_where_leaves_out_rows() -> None:
    (grid,) = grids_of(figure(where={"share": 0.25}), rows())
    assert grid.values.tolist() == [[0.25, 1.0]]


def test_two_configurations_in_one_cell_are_refused() -> None:
    crowded = Table({**rows().columns, "width": [1, 2] * 4}, axes=["size", "share", "width"])
    with pytest.raises(NotDrawable, match=r"2 configurations fall into the cell size = inf, share = 0\.5; exp"):
        grids_of(figure(), crowded)


def test_text_and_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(NotDrawable, match="accuracy holds text"):
        grids_of(figure(), rows(accuracy=["high"] * 8))
    with pytest.raises(NotDrawable, match="different lengths"):
        grids_of(figure(), rows(accuracy=[[1, 2]] * 8, share=[[1]] * 8))


def test_lists_and_histories_span_an_axis_of_their_own() -> None:
    table = Table({"a": [1, 1], "seed": [0, 1], "at": [[5, 6]] * 2, "y": [[1.0, 2.0], [3.0, 4.0]]}, axes=["a"])
    (grid,) = grids_of(figure(x="at", y="a", cells="y"), table)
    assert grid.values.tolist() == [[2.0, 3.0]]
    history = Table({"a": [1, 1, 2], "seed": [0] * 3, "step": [10, 20, 10], "y": [1.0, 2.0, 3.0]}, axes=["a"])
    spread = figure(rows="history", x="step", y="a", cells="y")
    np.testing.assert_allclose(grids_of(spread, history)[0].values, [[1, 2], [3, np.nan]])
    ended = Table({"a": [1] * 3, "seed": [0, 0, 1], "step": [10, 20, 10], "y": [1.0, 2.0, 4.0]}, axes=["a"])
    held = figure(rows="history", x="step", y="a", cells="y", hold=True)
    assert grids_of(held, ended)[0].values.tolist() == [[2.5, 3.0]]


@pytest.mark.parametrize("name", ["hue", "theory", "line", "levels", "verticals", "scale", "rows"])
def test_what_belongs_to_lines_is_refused(name: str) -> None:
    given = {"line": ("a", "b"), "levels": (1.0,), "verticals": (1.0,), "scale": "log-log", "rows": "events"}
    with pytest.raises(ValueError, match=f"a heat map, which has no {'events' if name == 'rows' else name}"):
        figure(**{name: given.get(name, "size")})


def test_every_cell_has_its_number_and_missing_ones_a_dash(tmp_path: Path) -> None:
    picture = draw_heat_map(figure(), grids_of(figure(), rows()))
    panel, bar = picture.axes
    assert [text.get_text() for text in panel.texts] == ["0.25", "1", "-", "0.6"]
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["10", "∞"]
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["0.25", "0.5"]
    assert bar.get_ylabel() == "accuracy"
    png, pdf = save(picture, tmp_path, "f")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert pdf.read_bytes().startswith(b"%PDF")


def test_wide_grids_have_no_numbers_and_few_ticks() -> None:
    count = list(range(60))
    wide = Table({"a": count, "b": [0] * 60, "seed": [0] * 60, "y": list(map(float, count))}, axes=["a", "b"])
    over = figure(x="a", y="b", cells="y")
    panel = draw_heat_map(over, grids_of(over, wide)).axes[0]
    assert not panel.texts
    assert len(panel.get_xticks()) == 12


@pytest.mark.parametrize("values", [[None] * 8, [1.0] * 8])
def test_nothing_and_equal_values_are_drawn(values: list[float | None]) -> None:
    picture = draw_heat_map(figure(facet="seed"), grids_of(figure(facet="seed"), rows(accuracy=values)))
    texts = [text.get_text() for panel in picture.axes for text in panel.texts]
    assert ("no finished trials" in texts) == (values[0] is None)
    assert draw_heat_map(figure(), []).axes
