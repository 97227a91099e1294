"""Digests: golden values, and what changes them and what does not."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kempeframe import digest
from kempeframe.components import Component, Fit
from kempeframe.digest import canonical, digest_of, full_name, join
from kempeframe.registry import Plugin, Registry
from kempeframe.sources import source_hash

EXAMPLE = Path(__file__).parent / "example_plugin.py"
NAME = "golden_example"  # registered as no editable plugin: its source does not enter the digests


def golden_plugin() -> Any:
    """The example plugin as an installed one."""
    if NAME in sys.modules:
        return sys.modules[NAME]
    spec = importlib.util.spec_from_file_location(NAME, EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    Registry().register(Plugin("example", NAME, "1.0", EXAMPLE, editable=False), module)
    return module


def examples() -> dict[str, Any]:
    """Values of all sorts that a spec can hold."""
    p = golden_plugin()
    base = Fit(data=p.Toy(), model=p.Plain(), optimizer=p.Step(), stream="base")
    attacked = attrs.evolve(base, attack=p.Push(epsilon=0.5), seed=3)
    nested = Fit(data=p.Staged(teacher=attacked), model=p.Wide(width=3), optimizer=p.Step(schedule=(1, 2)))
    return {
        "no fields": p.Plain(),
        "defaults, infinity": p.Toy(),
        "every field": p.Toy(size=3, noise=1e-8, limit=2.5, shape="square", shift=2, weights=(0.1, 1.0), label="é"),
        "nested components": p.Staged(probe=p.Wide(), score=p.Theory(order=1)),
        "fit": base,
        "fit with an attack and a seed": attacked,
        "fit in a fit": nested,
        "plain data": {"b": [1, 2.0, True, None, "x"], "a": (float("inf"), -0.0, 1e-300)},
    }


GOLDEN = {
    "no fields": "5f98b5dbbaafe583bcfba8a04414f697",
    "defaults, infinity": "cd7fabc298147f4499c2ccac992c8d1a",
    "every field": "111897b1c26c60fda2873315edc935b8",
    "nested components": "890487b4ad9a4ea307939bbaf39a1cf9",
    "fit": "0349b3be237893c132fa662a8db012a2",
    "fit with an attack and a seed": "fcfa9d5a8dab036daf2fa68aeab22024",
    "fit in a fit": "bc57a0e0c45b6372036af0ead67840e8",
    "plain data": "a9df029cded4e8101c7ff226480f3df0",
}


@pytest.mark.parametrize("name", list(GOLDEN))
def test_golden_values(name: str) -> None:
    assert digest_of(examples()[name]) == GOLDEN[name]


def test_every_example_has_a_golden_value_of_its_own() -> None:
    assert examples().keys() == GOLDEN.keys()
    assert len(set(GOLDEN.values())) == len(GOLDEN)


def test_a_join_of_digests() -> None:
    assert join("fit", "a", 3) == "e465bdf87fb16b68bd6c6fd5f8b53f49"


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_digests_are_the_same_in_another_process(hash_seed: str) -> None:
    code = "import tests.test_digest as t; print(*[t.digest_of(v) for v in t.examples().values()])"
    root = Path(__file__).parent.parent
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root, env=environment
    )
    assert found.stdout.split() == list(GOLDEN.values())


def test_what_is_not_science_does_not_count() -> None:
    """The attack enters a fit only where the optimizer trains against it."""
    p = golden_plugin()

    @attrs.frozen(kw_only=True, slots=False)
    class Solver(p.Step):  # type: ignore[misc, name-defined]
        uses_attack = False

    fit = Fit(data=p.Toy(), model=p.Plain(), optimizer=Solver(), attack=p.Push())
    assert attrs.evolve(fit, attack=None).digest == fit.digest
    trained = attrs.evolve(fit, optimizer=p.Step())
    assert attrs.evolve(trained, attack=None).digest != trained.digest


@pytest.mark.parametrize("change", [{"size": 11}, {"noise": 0.1 + 1e-16 * 2}, {"label": "x"}, {"weights": (1.0,)}])
def test_every_field_counts(change: dict[str, Any]) -> None:
    p = golden_plugin()
    assert p.Toy(**change).digest != p.Toy().digest


def test_the_stream_and_the_seed_of_a_fit_count() -> None:
    fit = examples()["fit"]
    changed = [attrs.evolve(fit, stream="other"), attrs.evolve(fit, seed=0), attrs.evolve(fit, seed=1)]
    assert len({fit.digest, *(other.digest for other in changed)}) == 4


def test_a_raised_version_counts() -> None:
    p = golden_plugin()

    def versioned(number: int) -> type[Component]:
        made = type("Toy", (p.Toy,), {"version": number, "__module__": NAME})
        return attrs.frozen(made, kw_only=True, slots=False)

    assert versioned(1)().digest == p.Toy().digest
    assert versioned(2)().digest != p.Toy().digest


def test_names_are_the_plugins_not_the_modules() -> None:
    assert full_name(golden_plugin().Toy) == "example.toy"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_equal_values_have_equal_digests_and_others_do_not(value: Any) -> None:
    assert digest_of([value]) == digest_of([value])
    assert digest_of([value]) != digest_of([value, value])
    assert digest_of(1) != digest_of(1.0) != digest_of(True)


def test_what_has_no_canonical_form_is_refused() -> None:
    with pytest.raises(TypeError, match="no canonical form for a set"):
        canonical({"a": {1, 2}})


# Editable plugins: the source that a component depends on is a part of its digest.

FILES = {
    "__init__.py": "from pkg import data, evaluators\n",
    "data.py": "from pkg.draw import normal\nfrom . import shapes\nclass Data: pass\n",
    "draw.py": "def normal():\n    from pkg.deep import nested\n    return nested.x\n",
    "deep/__init__.py": "",
    "deep/nested.py": "import pkg.deep.more as m\nx = 1\n",
    "deep/more.py": "from ..shapes import y\n",
    "shapes.py": "import numpy\ny = 2\n",
    "evaluators.py": "z = 1\n",
    "broken.py": "def (:\n",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "pkg" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    return tmp_path / "pkg"


@pytest.mark.parametrize("name", ["data.py", "draw.py", "deep/nested.py", "deep/more.py", "shapes.py"])
def test_a_change_in_what_a_module_imports_changes_its_hash(package: Path, name: str) -> None:
    before = source_hash(package / "data.py", package)
    (package / name).write_text(FILES[name] + "# changed\n")
    assert source_hash(package / "data.py", package) != before


@pytest.mark.parametrize("name", ["evaluators.py", "broken.py", "__init__.py"])
def test_a_change_elsewhere_does_not(package: Path, name: str) -> None:
    before = source_hash(package / "data.py", package)
    (package / name).write_text(FILES[name] + "# changed\n")
    assert source_hash(package / "data.py", package) == before


def test_a_new_import_is_followed(package: Path) -> None:
    (package / "data.py").write_text(FILES["data.py"] + "import pkg.broken\n")
    before = source_hash(package / "data.py", package)
    (package / "broken.py").write_text("def (::\n")
    assert source_hash(package / "data.py", package) != before


def test_a_hash_does_not_depend_on_where_the_package_lies(package: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "pkg"
    moved.parent.mkdir()
    before = source_hash(package / "data.py", package)
    package.rename(moved)
    assert source_hash(moved / "data.py", moved) == before


def test_imports_are_followed_into_other_packages_that_are_edited_too(package: Path, tmp_path: Path) -> None:
    paper = tmp_path / "paper"
    paper.mkdir()
    (paper / "models.py").write_text("def build():\n    from pkg import draw\n")
    files = (paper / "models.py", paper)
    alone, before = source_hash(*files), source_hash(*files, [package])
    (package / "evaluators.py").write_text("# changed\n")
    assert source_hash(*files, [package]) == before
    (package / "draw.py").write_text(FILES["draw.py"] + "# changed\n")
    assert source_hash(*files, [package]) != before
    assert source_hash(*files) == alone, "what is installed for good has a version instead"


def test_what_a_plugin_file_uses_of_an_edited_package_is_in_its_digest(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "user.py"
    code = "from kempeframe import Data, component, hookimpl\n@component\nclass Thing(Data):\n    'A thing.'\n"
    code += "    def load(self, run):\n        from pkg.draw import draw\n"
    path.write_text(code + "@hookimpl\ndef kempeframe_data():\n    return [Thing]\n")
    monkeypatch.setattr("kempeframe.registry.edited_packages", lambda: (package,))
    digests = []
    for text in ("# changed\n", "# changed again\n"):
        (package / "draw.py").write_text(FILES["draw.py"] + text)
        registry = Registry()
        registry.load_file(path)
        digests.append(registry.find("data", "user.thing")().digest)
        digest._IDENTITIES.clear()
    assert digests[0] != digests[1]


def test_an_edited_plugin_file_is_another_plugin(tmp_path: Path) -> None:
    path = tmp_path / "edited.py"
    code = "from kempeframe import Data, component, hookimpl\n@component\nclass Thing(Data):\n    'A thing.'\n"
    code += "@hookimpl\ndef kempeframe_data():\n    return [Thing]\n"
    digests = []
    for text in (code, code + "# changed\n", code):
        path.write_text(text)
        registry = Registry()
        registry.load_file(path)
        digests.append(registry.find("data", "edited.thing")().digest)
    assert digests[0] != digests[1]
    assert digests[0] == digests[2]
