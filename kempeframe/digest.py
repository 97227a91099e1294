"""Digests: what a result is stored under. Stable across processes, machines and Python versions."""

from __future__ import annotations

import hashlib
import inspect
import json
from pathlib import Path
from typing import Any

import attrs

from kempeframe.components import Component, Fit
from kempeframe.sources import source_hash

FORMAT = 1  # raised when the canonical form itself changes; then every stored result is computed again


def digest_of(value: Any) -> str:
    """32 hex digits of the canonical form of a component, a fit, or plain data."""
    text = json.dumps([FORMAT, canonical(value)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def join(*parts: str | int) -> str:
    """A digest of digests (and seeds)."""
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:32]


def canonical(value: Any) -> Any:
    """Nested lists and tables of JSON values that say everything that matters about `value`, and nothing else.

    Raises:
        TypeError: a field holds something that has no canonical form.
    """
    if isinstance(value, Component):
        return ["component", *identity(type(value)), _fields(value)]
    if isinstance(value, Fit):
        parts = [value.data, value.model, value.optimizer, value.training_attack]
        return ["fit", value.stream, value.seed, *map(_digest_or_none, parts)]
    if attrs.has(type(value)):
        return ["record", type(value).__name__, _fields(value)]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return ["float", value.hex()]  # 1.0 and 1 differ in type, not in a spec: structuring has settled it before
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, dict):
        return {str(key): canonical(item) for key, item in value.items()}
    raise TypeError(f"no canonical form for a {type(value).__name__}")


def _fields(value: Any) -> dict[str, Any]:
    return {a.name: canonical(getattr(value, a.name)) for a in attrs.fields(type(value))}


def _digest_or_none(component: Component | None) -> str | None:
    return None if component is None else component.digest


def identity(cls: type[Component]) -> tuple[str, int, list[str]]:
    """Full name, version, and source hashes of the editable code that the class inherits from, with all it imports."""
    from kempeframe.registry import edited_packages, plugin_of

    if cls not in _IDENTITIES:
        sources = set()
        for base in cls.__mro__:
            plugin = plugin_of(base)
            if plugin is not None and plugin.editable:
                sources.add(source_hash(Path(inspect.getfile(base)), plugin.root, edited_packages()))
        _IDENTITIES[cls] = full_name(cls), cls.version, sorted(sources)
    return _IDENTITIES[cls]


_IDENTITIES: dict[type, tuple[str, int, list[str]]] = {}  # the source that a class was made from does not change


def full_name(cls: type[Component]) -> str:
    """`plugin.component`, as a spec's `use` writes it."""
    from kempeframe.registry import plugin_of

    plugin = plugin_of(cls)
    return f"{plugin.name if plugin else cls.__module__}.{cls.component_name()}"


def source_file(cls: type) -> str:
    """Where a class is written: `path:line`."""
    try:
        return f"{inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):
        return "(no source)"
