"""The source code a component depends on, as one hash: for plugins that are being edited."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path


def source_hash(file: Path, package: Path) -> str:
    """Hash of a module and of all modules of its package that it imports, directly or through others.

    Following the imports keeps a changed evaluator from retraining what it looks at: its module is not among the
    data's. A plugin that is one file is its own package.
    """
    state = hashlib.sha256()
    for module in sorted(_reachable(file.resolve(), package.resolve())):
        state.update(module.relative_to(package.resolve().parent).as_posix().encode() + b"\0")
        state.update(module.read_bytes() + b"\0")
    return state.hexdigest()[:16]


def _reachable(file: Path, package: Path) -> set[Path]:
    found, open_files = {file}, [file]
    while open_files:
        for imported in _imports(open_files.pop(), package):
            if imported not in found:
                found.add(imported)
                open_files.append(imported)
    return found


def _imports(file: Path, package: Path) -> frozenset[Path]:
    """Files of `package` that `file` imports, at its top or inside functions."""
    return _imports_of(file.read_bytes(), file, package) if package.is_dir() else frozenset()


@cache  # of the content: a file may be edited while the process lives
def _imports_of(content: bytes, file: Path, package: Path) -> frozenset[Path]:
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):  # a module that nothing has imported yet
        return frozenset()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # relative to the package that the file lies in
                parent = file.parents[node.level - 1].relative_to(package.parent)
                base = ".".join([*parent.parts, *([base] if base else [])])
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return frozenset(path for name in names if (path := _module_file(name, package)) is not None)


def _module_file(name: str, package: Path) -> Path | None:
    """The file behind a dotted name: the module itself, or the module that defines the last part."""
    parts = name.split(".")
    if parts[0] != package.name:
        return None
    for length in (len(parts), len(parts) - 1):
        if length == 0:
            return None
        path = package.parent.joinpath(*parts[:length])
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None
