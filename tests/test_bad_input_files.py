"""Bad input around a spec: overrides of the command line, plugins that are broken, files that can't be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kempeframe.problems import SpecError
from kempeframe.spec import load_spec
from tests.bad_specs import BASE, SIZE, assert_holds, refused


@pytest.mark.parametrize(
    ("arguments", "place", "key", "message"),
    [
        (["--set", "data.sise=3"], "--set data.sise=3", "data.sise", "unknown key 'sise'; did you mean 'size'?"),
        (["--set", "data.size=0"], "--set data.size=0", "data.size", "0 is out of range"),
        (["--set", "data.size=many"], "--set data.size=many", "data.size", "expected a whole number, got 'many'"),
        (["--set", "data.noise=-1"], "--set data.noise=-1", 'sweep."data.noise"[0]', "-1 is out of range"),
        (["--set", "dta.size=1"], "--set dta.size=1", "dta.size", "unknown key 'dta'; did you mean 'data'?"),
        (["--set", "data.size"], "--set data.size", "", "expected KEY=VALUE, got 'data.size'"),
        (["--set", "=3"], "--set =3", "", "expected KEY=VALUE, got '=3'"),
        (["--set", "data.size.x=1"], "--set data.size.x=1", "data.size.x", "'x' is no key of a table here"),
        (
            ["--set", "evaluator.thery.order=1"],
            "--set evaluator.thery.order=1",
            "evaluator.thery.order",
            "there is no evaluator called 'thery'",
        ),
        (["--set", "claim.1.above=1"], "--set claim.1.above=1", "claim.1.above", "there is no claim called '1'"),
        (["--set", "smoke.seeds=1"], "--set smoke.seeds=1", "smoke.seeds", "unknown key 'smoke'"),
        (["--set", "data.label=1979-05-27"], "--set data.label=1979-05-27", "data.label", "expected no date"),
        (["--set", "data.limit=nan"], "--set data.limit=nan", "data.limit", "expected a number, got nan"),
        (
            ["--set", "sweep.data.noise=[]"],
            "--set sweep.data.noise=[]",
            'sweep."data.noise"',
            "expected a list of values",
        ),
        (["--seeds", "0"], "--seeds 0", "seeds", "0 is out of range: expected a number >= 1"),
        (["--seeds", "-3"], "--seeds -3", "seeds", "-3 is out of range"),
        (["--smoke"], "spec.toml:1", "smoke", "expected a table of overrides, [smoke]"),
    ],
)
def test_wrong_overrides_name_themselves(
    arguments: list[str], place: str, key: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "spec.toml").write_text(BASE)
    found = refused(folder, capsys, *arguments).splitlines()
    assert found[2] == f"{place}  {key}".rstrip()
    assert found[3].strip().startswith(message)


def test_check_refuses_what_run_refuses(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "spec.toml").write_text(BASE.replace("size = 20", "size = 0"))
    assert refused(folder, capsys) == refused(folder, capsys, command="check")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def broken(:\n", "can't be imported: SyntaxError"),
        ("raise SystemExit(0)\n", "can't be imported: SystemExit: 0"),
        ("import os, signal\nraise KeyError('x')\n", "can't be imported: KeyError: 'x' (mine.py:2)"),
        (
            "from kempeframe import Data, hookimpl\nclass Thing(Data):\n    pass\n"
            "@hookimpl\ndef kempeframe_data():\n    return [Thing]\n",
            "Thing lacks the @component decorator",
        ),
    ],
)
def test_a_broken_plugin_file(code: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mine.py").write_text(code)
    text = BASE.replace('"example_plugin.py"', '"example_plugin.py", "mine.py"').replace("plugin.plain", "plugin.plian")
    (folder / "spec.toml").write_text(text.replace("example_plugin.toy", "mine.thing"))
    found = refused(folder, capsys)
    assert_holds(found, "1 plugins[1] | plugin 'mine'")
    assert message in found
    assert_holds(found, "4 data.use | plugin 'mine'")
    assert_holds(found, "7 model.use | unknown model component")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise KeyError('x')", "columns() of measure raised KeyError: 'x'"),
        ("raise SystemExit(3)", "columns() of measure raised SystemExit: 3"),
        ("return None", "columns() of measure: expected metric names"),
        ("return {1: 'one'}", "columns() of measure: expected metric names"),
        ("return 'risk'", "columns() of measure: expected metric names"),
    ],
)
def test_an_evaluator_that_can_not_say_its_columns(
    body: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mine.py").write_text(
        "from kempeframe import Evaluator, component, hookimpl\n@component\nclass Measure(Evaluator):\n    'm'\n"
        f"    def columns(self):\n        {body}\n@hookimpl\ndef kempeframe_evaluator():\n    return [Measure]\n"
    )
    text = BASE.replace('"example_plugin.py"', '"example_plugin.py", "mine.py"').replace(SIZE, "size = 0")
    (folder / "spec.toml").write_text(text + '[[evaluator]]\nuse = "mine.measure"\n')
    found = refused(folder, capsys)
    assert_holds(found, "5 data.size | 0 is out of range")
    (folder / "spec.toml").write_text(text.replace("size = 0", SIZE) + '[[evaluator]]\nuse = "mine.measure"\n')
    assert message in refused(folder, capsys)


def test_what_is_no_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "spec.toml").write_bytes(b"title = \xff\xfe\n")
    assert "is no UTF-8 text (byte 8); expected a TOML file" in refused(folder, capsys)


def test_a_missing_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "can't be read: No such file or directory" in refused(folder, capsys)


def test_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "spec.toml").mkdir()
    assert "can't be read: Is a directory" in refused(folder, capsys)


def test_a_file_that_may_not_be_read(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(13, os.strerror(13), str(path))

    (folder / "spec.toml").write_text(BASE)
    monkeypatch.setattr(Path, "read_bytes", denied)
    assert "can't be read: Permission denied" in refused(folder, capsys)


def test_a_path_that_no_file_can_have() -> None:
    with pytest.raises(SpecError, match="can't be read"):
        load_spec("a\0b.toml")
