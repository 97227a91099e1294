"""What runs, hyperparameters and metrics are called in TensorBoard: short, readable, distinct."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kempeframe.figures import number

if TYPE_CHECKING:
    from kempeframe.spec import Spec
    from kempeframe.sweep import Configuration

STUDY = "(study)"  # the run of what belongs to no configuration; it sorts before the others
WIDE = 40  # characters of a run's name that TensorBoard shows on two lines
LONGEST = 120  # characters of a folder's name


def short_names(dotted: Iterable[str]) -> dict[str, str]:
    """The last parts of dotted names, as few as tell them apart: `model.width` -> `width`."""
    names = list(dict.fromkeys(dotted))
    found = {}
    for name in names:
        parts = name.split(".")
        endings = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        found[name] = next(e for e in endings if sum(o == e or o.endswith("." + e) for o in names) == 1 or e == name)
    return found


def run_names(configurations: Sequence[Configuration]) -> dict[int, str]:
    """A name for each configuration, by its id: the values of the axes.

    An axis of one value is left out; so are, where names get long, axes that are not needed to tell runs apart.
    """
    axes = list(dict.fromkeys(name for configuration in configurations for name in configuration.axes))
    kept = [a for a in axes if len({_text(c.axes.get(a)) for c in configurations}) > 1]
    short = short_names(axes)
    for axis in reversed(list(kept)):
        others = [a for a in kept if a != axis]
        wide = max((len(_name(c, kept, short)) for c in configurations), default=0) > WIDE
        if wide and len({_name(c, others, short) for c in configurations}) == len(configurations):
            kept = others
    names: dict[int, str] = {}
    taken: set[str] = set()
    for index, configuration in enumerate(configurations):
        name = _name(configuration, kept, short)[:LONGEST].strip() or "all"
        names[id(configuration)] = name if name not in taken else f"{name} #{index}"
        taken.add(names[id(configuration)])
    return names


def _name(configuration: Configuration, axes: Sequence[str], short: Mapping[str, str]) -> str:
    return " ".join(f"{short[a]}={_text(configuration.axes[a])}" for a in axes if a in configuration.axes)


def _text(value: Any) -> str:
    return number(value).replace("/", "_").replace("\\", "_")


def at_value(axis: str, value: Any) -> str:
    """`width=4`."""
    return f"{axis}={_text(value)}"


def metrics_by_importance(spec: Spec, excluded: Iterable[str] = ()) -> list[str]:
    """NAME.metric of what evaluators measure: first what claims are about, then what figures show, then the rest."""
    named = [*(n for claim in spec.claims for n in claim.columns()), *(figure.y for figure in spec.figures)]
    first = [".".join(spec.evaluator_columns[name]) for name in named if name in spec.evaluator_columns]
    rest = sorted(".".join(found) for found in set(spec.evaluator_columns.values()))
    left_out = set(excluded)
    return [name for name in dict.fromkeys([*first, *rest]) if name not in left_out]


def tag_of(metric: str) -> str:
    """`accuracy.error` -> `accuracy/error`: TensorBoard groups by what stands before the first stroke."""
    return metric.replace(".", "/", 1)
