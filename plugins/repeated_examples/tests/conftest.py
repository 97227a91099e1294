"""What the tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from kempeframe.registry import Registry
from kempeframe.store import Store
from kempeframe.trial import Session


@pytest.fixture
def session(tmp_path: Path) -> Session:
    Registry().load("standard")  # names of components are those of their plugins
    return Session(Store(tmp_path))
