"""What all tests of the core share: a store of their own, hypothesis' profiles, the example plugin beside a spec."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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
