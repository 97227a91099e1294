"""The run that the tests of the report show, and its page as they read it."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from kempeframe.report import read_runs, render

PLUGIN = Path(__file__).parent / "toy_plugin.py"
HOSTILE = "</script><script>alert(1)</script> & <b>\"bold\"</b> 'x' <img src=x onerror=alert(2)>"
SPEC = """
title = {title}
paper = "arXiv:2410.04840"
description = "What is <i>compared</i>."
seeds = 6
plugins = ["toy_plugin.py"]
data = {{ use = "toy_plugin.numbers" }}
model = {{ use = "toy_plugin.scalar" }}
optimizer = {{ use = "toy_plugin.copy" }}
evaluator = [{{ use = "toy_plugin.weight" }}, {{ use = "toy_plugin.prediction" }}]

[sweep]
"data.shift" = [0.0, 1.0, 2.0]
"optimizer.fail" = [false, true]

[[figure]]
name = "weights"
title = "Weights <b>and</b> shifts"
x = "data.shift"
y = "weight.weight"

[[claim]]
statement = "weights lie above </script> three"
source = "Section <4>"
threshold = {{ of = "weight.weight", where = {{ "optimizer.fail" = false }} }}
above = 3.0
expect = "fails"

[[claim]]
statement = "shifts of two are larger than none"
[claim.order]
of = "weight.weight"
lower = {{ "data.shift" = 0.0 }}
higher = {{ "data.shift" = 2.0 }}
where = {{ "optimizer.fail" = false }}

[[claim]]
statement = "what failed decides nothing"
threshold = {{ of = "weight.weight" }}
above = 0.0
"""


class Page(HTMLParser):
    """The elements of a page, its text, and its scripts."""

    VOID = ("meta", "link", "img", "input", "br")

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def data(self) -> list[Any]:
        return [json.loads(text) for attributes, text in self.scripts if attributes.get("type") == "application/json"]


def page_of(*folders: Path) -> Page:
    page = Page(render(read_runs(folders)))
    assert page.open == []
    return page


def decoded(column: dict[str, Any]) -> list[Any]:
    """What the page's script makes of a column."""
    named = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    values = column["values"] if "values" in column else [column["distinct"][code] for code in column["codes"]]
    return [named.get(v, v) if column["type"] == "number" and isinstance(v, str) else v for v in values]


def same(first: Any, second: Any) -> bool:
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second or (first != first and second != second))
