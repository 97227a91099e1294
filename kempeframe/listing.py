"""The command `list`: what is installed, from a cache: neither a plugin nor torch is imported. `--check` imports all.

The cache is keyed by distribution and version; of an editable install, by what its files hold.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

GROUP = "kempeframe"
FORMAT = 1  # raised when an entry comes to hold something else


def list_command(plugin: str | None, check: bool) -> int:
    """Print plugins and components; a plugin that can't be imported is said and skipped. Returns the exit code."""
    if plugin is not None and plugin.endswith(".py"):
        return _list_file(Path(plugin), check)
    points = {point.name: point for point in metadata.entry_points(group=GROUP)}
    if plugin is not None and plugin not in points:
        from kempeframe.problems import nearest

        print(f"unknown plugin {plugin!r}{nearest(plugin, points)}", file=sys.stderr)
        return 2
    names = sorted(points) if plugin is None else [plugin]
    if check:
        return _check(names)
    known = _read_cache()
    keys = {name: _key(points[name]) for name in names}
    entries = {name: known.get(name, {}) for name in names}
    stale = [name for name in names if entries[name].get("key") != keys[name]]
    broken = False
    for name in stale:
        entries[name] = _inspect(name) | {"key": keys[name]}
    if stale:
        _write_cache(known | {name: entries[name] for name in stale if "error" not in entries[name]})
    for name in names:
        error = entries[name].get("error")
        if error is not None:
            print(error, file=sys.stderr)
            broken = True
        else:
            _show(name, entries[name])
    return 2 if broken else 0


def _show(name: str, entry: dict[str, Any]) -> None:
    print(f"{name} {entry['version']}{' (editable)' if entry['editable'] else ''}")
    width = max((len(full) for _, full, _ in entry["components"]), default=0)
    for kind, full, line in entry["components"]:
        print(_fitting(f"  {kind:<9}  {full:<{width}}  {line}"))


def _fitting(line: str) -> str:
    """A line cut to the terminal's width; whole where it goes to a file or a pipe."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else len(line)
    return line if len(line) <= width else line[: width - 3] + "..."


# ---- what is in a plugin -------------------------------------------------------------------------------------------


def _inspect(name: str, file: Path | None = None) -> dict[str, Any]:
    """Import a plugin and say what it registers, or why that fails."""
    from kempeframe.components import KINDS
    from kempeframe.information import first_line
    from kempeframe.registry import BrokenPlugin, Registry, UnknownName

    registry = Registry()
    try:
        loaded = registry.load(name) if file is None else registry.load_file(file)
    except (BrokenPlugin, UnknownName) as error:
        return {"error": str(error)}
    own = [(kind, full) for kind in KINDS for full in registry.names(kind)]
    components = [[kind, full, first_line(registry.find(kind, full))] for kind, full in own]
    return {"version": loaded.version, "editable": loaded.editable, "components": components}


def _list_file(path: Path, check: bool) -> int:
    entry = _inspect(path.stem, path)
    if "error" in entry:
        print(entry["error"], file=sys.stderr)
        return 2
    if check:
        return _check_file(path)
    _show(path.stem, entry | {"version": str(path), "editable": False})
    return 0


# ---- the cache -----------------------------------------------------------------------------------------------------


def _cache_file() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "kempeframe" / "list.json"


def _read_cache() -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(_cache_file().read_text(encoding="utf-8"))
        return dict(found["plugins"]) if found["format"] == FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write_cache(plugins: dict[str, dict[str, Any]]) -> None:
    path = _cache_file()
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"format": FORMAT, "plugins": plugins}), encoding="utf-8")
        part.replace(path)
    except OSError:  # a home that can't be written: then it is found out anew each time
        with contextlib.suppress(OSError):
            part.unlink()


def _key(point: metadata.EntryPoint) -> str:
    """Distribution, version, and the content of an editable install's files."""
    from kempeframe import __version__

    distribution = point.dist
    if distribution is None:
        return ""
    parts = [sys.executable, __version__, point.value, distribution.name, distribution.version]
    url = distribution.read_text("direct_url.json")
    if url and json.loads(url).get("dir_info", {}).get("editable"):
        parts += _source_facts(point)
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def _source_facts(point: metadata.EntryPoint) -> Iterator[str]:
    """Of every source file: name, size, time of its last change. Finding them imports no more than parent packages."""
    try:
        spec = importlib.util.find_spec(point.module.partition(".")[0])
    except (ImportError, ValueError):
        spec = None
    origin = Path(spec.origin) if spec is not None and spec.origin else None
    if origin is None:
        return
    files = sorted(origin.parent.glob("**/*.py")) if origin.name == "__init__.py" else [origin]
    for file in files:
        status = file.stat()
        yield f"{file}:{status.st_size}:{status.st_mtime_ns}"


# ---- list --check --------------------------------------------------------------------------------------------------


def _check(names: list[str]) -> int:
    from kempeframe.soundness import problems_of_installed

    return _say({name: problems_of_installed(name) for name in names})


def _check_file(path: Path) -> int:
    from kempeframe.soundness import problems_of_file

    return _say({str(path): problems_of_file(path)})


def _say(problems: dict[str, list[str]]) -> int:
    for name, found in problems.items():
        if not found:
            print(f"{name}: sound")
        for problem in found:
            print(f"{name}: {problem}", file=sys.stderr)
    return 2 if any(problems.values()) else 0
