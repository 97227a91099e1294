"""The source code a component depends on, as one hash: for plugins that are being edited."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path


def source_hash(file: Path, package: Path, others: Sequence[Path] = ()) -> str:
    """Hash of a module and of all modules of its package that it imports, directly or through others.

    Following the imports keeps a changed evaluator from retraining what it looks at: its module is not among the
    data's. A plugin that is one file is its own package. `others` are packages that are being edited too: imports are
    followed into them.
    """
    state = hashlib.sha256()
    roots = tuple(dict.fromkeys(root.resolve() for root in (package, *others)))
    for name, module in sorted((_name(path, roots), path) for path in _reachable(file.resolve(), roots)):
        state.update(name.encode() + b"\0")
        state.update(module.read_bytes() + b"\0")
    return state.hexdigest()[:16]


def _name(module: Path, roots: Sequence[Path]) -> str:
    """The module's path from the folder that its package lies in; the same on every machine."""
    return module.relative_to(_root(module, roots).parent).as_posix()


def _root(module: Path, roots: Sequence[Path]) -> Path:
    return next(root for root in roots if module.is_relative_to(root))


def _reachable(file: Path, roots: Sequence[Path]) -> set[Path]:
    found, open_files = {file}, [file]
    while open_files:
        module = open_files.pop()
        imported = _imports_of(module.read_bytes(), module, _root(module, roots), tuple(r for r in roots if r.is_dir()))
        open_files.extend(imported - found)
        found |= imported
    return found


@cache  # of the content: a file may be edited while the process lives
def _imports_of(content: bytes, file: Path, package: Path, roots: Sequence[Path]) -> frozenset[Path]:
    """Files of `roots` that a module of `package` imports, at its top or inside functions."""
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
    return frozenset(path for name in names for root in roots if (path := _module_file(name, root)) is not None)


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
