"""The shape of the code itself: what may import what, how long a file may be, where a training loop may stand."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import kempeframe
from kempeframe.components import Component
from kempeframe.registry import Registry, installed
from kempeframe.structure import spec_fields

ROOT = Path(__file__).parent.parent
CORE = Path(kempeframe.__file__).parent
PLUGINS = sorted((ROOT / "plugins").glob("*/kempeframe_*/**/*.py"))
LONGEST = 400  # lines of a file
TRAINS = "standard"  # the plugin that owns the training loop


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_modules(path: Path) -> set[str]:
    """The modules that a file imports, at its top or inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", sorted(CORE.glob("**/*.py")), ids=lambda p: p.stem)
def test_the_core_imports_no_plugin(path: Path) -> None:
    plugins = {point.module.partition(".")[0] for point in installed().values()}
    tops = {name.partition(".")[0] for name in imported_modules(path)}
    assert not tops & plugins
    assert not {name for name in tops if name.startswith("kempeframe_")}


def test_the_core_loads_no_plugin_unless_one_is_named() -> None:
    """Nor does it name one in a string that it imports later."""
    code = "import sys, kempeframe.cli, kempeframe.spec, kempeframe.study, kempeframe.schema;"
    code += "print([m for m in sys.modules if m.startswith('kempeframe_')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("path", PLUGINS, ids=relative)
def test_plugins_import_the_core_and_the_common_plugin_but_no_other_paper(path: Path) -> None:
    own = path.relative_to(ROOT / "plugins").parts[1]
    others = {name.partition(".")[0] for name in imported_modules(path) if name.startswith("kempeframe_")}
    assert others <= {own, f"kempeframe_{TRAINS}"}


def theory_files() -> list[Path]:
    return [path for path in PLUGINS if path.stem.startswith("theory")]


@pytest.mark.parametrize("path", theory_files(), ids=relative)
def test_the_mathematics_of_a_paper_imports_nothing_of_the_framework(path: Path) -> None:
    own = path.relative_to(ROOT / "plugins").parts[1]
    tops = {name.partition(".")[0] for name in imported_modules(path)}
    assert not {name for name in tops if name.startswith("kempeframe") and name != own}


def installed_components() -> list[tuple[str, type[Component]]]:
    registry = Registry()
    for name in sorted(installed()):
        registry.load(name)
    return [(name, registry.components[name.partition(".")[0]][name.partition(".")[2]]) for name in registry.names()]


@pytest.mark.parametrize(("name", "cls"), installed_components(), ids=lambda v: v if isinstance(v, str) else "")
def test_every_component_and_every_field_is_documented(name: str, cls: type[Component]) -> None:
    assert (cls.__dict__.get("__doc__") or "").strip(), f"{name} has no docstring"
    for key, attribute in spec_fields(cls).items():
        assert attribute.metadata.get("doc"), f"{name}: the field {key!r} has no documentation"


@pytest.mark.parametrize("path", [*sorted(CORE.glob("**/*.py")), *PLUGINS], ids=relative)
def test_no_file_is_too_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


def called_methods(path: Path) -> set[str]:
    calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    return {call.func.attr for call in calls if isinstance(call.func, ast.Attribute)}


@pytest.mark.parametrize("path", [*sorted(CORE.glob("**/*.py")), *PLUGINS], ids=relative)
def test_only_the_common_plugin_has_a_training_loop(path: Path) -> None:
    """`GradientOptimizer` of `standard` is the one class that owns it: others subclass it."""
    if f"plugins/{TRAINS}/" not in relative(path):
        assert not {"backward", "step"} <= called_methods(path)
