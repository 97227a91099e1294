"""A Slurm of one node for tests, by tools/slurm_node.sh."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "tools" / "slurm_node.sh"


@contextlib.contextmanager
def slurm_node() -> Iterator[None]:
    """Skips the test, with the reason, where no Slurm can be started."""
    if not shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
        pytest.skip("slurmctld is not installed (Debian: slurm-wlm, munge)")
    folder = Path(tempfile.mkdtemp(prefix="kempeframe-slurm-", dir="/tmp"))  # user munge can't look into pytest's own
    started = subprocess.run([SCRIPT, "start", folder], capture_output=True, text=True, check=False)
    try:
        if started.returncode:
            pytest.skip(f"Slurm can't be started here: {started.stderr.strip()[-500:]}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
            yield
    finally:
        subprocess.run([SCRIPT, "stop", folder], check=True)
        shutil.rmtree(folder)
