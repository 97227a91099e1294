"""Keys, and a namespace of a store with records in it."""

from __future__ import annotations

from pathlib import Path

from kempeframe.store import Namespace


def key(number: int) -> str:
    return f"{number:032x}"


def filled(root: Path, count: int = 20) -> Namespace:
    space = Namespace(root)
    for i in range(count):
        space.put(key(i), f"record {i}".encode() * (i + 1))
    space.flush()
    return space
