"""`kempeframe new`: what it writes runs, decides its claim, conforms, and never overwrites anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kempeframe
from kempeframe.cli import main
from kempeframe.components import KINDS
from kempeframe.testing import check_component


@pytest.mark.parametrize("kind", KINDS)
def test_a_component_runs_as_it_is_written(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path(f"my_{kind}_idea.py")
    assert main(["new", "component", kind, str(file)]) == 0
    said = capsys.readouterr().out
    assert f"kempeframe run my_{kind}_idea.toml" in said
    assert main(["list", str(file), "--check"]) == 0
    assert main(["check", f"my_{kind}_idea.toml"]) == 0
    study = kempeframe.run(f"my_{kind}_idea.toml", smoke=True, store=tmp_path / "store")
    assert not study.failures
    assert [verdict.decision for verdict in study.claims] != ["fails"]


@pytest.mark.slow  # all five whole: a minute
@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_spec_of_a_component_decides_its_claim(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"my_{kind}_idea.py"
    main(["new", "component", kind, str(file)])
    study = kempeframe.run(file.with_suffix(".toml"), store=tmp_path / "store")
    assert [verdict.decision for verdict in study.claims] == ["holds"]


ARGUMENTS = {"optimizer": {"learning_rate": 0.01, "steps": 10}, "attack": {"epsilon": 0.1}}


@pytest.mark.parametrize("kind", KINDS)
def test_a_component_conforms(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"own_{kind}.py"
    main(["new", "component", kind, str(file)])
    (cls,) = vars(kempeframe.load_plugin(file)).values()
    check_component(cls(**ARGUMENTS.get(kind, {})))


def test_a_plugin_installs_lists_runs_and_passes_its_tests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a folder of its own: `pip install --target`, so that this environment stays as it is."""
    assert main(["new", "plugin", "own_paper", "--kinds", "optimizer", "evaluator", "--out", str(tmp_path)]) == 0
    assert "own_paper.sign_descent, own_paper.confidence" in capsys.readouterr().out
    root, site = tmp_path / "own_paper", tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*pip, str(site), str(root)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "own_paper.sign_descent" in run("kempeframe", "list", "own_paper")
    run("kempeframe", "list", "own_paper", "--check")
    run("kempeframe", "run", "specs/own_paper.toml", "--smoke", "--store", str(tmp_path / "store"))
    assert "passed" in run("pytest", "-q", "-p", "no:cacheprovider", "-k", "sign_descent or smallest or optimizer")
    names = {path.relative_to(root).as_posix() for path in root.glob("**/*.*") if "__pycache__" not in path.parts}
    assert {"README.md", "pyproject.toml", "tests/test_conformance.py", "specs/confidence.toml"} <= names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["component", "optimizer", "idea.txt"], "expected a Python file, say my_idea.py"),
        (["component", "optimizer", "My-Idea.py"], "can't name a plugin"),
        (["component", "data", "class.py"], "can't name a plugin"),
        (["component", "data", "standard.py"], "there is an installed plugin 'standard'"),
        (["plugin", "standard"], "there is an installed plugin 'standard'"),
        (["plugin", "my.paper"], "can't name a plugin"),
    ],
)
def test_bad_names_are_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "idea.toml"
    spec.write_text("mine", encoding="utf-8")
    assert main(["new", "component", "data", str(tmp_path / "idea.py")]) == 2
    assert "is there already; nothing was written" in capsys.readouterr().err
    assert spec.read_text(encoding="utf-8") == "mine" and not (tmp_path / "idea.py").exists()
