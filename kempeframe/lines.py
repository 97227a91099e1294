r"""Find the line on which each key of a TOML document stands, for messages such as ``specs/x.toml:12``.

`tomli` parses and rejects; this scanner only walks the same text once more and notes lines. It follows
TOML 1.0 and what `tomli` accepts beyond it (inline tables over several lines, the escapes ``\e`` and
``\xHH``). It is lenient where leniency costs nothing, and stops at the first thing it cannot read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

KeyPath = tuple[str | int, ...]

DEEPEST = 200  # parts of the longest path noted: what lies deeper counts as its ancestor, so paths stay short

BLANK = frozenset(" \t")
BETWEEN_ITEMS = frozenset(" \t\n,")
BARE_KEY = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
AFTER_BARE_VALUE = frozenset(["", ",", "]", "}", "#", "\n"])
ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b", '"': '"', "\\": "\\"}
HEX_DIGITS = {"x": 2, "u": 4, "U": 8}


def key_lines(text: str) -> dict[KeyPath, int]:
    """Map every path of the document to the 1-based line where its key, header or element was written.

    A path holds table keys as `str` and positions in arrays as `int`. A table that headers or dotted keys
    only imply (``a`` in ``[a.b]``) stands where it was first implied, unless it has a header of its own.
    Text that is not TOML gives the paths found before the first error.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"))
    with suppress(_UnreadableError):
        scanner.document()
    return scanner.lines


def line_of(lines: Mapping[KeyPath, int], path: Sequence[str | int]) -> int:
    """Return the line of `path`, or else of its longest prefix in `lines`, or else 1."""
    prefixes = (tuple(path[:length]) for length in range(len(path), 0, -1))
    return next((lines[prefix] for prefix in prefixes if prefix in lines), 1)


class _UnreadableError(Exception):
    """What stands at the cursor is not TOML."""


@dataclass
class _Container:
    """An array or inline table whose closing bracket has not been reached."""

    path: KeyPath
    closing: str
    size: int = 0


