"""Spec -> trials: the points that a sweep's axes span, structured into components."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from kempeframe.axes import Axis, Point
from kempeframe.components import Attack, Data, Evaluator, Fit, Model, Optimizer
from kempeframe.lines import KeyPath
from kempeframe.overrides import BadPath, member_name, split, with_value
from kempeframe.structure import Context, structure, unknown_keys

if TYPE_CHECKING:
    from kempeframe.reading import Source

PARTS: dict[str, Any] = {"data": Data, "model": Model, "optimizer": Optimizer, "attack": Attack}
STAR = 100  # values of an axis that are checked where the sweep is too large to run


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
    fits: Mapping[str, Fit] = attrs.field(factory=dict)  # the named ones; of rounds, the last

    def value_at(self, dotted: str) -> Any:
        """The value of a swept column, or of a component's field by its path; KeyError where there is none."""
        if dotted in self.axes:
            return self.axes[dotted]
        section, *parts = split(dotted)
        if section in PARTS:
            value: Any = getattr(self, section)
        elif section in ("evaluator", "fit") and parts:
            named: Mapping[str, Any] = dict(self.evaluators) if section == "evaluator" else self.fits
            value, parts = named.get(parts[0]), parts[1:]
        else:
            raise KeyError(dotted)
        for part in parts or [""]:
            if part not in _field_names(type(value)):
                raise KeyError(dotted)
            value = getattr(value, part)
        return value


@attrs.frozen
class Origin:
    """What a key owes its value to: a point of an axis, and the place in the spec that says so."""

    point: KeyPath
    place: KeyPath

    def of_key(self) -> Origin:
        """The place of the key rather than of its value. In a variant, each value has a key of its own."""
        return self if isinstance(self.point[-1], str) else Origin(self.point, self.point[:-1])


@attrs.frozen(eq=False)
class Trial:
    """A configuration and one seed: one row of the table."""

    configuration: Configuration
    seed: int


