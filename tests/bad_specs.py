"""A sound spec, ways to spoil it, and what a command must say then: exit code 2, and nothing is written."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from kempeframe.cli import main

BASE = """\
plugins = ["example_plugin.py"]
seeds = 2
[data]
use = "example_plugin.toy"
size = 20
[model]
use = "example_plugin.plain"
[optimizer]
use = "example_plugin.step"
[[evaluator]]
use = "example_plugin.error"
[[evaluator]]
use = "example_plugin.theory"
[sweep]
"data.noise" = [0.1, 0.2]
"""
LAST = BASE.count("\n")
SIZE = "size = 20"


def changed(old: str, new: str, more: str = "") -> str:
    assert old in BASE
    return BASE.replace(old, new, 1) + more


def added(text: str) -> str:
    """BASE with more below: the first added line is number LAST + 1."""
    return BASE + text


def refused(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str, command: str = "run") -> str:
    """The message of a command that must fail: exit code 2, nothing on stdout, nothing written."""
    before = {path for path in folder.rglob("*") if "__pycache__" not in path.parts}
    code = main([command, "spec.toml", *arguments])
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert {path for path in folder.rglob("*") if "__pycache__" not in path.parts} == before
    assert "Traceback" not in err
    return err


def assert_holds(message: str, wanted: str) -> None:
    """`5 data.size | expected ...` asks for a problem at that line and key."""
    if " | " not in wanted:
        assert wanted in message
        return
    place, _, text = wanted.partition(" | ")
    line, _, key = place.partition(" ")
    head = f"spec.toml:{line}  {key}".rstrip() if line else ""
    lines = message.splitlines()
    assert any(
        first.startswith(head) and (not line or first == head) and second.strip().startswith(text)
        for first, second in itertools.pairwise(lines)
    ), f"wanted {wanted!r} in:\n{message}"


def assert_refused(case: tuple[str, list[str]], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The spec of a case must fail, with a message that holds all that the case wants."""
    text, wanted = case
    (folder / "spec.toml").write_text(text, encoding="utf-8")
    message = refused(folder, capsys)
    for part in wanted:
        assert_holds(message, part)
