"""Everything -> TensorBoard: a run for each configuration, and one for the study's claims and figures."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import attrs
import numpy as np

from kempeframe.console import interval_text
from kempeframe.intervals import mean_interval
from kempeframe.tracking_events import EventFile, image, layout, scalar, text
from kempeframe.tracking_hparams import experiment, session_end, session_start
from kempeframe.tracking_layout import band, charted_axes, layout_of, seed_tag, where_tag
from kempeframe.tracking_live import LIVE, MOST_CONFIGURATIONS, LiveEvents, clear, wanted
from kempeframe.tracking_names import STUDY, at_value, metrics_by_importance, run_names, short_names, tag_of
from kempeframe.tracking_pictures import small_claims, small_picture

if TYPE_CHECKING:
    from kempeframe.claims import Verdict
    from kempeframe.study import Study

MOST_SEEDS = 30  # of a configuration whose learning curves are written one by one
DERIVED = "columns"  # group of the derived columns


def write(study: Study, verdicts: Sequence[Verdict], pictures: Sequence[Path], folder: Path) -> None:
    """Claims, figures and the declaration of the HParams tab in the run `(study)`; a run for each configuration.

    TensorBoard shows the tab Time Series first, there the group of cards that sorts first, and of all groups the
    first two opened. Beyond 40 runs its other tabs show none until some are chosen, so a run is a configuration
    and not a trial; what the seeds gave are tags of it.
    """
    configurations = study.spec.configurations
    few = len(configurations) <= MOST_CONFIGURATIONS
    names = run_names(configurations) if few else {}
    clear(folder, wanted(study.plan, names))
    stamp = time.time()
    root = EventFile(folder / STUDY, stamp)
    if verdicts:
        root.summary([image("(study)/claims", small_claims(verdicts))])
        root.summary([text("claims", claims_as_markdown(verdicts))])
    figures = [picture for picture in pictures if picture.stem != "claims"]
    for place, picture in enumerate(figures, start=1):
        digits = len(str(len(figures)))
        root.summary([image(f"(study)/figure {place:0{digits}}: {picture.stem}", small_picture(picture))])
    for picture in pictures:
        root.summary([image(f"in full size/{picture.stem}", picture.read_bytes())])
    root.summary([text("how to look", guide(study, names))])
    if few:
        content = Content.of(study)
        axes = _axes(study)
        root.summary([experiment(study.spec.title, axes, content.shown, stamp)])
        if content.curves:
            trained = any(folder.glob(f"*/*{LIVE}"))  # short fits report nothing
            root.summary([layout(layout_of(axes, content.metrics, len(study.spec.seeds), trained))])
        members: dict[int, list[int]] = {}
        for index, trial in enumerate(study.plan.trials):
            members.setdefault(id(trial.configuration), []).append(index)
        for configuration in configurations:
            name = names[id(configuration)]
            _configuration(study, content, members[id(configuration)], folder / name, name, stamp)
    root.close()


@attrs.frozen
class Content:
    """Which columns are shown, and what they are called."""

    metrics: dict[str, str]  # NAME.metric -> its short name
    derived: list[str]
    curves: bool  # some trial has more than one snapshot

    @classmethod
    def of(cls, study: Study) -> Content:
        """Lists of numbers and text are left to the table and to figures."""
        columns, spec = study.rows.columns, study.spec
        names = metrics_by_importance(spec, [c for c, values in columns.items() if not _numeric(values)])
        known = spec.evaluator_columns
        bare = {name: name.partition(".")[2] for name in names}
        metrics = {n: b if ".".join(known.get(b, ())) == n else n for n, b in bare.items()}
        curves = any(len(rows) > 1 for rows in study.history_rows)
        return cls(metrics, [name for name in spec.derived if _numeric(columns[name])], curves)

    @property
    def shown(self) -> dict[str, str]:
        """Tags of the HParams tab, in the order of its columns, and their names."""
        return {tag_of(m): name for m, name in self.metrics.items()} | {f"{DERIVED}/{n}": n for n in self.derived}


def _numeric(values: Sequence[Any]) -> bool:
    return not any(isinstance(v, (list, str)) for v in values)


def _axes(study: Study) -> dict[str, list[Any]]:
    """Swept column -> its value in each configuration."""
    return {axis: [c.axes.get(axis) for c in study.spec.configurations] for axis in study.spec.axes}


def _configuration(
    study: Study, content: Content, indices: Sequence[int], folder: Path, name: str, stamp: float
) -> None:
    """One run: means over seeds at every step, with their intervals; each seed's curve, and each seed's last value."""
    file = EventFile(folder, stamp)
    columns, history = study.rows.columns, study.snapshots.columns
    trials = [study.plan.trials[i] for i in indices]
    file.summary([session_start(trials[0].configuration.axes, name, stamp)])
    steps: dict[int, dict[int, int]] = {}  # step -> seed -> row of the history
    for trial, i in zip(trials, indices, strict=True):
        for row in study.history_rows[i]:
            steps.setdefault(history["step"][row], {})[trial.seed] = row
    axes, short = charted_axes(_axes(study)), short_names(study.spec.axes)
    own = {axis: trials[0].configuration.axes.get(axis) for axis in axes}
    for step, rows in sorted(steps.items()):
        values = []
        for metric in content.metrics:
            found = {
                seed: number for seed, row in rows.items() if (number := _number(history[metric][row])) is not None
            }
            if not found:
                continue
            mean, low, high = _mean_and_interval(list(found.values()), content.curves)
            tags = [band(tag_of(metric))]
            if content.curves:
                tags += [band(where_tag(short[axis], value, metric)) for axis, value in own.items()]
            for tag, lower, upper in tags:
                values.append(scalar(tag, mean))
                if content.curves and len(trials) > 1:
                    values += [scalar(lower, low), scalar(upper, high)]
            if content.curves and len(trials) > 1:
                values += [scalar(seed_tag(metric, seed), v) for seed, v in list(found.items())[:MOST_SEEDS]]
        if step == max(steps):
            values += _derived(columns, content.derived, indices)
        file.summary(values, step)
    if len(trials) > 1:
        for trial, i in zip(trials, indices, strict=True):
            last = {metric: _number(columns[metric][i]) for metric in content.metrics}
            file.summary([scalar(f"by seed/{m}", v) for m, v in last.items() if v is not None], trial.seed)
    file.summary([session_end(all(columns["status"][i] == "done" for i in indices), stamp)])
    file.close()


def _derived(columns: Mapping[str, Sequence[Any]], names: Sequence[str], indices: Sequence[int]) -> list[Any]:
    """Means of the derived columns, which only the table has."""
    values = []
    for name in names:
        found = [v for i in indices if (v := _number(columns[name][i])) is not None]
        if found:
            values.append(scalar(f"{DERIVED}/{name}", sum(found) / len(found)))
    return values


def _number(value: Any) -> float | None:
    return None if value is None or isinstance(value, (list, str)) or math.isnan(value) else float(value)


def _mean_and_interval(values: list[float], wanted: bool) -> tuple[float, float, float]:
    """Where there is no interval (too few seeds, all alike), the mean in place of its ends."""
    mean = sum(values) / len(values)
    if not wanted or len(values) < 3 or not np.isfinite(values).all():
        return mean, mean, mean
    interval = mean_interval(values)
    sound = math.isfinite(interval.low) and math.isfinite(interval.high)
    return (mean, interval.low, interval.high) if sound else (mean, mean, mean)


def claims_as_markdown(verdicts: Sequence[Verdict]) -> str:
    """The claims as a table."""
    lines = ["| verdict | claim | measured, 95 % interval | source |", "| --- | --- | --- | --- |"]
    for verdict in verdicts:
        part = verdict.decisive
        cells = [verdict.claim.statement, interval_text(part) if part else verdict.reason, verdict.claim.source]
        lines.append(f"| **{verdict.decision}** | " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


def guide(study: Study, names: Mapping[int, str]) -> str:
    """What is where, with links that set what event files cannot: colours by an axis, and no smoothing."""
    spec = study.spec
    paper = f" ({spec.paper})" if spec.paper else ""
    lines = [
        f"# {spec.title}{paper}",
        "",
        "A run is a configuration; its curves are means over seeds. The run `(study)` holds claims and figures.",
        "",
        "- **Time Series**: claims and figures, then the metrics. `where AXIS=VALUE` compares the other axes, `seeds`"
        " has every trial's curve, `by seed` its last value over the seed, `in full size` the figures.",
        "- **Custom Scalars**, where there are learning curves: means with 95 % intervals, a chart for each value.",
        "- **HParams**: all axes and metrics; what claims are about comes first.",
        "",
    ]
    short = short_names(spec.axes)
    for axis, values in _axes(study).items():
        present = [
            a for a in (at_value(short[axis], v) for v in dict.fromkeys(values)) if any(a in n for n in names.values())
        ]
        if len(present) > 1:
            pattern = quote(f"regex:({short[axis]}=[^ ]+)", safe="")
            lines.append(f"- [Colours by {short[axis]}](?runColorGroup={pattern}&smoothing=0#timeseries)")
    return "\n".join(lines)


__all__ = ["LiveEvents", "claims_as_markdown", "run_names", "write"]
