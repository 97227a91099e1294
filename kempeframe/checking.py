"""Checks of what a spec names: its evaluators, the columns, and the rows that claims and figures select."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kempeframe.columns import Expression
from kempeframe.components import Component, Evaluator, Fit
from kempeframe.lines import KeyPath
from kempeframe.overrides import SECTIONS, member_name, split
from kempeframe.problems import nearest, raised, shown
from kempeframe.reading import Source
from kempeframe.structure import Invalid, spec_fields
from kempeframe.sweep import PARTS, Configuration, Expansion

CERTIFICATE_COLUMNS = ("converged", "residual", "training_loss", "steps", "fit_seconds")
ROW_COLUMNS = ("seed", "status", *CERTIFICATE_COLUMNS)  # what every row has, besides axes and metrics
RESERVED = (*ROW_COLUMNS, "error")  # no bare metric takes the place of these; "error" is a failed trial's message
LONGEST = 10_000  # values of an axis that are looked through where no trial could be made


def evaluator_columns(configurations: Iterable[Configuration]) -> dict[str, tuple[str, str]]:
    """Column -> (evaluator, metric): `NAME.metric`, and the bare metric where one evaluator alone gives it.

    A measuring evaluator takes the bare name before theory, so that `test_error` is what was measured.

    Raises:
        Invalid: an evaluator's `columns()` fails, or gives something else than metric names.
    """
    full: dict[str, tuple[str, str]] = {}
    measured: dict[str, set[str]] = {}
    predicted: dict[str, set[str]] = {}
    for name, evaluator in _distinct(configurations):
        givers = predicted if evaluator.is_theory else measured
        for metric in _declared(name, evaluator):
            full[f"{name}.{metric}"] = (name, metric)
            givers.setdefault(metric, set()).add(name)
    for metric in {**predicted, **measured}:
        givers_of = measured.get(metric) or predicted[metric]
        if len(givers_of) == 1 and metric not in RESERVED:
            full.setdefault(metric, (next(iter(givers_of)), metric))
    return full


def _declared(name: str, evaluator: Evaluator) -> Mapping[str, str]:
    """What `columns()` says; it is a plugin's code, and may do anything."""
    try:
        declared = evaluator.columns()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise Invalid(f"columns() of {name} raised {raised(error)}") from error
    if not isinstance(declared, Mapping) or not all(isinstance(metric, str) for metric in declared):
        raise Invalid(f"columns() of {name}: expected metric names, each with a line of documentation")
    return declared


def _distinct(configurations: Iterable[Configuration]) -> Iterator[tuple[str, Evaluator]]:
    """Every evaluator once: equal ones of different configurations are one object."""
    seen: set[tuple[str, int]] = set()
    for configuration in configurations:
        for name, evaluator in configuration.evaluators:
            if (name, id(evaluator)) not in seen:
                seen.add((name, id(evaluator)))
                yield name, evaluator


def check_evaluators(source: Source, configurations: Sequence[Configuration]) -> None:
    """Their names are names and differ; what measures a network has one."""
    members = _members(source)
    names = [member_name(member) for member in members]
    for index, (name, member) in enumerate(zip(names, members, strict=True)):
        if "name" in member and not (isinstance(member["name"], str) and re.fullmatch(r"[\w-]+", member["name"])):
            message = f"expected a name of letters, digits, '-' and '_', got {shown(member['name'])}"
            source.problem(("evaluator", index, "name"), message)
        elif name in SECTIONS:
            source.problem(("evaluator", index), f"an evaluator can't be called {name!r}: columns of the spec begin so")
        elif name and name in names[:index]:
            message = f"duplicate evaluator: another one is called {name!r}; give this one a name of its own"
            source.problem(("evaluator", index), message)
    places = _places(source)
    lacking = {k for c in configurations if c.fit is None for k in ("model", "optimizer") if getattr(c, k) is None}
    for name, evaluator in _distinct(c for c in configurations if c.fit is None):
        if not evaluator.is_theory and lacking:
            missing = " and ".join(f"[{k}]" for k in sorted(lacking))
            source.problem(("evaluator", places.get(name, 0)), f"{name} measures a network: the spec lacks {missing}")
    _check_attacks(source, [c for c in configurations if c.attack is None], places)


