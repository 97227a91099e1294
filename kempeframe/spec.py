"""TOML -> Spec: read, override, structure and check everything before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import tomli

from kempeframe.claims import Claim
from kempeframe.columns import Expression
from kempeframe.components import field
from kempeframe.figures import Figure
from kempeframe.lines import key_lines, line_of
from kempeframe.overrides import LISTS, BadPath, member_name, parse_assignment, set_value, split
from kempeframe.problems import Problem, SpecError, nearest
from kempeframe.registry import BrokenPlugin, Registry, UnknownName
from kempeframe.structure import Context, structure, unknown_key_problems
from kempeframe.structure import Path as KeyPath
from kempeframe.sweep import MOST_TRIALS, Configuration, Expansion, expand, trial_count

ROW_COLUMNS = ("seed", "status")  # what every row has, besides axes and metrics


@attrs.frozen(kw_only=True)
class Seeds:
    """Seeds as `{ first = 100, count = 6 }`."""

    first: int = field(0, "first seed", ge=0)
    count: int = field(doc="how many", ge=1)


@attrs.frozen(kw_only=True)
class Head:
    """The keys of a spec that are neither components nor lists of tables."""

    title: str = field("", "what the study is about")
    paper: str = field("", "the paper, say arXiv:2410.04840")
    description: str = field("", "a few sentences for those who open the results")
    seeds: int | Seeds = field(1, "number of seeds, or { first, count }")
    plugins: tuple[str, ...] = field((), "Python files beside the spec that register components")


TABLES = ("data", "model", "optimizer", "attack", "evaluator", "fit", "trial", "sweep", "columns", "figure", "claim", "smoke")


@attrs.frozen(kw_only=True, eq=False)
class Spec:
    """A checked spec: every configuration is structured, every name in it leads somewhere."""

    path: Path
    title: str
    paper: str
    description: str
    seeds: tuple[int, ...]
    configurations: tuple[Configuration, ...]
    axes: tuple[str, ...]
    derived: Mapping[str, Expression]
    figures: tuple[Figure, ...]
    claims: tuple[Claim, ...]
    raw: Mapping[str, Any]
    reduced: bool  # overrides changed it: rows that a claim names may be absent
    registry: Registry
    lines: Mapping[KeyPath, int]

    @property
    def name(self) -> str:
        """The file's stem, after which the run directory is called."""
        return self.path.stem

    @property
    def trial_count(self) -> int:
        """Configurations times seeds."""
        return len(self.configurations) * len(self.seeds)

    @cached_property
    def evaluator_columns(self) -> dict[str, tuple[str, str]]:
        """Column -> (evaluator, metric): `NAME.metric`, and the bare metric where one evaluator alone gives it.

        A measuring evaluator takes the bare name before theory, so that `test_error` is what was measured.
        """
        return evaluator_columns(self.configurations)


def evaluator_columns(configurations: Iterable[Configuration]) -> dict[str, tuple[str, str]]:
    """See Spec.evaluator_columns."""
    full: dict[str, tuple[str, str]] = {}
    measured: dict[str, set[str]] = {}
    predicted: dict[str, set[str]] = {}
    for configuration in configurations:
        for name, evaluator in configuration.evaluators:
            givers = predicted if evaluator.needs in ("components", "task") else measured
            for metric in evaluator.columns():
                full[f"{name}.{metric}"] = (name, metric)
                givers.setdefault(metric, set()).add(name)
    for metric in {**predicted, **measured}:
        givers_of = measured.get(metric) or predicted[metric]
        if len(givers_of) == 1:
            full.setdefault(metric, (next(iter(givers_of)), metric))
    return full


