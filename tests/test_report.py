"""The report: what a run directory holds is what the page shows, escaped, in one file; bad input writes nothing."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from kempeframe.claims import Part
from kempeframe.cli import main
from kempeframe.intervals import Interval, Region
from kempeframe.report import PAGE, highlighted, read_runs, render
from kempeframe.report_comparing import claim_rows, environment_differences, flat, picture_rows, spec_differences
from kempeframe.report_drawing import WIDTH, graphic, measured_text, scale_of
from kempeframe.report_reading import read_run
from kempeframe.report_table import predicted_data, results_data, script_json
from kempeframe.report_view import ClaimView, RunView, labels_of, paper_link
from kempeframe.table import Table

ROOT = Path(__file__).parents[1]
PLUGIN = Path(__file__).parent / "toy_plugin.py"
HOSTILE = "</script><script>alert(1)</script> & <b>\"bold\"</b> 'x' <img src=x onerror=alert(2)>"
SPEC = """
title = {title}
paper = "arXiv:2410.04840"
description = "What is <i>compared</i>."
seeds = 6
plugins = ["toy_plugin.py"]
data = {{ use = "toy_plugin.numbers" }}
model = {{ use = "toy_plugin.scalar" }}
optimizer = {{ use = "toy_plugin.copy" }}
evaluator = [{{ use = "toy_plugin.weight" }}, {{ use = "toy_plugin.prediction" }}]

[sweep]
"data.shift" = [0.0, 1.0, 2.0]
"optimizer.fail" = [false, true]

[[figure]]
name = "weights"
title = "Weights <b>and</b> shifts"
x = "data.shift"
y = "weight.weight"

[[claim]]
statement = "weights lie above </script> three"
source = "Section <4>"
threshold = {{ of = "weight.weight", where = {{ "optimizer.fail" = false }} }}
above = 3.0
expect = "fails"

[[claim]]
statement = "shifts of two are larger than none"
[claim.order]
of = "weight.weight"
lower = {{ "data.shift" = 0.0 }}
higher = {{ "data.shift" = 2.0 }}
where = {{ "optimizer.fail" = false }}

[[claim]]
statement = "what failed decides nothing"
threshold = {{ of = "weight.weight" }}
above = 0.0
"""


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, own_store: Path) -> Path:
    """A real run: half of its trials fail; its title is hostile."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copy(PLUGIN, folder)
    (folder / "spec.toml").write_text(SPEC.format(title=json.dumps(HOSTILE)), encoding="utf-8")
    code = main(["run", str(folder / "spec.toml"), "--out", str(folder / "runs" / "first"), "--jobs", "1", "--quiet"])
    assert code == 3
    return folder / "runs" / "first"


@pytest.fixture
def copy(run_folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copies the run, to be changed."""

    def make(name: str) -> Path:
        return Path(shutil.copytree(run_folder, tmp_path / name, ignore=shutil.ignore_patterns("tensorboard")))

    return make


class Page(HTMLParser):
    """The elements of a page, its text, and its scripts."""

    VOID = ("meta", "link", "img", "input", "br")

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def data(self) -> list[Any]:
        return [json.loads(text) for attributes, text in self.scripts if attributes.get("type") == "application/json"]


def page_of(*folders: Path) -> Page:
    page = Page(render(read_runs(folders)))
    assert page.open == []
    return page


def decoded(column: dict[str, Any]) -> list[Any]:
    """What the page's script makes of a column."""
    named = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    values = column["values"] if "values" in column else [column["distinct"][code] for code in column["codes"]]
    return [named.get(v, v) if column["type"] == "number" and isinstance(v, str) else v for v in values]


def same(first: Any, second: Any) -> bool:
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second or (first != first and second != second))


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
        assert "nan in" not in drawing.description and measured_text(one)


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


# Runs that are not finished, or hold less


def write_status(folder: Path, **changes: Any) -> None:
    now = time.time()
    state = {"title": "", "spec": "", "executor": "in this process", "jobs": False, "state": "running",
             "pid": os.getpid(), "host": socket.gethostname(), "started": now - 60, "updated": now, "trials": 36,
             "done": 12, "stored_before": 0, "failed": 0, "running": {}}  # fmt: skip
    (folder / "status.json").write_text(json.dumps({**state, **changes}))


