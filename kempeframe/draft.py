"""A spec that is built in Python, of the same parts as one in TOML, and written back as TOML."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from kempeframe.claims import Claim
from kempeframe.components import Attack, Component, Data, Evaluator, Fit, Model, Optimizer
from kempeframe.figures import Figure
from kempeframe.problems import Problem, SpecError
from kempeframe.registry import plugin_of
from kempeframe.spec import Seeds
from kempeframe.structure import spec_fields
from kempeframe.written import NotWritable, as_table, plain_value, spec_text


@attrs.define(kw_only=True)
class Draft:
    """A spec in Python: `kempeframe.run(draft)` checks and runs it, `draft.write("my.toml")` keeps it.

    Its fields are the keys of a spec; where a spec has tables, components, figures and claims stand. `evaluators` are
    a list, or a table of them by name. A component that holds a fit takes a `Fit`, which is written inline where it
    stands. `fits` are named fits, and `"NAME"` refers to one in `sweep` and in plain tables (a dict with `use`), which
    may stand in place of any component, figure or claim.
    """

    title: str = ""
    paper: str = ""
    description: str = ""
    seeds: int | Seeds = 1
    data: Data | Mapping[str, Any] | None = None
    model: Model | Mapping[str, Any] | None = None
    optimizer: Optimizer | Mapping[str, Any] | None = None
    attack: Attack | Mapping[str, Any] | None = None
    evaluators: Sequence[Evaluator | Mapping[str, Any]] | Mapping[str, Evaluator | Mapping[str, Any]] = ()
    fits: Mapping[str, Fit | Mapping[str, Any]] = attrs.field(factory=dict)
    trial: str | None = None
    sweep: Mapping[str, Any] = attrs.field(factory=dict)
    columns: Mapping[str, str] = attrs.field(factory=dict)
    figures: Sequence[Figure | Mapping[str, Any]] = ()
    claims: Sequence[Claim | Mapping[str, Any]] = ()
    smoke: Mapping[str, Any] = attrs.field(factory=dict)
    plugins: Sequence[str] = ()

    def as_table(self) -> dict[str, Any]:
        """The tree that the TOML file holds.

        Raises:
            SpecError: something in it can't be written as TOML.
        """
        try:
            return self._table()
        except NotWritable as error:
            raise SpecError("draft", [Problem("draft", "", str(error))]) from None

    def as_toml(self, beside: Path | None = None) -> str:
        """The text of the TOML file; plugin files are named relative to the folder `beside`, else in full."""
        table = self.as_table()
        if beside is not None and "plugins" in table:
            table["plugins"] = [_relative(name, beside) for name in table["plugins"]]
        return spec_text(table)

    def _repr_markdown_(self) -> str:
        return f"```toml\n{self.as_toml()}```"

    def write(self, path: str | Path) -> Path:
        """Write the TOML file; returns its path."""
        path = Path(path)
        path.write_text(self.as_toml(path.parent), encoding="utf-8")
        return path

    def _table(self) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for key in ("title", "paper", "description", "trial"):
            if getattr(self, key):
                table[key] = getattr(self, key)
        table["seeds"] = as_table(self.seeds) if isinstance(self.seeds, Seeds) else self.seeds
        files = [str(Path(name).resolve()) for name in self.plugins]
        files += [name for name in _plugin_files(self) if name not in files]
        if files:
            table["plugins"] = files
        for kind in ("data", "model", "optimizer", "attack"):
            part = getattr(self, kind)
            if part is not None:
                table[kind] = _part(part)
        if self.fits:
            table["fit"] = {name: _part(fit) for name, fit in self.fits.items()}
        named = isinstance(self.evaluators, Mapping)
        members = self.evaluators.items() if isinstance(self.evaluators, Mapping) else enumerate(self.evaluators)
        table["evaluator"] = [({"name": name} if named else {}) | _part(evaluator) for name, evaluator in members]
        for key in ("sweep", "columns", "smoke"):
            given = getattr(self, key)
            if given:
                table[key] = {name: plain_value(value, f"{key}.{name}") for name, value in given.items()}
        for key in ("figure", "claim"):
            records = [_part(record) for record in getattr(self, key + "s")]
            if records:
                table[key] = records
        return table


def _part(given: Any) -> dict[str, Any]:
    return {k: plain_value(v, k) for k, v in given.items()} if isinstance(given, Mapping) else as_table(given)




def _relative(name: str, folder: Path) -> str:
    return os.path.relpath(name, folder.resolve())


def _plugin_files(value: Any) -> list[str]:
    """The files of one-file plugins whose components occur in it."""
    found: list[str] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Component):
            plugin = plugin_of(type(item))
            if plugin is not None and plugin.root.is_file():
                found.append(str(plugin.root))
        if isinstance(item, Mapping):
            waiting += item.values()
        elif isinstance(item, (list, tuple)):
            waiting += item
        elif attrs.has(type(item)):
            waiting += [getattr(item, attribute.name) for attribute in spec_fields(type(item)).values()]
    return list(dict.fromkeys(sorted(found)))