class Source:
    """A spec file while it is being checked: its raw tables, where each key stands, and the problems found."""

    def __init__(self, path: Path):
        self.path = path
        self.registry = Registry()
        self.raw: dict[str, Any] = {}
        self.lines: dict[KeyPath, int] = {}
        self.places: dict[KeyPath, str] = {}  # keys that an override set -> where it was said
        self.moved: dict[KeyPath, KeyPath] = {}  # keys that an axis set -> the place of its value
        self.problems: list[Problem] = []

    def problem(self, path: Sequence[str | int], message: str, moved: Mapping[KeyPath, KeyPath] = {}) -> None:
        """Note a problem at a key; one that an axis put there is shown where the axis says it."""
        path = self._origin(tuple(path), moved)
        self.problems.append(Problem(self._place(path), _dotted(path, self.raw), message))

    def _origin(self, path: KeyPath, moved: Mapping[KeyPath, KeyPath]) -> KeyPath:
        for length in range(len(path), 0, -1):
            if path[:length] in moved:
                return moved[path[:length]]
        return path

    def _place(self, path: KeyPath) -> str:
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return f"{self.path}:{line_of(self.lines, path)}"

    def fail(self) -> None:
        """Raise all problems found so far, if there are any."""
        if self.problems:
            ordered = sorted(set(self.problems), key=lambda p: (_line(p.place), p.key))
            raise SpecError(str(self.path), ordered)


def _line(place: str) -> int:
    tail = place.rpartition(":")[2]
    return int(tail) if tail.isdigit() else 0


def _dotted(path: Sequence[str | int], raw: Mapping[str, Any]) -> str:
    shown = []
    for i, key in enumerate(path):
        if isinstance(key, int) and i == 1 and path[0] in LISTS:
            members = raw.get(str(path[0]))
            name = member_name(members[key]) if isinstance(members, list) and key < len(members) and isinstance(members[key], dict) else ""
            shown.append(name or str(key + 1))
        else:
            shown.append(f'"{key}"' if isinstance(key, str) and "." in key else str(key))
    return ".".join(shown)


def load_spec(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    smoke: bool = False,
    seeds: int | None = None,
) -> Spec:
    """Read and check a spec.

    Args:
        path: the TOML file.
        overrides: `KEY=VALUE`, as `--set` takes them.
        smoke: apply the spec's `[smoke]` table first.
        seeds: overrides the number of seeds.

    Raises:
        SpecError: with every problem found.
    """
    source = Source(Path(path))
    _read(source)
    before = source.raw
    _override(source, overrides, smoke, seeds)
    head = _head(source)
    _load_plugins(source, head)
    axes = expand(source)
    chosen = _seeds(head)
    if source.problems:  # a wrong axis would be reported once more by every configuration
        source.fail()
    count = trial_count(axes, len(chosen))
    if count > MOST_TRIALS:
        source.problem(("sweep",), f"{count:,} trials; at most {MOST_TRIALS:,} are allowed")
        source.fail()
    expansion = Expansion(source, axes)
    configurations = tuple(expansion.configurations())
    _unknown_keys(source, expansion.first)
    axis_names = tuple(dict.fromkeys(name for points in axes for name in points[0].columns))
    figures = _tables(source, "figure", Figure)
    claims = _tables(source, "claim", Claim)
    derived = _derived(source)
    source.fail()
    _check_evaluators(source, configurations)
    spec = Spec(
        path=source.path,
        title=head.title or source.path.stem,
        paper=head.paper,
        description=head.description,
        seeds=chosen,
        configurations=configurations,
        axes=axis_names,
        derived=derived,
        figures=figures,
        claims=claims,
        raw=source.raw,
        reduced=source.raw != before,
        registry=source.registry,
        lines=source.lines,
    )
    _check_columns(source, spec)
    source.fail()
    return spec


