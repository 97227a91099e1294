"""From Python: drafts, overrides, tables, figures, networks, and what a notebook shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli

import kempeframe
from kempeframe import Claim, Draft, Figure, Fit, SpecError
from kempeframe.kinds_of_claim import Threshold
from kempeframe.written import as_table, inline, spec_text

ROOT = Path(__file__).parent.parent
SPECS = sorted((ROOT / "specs").glob("**/*.toml"))
TOY = Path(__file__).parent / "toy_plugin.py"


@pytest.fixture
def example(write_spec: Callable[..., Path], tmp_path: Path) -> Any:
    write_spec("", "nothing.toml")
    return kempeframe.load_plugin(tmp_path / "example_plugin.py")


@pytest.fixture
def toy() -> Any:
    return kempeframe.load_plugin(TOY)


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.relative_to(ROOT / "specs").as_posix())
def test_a_specs_tree_written_again_is_the_same_tree(path: Path) -> None:
    raw = tomli.loads(path.read_text(encoding="utf-8"))
    assert tomli.loads(spec_text(raw)) == raw


def test_a_component_is_written_with_what_differs_from_its_defaults(example: Any) -> None:
    assert as_table(example.Toy()) == {"use": "example_plugin.toy"}
    made = example.Toy(size=7, weights=(0.5, 0.5), limit=3.0, label="x", shift=2)
    assert as_table(made) == {
        "use": "example_plugin.toy",
        "size": 7,
        "weights": [0.5, 0.5],
        "limit": 3.0,
        "label": "x",
        "shift": 2,
    }


def test_values_on_one_line_are_toml() -> None:
    value = {"a b": [1, 2.5, float("inf")], "c": {"d": 'say "x"', "e": True}}
    assert tomli.loads(f"v = {inline(value)}")["v"] == value


def test_a_draft_gives_the_spec_that_its_text_gives(example: Any, tmp_path: Path) -> None:
    teacher = Fit(data=example.Sized(count=3), model=example.Plain(), optimizer=example.Step(rate=0.5), seed=4)
    draft = Draft(
        title="From Python",
        seeds=2,
        data=example.Staged(teacher=teacher, probe=example.Wide(width=5)),
        model=example.Wide(),
        optimizer=example.Step(),
        evaluators={"first": example.Theory(), "second": example.Theory(order=3)},
        sweep={"data.size": [5, 10]},
        columns={"double": "2 * data.size"},
        figures=[Figure(name="risk", x="data.size", y="first.risk")],
        claims=[Claim(statement="small", threshold=Threshold(of="first.risk"), below=1.0)],
    )
    from_python = kempeframe.load_spec(draft)
    from_file = kempeframe.load_spec(draft.write(tmp_path / "written.toml"))
    assert [c.fit.digest for c in from_python.configurations] == [c.fit.digest for c in from_file.configurations]
    assert from_python.claims == from_file.claims and from_python.figures == from_file.figures
    assert from_python.configurations[0].data.teacher.seed == 4
    assert 'plugins = ["example_plugin.py"]' in (tmp_path / "written.toml").read_text(encoding="utf-8")


def test_what_no_spec_can_hold_is_said_with_its_place(example: Any) -> None:
    with pytest.raises(SpecError, match=r"data\.size.* is a object, which TOML can't say"):
        Draft(sweep={"data.size": [object()]}).as_toml()
    loose = type("Loose", (example.Toy,), {"__module__": "nowhere"})
    with pytest.raises(SpecError, match="Loose is of no plugin that was loaded: put it into a file"):
        Draft(data=loose()).as_toml()


def test_problems_of_a_draft_name_its_lines(example: Any) -> None:
    with pytest.raises(SpecError, match=r"draft:\d+  data\.teacher") as raised:
        kempeframe.run(Draft(data={"use": "example_plugin.staged", "teacher": "nobody"}, evaluators=[example.Theory()]))
    assert "unknown fit 'nobody'" in str(raised.value)


def test_a_study_has_data_frames_verdicts_figures_and_networks(toy: Any, tmp_path: Path) -> None:
    draft = Draft(
        title="A <toy>",
        seeds=4,
        plugins=[str(TOY)],
        data={"use": "toy_plugin.numbers"},
        model={"use": "toy_plugin.scalar"},
        optimizer={"use": "toy_plugin.copy"},
        evaluators=[{"use": "toy_plugin.weight"}],
        sweep={"data.shift": [1.0, 2.0]},
        figures=[Figure(name="weight", x="data.shift", y="weight")],
        claims=[{"statement": "more < most", "threshold": {"of": "weight"}, "above": 0.5}],
    )
    study = kempeframe.run(draft, store=tmp_path / "store", out=tmp_path / "out")
    assert list(study.table["data.shift"]) == [1.0] * 4 + [2.0] * 4
    assert len(study.history) == 8
    assert study.figure("weight")._repr_png_().startswith(b"\x89PNG")
    assert "A &lt;toy&gt;" in study._repr_html_() and "more &lt; most" in study.claims._repr_html_()
    assert study.fitted(7).network is not None
    assert (tmp_path / "out" / "table.csv").exists()
    with pytest.raises(LookupError, match="did you mean 'weight'"):
        study.figure("weigth")
    with pytest.raises(IndexError, match="rows 0 to 7"):
        study.fitted(8)


def test_overrides_take_keys_names_and_components(toy: Any, tmp_path: Path) -> None:
    draft = Draft(data=toy.Numbers(), model=toy.Scalar(), optimizer=toy.Copy(), evaluators=[toy.Weight()], seeds=1)
    first = kempeframe.run(draft, {"data.shift": 5.0}, store=tmp_path)
    second = kempeframe.run(draft, data=toy.Numbers(shift=5.0), title="Other", store=tmp_path)
    assert list(first.table["weight"]) == list(second.table["weight"])
    assert second.computed == 0 and second.spec.title == "Other"


def test_a_class_that_was_imported_directly_has_the_digest_it_has_in_a_spec() -> None:
    from kempeframe_standard.optimizers import Ridge

    spec = kempeframe.load_spec(ROOT / "specs" / "digits.toml")
    ridge = next(c.optimizer for c in spec.configurations)
    assert Ridge(penalty=ridge.penalty).digest == ridge.digest  # type: ignore[union-attr]


def test_variants_are_written_under_headers_in_the_order_of_the_axes() -> None:
    variants = {"s = 1, near": {"data.size": 1}, "far": {}}
    raw = {"sweep": {"data.shift": [1.0, 2.0], "problem": variants, "scheme": {"a": {"data.use": "x.y"}}}}
    text = spec_text(raw)
    assert '[sweep.problem]\n"s = 1, near" = { "data.size" = 1 }\nfar = {}\n' in text
    assert tomli.loads(text) == raw
    assert tomli.loads(spec_text({"sweep": {}})) == {"sweep": {}}
    mixed = {"sweep": {"a": [1], "problem": variants, "b": [2]}}
    assert list(tomli.loads(spec_text(mixed))["sweep"]) == ["a", "problem", "b"]
