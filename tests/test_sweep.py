"""Sweeps: the axes that a spec may write, and the configurations that they span."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kempeframe.axes import MOST_TRIALS, Range
from kempeframe.problems import SpecError
from kempeframe.spec import Spec, load_spec

Write = Callable[..., Path]
BASE = """
plugins = ["example_plugin.py"]
[data]
use = "example_plugin.toy"
[model]
use = "example_plugin.plain"
[optimizer]
use = "example_plugin.step"
[[evaluator]]
use = "example_plugin.error"
[[evaluator]]
use = "example_plugin.theory"
[sweep]
"""


def column(spec: Spec, name: str) -> list[Any]:
    return [configuration.value_at(name) for configuration in spec.configurations]


def swept(write_spec: Write, axes: str, *overrides: str) -> Spec:
    return load_spec(write_spec(BASE + axes), overrides)


def test_axes_are_crossed_in_the_order_of_the_file(write_spec: Write) -> None:
    spec = swept(write_spec, '"data.size" = [1, 2]\n"optimizer.rate" = [0.1, 0.2, 0.3]\n')
    assert spec.axes == ("data.size", "optimizer.rate")
    assert column(spec, "data.size") == [1, 1, 1, 2, 2, 2]
    assert column(spec, "optimizer.rate") == [0.1, 0.2, 0.3] * 2
    assert [c.optimizer.rate for c in spec.configurations] == [0.1, 0.2, 0.3] * 2  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ('"data.noise" = { geometric = [1e3, 1e8], points = 6 }', [1e3, 1e4, 1e5, 1e6, 1e7, 1e8]),
        ('"data.noise" = { geometric = [8, 1], points = 4 }', [8.0, 4.0, 2.0, 1.0]),
        ('"data.noise" = { linear = [0, 1], points = 11 }', [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
        ('"data.noise" = { linear = [0, 1], points = 2.0 }', [0.0, 1.0]),
        ('"data.size" = { geometric = [1, 8], points = 7 }', [1, 2, 3, 4, 6, 8]),  # 1.41 rounds to 1: once is enough
        ('"data.size" = { linear = [1, 2], points = 100 }', [1, 2]),
        ('"data.size" = [1e1, 2e1]', [10, 20]),
        ('"data.noise" = [1, 2]', [1.0, 2.0]),
        ('"data.limit" = [1, inf]', [1.0, math.inf]),
        ('"data.shift" = ["none", 3]', ["none", 3]),
        ('"data.shift" = { linear = [1, 2], points = 3 }', [1, 2]),
        ('"data.balanced" = [true, false]', [True, False]),
        ('"evaluator.theory.order" = [1, 2]', [1, 2]),
        ('"evaluator.2.order" = [1, 2]', [1, 2]),
    ],
)
def test_lists_and_ranges(write_spec: Write, axis: str, values: list[Any]) -> None:
    spec = swept(write_spec, axis)
    assert repr(column(spec, spec.axes[0])) == repr(values)  # the types too


@given(st.floats(1e-200, 1e200), st.floats(1e-200, 1e200), st.integers(2, 50), st.booleans())
def test_a_range_starts_and_ends_where_it_says_and_goes_one_way(
    first: float, last: float, points: int, geometric: bool
) -> None:
    numbers = list(Range(first, last, points, geometric))
    assert (numbers[0], numbers[-1], len(numbers)) == (first, last, points)
    middle = sorted(numbers, reverse=last < first)
    assert numbers == pytest.approx(middle, rel=1e-11)


def test_zipped_axes_go_hand_in_hand(write_spec: Write) -> None:
    spec = swept(write_spec, '"data.size, optimizer.steps" = [[1, 10], [2, 20]]\n"data.noise" = [0, 1]')
    assert spec.axes == ("data.size", "optimizer.steps", "data.noise")
    assert column(spec, "data.size") == [1, 1, 2, 2]
    assert column(spec, "optimizer.steps") == [10, 10, 20, 20]


def test_named_variants_below_a_section(write_spec: Write) -> None:
    spec = swept(write_spec, '[sweep.data]\nsmall = { size = 1 }\nlarge = { size = 100, noise = 0.5 }\n')
    assert spec.axes == ("data",)
    assert column(spec, "data") == ["small", "large"]
    assert column(spec, "data.size") == [1, 100]
    assert column(spec, "data.noise") == [0.1, 0.5]


def test_named_variants_of_the_whole_spec(write_spec: Write) -> None:
    axes = '[sweep.setting]\nquick = { "optimizer.steps" = 1, data.size = 1 }\n'
    axes += 'attacked = { attack.use = "example_plugin.push" }\n'
    spec = swept(write_spec, axes)
    assert column(spec, "setting") == ["quick", "attacked"]
    quick, attacked = spec.configurations
    assert (quick.optimizer.steps, quick.data.size, quick.attack) == (1, 1, None)  # type: ignore[union-attr]
    assert attacked.attack is not None


def test_variants_merge_tables_and_replace_components(write_spec: Write) -> None:
    text = BASE.replace("toy", "staged").replace(
        "[model]", 'probe = { use = "example_plugin.wide", width = 3 }\n[model]'
    )
    axes = '[sweep.probe]\nwider = { data.probe.width = 5 }\n'
    axes += 'other = { data.probe = { use = "example_plugin.plain" } }\n'
    probes = [c.data.probe for c in load_spec(write_spec(text + axes)).configurations]  # type: ignore[union-attr]
    assert [type(p).__name__ for p in probes] == ["Wide", "Plain"]
    assert probes[0].width == 5


def test_a_sweep_over_use(write_spec: Write) -> None:
    """A key that one variant lacks is no error: it belongs to the other."""
    text = BASE.replace("toy", "sized").replace("[model]", "count = 5\nnoise = 0.3\nweights = [1]\n[model]")
    axes = '"data.use" = ["example_plugin.toy", "example_plugin.sized"]\n"data.noise" = [0.1, 0.2]'
    spec = load_spec(write_spec(text + axes))
    assert [type(c.data).__name__ for c in spec.configurations] == ["Toy", "Toy", "Sized", "Sized"]
    assert column(spec, "data.use") == ["example_plugin.toy"] * 2 + ["example_plugin.sized"] * 2
    assert column(spec, "data.noise") == [0.1, 0.2] * 2


def test_a_component_that_stands_only_in_the_sweep(write_spec: Write) -> None:
    text = BASE.replace('use = "example_plugin.toy"\n', "")
    axes = '"data.use" = ["example_plugin.toy", "example_plugin.staged"]\n"data.size" = [1, 2]\n'
    assert column(load_spec(write_spec(text + axes)), "data.size") == [1, 2, 1, 2]


def test_an_evaluator_keeps_its_name_where_its_component_is_swept(write_spec: Write) -> None:
    spec = swept(write_spec, '"evaluator.theory.use" = ["example_plugin.theory", "example_plugin.oracle"]')
    assert {name for c in spec.configurations for name, _ in c.evaluators} == {"error", "theory"}
    assert {"theory.risk", "theory.floor"} <= spec.evaluator_columns.keys()


def test_one_axis_may_set_a_key_below_what_an_earlier_one_sets_as_a_whole(write_spec: Write) -> None:
    axes = '"data.probe" = [{ use = "example_plugin.wide", width = 1 }]\n"data.probe.width" = [3, 4]\n'
    spec = load_spec(write_spec(BASE.replace("toy", "staged") + axes))
    assert column(spec, "data.probe.width") == [3, 4]


def test_points_that_are_equal_are_one_configuration(write_spec: Write) -> None:
    assert len(swept(write_spec, '"data.size" = [5, 5.0, 6]').configurations) == 2


@pytest.mark.parametrize(
    ("axes", "override", "sizes", "steps"),
    [
        ('"data.size" = [1, 2]', "data.size=7", [7], [100]),
        ('"data.size" = [1, 2]', 'data."size"=7', [7], [100]),
        ('"data.size" = [1, 2]', "sweep.data.size=[7, 8]", [7, 8], [100, 100]),
        ('"data.size" = [1, 2]', 'sweep."data.size"=[7, 8]', [7, 8], [100, 100]),
        ('"data.size" = [1, 2]', "sweep={}", [10], [100]),
        ('"data.size, optimizer.steps" = [[1, 2], [3, 4]]', "data.size=7", [7, 7], [2, 4]),
        (
            "[sweep.v]\na = { data.size = 1, optimizer.steps = 2 }\nb = { data.size = 3 }",
            "data.size=7",
            [7, 7],
            [2, 100],
        ),
        ("[sweep.data]\na = { size = 1 }\nb = { size = 3 }", "data.size=7", [7, 7], [100, 100]),
        ('"data.size" = [1, 2]', 'data={ use = "example_plugin.toy", noise = 1 }', [1, 2], [100, 100]),
    ],
)
def test_an_override_of_a_swept_key_holds_for_all_trials(
    write_spec: Write, axes: str, override: str, sizes: list[int], steps: list[int]
) -> None:
    spec = swept(write_spec, axes, override)
    assert [c.data.size for c in spec.configurations] == sizes  # type: ignore[union-attr]
    assert [c.optimizer.steps for c in spec.configurations] == steps  # type: ignore[union-attr]


def test_an_override_below_what_an_axis_sets_as_a_whole_is_refused(write_spec: Write) -> None:
    axes = '"data.probe" = [{ use = "example_plugin.wide" }]\n'
    path = write_spec(BASE.replace("toy", "staged") + axes)
    with pytest.raises(SpecError, match=r"the sweep sets 'data\.probe' as a whole"):
        load_spec(path, ["data.probe.width=3"])


def test_a_million_trials_are_allowed_and_one_more_is_not(write_spec: Write) -> None:
    axis = f'"data.noise" = {{ linear = [0, 1], points = {MOST_TRIALS + 1} }}'
    with pytest.raises(SpecError, match=r"1,000,001 x 1 = 1,000,001 trials; at most 1,000,000"):
        swept(write_spec, axis)
    axes = '"data.noise" = { linear = [0, 1], points = 1000 }'
    assert load_spec(write_spec("seeds = 1000\n" + BASE + axes)).trial_count == MOST_TRIALS


def test_ranges_too_large_for_any_memory_are_refused_at_once(write_spec: Write) -> None:
    axes = "\n".join(f'"{key}" = {{ linear = [0, 1], points = {2**62} }}' for key in ("data.noise", "data.limit"))
    with pytest.raises(SpecError, match=r"trials; at most 1,000,000(.|\n)*'data\.nois'; did you mean"):
        load_spec(write_spec(BASE + axes + '\n"nois.x" = [1]\n[columns]\na = "data.nois"'))


@pytest.mark.parametrize("name", ["seed", "status", "converged", "risk", "theory.risk", "twice"])
def test_an_axis_of_variants_takes_no_other_columns_name(write_spec: Write, name: str) -> None:
    text = f'{BASE}"{name}" = {{ a = {{ data.size = 3 }}, b = {{ data.size = 4 }} }}\n[columns]\ntwice = "2 * risk"\n'
    with pytest.raises(SpecError, match=f"there is a column '{name}' already"):
        load_spec(write_spec(text))


@pytest.mark.parametrize(
    "axis", ["[1, 1e30]", "{ geometric = [1, 1e300], points = 3 }", "{ linear = [0, -1e19], points = 2 }"]
)
def test_whole_numbers_stay_within_64_bits(write_spec: Write, axis: str) -> None:
    with pytest.raises(SpecError, match="expected a whole number of 64 bits"):
        swept(write_spec, f'"data.shift" = {axis}')


ZIPPED = '"data.noise, data.size" = [[0.1, 10], [0.2, 20]]\n'
CLAIM = '[[claim]]\nstatement = "s"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            CLAIM + 'threshold = { of = "risk", where = { "data.noise" = 0.1, "data.size" = 20 } }\nbelow = 1\n',
            "no trial has data.noise = 0.1 and data.size = 20 at once",
        ),
        (
            CLAIM + 'order = { of = "risk", where = { "data.noise" = { between = [0, 0.1] } }, '
            'lower = { "data.size" = 10 }, higher = { "data.size" = [20] } }\n',
            "no trial has data.noise between 0 and 0.1 and data.size one of 20 at once",
        ),
        (
            '[[figure]]\nname = "f"\nx = "data.size"\ny = "risk"\nwhere = { "data.noise" = 0.2, "data.size" = 10 }\n',
            "no trial has data.noise = 0.2 and data.size = 10 at once",
        ),
    ],
)
def test_conditions_that_no_trial_fulfils_at_once(write_spec: Write, text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        swept(write_spec, ZIPPED + text)
    swept(write_spec, ZIPPED + text, "optimizer.rate=0.5")  # a changed spec may lack the rows of a claim


def test_conditions_that_some_trial_fulfils_at_once(write_spec: Write) -> None:
    where = '{ "data.noise" = 0.2, "data.size" = 20, "converged" = true }'
    text = f'threshold = {{ of = "risk", where = {where} }}\nbelow = 1\n'
    swept(write_spec, ZIPPED + CLAIM + text)
