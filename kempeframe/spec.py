"""TOML -> Spec: read, override, structure and check everything before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from kempeframe.axes import MOST_TRIALS, expand, trial_count
from kempeframe.checking import (
    CERTIFICATE_COLUMNS,
    Columns,
    check_columns,
    check_evaluators,
    check_parts,
    evaluator_columns,
)
from kempeframe.claims import Claim
from kempeframe.columns import Expression
from kempeframe.components import field
from kempeframe.figures import Figure
from kempeframe.lines import KeyPath
from kempeframe.problems import nearest, shown
from kempeframe.reading import Source, override, parse, read
from kempeframe.registry import BrokenPlugin, Registry, UnknownName
from kempeframe.structure import Context, spec_fields, structure, unknown_keys
from kempeframe.sweep import PARTS, Configuration, Expansion

if TYPE_CHECKING:
    from kempeframe.draft import Draft


@attrs.frozen(kw_only=True)
class Seeds:
    """Seeds as `{ first = 100, count = 6 }`."""

    first: int = field(default=0, doc="first seed", ge=0, le=1e15)
    count: int = field(doc="how many", ge=1)


@attrs.frozen(kw_only=True)
class Head:
    """The keys of a spec that are neither components nor lists of tables."""

    title: str = field("", "what the study is about")
    paper: str = field("", "the paper, say arXiv:2410.04840")
    description: str = field("", "a few sentences for those who open the results")
    seeds: int | Seeds = field(1, "number of seeds, or { first, count }", ge=1)
    plugins: tuple[str, ...] = field((), "Python files beside the spec that register components")


TABLES = {  # top-level keys besides those of Head
    **{kind: f"the {kind} component, with `use`" for kind in PARTS},
    "evaluator": "what is measured, and theory",
    "fit": "named fits, [fit.NAME]",
    "trial": "the name of the fit that is the trial",
    "sweep": "axes: KEY = [values], a range, or named variants",
    "columns": "derived columns: NAME = a formula",
    "figure": "pictures",
    "claim": "statements of the paper",
    "smoke": "overrides of the smallest version: KEY = value",
}


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
    derived: Mapping[str, Expression]  # in an order in which each can be computed from those before it
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


def load_spec(
    spec: str | Path | Draft,
    overrides: Sequence[str] = (),
    *,
    smoke: bool = False,
    seeds: int | None = None,
) -> Spec:
    """Read and check a spec.

    Args:
        spec: the TOML file, or a draft.
        overrides: `KEY=VALUE`, as `--set` takes them.
        smoke: apply the spec's `[smoke]` table first.
        seeds: overrides the number of seeds.

    Raises:
        SpecError: with every problem found.
    """
    source = read(Path(spec)) if isinstance(spec, (str, Path)) else parse(spec.as_toml(), Path("draft"))
    written = source.raw
    known = (*spec_fields(Head), *TABLES)
    override(source, overrides, smoke, seeds, known)
    reduced = source.raw != written
    checked = _checked(source, reduced)
    if "smoke" in written and not reduced:  # its smallest version is a part of the file: it has to be sound too
        small = Source(source.path, written, source.lines)
        small.registry = source.registry
        override(small, (), True, None, known)
        _checked(small, reduced=True)
        source.problems |= small.problems
    source.fail()
    assert checked is not None
    return checked


def spec_of(path: Path, raw: Mapping[str, Any]) -> Spec:
    """The spec of a tree that was read and checked before, in another process say; `path` places plugin files."""
    source = Source(path, dict(raw))
    spec = _checked(source, reduced=True)
    source.fail()
    assert spec is not None
    return spec


def _checked(source: Source, reduced: bool) -> Spec | None:
    """The spec; None where there are problems. What depends on something wrong is left unchecked, all else is not."""
    head = _head(source)
    _check_tables(source)
    _load_plugins(source, head)
    axes = expand(source)
    first, count = (head.seeds.first, head.seeds.count) if isinstance(head.seeds, Seeds) else (0, head.seeds)
    trials = trial_count(axes, count)
    if trials > MOST_TRIALS:
        sizes = " x ".join(f"{size:,}" for size in (*map(len, axes), count))
        source.problem(("sweep",), f"{sizes} = {trials:,} trials; at most {MOST_TRIALS:,} are allowed")
    expansion = Expansion(source, axes)
    configurations = expansion.configurations(all_of_them=trials <= MOST_TRIALS)
    figures, claims = _records(source, "figure", Figure), _records(source, "claim", Claim)
    derived = _derived(source)
    check_evaluators(source, configurations)
    check_parts(source, configurations)
    members = [*figures.items(), *claims.items()]
    columns = Columns(source, expansion, configurations, derived)
    check_columns(source, columns, members, reduced=reduced or trials > MOST_TRIALS)
    if source.problems:
        return None
    return Spec(
        path=source.path,
        title=head.title or source.path.stem,
        paper=head.paper,
        description=head.description,
        seeds=tuple(range(first, first + count)),
        configurations=tuple(configurations),
        axes=tuple(dict.fromkeys(name for axis in axes for name in axis.columns)),
        derived=derived,
        figures=tuple(figures.values()),
        claims=tuple(claims.values()),
        raw=source.raw,
        reduced=reduced,
        registry=source.registry,
        lines=source.lines,
    )


def _structured(source: Source, raw: Any, cls: type[Any], *path: str | int) -> Any:
    """A table outside the sweep as a `cls`; None where that fails."""
    context = Context(source.registry, path=list(path))
    value = structure(raw, cls, context)
    for place, message in (*context.problems, *unknown_keys(context)):
        source.problem(place, message)
    return value


def _head(source: Source) -> Head:
    """The scalar keys, each by itself: a wrong one does not hide the others."""
    values: dict[str, Any] = {}
    for key in spec_fields(Head):
        if key in source.raw:
            made = _structured(source, {key: source.raw[key]}, Head)
            values |= {} if made is None else {key: getattr(made, key)}
    return Head(**values)


def _check_tables(source: Source) -> None:
    """The top level: which keys there are, and that tables are tables."""
    raw = source.raw
    known = {*spec_fields(Head), *TABLES}
    for key in raw.keys() - known:
        source.problem((key,), f"unknown key {shown(key)}{nearest(key, known)}")
    for key in ("evaluator", "figure", "claim"):
        members = raw.get(key, [])
        if not (isinstance(members, list) and all(isinstance(v, dict) for v in members)):
            source.problem((key,), f"expected tables, each written as [[{key}]]")
    for key in ("fit", "columns", "smoke"):
        if not isinstance(raw.get(key, {}), dict):
            source.problem((key,), f"expected a table, written as [{key}]" + (" or [fit.NAME]" if key == "fit" else ""))
    for name, fit in raw["fit"].items() if isinstance(raw.get("fit"), dict) else ():
        if not isinstance(fit, dict):
            source.problem(("fit", name), "expected a table with data, model and optimizer")
        if not name or "." in name:
            source.problem(("fit", name), f"expected a name without dots, got {shown(name)}")
    if raw.get("evaluator", []) == []:
        source.problem(("evaluator",), "missing [[evaluator]]: nothing would be measured")
    _check_trial(source)


def _check_trial(source: Source) -> None:
    if "trial" not in source.raw:
        swept = source.raw.get("sweep")
        keys = swept if isinstance(swept, dict) else {}
        if "data" not in source.raw and not any(key.startswith("data.") or key == "data" for key in keys):
            source.problem(("data",), "missing [data] (or trial = the name of a [fit.NAME])")
        return
    if not isinstance(source.raw["trial"], str):
        source.problem(("trial",), f"expected the name of a [fit.NAME], got {shown(source.raw['trial'])}")
    for kind in PARTS:
        if kind in source.raw:
            source.problem((kind,), f"`trial` names the fit, so there is no [{kind}] beside it")


def _load_plugins(source: Source, head: Head) -> None:
    for index, name in enumerate(head.plugins):
        try:
            source.registry.load_file(source.path.parent / name)
        except (UnknownName, BrokenPlugin) as error:
            source.problem(("plugins", index), str(error))


def _records(source: Source, key: str, cls: type[Any]) -> dict[KeyPath, Any]:
    """`[[figure]]` or `[[claim]]` tables as their classes, by their paths; no two have one name."""
    made: dict[KeyPath, Any] = {}
    names: set[str] = set()
    members = source.raw.get(key)
    for index, raw in enumerate(members if isinstance(members, list) else []):
        value = _structured(source, raw, cls, key, index) if isinstance(raw, dict) else None
        if value is not None:
            made[key, index] = value
            name = str(getattr(value, "name", "") or getattr(value, "statement", ""))
            if name in names:
                source.problem((key, index), f"duplicate {key}: another one is called {name!r}")
            names.add(name)
    return made


def _derived(source: Source) -> dict[str, Expression]:
    """The formulas of `[columns]`, each after those that it refers to."""
    table = source.raw.get("columns")
    waiting: dict[str, Expression] = {}
    for name, text in table.items() if isinstance(table, dict) else ():
        if not isinstance(text, str):
            source.problem(("columns", name), f"expected a formula in quotes, got {shown(text)}")
            continue
        try:
            waiting[name] = Expression(text)
        except ValueError as error:
            source.problem(("columns", name), str(error))
    ordered: dict[str, Expression] = {}
    while waiting:
        ready = {name: e for name, e in waiting.items() if not waiting.keys() & set(e.names)}
        if not ready:
            members = " and ".join(map(repr, waiting))
            for name in waiting:
                source.problem(("columns", name), f"formulas refer to each other in a cycle: {members}")
            return ordered | waiting
        ordered |= ready
        waiting = {name: e for name, e in waiting.items() if name not in ready}
    return ordered


__all__ = ["CERTIFICATE_COLUMNS", "TABLES", "Head", "Seeds", "Spec", "load_spec"]
