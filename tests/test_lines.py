"""The scanner finds the paths that `tomli` parses, on the lines where they were written."""

from __future__ import annotations

import time
from random import Random
from typing import Any

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from kempeframe.lines import KeyPath, key_lines, line_of
from tests.toml_documents import NODES, parsed_paths, tables, written

unhurried = settings(deadline=None, max_examples=250)


@unhurried
@given(tables(NODES), st.randoms(use_true_random=False))
def test_every_parsed_path_has_the_line_where_it_was_written(document: dict[str, Any], random: Random) -> None:
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
@given(st.lists(STATEMENTS.map(lambda statement: statement[0].format(statement[1])), max_size=6).map("\n".join))
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
