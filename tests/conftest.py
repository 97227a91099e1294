"""What tests of the core share: a store of their own, hypothesis' profiles, example plugins beside a spec, reports."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("tests.bad_specs", "tests.report_pages")
settings.register_profile("fast", deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("slow", settings.get_profile("fast"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

EXAMPLE = Path(__file__).parent / "example_plugin.py"


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> Iterator[None]:
    """Ctrl-C reaches child processes also where the tests run in the background: a shell lets those ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="session")
def own_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test touches the user's store."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEMPEFRAME_STORE", str(folder / "store"))
        yield folder


@pytest.fixture
def write_spec(tmp_path: Path) -> Callable[..., Path]:
    """Writes a spec file, with the example plugin beside it."""
    shutil.copy(EXAMPLE, tmp_path / "example_plugin.py")

    def write(text: str, name: str = "spec.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with the example plugin in it and a store below it."""
    shutil.copy(EXAMPLE, tmp_path / "example_plugin.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEMPEFRAME_STORE", str(tmp_path / "store"))
    return tmp_path


# Reports. What they need is imported where they are made: most tests make none, and selenium may not be installed.


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, own_store: Path) -> Path:
    """A real run: half of its trials fail; its title is hostile."""
    from kempeframe.cli import main
    from tests.report_pages import HOSTILE, PLUGIN, SPEC

    folder = tmp_path_factory.mktemp("report")
    shutil.copy(PLUGIN, folder)
    (folder / "spec.toml").write_text(SPEC.format(title=json.dumps(HOSTILE)), encoding="utf-8")
    code = main(["run", str(folder / "spec.toml"), "--out", str(folder / "runs" / "first"), "--jobs", "1", "--quiet"])
    assert code == 3
    return folder / "runs" / "first"


@pytest.fixture
def copy(run_folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copies the run, to be changed."""

    def make(name: str) -> Path:
        return Path(shutil.copytree(run_folder, tmp_path / name, ignore=shutil.ignore_patterns("tensorboard")))

    return make


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports for a browser: of one run, and of two."""
    from kempeframe.report import read_runs, render
    from tests.report_browser import write_run

    folder = tmp_path_factory.mktemp("pages")
    first = write_run(folder / "runs" / "first")
    second = write_run(folder / "runs" / "second", verdict="fails", quality=0.1)
    (folder / "one.html").write_text(render(read_runs([first])), encoding="utf-8")
    (folder / "two.html").write_text(render(read_runs([first, second])), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser."""
    from tests.report_browser import start

    driver = start(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture
def reader(started: Any, pages: Path) -> Iterator[Any]:
    """Someone who looks at `pages`; nothing that they hold may go wrong meanwhile."""
    from tests.report_browser import Reader

    yield Reader(started, pages)
    problems = [entry for entry in started.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert not problems
    assert started.title != "attacked"
