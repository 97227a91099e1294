"""Named fits, nested fits, and rounds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kempeframe.problems import SpecError
from kempeframe.spec import Spec, load_spec

Write = Callable[..., Path]
HEAD = 'plugins = ["example_plugin.py"]\n'
PARTS = 'model = { use = "example_plugin.plain" }\noptimizer = { use = "example_plugin.step" }\n'
TOY = 'data = { use = "example_plugin.toy" }\n'
ERROR = '[[evaluator]]\nuse = "example_plugin.error"\n'
TRIAL = """
[data]
use = "example_plugin.staged"
{teacher}
[model]
use = "example_plugin.plain"
[optimizer]
use = "example_plugin.step"
""" + ERROR


def staged(teacher: str) -> str:
    return TRIAL.replace("{teacher}", f"teacher = {teacher}")


def data_of(spec: Spec) -> Any:
    return spec.configurations[0].data


def test_a_component_holds_an_inline_fit(write_spec: Write) -> None:
    inline = '{ data = { use = "example_plugin.toy" }, model = { use = "example_plugin.wide" }, '
    spec = load_spec(write_spec(HEAD + staged(inline + 'optimizer = { use = "example_plugin.step", steps = 3 } }')))
    assert data_of(spec).teacher.optimizer.steps == 3
    assert data_of(spec).teacher.stream == "data.teacher"  # its seed derives from its path
    assert spec.configurations[0].value_at("data.teacher.optimizer.steps") == 3


def test_a_component_names_a_fit(write_spec: Write) -> None:
    spec = load_spec(write_spec(HEAD + staged('"base"') + "[fit.base]\nseed = 7\n" + TOY + PARTS))
    teacher = data_of(spec).teacher
    assert (teacher.stream, teacher.seed) == ("base", 7)
    assert spec.configurations[0].fits == {"base": teacher}


def test_one_name_is_one_fit_wherever_it_is_used(write_spec: Write) -> None:
    other = '[fit.other]\ndata = { use = "example_plugin.staged", teacher = "base" }\n' + PARTS
    spec = load_spec(write_spec(HEAD + staged('"other"') + "[fit.base]\n" + TOY + PARTS + other))
    fits = spec.configurations[0].fits
    assert fits["other"].data.teacher is fits["base"]  # type: ignore[attr-defined]
    assert data_of(spec).teacher is fits["other"]


def test_an_inline_fit_of_an_evaluator_is_named_after_the_evaluator(write_spec: Write) -> None:
    """A further evaluator before it does not change its seed."""
    text = '[fit.base]\ndata = { use = "example_plugin.staged", teacher = {' + ", ".join((TOY + PARTS).split("\n")[:3])
    spec = load_spec(write_spec(HEAD + staged('"base"') + text + "} }\n" + PARTS))
    assert data_of(spec).teacher.data.teacher.stream == "fit.base.data.teacher"


def test_the_trial_may_be_a_named_fit(write_spec: Write) -> None:
    text = HEAD + 'trial = "base"\n' + ERROR + "[fit.base]\n" + TOY + PARTS
    (configuration,) = load_spec(write_spec(text)).configurations
    assert configuration.fit is configuration.fits["base"]
    assert configuration.data is configuration.fits["base"].data


def test_sweeps_reach_into_named_fits(write_spec: Write) -> None:
    text = HEAD + 'trial = "base"\n' + ERROR + "[fit.base]\n" + TOY + PARTS
    axis = '[sweep]\n"fit.base.data.size" = { geometric = [1, 4], points = 5 }\n'
    spec = load_spec(write_spec(text + axis))
    assert [c.axes for c in spec.configurations] == [{"fit.base.data.size": n} for n in (1, 2, 3, 4)]
    assert [c.data.size for c in spec.configurations] == [1, 2, 3, 4]  # type: ignore[union-attr]
    assert load_spec(
        write_spec(text), ["fit.base.data.size=9"]
    ).configurations[0].data.size == 9  # type: ignore[union-attr]


ROUNDS = """
[fit.round]
rounds = 3
data = { use = "example_plugin.staged", teacher = "round.previous" }
""" + PARTS


def chain(fit: Any) -> list[str]:
    return [] if fit is None else [fit.stream, *chain(getattr(fit.data, "teacher", None))]


def test_rounds_hold_the_round_before(write_spec: Write) -> None:
    spec = load_spec(write_spec(HEAD + 'trial = "round"\n' + ERROR + ROUNDS))
    assert chain(spec.configurations[0].fit) == ["round.3", "round.2", "round.1"]


def test_the_first_round_may_start_from_another_fit(write_spec: Write) -> None:
    text = HEAD + 'trial = "round"\n' + ERROR + ROUNDS.replace("rounds = 3", 'rounds = 2.0\nfirst = "base"')
    spec = load_spec(write_spec(text + "[fit.base]\n" + TOY + PARTS))
    assert chain(spec.configurations[0].fit) == ["round.2", "round.1", "base"]


def test_one_round_is_named_by_its_number(write_spec: Write) -> None:
    spec = load_spec(write_spec(HEAD + staged('"round.2"') + ROUNDS))
    assert chain(data_of(spec).teacher) == ["round.2", "round.1"]


def test_inline_fits_of_different_rounds_differ_in_their_seeds(write_spec: Write) -> None:
    inner = 'data = { use = "example_plugin.staged", teacher = "round.previous" }, '
    inner += ", ".join(PARTS.strip().split("\n"))
    text = ROUNDS.replace('"round.previous"', "{ " + inner + " }")
    spec = load_spec(write_spec(HEAD + 'trial = "round"\n' + ERROR + text))
    assert chain(spec.configurations[0].fit) == [
        *("round.3", "fit.round.3.data.teacher"),
        *("round.2", "fit.round.2.data.teacher"),
        *("round.1", "fit.round.1.data.teacher"),
    ]


def test_a_thousand_rounds_need_no_deep_recursion(write_spec: Write) -> None:
    text = HEAD + 'trial = "round"\n' + ERROR + ROUNDS.replace("rounds = 3", "rounds = 1000")
    fit = load_spec(write_spec(text)).configurations[0].fit
    assert fit is not None
    assert len(fit.digest) == 32


def test_equal_rounds_have_equal_digests_whatever_their_number(write_spec: Write) -> None:
    """Eight rounds hold the fits of three: they are stored once."""

    def third(rounds: int) -> Any:
        text = HEAD + staged('"round.3"') + ROUNDS.replace("rounds = 3", f"rounds = {rounds}")
        return data_of(load_spec(write_spec(text))).teacher.digest

    assert third(3) == third(8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (staged('"bse"') + "[fit.base]\n" + TOY + PARTS, "unknown fit 'bse'; did you mean 'base'?"),
        (staged('"base.2"') + "[fit.base]\n" + TOY + PARTS, "'base.2': [fit.base] has no rounds"),
        (staged('"round.4"') + ROUNDS, "'round.4': [fit.round] has rounds 1 to 3"),
        (staged('"round.0"') + ROUNDS, "'round.0': [fit.round] has rounds 1 to 3"),
        (staged('"round.²"') + ROUNDS, "[fit.round] has rounds 1 to 3"),
        (staged('"round.previous"') + ROUNDS, '"round.previous" is known only inside [fit.round]'),
        (staged('"round"') + ROUNDS.replace("= 3", "= 0"), "expected a whole number from 1 to 1000, got 0"),
        (staged('"round"') + ROUNDS.replace("= 3", "= 2.5"), "expected a whole number from 1 to 1000, got 2.5"),
        (staged('"round"') + ROUNDS.replace("= 3", "= 3\nfirst = 1"), "the name of the fit before round 1, got 1"),
        (staged('"round"') + ROUNDS.replace("= 3", '= 3\nfirst = "rund"'), "did you mean 'round'?"),
        (staged('"round"') + ROUNDS.replace(".previous", ""), "cycle: round.1 -> round.1; inside [fit.round]"),
        (staged('"round"') + ROUNDS.replace("= 3", '= 3\nfirst = "round"'), "fits refer to each other in a cycle"),
        (staged('"round"') + ROUNDS.replace("= 3", '= 3\nfirst = "round.previous"'), "has no round before it"),
        (
            staged('"a"')
            + '[fit.a]\ndata = { use = "example_plugin.staged", teacher = "b" }\n'
            + PARTS
            + '[fit.b]\ndata = { use = "example_plugin.staged", teacher = "a" }\n'
            + PARTS,
            "fits refer to each other in a cycle: a -> b -> a",
        ),
        (staged('"base"') + "[fit.base]\nseed = -1\n" + TOY + PARTS, "-1 is out of range"),
        (staged('"base"') + "[fit.base]\n" + TOY, "missing: expected a table with use"),
        (staged('"base"') + '[fit.base]\nstream = "x"\n' + TOY + PARTS, "unknown key 'stream'"),
        (staged('"base"') + '[fit.base]\nfirst = "base"\n' + TOY + PARTS, "unknown key 'first'"),
        (staged("3"), "expected a fit: the name of a [fit.NAME], or a table with data, model and optimizer, got 3"),
        ("fit.base = 3\n" + staged('"base"'), "expected a table with data, model and optimizer"),
        (staged('"a"') + '[fit."a.b"]\n' + TOY + PARTS, "expected a name without dots, got 'a.b'"),
    ],
)
def test_wrong_fits_are_problems(write_spec: Write, text: str, message: str) -> None:
    head = HEAD if not text.startswith("fit.") else ""
    with pytest.raises(SpecError) as caught:
        load_spec(write_spec(head + text if head else HEAD + text))
    assert message in str(caught.value)


def test_a_required_field_that_round_1_lacks_is_explained(write_spec: Write) -> None:
    text = ROUNDS.replace(
        'data = { use = "example_plugin.staged", teacher', '{ teacher'
    ).replace("{ teacher = ", "data = ")
    text = text.replace(' }\nmodel', "\nmodel", 1)
    with pytest.raises(SpecError, match=r"round 1 has no previous round; `first = \"NAME\"`"):
        load_spec(write_spec(HEAD + 'trial = "round"\n' + ERROR + text))


def test_a_long_chain_of_names_is_no_traceback(write_spec: Write) -> None:
    text = HEAD + staged('"f0"')
    for i in range(300):
        text += f'[fit.f{i}]\ndata = {{ use = "example_plugin.staged", teacher = "f{i + 1}" }}\n' + PARTS
    with pytest.raises(SpecError, match=r"nested too deeply|unknown fit"):
        load_spec(write_spec(text))
