"""The table: what a selection names, what a group is, and that files hold every digit."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kempeframe.table import Table


def rows() -> Table:
    return Table(
        {
            "n": [10, 10, 1_000_000, 1_000_000],
            "method": ["b", "a", "b", "a"],
            "seed": [0, 0, 1, 1],
            "loss": [0.1, None, 0.3, math.inf],
        },
        axes=["n", "method"],
    )


@pytest.mark.parametrize(
    ("selection", "seeds"),
    [
        ({}, [0, 0, 1, 1]),
        ({"n": 1e6}, [1, 1]),
        ({"n": 1_000_000, "method": "a"}, [1]),
        ({"n": [10, 1e6]}, [0, 0, 1, 1]),
        ({"n": {"between": [5, 100]}}, [0, 0]),
        ({"n": {"between": [10, 10]}}, [0, 0]),
        ({"n": {"between": [11, 12]}}, []),
        ({"method": ["a", "c"]}, [0, 1]),
        ({"method": 3}, []),
        ({"n": "10"}, []),
        ({"loss": math.inf}, [1]),
        ({"method": {"between": [0, 1]}}, []),
    ],
)
def test_a_selection(selection: dict[str, Any], seeds: list[int]) -> None:
    assert rows().where(selection).columns["seed"] == seeds


def test_numbers_match_up_to_their_last_digits() -> None:
    table = Table({"x": [0.1 + 0.2, 0.3000001]})
    assert table.where({"x": 0.3}).columns["x"] == [0.1 + 0.2]
    assert table.where({"x": {"between": [0.0, 0.3]}}).columns["x"] == [0.1 + 0.2]


def test_true_is_one() -> None:
    assert len(Table({"x": [True, False]}).where({"x": True})) == 1


def test_a_selection_keeps_axes_and_exact_columns() -> None:
    table = Table({"x": [1, 2], "theory": [0.5, 0.6]}, axes=["x"], exact=frozenset({"theory"}))
    kept = table.where({"x": 2})
    assert (kept.axes, kept.exact) == (["x"], frozenset({"theory"}))
    assert kept.columns == {"x": [2], "theory": [0.6]}


def test_columns_as_arrays() -> None:
    assert rows().column("loss").tolist()[2:] == [0.3, math.inf]
    assert math.isnan(rows().column("loss")[1])
    assert rows().column("method").dtype == object
    assert Table({"b": [True, False]}).column("b").tolist() == [1.0, 0.0]
    assert Table({"big": [10**400, -(10**400)]}).column("big").tolist() == [math.inf, -math.inf]
    lists = Table({"widths": [[1, 2], [3, 4]]})
    assert lists.column("widths").shape == (2,)
    assert len(lists.unique("widths")) == 2
    with pytest.raises(KeyError, match="loss"):
        rows().column("los")


def test_groups_come_in_the_order_of_their_first_rows() -> None:
    found = [(values, group.columns["seed"]) for values, group in rows().groups(["method"])]
    assert found == [({"method": "b"}, [0, 1]), ({"method": "a"}, [0, 1])]
    assert [len(group) for _, group in rows().groups(["n", "method"])] == [1, 1, 1, 1]
    assert [(values, len(group)) for values, group in rows().groups([])] == [({}, 4)]
    assert list(Table({}).groups([])) == []


def test_groups_of_values_that_are_equal() -> None:
    table = Table({"x": [1, 1.0, math.nan, float("nan"), None]})
    assert [len(group) for _, group in table.groups(["x"])] == [2, 2, 1]


def test_unique_sorts_numbers_and_leaves_text_in_place() -> None:
    assert Table({"x": [3, 1.5, 3.0]}).unique("x") == [1.5, 3]
    assert rows().unique("method") == ["b", "a"]


def test_an_empty_table() -> None:
    empty = rows().where({"n": 7})
    assert (len(empty), empty.columns["n"], len(Table({}))) == (0, [], 0)
    assert empty.column("n").shape == (0,)
    assert empty.take(np.zeros(0, dtype=bool)).columns["seed"] == []


@given(st.lists(st.floats(allow_nan=False), min_size=1), st.text(alphabet="a,\"'\n é=", max_size=8))
def test_a_csv_holds_every_digit(tmp_path_factory: pytest.TempPathFactory, numbers: list[float], text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "table.csv"
    Table({"x": numbers, text + "t": [text] * len(numbers)}).write_csv(path)
    with path.open(newline="", encoding="utf-8") as file:
        header, *body = csv.reader(file)
    assert header == ["x", text + "t"]
    assert [float(x) for x, _ in body] == numbers
    assert {t for _, t in body} == {text}


def test_parquet_keeps_numbers_and_writes_mixed_columns_as_text(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "x": [0.1, 1 / 3, math.inf],
        "mixed": [1, "optimal", None],
        "numbers": [1, 2.5, None],
        "flags": [True, False, None],
        "nothing": [None, None, None],
        "lists": [[1, 2], "a", 3],
        "text": ["é", "", None],
    }
    Table(columns).write_parquet(tmp_path / "table.parquet")
    found = pq.read_table(tmp_path / "table.parquet").to_pydict()
    assert found["x"] == columns["x"]
    assert found["mixed"] == ["1", "optimal", None]
    assert found["numbers"] == [1.0, 2.5, None]
    for name in ("flags", "nothing", "text"):
        assert found[name] == columns[name]
    assert found["lists"] == ["[1, 2]", "a", "3"]


def test_parquet_of_no_rows(tmp_path: Path) -> None:
    Table({"x": [], "y": []}).write_parquet(tmp_path / "table.parquet")
    assert pq.read_table(tmp_path / "table.parquet").to_pydict() == {"x": [], "y": []}


def test_a_data_frame() -> None:
    frame = rows().pandas()
    assert frame["n"].tolist() == [10, 10, 1_000_000, 1_000_000]
    assert list(frame.columns) == ["n", "method", "seed", "loss"]
