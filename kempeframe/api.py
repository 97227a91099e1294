"""From Python: `study = kempeframe.run("spec.toml")`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from kempeframe.pool import WorkerPool
from kempeframe.spec import load_spec
from kempeframe.store import Store
from kempeframe.study import InProcess, Options, Study, run_study


def run(
    spec: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    seeds: int | None = None,
    smoke: bool = False,
    store: str | Path | None = None,
    fresh: bool = False,
    device: str = "cpu",
    jobs: int = 1,
) -> Study:
    """Run a spec and return its study: `.table` (a data frame), `.claims` (verdicts), `.fitted(row)` (a network).

    `overrides` maps dotted keys to values, as `--set` does; `jobs` is how many processes compute trials side by side.
    Raises SpecError with every problem of the spec.
    """
    texts = [f"{key}={_toml(value)}" for key, value in (overrides or {}).items()]
    checked = load_spec(spec, texts, smoke=smoke, seeds=seeds)
    options = Options(device=device, fresh=fresh, threads=1 if jobs > 1 else None)
    executor = WorkerPool(jobs) if jobs > 1 else InProcess()
    return run_study(checked, Store(Path(store) if store else None), options, None, executor)


def _toml(value: Any) -> str:
    """A value as TOML writes it on one line."""
    return tomli_w.dumps({"value": value}).partition("=")[2].strip()
