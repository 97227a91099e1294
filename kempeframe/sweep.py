"""Spec -> trials: the points that a sweep's axes span, structured into components."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from kempeframe.components import Attack, Data, Evaluator, Fit, Model, Optimizer
from kempeframe.overrides import SECTIONS, BadPath, member_name, resolve, split, with_value
from kempeframe.problems import nearest
from kempeframe.structure import Context, Invalid, Path, RangeFloat, named_fit, structure

if TYPE_CHECKING:
    from kempeframe.spec import Source

MOST_TRIALS = 1_000_000


@attrs.frozen
class Point:
    """One point of an axis: what it shows in the table, what it sets, and where it stands in the spec."""

    columns: dict[str, Any]
    changes: tuple[tuple[tuple[str, ...], Any, bool], ...]  # (path, value, merge)
    path: Path


@attrs.frozen(kw_only=True, eq=False)
class Configuration:
    """A trial without its seed. Theory alone needs no model and no optimizer: then there is no `fit`."""

    axes: dict[str, Any]  # swept column -> value
    data: Data | None
    model: Model | None
    optimizer: Optimizer | None
    attack: Attack | None
    fit: Fit | None
    evaluators: tuple[tuple[str, Evaluator], ...]
    raw: dict[str, Any]

    def value_at(self, dotted: str) -> Any:
        """The value of a swept column, or of a component's field by its path; KeyError where there is none."""
        if dotted in self.axes:
            return self.axes[dotted]
        parts = split(dotted)
        if parts[0] == "evaluator" and len(parts) > 2:
            value: Any = dict(self.evaluators).get(parts[1])
            parts = parts[2:]
        elif parts[0] in ("data", "model", "optimizer", "attack"):
            value, parts = getattr(self, parts[0]), parts[1:]
        else:
            raise KeyError(dotted)
        for part in parts:
            if not hasattr(value, part) or part not in attrs.fields_dict(type(value)):
                raise KeyError(dotted)
            value = getattr(value, part)
        return value


@attrs.frozen(eq=False)
class Trial:
    """A configuration and one seed: one row of the table."""

    configuration: Configuration
    seed: int


def expand(source: Source) -> list[list[Point]]:
    """The axes of `[sweep]` as lists of points; problems go to the source."""
    sweep = source.raw.get("sweep", {})
    if not isinstance(sweep, dict):
        source.problem(("sweep",), "expected a table of axes")
        return []
    axes = []
    for key, value in sweep.items():
        try:
            axes.append(_axis(key, value, source.raw))
        except (Invalid, BadPath) as error:
            source.problem(("sweep", key), str(error))
    return axes


def _axis(key: str, value: Any, raw: dict[str, Any]) -> list[Point]:
    place = ("sweep", key)
    if isinstance(value, dict) and not {"geometric", "linear"} & value.keys():
        return _variants(key, value, raw)
    names = [name.strip() for name in key.split(",")]
    paths = [_path(name, raw) for name in names]
    values = _range(value) if isinstance(value, dict) else value
    if not isinstance(values, list) or not values:
        raise Invalid("expected a list of values, a range { geometric | linear = [first, last], points = N }, or variants")
    points = []
    for index, item in enumerate(values):
        items = item if len(names) > 1 else [item]
        if not isinstance(items, list) or len(items) != len(names):
            raise Invalid(f"zipped axes: expected {len(names)} values for {key!r} in entry {index + 1}")
        columns = {name: _plain(v) for name, v in zip(names, items, strict=True)}
        changes = tuple((path, v, False) for path, v in zip(paths, items, strict=True))
        points.append(Point(columns, changes, (*place, index)))
    return points


def _variants(key: str, table: dict[str, Any], raw: dict[str, Any]) -> list[Point]:
    """Named variants: each a table of changes, below `key` where that is a section, else below the whole spec."""
    if not table or not all(isinstance(v, dict) for v in table.values()):
        raise Invalid("expected variants: NAME = { key = value, ... }, or a range with `points`")
    base = _path(key, raw) if key.partition(".")[0] in SECTIONS else ()
    points = []
    for name, changes in table.items():
        moves = []
        for dotted, value in changes.items():
            path = (*base, *split(dotted))
            if path[0] not in SECTIONS:
                raise BadPath(f"variant {name!r}: {dotted!r} leads to no section{nearest(path[0], SECTIONS)}")
            moves.append((path, value, isinstance(value, dict) and "use" not in value))
        points.append(Point({key: name}, tuple(moves), ("sweep", key, name)))
    return points


def _path(dotted: str, raw: dict[str, Any]) -> tuple[str, ...]:
    path = split(dotted)
    if path[0] not in SECTIONS:
        raise BadPath(f"unknown axis {dotted!r}: an axis starts with a section{nearest(path[0], SECTIONS)}")
    resolve(raw, path)  # says which evaluator is unknown
    return path