def _members(source: Source) -> list[dict[str, Any]]:
    members = source.raw.get("evaluator")
    return members if isinstance(members, list) and all(isinstance(m, dict) for m in members) else []


def _places(source: Source) -> dict[str, int]:
    """The number of each evaluator's table; of equal names, the first."""
    names = [member_name(member) for member in _members(source)]
    return {name: index for index, name in reversed(list(enumerate(names)))}


def _check_attacks(source: Source, without: Sequence[Configuration], places: Mapping[str, int]) -> None:
    """Where a configuration has no attack, nothing asks for it."""
    for name, evaluator in _distinct(without):
        if evaluator.needs_attack:
            message = f"{name} measures under the trial's attack: the spec lacks [attack]"
            source.problem(("evaluator", places.get(name, 0)), message)
    if any(c.optimizer is not None and c.optimizer.needs_attack for c in without):
        source.problem(("optimizer",), "it trains against the trial's attack: the spec lacks [attack]")


def check_parts(source: Source, configurations: Sequence[Configuration]) -> None:
    """Components that say so can be used with each other."""
    places = _places(source)
    found: dict[tuple[KeyPath, str], None] = {}
    for configuration in configurations:
        parts = [part for name, fit in configuration.fits.items() for part in _parts(("fit", name), fit)]
        if configuration.fit is not None:
            parts += _parts((), configuration.fit)
            for name, evaluator in configuration.evaluators:
                for one in dict.fromkeys((evaluator, evaluator.measured)):
                    parts.append((("evaluator", places.get(name, 0)), one, configuration.fit))
        for path, component, fit in parts:
            message = _conflict(component, fit)
            if message:
                found.setdefault((path, message))
    for path, message in found:
        source.problem(path, message)


def _parts(place: KeyPath, fit: Fit) -> Iterator[tuple[KeyPath, Component, Fit]]:
    for kind in PARTS:
        if (component := getattr(fit, kind)) is not None:
            yield (*place, kind), component, fit


def _conflict(component: Component, fit: Fit) -> str:
    """What `check_with` says; it is a plugin's code, and may do anything."""
    if type(component).check_with is Component.check_with:
        return ""
    try:
        component.check_with(fit)
    except KeyboardInterrupt:
        raise
    except ValueError as error:
        return str(error) or f"{type(component).component_name()} does not go with the other components"
    except BaseException as error:
        return f"check_with() of {type(component).component_name()} raised {raised(error)}"
    return ""


