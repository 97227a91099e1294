"""Random TOML documents, a writer that notes the line of each path in them, and the paths of what was parsed."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from hypothesis import strategies as st

from kempeframe.lines import KeyPath


def parsed_paths(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    """Return the paths of all that lies in a parsed document, containers included."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [parsed_paths(item, (*path, key)) for key, item in items]
    return ({path} if path else set()).union(*below)


# Random documents. A scalar is its own TOML text, so a document is made of dict, list and str.

Scalar = str
Node = dict[str, Any] | list[Any] | Scalar

PLAIN = ("a", "x = 1", " ", "[t]", "[[", "]", "{", "}", "#", ",", "é", "\t", "😀")
FRAGMENTS = {
    '"': (*PLAIN, "'", "'''", '\\"', "\\\\", "\\u00e9", "\\U0001F600", "\\n"),
    "'": (*PLAIN, '"', '"""', "\\"),
    '"""': (*PLAIN, "'", "'''", '"', '""', '\\"', "\\\\", "\n", "\\\n  ", "\n[t]\nk = 1\n"),
    "'''": (*PLAIN, '"', '"""', "'", "''", "\\", "\n", "\n[t]\nk = 1\n"),
}
BARE_VALUES = (
    "true", "false", "0", "-17", "+1_000", "0xDEAD_beef", "0o17", "0b1", "1.5", "-3e-2", "6.2e+34", "inf",
    "-nan", "1979-05-27", "07:32:00", "07:32:00.999", "1979-05-27T07:32:00Z",
    "1979-05-27 07:32:00-07:00",
)  # fmt: skip


def quoted(quote: str) -> st.SearchStrategy[Scalar]:
    """Strings in one of TOML's four styles; a fragment never completes the closing quotes."""
    broken_quote = {'"""': '""\\"', "'''": "''-"}
    contents = st.lists(st.sampled_from(FRAGMENTS[quote]), max_size=6).map("".join)
    return contents.map(lambda content: quote + content.replace(quote, broken_quote.get(quote, quote)) + quote)


