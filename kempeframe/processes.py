"""Which process wrote a file, and whether it still lives."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import socket
from functools import cache
from pathlib import Path

import attrs

_counter = itertools.count()


@attrs.frozen
class Process:
    """A process, told from every other one on any machine. As text it is fit for a file name."""

    machine: str  # digest of host name, boot and process space: where `pid` means something
    pid: int
    started: str  # tells it from a later process of the same number

    def __str__(self) -> str:
        return f"m{self.machine}-{self.pid}-{self.started}"

    @classmethod
    def named(cls, text: str) -> Process | None:
        """The process that a file name speaks of, if it does."""
        found = re.search(r"m([0-9a-f]{8})-(\d+)-(\d+)(?=[-.]|$)", text)
        return cls(found[1], int(found[2]), found[3]) if found else None

    @property
    def is_here(self) -> bool:
        """Whether it is of this machine, so that it can be asked after."""
        return self.machine == _machine()

    @property
    def is_gone(self) -> bool:
        """Whether it surely lives no more; always False for one of another machine."""
        if not self.is_here:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        started = _started(self.pid)
        return started is None or ("0" not in (started, self.started) and started != self.started)


def this_process() -> Process:
    """The process that asks."""
    return _process(os.getpid())


def unique_name() -> str:
    """A name that no other process and no other call gives; `Process.named` reads the process from it."""
    return f"{this_process()}-{next(_counter)}"


@cache
def _process(pid: int) -> Process:
    return Process(_machine(), pid, _started(pid) or "0")


@cache
def _machine() -> str:
    """Containers may share a host name but not its process numbers, hence the process space."""
    parts = [socket.gethostname()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        pass  # not Linux: the host name has to do
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:8]


def _started(pid: int) -> str | None:
    """Start time of a process in clock ticks; None for one that has ended, "0" where that can't be known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return "0"
    return None if fields[0] in "ZX" else fields[19]
