"""Named fits: `[fit.NAME]`, rounds of them, and the streams from which a fit's seed derives."""

from __future__ import annotations

from typing import Any

from kempeframe.components import Fit
from kempeframe.fieldtypes import type_text
from kempeframe.problems import nearest, shown
from kempeframe.structure import FAILED, Context, Invalid, current, structure_record

MOST_ROUNDS = 1000
ROUND_KEYS = ("rounds", "first")  # of a [fit.NAME] that is a series of rounds


def structure_fit(raw: Any, _: Any) -> Any:
    """A fit: an inline table, or the name of a `[fit.NAME]` (`"round.3"`; inside rounds also `"round.previous"`)."""
    context = current()
    if isinstance(raw, str):
        return named_fit(raw, context)
    return _build(raw, _inline_stream(context))


def _inline_stream(context: Context) -> str:
    """An inline fit's stream is where it stands: in which named fit and round, or in which part of the trial."""
    path = list(context.path)
    if context.opening and path[:1] == ["fit"]:
        path[1] = context.opening[-1]
    elif path[:1] == ["evaluator"] and isinstance(path[1], int):
        path[1] = context.names.get(path[1]) or path[1]
    return ".".join(map(str, path))


def _build(raw: Any, stream: str) -> Any:
    """The fit of a table with data, model and optimizer, seeded by the name of its stream."""
    context = current()
    if not isinstance(raw, dict):
        raise Invalid(f"expected {type_text(Fit)}, got {shown(raw)}")
    fit = structure_record(raw, Fit, stream=stream)
    if fit is not FAILED and fit.seed is not None and fit.seed < 0:
        context.problem(f"{fit.seed} is out of range: expected a whole number >= 0", "seed")
        return FAILED
    return fit


def named_fit(name: str, context: Context) -> Any:
    """The fit that a name stands for.

    Raises:
        Invalid: unknown name, a cycle (its members are named), a round that does not exist.
    """
    base, _, which = name.partition(".")
    raw = context.fits.get(base)
    if raw is None:
        raise Invalid(f"unknown fit {shown(name)}{nearest(base, context.fits)}")
    if not isinstance(raw, dict):
        return FAILED  # said where the table should stand
    if "rounds" not in raw:
        if which:
            raise Invalid(f"{shown(name)}: [fit.{base}] has no rounds")
        return _open(base, raw, context)
    rounds = _rounds(base, raw, context)
    if rounds is None:
        return FAILED
    if which != "previous":
        # int() takes no digits that str.isdecimal knows and ASCII does not.
        if which and not (which.isascii() and which.isdecimal() and 1 <= int(which[:9]) <= rounds):
            raise Invalid(f"{shown(name)}: [fit.{base}] has rounds 1 to {rounds}")
        return _round(base, raw, int(which) if which else rounds, context)
    if context.previous is None or not context.previous.startswith(base + ":"):
        raise Invalid(f'"{base}.previous" is known only inside [fit.{base}]')
    return _round(base, raw, int(context.previous.partition(":")[2]), context)


def _rounds(base: str, raw: dict[str, Any], context: Context) -> int | None:
    """How many rounds; None where `rounds` or `first` is wrong, which is said at their place."""
    path, context.path = context.path, ["fit", base]
    try:
        rounds, first = raw["rounds"], raw.get("first")
        context.known_keys.setdefault(("fit", base), set()).update(ROUND_KEYS)
        if isinstance(rounds, float) and rounds.is_integer():
            rounds = int(rounds)
        if isinstance(rounds, bool) or not isinstance(rounds, int) or not 1 <= rounds <= MOST_ROUNDS:
            context.problem(f"expected a whole number from 1 to {MOST_ROUNDS}, got {shown(raw['rounds'])}", "rounds")
            return None
        if first is not None and not (isinstance(first, str) and first.partition(".")[0] in context.fits):
            hint = nearest(first, context.fits) if isinstance(first, str) else ""
            context.problem(f"expected the name of the fit before round 1, got {shown(first)}{hint}", "first")
            return None
        return rounds
    finally:
        context.path = path


def _round(base: str, raw: dict[str, Any], number: int, context: Context) -> Any:
    """Round `number`, built from the first one upward, so that long chains need no deep recursion."""
    if f"{base}.{number}" in context.named and f"{base}.{number}" not in context.opening:
        return context.named[f"{base}.{number}"]
    if number < 1:
        raise Invalid(f"round 1 of [fit.{base}] has no round before it")
    table = {k: v for k, v in raw.items() if k not in ROUND_KEYS}
    fit = None
    for current_round in range(1, number + 1):
        body = table if current_round > 1 else _first_round(table, base, raw.get("first"))
        fit = _open(f"{base}.{current_round}", body, context, f"{base}:{current_round - 1}")
        if fit is FAILED:
            if body != table and raw.get("first") is None:
                message = 'round 1 has no previous round; `first = "NAME"` names the fit in its place'
                context.problems.append((("fit", base), message))
            return FAILED
    return fit


def _first_round(table: Any, base: str, first: str | None) -> Any:
    """The table of round 1: `"NAME.previous"` becomes `first`, or is left out where there is none."""
    previous = f"{base}.previous"
    if isinstance(table, dict):
        return {k: _first_round(v, base, first) for k, v in table.items() if first is not None or v != previous}
    if isinstance(table, list):
        return [_first_round(item, base, first) for item in table if first is not None or item != previous]
    return first if table == previous else table


def _open(name: str, raw: dict[str, Any], context: Context, previous: str | None = None) -> Any:
    """Structure a named fit, once. `previous` is set for rounds."""
    base = name.partition(".")[0]
    if name in context.opening:
        cycle = " -> ".join([*context.opening[context.opening.index(name) :], name])
        hint = f'; inside [fit.{base}], "{base}.previous" is the round before' if previous else ""
        raise Invalid(f"fits refer to each other in a cycle: {cycle}{hint}")
    if name not in context.named:
        before = context.path, context.previous
        context.path, context.previous = ["fit", base], previous
        context.opening.append(name)
        context.named[name] = FAILED  # unless it is built
        try:
            context.named[name] = _build(raw, stream=name)
        finally:
            context.opening.pop()
            context.path, context.previous = before
    return context.named[name]
