"""What the jobs of test_jobs.py compute: units that say what to do. A file in a folder stands for a stored result."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def compute_units(
    request: Mapping[str, Any], units: Sequence[Mapping[str, Any]], emit: Callable[[list[Any]], None]
) -> None:
    folder = Path(request["folder"])
    if request.get("broken"):
        raise ImportError("no such plugin")
    note(folder, "begin", "job")
    for index, unit in enumerate(units):
        done = folder / f"{unit['name']}.done"
        if not done.exists():
            note(folder, "unit", unit["name"])
            emit(["current", unit["name"]])
            act(unit, folder)
            done.touch()
        emit(["result", unit["name"], {"value": 1.5}])
        emit(["unit", index])
    note(folder, "end", "job")


def act(unit: Mapping[str, Any], folder: Path) -> None:
    first = not (folder / f"{unit['name']}.tried").exists()
    (folder / f"{unit['name']}.tried").touch()
    if unit.get("killed") == "always" or (unit.get("killed") == "once" and first):
        os.kill(os.getpid(), signal.SIGKILL)
    end = time.monotonic() + (unit.get("seconds", 0.0) if first else 0.0)
    while time.monotonic() < end:
        try:
            time.sleep(0.05)
        except Exception as error:  # as a study does, which goes on with the next trial
            note(folder, "swallowed", type(error).__name__)


def note(folder: Path, what: str, name: str) -> None:
    with (folder / "notes").open("a") as file:
        file.write(f"{what} {name} {os.getpid()} {time.time()}\n")
