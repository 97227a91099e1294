"""For all tests: what one draws from global generators does not depend on which tests ran before it."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Which tests share a process is chance, with pytest-xdist. torch is seeded where it is loaded."""
    random.seed(0)
    np.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
