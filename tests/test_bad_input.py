"""Bad input: every problem of a file in one message, each with its line, its key, what was expected, the nearest name.

Every case runs through the command line in this process: exit code 2, and nothing is written.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from pathlib import Path

import pytest

from kempeframe.cli import main
from kempeframe.problems import SpecError
from kempeframe.spec import load_spec

EXAMPLE = Path(__file__).parent / "example_plugin.py"
BASE = """\
plugins = ["example_plugin.py"]
seeds = 2
[data]
use = "example_plugin.toy"
size = 20
[model]
use = "example_plugin.plain"
[optimizer]
use = "example_plugin.step"
[[evaluator]]
use = "example_plugin.error"
[[evaluator]]
use = "example_plugin.theory"
[sweep]
"data.noise" = [0.1, 0.2]
"""
LAST = BASE.count("\n")


def changed(old: str, new: str, more: str = "") -> str:
    assert old in BASE
    return BASE.replace(old, new, 1) + more


def added(text: str) -> str:
    """BASE with more below: the first added line is number LAST + 1."""
    return BASE + text


def claim(text: str) -> str:
    return added(f'[[claim]]\nstatement = "s"\n{text}\n')


AT = f"{LAST + 3}"  # the line of a claim's check
SIZE = "size = 20"
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
        ["3 data.use | expected use = \"PLUGIN.COMPONENT\", the name of a data component"],
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
        added('[smoke]\noptimizer.rate = 0'),
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
        ["3 data | Odd raised KeyError: 'nothing there'", ],
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
    "components of a named fit that do not go with each other": (
        added('[fit.first]\ndata = { use = "example_plugin.odd", how = "clash" }\n'
              'model = { use = "example_plugin.plain" }\noptimizer = { use = "example_plugin.step" }\n'),
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
        ['14 evaluator.a.b.name | expected a name of letters'],
    ),
    "evaluator name of a wrong type": (
        changed('theory"\n', 'theory"\nname = 3\n'),
        ["14 evaluator.3.name | expected a name of letters"],
    ),
    "name of a nested evaluator": (
        changed(
            'toy"', 'staged"\nscore = { use = "example_plugin.error", name = "x" }'
        ).replace('"data.noise" = [0.1, 0.2]', ""),
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
    # Sweeps
    "unknown axis": (
        added('"data.sise" = [1]'),
        [f'{LAST + 1} sweep."data.sise" | unknown key \'sise\'; did you mean \'size\'?'],
    ),
    "axis in no section": (
        added('"dta.size" = [1]'),
        [f'{LAST + 1} sweep."dta.size" | unknown axis \'dta.size\'', "did you mean 'data.size'?"],
    ),
    "axis of an unknown evaluator": (
        added('"evaluator.thery.order" = [1]'),
        [
            f'{LAST + 1} sweep."evaluator.thery.order" | there is no evaluator called \'thery\'; '
            "did you mean 'theory'?",
        ],
    ),
    "axis of an unknown fit": (
        added('"fit.base.seed" = [1]'),
        [f'{LAST + 1} sweep."fit.base.seed" | unknown fit \'base\'; there are none'],
    ),
    "axis over a whole evaluator": (
        added('"evaluator" = [1]'),
        [f"{LAST + 1} sweep.evaluator | 'evaluator' is no key that can be swept"],
    ),
    "empty axis": (
        added('"data.size" = []'),
        [f'{LAST + 1} sweep."data.size" | expected a list of values, a range', "got a list of 0"],
    ),
    "axis is no list": (
        added('"data.size" = 3'),
        [f'{LAST + 1} sweep."data.size" | expected a list of values', "got 3"],
    ),
    "wrong value of an axis": (
        added('"data.size" = [\n  1,\n  0,\n  "x",\n]'),
        [
            f'{LAST + 3} sweep."data.size"[1] | 0 is out of range: expected a whole number >= 1 and <= 1000',
            f'{LAST + 4} sweep."data.size"[2] | expected a whole number, got \'x\'',
        ],
    ),
    "range with a wrong key": (
        added('"data.size" = { linear = [1, 2], pionts = 3 }'),
        [f'{LAST + 1} sweep."data.size" | unknown key \'pionts\' of a range; did you mean \'points\'?'],
    ),
    "range without points": (
        added('"data.size" = { linear = [1, 2] }'),
        [f'{LAST + 1} sweep."data.size" | a range needs points = N'],
    ),
    "range of both kinds": (
        added('"data.size" = { linear = [1, 2], geometric = [1, 2], points = 3 }'),
        ["expected { geometric ="],
    ),
    "geometric range through 0": (
        added('"data.size" = { geometric = [0, 2], points = 3 }'),
        ["a geometric range needs ends above 0"],
    ),
    "range to infinity": (
        added('"data.size" = { linear = [0, inf], points = 3 }'),
        ["a range is [first, last], two finite numbers"],
    ),
    "range that leaves its field's": (
        added('"data.size" = { linear = [1, 2000], points = 3 }'),
        [f'{LAST + 1} sweep."data.size"[2] | 2000.0 is out of range'],
    ),
    "zipped axis with too few values": (
        added('"data.size, optimizer.steps" = [\n[1, 2],\n[1],\n]'),
        [f'{LAST + 3} sweep."data.size, optimizer.steps"[1] | zipped axes: expected 2 values', "got a list of 1"],
    ),
    "zipped axis with a key twice": (added('"data.size, data.size" = [[1, 2]]'), ["names a key twice"]),
    "two axes over one key": (
        added('"data.noise, data.size" = [[1, 2]]'),
        ["sets 'data.noise', as the axis 'data.noise' does"],
    ),
    "variant over a swept key": (
        added("[sweep.v]\na = { data.noise = 1 }"),
        ["sets 'data.noise', as the axis 'data.noise' does"],
    ),
    "variant with an unknown key": (
        added("[sweep.v]\na = { data.size = 1 }\nb = { data.sise = 1 }"),
        [f"{LAST + 3} sweep.v.b.data.sise | unknown key 'sise'; did you mean 'size'?"],
    ),
    "variant in no section": (
        added("[sweep.v]\na = { size = 1 }"),
        [f"{LAST + 2} sweep.v.a.size | variant 'a': unknown axis 'size'", "did you mean 'data.size'?"],
    ),
    "variant that is a component": (
        added('[sweep.v]\na = { use = "example_plugin.wide", width = 3 }'),
        [f"{LAST + 2} sweep.v.a.use | variant 'a': unknown axis 'use'"],
    ),
    "wrong value in a variant": (
        added('[sweep.v.a]\ndata.size = 2\n"data.label" = 3'),
        [f'{LAST + 3} sweep.v.a."data.label" | expected a string, got 3'],
    ),
    "wrong value of a zipped axis": (
        added('"data.size, optimizer.steps" = [\n[1,\n-2],\n]'),
        [f'{LAST + 3} sweep."data.size, optimizer.steps"[0][1] | -2 is out of range'],
    ),
    "variant with a component of no section": (
        added('[sweep.v.a]\nuse = "example_plugin.wide"'),
        [f"{LAST + 2} sweep.v.a.use | variant 'a': unknown axis 'use': it starts with no section"],
    ),
    "variant is no table": (added("[sweep.v]\na = 1"), [f"{LAST + 2} sweep.v.a | expected the changes of variant 'a'"]),
    "no variants": (added('"v" = {}'), [f"{LAST + 1} sweep.v | expected variants"]),
    "sweep is no table": (
        BASE[: BASE.index("[sweep")].replace("seeds = 2", "seeds = 2\nsweep = 3"),
        ["3 sweep | expected a table of axes"],
    ),
    "axis through a value": (
        added('"data.size.x" = [1]'),
        [f'{LAST + 1} sweep."data.size.x"[0] | \'x\' is no key of a table here'],
    ),
    "a value that goes badly with another": (
        changed(SIZE, "size = 20\nweights = [1, 2, 3]", '"data.size" = [\n2,\n3,\n]'),
        [f'{LAST + 3} sweep."data.size"[0] | 3 weights for size = 2'],
    ),
    "a table that is wrong at every point of an axis": (
        changed(SIZE, "size = 1\nweights = [1, 2]"),
        ["3 data | 2 weights for size = 1"],
    ),
    "a use that no axis value knows": (
        changed(SIZE, "sise = 20", '"data.use" = ["example_plugin.toy", "example_plugin.sized"]\n"data.count" = [1]'),
        ["5 data.sise | unknown key 'sise'; did you mean 'size'?"],
    ),
    "an unknown component in a sweep over use": (
        added('"data.use" = [\n"example_plugin.toy",\n"example_plugin.tyo"]'),
        [f'{LAST + 3} sweep."data.use"[1] | unknown data component'],
    ),
    "too many trials": (
        changed("seeds = 2", "seeds = 500_001"),
        ["14 sweep | 2 x 500,001 = 1,000,002 trials; at most 1,000,000 are allowed"],
    ),
    "a sweep for no machine": (
        changed(
            "seeds = 2",
            "seeds = 9_000_000_000_000_000_000",
            '"data.limit" = { linear = [0, 1], points = 9_000_000_000_000_000_000 }',
        ),
        ["trials; at most 1,000,000 are allowed"],
    ),
    # Columns, claims, figures
    "unknown column in a claim": (
        claim('slope = { of = "rsk", against = "data.noise" }\nbelow = 0'),
        [f"{AT} claim.1.slope.of | unknown column 'rsk'; did you mean 'risk'?"],
    ),
    "unknown axis in a claim": (
        claim('slope = { of = "risk", against = "data.nois" }\nbelow = 0'),
        [f"{AT} claim.1.slope.against | unknown column 'data.nois'; did you mean 'data.noise'?"],
    ),
    "unknown column in where": (
        claim('threshold = { of = "risk", where = { "data.nose" = 0.1 } }\nbelow = 0'),
        [f'{AT} claim.1.threshold.where."data.nose" | unknown column \'data.nose\'; did you mean \'data.noise\'?'],
    ),
    "column of a field that there is not": (
        claim('threshold = { of = "data.sise" }\nbelow = 0'),
        [f"{AT} claim.1.threshold.of | unknown column 'data.sise'; did you mean 'data.size'?"],
    ),
    "column that several evaluators give": (
        changed('theory"\n', 'error"\nname = "train"\n').replace(
            "[sweep]", '[[claim]]\nstatement = "s"\nbelow = 0\nthreshold = { of = "risk" }\n[sweep]'
        ),
        [
            "18 claim.1.threshold.of | unknown column 'risk': several evaluators give it; "
            "write 'error.risk' or 'train.risk'",
        ],
    ),
    "rows that there are not": (
        claim('threshold = { of = "risk", where = { "data.noise" = 0.3 } }\nbelow = 0'),
        [f'{AT} claim.1.threshold.where."data.noise" | no trial has data.noise = 0.3; it takes 0.1, 0.2'],
    ),
    "rows of a fixed field that there are not": (
        claim('threshold = { of = "risk", where = { "data.size" = [20, 21] } }\nbelow = 0'),
        [f'{AT} claim.1.threshold.where."data.size" | no trial has data.size = 21; it takes 20'],
    ),
    "rows between which there are none": (
        claim('threshold = { of = "risk", where = { "data.noise" = { between = [1, 2] } } }\nbelow = 0'),
        [f'{AT} claim.1.threshold.where."data.noise" | no trial has data.noise between 1 and 2; it takes 0.1, 0.2'],
    ),
    "a condition that is none": (
        claim('threshold = { of = "risk", where = { "data.noise" = { above = 1 } } }\nbelow = 0'),
        [
            f'{AT} claim.1.threshold.where."data.noise" | expected a value, a list of values, or '
            "{ between = [low, high] }",
        ],
    ),
    "an empty condition": (
        claim('threshold = { of = "risk", where = { "data.noise" = [] } }\nbelow = 0'),
        ["expected a value, a list of values"],
    ),
    "claim of no kind": (claim("below = 0"), [f"{LAST + 1} claim.1 | expected exactly one of slope, order, ratio"]),
    "claim of a wrong kind": (
        claim('slop = { of = "risk" }'),
        [f"{AT} claim.1.slop | unknown key 'slop'; did you mean 'slope'?"],
    ),
    "claim without a field": (
        claim('slope = { of = "risk" }\nbelow = 0'),
        [f"{AT} claim.1.slope.against | missing: expected a string (column"],
    ),
    "claim with a wrong field": (
        claim('slope = { of = 3, against = "seed" }\nbelow = 0'),
        [f"{AT} claim.1.slope.of | expected a string, got 3"],
    ),
    "claim with a wrong choice": (
        claim('threshold = { of = "risk" }\nbelow = 0\nexpect = "hold"'),
        [
            f"{LAST + 5} claim.1.expect | expected one of 'holds', 'fails', 'undecided', got 'hold'; did you mean "
            "'holds'?",
        ],
    ),
    "unknown column in a figure": (
        added('[[figure]]\nname = "f"\nx = "data.noise"\ny = "rsk"\nhue = "data.sise"\n'),
        [
            f"{LAST + 4} figure.f.y | unknown column 'rsk'; did you mean 'risk'?",
            f"{LAST + 5} figure.f.hue | unknown column 'data.sise'",
        ],
    ),
    "rows of a figure that there are not": (
        added('[[figure]]\nname = "f"\nx = "data.noise"\ny = "risk"\nwhere = { "data.noise" = 3 }\n'),
        [f'{LAST + 5} figure.f.where."data.noise" | no trial has data.noise = 3'],
    ),
    "unknown column in a formula": (
        added('[columns]\na = "2 * rsk"'),
        [f"{LAST + 2} columns.a | unknown column 'rsk'; did you mean 'risk'?"],
    ),
    "no formula": (added('[columns]\na = "2 *"'), [f"{LAST + 2} columns.a | '2 *' is no formula"]),
    "formula is no text": (added("[columns]\na = 2"), [f"{LAST + 2} columns.a | expected a formula in quotes, got 2"]),
    "formulas in a cycle": (
        added('[columns]\na = "b"\nb = "a"'),
        [f"{LAST + 2} columns.a | formulas refer to each other in a cycle: 'a' and 'b'"],
    ),
    "formula called like a column": (
        added('[columns]\nloss = "2 * risk"'),
        [f"{LAST + 2} columns.loss | there is a column 'loss' already"],
    ),
    "columns is no table": ("columns = 3\n" + BASE, ["1 columns | expected a table, written as [columns]"]),
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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(EXAMPLE, tmp_path / "example_plugin.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEMPEFRAME_STORE", str(tmp_path / "store"))
    return tmp_path


def refused(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str, command: str = "run") -> str:
    """The message of a command that must fail: exit code 2, nothing on stdout, nothing written."""
    before = {path for path in folder.rglob("*") if "__pycache__" not in path.parts}
    code = main([command, "spec.toml", *arguments])
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert {path for path in folder.rglob("*") if "__pycache__" not in path.parts} == before
    assert "Traceback" not in err
    return err


def assert_holds(message: str, wanted: str) -> None:
    """`5 data.size | expected ...` asks for a problem at that line and key."""
    if " | " not in wanted:
        assert wanted in message
        return
    place, _, text = wanted.partition(" | ")
    line, _, key = place.partition(" ")
    head = f"spec.toml:{line}  {key}".rstrip() if line else ""
    lines = message.splitlines()
    assert any(
        first.startswith(head) and (not line or first == head) and second.strip().startswith(text)
        for first, second in itertools.pairwise(lines)
    ), f"wanted {wanted!r} in:\n{message}"


@pytest.mark.parametrize("name", CASES)
def test_bad_specs(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, wanted = CASES[name]
    (folder / "spec.toml").write_text(text, encoding="utf-8")
    message = refused(folder, capsys)
    for part in wanted:
        assert_holds(message, part)


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
        '19 sweep."data.size" | unknown key \'pionts\' of a range',
        '20 sweep."optimizer.steps"[1] | -2 is out of range',
        '21 sweep."data.colour" | unknown key \'colour\'',
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


def test_a_wrong_axis_does_not_call_other_keys_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the axis would have set is neither missing nor unknown."""
    text = changed("plugin.toy", "plugin.sized").replace("size = 20\n", "")
    text += '"data.count" = { linear = [1, 2], pionts = 3 }\n[[claim]]\nstatement = "s"\nbelow = 0\n'
    text += 'threshold = { of = "risk", where = { "data.count" = 7 } }\n'
    (folder / "spec.toml").write_text(text)
    assert "spec.toml: 1 problem\n" in refused(folder, capsys)


