"""Plugins: found, loaded when named, and checked; the core imports none of them."""

from __future__ import annotations

from pathlib import Path

import pytest

import kempeframe
from kempeframe.components import KINDS
from kempeframe.registry import BrokenPlugin, Registry, UnknownName, plugin_of

CORE = Path(kempeframe.__file__).parent
EXAMPLE = Path(__file__).parent / "example_plugin.py"
HEAD = "from kempeframe import Data, Evaluator, Model, component, field, hookimpl\n"


def test_a_file_is_a_plugin_of_its_own_name() -> None:
    registry = Registry()
    plugin = registry.load_file(EXAMPLE)
    assert (plugin.name, plugin.editable, plugin.root) == ("example_plugin", True, EXAMPLE)
    assert registry.load_file(EXAMPLE) is plugin
    assert registry.names("model") == ["example_plugin.plain", "example_plugin.wide"]
    cls = registry.find("model", "example_plugin.wide")
    assert plugin_of(cls) == plugin
    assert {c.kind for c in registry.components["example_plugin"].values()} == set(KINDS)


def test_files_of_one_name_in_two_folders_are_two_plugins(tmp_path: Path) -> None:
    classes = []
    for folder in ("a", "b"):
        path = tmp_path / folder / "mine.py"
        path.parent.mkdir()
        path.write_text(
            HEAD + f"@component\nclass Thing(Data):\n    {folder}: int = field(1, 'a number')\n" + hook("Thing")
        )
        registry = Registry()
        registry.load_file(path)
        classes.append(registry.find("data", "mine.thing"))
    plugins = [plugin_of(cls) for cls in classes]
    assert [p and p.root.parent.name for p in plugins] == ["a", "b"]
    assert classes[0]().digest != classes[1]().digest


def hook(returned: str, kind: str = "data") -> str:
    return f"@hookimpl\ndef kempeframe_{kind}():\n    return [{returned}]\n"


MEASURE = "@component\nclass Measure(Evaluator):\n    'A measure.'\n    needs = 'networks'\n"
THING = "@component\nclass Thing(Data):\n    'A thing.'\n"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def broken(:\n", r"SyntaxError: .*mine.py, line 2"),
        ("raise RuntimeError('no')\n", r"can't be imported: RuntimeError: no \(mine.py:2\)"),
        ("raise SystemExit(3)\n", r"can't be imported: SystemExit: 3 \(mine.py:2\)"),
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("class Thing(Data):\n    pass\n" + hook("Thing"), "Thing lacks the @component decorator"),
        (THING + "class Other(Thing):\n    more: int = 3\n" + hook("Other"), "Other lacks the @component decorator"),
        (THING + hook("Thing", "model"), "kempeframe_model returned .*Thing.*, expected Model classes"),
        (THING + hook("Thing()"), "kempeframe_data returned Thing.*, expected Data classes"),
        (THING + hook("3"), "kempeframe_data returned 3, expected Data classes"),
        (THING + hook("Thing, Thing"), "two components called 'thing'"),
        (THING + hook("Thing").replace("data", "dta"), "unknown hook 'kempeframe_dta'"),
        (THING + hook("Thing").replace("()", "(nonsense)"), "can't be registered"),
        (THING + hook("Thing").replace("[Thing]", "None"), "can't be registered: TypeError"),
        (THING + hook("Thing").replace("[Thing]", "1 / 0"), "can't be registered: ZeroDivisionError"),
        (THING + hook("Thing").replace("return [Thing]", "raise SystemExit(0)"), "can't be registered: SystemExit: 0"),
        (THING.replace("@component", "import attrs\n@attrs.define") + hook("Thing"), "Thing lacks the @component"),
        (MEASURE.replace("networks", "network") + hook("Measure", "model"), "kempeframe_model returned .*Measure"),
        (MEASURE + hook("Measure", "evaluator"), r"Measure needs 'networks', which .* did you mean 'network'\?"),
        ("class Odd(BaseException):\n    def __str__(self):\n        1 / 0\nraise Odd\n", "can't be imported: Odd"),
        (
            "from __future__ import annotations\n" + HEAD + THING.replace(
                "'A thing.'", "x: Missing = 1"
            ) + hook("Thing"),
            "a field type of Thing is unknown: name 'Missing' is not defined",
        ),
    ],
)
def test_a_broken_plugin_says_what_is_wrong(tmp_path: Path, code: str, message: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(code if code.startswith("from __future__") else HEAD + code)
    registry = Registry()
    with pytest.raises(BrokenPlugin, match=message):
        registry.load_file(path)
    with pytest.raises(BrokenPlugin, match=message):
        registry.find("data", "mine.thing")


@pytest.mark.parametrize(
    ("name", "error"),
    [("none.py", UnknownName), (".", UnknownName), ("a\0b.py", UnknownName), ("x" * 5000, UnknownName)],
)
def test_what_is_no_file_is_no_plugin(tmp_path: Path, name: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="no such plugin file"):
        Registry().load_file(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("standard.py", "another plugin is called 'standard'; rename the file"),
        ("my.idea.py", "can't have a dot"),
        ("data.txt", "no Python file"),
    ],
)
def test_names_that_no_plugin_file_may_have(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_text(HEAD)
    with pytest.raises(BrokenPlugin, match=message):
        Registry().load_file(tmp_path / name)


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (
            "model",
            "example_plugin.wid",
            "unknown model component 'example_plugin.wid'; did you mean 'example_plugin.wide'",
        ),
        ("model", "example_plugin.toy", "example_plugin.toy is of kind data, expected model"),
        ("model", "wide", "expected PLUGIN.COMPONENT, got 'wide'; did you mean 'example_plugin.wide'"),
        ("model", "exmple_plugin.wide", "unknown plugin 'exmple_plugin'; did you mean 'example_plugin'"),
        ("model", "standrd.linear", "unknown plugin 'standrd'; did you mean 'standard'"),
        ("model", "", "expected PLUGIN.COMPONENT, got ''"),
    ],
)
def test_unknown_names_are_told_the_nearest(kind: str, name: str, message: str) -> None:
    registry = Registry()
    registry.load_file(EXAMPLE)
    with pytest.raises(UnknownName, match=message):
        registry.find(kind, name)
