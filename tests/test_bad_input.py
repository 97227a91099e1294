"""Bad input in a spec: all problems of a file in one message, with line, key, what was expected, the nearest name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kempeframe.spec import load_spec
from tests.bad_specs import BASE, LAST, SIZE, added, assert_holds, assert_refused, changed, refused

CASES: dict[str, tuple[str, list[str]]] = {
    # name: (spec, what the message holds; "LINE KEY | MESSAGE" for a problem)
    "unknown top-level key": ("sweeps = 1\n" + BASE, ["1 sweeps | unknown key 'sweeps'; did you mean 'sweep'?"]),
    "unknown table": (
        added("[optimiser]\nx = 1"),
        [f"{LAST + 1} optimiser | unknown key 'optimiser'; did you mean 'optimizer'?"],
    ),
    "unknown key": (changed(SIZE, "sise = 20"), ["5 data.sise | unknown key 'sise'; did you mean 'size'?"]),
    "odd key": (changed(SIZE, '"a.b\\n\\"é" = 20'), ['5 data."a.b\\n\\"é" | unknown key', "known: balanced, box"]),
    "unknown component": (
        changed("plugin.toy", "plugin.tyo"),
        ["4 data.use | unknown data component 'example_plugin.tyo'; did you mean 'example_plugin.toy'?"],
    ),
    "unknown plugin": (
        changed("plugin.toy", "pulgin.toy"),
        ["4 data.use | unknown plugin 'example_pulgin'; did you mean 'example_plugin'?"],
    ),
    "no plugin": (
        changed("example_plugin.toy", "toy"),
        ["4 data.use | expected PLUGIN.COMPONENT, got 'toy'; did you mean 'example_plugin.toy'?"],
    ),
    "wrong kind": (
        changed("plugin.toy", "plugin.wide"),
        ["4 data.use | example_plugin.wide is of kind model, expected data"],
    ),
    "use is no string": (changed('"example_plugin.toy"', "3"), ["4 data.use | expected use", "got 3"]),
    "use is missing": (
        changed('use = "example_plugin.toy"', ""),
        ['3 data.use | expected use = "PLUGIN.COMPONENT", the name of a data component'],
    ),
    "wrong type": (changed(SIZE, 'size = "20"'), ["5 data.size | expected a whole number, got '20'"]),
    "no whole number": (changed(SIZE, "size = 2.5"), ["5 data.size | expected a whole number, got 2.5"]),
    "boolean for a number": (changed(SIZE, "size = true"), ["5 data.size | expected a whole number, got true"]),
    "number for a boolean": (changed(SIZE, "balanced = 1"), ["5 data.balanced | expected true or false, got 1"]),
    "number for a string": (changed(SIZE, "label = 1"), ["5 data.label | expected a string, got 1"]),
    "infinity for a whole number": (changed(SIZE, "size = inf"), ["5 data.size | expected a whole number, got inf"]),
    "not a number": (changed(SIZE, "limit = nan"), ["5 data.limit | expected a number, got nan"]),
    "a date": (
        changed(SIZE, "label = 1979-05-27"),
        ['5 data.label | expected no date or time; as text it needs quotes: "1979-05-27"'],
    ),
    "a time": (changed(SIZE, "label = 07:32:00"), ["5 data.label | expected no date or time"]),
    "too large a number": (
        changed(SIZE, "size = 9223372036854775808"),
        ["5 data.size | expected a whole number of 64 bits"],
    ),
    "far too large a number": (
        changed(SIZE, "size = 0x" + "f" * 9000),
        ["5 data.size | expected a whole number of 64 bits"],
    ),
    "a number that Python refuses": (
        changed(SIZE, "size = " + "9" * 9000),
        ["5  | is no valid TOML: an integer is too large"],
    ),
    "out of range": (
        changed(SIZE, "size = 0"),
        ["5 data.size | 0 is out of range: expected a whole number >= 1 and <= 1000"],
    ),
    "out of an open range": (
        added("[smoke]\noptimizer.rate = 0"),
        [f"{LAST + 2} optimizer.rate | 0 is out of range: expected a number > 0 and < 10"],
    ),
    "out of range in a list": (
        changed(SIZE, "weights = [\n1,\n-1,\n]"),
        ["7 data.weights[1] | -1 is out of range: expected a number >= 0"],
    ),
    "wrong type in a list": (changed(SIZE, 'weights = [1, "x"]'), ["5 data.weights[1] | expected a number, got 'x'"]),
    "no list": (changed(SIZE, "weights = 1"), ["5 data.weights | expected a list of numbers, got 1"]),
    "wrong length": (changed(SIZE, "box = [1, 2, 3]"), ["5 data.box | expected a list of 2 numbers, got a list of 3"]),
    "wrong choice": (
        changed(SIZE, 'shape = "sqare"'),
        ["5 data.shape | expected one of 'round', 'square', got 'sqare'; did you mean 'square'?"],
    ),
    "wrong union": (
        changed(SIZE, 'shift = "non"'),
        ["5 data.shift | expected 'none' or a whole number, got 'non'; did you mean 'none'?"],
    ),
    "missing field": (
        changed("plugin.toy", "plugin.sized"),
        [
            "3 data.count | missing: example_plugin.sized needs a whole number >= 1 (number of examples)",
            "5 data.size | unknown key",
        ],
    ),
    "a component's own check": (changed(SIZE, "size = 1\nweights = [1, 2]"), ["3 data | 2 weights for size = 1"]),
    "a check that raises what it should not": (
        changed('toy"\nsize = 20', 'odd"\nhow = "lookup"'),
        [
            "3 data | Odd raised KeyError: 'nothing there'",
        ],
    ),
    "a check that ends the program": (
        changed('toy"\nsize = 20', 'odd"\nhow = "exit"'),
        ["3 data | Odd raised SystemExit: 7"],
    ),
    "a check that says nothing": (
        changed('toy"\nsize = 20', 'odd"\nhow = "silent"'),
        ["3 data | Odd refuses these values"],
    ),
    "components that do not go with each other": (
        changed('toy"\nsize = 20', 'odd"\nhow = "clash"'),
        ["3 data | odd data do not go with plain models"],
    ),
    "a check of others that says nothing": (
        changed('toy"\nsize = 20', 'odd"\nhow = "sulk"'),
        ["3 data | odd does not go with the other components"],
    ),
    "a check of others that raises what it should not": (
        changed('toy"\nsize = 20', 'odd"\nhow = "stumble"'),
        ["3 data | check_with() of odd raised LookupError: nowhere"],
    ),
    "an evaluator that does not go with the model": (
        added('[[evaluator]]\nuse = "example_plugin.fussy"\n'),
        [f"{LAST + 1} evaluator.fussy | fussy does not measure plain models"],
    ),
    "one that holds such an evaluator": (
        added('[[evaluator]]\nuse = "example_plugin.last"\nof = { use = "example_plugin.fussy" }\n'),
        [f"{LAST + 1} evaluator.last | fussy does not measure plain models"],
    ),
    "components of a named fit that do not go with each other": (
        added(
            '[fit.first]\ndata = { use = "example_plugin.odd", how = "clash" }\n'
            'model = { use = "example_plugin.plain" }\noptimizer = { use = "example_plugin.step" }\n'
        ),
        [f"{LAST + 2} fit.first.data | odd data do not go with plain models"],
    ),
    "no seeds": (changed("seeds = 2", "seeds = 0"), ["2 seeds | 0 is out of range: expected a number >= 1"]),
    "seeds of a wrong type": (
        changed("seeds = 2", 'seeds = "2"'),
        ["2 seeds | expected a whole number or a table with first, count, got '2'"],
    ),
    "seeds with a wrong key": (
        changed("seeds = 2", "seeds = { frst = 1, count = 2 }"),
        ["2 seeds.frst | unknown key 'frst'; did you mean 'first'?"],
    ),
    "seeds without a count": (
        changed("seeds = 2", "seeds = { first = 1 }"),
        ["2 seeds.count | missing: expected a whole number >= 1 (how many)"],
    ),
    "title of a wrong type": ("title = 3\n" + BASE, ["1 title | expected a string, got 3"]),
    "no evaluator": (
        BASE[: BASE.index("[[evaluator")],
        ["1 evaluator | missing [[evaluator]]: nothing would be measured"],
    ),
    "evaluator is no array": (
        BASE[: BASE.index("[[evaluator")] + '[evaluator]\nuse = "example_plugin.error"',
        ["10 evaluator | expected tables, each written as [[evaluator]]"],
    ),
    "no data": (
        BASE.replace('[data]\nuse = "example_plugin.toy"\nsize = 20\n', "").replace("data.noise", "optimizer.rate"),
        ["1 data | missing [data]"],
    ),
    "no model": (
        BASE.replace('[model]\nuse = "example_plugin.plain"\n', ""),
        ["8 evaluator.error | error measures a network: the spec lacks [model]"],
    ),
    "data beside a trial": (
        'trial = "f"\n' + BASE,
        [
            "4 data | `trial` names the fit, so there is no [data] beside it",
            "1 trial | unknown fit 'f'; there are none",
        ],
    ),
    "trial is no name": ("trial = 3\n" + BASE, ["1 trial | expected the name of a [fit.NAME], got 3"]),
    "duplicate evaluator": (
        changed('theory"\n', 'error"\n'),
        ["12 evaluator.error | duplicate evaluator: another one is called 'error'; give this one a name of its own"],
    ),
    "evaluator called like a section": (
        changed('theory"\n', 'theory"\nname = "data"\n'),
        ["12 evaluator.data | an evaluator can't be called 'data'"],
    ),
    "evaluator with a dot": (
        changed('theory"\n', 'theory"\nname = "a.b"\n'),
        ["14 evaluator.a.b.name | expected a name of letters"],
    ),
    "evaluator name of a wrong type": (
        changed('theory"\n', 'theory"\nname = 3\n'),
        ["14 evaluator.3.name | expected a name of letters"],
    ),
    "name of a nested evaluator": (
        changed('toy"', 'staged"\nscore = { use = "example_plugin.error", name = "x" }').replace(
            '"data.noise" = [0.1, 0.2]', ""
        ),
        ["5 data.score.name | unknown key 'name'"],
    ),
    "duplicate figure": (
        added('[[figure]]\nname = "f"\nx = "seed"\ny = "risk"\n' * 2),
        [f"{LAST + 5} figure.f | duplicate figure: another one is called 'f'"],
    ),
    "duplicate claim": (
        added('[[claim]]\nstatement = "s"\nthreshold = { of = "risk" }\nabove = 0\n' * 2),
        [f"{LAST + 5} claim.2 | duplicate claim: another one is called 's'"],
    ),
    "figure without a name": (
        added('[[figure]]\nx = "seed"\ny = "risk"\n'),
        [f"{LAST + 1} figure.1.name | missing: expected a string (file name"],
    ),
    # The smallest version is a part of the file
    "smoke with a wrong key": (
        added("[smoke]\ndata.sise = 1"),
        [f"{LAST + 2} data.sise | unknown key 'sise'; did you mean 'size'?"],
    ),
    "smoke with a wrong section": (
        added('[smoke]\n"dta.size" = 1'),
        [f"{LAST + 2} dta.size | unknown key 'dta'; did you mean 'data'?"],
    ),
    "smoke with a wrong value": (added('[smoke]\n"data.size" = 0'), [f"{LAST + 2} data.size | 0 is out of range"]),
    "smoke with a wrong axis": (
        added('[smoke.sweep]\n"data.size" = 3'),
        [f'{LAST + 2} sweep."data.size" | expected a list of values'],
    ),
    "smoke is no table": ("smoke = 3\n" + BASE, ["1 smoke | expected a table"]),
    # Plugins
    "no such plugin file": (
        changed("_plugin.py", "_plugins.py"),
        ["1 plugins[0] | no such plugin file", "4 data.use | unknown plugin 'example_plugin'"],
    ),
    "plugins is no list": (
        changed('["example_plugin.py"]', '"example_plugin.py"'),
        ["1 plugins | expected a list of strings, got 'example_plugin.py'"],
    ),
    # No TOML
    "no TOML": (changed("size = 20", "size 20"), ["5  | is no valid TOML: Expected '=' after a key"]),
    "duplicate key": (
        changed("size = 20", "size = 20\nsize = 30"),
        ["6  | is no valid TOML: Cannot overwrite a value"],
    ),
    "duplicate table": (added("[data]"), [f"{LAST + 1}  | is no valid TOML: Cannot declare"]),
    "an open string": (added('x = """'), [f"{LAST + 1}  | is no valid TOML: "]),
    "no TOML at all": ("<html>\n", ["1  | is no valid TOML: Invalid statement"]),
    "nested too deeply for TOML": ("a = " + "[" * 5000, ["is no valid TOML: nested too deeply"]),
    "nested too deeply": (
        "a." * 600 + "b = 1",
        ["1 a.a.a.a.a.a.a.a.a.a.a.a... | is nested too deeply: more than 50 levels"],
    ),
    "deep tables": (
        changed(SIZE, "label = " + "{a=" * 200 + "1" + "}" * 200),
        ["5 data.label.a.a.a.a.a.a.a.a.a.a... | is nested too deeply"],
    ),
    "an empty file": ("", ["1 data | missing [data]", "1 evaluator | missing [[evaluator]]"]),
}
CASES["component is no table"] = (
    BASE.replace('[model]\nuse = "example_plugin.plain"\n', "").replace("seeds = 2", 'seeds = 2\nmodel = "plain"'),
    ["3 model | expected a table with use = \"PLUGIN.COMPONENT\", of kind model, got 'plain'"],
)


