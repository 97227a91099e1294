"""A spec file while it is being checked: what it says with all overrides, on which line, and what is wrong with it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, time
from pathlib import Path
from typing import Any

import tomli

from kempeframe.lines import KeyPath, key_lines, line_of
from kempeframe.overrides import (
    DEEPEST,
    LISTS,
    BadPath,
    leaves,
    member_name,
    parse_assignment,
    resolve,
    set_value,
    split,
)
from kempeframe.problems import Problem, SpecError, nearest
from kempeframe.registry import Registry

LONGEST = 12  # parts of a key that a message shows
LARGEST_INT = 2**63 - 1  # TOML's own limit


class Source:
    """A spec file: what it says, where it says it, and what is wrong with it."""

    def __init__(self, path: Path, raw: dict[str, Any] | None = None, lines: Mapping[KeyPath, int] | None = None):
        self.path = path
        self.registry = Registry()
        self.raw: dict[str, Any] = raw or {}
        self.lines = lines or {}
        self.places: dict[KeyPath, str] = {}  # keys that an override set -> where it was said
        self.unsure: set[KeyPath] = set()  # keys that a wrong axis would have set: nothing is known of them
        self.problems: dict[Problem, None] = {}

    def problem(self, path: Sequence[str | int], message: str) -> None:
        """Note a problem at a key, unless all that is known of the key is that a wrong axis sets it."""
        key = tuple(path)
        for unsure in self.unsure:
            shared = min(len(unsure), len(key))
            if shared and key[:shared] == unsure[:shared]:
                return
        self.note(self.place(key), dotted(key, self.raw), message)

    def note(self, place: str, key: str, message: str) -> None:
        """Note a problem at a place in words."""
        self.problems[Problem(place, key, message)] = None

    def place(self, path: KeyPath) -> str:
        """Where a key was said: `file:line`, or the override."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return f"{self.path}:{line_of(self.lines, path)}"

    def fail(self) -> None:
        """Raise all problems found so far, if there are any."""
        if self.problems:
            raise SpecError(str(self.path), sorted(self.problems, key=lambda p: (_line(p.place), p.key)))


def _line(place: str) -> int:
    tail = place.rpartition(":")[2]
    return int(tail) if tail.isascii() and tail.isdigit() else 0


def dotted(path: Sequence[str | int], raw: Mapping[str, Any]) -> str:
    """A path as a message shows it: `evaluator.theory.x`, `claim.3`, `sweep."data.n_train"[2]`."""
    if len(path) > LONGEST:
        return f"{dotted(path[:LONGEST], raw)}..."
    text = ""
    for position, key in enumerate(path):
        if isinstance(key, int) and position == 1 and path[0] in LISTS:
            members = raw.get(str(path[0]))
            member = members[key] if isinstance(members, list) and key < len(members) else None
            name = member_name(member) if isinstance(member, dict) else ""
            text += f".{name or key + 1}"
        elif isinstance(key, int):
            text += f"[{key}]"
        else:
            text += "." + (key if re.fullmatch(r"[\w-]+", key) else json.dumps(key, ensure_ascii=False))
    return text.removeprefix(".")


def read(path: Path) -> Source:
    """Read and parse a spec file.

    Raises:
        SpecError: it can't be read, is no text, or no TOML: then nothing else can be said of it.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise _refusal(path, f"can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise _refusal(path, f"is no UTF-8 text (byte {error.start}); expected a TOML file") from None
    except ValueError as error:  # a NUL in the path
        raise _refusal(path, f"can't be read: {error}") from None
    return parse(text, path)


def _refusal(path: Path, message: str, line: int | None = None) -> SpecError:
    place = str(path) if line is None else f"{path}:{line}"
    return SpecError(str(path), [Problem(place, "", message)])


def parse(text: str, path: Path) -> Source:
    """Parse the text of a spec; `path` is what messages call it, and plugin files stand beside it.

    Raises:
        SpecError: it is no TOML.
    """
    try:
        raw = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise _refusal(path, f"is no valid TOML: {error}", _error_line(text, str(error))) from None
    except RecursionError:
        raise _refusal(path, "is no valid TOML: nested too deeply") from None
    except ValueError:  # Python refuses to read integers of thousands of digits
        raise _refusal(path, "is no valid TOML: an integer is too large", _long_number_line(text)) from None
    source = Source(path, raw, key_lines(text))
    for place, message in refused(raw):
        source.problem(place, message)
    source.fail()
    return source


def _error_line(text: str, message: str) -> int:
    found = re.search(r"at line (\d+)", message)
    return int(found[1]) if found else text.count("\n", 0, len(text) - 1) + 1


def _long_number_line(text: str) -> int:
    found = re.search(r"[\d_]{4300,}", text)
    return text.count("\n", 0, found.start()) + 1 if found else 1


def refused(raw: Any) -> Iterator[tuple[KeyPath, str]]:
    """What TOML can say and no spec may: values of no use, and nesting that only a mistake produces."""
    waiting: list[tuple[KeyPath, Any]] = [((), raw)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, (dict, list)):
            members: Iterable[tuple[str | int, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
            if len(path) >= DEEPEST and value:
                yield path, f"is nested too deeply: more than {DEEPEST} levels"
            else:
                waiting += [((*path, key), item) for key, item in members]
        elif isinstance(value, (date, time)):
            yield path, f"expected no date or time; as text it needs quotes: \"{value}\""
        elif isinstance(value, float) and math.isnan(value):
            yield path, "expected a number, got nan"
        elif isinstance(value, int) and not -LARGEST_INT - 1 <= value <= LARGEST_INT:
            yield path, "expected a whole number of 64 bits; write a larger one as a float (1e20)"


def override(source: Source, overrides: Sequence[str], smoke: bool, seeds: int | None, known: Sequence[str]) -> None:
    """Apply `[smoke]`, then `--set`, then `--seeds`; `known` are the top-level keys of a spec."""
    if smoke:
        _apply_smoke(source, known)
    for text in overrides:
        try:
            path, value = parse_assignment(text)
        except BadPath as error:
            source.note(f"--set {text}", "", str(error))
            continue
        _apply(source, path, value, f"--set {text}", known)
    if seeds is not None:
        given = source.raw.get("seeds")
        count = {**given, "count": seeds} if isinstance(given, dict) else seeds
        _apply(source, ("seeds",), count, f"--seeds {seeds}", known)


def _apply_smoke(source: Source, known: Sequence[str]) -> None:
    table = source.raw.get("smoke")
    if not isinstance(table, dict):
        source.problem(("smoke",), "expected a table of overrides, [smoke]; --smoke applies it")
        return
    for key, value in table.items():
        for path, item, place in leaves(split(key), value, ("smoke", key)):
            _apply(source, path, item, source.place(place), known)


def _apply(source: Source, path: tuple[str, ...], value: Any, place: str, known: Sequence[str]) -> None:
    shown = dotted(path, source.raw)
    for below, message in refused(value):
        source.note(place, dotted((*path, *below), source.raw), message)
        return
    try:
        if path[0] not in known or path[0] == "smoke":
            raise BadPath(f"unknown key {path[0]!r}{nearest(path[0], known)}")
        changed = set_value(source.raw, path, value)
        target = resolve(source.raw, path)
    except BadPath as error:
        source.note(place, shown, str(error))
        return
    source.raw = changed
    source.places = {p: said for p, said in source.places.items() if p[: len(target)] != target}
    source.places[target] = place
    swept = source.raw.get("sweep")
    if isinstance(swept, dict) and ".".join(path) in swept:  # the axis that gave way
        source.places["sweep", ".".join(path)] = place
