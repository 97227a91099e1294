"""What the author of a failing plugin is told, and `--only TRIAL [--pdb]`: one trial again, alone."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

from kempeframe.cli import main
from kempeframe.only import ScratchStore, command_for
from kempeframe.store import Store

PLUGIN = '''
from kempeframe import Evaluator, Optimizer, Snapshot, component, field, hookimpl

@component
class Shaky(Optimizer):
    """Raises where it is told to."""
    rate: float = field(1.0, "rate")
    def fit(self, network, task, attack, run):
        if self.rate > 1 and run.seed == 1:
            self.inner()
        yield Snapshot(0, network)
    def inner(self):
        secret = 42
        raise RuntimeError("boom")

@component
class Look(Evaluator):
    """Divides."""
    def columns(self):
        return {"inverse": "of seed - 2"}
    def evaluate(self, fitted, run):
        return {"inverse": 1.0 / (run.seed - 2)}

@hookimpl
def kempeframe_optimizer():
    return [Shaky]

@hookimpl
def kempeframe_evaluator():
    return [Look]
'''
SPEC = """
seeds = 4
plugins = ["mine.py", "toy_plugin.py"]

[data]
use = "toy_plugin.numbers"

[model]
use = "toy_plugin.scalar"

[optimizer]
use = "mine.shaky"

[[evaluator]]
use = "toy_plugin.weight"

[[evaluator]]
use = "mine.look"

[sweep]
"optimizer.rate" = [0.5, 2.0]
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    shutil.copy(Path(__file__).parent / "toy_plugin.py", tmp_path)
    (tmp_path / "mine.py").write_text(PLUGIN, encoding="utf-8")
    path = tmp_path / "spec.toml"
    path.write_text(SPEC, encoding="utf-8")
    return path


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def line_of(path: Path, text: str) -> int:
    return path.read_text(encoding="utf-8").splitlines().index(text) + 1


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_failure_names_plugin_component_trial_spec_line_and_the_command(
    spec: Path, store: str, tmp_path: Path, jobs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert main(["run", str(spec), "--out", out, "--store", store, "--jobs", jobs]) == 3
    said = capsys.readouterr().err
    boom = line_of(spec.parent / "mine.py", '        raise RuntimeError("boom")')
    divides = line_of(spec.parent / "mine.py", '        return {"inverse": 1.0 / (run.seed - 2)}')
    assert f"fit: RuntimeError: boom in mine.shaky (plugin mine, mine.py:{boom})" in said
    assert f"look: ZeroDivisionError: float division by zero in mine.look (plugin mine, mine.py:{divides})" in said
    assert f"{spec}:{line_of(spec, '[optimizer]')} [optimizer]" in said
    assert f"{spec}:17 [[evaluator]] look" in said
    assert f"kempeframe run {spec} --out {out} --store {store} --only 5 --pdb" in said
    failures = json.loads((tmp_path / "out" / "failures.json").read_text(encoding="utf-8"))
    assert [failure["trial"] for failure in failures] == [2, 5, 6]
    assert "secret = 42" not in failures[1]["error"] and 'raise RuntimeError("boom")' in failures[1]["traceback"]


def test_one_trial_again_prints_what_it_measures_and_keeps_nothing(
    spec: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(spec), "--store", store, "--only", "7"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("trial 7: ") and "inverse: 1.0" in said
    kept = Store(Path(store))
    assert not list(kept.results.keys()) and not list(kept.fits.keys())
    assert not (spec.parent / "runs").exists()


def test_a_trial_that_raises_shows_its_traceback(spec: Path, store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(spec), "--store", store, "--only", "5"]) == 3
    assert "RuntimeError: boom" in capsys.readouterr().err


def test_the_debugger_opens_where_it_raised(
    spec: Path, store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("p secret\nq\n"))
    assert main(["run", str(spec), "--store", store, "--only", "5", "--pdb", "--jobs", "2"]) == 3
    assert "42" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "8"], "has rows 0 to 7"),
        (["--pdb"], "says which trial to look into: --only TRIAL"),
    ],
)
def test_bad_input(
    arguments: list[str], message: str, spec: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(spec), "--store", store, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_row_that_is_no_number_is_refused(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run", str(spec), "--only", "-1"])
    assert "expected a row of the table" in capsys.readouterr().err


def test_the_command_leaves_out_where_trials_were_computed() -> None:
    argv = [
        "run",
        "my spec.toml",
        "--jobs",
        "8",
        "--set",
        "data.n=3",
        "--executor=slurm",
        "--slurm",
        "time=3",
        "--quiet",
    ]
    assert command_for(argv, 4) == "kempeframe run 'my spec.toml' --set data.n=3 --only 4 --pdb"


def test_what_is_put_into_a_scratch_store_is_not_in_the_store_below(tmp_path: Path) -> None:
    below = Store(tmp_path / "below")
    below.fits.put("a" * 32, b"old")
    below.flush()
    above = ScratchStore(tmp_path / "above", below)
    assert above.fits.get("a" * 32) == b"old" and "a" * 32 in above.fits
    above.fits.put("a" * 32, b"new")
    above.fits.put("b" * 32, b"other")
    above.flush()
    assert above.fits.get("a" * 32) == b"new" and "b" * 32 in above.fits
    assert below.fits.get("a" * 32) == b"old" and "b" * 32 not in below.fits
