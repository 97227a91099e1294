"""A spec: everything that the page "A spec" shows is read as it says."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kempeframe.problems import SpecError
from kempeframe.spec import load_spec

SPECS = Path(__file__).parent.parent / "specs"
HEAD = 'plugins = ["example_plugin.py"]\n'
TRIAL = """
[data]
use = "example_plugin.toy"
[model]
use = "example_plugin.plain"
[optimizer]
use = "example_plugin.step"
"""
BASE = HEAD + TRIAL + '[[evaluator]]\nuse = "example_plugin.error"\n'
Write = Callable[..., Path]


def data_of(path: Path, *overrides: str) -> Any:
    (configuration,) = load_spec(path, overrides).configurations
    return configuration.data


def test_the_head(write_spec: Write) -> None:
    spec = load_spec(write_spec('title = "T"\npaper = "P"\ndescription = "D"\nseeds = 3\n' + BASE))
    assert (spec.title, spec.paper, spec.description, spec.seeds, spec.name) == ("T", "P", "D", (0, 1, 2), "spec")
    assert load_spec(write_spec(BASE)).title == "spec"


def test_fresh_seeds_to_confirm_on(write_spec: Write) -> None:
    path = write_spec("seeds = { first = 100, count = 6 }\n" + BASE)
    assert load_spec(path).seeds == tuple(range(100, 106))
    assert load_spec(path, seeds=2).seeds == (100, 101)
    assert load_spec(write_spec("seeds = { count = 2 }\n" + BASE)).seeds == (0, 1)
    assert load_spec(write_spec("seeds = 1e1\n" + BASE)).seeds == tuple(range(10))


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("size = 1e2", "size", 100),
        ("noise = 2", "noise", 2.0),
        ("limit = inf", "limit", math.inf),
        ("limit = -inf", "limit", -math.inf),
        ("shift = 3", "shift", 3),
        ("shift = 3.0", "shift", 3),
        ('shift = "none"', "shift", "none"),
        ("weights = [1, 0.5]", "weights", (1.0, 0.5)),
        ("weights = []", "weights", ()),
        ("box = [0, 2]", "box", (0.0, 2.0)),
        ('label = "a"', "label", "a"),
        ('label = ""', "label", None),
        ("balanced = false", "balanced", False),
    ],
)
def test_values_become_the_types_of_their_fields(write_spec: Write, text: str, field: str, value: Any) -> None:
    found = getattr(data_of(write_spec(BASE.replace('toy"', f'toy"\n{text}'))), field)
    assert (type(found), found) == (type(value), value)


def test_a_field_left_out_has_its_default(write_spec: Write) -> None:
    data = data_of(write_spec(BASE))
    assert (data.size, data.noise, data.label) == (10, 0.1, None)


def test_equal_tables_are_one_object(write_spec: Write) -> None:
    spec = load_spec(write_spec(BASE + "[sweep]\n" + '"optimizer.rate" = [0.1, 0.2]\n"data.noise" = [0.1, 0.2]'))
    assert len({id(c.data) for c in spec.configurations}) == 2
    assert len({id(c.evaluators[0][1]) for c in spec.configurations}) == 1


def test_nested_components(write_spec: Write) -> None:
    text = BASE.replace(
        'use = "example_plugin.toy"',
        'use = "example_plugin.staged"\nprobe = { use = "example_plugin.wide", width = 3 }\n'
        'score = { use = "example_plugin.theory", order = 1 }',
    )
    data = data_of(write_spec(text))
    assert (data.probe.width, data.score.order) == (3, 1)


def test_evaluators_are_named_after_their_components_or_by_name(write_spec: Write) -> None:
    spec = load_spec(
        write_spec(BASE + '[[evaluator]]\nname = "theory-1"\nuse = "example_plugin.theory"\norder = 1\n')
    )
    assert spec.evaluator_columns == {
        "error.risk": ("error", "risk"),
        "error.loss": ("error", "loss"),
        "theory-1.risk": ("theory-1", "risk"),
        "theory-1.term_0": ("theory-1", "term_0"),
        "risk": ("error", "risk"),  # what is measured takes the bare name before theory
        "loss": ("error", "loss"),
        "term_0": ("theory-1", "term_0"),
    }


def test_a_bare_metric_of_two_evaluators_is_no_column(write_spec: Write) -> None:
    second = '[[evaluator]]\nname = "train"\nuse = "example_plugin.error"\nsplit = "train"\n'
    columns = load_spec(write_spec(BASE + second)).evaluator_columns
    assert set(columns) == {"error.risk", "error.loss", "train.risk", "train.loss"}


def test_theory_alone_needs_no_model(write_spec: Write) -> None:
    text = HEAD + '[data]\nuse = "example_plugin.toy"\n[[evaluator]]\nuse = "example_plugin.theory"\n'
    (configuration,) = load_spec(write_spec(text)).configurations
    assert configuration.fit is None
    assert configuration.model is None
    assert configuration.data is not None


def test_derived_columns_come_in_an_order_in_which_they_can_be_computed(write_spec: Write) -> None:
    text = BASE + '[columns]\nb = "2 * a"\na = "data.size * optimizer.steps"\nc = "a + b + loss"\n'
    derived = load_spec(write_spec(text)).derived
    assert list(derived) == ["a", "b", "c"]
    assert derived["b"]({"a": 3}) == 6


CLAIMS = """
[[figure]]
name = "f"
x = "data.size"
y = "risk"
hue = "data.noise"
where = { "data.size" = { between = [10, 20] } }
[[claim]]
statement = "slope"
slope = { of = "risk", against = "data.size" }
below = 0
[[claim]]
statement = "order"
order = { of = "risk", lower = { "data.noise" = 0 }, higher = { "data.noise" = 0.5 } }
[[claim]]
statement = "ratio"
ratio = { of = "loss", numerator = { "data.size" = 10 }, denominator = { "data.size" = 20 } }
within = [1, inf]
[[claim]]
statement = "difference"
difference = { of = "loss", first = { "data.size" = [10] }, second = { "data.size" = 20.0 } }
above = 0
expect = "undecided"
[[claim]]
statement = "agreement"
agreement = { of = "risk", theory = "theory.risk", relative = 0.1 }
[[claim]]
statement = "threshold"
threshold = { of = "double", where = { "seed" = 0 } }
above = 0
statistic = "median"
[[claim]]
statement = "monotone"
monotone = { of = "converged", along = "data.size", direction = "increasing" }
[[claim]]
statement = "location"
location = { of = "risk", along = "data.size", at = "minimum", where = { "data.noise" = 0.5 } }
within = [10, 20]
"""


def test_figures_and_all_eight_kinds_of_claim(write_spec: Write) -> None:
    text = BASE + '[[evaluator]]\nuse = "example_plugin.theory"\n[columns]\ndouble = "2 * error.loss"\n'
    text += '[sweep]\n"data.size" = [10, 20]\n"data.noise" = [0, 0.5]\n' + CLAIMS
    spec = load_spec(write_spec(text))
    kinds = ["slope", "order", "ratio", "difference", "agreement", "threshold", "monotone", "location"]
    assert [claim.kind for claim in spec.claims] == kinds
    assert [claim.statement for claim in spec.claims] == kinds
    assert spec.figures[0].hue == "data.noise"
    assert not spec.reduced


def test_an_override_is_as_if_it_stood_in_the_file(write_spec: Write) -> None:
    written = load_spec(write_spec(BASE.replace('toy"', 'toy"\nsize = 20\nweights = [1]'))).configurations[0]
    spec = load_spec(write_spec(BASE), ["data.size=20", "data.weights=[1]"])
    assert spec.configurations[0].data.digest == written.data.digest  # type: ignore[union-attr]
    assert spec.reduced


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("data.shape=square", "shape", "square"),
        ('data.shape="square"', "shape", "square"),
        ("data.label=a=b", "label", "a=b"),
        ("data.label=", "label", None),
        (" data . size = 7 ", "size", 7),
        ('data."size"=7', "size", 7),
        ("data.box=[1, 2]", "box", (1.0, 2.0)),
    ],
)
def test_overrides_are_toml_and_else_text(write_spec: Write, override: str, field: str, value: Any) -> None:
    assert getattr(data_of(write_spec(BASE), override), field) == value


def test_overrides_reach_evaluators_by_name_and_claims_by_number(write_spec: Write) -> None:
    text = BASE + '[[evaluator]]\nuse = "example_plugin.theory"\n[[claim]]\nstatement = "s"\nabove = 1\n'
    text += 'threshold = { of = "loss" }\n'
    spec = load_spec(write_spec(text), ["evaluator.theory.order=5", "evaluator.1.split=train", "claim.1.above=2"])
    by_name = dict(spec.configurations[0].evaluators)
    assert (by_name["theory"].order, by_name["error"].split) == (5, "train")  # type: ignore[attr-defined]
    assert spec.claims[0].above == 2


SMOKE = BASE + """
[sweep]
"data.size" = [10, 20, 30]
"data.noise" = [0.1, 0.2]
[[claim]]
statement = "s"
threshold = { of = "loss", where = { "data.size" = 30 } }
above = 0
[smoke]
seeds = 2
"data.label" = "small"
"sweep.data.size" = [1, 2]
[smoke.optimizer]
steps = 1
[smoke.sweep]
"data.noise" = [0.3]
"""


def test_the_smoke_version(write_spec: Write) -> None:
    path = write_spec(SMOKE)
    spec = load_spec(path, smoke=True)
    assert spec.reduced
    assert (len(spec.configurations), spec.seeds) == (2, (0, 1))
    assert {c.data.label for c in spec.configurations} == {"small"}  # type: ignore[union-attr]
    assert {c.optimizer.steps for c in spec.configurations} == {1}  # type: ignore[union-attr]
    assert {c.axes["data.noise"] for c in spec.configurations} == {0.3}
    assert len(load_spec(path).configurations) == 6
    assert load_spec(
        path, ["data.label=mine"], smoke=True
    ).configurations[0].data.label == "mine"  # type: ignore[union-attr]


def test_a_reduced_version_may_lack_the_rows_of_a_claim(write_spec: Write) -> None:
    path = write_spec(SMOKE)
    load_spec(path, ["data.size=10"])
    load_spec(path, ["sweep.data.size=[10]"])
    with pytest.raises(SpecError, match=r"no trial has data\.size = 30"):
        load_spec(write_spec(SMOKE.replace("[10, 20, 30]", "[10]")))


def test_a_byte_order_mark_and_windows_line_ends_are_no_problem(write_spec: Write) -> None:
    path = write_spec("")
    path.write_bytes(b"\xef\xbb\xbf" + BASE.replace("\n", "\r\n").encode())
    load_spec(path)


@pytest.mark.parametrize("path", sorted(SPECS.rglob("*.toml")), ids=lambda p: p.stem)
def test_every_shipped_spec_is_sound(path: Path) -> None:
    assert load_spec(path).trial_count > 0


def test_reading_a_spec_imports_nothing_heavy() -> None:
    code = (
        "import sys; from kempeframe.spec import load_spec; load_spec(sys.argv[1]);"
        "heavy = ('torch', 'pandas', 'matplotlib', 'scipy.stats', 'tensorboard', 'sklearn');"
        "print([m for m in heavy if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(SPECS / "strong_collapse.toml")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"
