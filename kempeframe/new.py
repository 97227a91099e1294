"""`kempeframe new`: a component in one file with a spec that runs it, or a plugin as a distribution of its own."""

from __future__ import annotations

import keyword
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template

import attrs

from kempeframe.components import KINDS
from kempeframe.problems import Problem, SpecError


@attrs.frozen
class Part:
    """What a kind is called in a plugin: its module, its class, and how the conformance kit tries it."""

    module: str
    name: str
    arguments: str = ""
    surroundings: str = ""

    @property
    def use(self) -> str:
        """As a spec names it, without the plugin."""
        from kempeframe.components import snake_case

        return snake_case(self.name)


PARTS = {
    "data": Part("data", "TwoMoons", "n_train=50, n_test=50"),
    "model": Part("models", "Bilinear", "width=8"),
    "optimizer": Part("optimizers", "SignDescent", "learning_rate=0.01, steps=20"),
    "attack": Part("attacks", "RandomCorners", "epsilon=0.1"),
    "evaluator": Part("evaluators", "Confidence"),
}


def new_component(kind: str, path: Path) -> int:
    """Write `FILE.py` with a component of a kind, and `FILE.toml` that runs it against a built-in one."""
    name = path.stem
    if path.suffix != ".py":
        raise _refusal(path, "expected a Python file, say my_idea.py")
    _check_name(name, path)
    spec = path.with_suffix(".toml")
    cls = _class_name(name)
    values = {"Class": cls, "kind": kind, "Base": KINDS[kind].__name__}
    body = _text(f"{kind}.txt", values) + _text("hook.txt", values)
    table = _text(f"{kind}.toml", {"use": f"{name}.{_snake(cls)}", "plugins": f'plugins = ["{path.name}"]\n'})
    _write({path: _with_hook_imports(body, kind), spec: table})
    print(f"wrote {path} and {spec}\n\n  kempeframe run {spec}\n  kempeframe list {path} --check")
    return 0


def new_plugin(name: str, kinds: Sequence[str], folder: Path | None) -> int:
    """Write a distribution: package, entry point, components, a spec, tests, README."""
    root = (folder or Path()) / name
    _check_name(name, root)
    wanted = [kind for kind in KINDS if kind in kinds]
    first = "optimizer" if "optimizer" in wanted else wanted[0]
    title = name.replace("_", " ").capitalize()
    package = root / f"kempeframe_{name}"
    values = {"name": name, "dashed": name.replace("_", "-"), "Title": title, "spec": name}
    parts = {kind: PARTS[kind] for kind in wanted}
    rows = [f"| `{name}.{part.use}` | {_first_line(kind, part)} |" for kind, part in parts.items()]
    modules = ", ".join(sorted(part.module for part in parts.values()))
    hooks = "".join(
        _text("init_hook.txt", {"kind": kind, "module": part.module, "Class": part.name})
        for kind, part in parts.items()
    )
    imports = [f"from kempeframe_{name}.{part.module} import {part.name}" for part in parts.values()]
    tests = "".join(_conformance(kind, part) for kind, part in parts.items())
    files = {
        root / "pyproject.toml": _text("pyproject.txt", values),
        root / "README.md": _text("readme.txt", values | {"rows": "\n".join(rows)}),
        package / "__init__.py": _text("init.txt", values | {"modules": modules}) + hooks,
        root / "tests" / "test_conformance.py": _text(
            "test_conformance.txt", {"imports": "\n".join(sorted(imports))}
        ).rstrip("\n")
        + "\n"
        + tests,
        root / "tests" / "test_specs.py": _text("test_specs.txt", {}),
    }
    for kind, part in parts.items():
        files[package / f"{part.module}.py"] = _text(f"{kind}.txt", {"Class": part.name})
        spec = name if kind == first else part.use
        files[root / "specs" / f"{spec}.toml"] = _text(f"{kind}.toml", {"use": f"{name}.{part.use}", "plugins": ""})
    _write(files)
    print(f"wrote {root}: {', '.join(f'{name}.{part.use}' for part in parts.values())}\n")
    print(f"  cd {root}\n  pip install -e '.[test]'\n  kempeframe run specs/{name}.toml\n  pytest")
    return 0


def _conformance(kind: str, part: Part) -> str:
    values = {"Class": part.name, "kind": kind, "arguments": part.arguments, "surroundings": part.surroundings}
    return _text("test_conformance_one.txt", values)


def _with_hook_imports(body: str, kind: str) -> str:
    """The one line `from kempeframe import ...` with what the hook needs besides."""
    lines = body.splitlines(keepends=True)
    at = next(index for index, line in enumerate(lines) if line.startswith("from kempeframe import "))
    names = {name.strip() for name in lines[at].removeprefix("from kempeframe import ").split(",")}
    names |= {"hookimpl", KINDS[kind].__name__}
    lines[at] = f"from kempeframe import {', '.join(sorted(names, key=lambda n: (n.islower(), n)))}\n"
    return "".join(lines)


def _first_line(kind: str, part: Part) -> str:
    text = _text(f"{kind}.txt", {"Class": part.name})
    return text.partition(f"class {part.name}")[2].partition('"""')[2].partition('"""')[0]


def _text(file: str, values: dict[str, str]) -> str:
    template = resources.files("kempeframe").joinpath("scaffold", file).read_text(encoding="utf-8")
    return Template(template).substitute(values)


def _class_name(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_") if part)


def _snake(cls: str) -> str:
    from kempeframe.components import snake_case

    return snake_case(cls)


def _check_name(name: str, path: Path) -> None:
    from kempeframe.registry import installed

    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower() or not name.strip("_"):
        raise _refusal(path, f"{name!r} can't name a plugin: use small letters, digits and _, say my_idea")
    if name in installed():
        raise _refusal(path, f"there is an installed plugin {name!r}; choose another name")


def _write(files: dict[Path, str]) -> None:
    """Write all, or nothing where one of them is there already."""
    there = [path for path in files if path.exists()]
    if there:
        raise _refusal(there[0], "is there already; nothing was written")
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise _refusal(path, f"can't be written: {error.strerror}") from None


def _refusal(path: Path, message: str) -> SpecError:
    return SpecError("command line", [Problem(str(path), "", message)])
