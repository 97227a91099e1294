"""The report's table in a browser: it sorts, filters, turns pages, chooses columns, copies and saves."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.report_browser import HOSTILE, NEEDS_BROWSER, VALUES, Keys, Reader

pytestmark = NEEDS_BROWSER


def test_sorting_by_click_goes_up_down_and_back(reader: Reader) -> None:
    reader.open("one")
    titles = {cell.text.strip("▲▼ \n"): cell for cell in reader.all("#run1-table thead th")}
    assert titles["metric"].get_attribute("aria-sort") == "none"
    reader.heading("metric").click()
    assert titles["metric"].get_attribute("aria-sort") == "ascending"
    up = [float(text) for text in reader.column("metric")]
    assert up == sorted(up)
    assert up[0] == pytest.approx(min(v for v in VALUES["metric"] if isinstance(v, float) and v == v), abs=1e-5)
    reader.heading("metric").click()
    assert titles["metric"].get_attribute("aria-sort") == "descending"
    down = reader.column("metric")
    assert down[0] == "inf" and [float(x) for x in down[1:]] == sorted((float(x) for x in down[1:]), reverse=True)
    reader.one('#run1-table [aria-label="Last page"]').click()
    assert reader.column("metric")[-2:] == ["nan", "–"]  # noqa: RUF001
    reader.heading("metric").click()
    assert titles["metric"].get_attribute("aria-sort") == "none" and reader.column("seed")[:3] == ["0", "1", "2"]
    reader.heading("kind").click()
    assert reader.column("kind")[0] == HOSTILE


FILTERS: list[tuple[str, str, Callable[[Any], bool]]] = [
    ("metric", "> 0.3", lambda v: v is not None and v > 0.3),
    ("metric", "<= -0.5", lambda v: v is not None and v <= -0.5),
    ("metric", "0.1..0.5", lambda v: v is not None and 0.1 <= v <= 0.5),
    ("metric", "-0.5 to 0.5", lambda v: v is not None and -0.5 <= v <= 0.5),
    ("metric", "> 0.1 < 0.5", lambda v: v is not None and 0.1 < v < 0.5),
    ("metric", ">0.1, <=0.5", lambda v: v is not None and 0.1 < v <= 0.5),
    ("metric", "nan", lambda v: v is not None and v != v),
    ("metric", "= inf", lambda v: v == math.inf),
    ("metric", "none", lambda v: v is None),
    ("metric", f"= {math.sin(3):.6g}", lambda v: v == math.sin(3)),
    ("small", "< 2e-9", lambda v: v < 2e-9),
    ("small", "1e-9..5e-9", lambda v: 1e-9 <= v <= 5e-9),
    ("data.n", "100", lambda v: v in (100, 1000)),
    ("data.n", "= 100", lambda v: v == 100),
    ("data.n", "!= 100", lambda v: v != 100),
    ("kind", "ALPH", lambda v: "alph" in v.lower()),
    ("kind", "= alpha", lambda v: v == "alpha"),
    ("kind", "!= alpha", lambda v: v != "alpha"),
    ("kind", "no such thing", lambda v: False),
    ("curve", "0.2", lambda v: any("0.2" in f"{x:.6g}" for x in v)),
]


@pytest.mark.parametrize(("name", "text", "keeps"), FILTERS, ids=[f"{name} {text}" for name, text, _ in FILTERS])
def test_filters_keep_the_rows_they_name(reader: Reader, name: str, text: str, keeps: Callable[[Any], bool]) -> None:
    if reader.driver.current_url != (reader.folder / "one.html").as_uri():
        reader.open("one")
    reader.run("document.querySelector('#run1-table').grid.reset()")
    box = reader.filter(name, text)
    assert box.get_attribute("aria-invalid") == "false"
    expected = [i for i, value in enumerate(VALUES[name]) if keeps(value)]
    assert sorted(reader.run("return document.querySelector('#run1-table').grid.order")) == expected
    assert reader.count.startswith(f"{len(expected)} of 200 rows")
    assert (["No row meets the filters."] if not expected else []) == [
        c.text for c in reader.all("#run1-table .nothing")
    ]


def test_filters_of_several_columns_go_together_and_can_be_cleared(reader: Reader) -> None:
    reader.open("one")
    box = reader.one("#run1-table .grid-box")
    height = box.size["height"]
    reader.filter("kind", "alpha")
    reader.filter("metric", "> 0.9")
    expected = [i for i in range(200) if VALUES["kind"][i] == "alpha" and (VALUES["metric"][i] or 0) > 0.9]
    assert reader.column("seed") == [str(i) for i in expected]
    assert box.size["height"] == height  # what stands below did not move
    reader.one("#run1-table .grid-tools button").click()
    assert reader.count.startswith("200 rows") and reader.one('[aria-label="Filter kind"]').get_attribute("value") == ""


def test_a_filter_that_cannot_be_read_is_said_and_changes_nothing(reader: Reader) -> None:
    reader.open("one")
    box = reader.filter("metric", "> x")
    assert box.get_attribute("aria-invalid") == "true"
    assert "“> x” is no filter yet" in reader.one("#run1-table .grid-message").text
    assert reader.count.startswith("200 rows")


def test_pages_hold_few_rows_and_turning_them_moves_no_column(reader: Reader) -> None:
    reader.open("one")
    widths = [cell.size["width"] for cell in reader.all("#run1-table thead th")]
    assert len(reader.column("seed")) == 50 and reader.count == "200 rows, 1 to 50 shown"
    reader.one('#run1-table [aria-label="Next page"]').click()
    assert reader.column("seed")[0] == "50" and reader.count == "200 rows, 51 to 100 shown"
    assert [cell.size["width"] for cell in reader.all("#run1-table thead th")] == widths
    reader.one('#run1-table [aria-label="Last page"]').click()
    assert not reader.one('#run1-table [aria-label="Next page"]').is_enabled()
    reader.one("#run1-table select").send_keys("250")
    assert len(reader.column("seed")) == 200


def test_columns_are_chosen(reader: Reader) -> None:
    reader.open("one")
    button = reader.one("#run1-table .columns > button")
    assert button.text == "Columns (8 of 8)"
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    next(label for label in reader.all("#run1-table .columns label") if label.text == "kind").click()
    assert button.text == "Columns (7 of 8)"
    reader.press(Keys.ESCAPE)
    assert button.get_attribute("aria-expanded") == "false" and reader.focused == button
    assert "kind" not in [cell.text.strip() for cell in reader.all("#run1-table thead th")]


def csv_of(reader: Reader) -> list[list[str]]:
    return list(csv.reader(io.StringIO(reader.run("return document.querySelector('#run1-table').grid.csv()"))))


def test_a_saved_csv_is_the_runs_table(reader: Reader, tmp_path: Path) -> None:
    reader.open("one")
    folder = {"behavior": "allow", "downloadPath": str(tmp_path)}
    reader.driver.execute_cdp_cmd("Browser.setDownloadBehavior", folder)
    next(button for button in reader.all("#run1-table button") if button.text == "Save CSV").click()
    saved = tmp_path / "first-table.csv"
    for _ in range(100):
        if saved.exists():
            break
        time.sleep(0.05)
    run = reader.folder / "runs" / "first" / "table.csv"
    written, found = (list(csv.reader(io.StringIO(path.read_bytes().decode(), newline=""))) for path in (run, saved))
    assert found[0] == written[0] and len(found) == len(written)
    for row, other in zip(found[1:], written[1:], strict=True):
        assert row[:5] == other[:5]
        assert row[5] == other[5] or float(row[5]) == float(other[5])  # 1e-09 or 1e-9
        assert float(row[6]) == float(other[6]) and json.loads(row[7]) == json.loads(other[7])


def test_a_copied_csv_holds_what_is_filtered_and_sorted(reader: Reader) -> None:
    reader.open("one")
    grant = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    reader.driver.execute_cdp_cmd("Browser.grantPermissions", grant)
    reader.filter("metric", "> 0.9")
    reader.heading("metric").click()
    button = next(button for button in reader.all("#run1-table button") if button.text == "Copy CSV")
    button.click()
    for _ in range(100):
        if button.text == "Copied":
            break
        time.sleep(0.02)
    assert button.text == "Copied"
    read = "const done = arguments[0]; navigator.clipboard.readText().then(done, (error) => done(String(error)))"
    rows = list(csv.reader(io.StringIO(reader.driver.execute_async_script(read))))
    assert rows == csv_of(reader)
    metrics = [float(row[5]) for row in rows[1:]]
    assert metrics == sorted(v for v in VALUES["metric"] if v is not None and v > 0.9)
