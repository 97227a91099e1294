"""An interval beside the region that a claim wants, as a small graphic: numbers -> places in a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from kempeframe.claims import Part
from kempeframe.console import interval_text, region_text

WIDTH = 320.0  # of the picture, in its own units
MARGIN = 14.0  # at both ends: room for arrows
LABEL = 64.0  # two labels that are closer than this become one
DECADES = 30.0  # largest over smallest of positive values beyond which a location is drawn on a logarithmic axis


@attrs.frozen
class Scale:
    """Values -> places from left to right. What lies beyond the ends is drawn at them."""

    low: float
    high: float
    logarithmic: bool

    def at(self, value: float) -> float:
        """The place of a value, infinite ones at the ends; nan has none, and is never asked for."""
        if self.logarithmic:
            value = math.log(value) if value > 0 else -math.inf
        share = (value - self.low) / (self.high - self.low) if math.isfinite(value) else math.copysign(math.inf, value)
        return round(MARGIN + (WIDTH - 2 * MARGIN) * min(max(share, 0.0), 1.0), 1)


def scale_of(parts: Sequence[Part], kind: str) -> Scale | None:
    """One axis for several intervals and their regions; None where no number is finite."""
    values = [v for p in parts for v in (p.interval.estimate, p.interval.low, p.interval.high)]
    values += [v for p in parts for v in (p.region.low, p.region.high)]
    values = [v for v in values if math.isfinite(v)]
    if not values:
        return None
    low, high = min(values), max(values)
    logarithmic = low > 0 and (kind == "ratio" or (kind in ("location", "threshold") and high / low > DECADES))
    if logarithmic:
        low, high = math.log(low), math.log(high)
    room = 0.14 * (high - low) or 0.5 * abs(low) or 1.0
    if not math.isfinite(room):  # numbers near the largest there is
        low, high, room = low / 4, high / 4, 0.14 * (high / 4 - low / 4)
    return Scale(low - room, high + room, logarithmic)


@attrs.frozen
class Label:
    """Text at a place below the axis."""

    x: float
    text: str
    anchor: str


@attrs.frozen(kw_only=True)
class Graphic:
    """What the page draws of one part of a claim."""

    region: tuple[float, float]  # left end and width
    edges: tuple[float, ...]  # of the region, where they are finite
    labels: tuple[Label, ...]
    estimate: float | None
    interval: tuple[float, float] | None
    open_left: bool  # the interval goes on beyond the end
    open_right: bool
    logarithmic: bool
    description: str


def graphic(part: Part, scale: Scale | None) -> Graphic | None:
    """The places of a part's interval, estimate and region on an axis; None where p-values decide."""
    if scale is None or part.interval.by_ranks:
        return None
    interval, region = part.interval, part.region
    left, right = scale.at(region.low), scale.at(region.high)
    left = left if math.isfinite(region.low) else 0.0
    right = right if math.isfinite(region.high) else WIDTH
    known = not (math.isnan(interval.low) or math.isnan(interval.high))
    finite = [value for value in (region.low, region.high) if math.isfinite(value)]
    return Graphic(
        region=(left, round(right - left, 1)),
        edges=tuple(scale.at(value) for value in finite),
        labels=_labels(finite, scale, part),
        estimate=None if not math.isfinite(interval.estimate) else scale.at(interval.estimate),
        interval=(scale.at(interval.low), scale.at(interval.high)) if known else None,
        open_left=known and math.isinf(interval.low),
        open_right=known and math.isinf(interval.high),
        logarithmic=scale.logarithmic,
        description=f"{interval_text(part)}; wanted {region_text(part)}",
    )


def _labels(edges: Sequence[float], scale: Scale, part: Part) -> tuple[Label, ...]:
    places = [scale.at(value) for value in edges]
    if len(edges) == 2 and places[1] - places[0] < LABEL:
        return (_label(sum(places) / 2, region_text(part)),)
    return tuple(_label(place, f"{value + 0.0:g}") for place, value in zip(places, edges, strict=True))


def _label(x: float, text: str) -> Label:
    half = 3.4 * len(text)
    anchor = "start" if x - half < 0 else "end" if x + half > WIDTH else "middle"
    return Label(round(x, 1), text, anchor)
