"""Results -> rows: one for each trial, and one for each snapshot of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kempeframe.plan import certificate_key, step_key
from kempeframe.spec import CERTIFICATE_COLUMNS, Spec
from kempeframe.sweep import Trial
from kempeframe.table import Table
from kempeframe.trial import fit_key

if TYPE_CHECKING:
    from kempeframe.study import Study


def build_table(study: Study) -> Table:
    """Join the results into rows: axes, seed, status, certificate, metrics, and the derived columns."""
    spec, plan = study.spec, study.plan
    failed = {id(failure.trial): failure.error for failure in study.failures}
    names = spec.evaluator_columns
    extra = _named_fields(spec)
    rows: list[dict[str, Any]] = []
    for trial, cells in zip(plan.trials, plan.cells, strict=True):
        row: dict[str, Any] = {name: trial.configuration.axes.get(name) for name in spec.axes}
        row |= {name: _field(trial, name) for name in extra}
        row["seed"] = trial.seed
        found = {cell.name: study.results.get(cell.key) for cell in cells}
        complete = all(metrics is not None for metrics in found.values())
        row["status"] = "failed" if id(trial) in failed else "done" if complete else "missing"
        fit = trial.configuration.fit
        certificate = study.results.get(certificate_key(fit_key(fit, trial.seed)), {}) if fit else {}
        row |= {name: certificate.get(name) for name in CERTIFICATE_COLUMNS}
        row |= {column: (found.get(name) or {}).get(metric) for column, (name, metric) in names.items()}
        for name, expression in spec.derived.items():  # one by one: a formula may use the one before
            row[name] = expression(row)
        row["error"] = failed.get(id(trial), "")
        rows.append(row)
    columns = {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
    return Table(columns, list(spec.axes), _exact_columns(spec))


def steps_of(study: Study, row: int) -> list[int]:
    """The steps of a trial's snapshots, the last one last."""
    trial = study.plan.trials[row]
    fit = trial.configuration.fit
    certificate = study.results.get(certificate_key(fit_key(fit, trial.seed)), {}) if fit else {}
    return certificate.get("snapshots") or [int(certificate.get("steps", 0))]


def build_history(study: Study) -> Table:
    """One row for each snapshot: axes, seed, step, and what its evaluators found there."""
    spec, names = study.spec, study.spec.evaluator_columns
    rows: list[dict[str, Any]] = []
    for number, (trial, cells) in enumerate(zip(study.plan.trials, study.plan.cells, strict=True)):
        steps = steps_of(study, number)
        last = steps[-1]
        for step in steps:
            found = {}
            for cell in cells:
                final = step == last or cell.evaluator.is_theory
                if final or cell.evaluator.needs == "network":  # what reduces a trajectory has a value at its end
                    found[cell.name] = study.results.get(cell.key if final else step_key(cell.key, step)) or {}
            row = {name: trial.configuration.axes.get(name) for name in spec.axes}
            row |= {"seed": trial.seed, "step": step}
            metrics = {column: found.get(name, {}).get(metric) for column, (name, metric) in names.items()}
            rows.append({**row, **metrics, **row})  # a metric may be called step too: the row's own name comes first
    columns = {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
    return Table(columns, list(spec.axes), _exact_columns(spec))


def _named_fields(spec: Spec) -> list[str]:
    """Component fields that a claim, a figure or a formula names without sweeping over them."""
    used: Iterable[str] = [
        *(name for claim in spec.claims for name in claim.columns()),
        *(name for figure in spec.figures for name in figure.columns()),
        *(name for expression in spec.derived.values() for name in expression.names),
    ]
    known = {*spec.axes, *spec.evaluator_columns, *spec.derived, *CERTIFICATE_COLUMNS, "seed", "status"}
    return [name for name in dict.fromkeys(used) if name not in known]


def _field(trial: Trial, name: str) -> Any:
    try:
        return trial.configuration.value_at(name)
    except KeyError:
        return None


def _exact_columns(spec: Spec) -> frozenset[str]:
    """Columns of theory alone, and formulas of those and of the configuration."""
    theory = {
        name
        for configuration in spec.configurations
        for name, evaluator in configuration.evaluators
        if evaluator.needs == "components"
    }
    exact = {column for column, (name, _) in spec.evaluator_columns.items() if name in theory}
    measured = set(spec.evaluator_columns) - exact | set(CERTIFICATE_COLUMNS) | {"seed"}
    for name, expression in spec.derived.items():
        if not measured.intersection(expression.names):
            exact.add(name)
        else:
            measured.add(name)
    return frozenset(exact)
