"""`list`: from a cache without importing anything; `list --check`: everything that is wrong with plugins."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kempeframe import registry
from kempeframe.cli import main
from kempeframe.listing import _cache_file

SOUND = '''
"""A plugin."""
from kempeframe import Model, component, field, hookimpl

@component
class Still(Model):
    """A model."""
    width: int = field(1, "units")
    def build(self, task, run):
        return None

@hookimpl
def kempeframe_model():
    return [Still]
'''


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(folder: Path, text: str, name: str = "mine.py") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_second_list_imports_neither_plugins_nor_torch(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    first = capsys.readouterr().out
    code = "import sys; from kempeframe.cli import main; main(['list']);"
    code += "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'scipy', 'pandas', 'kempeframe_standard')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *listed, modules = found.stdout.splitlines()
    assert modules == "[]"
    assert "\n".join(listed) + "\n" == first


def test_help_imports_nothing_heavy() -> None:
    code = "import sys\nfrom kempeframe.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit: pass\n"
    code += "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'numpy', 'pandas', 'rich', 'cattrs')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


def test_a_changed_plugin_is_looked_at_again(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", "standard"])
    cached = json.loads(_cache_file().read_text(encoding="utf-8"))
    cached["plugins"]["standard"]["components"] = [["data", "standard.old", "as it was"]]
    _cache_file().write_text(json.dumps(cached), encoding="utf-8")
    capsys.readouterr()
    main(["list", "standard"])
    assert "standard.old" in capsys.readouterr().out  # the key is right: the cache is believed
    cached["plugins"]["standard"]["key"] = "of another version"
    _cache_file().write_text(json.dumps(cached), encoding="utf-8")
    main(["list", "standard"])
    out = capsys.readouterr().out
    assert "standard.old" not in out and "standard.digits" in out


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"format": 1}', "no json"])
def test_a_damaged_cache_is_no_hindrance(content: str, capsys: pytest.CaptureFixture[str]) -> None:
    _cache_file().parent.mkdir(parents=True)
    _cache_file().write_text(content, encoding="utf-8")
    assert main(["list", "standard"]) == 0
    assert "standard.digits" in capsys.readouterr().out


def test_a_home_that_can_t_be_written_is_no_hindrance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert main(["list", "standard"]) == 0


def test_a_file_is_listed_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, SOUND)
    assert main(["list", path]) == 0
    assert "mine.still" in capsys.readouterr().out
    assert main(["list", path, "--check"]) == 0
    assert capsys.readouterr().out == f"{path}: sound\n"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("@hookimpl\n", ""), "kempeframe_model lacks @hookimpl: what it returns is not registered"),
        (
            ("return [Still]", "return []"),
            "implements no hook, or its hooks return nothing; there are",
        ),
        (("return [Still]", "return [3]"), "kempeframe_model returned 3, expected Model classes"),
        (("return [Still]", "return None"), "can't be registered: TypeError"),
        (("@component\n", ""), "Still lacks the @component decorator"),
        (('    """A model."""\n', ""), "still: has no docstring"),
        (('field(1, "units")', "field(1)"), "still: the field 'width' has no documentation"),
        (("def build", "def built"), "still: does not define build()"),
        (("def kempeframe_model", "def kempeframe_models"), "can't be registered: PluginValidationError"),
        (("import Model", "import Modle"), "can't be imported: ImportError: cannot import name 'Modle'"),
    ],
)
def test_what_is_wrong_with_a_plugin_is_said(
    change: tuple[str, str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert change[0] in SOUND
    path = write(tmp_path, SOUND.replace(*change))
    assert main(["list", path, "--check"]) == 2
    assert problem in capsys.readouterr().err


def test_installed_plugins_are_sound(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--check"]) == 0, capsys.readouterr().err


def test_two_distributions_of_one_plugin_are_said_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "provided_twice", lambda: {"standard": ["first", "second"]})
    assert main(["list", "standard", "--check"]) == 2
    assert "standard: is provided twice, by first and second; uninstall one" in capsys.readouterr().err
    with pytest.raises(registry.BrokenPlugin, match="provided twice, by first and second"):
        registry.Registry().load("standard")


def test_distributions_of_one_entry_point_name_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Distribution:
        def __init__(self, name: str):
            self.name = name

    class Point:
        def __init__(self, name: str, distribution: str):
            self.name, self.dist = name, Distribution(distribution)

    points = [Point("mine", "b"), Point("mine", "a"), Point("other", "a"), Point("other", "a")]
    monkeypatch.setattr(registry.metadata, "entry_points", lambda group: points)
    registry.provided_twice.cache_clear()
    try:
        assert registry.provided_twice() == {"mine": ["a", "b"]}
    finally:
        registry.provided_twice.cache_clear()