def only(folder: Path, *names: str) -> Path:
    """Leaves only these files."""
    for path in folder.iterdir():
        if path.name not in names:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


def test_a_running_run_says_how_far_it_is(copy: Callable[[str], Path]) -> None:
    folder = only(copy("running"), "spec.toml")
    write_status(folder)
    text = page_of(folder).text
    assert "12 of 36 done" in text and "running for 60 s" in text
    assert "claims are judged when the run ends" in text and "weights: not drawn" in text
    assert "12 of 36 trials are done" in text and "environment is written when the run ends" in text


def test_a_run_whose_process_is_gone_is_broken_off(copy: Callable[[str], Path]) -> None:
    folder = only(copy("gone"), "spec.toml")
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    write_status(folder, pid=process.pid)
    assert read_run(folder).state == "broken"
    assert "broken off" in page_of(folder).text


def test_half_written_files_of_a_running_run_are_absent(copy: Callable[[str], Path]) -> None:
    folder = copy("writing")
    write_status(folder)
    for name in ("table.parquet", "figures/weights.png"):
        path = folder / name
        path.write_bytes(path.read_bytes()[:10])
    run = read_run(folder)
    assert run.table is None and [picture.png for picture in run.pictures] == [None]


def test_a_run_written_from_python_has_no_status(copy: Callable[[str], Path]) -> None:
    folder = copy("python")
    (folder / "status.json").unlink()
    run = read_run(folder)
    assert run.state == "done" and RunView(1, "python", run).original_command is None
    assert "As it was run" not in page_of(folder).text


def test_theory_alone(tmp_path: Path, own_store: Path) -> None:
    shutil.copy(PLUGIN, tmp_path)
    spec, out = tmp_path / "spec.toml", tmp_path / "theory"
    spec.write_text(
        """
        plugins = ["toy_plugin.py"]
        data = { use = "toy_plugin.numbers" }
        evaluator = [{ use = "toy_plugin.prediction" }]
        sweep = { "data.shift" = [1.0, 2.0] }
        [[claim]]
        statement = "the theory lies above none"
        threshold = { of = "weight" }
        above = 0.0
        """
    )
    assert main(["run", str(spec), "--out", str(out), "--jobs", "1", "--quiet"]) == 0
    page = page_of(out)
    (results,) = page.data()
    assert results["rows"] == 2 and "Measured beside theory" not in page.text
    assert "1 (exact) at shift = 1 wanted > 0" in page.text and "seeds · exact" not in page.text
    hidden = {column["name"] for column in results["columns"] if column["hidden"]}
    assert {"converged", "fit_seconds", "error"} <= hidden


def test_odd_values_lists_and_many_rows(copy: Callable[[str], Path]) -> None:
    folder = copy("large")
    odd = [math.nan, math.inf, -math.inf, None, 1e-300]
    table = {
        "data.n": [10 ** (i % 4) for i in range(10_000)],
        "seed": list(range(10_000)),
        "odd": [odd[i % 5] for i in range(10_000)],
        "curve": [[0.5, math.nan][: i % 3] for i in range(10_000)],
        "text": [HOSTILE if i % 2 else None for i in range(10_000)],
    }
    Table(table).write_parquet(folder / "table.parquet")
    results = page_of(folder).data()[0]
    found = {column["name"]: decoded(column) for column in results["columns"]}
    assert results["rows"] == 10_000
    assert all(same(found[name], table[name]) for name in ("data.n", "seed", "odd", "text"))
    assert found["curve"][:3] == [[], [0.5], [0.5, "NaN"]]


def test_a_study_without_claims_figures_or_title(copy: Callable[[str], Path]) -> None:
    folder = only(copy("bare"), "table.parquet")
    (folder / "spec.toml").write_text("seeds = 1\n")
    (folder / "claims.json").write_text("[]")
    text = page_of(folder).text
    assert "The spec states no claims" in text and "no claims" in text and "bare" in text


# Bad input

