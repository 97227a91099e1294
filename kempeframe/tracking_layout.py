"""Custom scalars: charts that put the learning curves of one metric together, as a layout of TensorBoard's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kempeframe.tracking_names import at_value, short_names, tag_of

MOST_VALUES = 12  # of an axis that gets a chart for each
MOST_METRICS = 6  # that are charted: what claims and figures are about comes first


def band(tag: str) -> tuple[str, str, str]:
    """The tags of a mean and of its interval's ends. What stands before the stroke is a group of cards."""
    group, _, name = tag.partition("/")
    if group.startswith("where "):
        return tag, f"{tag} (low)", f"{tag} (high)"
    return tag, f"interval/{group}.{name} (low)", f"interval/{group}.{name} (high)"


def where_tag(axis: str, value: Any, metric: str) -> str:
    """The tag that only the configurations with this value have: a chart can choose tags, but not runs."""
    return f"where {at_value(axis, value)}/{metric}"


def seed_tag(metric: str, seed: int) -> str:
    """The learning curve of one trial."""
    return f"seeds/{metric}, seed {seed}"


def charted_axes(axes: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """The axes whose values get a chart each; where there is one axis alone, such a chart would hold one curve."""
    found = {axis: list(dict.fromkeys(values)) for axis, values in axes.items()}
    found = {axis: values for axis, values in found.items() if len(values) > 1}
    return {a: v for a, v in found.items() if len(v) <= MOST_VALUES} if len(found) > 1 else {}


def layout_of(axes: Mapping[str, Sequence[Any]], metrics: Mapping[str, str], seeds: int, trained: bool) -> bytes:
    """The layout, serialized.

    `metrics` from NAME.metric to what it is called; `seeds` of each configuration; `trained`: whether there are
    curves of training.
    """
    from tensorboard.plugins.custom_scalar import layout_pb2

    metrics = dict(list(metrics.items())[:MOST_METRICS])
    short = short_names(axes)
    banded = seeds > 1
    over = "mean over seeds, 95 % interval" if banded else "one seed"
    categories = [
        layout_pb2.Category(
            title=f"All configurations: {over}",
            chart=[_chart(name, tag_of(metric), banded) for metric, name in metrics.items()],
        )
    ]
    for number, (axis, values) in enumerate(charted_axes(axes).items()):
        charts = [
            _chart(f"{name} where {at_value(short[axis], value)}", where_tag(short[axis], value, metric), banded)
            for metric, name in metrics.items()
            for value in values
        ]
        title = f"A chart for each {short[axis].replace('_', ' ')}: {over}"
        categories.append(layout_pb2.Category(title=title, chart=charts, closed=number > 0))
    if banded:
        charts = [_lines(f"{name}, every seed", re.escape(f"seeds/{metric}, ")) for metric, name in metrics.items()]
        categories.append(layout_pb2.Category(title="Every trial: seeds of one colour", chart=charts, closed=True))
    for category in categories:
        if banded and category.chart[0].HasField("margin"):  # TensorBoard puts each before the last: its own mistake
            ordered = list(category.chart)[::-1]
            del category.chart[:]
            category.chart.extend(ordered)
    training = [_lines("loss", "training/loss"), _lines("learning rate", "training/learning_rate")]
    if trained:
        categories.append(layout_pb2.Category(title="While training", chart=training, closed=True))
    content: bytes = layout_pb2.Layout(category=categories).SerializeToString()
    return content


def _chart(title: str, tag: str, banded: bool) -> Any:
    from tensorboard.plugins.custom_scalar import layout_pb2

    if not banded:
        return _lines(title, f"{re.escape(tag)}$")
    value, lower, upper = band(tag)
    series = layout_pb2.MarginChartContent.Series(value=value, lower=lower, upper=upper)
    return layout_pb2.Chart(title=title, margin=layout_pb2.MarginChartContent(series=[series]))


def _lines(title: str, pattern: str) -> Any:
    from tensorboard.plugins.custom_scalar import layout_pb2

    return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[pattern]))
