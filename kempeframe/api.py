"""From Python: `study = kempeframe.run("spec.toml")`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kempeframe.draft import Draft
from kempeframe.pool import WorkerPool
from kempeframe.problems import Problem, SpecError
from kempeframe.registry import Registry
from kempeframe.spec import load_spec
from kempeframe.store import Store
from kempeframe.study import InProcess, Options, Progress, Study, run_study
from kempeframe.written import NotWritable, inline


def run(
    spec: str | Path | Draft,
    settings: Mapping[str, Any] | None = None,
    /,
    *,
    seeds: int | None = None,
    smoke: bool = False,
    store: str | Path | None = None,
    out: str | Path | None = None,
    fresh: bool = False,
    device: str = "cpu",
    jobs: int = 1,
    progress: bool | None = None,
    **overrides: Any,
) -> Study:
    """Run a spec and return its study.

    `study.table` and `study.history` are data frames, `study.claims` the verdicts, `study.figure(name)` a picture,
    `study.fitted(row)` a fit with its network.

    Args:
        spec: a TOML file, or a `Draft`.
        settings: keys and values that are set as `--set` sets them: `{"data.n_train": 500}`; a component may be the
            value of a part: `{"optimizer": Ridge(penalty=0.1)}`.
        seeds: overrides the number of seeds.
        smoke: run the spec's smallest version.
        store: where results are kept; default: as for the command line.
        out: a run directory to write; nothing is written where it is not given.
        fresh: compute also what is stored.
        device: cpu, cuda, cuda:1 or mps.
        jobs: processes that compute trials side by side.
        progress: show a progress bar; default: where a terminal or a notebook shows it.
        overrides: as `settings`, for keys that are names: `optimizer=Ridge(penalty=0.1)`, `title="..."`.

    Raises:
        SpecError: with every problem of the spec.
    """
    texts = [f"{key}={_value(key, value)}" for key, value in {**(settings or {}), **overrides}.items()]
    checked = load_spec(spec, texts, smoke=smoke, seeds=seeds)
    options = Options(device=device, fresh=fresh, threads=1 if jobs > 1 else None)
    executor = WorkerPool(jobs) if jobs > 1 else InProcess()
    with _shown(progress) as shown:
        study = run_study(checked, Store(Path(store) if store else None), options, shown, executor)
    if out is not None:
        study.write(out)
    return study


def load_plugin(name: str | Path) -> SimpleNamespace:
    """The component classes of a plugin, by class name: an installed one by its name, or a Python file.

    `load_plugin("my_idea.py").SignDescent(learning_rate=0.1)` can stand in a `Draft`.

    Raises:
        SpecError: there is no such plugin, or it is broken.
    """
    from kempeframe.registry import BrokenPlugin, UnknownName

    registry = Registry()
    try:
        is_file = isinstance(name, Path) or name.endswith(".py")
        plugin = registry.load_file(Path(name)) if is_file else registry.load(str(name))
    except (BrokenPlugin, UnknownName) as error:
        raise SpecError(str(name), [Problem(str(name), "", str(error))]) from None
    classes = registry.components[plugin.name].values()
    return SimpleNamespace(**{cls.__name__: cls for cls in classes})


def _value(key: str, value: Any) -> str:
    try:
        return inline(value)
    except NotWritable as error:
        raise SpecError("run", [Problem("run", key, str(error))]) from None


def _shown(progress: bool | None) -> Any:
    """A progress bar, or something that shows nothing."""
    import contextlib

    from rich.console import Console

    from kempeframe.console import ProgressBar

    console = Console(stderr=True)
    wanted = progress if progress is not None else console.is_terminal or console.is_jupyter
    return ProgressBar(console) if wanted else contextlib.nullcontext(Progress())