class Columns:
    """The columns that rows will have. Of what could not be structured they are guessed, in the spec's favour."""

    def __init__(
        self,
        source: Source,
        expansion: Expansion,
        configurations: Sequence[Configuration],
        derived: Mapping[str, Expression],
    ):
        self.expansion = expansion
        self.configurations = configurations
        self.derived = derived
        swept = source.raw.get("sweep")
        axes = [name.strip() for key in (swept if isinstance(swept, dict) else ()) for name in (key, *key.split(","))]
        self.open: set[str] = set()  # evaluators of which no column is known
        self.metrics = self._metrics(source)
        self.given = {*ROW_COLUMNS, *axes, *self.metrics}
        self._values: dict[str, set[Any]] = {}

    def _metrics(self, source: Source) -> set[str]:
        try:
            known = set(evaluator_columns(self.configurations))
        except Invalid as error:
            source.problem(("evaluator",), str(error))
            known, self.open = set(), set(self.expansion.names.values())
        classes = self.expansion.first.classes
        for index, name in self.expansion.names.items():
            if not self.configurations or ("evaluator", index) in self.expansion.failed:
                metrics = [_metrics_of(cls) for cls in classes.get(("evaluator", index), ())]
                if not metrics or None in metrics:
                    self.open.add(name)
                known.update(full for found in metrics for m in found or () for full in (m, f"{name}.{m}"))
        return known

    def has(self, name: str) -> bool:
        """Whether rows have the column."""
        if name in self.given or name in self.derived or any(_value(c, name) is not None for c in self.configurations):
            return True
        section, *parts = split(name)
        if section in SECTIONS:
            return bool(parts) and self._may_have(section, parts)
        return bool(self.open) and (not parts or section in self.open)

    def _may_have(self, section: str, parts: list[str]) -> bool:
        """Whether a part that could not be structured may have the field."""
        if section not in PARTS:
            return not self.configurations
        classes = self.expansion.first.classes.get((section,), ())
        if self.configurations and (section,) not in self.expansion.failed:
            return any(parts[0] in spec_fields(cls) and len(parts) == 1 for cls in classes)  # unset in every trial
        return not classes or any(parts[0] in spec_fields(cls) for cls in classes)

    def hint(self, name: str) -> str:
        """Which right name may have been meant."""
        givers = sorted(known for known in self.given if known.endswith(f".{name}"))
        if len(givers) > 1:
            return f": several evaluators give it; write {' or '.join(map(repr, givers[:4]))}"
        section = split(name)[0]
        classes = self.expansion.first.classes.get((section,), ())
        fields = {f"{section}.{field}" for cls in classes for field in spec_fields(cls)}
        return nearest(name, {*self.given, *self.derived, *fields})

    def values(self, name: str) -> set[Any]:
        """The values of a column that are known before anything runs: of an axis, or of a component's field."""
        if name not in self._values:
            found: set[Any] = {_value(configuration, name) for configuration in self.configurations}
            if not self.configurations:
                axes = [axis for axis in self.expansion.axes if name in axis.columns and len(axis) <= LONGEST]
                found = {point.columns[name] for axis in axes for point in axis}
            self._values[name] = found - {None}
        return self._values[name]


def _metrics_of(cls: type[Component]) -> list[str] | None:
    """The columns of an evaluator whose fields are wrong: those that it has by default."""
    try:
        return list(_declared("", cls()))  # type: ignore[arg-type]
    except Exception:
        return None


def _value(configuration: Configuration, name: str) -> Any:
    """A plain value at a path; None where there is none."""
    try:
        value = configuration.value_at(name)
    except KeyError:
        return None
    return value if isinstance(value, (bool, int, float, str)) else None


def check_columns(source: Source, columns: Columns, members: Sequence[tuple[KeyPath, Any]], reduced: bool) -> None:
    """Every column that a claim, a figure or a formula names exists, and the rows that they select do.

    In a `reduced` spec rows may be absent.
    """
    for axis in columns.expansion.axes:
        if axis.variants and (axis.key in RESERVED or axis.key in columns.metrics or axis.key in columns.derived):
            source.problem(axis.path, f"there is a column {axis.key!r} already: the axis needs another name")
    for name, expression in columns.derived.items():
        if name in columns.given or name in RESERVED or split(name)[0] in SECTIONS:
            source.problem(("columns", name), f"there is a column {name!r} already, or may be")
        for used in expression.names:
            if not columns.has(used):
                source.problem(("columns", name), f"unknown column {used!r}{columns.hint(used)}")
    for path, member in members:
        raw = source.raw[str(path[0])][path[1]]
        for name in dict.fromkeys(member.columns()):
            in_history = name == "step" and getattr(member, "rows", "") == "history"
            if not columns.has(name) and not in_history:
                place = next(_mentions(raw, name), ())
                source.problem((*path, *place), f"unknown column {shown(name)}{columns.hint(name)}")
        selections = member.selections() if hasattr(member, "selections") else list(member.where.items())
        for name, wanted in selections:
            message = _selection_problem(name, wanted, set() if reduced else columns.values(name))
            if message:
                source.problem((*path, *next(_mentions(raw, name, wanted), ())), message)
    if not reduced and not source.problems:  # else configurations may lack
        for path, member in members:
            _check_together(source, columns, path, member)