def _read(source: Source) -> None:
    """Parse the file; what is no text or no TOML fails at once, nothing else can be said of it."""
    try:
        text = source.path.read_bytes().decode("utf-8")
    except OSError as error:
        raise SpecError(str(source.path), [Problem(str(source.path), "", f"can't be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        message = f"is no UTF-8 text (byte {error.start}); expected a TOML file"
        raise SpecError(str(source.path), [Problem(str(source.path), "", message)]) from None
    try:
        source.raw = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        line = getattr(error, "lineno", 1)
        place = f"{source.path}:{line}"
        raise SpecError(str(source.path), [Problem(place, "", f"is no valid TOML: {error}")]) from None
    except RecursionError:
        message = "is nested too deeply"
        raise SpecError(str(source.path), [Problem(str(source.path), "", message)]) from None
    source.lines = key_lines(text)


def _override(source: Source, overrides: Sequence[str], smoke: bool, seeds: int | None) -> None:
    table = source.raw.get("smoke", {})
    if not isinstance(table, dict):
        source.problem(("smoke",), "expected a table of overrides")
        table = {}
    for key, value in table.items():
        changed = _set(source, split(key), value, f"{source.path}:{line_of(source.lines, ('smoke', key))}", key)
        if smoke and changed is not None:
            source.raw = changed
    if smoke and "smoke" not in source.raw:
        source.problem((), "has no [smoke] table; --smoke needs one")
    for text in overrides:
        try:
            path, value = parse_assignment(text)
        except BadPath as error:
            source.problems.append(Problem(f"--set {text}", "", str(error)))
            continue
        changed = _set(source, path, value, f"--set {text}", ".".join(path))
        source.raw = changed if changed is not None else source.raw
    if seeds is not None:
        source.raw = {**source.raw, "seeds": seeds}
        source.places[("seeds",)] = f"--seeds {seeds}"


def _set(source: Source, path: Sequence[str], value: Any, place: str, key: str) -> dict[str, Any] | None:
    try:
        if path[0] not in (*TABLES, *attrs.fields_dict(Head)):
            raise BadPath(f"unknown key {key!r}{nearest(path[0], (*TABLES, *attrs.fields_dict(Head)))}")
        changed = set_value(source.raw, path, value)
    except BadPath as error:
        source.problems.append(Problem(place, key, str(error)))
        return None
    source.places[tuple(path)] = place
    return changed


def _head(source: Source) -> Head:
    """The scalar keys; unknown top-level keys are problems."""
    known = {*attrs.fields_dict(Head), *TABLES}
    for key in source.raw.keys() - known:
        source.problem((key,), f"unknown key {key!r}{nearest(key, known)}")
    context = Context(source.registry)
    head = structure({k: source.raw[k] for k in attrs.fields_dict(Head) if k in source.raw}, Head, context)
    unknown_key_problems(context)
    for path, message in context.problems:
        source.problem(path, message)
    for key in ("evaluator", "figure", "claim"):
        value = source.raw.get(key, [])
        if not (isinstance(value, list) and all(isinstance(v, dict) for v in value)):
            source.problem((key,), f"expected tables, each written as [[{key}]]")
    for key in ("fit", "columns"):
        if not isinstance(source.raw.get(key, {}), dict):
            source.problem((key,), f"expected a table, written as [{key}]" + (" or [fit.NAME]" if key == "fit" else ""))
    if not source.raw.get("evaluator"):
        source.problem(("evaluator",), "missing [[evaluator]]: nothing would be measured")
    if "trial" in source.raw:
        for key in ("data", "model", "optimizer", "attack"):
            if key in source.raw:
                source.problem((key,), f"`trial` names the fit, so there is no [{key}] beside it")
    elif "data" not in source.raw:
        source.problem((), "missing [data] (or trial = the name of a [fit.NAME])")
    return head or Head()


def _seeds(head: Head) -> tuple[int, ...]:
    if isinstance(head.seeds, Seeds):
        return tuple(range(head.seeds.first, head.seeds.first + head.seeds.count))
    return tuple(range(head.seeds))


def _load_plugins(source: Source, head: Head) -> None:
    if isinstance(head.seeds, int) and head.seeds < 1:
        source.problem(("seeds",), f"{head.seeds} is out of range: expected a value >= 1")
    for index, name in enumerate(head.plugins):
        try:
            source.registry.load_file(source.path.parent / name)
        except (UnknownName, BrokenPlugin) as error:
            source.problem(("plugins", index), str(error))


def _unknown_keys(source: Source, context: Context) -> None:
    unknown_key_problems(context)
    for path, message in context.problems:
        source.problem(path, message, source.moved)
    context.problems.clear()


def _tables(source: Source, key: str, cls: type) -> tuple[Any, ...]:
    """`[[figure]]` and `[[claim]]` tables as their classes; names are unique."""
    made, names = [], set()
    for index, raw in enumerate(source.raw.get(key, [])):
        context = Context(source.registry, path=[key, index])
        value = structure(raw, cls, context)
        unknown_key_problems(context)
        for path, message in context.problems:
            source.problem(path, message)
        if value is not None:
            made.append(value)
            name = getattr(value, "name", None) or getattr(value, "statement", None)
            if name in names:
                source.problem((key, index), f"duplicate {key}: another one is called {name!r}")
            names.add(name)
    return tuple(made)


def _derived(source: Source) -> dict[str, Expression]:
    derived = {}
    for name, text in source.raw.get("columns", {}).items():
        if not isinstance(text, str):
            source.problem(("columns", name), "expected a formula in quotes")
            continue
        try:
            derived[name] = Expression(text)
        except ValueError as error:
            source.problem(("columns", name), str(error))
    return derived


def _check_evaluators(source: Source, configurations: Sequence[Configuration]) -> None:
    for index, raw in enumerate(source.raw.get("evaluator", [])):
        name = member_name(raw)
        if name in [member_name(r) for r in source.raw["evaluator"][:index]]:
            source.problem(("evaluator", index), f"duplicate evaluator: another one is called {name!r}; give it a name")
    for configuration in configurations:
        if configuration.fit is None:
            missing = [k for k in ("model", "optimizer") if getattr(configuration, k) is None]
            for index, (name, evaluator) in enumerate(configuration.evaluators):
                if evaluator.needs in ("network", "trajectory"):
                    lacking = " and ".join(f"[{k}]" for k in missing)
                    source.problem(("evaluator", index), f"{name} measures a network: the spec lacks {lacking}")


def _check_columns(source: Source, spec: Spec) -> None:
    """Every column that a claim, a figure or a formula names exists."""
    known = {*ROW_COLUMNS, *spec.axes, *spec.evaluator_columns, *CERTIFICATE_COLUMNS}

    def check(name: str, path: Sequence[str | int]) -> None:
        if name in known or name in spec.derived:
            return
        if any(_has_field(configuration, name) for configuration in spec.configurations):
            return
        source.problem(path, f"unknown column {name!r}{nearest(name, {*known, *spec.derived})}")

    for name, expression in spec.derived.items():
        if name in known:
            source.problem(("columns", name), f"there is a column {name!r} already")
        for used in expression.names:
            if used != name:
                check(used, ("columns", name))
            else:
                source.problem(("columns", name), "refers to itself")
    for kind, members in (("figure", spec.figures), ("claim", spec.claims)):
        for index, member in enumerate(members):
            for name in dict.fromkeys(member.columns()):
                check(name, (kind, index))
    for index, claim in enumerate(spec.claims):
        _check_where(source, spec, claim, index)


def _check_where(source: Source, spec: Spec, claim: Claim, index: int) -> None:
    """A value that a claim selects by must be one that its axis has; a reduced version may lack it."""
    if spec.reduced:
        return
    for name, wanted in claim.selections():
        values = {v for v in (_value(c, name) for c in spec.configurations) if v is not None}
        if not values or isinstance(wanted, Mapping):
            continue
        for value in wanted if isinstance(wanted, list) else [wanted]:
            if not any(_same(value, v) for v in values):
                shown = ", ".join(str(v) for v in sorted(values, key=lambda v: (isinstance(v, str), v))[:12])
                source.problem(("claim", index), f"no trial has {name} = {value!r}; it takes {shown}")


def _same(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, (int, float)) and isinstance(value, (int, float)):
        return wanted == value or abs(wanted - value) <= 1e-9 * abs(value)
    return bool(wanted == value)


def _value(configuration: Configuration, name: str) -> Any:
    try:
        return configuration.value_at(name)
    except KeyError:
        return None


def _has_field(configuration: Configuration, name: str) -> bool:
    try:
        configuration.value_at(name)
    except KeyError:
        return False
    return True


CERTIFICATE_COLUMNS = ("converged", "residual", "steps", "fit_seconds")
__all__ = ["CERTIFICATE_COLUMNS", "Seeds", "Source", "Spec", "load_spec"]
