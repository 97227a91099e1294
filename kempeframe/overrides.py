"""Changes to a spec's raw tables by the path of a key, as `--set`, `[smoke]` and the points of a sweep make them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import tomli

from kempeframe.lines import KeyPath
from kempeframe.problems import nearest

SECTIONS = ("data", "model", "optimizer", "attack", "evaluator", "fit")
LISTS = ("evaluator", "figure", "claim")  # arrays of tables: their members go by name, or by number from 1
DEEPEST = 50  # levels of tables; nobody writes more, and Python's stack holds them


class BadPath(ValueError):
    """A dotted path that leads nowhere."""


@lru_cache(maxsize=4096)
def split(key: str) -> tuple[str, ...]:
    """`data.n_train` -> ("data", "n_train"). An axis is one key: `sweep.data.n_train` -> ("sweep", "data.n_train")."""
    try:
        parts = _toml_parts(key)
    except (ValueError, RecursionError):
        parts = key.split(".")
    if parts[0] in ("sweep", "columns") and len(parts) > 1:
        return parts[0], ".".join(parts[1:])
    return tuple(parts)


def _toml_parts(key: str) -> list[str]:
    """The parts of a key by TOML's rules, quoted ones included."""
    if "\n" in key or "=" in key:
        raise ValueError(key)
    table: Any = tomli.loads(f"{key} = 0")
    parts = []
    while isinstance(table, dict):
        ((part, table),) = table.items()
        parts.append(part)
    return parts


def resolve(raw: Mapping[str, Any], path: Sequence[str | int]) -> KeyPath:
    """The path with members of arrays of tables as indices: ("evaluator", "theory", "x") -> ("evaluator", 1, "x").

    Raises:
        BadPath: no such member, or a path longer than any spec's.
    """
    if len(path) > DEEPEST:
        raise BadPath(f"is nested too deeply: more than {DEEPEST} levels")
    if len(path) < 2 or path[0] not in LISTS or isinstance(path[1], int):
        return tuple(path)
    members = raw.get(str(path[0]))
    names = [member_name(m) if isinstance(m, dict) else "" for m in (members if isinstance(members, list) else [])]
    for known in (names, [str(number) for number in range(1, len(names) + 1)]):
        if path[1] in known:
            return (path[0], known.index(str(path[1])), *path[2:])
    raise BadPath(f"there is no {path[0]} called {path[1]!r}{nearest(str(path[1]), [n for n in names if n])}")


def member_name(member: Mapping[str, Any]) -> str:
    """The name of an evaluator or figure: its `name`, else its component's; empty where there is neither."""
    return str(member.get("name") or str(member.get("use", "")).rpartition(".")[2])


def with_value(raw: Any, path: Sequence[str | int], value: Any) -> Any:
    """A copy of `raw` in which the key at `path` has `value`; what the path does not touch is shared, not copied.

    Raises:
        BadPath: the path runs through something that is no table.
    """
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(raw, list) and isinstance(head, int) and head < len(raw):
        return [with_value(item, rest, value) if i == head else item for i, item in enumerate(raw)]
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise BadPath(f"{str(head)!r} is no key of a table here")
    return {**raw, str(head): with_value(raw.get(str(head)), rest, value)}


def leaves(path: tuple[str, ...], value: Any, place: KeyPath = ()) -> Iterator[tuple[tuple[str, ...], Any, KeyPath]]:
    """A table of changes as single ones: (path, value, where it stands, below the place of the table).

    One with `use` is a change itself: a whole component takes another's place. The spec as a whole is no component.
    """
    whole = path and (path[0] not in (*SECTIONS, "sweep", "columns") or (path[0] in ("sweep", "columns") and path[1:]))
    if not isinstance(value, dict) or whole or (path and "use" in value):
        yield path, value, place
        return
    for key, item in value.items():
        # Below [smoke.sweep] a key is an axis as it stands, below a section it may be dotted.
        below = (key,) if path[:1] in (("sweep",), ("columns",)) else split(key)
        yield from leaves((*path, *below), item, (*place, key))


def parse_assignment(text: str) -> tuple[tuple[str, ...], Any]:
    """`data.n_train=500` -> (("data", "n_train"), 500). The value is TOML; what is not, is a string.

    Raises:
        BadPath: there is no `=` in it.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise BadPath(f"expected KEY=VALUE, got {text!r}")
    try:
        parsed = tomli.loads(f"value = {value.strip()}")
    except (ValueError, RecursionError):
        parsed = {}
    return split(key.strip()), parsed["value"] if parsed.keys() == {"value"} else value.strip()


def set_value(raw: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """`raw` with one key set. An axis over that key gives way: the value holds for all trials.

    Raises:
        BadPath: the path leads nowhere, or below something that an axis sets as a whole.
    """
    target = resolve(raw, path)
    changed: dict[str, Any] = with_value(raw, target, value)
    sweep = changed.get("sweep")
    if isinstance(sweep, dict) and path[0] in SECTIONS:
        axes: dict[str, Any] = {}
        for key, axis in sweep.items():
            axes |= _giving_way(key, axis, target, value, raw)
        changed = {**changed, "sweep": axes}
    return changed


def _giving_way(key: str, axis: Any, target: KeyPath, value: Any, raw: Mapping[str, Any]) -> dict[str, Any]:
    """An axis without what it does to `target`."""
    if is_variants(axis):
        return {key: {name: _without(changes, base_path(key), target, raw) for name, changes in axis.items()}}
    names = [name.strip() for name in key.split(",")]
    kept = [i for i, name in enumerate(names) if not _is_at(split(name), target, raw, key)]
    if len(kept) == len(names):
        return {key: axis}
    if not kept:
        return {key: [value]}
    if not (isinstance(axis, list) and all(isinstance(v, list) and len(v) == len(names) for v in axis)):
        return {key: axis}  # wrong anyway: expanding the axis says how
    values = [[entry[i] for i in kept] for entry in axis]
    return {", ".join(names[i] for i in kept): values if len(kept) > 1 else [v[0] for v in values]}


def _without(changes: Any, base: tuple[str, ...], target: KeyPath, raw: Mapping[str, Any]) -> Any:
    if not isinstance(changes, dict):
        return changes
    single = list(leaves(base, changes))
    kept = [(path, value) for path, value, _ in single if not _is_at(path, target, raw, ".".join(path))]
    if len(kept) == len(single):
        return changes
    return {".".join(path[len(base) :]): value for path, value in kept}


def _is_at(path: Sequence[str], target: KeyPath, raw: Mapping[str, Any], axis: str) -> bool:
    try:
        resolved = resolve(raw, path)
    except BadPath:
        return False
    if len(resolved) < len(target) and target[: len(resolved)] == resolved:
        raise BadPath(f"the sweep sets {'.'.join(path)!r} as a whole; override sweep.{axis!r} instead")
    return resolved == target


def is_variants(axis: Any) -> bool:
    """Whether an axis is a table of named variants, not a list and not a range."""
    return isinstance(axis, dict) and not {"geometric", "linear", "points"} & axis.keys()


def base_path(key: str) -> tuple[str, ...]:
    """Below what the changes of an axis of variants lie: the section that its key names, else the whole spec."""
    path = split(key)
    return path if path[0] in SECTIONS else ()
