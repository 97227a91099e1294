"""`list`, `show`, `schema`, `--version` and the help: what a stranger sees first."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import tomli

import kempeframe
from kempeframe.cli import main
from kempeframe.fieldtypes import type_text
from kempeframe.registry import Registry, installed
from kempeframe.schema import spec_schema
from kempeframe.structure import spec_fields

SPECS = Path(__file__).parent.parent / "specs"
EXAMPLE = Path(__file__).parent / "example_plugin.py"


def loaded() -> Registry:
    registry = Registry()
    for name in sorted(installed()):
        registry.load(name)
    return registry


def test_list_names_every_plugin_and_component(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for name in (*installed(), *loaded().names()):
        assert name in out


def test_list_of_one_plugin(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "standard"]) == 0
    out = capsys.readouterr().out
    assert "standard.ridge" in out
    assert "strong_collapse" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "standrd"], "unknown plugin 'standrd'; did you mean 'standard'?"),
        (["show", "standard.rige"], "unknown component 'standard.rige'; did you mean 'standard.ridge'?"),
        (["show", "standrd.ridge"], "unknown plugin 'standrd'; did you mean 'standard'?"),
        (["show", "ridge"], "expected PLUGIN.COMPONENT, got 'ridge'; did you mean 'standard.ridge'?"),
        (["show", "standard"], "unknown component 'standard'; did you mean 'standard."),
        (["show", ""], "expected PLUGIN.COMPONENT, got ''"),
        (["show", ".ridge"], "unknown plugin ''"),
    ],
)
def test_unknown_names_exit_with_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", loaded().names())
def test_show_prints_every_field_with_type_default_and_documentation(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", name]) == 0
    out = capsys.readouterr().out
    plugin, _, component = name.partition(".")
    cls = loaded().components[plugin][component]
    assert cls.__doc__ is not None
    assert cls.__doc__.splitlines()[0] in out
    assert f"{cls.kind}, version {cls.version}" in out
    assert f"source {Path(__import__(cls.__module__).__file__ or '').parent}" in out
    for key, attribute in spec_fields(cls).items():
        fields = out.partition("\nneeds ")[0]  # a column may be called as a field is
        (line,) = [line for line in fields.splitlines() if line.startswith(f"  {key}: ")]
        assert type_text(attribute.type) in line
        assert ("default" in line) != ("required" in line)
        assert attribute.metadata["doc"] in out


def test_show_prints_ranges_and_columns(capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", "standard.ridge"])
    assert "penalty: a number >= 0, default 0.001" in capsys.readouterr().out
    main(["show", "strong_collapse.theory"])
    out = capsys.readouterr().out
    assert "needs components" in out
    assert "test_error: bias + variance + collapse" in out


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int, "a whole number"),
        (bool | None, "true or false"),
        (int | str, "a whole number or a string"),
        (tuple[float, ...], "a list of numbers"),
        (tuple[float, float], "a list of 2 numbers"),
        (tuple[int, str], "[a whole number, a string]"),
        (list[bool], "a list of booleans"),
        (dict[str, Any], "a table"),
        (kempeframe.Model, 'a table with use = "PLUGIN.COMPONENT", of kind model'),
    ],
)
def test_types_in_words(kind: Any, text: str) -> None:
    assert type_text(kind) == text


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"kempeframe {kempeframe.__version__}\n"


@pytest.mark.parametrize("command", [[], ["run"], ["check"], ["list"], ["show"], ["schema"]])
def test_help_has_examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert f"examples:\n  kempeframe {' '.join(command)}".rstrip() in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["rn"], "invalid choice: 'rn'"),
        (["run"], "required: SPEC"),
        (["run", "x.toml", "--seed", "3"], "unrecognized arguments: --seed 3"),
        (["run", "x.toml", "--seeds", "two"], "invalid int value: 'two'"),
        (["run", "x.toml", "--time-limit", "soon"], "expected a number of seconds above 0, got 'soon'"),
        (["run", "x.toml", "--time-limit", "nan"], "expected a number of seconds above 0, got 'nan'"),
        (["run", "x.toml", "--out", str(EXAMPLE)], "is a file, expected a folder"),
        (["run", "x.toml", "--out", str(EXAMPLE / "below")], "is a file, expected a folder"),
        (["run", "x.toml", "--store", str(EXAMPLE)], "is a file, expected a folder"),
        (["run", "x.toml", "--out", "x" * 5000], "can't be a folder"),
    ],
)
def test_wrong_arguments_exit_with_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


# The schema


@pytest.fixture(scope="module")
def validator() -> Any:
    registry = loaded()
    registry.load_file(EXAMPLE)
    schema = spec_schema(registry)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_schema_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "kempeframe spec"


@pytest.mark.parametrize("path", sorted(SPECS.rglob("*.toml")), ids=lambda p: p.stem)
def test_every_shipped_spec_validates(validator: Any, path: Path) -> None:
    validator.validate(tomli.loads(path.read_text(encoding="utf-8")))


SOUND = """
title = "t"
seeds = { first = 1, count = 3 }
plugins = ["other.py"]
[data]
use = "example_plugin.staged"
teacher = "base"
probe = { use = "example_plugin.wide", width = 3.0 }
[model]
use = "other.unknown_here"
anything = 3
[optimizer]
use = "example_plugin.step"
rate = 0.1
schedule = [1, 2]
[attack]
use = "example_plugin.push"
[[evaluator]]
use = "example_plugin.theory"
name = "x"
order = 3
[fit.base]
rounds = 2
data = { use = "example_plugin.toy", limit = inf, shift = 3, box = [0, 1], weights = [1, 2] }
[sweep]
"data.size" = [1, 2]
"optimizer.rate" = { geometric = [0.1, 1], points = 3 }
"variant" = { a = { model.use = "other.x" }, b = {} }
[columns]
c = "a + b"
[[figure]]
name = "f"
x = "data.size"
y = "risk"
scale = "log-log"
[[claim]]
statement = "s"
slope = { of = "risk", against = "data.size", where = { "data.size" = { between = [1, 2] } } }
below = 0
[smoke]
seeds = 1
"""


def test_everything_that_a_spec_may_hold_validates(validator: Any) -> None:
    validator.validate(tomli.loads(SOUND))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("titel",), "x"),
        (("seeds",), 0),
        (("seeds",), "many"),
        (("seeds", "last"), 3),
        (("plugins",), "other.py"),
        (("data", "sise"), 3),
        (("data", "size"), "three"),
        (("data", "size"), 2.5),
        (("data", "size"), 0),
        (("data", "teacher"), 3),
        (("data", "probe", "width"), 0),
        (("data", "use"), "example_plugin.step"),
        (("data", "use"), "standard.digts"),
        (("optimizer", "rate"), 10),
        (("optimizer", "rate"), 0),
        (("optimizer", "schedule"), [1, -1]),
        (("optimizer", "schedule"), 3),
        (("evaluator",), []),
        (("evaluator", 0, "order"), "x"),
        (("fit", "base", "rounds"), 0),
        (("fit", "base", "stream"), "x"),
        (("fit", "base", "data", "shape"), "oval"),
        (("fit", "base", "data", "box"), [0, 1, 2]),
        (("fit", "base", "data", "shift"), "some"),
        (("sweep", "data.size"), []),
        (("sweep", "data.size"), 3),
        (("sweep", "optimizer.rate", "pionts"), 3),
        (("columns", "c"), 3),
        (("figure", 0, "scale"), "loglog"),
        (("figure", 0, "name"), None),
        (("claim", 0, "slop"), {}),
        (("claim", 0, "slope", "of"), 3),
        (("claim", 0, "expect"), "maybe"),
    ],
)
def test_a_broken_spec_does_not_validate(validator: Any, path: tuple[Any, ...], value: Any) -> None:
    spec = copy.deepcopy(tomli.loads(SOUND))
    table = spec
    for key in path[:-1]:
        table = table[key]
    if value is None:
        del table[path[-1]]
    else:
        table[path[-1]] = value
    assert not validator.is_valid(spec)
