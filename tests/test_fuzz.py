"""Whatever a spec file holds and whatever is set: load_spec returns a spec or says what is wrong, nothing else.

`HYPOTHESIS_PROFILE=slow pytest tests/test_fuzz.py` tries many more.
"""

from __future__ import annotations

import copy
import datetime
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tomli
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from kempeframe.problems import SpecError
from kempeframe.spec import Spec, load_spec
from tests.test_information import SOUND
from tests.test_spec import BASE, CLAIMS

SPECS = Path(__file__).parent.parent / "specs"
EXAMPLE = Path(__file__).parent / "example_plugin.py"
RICH = """
title = "everything"
seeds = 2
plugins = ["example_plugin.py"]
[data]
use = "example_plugin.staged"
teacher = "round"
probe = { use = "example_plugin.wide", width = 3 }
score = { use = "example_plugin.theory", order = 1 }
[model]
use = "example_plugin.wide"
[optimizer]
use = "example_plugin.step"
rate = 0.5
schedule = [1, 2]
[attack]
use = "example_plugin.push"
[[evaluator]]
use = "example_plugin.error"
[[evaluator]]
name = "predicted"
use = "example_plugin.theory"
[fit.base]
seed = 3
data = { use = "example_plugin.toy", box = [0, 1], shift = 2, limit = inf }
model = { use = "example_plugin.plain" }
optimizer = { use = "example_plugin.step" }
[fit.round]
rounds = 2
first = "base"
data = { use = "example_plugin.staged", teacher = "round.previous" }
model = { use = "example_plugin.plain" }
optimizer = { use = "example_plugin.step" }
[sweep]
"data.size" = [1, 2]
"optimizer.rate" = { geometric = [0.1, 1], points = 3 }
"model.width, optimizer.steps" = [[1, 2], [3, 4]]
"fit.base.data.noise" = [0.1]
[sweep.setting]
weak = { "attack.epsilon" = 0.1 }
strong = { attack.epsilon = 0.5 }
[columns]
work = "optimizer.steps * data.size"
ratio = "risk / work"
[[figure]]
name = "f"
x = "work"
y = "risk"
hue = "setting"
theory = "predicted.risk"
where = { "data.size" = { between = [1, 2] } }
[[claim]]
statement = "slope"
slope = { of = "risk", against = "data.size", where = { setting = "weak" } }
below = 0
[[claim]]
statement = "agreement"
agreement = { of = "risk", theory = "predicted.risk", absolute = 0.1 }
[smoke]
seeds = 1
"sweep.data.size" = [1]
"""
CLAIMED = f"""{BASE}
[[evaluator]]
use = "example_plugin.theory"
[columns]
double = "2 * error.loss"
[sweep]
"data.size" = [10, 20]
"data.noise" = [0, 0.5]
{CLAIMS}"""
DOCUMENTS = [tomli.loads(text) for text in (RICH, SOUND, CLAIMED, (SPECS / "strong_collapse.toml").read_text())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fuzz")
    shutil.copy(EXAMPLE, path / "example_plugin.py")
    return path


def loaded(folder: Path, content: bytes, overrides: Sequence[str] = (), smoke: bool = False) -> Spec | SpecError:
    """What load_spec makes of it. Anything but a spec or its problems fails the test."""
    path = folder / "spec.toml"
    path.write_bytes(content)
    try:
        return load_spec(path, overrides, smoke=smoke)
    except SpecError as error:
        refusal = error
    assert refusal.problems
    for problem in refusal.problems:
        assert problem.message
        assert problem.place.startswith((str(path), "--set"))
        place, message = str(problem).split("\n")
        assert place.isprintable()
        assert message.isprintable()
    return refusal


def test_the_documents_that_are_changed_are_sound(folder: Path) -> None:
    assert isinstance(loaded(folder, RICH.encode()), Spec)
    assert isinstance(loaded(folder, CLAIMED.encode()), Spec)
    assert isinstance(loaded(folder, RICH.encode(), smoke=True), Spec)


WORDS = sorted(
    {word for document in DOCUMENTS for word in str(document).replace("'", " ").split() if word.isidentifier()}
    | {
        "use",
        "between",
        "round.previous",
        "round.1",
        "base",
        "data",
        "fit.base",
        "evaluator.predicted.order",
        "data.use",
    }
)
TEXTS = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(["example_plugin.toy", "example_plugin.theory", "standard.ridge", "", ".", "a.b", "data.", ","]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)
NUMBERS = st.one_of(
    st.integers(-2, 4),
    st.sampled_from([2**63 - 1, -(2**63), 2**63, 10**30, math.inf, -math.inf, math.nan, 0.5, 1e300, -0.0, 1e3]),
)
SCALARS = st.one_of(
    TEXTS, NUMBERS, st.booleans(), st.sampled_from([datetime.date(2020, 1, 1), datetime.time(1, 2)])
)
VALUES = st.recursive(
    SCALARS, lambda v: st.one_of(st.lists(v, max_size=3), st.dictionaries(TEXTS, v, max_size=3)), max_leaves=6
)


def paths(node: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All places in a document but its root."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield (*here, key)
        yield from paths(value, (*here, key))


def at(node: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A sound document after a few changes: keys left out, renamed, added, values replaced, wrapped, moved."""
    document: dict[str, Any] = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 4))):
        places = list(paths(document))
        if not places:
            break
        path = draw(st.sampled_from(places))
        parent, key = at(document, path[:-1]), path[-1]
        action = draw(st.sampled_from(["drop", "rename", "replace", "wrap", "unwrap", "insert", "move"]))
        value = parent[key]
        if action == "replace":
            parent[key] = draw(VALUES)
        elif action == "wrap":
            parent[key] = draw(st.sampled_from([[value], {"a": value}, [value, value], str(value)]))
        elif action == "unwrap" and isinstance(value, (list, dict)) and value:
            parent[key] = next(iter(value.values())) if isinstance(value, dict) else value[0]
        elif action == "move":
            parent[key] = copy.deepcopy(at(document, draw(st.sampled_from(places))))
        elif action == "insert" and isinstance(value, dict):
            value[draw(TEXTS)] = draw(VALUES)
        elif action == "insert" and isinstance(value, list):
            value.append(draw(VALUES))
        else:
            del parent[key]
            if action == "rename" and isinstance(parent, dict):
                parent[draw(TEXTS)] = value
    return document


@given(mutated(), st.booleans())
def test_changed_specs(folder: Path, document: dict[str, Any], smoke: bool) -> None:
    loaded(folder, tomli_w.dumps(document).encode(), smoke=smoke)


@given(st.dictionaries(TEXTS, VALUES, max_size=6))
def test_random_documents(folder: Path, document: dict[str, Any]) -> None:
    loaded(folder, tomli_w.dumps(document).encode())


SNIPPETS = st.sampled_from(
    [*RICH.splitlines(keepends=True), "[[", "]", "{", "}", '"', "'''", "\\", "\x00", "\r", "=", "é"]
)


@given(st.one_of(st.binary(max_size=60), st.lists(SNIPPETS, max_size=30).map(lambda parts: "".join(parts).encode())))
def test_random_bytes(folder: Path, content: bytes) -> None:
    loaded(folder, content)


@given(st.data(), st.integers(0, len(RICH)), st.integers(0, 20))
def test_a_file_cut_and_glued(folder: Path, data: st.DataObject, cut: int, length: int) -> None:
    loaded(folder, (RICH[:cut] + data.draw(TEXTS) + RICH[cut + length :]).encode())


KEYS = st.one_of(
    TEXTS,
    st.lists(TEXTS, min_size=1, max_size=4).map(".".join),
    st.sampled_from(
        [".".join(str(part) for part in path) for document in DOCUMENTS for path in paths(document)]
        + ["a." * 2000 + "a", "data." * 60 + "a", '"', "data.\n", "sweep.data.size", "[data]", "smoke", "title"]
    ),
)
LITERALS = st.one_of(
    st.text(max_size=8),
    VALUES.map(lambda value: tomli_w.dumps({"v": value}).partition("=")[2].strip()),
    st.sampled_from(["[" * 3000, "{a=" * 300 + "1" + "}" * 300, "9" * 5000, "1\nx = 2", "'''", "0x" + "f" * 5000]),
)


@given(st.lists(st.one_of(st.text(max_size=10), st.tuples(KEYS, LITERALS).map("=".join)), max_size=3), st.booleans())
def test_random_overrides(folder: Path, overrides: list[str], smoke: bool) -> None:
    loaded(folder, RICH.encode(), overrides, smoke)