@pytest.mark.parametrize("name", CASES)
def test_bad_specs(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(CASES[name], folder, capsys)


def test_the_base_of_all_cases_is_sound(folder: Path) -> None:
    (folder / "spec.toml").write_text(BASE)
    assert load_spec(folder / "spec.toml").trial_count == 4


def test_all_problems_of_a_file_come_in_one_message(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """\
titel = "x"
plugins = ["example_plugin.py", "none.py"]
seeds = 0
[data]
use = "example_plugin.toy"
sise = 3
noise = "loud"
[model]
use = "example_plugin.plian"
[optimizer]
use = "example_plugin.step"
rate = 11
[[evaluator]]
use = "example_plugin.error"
split = "tset"
[[evaluator]]
use = "example_plugin.theory"
[sweep]
"data.size" = { geometric = [1, 1000], pionts = 4 }
"optimizer.steps" = [1, -2, 3]
"data.colour" = ["red"]
[columns]
a = "2 * rsk"
[[figure]]
name = "f"
x = "data.size"
y = "theory.rsk"
[[claim]]
statement = "s"
slope = { of = "loss", against = "data.sze", where = { "optimizer.steps" = 4 } }
below = "none"
[[claim]]
statement = "t"
threshold = { of = "theory.trem_1", where = { "optimizer.steps" = 4 } }
below = 0
[smoke]
"data.label" = 5
"""
    (folder / "spec.toml").write_text(text)
    message = refused(folder, capsys)
    for wanted in (
        "1 titel | unknown key 'titel'; did you mean 'title'?",
        "2 plugins[1] | no such plugin file",
        "3 seeds | 0 is out of range",
        "6 data.sise | unknown key 'sise'",
        "7 data.noise | expected a number, got 'loud'",
        "9 model.use | unknown model component 'example_plugin.plian'; did you mean 'example_plugin.plain'?",
        "12 optimizer.rate | 11 is out of range",
        "15 evaluator.error.split | expected one of 'test', 'train', got 'tset'",
        "19 sweep.\"data.size\" | unknown key 'pionts' of a range",
        '20 sweep."optimizer.steps"[1] | -2 is out of range',
        "21 sweep.\"data.colour\" | unknown key 'colour'",
        "23 columns.a | unknown column 'rsk'; did you mean 'risk'?",
        "27 figure.f.y | unknown column 'theory.rsk'; did you mean 'theory.risk'?",
        "31 claim.1.below | expected a number, got 'none'",
        "34 claim.2.threshold.of | unknown column 'theory.trem_1'; did you mean 'theory.term_1'?",
        '34 claim.2.threshold.where."optimizer.steps" | no trial has optimizer.steps = 4; it takes -2, 1, 3',
        "37 data.label | expected a string, got 5",
    ):
        assert_holds(message, wanted)
    assert re.match(r"spec.toml: 17 problems\n", message)
    places = [int(found) for found in re.findall(r"^spec\.toml:(\d+)", message, re.MULTILINE)]
    assert places == sorted(places)