KEYS = st.one_of(
    st.sampled_from(["a", "b", "c", "data.n_train", "", "1", "-_", "a b", 'q"', "it's", "#", "[x]", "=", "\\", "\n"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
)
SCALARS = st.one_of(st.sampled_from(BARE_VALUES), *map(quoted, FRAGMENTS))


def tables(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(KEYS, values, max_size=4)


NODES: st.SearchStrategy[Node] = st.recursive(
    SCALARS,
    lambda nodes: st.one_of(tables(nodes), st.lists(nodes, max_size=4), st.lists(tables(nodes), max_size=3)),
    max_leaves=12,
)


def is_array_of_tables(value: Node) -> bool:
    return isinstance(value, list) and value != [] and all(isinstance(item, dict) for item in value)


@dataclass
class Section:
    """A table under a header: its path, the keys of its header, the brackets, and its content."""

    path: KeyPath
    names: tuple[str, ...]
    bracket: int
    pairs: list[tuple[tuple[str, ...], Node]] = field(default_factory=list)


@dataclass
class Writer:
    """Writes a document as TOML in randomly chosen styles, noting the line on which it writes each path."""

    random: Random
    text: str = ""
    lines: dict[KeyPath, int] = field(default_factory=dict)

    def document(self, table: dict[str, Any]) -> None:
        """Write the whole document; only the pairs of the root have a fixed place, at the top."""
        root = Section((), (), 0)
        blocks = self.blocks(root, table)
        self.random.shuffle(blocks)
        for section in [root, *(section for block in blocks for section in block)]:
            self.section(section)

    def blocks(self, section: Section, table: dict[str, Any], dotted: tuple[str, ...] = ()) -> list[list[Section]]:
        """Give `section` the pairs of `table`; return the other sections in blocks, whose order is free."""
        blocks: list[list[Section]] = []
        for key, value in table.items():
            names = (*dotted, key)
            path, header = (*section.path, *names), (*section.names, *names)
            style = self.random.choice(["inline", "dotted", "headers"])
            if style == "dotted" and isinstance(value, dict) and value:
                blocks += self.blocks(section, value, names)
            elif style == "headers" and isinstance(value, dict):
                child = Section(path, header, 1)
                blocks += [[child], *self.blocks(child, value)]
            elif style == "headers" and is_array_of_tables(value):
                elements = [self.element((*path, i), header, item) for i, item in enumerate(value)]
                blocks.append([section for element in elements for section in element])
            else:
                section.pairs.append((names, value))
        return blocks

    def element(self, path: KeyPath, names: tuple[str, ...], table: dict[str, Any]) -> list[Section]:
        """Return the sections of one element of an array of tables."""
        element = Section(path, names, 2)
        blocks = self.blocks(element, table)
        self.random.shuffle(blocks)
        return [element, *(section for block in blocks for section in block)]

    def section(self, section: Section) -> None:
        """Write a header, if there is one, and the pairs under it."""
        self.blank_lines()
        if section.bracket:
            self.write("[" * section.bracket + self.blanks())
            self.note_to(section.path)
            self.lines[section.path] = self.line()
            self.write(self.key(section.names) + "]" * section.bracket)
            self.end_line()
        self.random.shuffle(section.pairs)
        for names, value in section.pairs:
            self.blank_lines()
            self.write(self.blanks())
            self.pair(section.path, names, value)
            self.end_line()

    def pair(self, path: KeyPath, names: tuple[str, ...], value: Node) -> None:
        """Write ``a.b = value``."""
        self.note_to((*path, *names), start=len(path) + 1)
        self.write(self.key(names) + "=" + self.blanks())
        self.value((*path, *names), value)

    def value(self, path: KeyPath, value: Node) -> None:
        """Write a scalar, an array or an inline table."""
        if isinstance(value, str):
            return self.write(value)
        opening, closing = "[]" if isinstance(value, list) else "{}"
        items = list(enumerate(value)) if isinstance(value, list) else self.inline_pairs(value)
        self.write(opening + self.gap())
        for place, (key, item) in enumerate(items):
            if place:
                self.write("," + self.gap())
            if isinstance(key, int):
                self.note_to((*path, key), start=len(path) + 1)
                self.value((*path, key), item)
            else:
                self.pair(path, key, item)
            self.write(self.gap())
        if items:
            self.write(self.random.choice(["", "," + self.gap()]))
        self.write(closing)
        return None

    def inline_pairs(self, table: dict[str, Any]) -> list[tuple[Any, Node]]:
        """Return the pairs of an inline table, some tables in it spread over dotted keys."""
        pairs: list[tuple[Any, Node]] = []
        for key, value in table.items():
            if isinstance(value, dict) and value and self.random.random() < 0.5:
                pairs += [((key, *names), item) for names, item in self.inline_pairs(value)]
            else:
                pairs.append(((key,), value))
        self.random.shuffle(pairs)
        return pairs

    def key(self, names: tuple[str, ...]) -> str:
        """Return a dotted key with blanks around its dots and behind it."""
        key = self.name(names[0])
        for name in names[1:]:
            key += self.blanks() + "." + self.blanks() + self.name(name)
        return key + self.blanks()

    def name(self, name: str) -> str:
        """Return one part of a key, bare or in quotes."""
        styles = ["basic"]
        if name and name.isascii() and name.replace("_", "a").replace("-", "a").isalnum():
            styles.append("bare")
        if "'" not in name and all(c == "\t" or c.isprintable() for c in name):
            styles.append("literal")
        spellings = {"bare": name, "literal": f"'{name}'", "basic": f'"{"".join(map(self.escaped, name))}"'}
        return spellings[self.random.choice(styles)]

    def escaped(self, character: str) -> str:
        """Return a character as it may stand in a basic string."""
        code = ord(character)
        spellings = [f"\\U{code:08x}"]
        if code < 0x10000:
            spellings.append(f"\\u{code:04X}")
        if character in '"\\':
            spellings.append("\\" + character)
        elif character.isprintable():
            spellings.append(character)
        return self.random.choice(spellings)

    def note_to(self, path: KeyPath, start: int = 1) -> None:
        """Note the current line for the prefixes of `path` not written before, from length `start` on."""
        for length in range(start, len(path) + 1):
            self.lines.setdefault(path[:length], self.line())

    def write(self, text: str) -> None:
        self.text += text

    def line(self) -> int:
        return self.text.count("\n") + 1

    def blanks(self) -> str:
        return self.random.choice(["", " ", "\t "])

    def comment(self) -> str:
        return self.random.choice(["", '# [no] \' """ { = 1', "#"])

    def gap(self) -> str:
        return self.random.choice(["", " ", self.comment() + "\n", "\n\n " + self.comment() + "\n\t"])

    def blank_lines(self) -> None:
        self.write(self.random.choice(["", "", "\n", " \n" + self.comment() + "\n"]))

    def end_line(self) -> None:
        self.write(self.blanks() + self.comment() + "\n")


def written(document: dict[str, Any], random: Random) -> Writer:
    """Write `document`, now and then without the last line end or with Windows line ends."""
    writer = Writer(random)
    writer.document(document)
    writer.text = writer.text[:-1] if random.random() < 0.2 else writer.text
    writer.text = writer.text.replace("\n", "\r\n") if random.random() < 0.2 else writer.text
    return writer