def _range(value: dict[str, Any]) -> list[Any]:
    extra = value.keys() - {"geometric", "linear", "points"}
    if extra or ("geometric" in value) == ("linear" in value):
        raise Invalid("expected { geometric = [first, last], points = N } or { linear = [first, last], points = N }")
    ends, points = value.get("geometric", value.get("linear")), value.get("points")
    numbers = isinstance(ends, list) and len(ends) == 2 and all(type(v) in (int, float) for v in ends)
    if not numbers or not all(math.isfinite(float(v)) for v in ends):
        raise Invalid("a range is [first, last], two finite numbers")
    if not isinstance(points, int) or isinstance(points, bool) or not 2 <= points <= MOST_TRIALS:
        raise Invalid("a range needs points = N, a whole number of at least 2")
    first, last = map(float, ends)
    share = [i / (points - 1) for i in range(points)]
    if "linear" in value:
        return [RangeFloat(first + (last - first) * s) for s in share]
    if first <= 0 or last <= 0:
        raise Invalid("a geometric range needs ends above 0")
    # Through the nearest float of few digits, so that 1e3 ... 1e8 holds 1e4 and not 10000.000000000002.
    return [RangeFloat(f"{first * (last / first) ** s:.12g}") for s in share]


def _plain(value: Any) -> Any:
    if isinstance(value, RangeFloat):
        return float(value)
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def trial_count(axes: list[list[Point]], seeds: int) -> int:
    """How many trials the axes and the seeds span."""
    return math.prod(map(len, axes)) * seeds


class Expansion:
    """Structures the configurations of a sweep; equal parts are structured once."""

    def __init__(self, source: Source, axes: list[list[Point]]):
        self.source = source
        self.axes = axes
        self.contexts: dict[str, Context] = {}
        self.first = Context(source.registry)

    def configurations(self) -> Iterator[Configuration]:
        """Every point of the sweep, in the order of the file; a point equal to an earlier one is left out."""
        seen: set[str] = set()
        for points in itertools.product(*self.axes):
            made = self._one(points)
            if made is not None:
                key = json.dumps(made.axes, sort_keys=True, default=str)
                if key not in seen:
                    seen.add(key)
                    yield made

    def _one(self, points: tuple[Point, ...]) -> Configuration | None:
        raw, moved = self.source.raw, {}
        for point in points:
            for path, value, merge in point.changes:
                try:
                    resolved = resolve(raw, path)
                    raw = with_value(raw, resolved, value, merge)
                except BadPath as error:
                    self.source.problem(point.path, str(error))
                    return None
                moved[resolved] = point.path
        context = self._context(raw.get("fit", {}))
        parts: dict[str, Any] = {}
        sound = True
        for kind, base in (("data", Data), ("model", Model), ("optimizer", Optimizer), ("attack", Attack)):
            parts[kind] = None
            if kind in raw:
                parts[kind] = self._structure(raw[kind], base, context, (kind,), moved)
                sound &= parts[kind] is not None
        evaluators = []
        members = raw.get("evaluator", [])
        for index, member in enumerate(members if isinstance(members, list) else []):
            table = {k: v for k, v in member.items() if k != "name"} if isinstance(member, dict) else member
            made = self._structure(table, Evaluator, context, ("evaluator", index), moved)
            sound &= made is not None
            if made is not None:
                evaluators.append((member_name(member), made))
        fit = self._trial_fit(raw, context, moved)
        for name in raw.get("fit", {}) if isinstance(raw.get("fit", {}), dict) else {}:
            sound &= self._structure(name, Fit, context, ("fit", name), moved) is not None
        if not sound or ("trial" in raw and fit is None):
            return None
        if fit is not None:
            parts = {k: getattr(fit, k) for k in parts}
        elif parts["data"] and parts["model"] and parts["optimizer"]:
            fit = Fit(**parts)
        made_axes = {name: value for point in points for name, value in point.columns.items()}
        made_one = Configuration(axes={}, fit=fit, evaluators=tuple(evaluators), raw=raw, **parts)
        axes = {name: _structured_value(made_one, name, value) for name, value in made_axes.items()}
        return attrs.evolve(made_one, axes=axes)

    def _trial_fit(self, raw: dict[str, Any], context: Context, moved: dict[Path, Path]) -> Fit | None:
        if "trial" not in raw:
            return None
        made: Fit | None = self._structure(raw["trial"], Fit, context, ("trial",), moved)
        return made

    def _context(self, fits: Any) -> Context:
        """One context for each state of the named fits: what was structured under one is not valid under another."""
        key = json.dumps(fits, sort_keys=True, default=str)
        if key not in self.contexts:
            self.contexts[key] = attrs.evolve(
                self.first, fits=fits if isinstance(fits, dict) else {}, done={}, named={}, opening=[], path=[]
            )
        return self.contexts[key]

    def _structure(self, raw: Any, cls: Any, context: Context, path: Path, moved: dict[Path, Path]) -> Any:
        context.path[:] = path
        context.previous = None
        value = structure(raw, cls, context)
        for place, message in context.problems:
            self.source.problem(place, message, moved)
        context.problems.clear()
        context.path.clear()
        for path_, keys in context.unknown_keys.items():
            for key in keys:
                self.source.moved.setdefault((*path_, key), moved.get((*path_, key), (*path_, key)))
        return value


def _structured_value(configuration: Configuration, name: str, raw: Any) -> Any:
    """What the table shows for a swept key: the structured value (1e3 is 1000 for an int), else the raw one."""
    try:
        value = configuration.value_at(name)
    except KeyError:
        return raw
    return value if isinstance(value, (int, float, str, bool)) else raw


__all__ = ["MOST_TRIALS", "Configuration", "Expansion", "Point", "Trial", "expand", "named_fit", "trial_count"]
