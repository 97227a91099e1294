"""The scanner finds the paths that `tomli` parses, on the lines where they were written."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from kempeframe.lines import KeyPath, key_lines, line_of

unhurried = settings(deadline=None, max_examples=250)


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
    return contents.map(
        lambda content: quote + content.replace(quote, broken_quote.get(quote, quote)) + quote
    )


KEYS = st.one_of(
    st.sampled_from(
        ["a", "b", "c", "data.n_train", "", "1", "-_", "a b", 'q"', "it's", "#", "[x]", "=", "\\", "\n"]
    ),
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

    def blocks(
        self, section: Section, table: dict[str, Any], dotted: tuple[str, ...] = ()
    ) -> list[list[Section]]:
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


@unhurried
@given(tables(NODES), st.randoms(use_true_random=False))
def test_every_parsed_path_has_the_line_where_it_was_written(
    document: dict[str, Any], random: Random
) -> None:
    writer = written(document, random)
    lines = key_lines(writer.text)
    assert set(lines) == parsed_paths(tomli.loads(writer.text))
    assert lines == writer.lines


@unhurried
@given(tables(NODES), st.randoms(use_true_random=False), st.floats(0, 1))
def test_a_document_cut_short_keeps_the_paths_before_the_cut(
    document: dict[str, Any], random: Random, share: float
) -> None:
    text = written(document, random).text.replace("\r\n", "\n")
    whole = key_lines(text)
    cut = text[: int(share * len(text))]
    last_line = cut.count("\n") + 1
    assert {path for path, line in whole.items() if line < last_line} <= set(key_lines(cut)) <= set(whole)


TOKENS = st.sampled_from(
    [*"[]{}=,.#\"'\\\n\r\t a1", '"""', "'''", "[[", "]]", "\r\n", "a = ", "\\u", "\\UFFFFFFFF", "\ud800"]
)


@unhurried
@given(st.one_of(st.text(), st.lists(TOKENS, max_size=40).map("".join)))
def test_any_text_gives_lines_within_it(text: str) -> None:
    lines = key_lines(text)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())
    assert all(path[:-1] in lines for path in lines if len(path) > 1)


SHORT_KEYS = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(".".join)
STATEMENTS = st.tuples(st.sampled_from(["[{}]", "[[{}]]", "{} = 1", "{} = {{b.a = [{{}}]}}"]), SHORT_KEYS)


@unhurried
@given(
    st.lists(STATEMENTS.map(lambda statement: statement[0].format(statement[1])), max_size=6).map("\n".join)
)
def test_however_tables_extend_each_other_all_paths_are_found(text: str) -> None:
    try:
        document = tomli.loads(text)
    except tomli.TOMLDecodeError:
        return
    assert set(key_lines(text)) == parsed_paths(document)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a = " + "{a=" * 50_000,
        "a = [" + "]" * 100_000,
        "a." * 50_000 + "a = 1",
        "[" + "a." * 50_000 + "a]",
        "[[a]]\n" * 20_000,
        'a = "' + "\\" * 100_000,
        '"' + "\\n" * 50_000 + '" = 1',
        "a = '''" + "'" * 100_000,
        "a = [" + "#\n" * 50_000,
        "a = [" + "1," * 50_000,
        "\n" * 100_000 + "[",
    ],
    ids=lambda text: text[:12],
)
def test_long_and_deep_text_takes_no_long_time(text: str) -> None:
    start = time.process_time()
    key_lines(text)
    assert time.process_time() - start < 2


def test_a_path_deeper_than_any_spec_stands_with_its_ancestor() -> None:
    lines = key_lines("a = " + "[\n" * 300 + "]" * 300 + "\nb = 1")
    path: KeyPath = ("a", *[0] * 299)
    assert line_of(lines, path) == 200
    assert lines["b",] == 302


