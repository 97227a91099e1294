"""The tutorial, plugins/README.md: every file is written, every command run, every output compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

TUTORIAL = Path(__file__).parent.parent / "plugins" / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@attrs.frozen
class Step:
    """A command and the output that the page shows below it."""

    command: str
    shown: str


def steps_of(block: str) -> list[Step]:
    """The commands of a console block; `> ` goes on with the command of the line before."""
    steps: list[Step] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            steps.append(Step(line[2:], ""))
        elif line.startswith("> "):
            steps[-1] = Step(f"{steps[-1].command}\n{line[2:]}", "")
        else:
            steps[-1] = Step(steps[-1].command, steps[-1].shown + line + "\n")
    return steps


def matches(shown: str, found: str) -> bool:
    """Whether an output is the one shown, with `...` for anything; a line that is `...` alone stands for any lines."""
    lines = [re.escape(line.rstrip()).replace(re.escape("..."), ".*") + "\n" for line in shown.splitlines()]
    pattern = "".join("(?:.*\n)*" if line == ".*\n" else line for line in lines)
    return re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in found.splitlines())) is not None


@pytest.mark.parametrize(
    ("shown", "found", "right"),
    [
        ("a\n", "a\n", True),
        ("a ... c\n", "a b c\n", True),
        ("a\n...\nc\n", "a\nb\nb\nc\n", True),
        ("a\n...\n", "a\n", True),
        ("a\n", "b\n", False),
        ("a\n", "a\nb\n", False),
        ("...\nd\n", "a\nc\n", False),
    ],
)
def test_outputs_are_compared(shown: str, found: str, right: bool) -> None:
    assert matches(shown, found) is right


def test_every_command_of_the_tutorial_prints_what_it_shows(tmp_path: Path) -> None:
    """Packages go to a folder of their own, so that this environment stays as it is."""
    site = tmp_path / "site"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("COV_")},
        "PATH": path,
        "PYTHONPATH": str(site),
        "PIP_TARGET": str(site),
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip's way to say that there is none
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "KEMPEFRAME_STORE": str(tmp_path / "store"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "COLUMNS": "120",
        "OMP_NUM_THREADS": "1",
    }
    work = tmp_path / "work"
    work.mkdir()
    commands = 0
    for language, body in BLOCK.findall(TUTORIAL.read_text(encoding="utf-8")):
        if language == "console":
            for step in steps_of(body):
                done = subprocess.run(
                    ["bash", "-c", f"{{ {step.command}\n}} 2>&1"],
                    cwd=work,
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert matches(step.shown, done.stdout), f"$ {step.command}\n{done.stdout}\nshown:\n{step.shown}"
                commands += 1
        else:
            first, _, text = body.partition("\n")
            assert first.startswith("# file: "), f"a block of {language} names no file"
            file = work / first.removeprefix("# file: ")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    assert commands >= 12


def test_the_optimizer_of_the_tutorial_is_short() -> None:
    """Someone who knows PyTorch writes one in under 15 lines besides the torch.optim.Optimizer itself."""
    body = next(body for language, body in BLOCK.findall(TUTORIAL.read_text(encoding="utf-8")) if "lion.py" in body)
    component = body.partition("@component")[2]
    assert len([line for line in component.splitlines() if line.strip()]) < 15
