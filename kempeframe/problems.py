"""Problems in what a user wrote: collected, said all at once, each with its place and the nearest right name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import attrs

LONGEST = 60  # characters of a value that a message shows


@attrs.frozen
class Problem:
    """One thing wrong with a spec: where it stands, which key, and what was expected."""

    place: str  # "specs/x.toml:12", "--set data.n_train=0"
    key: str  # "data.n_train"
    message: str

    def __str__(self) -> str:
        head = f"{self.place}  {self.key}" if self.key else self.place
        return f"{_printable(head)}\n    {_printable(self.message)}"


class SpecError(Exception):
    """A spec that can't be run. Holds every problem found; the command line prints it and exits with 2."""

    def __init__(self, source: str, problems: Iterable[Problem]):
        self.source = source
        self.problems = list(dict.fromkeys(problems))
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        super().__init__(f"{source}: {count}\n\n" + "\n".join(map(str, self.problems)))

    def __reduce__(self) -> Any:
        return type(self), (self.source, self.problems)


def _printable(text: str) -> str:
    """One line, without what would move a terminal's cursor or colour it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def raised(error: BaseException) -> str:
    """What a plugin's code raised, on one line: `KeyError: 'x'`. Its own text may fail too."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` for the closest known name, else a short list of what there is."""
    known = sorted(set(known))
    close = difflib.get_close_matches(name[:200], known, n=1, cutoff=0.6)
    # `n_train` for `data.n_train`: too far by letters, yet what was meant.
    close = close or [k for k in known if k.rpartition(".")[2] == name]
    if close:
        return f"; did you mean {close[0]!r}?"
    if not known:
        return "; there are none"
    shown_names = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"; known: {shown_names}"


def shown(value: Any) -> str:
    """A value as a message shows it: short, on one line."""
    if isinstance(value, (dict, list)):
        return "a table" if isinstance(value, dict) else f"a list of {len(value)}"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


class Breakdown(Exception):
    """Something outside the spec stopped the run: a full disk, processes that can't be started."""