class Expansion:
    """Structures the configurations of a sweep; equal parts are structured once."""

    def __init__(self, source: Source, axes: Sequence[Axis]):
        self.source = source
        self.axes = axes
        self.contexts: dict[str, Context] = {}
        self.moved: dict[KeyPath, Origin] = {}  # of the configuration at hand: what the axes set
        self.set_by: dict[KeyPath, Origin] = {}  # of all so far
        self.failed: set[KeyPath] = set()  # parts that could not be structured somewhere: ("evaluator", 1)
        self.whole: dict[tuple[KeyPath, str], dict[KeyPath, Origin]] = {}  # problems of a table with swept keys
        members = source.raw.get("evaluator")
        names = [member_name(m) if isinstance(m, dict) else "" for m in (members if isinstance(members, list) else [])]
        self.names = dict(enumerate(names))
        self.first = Context(source.registry, names=self.names)

    def configurations(self, all_of_them: bool = True) -> list[Configuration]:
        """Every point of the sweep, in the order of the file; a point equal to an earlier one is left out.

        Without `all_of_them`: only as many as show what is wrong with single values.
        """
        made: dict[tuple[str, ...], Configuration] = {}
        for points in itertools.product(*self.axes) if all_of_them else self._star():
            configuration = self._one(points)
            if configuration is not None:
                made.setdefault(tuple(map(repr, configuration.axes.values())), configuration)
        for path, message in unknown_keys(self.first):
            self._problem(path, message, {key: origin.of_key() for key, origin in self.set_by.items()})
        self._say_whole_problems()
        return list(made.values())

    def _star(self) -> Iterator[tuple[Point, ...]]:
        """The first point of every axis, and each axis' points with the others at their first."""
        firsts = tuple(axis[0] for axis in self.axes)
        if not self.axes:
            yield ()
        for place, axis in enumerate(self.axes):
            for index in range(min(len(axis), STAR)):
                yield (*firsts[:place], axis[index], *firsts[place + 1 :])

    def _one(self, points: tuple[Point, ...]) -> Configuration | None:
        raw: dict[str, Any] = self.source.raw
        self.moved = {}
        for point in points:
            for path, value, place in point.changes:
                try:
                    raw = with_value(raw, path, value)
                except BadPath as error:
                    self.source.problem(place, str(error))
                    return None
                self.moved[path] = Origin(point.path, place)
        self.set_by = self.moved | self.set_by
        context = self._context(raw.get("fit", {}))
        parts = {kind: self._structure(raw[kind], base, context, kind) for kind, base in PARTS.items() if kind in raw}
        evaluators = self._evaluators(raw, context)
        fits = {name: self._structure(name, Fit, context, "fit", name) for name in context.fits}
        fit = self._structure(raw["trial"], Fit, context, "trial") if isinstance(raw.get("trial"), str) else None
        if any(made is None for made in (*parts.values(), *evaluators.values(), *fits.values())):
            return None
        if "trial" in raw and fit is None:
            self.failed.update((kind,) for kind in PARTS)
            return None
        if fit is not None:
            parts = {kind: getattr(fit, kind) for kind in PARTS}
        elif {"data", "model", "optimizer"} <= parts.keys():
            fit = Fit(**parts)
        made = Configuration(
            axes={}, fit=fit, fits=fits, evaluators=tuple(evaluators.items()), raw=raw, **dict.fromkeys(PARTS) | parts
        )
        columns = {name: value for point in points for name, value in point.columns.items()}
        return attrs.evolve(made, axes={name: _structured_value(made, name, raw) for name, raw in columns.items()})

    def _evaluators(self, raw: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """The evaluators by name: the one in the file, whatever component a sweep puts in its place."""
        made = {}
        members = raw.get("evaluator")
        for index, member in enumerate(members if isinstance(members, list) else []):
            table = {k: v for k, v in member.items() if k != "name"} if isinstance(member, dict) else member
            name = self.names.get(index) or (member_name(member) if isinstance(member, dict) else "") or str(index + 1)
            made[name] = self._structure(table, Evaluator, context, "evaluator", index)
        return made

    def _context(self, fits: Any) -> Context:
        """One context for each state of the named fits: what was structured under one is not valid under another."""
        fits = fits if isinstance(fits, dict) else {}
        key = json.dumps(fits, sort_keys=True, default=str) if fits else ""
        if key not in self.contexts:
            self.contexts[key] = attrs.evolve(
                self.first, fits=fits, problems=[], done={}, named={}, opening=[], path=[]
            )
        return self.contexts[key]

    def _structure(self, raw: Any, cls: Any, context: Context, *path: str | int) -> Any:
        context.path[:] = path
        context.previous = None
        value = structure(raw, cls, context)
        if value is None:
            self.failed.add(path)
        for place, message in context.problems:
            self._problem(place, message, self.moved)
        context.problems.clear()
        return value

    def _problem(self, path: KeyPath, message: str, moved: Mapping[KeyPath, Origin]) -> None:
        """A problem is shown where its cause stands: where an axis set the key, at the axis."""
        for length in range(len(path), 0, -1):
            if path[:length] in moved:
                self.source.problem(moved[path[:length]].place, message)
                return
        below = [origin for key, origin in moved.items() if key[: len(path)] == path]
        if below:
            self.whole.setdefault((path, message), {})[below[-1].point] = below[-1]
        else:
            self.source.problem(path, message)

    def _say_whole_problems(self) -> None:
        """A problem of a table as a whole that not every point of an axis has, is that axis' doing."""
        for (path, message), origins in self.whole.items():
            origin = next(iter(origins.values()))
            axis = next(axis for axis in self.axes if axis.path == origin.point[:2])
            every = len(origins) == len(axis) and len(axis) > 1
            self.source.problem(path if every else origin.place, message)


def _field_names(cls: type) -> frozenset[str]:
    if cls not in _NAMES:
        _NAMES[cls] = frozenset(attrs.fields_dict(cls)) if attrs.has(cls) else frozenset()
    return _NAMES[cls]


_NAMES: dict[type, frozenset[str]] = {}


def _structured_value(configuration: Configuration, name: str, raw: Any) -> Any:
    """What the table shows for a swept key: the structured value (1e3 is 1000 for an int), else the raw one."""
    try:
        value = configuration.value_at(name)
    except KeyError:
        return raw
    return value if isinstance(value, (int, float, str, bool)) else raw