@pytest.mark.parametrize(
    ("arguments", "place", "key", "message"),
    [
        (["--set", "data.sise=3"], "--set data.sise=3", "data.sise", "unknown key 'sise'; did you mean 'size'?"),
        (["--set", "data.size=0"], "--set data.size=0", "data.size", "0 is out of range"),
        (["--set", "data.size=many"], "--set data.size=many", "data.size", "expected a whole number, got 'many'"),
        (["--set", "data.noise=-1"], "--set data.noise=-1", 'sweep."data.noise"[0]', "-1 is out of range"),
        (["--set", "dta.size=1"], "--set dta.size=1", "dta.size", "unknown key 'dta'; did you mean 'data'?"),
        (["--set", "data.size"], "--set data.size", "", "expected KEY=VALUE, got 'data.size'"),
        (["--set", "=3"], "--set =3", "", "expected KEY=VALUE, got '=3'"),
        (["--set", "data.size.x=1"], "--set data.size.x=1", "data.size.x", "'x' is no key of a table here"),
        (
            ["--set", "evaluator.thery.order=1"],
            "--set evaluator.thery.order=1",
            "evaluator.thery.order",
            "there is no evaluator called 'thery'",
        ),
        (["--set", "claim.1.above=1"], "--set claim.1.above=1", "claim.1.above", "there is no claim called '1'"),
        (["--set", "smoke.seeds=1"], "--set smoke.seeds=1", "smoke.seeds", "unknown key 'smoke'"),
        (["--set", "data.label=1979-05-27"], "--set data.label=1979-05-27", "data.label", "expected no date"),
        (["--set", "data.limit=nan"], "--set data.limit=nan", "data.limit", "expected a number, got nan"),
        (
            ["--set", "sweep.data.noise=[]"],
            "--set sweep.data.noise=[]",
            'sweep."data.noise"',
            "expected a list of values",
        ),
        (["--seeds", "0"], "--seeds 0", "seeds", "0 is out of range: expected a number >= 1"),
        (["--seeds", "-3"], "--seeds -3", "seeds", "-3 is out of range"),
        (["--smoke"], "spec.toml:1", "smoke", "expected a table of overrides, [smoke]"),
    ],
)
def test_wrong_overrides_name_themselves(
    arguments: list[str], place: str, key: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "spec.toml").write_text(BASE)
    found = refused(folder, capsys, *arguments).splitlines()
    assert found[2] == f"{place}  {key}".rstrip()
    assert found[3].strip().startswith(message)


