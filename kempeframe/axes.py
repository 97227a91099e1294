"""The axes of a sweep: lists, ranges, zipped axes and named variants, as lists of points."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from kempeframe.lines import KeyPath
from kempeframe.overrides import SECTIONS, BadPath, base_path, is_variants, leaves, resolve, split
from kempeframe.problems import nearest, shown
from kempeframe.structure import Invalid, RangeFloat

if TYPE_CHECKING:
    from kempeframe.reading import Source

MOST_TRIALS = 1_000_000
RANGE = "{ geometric = [first, last], points = N } or { linear = [first, last], points = N }"


@attrs.frozen
class Point:
    """One point of an axis: what it shows in the table, what it sets, and where it stands in the spec."""

    columns: dict[str, Any]
    changes: tuple[tuple[KeyPath, Any, KeyPath], ...]  # what is set, to what, and where that stands
    path: KeyPath


@attrs.frozen
class Range(Sequence[float]):
    """The numbers of a range, computed when asked for: a range of a million costs nothing until it is used."""

    first: float
    last: float
    points: int
    geometric: bool

    def __len__(self) -> int:
        return self.points

    def __getitem__(self, index: Any) -> Any:
        if not -self.points <= index < self.points:
            raise IndexError(index)
        if index % self.points in (0, self.points - 1):
            return RangeFloat(self.last if index % self.points else self.first)
        share = (index % self.points) / (self.points - 1)
        if not self.geometric:
            return RangeFloat(f"{self.first * (1 - share) + self.last * share:.15g}")
        # Through the nearest float of few digits, so that 1e3 ... 1e8 holds 1e4 and not 10000.000000000002.
        return RangeFloat(f"{math.exp(math.log(self.first) * (1 - share) + math.log(self.last) * share):.12g}")


@attrs.frozen
class Axis:
    """One key of `[sweep]`: points, made when asked for."""

    key: str
    columns: tuple[str, ...]
    targets: tuple[KeyPath, ...]  # what its points set; for variants, all that any of them sets
    values: Sequence[Any]  # of variants: (name, changes)
    variants: bool = False

    @property
    def path(self) -> KeyPath:
        """Where it stands in the spec."""
        return ("sweep", self.key)

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Point]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Point:
        value = self.values[index]
        if self.variants:
            name, changes = value
            return Point({self.key: name}, changes, (*self.path, name))
        items = value if len(self.columns) > 1 else [value]
        columns = {name: _plain(item) for name, item in zip(self.columns, items, strict=True)}
        place = (*self.path, index)
        places = [place] if len(items) == 1 else [(*place, part) for part in range(len(items))]
        return Point(columns, tuple(zip(self.targets, items, places, strict=True)), place)


def _plain(value: Any) -> Any:
    if isinstance(value, RangeFloat):
        return float(value)
    return json.dumps(value, default=str) if isinstance(value, (dict, list)) else value


def expand(source: Source) -> list[Axis]:
    """The axes of `[sweep]`. A wrong one is a problem, and what it would have set is not looked at further."""
    sweep = source.raw.get("sweep", {})
    if not isinstance(sweep, dict):
        source.problem(("sweep",), "expected a table of axes")
        return []
    axes: list[Axis] = []
    for key, value in sweep.items():
        try:
            axis = _axis(key, value, source.raw)
            _check_disjoint(axis, axes)
        except _Misplaced as error:
            source.problem(("sweep", key, *error.below), str(error))
            source.unsure.update(_paths_of(key, value, source.raw))
        except (Invalid, BadPath) as error:
            source.problem(("sweep", key), str(error))
            source.unsure.update(_paths_of(key, value, source.raw))
        else:
            axes.append(axis)
    return axes


class _Misplaced(Invalid):
    """A problem in one entry of an axis."""

    def __init__(self, message: str, *below: str | int):
        super().__init__(message)
        self.below = below


def _check_disjoint(axis: Axis, others: Sequence[Axis]) -> None:
    """Two axes may not set the same key; one may set a key below what an earlier one sets as a whole."""
    for other in others:
        for target in axis.targets:
            for theirs in other.targets:
                if theirs[: len(target)] == target:
                    raise Invalid(f"sets {_joined(theirs)!r}, as the axis {other.key!r} does")
        for column in set(axis.columns) & set(other.columns):
            raise Invalid(f"another axis gives the column {column!r} already")


def _axis(key: str, value: Any, raw: dict[str, Any]) -> Axis:
    if is_variants(value):
        return _variants(key, value, raw)
    names = tuple(name.strip() for name in key.split(","))
    targets = tuple(_path(name, raw) for name in names)
    if len(set(targets)) < len(targets):
        raise Invalid("names a key twice")
    values = _range(value) if isinstance(value, dict) else value
    if not isinstance(values, (list, Range)) or not values:
        raise Invalid(f"expected a list of values, a range {RANGE}, or named variants; got {shown(value)}")
    if len(names) > 1:
        for index, entry in enumerate(values):
            if not isinstance(entry, list) or len(entry) != len(names):
                raise _Misplaced(f"zipped axes: expected {len(names)} values for {key!r}, got {shown(entry)}", index)
    return Axis(key, names, targets, values)


def _variants(key: str, table: dict[str, Any], raw: dict[str, Any]) -> Axis:
    """Named variants: each a table of changes, below `key` where that is a section, else below the whole spec."""
    if not table:
        raise Invalid("expected variants: NAME = { key = value, ... }")
    base = base_path(key)
    if base:
        resolve(raw, base)
    values = []
    for name, changes in table.items():
        if not isinstance(changes, dict):
            raise _Misplaced(f"expected the changes of variant {name!r}, a table, or a range with `points`", name)
        moves = []
        for path, value, place in leaves(base, changes, ("sweep", key, name)):
            try:
                moves.append((_checked(path, raw), value, place))
            except BadPath as error:
                raise _Misplaced(f"variant {name!r}: {error}", *place[2:]) from None
        values.append((name, tuple(moves)))
    targets = tuple(dict.fromkeys(path for _, moves in values for path, _, _ in moves))
    return Axis(key, (key,), targets, values, variants=True)


def _path(dotted: str, raw: dict[str, Any]) -> KeyPath:
    return _checked(split(dotted), raw)


def _checked(path: tuple[str, ...], raw: dict[str, Any]) -> KeyPath:
    """The resolved path of something that a sweep may set.

    Raises:
        BadPath: it is none; the nearest right one is named.
    """
    if path[0] not in SECTIONS:
        known = [_joined((section, *path[1:])) for section in SECTIONS]
        known += [f"{s}.{key}" for s in SECTIONS if isinstance(raw.get(s), dict) for key in raw[s]]
        raise BadPath(f"unknown axis {_joined(path)!r}: it starts with no section{nearest(_joined(path), known)}")
    if path[0] in ("evaluator", "fit") and len(path) < 3:
        raise BadPath(f"{_joined(path)!r} is no key that can be swept: expected {path[0]}.NAME.KEY")
    if path[0] == "fit" and not (isinstance(raw.get("fit"), dict) and path[1] in raw["fit"]):
        fits = raw.get("fit")
        raise BadPath(f"unknown fit {path[1]!r}{nearest(path[1], fits if isinstance(fits, dict) else [])}")
    return resolve(raw, path)


def _joined(path: Sequence[str | int]) -> str:
    return ".".join(map(str, path))


def _paths_of(key: str, value: Any, raw: dict[str, Any]) -> Iterator[KeyPath]:
    """What a wrong axis would have set, as far as it can be told."""
    if is_variants(value):
        tables = [changes for changes in value.values() if isinstance(changes, dict)]
        paths = [path for changes in tables for path, _, _ in leaves(base_path(key), changes)]
    else:
        paths = [split(name.strip()) for name in key.split(",")]
    for path in paths:
        try:
            yield _checked(path, raw)
        except BadPath:
            continue


def _range(value: dict[str, Any]) -> Range:
    extra = sorted(value.keys() - {"geometric", "linear", "points"})
    if extra:
        raise Invalid(f"unknown key {extra[0]!r} of a range{nearest(extra[0], ['geometric', 'linear', 'points'])}")
    if ("geometric" in value) == ("linear" in value):
        raise Invalid(f"expected {RANGE}")
    ends, points = value.get("geometric", value.get("linear")), value.get("points")
    numbers = isinstance(ends, list) and len(ends) == 2 and all(type(v) in (int, float) for v in ends)
    if not isinstance(ends, list) or not numbers or not all(map(math.isfinite, ends)):
        raise Invalid("a range is [first, last], two finite numbers")
    if isinstance(points, float) and points.is_integer():
        points = int(points)
    if not isinstance(points, int) or isinstance(points, bool) or points < 2:
        raise Invalid(f"a range needs points = N, a whole number >= 2; got {shown(value.get('points', 'none'))}")
    if "geometric" in value and min(ends) <= 0:
        raise Invalid("a geometric range needs ends above 0")
    return Range(float(ends[0]), float(ends[1]), points, "geometric" in value)


def trial_count(axes: Sequence[Axis], seeds: int) -> int:
    """How many trials the axes and the seeds span."""
    return math.prod(len(axis) for axis in axes) * seeds