EXAMPLE = """\
# A spec with one of everything.
title = "[not.a.table] # nor a comment"

[data . "n.train"]  # quoted keys are one key
"data.n_train" = [
    10,  # ten
    [20,
     30],
]
text = '''
[neither] = "this" ''''
optimizer.name.short = 1979-05-27 07:32:00
optimizer.rate = 0.1

[[attack]]
kind = { name = "fgsm", steps = [
    { size = 1 },
    { size = 2, tags = ["a", 'b#'] },
] }

[[attack]]
[attack.norm]
"p\\u002eq" = inf

[data]
seed = 1
"""

EXAMPLE_LINES = {
    ("title",): 2,
    ("data", "n.train"): 4,
    ("data", "n.train", "data.n_train"): 5,
    ("data", "n.train", "data.n_train", 0): 6,
    ("data", "n.train", "data.n_train", 1): 7,
    ("data", "n.train", "data.n_train", 1, 0): 7,
    ("data", "n.train", "data.n_train", 1, 1): 8,
    ("data", "n.train", "text"): 10,
    ("data", "n.train", "optimizer"): 12,
    ("data", "n.train", "optimizer", "name"): 12,
    ("data", "n.train", "optimizer", "name", "short"): 12,
    ("data", "n.train", "optimizer", "rate"): 13,
    ("attack",): 15,
    ("attack", 0): 15,
    ("attack", 0, "kind"): 16,
    ("attack", 0, "kind", "name"): 16,
    ("attack", 0, "kind", "steps"): 16,
    ("attack", 0, "kind", "steps", 0): 17,
    ("attack", 0, "kind", "steps", 0, "size"): 17,
    ("attack", 0, "kind", "steps", 1): 18,
    ("attack", 0, "kind", "steps", 1, "size"): 18,
    ("attack", 0, "kind", "steps", 1, "tags"): 18,
    ("attack", 0, "kind", "steps", 1, "tags", 0): 18,
    ("attack", 0, "kind", "steps", 1, "tags", 1): 18,
    ("attack", 1): 21,
    ("attack", 1, "norm"): 22,
    ("attack", 1, "norm", "p.q"): 23,
    ("data",): 25,
    ("data", "seed"): 26,
}


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_example(line_end: str) -> None:
    text = EXAMPLE.replace("\n", line_end)
    assert key_lines(text) == EXAMPLE_LINES
    assert set(EXAMPLE_LINES) == parsed_paths(tomli.loads(text))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", {}),
        ("# only a comment", {}),
        ("a = 1\nb", {("a",): 1}),
        ("a = 1\n[b\nc = 2", {("a",): 1}),
        ("a = [1,", {("a",): 1, ("a", 0): 1}),
        ('a = "open\nb = 2', {("a",): 1}),
        ('"\\q" = 1', {}),
        ('"\\uD83D" = 1\n"\\UFFFFFFFF" = 2', {("\ud83d",): 1}),
        ('"\\b\\t\\n\\f\\r\\e\\"\\\\\\x41\\u0041" = 1', {('\b\t\n\f\r\x1b"\\AA',): 1}),
        ("a.b = 1\na.c = 2", {("a",): 1, ("a", "b"): 1, ("a", "c"): 2}),
        ("[a.b]\n[a.c]\n[a]", {("a",): 3, ("a", "b"): 1, ("a", "c"): 2}),
        ("\n'' = ''\n\"\" . x = 1", {("",): 2, ("", "x"): 3}),
    ],
)
def test_small_texts(text: str, lines: dict[KeyPath, int]) -> None:
    assert key_lines(text) == lines


def test_line_of_an_unknown_path_is_that_of_its_longest_known_prefix() -> None:
    lines = key_lines("\n[a]\nb = [\n1]")
    assert line_of(lines, ("a", "b", 0)) == 4
    assert line_of(lines, ("a", "b", 7, "c")) == 3
    assert line_of(lines, ("a", "missing")) == 2
    assert line_of(lines, ["missing"]) == 1
    assert line_of(lines, ()) == 1
