"""Changes to a spec's raw tables: `--set`, `[smoke]`, and the points of a sweep, all by the path of a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tomli

from kempeframe.structure import Path

SECTIONS = ("data", "model", "optimizer", "attack", "evaluator", "fit")
LISTS = ("evaluator", "figure", "claim")  # arrays of tables: their members go by name, or by number


class BadPath(ValueError):
    """A dotted path that leads nowhere."""


def split(dotted: str) -> tuple[str, ...]:
    """`data.n_train` -> ("data", "n_train"); a sweep's axes are one key: `sweep.data.n_train` -> ("sweep", "data.n_train")."""
    head, _, rest = dotted.partition(".")
    if head in ("sweep", "columns") and rest:
        return head, rest.strip("\"'")
    return tuple(dotted.split("."))


def resolve(raw: Mapping[str, Any], path: Sequence[str | int]) -> Path:
    """The path with members of arrays of tables as numbers: ("evaluator", "theory", "x") -> ("evaluator", 1, "x").

    Raises:
        BadPath: no member of that name.
    """
    if len(path) < 2 or path[0] not in LISTS or isinstance(path[1], int):
        return tuple(path)
    members = raw.get(str(path[0]))
    for index, member in enumerate(members if isinstance(members, list) else []):
        if isinstance(member, dict) and path[1] in (member_name(member), str(index)):
            return (path[0], index, *path[2:])
    raise BadPath(f"there is no {path[0]} called {path[1]!r}")


def member_name(member: Mapping[str, Any]) -> str:
    """The name of an evaluator, figure or claim: its `name`, else its component's."""
    return str(member.get("name") or str(member.get("use", "")).rpartition(".")[2])


def with_value(raw: Any, path: Sequence[str | int], value: Any, merge: bool = False) -> Any:
    """A copy of `raw` in which the key at `path` has `value`; what the path does not touch is shared, not copied.

    With `merge`, a table without `use` is merged into the one that stands there.

    Raises:
        BadPath: the path runs through something that is no table.
    """
    if not path:
        if merge and isinstance(value, dict) and isinstance(raw, dict):
            merged = raw
            for key, item in value.items():
                merged = with_value(merged, key.split("."), item, merge="use" not in item if isinstance(item, dict) else False)
            return merged
        return value
    head, rest = path[0], path[1:]
    if isinstance(raw, list) and isinstance(head, int) and head < len(raw):
        return [with_value(item, rest, value, merge) if i == head else item for i, item in enumerate(raw)]
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise BadPath(f"{head!r} is no key of a table here")
    return {**raw, str(head): with_value(raw.get(str(head)), rest, value, merge)}


def parse_assignment(text: str) -> tuple[tuple[str, ...], Any]:
    """`data.n_train=500` -> (("data", "n_train"), 500). The value is TOML; what is not, is a string.

    Raises:
        BadPath: there is no `=` in it.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise BadPath(f"expected KEY=VALUE, got {text!r}")
    try:
        parsed = tomli.loads(f"value = {value.strip()}")["value"]
    except (tomli.TOMLDecodeError, RecursionError):
        parsed = value.strip()
    return split(key.strip()), parsed


def set_value(raw: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """`raw` with one key set. An axis over that key gives way: the value holds for all trials."""
    resolved = resolve(raw, path)
    raw = with_value(raw, resolved, value)
    sweep = raw.get("sweep")
    dotted = ".".join(map(str, path))
    if isinstance(sweep, dict) and dotted in sweep:
        raw = {**raw, "sweep": {**sweep, dotted: [value]}}
    return raw