def test_check_refuses_what_run_refuses(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "spec.toml").write_text(BASE.replace("size = 20", "size = 0"))
    assert refused(folder, capsys) == refused(folder, capsys, command="check")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def broken(:\n", "can't be imported: SyntaxError"),
        ("raise SystemExit(0)\n", "can't be imported: SystemExit: 0"),
        ("import os, signal\nraise KeyError('x')\n", "can't be imported: KeyError: 'x' (mine.py:2)"),
        (
            "from kempeframe import Data, hookimpl\nclass Thing(Data):\n    pass\n"
            "@hookimpl\ndef kempeframe_data():\n    return [Thing]\n",
            "Thing lacks the @component decorator",
        ),
    ],
)
def test_a_broken_plugin_file(code: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mine.py").write_text(code)
    text = BASE.replace('"example_plugin.py"', '"example_plugin.py", "mine.py"').replace("plugin.plain", "plugin.plian")
    (folder / "spec.toml").write_text(text.replace("example_plugin.toy", "mine.thing"))
    found = refused(folder, capsys)
    assert_holds(found, "1 plugins[1] | plugin 'mine'")
    assert message in found
    assert_holds(found, "4 data.use | plugin 'mine'")
    assert_holds(found, "7 model.use | unknown model component")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise KeyError('x')", "columns() of measure raised KeyError: 'x'"),
        ("raise SystemExit(3)", "columns() of measure raised SystemExit: 3"),
        ("return None", "columns() of measure: expected metric names"),
        ("return {1: 'one'}", "columns() of measure: expected metric names"),
        ("return 'risk'", "columns() of measure: expected metric names"),
    ],
)
def test_an_evaluator_that_can_not_say_its_columns(
    body: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mine.py").write_text(
        "from kempeframe import Evaluator, component, hookimpl\n@component\nclass Measure(Evaluator):\n    'm'\n"
        f"    def columns(self):\n        {body}\n@hookimpl\ndef kempeframe_evaluator():\n    return [Measure]\n"
    )
    text = BASE.replace('"example_plugin.py"', '"example_plugin.py", "mine.py"').replace(SIZE, "size = 0")
    (folder / "spec.toml").write_text(text + '[[evaluator]]\nuse = "mine.measure"\n')
    found = refused(folder, capsys)
    assert_holds(found, "5 data.size | 0 is out of range")
    (folder / "spec.toml").write_text(text.replace("size = 0", SIZE) + '[[evaluator]]\nuse = "mine.measure"\n')
    assert message in refused(folder, capsys)


def test_what_is_no_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "spec.toml").write_bytes(b"title = \xff\xfe\n")
    assert "is no UTF-8 text (byte 8); expected a TOML file" in refused(folder, capsys)


def test_a_missing_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "can't be read: No such file or directory" in refused(folder, capsys)


def test_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "spec.toml").mkdir()
    assert "can't be read: Is a directory" in refused(folder, capsys)


def test_a_file_that_may_not_be_read(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(13, os.strerror(13), str(path))

    (folder / "spec.toml").write_text(BASE)
    monkeypatch.setattr(Path, "read_bytes", denied)
    assert "can't be read: Permission denied" in refused(folder, capsys)


def test_a_path_that_no_file_can_have() -> None:
    with pytest.raises(SpecError, match="can't be read"):
        load_spec("a\0b.toml")