def _check_together(source: Source, columns: Columns, path: KeyPath, member: Any) -> None:
    """Conditions that trials fulfil one by one, as those on zipped axes may, are fulfilled by one trial at once."""
    check = getattr(member, "check", member)
    below = (*path, member.kind) if check is not member else path
    sides: list[str] = [side for side in getattr(check, "sides", ()) if getattr(check, side)]
    for side in sides or ["where"]:
        wanted = [*check.where.items(), *(getattr(check, side).items() if sides else ())]
        wanted = [(name, value) for name, value in wanted if columns.values(name)]  # others are not known yet
        rows = (all(_fulfils(c, name, value) for name, value in wanted) for c in columns.configurations)
        if wanted and not any(rows):
            text = " and ".join(f"{name} {_wanted_text(value)}" for name, value in wanted)
            source.problem((*below, side), f"no trial has {text} at once")


def _fulfils(configuration: Configuration, name: str, wanted: Any) -> bool:
    value = _value(configuration, name)
    if isinstance(wanted, list):  # any of them
        return any(_same(one, value) for one in wanted)
    return value is not None and not _selection_problem(name, wanted, {value})


def _wanted_text(wanted: Any) -> str:
    if isinstance(wanted, Mapping):
        return f"between {' and '.join(map(str, wanted['between']))}"
    return f"one of {', '.join(map(str, wanted))}" if isinstance(wanted, list) else f"= {wanted}"


def _mentions(raw: Any, name: str, wanted: Any = None) -> Iterator[KeyPath]:
    """Paths in a table where a column is named: as a key (of `wanted`, where that is given), or as a value."""
    for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ():
        if (key == name and wanted in (None, value)) or (value == name and wanted is None):
            yield (key,)
        for below in _mentions(value, name, wanted):
            yield (key, *below)


def _selection_problem(name: str, wanted: Any, values: set[Any]) -> str:
    """What is wrong with a condition on a column; `values` are those that trials have, empty where they are unknown."""
    if isinstance(wanted, Mapping):
        ends = wanted.get("between")
        numbers = isinstance(ends, list) and len(ends) == 2 and all(type(e) in (int, float) for e in ends)
        if wanted.keys() != {"between"} or not isinstance(ends, list) or not numbers or ends[0] > ends[1]:
            return "expected a value, a list of values, or { between = [low, high] }"
        numeric = [v for v in values if isinstance(v, (int, float))]
        if not values or any(_reaches(v, ends[0]) and _reaches(ends[1], v) for v in numeric):
            return ""
        return f"no trial has {name} between {ends[0]} and {ends[1]}; it takes {_listed(values)}"
    wanted_values = wanted if isinstance(wanted, list) else [wanted]
    if not wanted_values or not all(isinstance(w, (bool, int, float, str)) for w in wanted_values):
        return "expected a value, a list of values, or { between = [low, high] }"
    for value in wanted_values:
        if values and not any(_same(value, v) for v in values):
            return f"no trial has {name} = {shown(value)}; it takes {_listed(values)}"
    return ""


def _listed(values: Iterable[Any]) -> str:
    ordered = sorted(values, key=lambda v: (isinstance(v, str), v))
    return ", ".join(str(v) for v in ordered[:12]) + (", ..." if len(ordered) > 12 else "")


def _same(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, (int, float)) and isinstance(value, (int, float)):
        return wanted == value or abs(wanted - value) <= 1e-9 * abs(value)
    return bool(wanted == value)


def _reaches(high: float, low: float) -> bool:
    return high >= low - 1e-9 * abs(low)
