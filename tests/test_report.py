"""The report: what a run directory holds is what the page shows, escaped, in one file."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from kempeframe.claims import Part
from kempeframe.cli import main
from kempeframe.console import interval_text
from kempeframe.intervals import Interval, Region
from kempeframe.report import PAGE, highlighted, read_runs, render
from kempeframe.report_drawing import WIDTH, graphic, scale_of
from kempeframe.report_table import predicted_data, results_data, script_json
from kempeframe.report_view import paper_link
from tests.report_pages import HOSTILE, Page, decoded, page_of, same

ROOT = Path(__file__).parents[1]


# The command


def test_the_command_writes_one_file(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "report.html"
    assert main(["report", str(run_folder), "--out", str(out)]) == 0
    assert re.fullmatch(rf"report  {re.escape(str(out))} \(\d+ kB, 1 run\)\n", capsys.readouterr().out)
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]
    assert out.read_text(encoding="utf-8") == render(read_runs([run_folder]))


def test_it_needs_no_torch(run_folder: Path, tmp_path: Path) -> None:
    code = "import sys; from kempeframe.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    command = [sys.executable, "-c", code, "report", str(run_folder), "--out", str(tmp_path / "x.html")]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0


def test_its_files_are_in_the_distribution() -> None:
    settings = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    matched = {path for pattern in settings["package-data"]["kempeframe"] for path in PAGE.parent.glob(pattern)}
    assert set(PAGE.iterdir()) <= matched


# What it shows


def test_claims_stand_with_verdict_estimate_region_seeds_and_source(run_folder: Path) -> None:
    text = page_of(run_folder).text
    claims = json.loads((run_folder / "claims.json").read_text())
    assert [claim["verdict"] for claim in claims] == ["fails", "holds", "undecided"]
    for claim in claims:
        assert claim["statement"] in text and claim["source"] in text and claim["reason"] in text
        for part in claim["parts"]:
            low, high = part["interval"]
            assert f"{part['estimate']:.4g} in [{low:.4g}, {high:.4g}]" in text
    assert "✗ fails as expected" in text
    assert "? undecided expected: holds" in text
    assert "✓ 1 of 3 holds" in text and "1 not as expected" in text
    assert "wanted > 3 · 6 seeds · t over seeds" in text
    assert "18 of 36 trials failed or did not finish" in text


def test_verdicts_come_from_the_run_and_not_from_the_spec(copy: Callable[[str], Path]) -> None:
    folder = copy("changed")
    claims = json.loads((folder / "claims.json").read_text())
    claims[1]["verdict"] = "not comparable"
    (folder / "claims.json").write_text(json.dumps(claims))
    assert "≠ not comparable expected: holds" in page_of(folder).text


def test_figures_are_embedded_with_their_size(run_folder: Path) -> None:
    png = (run_folder / "figures" / "weights.png").read_bytes()
    (image,) = [
        a for tag, a in page_of(run_folder).elements if tag == "img" and (a.get("src") or "").startswith("data:")
    ]
    assert base64.b64decode((image["src"] or "").partition("base64,")[2]) == png
    assert (int(image["width"] or 0), int(image["height"] or 0)) == (
        int.from_bytes(png[16:20], "big"),
        int.from_bytes(png[20:24], "big"),
    )
    assert image["alt"] == "Weights <b>and</b> shifts. weight.weight against data.shift"


def test_the_table_is_the_runs_table(run_folder: Path) -> None:
    results, predicted = page_of(run_folder).data()
    with (run_folder / "table.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert [column["name"] for column in results["columns"]] == head
    assert results["rows"] == len(rows) == 36
    for i, column in enumerate(results["columns"]):
        assert ["" if v is None else str(v) for v in decoded(column)] == [row[i] for row in rows]
    groups = {column["name"]: column["group"] for column in results["columns"]}
    assert groups["data.shift"] == "Configuration" and groups["status"] == "Fit" and groups["weight"] == "Measured"
    hidden = {column["name"] for column in results["columns"] if column["hidden"]}
    assert {"training_loss", "weight.weight"} <= hidden and "weight" not in hidden and "error" not in hidden
    assert predicted["rows"] == 3
    assert decoded(next(c for c in predicted["columns"] if c["name"] == "predicted")) == [0.0, 1.0, 2.0]


def test_failures_stand_together_by_error_with_trials_and_traceback(run_folder: Path) -> None:
    page = page_of(run_folder)
    assert "18 trials failed" in page.text
    assert page.text.count("Traceback (most recent call last)") == 1
    assert 'raise RuntimeError("told to fail")' in page.text
    assert "data.shift = 2.0, optimizer.fail = True, seed 5" in page.text


def test_it_says_how_to_reproduce(run_folder: Path) -> None:
    text = page_of(run_folder).text
    environment = json.loads((run_folder / "environment.json").read_text())
    assert "kempeframe run first.toml" in text
    assert f"kempeframe run {run_folder.parent.parent / 'spec.toml'} --out {run_folder} --jobs 1 --quiet" in text
    assert f"torch {environment['versions']['torch']}" in text and environment["platform"] in text
    assert str(run_folder.parent.parent / "toy_plugin.py") in text
    spec = (run_folder / "spec.toml").read_text()
    assert "".join(Page(highlighted(spec)).words) == spec


def test_a_paper_is_linked_where_its_name_says_how() -> None:
    assert paper_link("arXiv:2410.04840") == "https://arxiv.org/abs/2410.04840"
    assert paper_link("arXiv:hep-th/9901001") == "https://arxiv.org/abs/hep-th/9901001"
    assert paper_link("doi:10.1000/x.1") == "https://doi.org/10.1000/x.1"
    assert paper_link("https://example.org/a") == "https://example.org/a"
    assert paper_link("javascript:alert(1)") is None and paper_link("A book, 2020") is None and paper_link("") is None


# Safe and self-contained


def test_nothing_is_loaded_from_elsewhere(run_folder: Path, copy: Callable[[str], Path]) -> None:
    source = render(read_runs([run_folder, copy("second")]))
    for tag, attributes in Page(source).elements:
        for name in ("src", "href", "srcset", "poster", "data", "action"):
            value = attributes.get(name)
            if tag == "a" and value is not None:
                assert value.startswith("#") or value == "https://arxiv.org/abs/2410.04840"
            elif value is not None:
                assert value.startswith("data:"), (tag, name, value)
    assert not re.search(r"url\(|@import|@font-face", (PAGE / "style.css").read_text(encoding="utf-8"))
    assert "default-src 'none'" in source


def test_everything_shown_is_escaped(run_folder: Path) -> None:
    page = page_of(run_folder)
    assert HOSTILE in page.text
    assert "weights lie above </script> three" in page.text and "Section <4>" in page.text
    assert not [tag for tag, _ in page.elements if tag in ("b", "i")]
    assert [a.get("type") for a, _ in page.scripts] == ["application/json", "application/json", None]
    assert not [a for tag, a in page.elements if tag == "img" and a.get("src") == "x"]
    assert not [a for _, a in page.elements for name in a if name.startswith("on")]


def test_the_one_script_is_the_one_that_the_policy_allows(run_folder: Path) -> None:
    source = render(read_runs([run_folder]))
    script = source.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in source


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(anything)
def test_data_never_ends_its_script(value: Any) -> None:
    text = script_json(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


def test_data_that_looks_like_markup() -> None:
    for text in ("</script>", "<!--<script>", "]]>", "&lt;", "\u2028"):
        page = Page(f'<script type="application/json">{script_json([text])}</script>')
        assert page.data() == [[text]] and len(page.elements) == 1


# Tables


numbers = st.none() | st.floats() | st.integers(-(2**53), 2**53)
columns = st.integers(0, 12).flatmap(
    lambda n: st.dictionaries(
        st.text(min_size=1, max_size=4),
        st.one_of(
            *(
                st.lists(kind, min_size=n, max_size=n)
                for kind in (
                    numbers,
                    st.none() | st.booleans(),
                    st.none() | st.text(),
                    st.lists(st.floats(), max_size=3),
                )
            )
        ),
        min_size=1,
    )
)


@given(columns)
def test_a_column_comes_back_from_its_json(table: dict[str, list[Any]]) -> None:
    data = json.loads(script_json(results_data(table)))
    for column, values in zip(data["columns"], table.values(), strict=True):
        if column["type"] != "list":
            assert same(decoded(column), values)


def test_kinds_of_columns() -> None:
    table: dict[str, list[Any]] = {
        "numbers": [1, 2.5, math.nan, None],
        "flags": [True, None, False, True],
        "lists": [[1.0, math.nan], [], None, [math.inf]],
        "large": [2**60 + 1, 1, 2, 3],
        "mixed": ["a", "1", None, "true"],
        "empty": [None] * 4,
    }
    found = {column["name"]: column for column in results_data(table)["columns"]}
    kinds = {name: column["type"] for name, column in found.items()}
    assert kinds | {"empty": ""} == {
        "numbers": "number", "flags": "boolean", "lists": "list", "large": "text", "mixed": "text", "empty": "",
    }  # fmt: skip
    assert decoded(found["lists"]) == [[1.0, "NaN"], [], None, ["Infinity"]]
    assert decoded(found["large"])[0] == str(2**60 + 1)
    assert found["empty"]["hidden"]


def test_values_that_repeat_are_written_once() -> None:
    name = "a name that is long enough to be seen " * 3
    data = script_json(results_data({"axis": [name] * 5000, "value": list(range(5000))}))
    assert data.count(name) == 1


def test_tables_of_no_rows_and_without_seeds() -> None:
    assert results_data({})["rows"] == 0
    assert results_data({"a": [], "seed": []})["columns"][0]["group"] == "Configuration"
    assert results_data({"a": [1]})["columns"][0]["group"] == "Measured"
    assert "drawn" not in predicted_data({"a": [1]})


# Claims, drawn


def part(estimate: float, low: float, high: float, region: Region, n: int = 6) -> Part:
    return Part(
        label="", interval=Interval(estimate, low, high, n, "t over seeds"), region=region, decision="undecided"
    )


finite = st.floats(-1e300, 1e300)


@given(
    st.lists(finite, min_size=3, max_size=3),
    st.lists(finite, min_size=2, max_size=2, unique=True),
    st.sampled_from(["ratio", "slope", "location"]),
)
def test_a_drawing_keeps_the_order_of_its_numbers(values: list[float], edges: list[float], kind: str) -> None:
    low, estimate, high = sorted(values)
    one = part(estimate, low, high, Region(*sorted(edges)))
    drawing = graphic(one, scale_of([one], kind))
    assert drawing is not None and drawing.interval is not None and drawing.estimate is not None
    places = [drawing.interval[0], drawing.estimate, drawing.interval[1]]
    assert places == sorted(places) and places[0] >= 0 and places[-1] <= WIDTH
    left, right = drawing.region[0], drawing.region[0] + drawing.region[1]
    assert 0 <= left <= right + 0.1 and right <= WIDTH + 0.1
    if estimate < min(edges):
        assert drawing.estimate <= left
    if estimate > max(edges):
        assert drawing.estimate >= right - 0.11


UNUSUAL = [
    (0.5, -math.inf, math.inf),
    (math.nan, -math.inf, math.inf),
    (math.nan, math.nan, math.nan),
    (math.inf, 1.0, math.inf),
    (2.0, 2.0, 2.0),
]


@pytest.mark.parametrize("values", UNUSUAL)
def test_intervals_that_are_not_finite_are_drawn_as_far_as_they_go(values: tuple[float, float, float]) -> None:
    for region in (Region(low=0.0), Region(high=1.0), Region(0.0, 1.0)):
        one = part(*values, region)
        drawing = graphic(one, scale_of([one], "threshold"))
        assert drawing is not None
        assert (drawing.estimate is None) == (not math.isfinite(values[0]))
        assert drawing.open_right == (values[2] == math.inf) and drawing.open_left == (values[1] == -math.inf)
        assert "nan in" not in drawing.description and interval_text(one)


def test_a_region_without_an_edge_reaches_the_end() -> None:
    one = part(1.0, 0.5, 1.5, Region(low=0.0))
    drawing = graphic(one, scale_of([one], "slope"))
    assert drawing is not None and drawing.region[0] + drawing.region[1] == WIDTH and len(drawing.edges) == 1
    assert [label.text for label in drawing.labels] == ["0"]


def test_ratios_are_drawn_on_a_logarithmic_axis() -> None:
    one = part(1000.0, 900.0, 1100.0, Region(500.0, 2000.0))
    drawing = graphic(one, scale_of([one], "ratio"))
    assert drawing is not None and drawing.logarithmic and drawing.estimate == WIDTH / 2
    negative = part(1.0, -1.0, 2.0, Region(0.5, 2.0))
    scale = scale_of([negative], "ratio")
    assert scale is not None and not scale.logarithmic
