"""What holds for components of every kind: documentation, validation, the way to TOML and back, the digest."""

from __future__ import annotations

import atexit
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import attrs
import tomli

from kempeframe.components import KINDS, Component
from kempeframe.fieldtypes import type_text
from kempeframe.nested import held
from kempeframe.registry import Registry, plugin_of
from kempeframe.structure import Context, spec_fields, structure, unknown_keys
from kempeframe.testing.surroundings import Around, CheckFunction, concerning
from kempeframe.written import NotWritable, as_table, as_toml


def of_a_plugin(around: Around) -> bool:
    """Whether a spec can name the component and all that it holds: none of it is written in a test alone."""
    try:
        as_table(around.component)
    except NotWritable:
        return False
    return True


def documented(around: Around) -> None:
    """The class and every field have documentation, and the name can stand in a spec."""
    cls = type(around.component)
    assert (vars(cls).get("__doc__") or "").strip(), f"{cls.__name__} has no docstring"
    for name, attribute in spec_fields(cls).items():
        assert attribute.metadata.get("doc"), f"the field {name!r} has no documentation: field(default, 'what it is')"
    assert cls.component_name().isidentifier(), f"{cls.component_name()!r} is no name for a spec"


@concerning(of_a_plugin)
def fields_are_validated(around: Around) -> None:
    """A value out of a field's range, or of another type, is refused."""
    component = around.component
    for name, attribute in spec_fields(type(component)).items():
        for wrong in [*_out_of_range(attribute), *_of_another_type(attribute.type)]:
            table = {**as_table(component), name: wrong}
            problems = structured(table, type(component))[1]
            expected = type_text(attribute.type)
            assert problems, f"{name} = {wrong!r} is accepted; expected {expected} {attribute.metadata.get('limits')}"


def _out_of_range(attribute: attrs.Attribute[Any]) -> list[Any]:
    limits = attribute.metadata.get("limits", {})
    listed = get_origin(attribute.type) in (tuple, list)
    if listed and Ellipsis not in get_args(attribute.type):
        return []
    steps: dict[str, Callable[[float], float]] = {
        ">=": lambda bound: bound - 1,
        ">": lambda bound: bound,
        "<=": lambda bound: bound + 1,
        "<": lambda bound: bound,
    }
    wrong = [steps[sign](bound) for sign, bound in limits.items() if not math.isinf(bound)]
    return [[value] for value in wrong] if listed else wrong


def _of_another_type(kind: Any) -> list[Any]:
    if kind in (int, float):
        return ["a text"]
    if kind is bool:
        return ["yes", 1]
    if kind is str:
        return [1]
    return ["no such choice"] if get_origin(kind) is Literal else []


@concerning(of_a_plugin)
def toml_and_back(around: Around) -> None:
    """Written as TOML and read again it is equal, with the same digest."""
    component = around.component
    made, problems = structured(tomli.loads(as_toml(component)), type(component))
    assert not problems, f"its own TOML is refused: {problems}"
    assert as_table(made) == as_table(component), f"read again it is {made}"
    if not held(component):  # the seed of a fit inside derives from where it stands
        again = type(made) is not type(component)  # a file is imported anew, and its classes with it
        assert again or made == component, f"read again it is {made}"
        assert made.digest == component.digest, "read again it has another digest"


def structured(table: dict[str, Any], cls: type[Component]) -> tuple[Any, list[Any]]:
    """A component from its table, and the problems."""
    registry, plugin = Registry(), plugin_of(cls)
    if plugin is not None and plugin.root.is_file():
        registry.load_file(plugin.root)
    context = Context(registry)
    made = structure(table, KINDS[cls.kind], context)
    return made, [*context.problems, *unknown_keys(context)]


def equal_components_are_one(around: Around) -> None:
    """It can be hashed, and a copy is equal to it."""
    component = around.component
    copy = attrs.evolve(component)  # type: ignore[misc]
    assert copy == component and hash(copy) == hash(component)


@concerning(of_a_plugin)
def digest_is_stable_across_processes(around: Around) -> None:
    """Another process, with other hashes and no module loaded, finds the same digest."""
    component = around.component
    plugin = plugin_of(type(component))
    assert plugin is not None
    request: dict[str, Any] = {
        "kind": component.kind,
        "table": as_table(component),
        "file": str(plugin.root) if plugin.root.is_file() else None,
    }
    here = structured(request["table"], type(component))[0].digest
    assert _Other.ask(request) == here, "another process finds another digest"


class _Other:
    """A process that finds digests: one for all checks of this process."""

    process: subprocess.Popen[str] | None = None

    @classmethod
    def ask(cls, request: dict[str, Any]) -> str:
        if cls.process is None:
            environment = {**os.environ, "PYTHONHASHSEED": "4242"}
            cls.process = subprocess.Popen(
                [sys.executable, "-c", "from kempeframe.testing.every import answer; answer()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            atexit.register(cls.end)
        assert cls.process.stdin is not None and cls.process.stdout is not None
        cls.process.stdin.write(json.dumps(request) + "\n")
        cls.process.stdin.flush()
        return cls.process.stdout.readline().strip()

    @classmethod
    def end(cls) -> None:
        """Let it go."""
        if cls.process is not None:
            cls.process.communicate()
            cls.process = None


def answer() -> None:
    """Read tables, a line each, and print the digests of their components: the other process."""
    for line in sys.stdin:
        request = json.loads(line)
        registry = Registry()
        if request["file"]:
            registry.load_file(Path(request["file"]))
        context = Context(registry)
        made = structure(request["table"], KINDS[request["kind"]], context)
        print(made.digest if isinstance(made, Component) else context.problems, flush=True)


CHECKS: list[CheckFunction] = [
    documented,
    fields_are_validated,
    toml_and_back,
    equal_components_are_one,
    digest_is_stable_across_processes,
]
