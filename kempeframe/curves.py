"""Dense lines of theory along a figure's x axis: the theory evaluator asked at points that no trial has."""

from __future__ import annotations

import json
from typing import Any

import attrs
import numpy as np

from kempeframe.components import Evaluator
from kempeframe.digest import join
from kempeframe.figures import Curve, Figure
from kempeframe.study import Study
from kempeframe.sweep import Configuration
from kempeframe.table import matches
from kempeframe.trial import Fitted, checked_metrics

POINTS = 200


def theory_curves(study: Study, figure: Figure) -> list[Curve]:
    """One curve for each colour and panel; none where x is no numeric field of a component or theory is not closed.

    And the figure's line, in every panel.
    """
    return [*_dense(study, figure), *_line(study, figure)]


def _line(study: Study, figure: Figure) -> list[Curve]:
    """The mean of two columns of lists over the trials shown; none where one has none, or they differ in length."""
    if figure.line is None:
        return []
    known = {name: wanted for name, wanted in figure.where.items() if name in study.rows.columns}  # not the history's
    shown = study.rows.where(known).columns
    x, y = ([v for v in shown.get(name, []) if isinstance(v, list)] for name in figure.line)
    if not x or len({len(v) for v in (*x, *y)}) != 1:
        return []
    facets = dict.fromkeys(facet for _, facet in _groups(study, figure))
    return [Curve(None, facet, np.mean(x, axis=0), np.mean(y, axis=0)) for facet in facets]


def _dense(study: Study, figure: Figure) -> list[Curve]:
    if figure.theory is None or figure.theory not in study.spec.evaluator_columns:
        return []
    name, metric = study.spec.evaluator_columns[figure.theory]
    curves = []
    for (hue, facet), members in _groups(study, figure).items():
        evaluator = dict(members[0].evaluators).get(name)
        grid = _grid(members, figure)
        if evaluator is None or evaluator.needs != "components" or grid is None:
            return []
        asked = [_moved(members[0], figure.x, value) for value in grid]
        values = _evaluate(study, evaluator, asked)
        if values is None:
            continue
        x = np.array([float(c.value_at(figure.x)) for c in asked])
        x, first = np.unique(x, return_index=True)
        curves.append(Curve(hue, facet, x, np.array([v[metric] for v in values])[first]))
    return curves


def curve_digest(study: Study, figure: Figure) -> str:
    """Stands for all that the curves depend on, without computing them."""
    parts = [figure.theory or ""]
    for members in _groups(study, figure).values():
        base = members[0]
        for part in (base.data, base.model, base.optimizer, base.attack, *(e for _, e in base.evaluators)):
            parts.append(part.digest if part is not None else "")
    return join(*parts)


def _groups(study: Study, figure: Figure) -> dict[tuple[Any, Any], list[Configuration]]:
    groups: dict[tuple[Any, Any], list[Configuration]] = {}
    for configuration in study.spec.configurations:
        if all(_selected(configuration, name, wanted) for name, wanted in figure.where.items()):
            key = (_value(configuration, figure.hue), _value(configuration, figure.facet))
            groups.setdefault(key, []).append(configuration)
    return groups


def _selected(configuration: Configuration, name: str, wanted: Any) -> bool:
    try:
        value = configuration.value_at(name)
    except KeyError:
        return True
    return bool(matches(np.array([value], dtype=None if isinstance(value, (int, float)) else object), wanted)[0])


def _value(configuration: Configuration, name: str | None) -> Any:
    return configuration.value_at(name) if name and name in configuration.axes else None


def _grid(members: list[Configuration], figure: Figure) -> np.ndarray | None:
    """Dense values between the ends of the x axis, the swept ones among them; None where x is no numeric field."""
    try:
        values = sorted({float(c.value_at(figure.x)) for c in members})
    except (KeyError, TypeError, ValueError):
        return None
    if figure.x.partition(".")[0] not in ("data", "model", "optimizer", "attack") or len(values) < 2:
        return None
    if not np.isfinite(values).all():
        return None
    spaced = np.geomspace if figure.logarithmic("x") and values[0] > 0 else np.linspace
    return np.unique(np.concatenate([spaced(values[0], values[-1], POINTS), values]))


def _moved(configuration: Configuration, dotted: str, value: float) -> Configuration:
    """The configuration with one field changed; rounded where the field is an int."""
    section, *path = dotted.split(".")
    old = configuration.value_at(dotted)
    wanted: Any = round(value) if isinstance(old, int) else float(value)

    def evolve(part: Any, names: list[str]) -> Any:
        inner = wanted if len(names) == 1 else evolve(getattr(part, names[0]), names[1:])
        return attrs.evolve(part, **{names[0]: inner})

    changed = evolve(getattr(configuration, section), path)
    return attrs.evolve(configuration, **{section: changed, "axes": {**configuration.axes, dotted: wanted}})


def _evaluate(study: Study, evaluator: Evaluator, asked: list[Configuration]) -> list[dict[str, Any]] | None:
    """Theory at every point, from the store where it is there; None where the equations do not cover the points."""
    session = study.session
    keys = [_key(evaluator, configuration) for configuration in asked]
    found: dict[str, dict[str, Any]] = {}
    for key in keys:
        payload = session.store.results.get(key)
        if payload is not None:
            found[key] = json.loads(payload)
    missing = [i for i, key in enumerate(keys) if key not in found]
    fits = [Fitted.unfitted(asked[i]) for i in missing]
    try:
        results = evaluator.evaluate_many(fits, [session.run_of_components()] * len(fits)) if fits else []
        for i, metrics in zip(missing, results, strict=True):
            found[keys[i]] = checked_metrics(evaluator, metrics)
            session.store.results.put(keys[i], json.dumps(found[keys[i]]).encode())
    except Exception:
        return None
    return [found[key] for key in keys]


def _key(evaluator: Evaluator, configuration: Configuration) -> str:
    parts = (configuration.data, configuration.model, configuration.optimizer, configuration.attack)
    return join("curve", evaluator.digest, *("" if p is None else p.digest for p in parts))