UNKNOWN_VERDICT = json.dumps(
    [{"statement": "", "source": "", "kind": "slope", "verdict": "odd", "expected": "holds", "reason": "",
      "seeds_needed": None, "parts": []}]
).encode()  # fmt: skip


def damage(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shutil.rmtree, "there is no such directory"),
        (only, "expected a run directory with a spec.toml"),
        (damage("spec.toml", b"title = "), "spec.toml\n    not TOML"),
        (damage("spec.toml", b"\xff\xfe"), "spec.toml\n    can't be read: UnicodeDecodeError"),
        (damage("claims.json", b"[{"), "claims.json\n    not JSON"),
        (damage("claims.json", b"{}"), "claims.json\n    expected a JSON array"),
        (damage("claims.json", b'[{"statement": "x"}]'), "claims.json\n    expected what `kempeframe run` writes"),
        (damage("claims.json", UNKNOWN_VERDICT), "no verdict is 'odd'"),
        (damage("status.json", b'{"state": "running"}'), "status.json\n    expected what `kempeframe run` writes"),
        (damage("environment.json", b"[]"), "environment.json\n    expected a JSON object"),
        (damage("failures.json", b"[1]"), "failures.json\n    expected what `kempeframe run` writes"),
        (damage("table.parquet", b"PAR1"), "table.parquet\n    can't be read"),
        (damage("figures/weights.png", b"GIF89a"), "weights.png\n    not a PNG picture"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_sound_run(
    copy: Callable[[str], Path],
    run_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], Any],
    message: str,
) -> None:
    folder, out = copy("damaged"), tmp_path / "out" / "report.html"
    change(folder)
    assert main(["report", str(run_folder), str(folder), "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert message in said.err and str(folder) in said.err and said.err.count("problem") == 1 and not said.out
    assert not out.parent.exists()


def test_every_bad_folder_is_said_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "x.html")]) == 2
    assert "2 problems" in (said := capsys.readouterr().err) and f"{tmp_path}/a" in said and f"{tmp_path}/b" in said