class _Scanner:
    """A cursor over the text, and the lines noted on its way."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.cursor = 0
        self.line_ends = [place for place, character in enumerate(text) if character == "\n"]
        self.lines: dict[KeyPath, int] = {}
        self.table_counts: Counter[KeyPath] = Counter()  # [[headers]] so far, by their array's path

    def document(self) -> None:
        """Read headers and key/value pairs up to the end of the text."""
        table: KeyPath = ()
        while self.cursor < len(self.text):
            self.skip(BLANK)
            if self.accept("[["):
                table = self.header("]]")
            elif self.accept("["):
                table = self.header("]")
            elif self.peek() not in ("#", "\n", ""):
                self.value(self.assigned_path(table))
            self.skip_line()

    def header(self, closing: str) -> KeyPath:
        """Read the rest of ``[a.b]`` or ``[[a.b]]`` and return the path of the table it opens."""
        self.skip(BLANK)
        *parents, name = self.key()
        self.expect(closing)
        path: KeyPath = ()
        for parent in parents:
            path = self.latest(self.note(_below(path, parent)))
        path = _below(path, name)
        if closing == "]":
            self.lines[path] = self.line()
            return path
        self.note(path)
        self.table_counts[path] += 1
        return self.note(self.latest(path))

    def latest(self, path: KeyPath) -> KeyPath:
        """Return the latest element of the array of tables at `path`, or `path` if there is no such array."""
        return _below(path, self.table_counts[path] - 1) if path in self.table_counts else path

    def assigned_path(self, table: KeyPath) -> KeyPath:
        """Read ``a.b.c =``, note all it defines in `table`, and return its path."""
        names = self.key()
        self.expect("=")
        path = table
        for name in names:
            path = self.note(_below(path, name))
        return path

    def key(self) -> list[str]:
        """Read the parts of a dotted key and the blanks behind it."""
        parts = [self.key_part()]
        self.skip(BLANK)
        while self.accept("."):
            self.skip(BLANK)
            parts.append(self.key_part())
            self.skip(BLANK)
        return parts

    def key_part(self) -> str:
        """Read one bare or quoted part of a key."""
        if self.accept("'"):
            return self.string("'")
        if self.accept('"'):
            return _unescape(self.string('"'))
        start = self.cursor
        self.skip(BARE_KEY)
        if self.cursor == start:
            raise _UnreadableError
        return self.text[start : self.cursor]

    def value(self, path: KeyPath) -> None:
        """Pass the value that belongs to `path`, noting all that arrays and inline tables hold."""
        containers: list[_Container] = []
        item: KeyPath | None = path
        while item is not None:
            self.skip(BLANK)
            if self.accept("["):
                containers.append(_Container(item, closing="]"))
            elif self.accept("{"):
                containers.append(_Container(item, closing="}"))
            else:
                self.scalar()
            item = self.next_item(containers)

    def next_item(self, containers: list[_Container]) -> KeyPath | None:
        """Close the containers that end here; return the path whose value comes next, if any does."""
        while containers:
            innermost = containers[-1]
            self.skip_between_items()
            if self.accept(innermost.closing):
                containers.pop()
            elif innermost.closing == "}":
                return self.assigned_path(innermost.path)
            elif self.peek() in AFTER_BARE_VALUE:
                raise _UnreadableError
            else:
                innermost.size += 1
                return self.note(_below(innermost.path, innermost.size - 1))
        return None

    def scalar(self) -> None:
        """Pass a string, number, truth value, date or time."""
        for quote in ('"""', "'''", '"', "'"):
            if self.accept(quote):
                self.string(quote)
                self.skip(frozenset(quote))  # the content of a multi-line string may end in quotes
                return
        while self.peek() not in AFTER_BARE_VALUE:
            self.cursor += 1

    def string(self, quote: str) -> str:
        """Pass the rest of a string and its closing `quote`; return the content, escapes as written."""
        start = self.cursor
        while not self.accept(quote):
            character = self.peek()
            if character == "" or (character == "\n" and len(quote) == 1):
                raise _UnreadableError
            self.cursor += 2 if character == "\\" and quote[0] == '"' else 1
        return self.text[start : self.cursor - len(quote)]

    def peek(self) -> str:
        """Return the character at the cursor, or an empty string at the end."""
        return self.text[self.cursor : self.cursor + 1]

    def accept(self, token: str) -> bool:
        """Pass `token` if it stands at the cursor, and say whether it did."""
        found = self.text.startswith(token, self.cursor)
        self.cursor += len(token) if found else 0
        return found

    def expect(self, token: str) -> None:
        """Pass `token`, which must stand at the cursor."""
        if not self.accept(token):
            raise _UnreadableError

    def skip(self, characters: frozenset[str]) -> None:
        """Pass the longest run of `characters`."""
        while self.peek() in characters:
            self.cursor += 1

    def skip_between_items(self) -> None:
        """Pass white space, line ends, commas and comments."""
        self.skip(BETWEEN_ITEMS)
        while self.peek() == "#":
            self.skip_line()
            self.skip(BETWEEN_ITEMS)

    def skip_line(self) -> None:
        """Pass the rest of the line and its end."""
        end = self.text.find("\n", self.cursor)
        self.cursor = len(self.text) if end < 0 else end + 1

    def line(self) -> int:
        """Return the 1-based line of the cursor."""
        return bisect_left(self.line_ends, self.cursor) + 1

    def note(self, path: KeyPath) -> KeyPath:
        """Note that `path` stands on this line, unless it is known from an earlier one; return it."""
        self.lines.setdefault(path, self.line())
        return path


def _below(path: KeyPath, part: str | int) -> KeyPath:
    """Return the path one step deeper, or `path` itself where it is as long as paths may be."""
    return (*path, part) if len(path) < DEEPEST else path


def _unescape(raw: str) -> str:
    """Return the text that the content of a one-line basic string stands for."""
    pieces = []
    start = 0
    while (backslash := raw.find("\\", start)) >= 0:
        pieces.append(raw[start:backslash])
        letter = raw[backslash + 1 : backslash + 2]
        start = backslash + 2 + HEX_DIGITS.get(letter, 0)
        pieces.append(ESCAPES.get(letter) or _character(raw[backslash + 2 : start]))
    return "".join(pieces) + raw[start:]


def _character(digits: str) -> str:
    """Return the character with this hexadecimal code point."""
    try:
        return chr(int(digits, 16))
    except (ValueError, OverflowError):
        raise _UnreadableError from None
