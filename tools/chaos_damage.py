"""What disks, people and dead processes do to the files of a store."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

UNIQUE = "from kempeframe.processes import unique_name; print(unique_name())"


@contextlib.contextmanager
def small_disk(folder: Path, size: str = "24m") -> Iterator[None]:
    """A small file system; OSError or CalledProcessError where none can be mounted."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def truncate(path: Path, chance: random.Random) -> None:
    """Cut a file short."""
    os.truncate(path, chance.randint(0, path.stat().st_size))


def flip(path: Path, chance: random.Random) -> None:
    """Change up to eight bits."""
    data = bytearray(path.read_bytes())
    for _ in range(chance.randint(1, 8) if data else 0):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def zero(path: Path, chance: random.Random) -> None:
    """Put zeros in place of a page."""
    data = path.read_bytes()
    at = chance.randint(0, len(data))
    path.write_bytes(data[:at] + bytes(len(data[at : at + 4096])) + data[at + 4096 :])


def delete(path: Path, chance: random.Random) -> None:
    """Remove a file."""
    path.unlink()


def append(path: Path, chance: random.Random) -> None:
    """Add bytes that mean nothing."""
    with path.open("ab") as file:
        file.write(chance.randbytes(chance.randint(1, 500)))


def dead_part(path: Path, chance: random.Random) -> None:
    """Leave what a killed process leaves of a file that it was writing."""
    if path.parent.name != "locks":  # where none are written in parts
        ended = subprocess.run([sys.executable, "-c", UNIQUE], capture_output=True, text=True, check=True).stdout
        path.with_name(f"{path.name}.{ended.strip()}.part").write_bytes(chance.randbytes(100))


def stale_lock(path: Path, chance: random.Random) -> None:
    """Lock something that the study needs, by a lock of which nobody can tell whose it is."""
    store = next((parent for parent in path.parents if (parent / "runs").is_dir()), None)
    if store is None:  # nobody came so far yet
        return
    (store / "locks").mkdir(exist_ok=True)
    needs = (store.parent / "out" / "needs.bin").read_bytes()
    at = chance.randrange(0, len(needs), 16)
    lock = store / "locks" / f"{needs[at : at + 16].hex()}.lock"
    lock.write_bytes(chance.choice([b"", b"{", chance.randbytes(50)]))


DAMAGE = {f.__name__: f for f in (truncate, flip, zero, delete, append, dead_part, stale_lock)}
