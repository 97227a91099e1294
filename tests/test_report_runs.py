"""The report of runs unfinished, unusual or side by side; for bad input it says what is wrong and writes nothing."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tomli

from kempeframe import status
from kempeframe.cli import main
from kempeframe.report import read_runs
from kempeframe.report_comparing import claim_rows, environment_differences, flat, picture_rows, spec_differences
from kempeframe.report_reading import read_run
from kempeframe.report_view import ClaimView, RunView, labels_of
from kempeframe.table import Table
from tests.report_pages import HOSTILE, PLUGIN, decoded, page_of, same

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


def test_a_running_run_says_how_far_it_is(copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, now = only(copy("running"), "spec.toml"), time.time()
    write_status(folder, started=now - 60, updated=now)
    monkeypatch.setattr(status, "time", SimpleNamespace(time=lambda: now))  # read at once, however slow a machine
    text = page_of(folder).text
    assert "12 of 36 done" in text and "running for 60 s" in text and "about 2 min left" in text
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
