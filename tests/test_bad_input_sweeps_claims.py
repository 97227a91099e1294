"""Bad input in sweeps, columns, claims and figures: axes, values and names that there are not, wrong conditions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bad_specs import BASE, LAST, SIZE, added, assert_refused, changed, refused


def claim(text: str) -> str:
    return added(f'[[claim]]\nstatement = "s"\n{text}\n')


AT = f"{LAST + 3}"  # the line of a claim's check
CASES: dict[str, tuple[str, list[str]]] = {
    # name: (spec, what the message holds; "LINE KEY | MESSAGE" for a problem)
    # Sweeps
    "unknown axis": (
        added('"data.sise" = [1]'),
        [f"{LAST + 1} sweep.\"data.sise\" | unknown key 'sise'; did you mean 'size'?"],
    ),
    "axis in no section": (
        added('"dta.size" = [1]'),
        [f"{LAST + 1} sweep.\"dta.size\" | unknown axis 'dta.size'", "did you mean 'data.size'?"],
    ),
    "axis of an unknown evaluator": (
        added('"evaluator.thery.order" = [1]'),
        [
            f"{LAST + 1} sweep.\"evaluator.thery.order\" | there is no evaluator called 'thery'; "
            "did you mean 'theory'?",
        ],
    ),
    "axis of an unknown fit": (
        added('"fit.base.seed" = [1]'),
        [f"{LAST + 1} sweep.\"fit.base.seed\" | unknown fit 'base'; there are none"],
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
            f"{LAST + 4} sweep.\"data.size\"[2] | expected a whole number, got 'x'",
        ],
    ),
    "range with a wrong key": (
        added('"data.size" = { linear = [1, 2], pionts = 3 }'),
        [f"{LAST + 1} sweep.\"data.size\" | unknown key 'pionts' of a range; did you mean 'points'?"],
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
        [f"{LAST + 1} sweep.\"data.size.x\"[0] | 'x' is no key of a table here"],
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
        [f"{AT} claim.1.threshold.where.\"data.nose\" | unknown column 'data.nose'; did you mean 'data.noise'?"],
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
}


@pytest.mark.parametrize("name", CASES)
def test_bad_specs(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(CASES[name], folder, capsys)


def test_a_wrong_axis_does_not_call_other_keys_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the axis would have set is neither missing nor unknown."""
    text = changed("plugin.toy", "plugin.sized").replace("size = 20\n", "")
    text += '"data.count" = { linear = [1, 2], pionts = 3 }\n[[claim]]\nstatement = "s"\nbelow = 0\n'
    text += 'threshold = { of = "risk", where = { "data.count" = 7 } }\n'
    (folder / "spec.toml").write_text(text)
    assert "spec.toml: 1 problem\n" in refused(folder, capsys)