def test_an_output_that_can_be_no_file(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("kept")
    assert main(["report", str(run_folder), "--out", str(tmp_path)]) == 2
    assert "is a directory, expected the name of a file" in capsys.readouterr().err
    assert main(["report", str(run_folder), "--out", str(tmp_path / "file" / "report.html")]) == 2
    assert "is a file, expected a folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "kept"


def test_an_earlier_report_stays_whole_where_a_new_one_fails(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.html"
    out.write_text("earlier")

    def full(*_: Any, **__: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert main(["report", str(run_folder), "--out", str(out)]) == 4
    assert "No space left on device" in capsys.readouterr().err
    assert out.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [out]


# Several runs


def test_labels_are_the_shortest_that_differ() -> None:
    assert labels_of([Path("/r/a"), Path("/r/b")]) == ["a", "b"]
    assert labels_of([Path("/r/one/x"), Path("/r/two/x")]) == ["one/x", "two/x"]
    assert labels_of([Path("/x")]) == ["x"]


def test_a_run_named_twice_is_shown_once(run_folder: Path) -> None:
    assert len(read_runs([run_folder, run_folder / ".." / run_folder.name])) == 1


def test_claims_of_one_statement_stand_in_one_row(copy: Callable[[str], Path]) -> None:
    first, second = copy("a"), copy("b")
    claims = json.loads((second / "claims.json").read_text())
    claims[1]["verdict"] = "fails"
    claims[1]["parts"][0]["estimate"] = 5.0
    claims[1]["parts"][0]["interval"] = [4.0, 6.0]
    del claims[0]
    claims.append({**claims[0], "statement": "a claim of the second alone"})
    (second / "claims.json").write_text(json.dumps(claims))
    rows = claim_rows(read_runs([first, second]))
    assert [row.statement for row in rows][1] == "shifts of two are larger than none"
    assert [[cell is not None for cell in row.cells] for row in rows] == [
        [True, False],
        [True, True],
        [True, True],
        [False, True],
    ]
    assert [row.differs for row in rows] == [False, True, False, False]
    both = rows[1].cells
    assert both[0] and both[1] and both[0].number == 2 and both[1].number == 1


def test_the_same_claim_is_drawn_on_one_axis(copy: Callable[[str], Path]) -> None:
    first, second = copy("a"), copy("b")
    claims = json.loads((second / "claims.json").read_text())
    moved = claims[1]["parts"][0]
    moved["estimate"], moved["interval"] = moved["estimate"] + 10, [value + 10 for value in moved["interval"]]
    claims[1]["verdict"] = moved["verdict"] = "fails"
    (second / "claims.json").write_text(json.dumps(claims))
    row = claim_rows(read_runs([first, second]))[1]
    assert row.differs and row.unexpected
    one, other = (cell.graphic for cell in row.cells if cell)
    assert one and other and one.edges == other.edges
    assert one.estimate is not None and other.estimate is not None and one.estimate < one.edges[0] < other.estimate
    text = page_of(first, second).text
    assert "Verdicts differ (1)" in text and "verdicts differ" in text and "✗ fails expected: holds" in text


def test_a_statement_made_twice_stays_two_rows(copy: Callable[[str], Path]) -> None:
    folder = copy("twice")
    claims = json.loads((folder / "claims.json").read_text())
    (folder / "claims.json").write_text(json.dumps(claims + claims[:1]))
    run = read_run(folder)
    assert len(claim_rows([run, run])) == 4


def test_figures_of_one_name_stand_side_by_side_and_are_embedded_once(copy: Callable[[str], Path]) -> None:
    first, second = copy("a"), copy("b")
    shutil.copy(second / "figures" / "weights.png", second / "figures" / "more.png")
    runs = read_runs([first, second])
    assert [(name, [at for at, _ in pictures]) for name, pictures in picture_rows(runs)] == [("weights", [0, 1])]
    page = page_of(first, second)
    images = [a for tag, a in page.elements if tag == "img"]
    assert [a["data-copy"] for a in images if "data-copy" in a] == ["run1-figure-weights", "run2-figure-weights"]
    assert sorted(a["id"] or "" for a in images if "id" in a) == [
        "run1-figure-weights",
        "run2-figure-more",
        "run2-figure-weights",
    ]


def test_what_differs_between_specs_and_environments(copy: Callable[[str], Path]) -> None:
    first, second = copy("a"), copy("b")
    spec = (second / "spec.toml").read_text().replace("seeds = 6", "seeds = 3").replace("above = 3.0", "above = 4.0")
    (second / "spec.toml").write_text(spec + '\n[[evaluator]]\nuse = "toy_plugin.weight"\nname = "other"\n')
    environment = json.loads((second / "environment.json").read_text())
    environment["versions"]["torch"] = "1.0"
    (second / "environment.json").write_text(json.dumps(environment))
    runs = read_runs([first, second])
    found = {row.key: row.values for row in spec_differences(runs)}
    assert found["seeds"] == ("6", "3")
    assert found["claim “weights lie above </script> three”: above"] == ("3.0", "4.0")
    assert found["evaluator “other”: use"] == (None, '"toy_plugin.weight"')
    assert len(found) == 4
    (row,) = environment_differences(runs)
    assert row.key == "torch" and row.values[1] == "1.0"
    assert "The environments are the same." in page_of(first, copy("c")).text


def test_a_flat_spec_keeps_every_value() -> None:
    spec = tomli.loads('a = 1\n[b]\n"c.d" = [1, 2]\ne = {}\n[[x]]\ny = 1\n[[x]]\ny = 2\n')
    assert flat(spec) == {"a": "1", "b.c.d": "[1, 2]", "b.e": "{}", "x 1: y": "1", "x 2: y": "2"}


def test_finished_and_running_side_by_side(copy: Callable[[str], Path]) -> None:
    first, second = copy("a"), only(copy("b"), "spec.toml")
    write_status(second)
    text = page_of(first, second).text
    assert "not judged yet" in text and "2 runs side by side" in text


def test_comparisons_of_very_different_size_get_axes_of_their_own(run_folder: Path) -> None:
    claim = read_run(run_folder).claims
    assert claim is not None
    assert ClaimView(1, claim[0]).one_axis
