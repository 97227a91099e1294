"""Which component an error comes from, and where the spec names it: what the author of a plugin needs to find it."""

from __future__ import annotations

import re
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from kempeframe.components import Component
from kempeframe.digest import full_name
from kempeframe.lines import KeyPath, line_of
from kempeframe.registry import loaded_plugins

if TYPE_CHECKING:
    from kempeframe.spec import Spec
    from kempeframe.sweep import Configuration


def culprit(error: BaseException) -> str:
    """`in my_idea.sign_descent (plugin my_idea, my_idea.py:31)`: the innermost place of a plugin; "" where none is.

    The component is the innermost whose method was under way, which may be one that it inherits from another plugin;
    where a network raised, the model that built it is not in the traceback, so that its plugin and line alone are said.
    """
    place, plugin, component, home = "", "", "", ""  # home: the plugin of the code of the component's method
    trace = error.__traceback__
    while trace is not None:
        found = _plugin_at(trace.tb_frame)
        if found:
            plugin = found
            place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
            owner = trace.tb_frame.f_locals.get("self")
            if isinstance(owner, Component):
                component, home = full_name(type(owner)), plugin
            elif home != plugin:
                component = ""
        trace = trace.tb_next
    if not plugin:
        return ""
    return f"in {component} (plugin {plugin}, {place})" if component else f"in plugin {plugin} ({place})"


def _plugin_at(frame: FrameType) -> str:
    """The plugin that a frame's code is of."""
    file = Path(frame.f_code.co_filename)
    for plugin in loaded_plugins():
        if file == plugin.root or plugin.root in file.parents:
            return plugin.name
    return ""


def place_in(spec: Spec, configuration: Configuration, error: str) -> str:
    """Where the spec names what raised: `specs/x.toml:12 [optimizer]`.

    `error` is what a trial's failure says: `fit: ...` or `NAME OF AN EVALUATOR: ...`, with the culprit at its end.
    """
    path = _part(spec, configuration, error)
    shown = f"[[evaluator]] {error.partition(':')[0]}" if path[0] == "evaluator" else f"[{'.'.join(map(str, path))}]"
    return f"{spec.path}:{line_of(spec.lines, path)} {shown}"


def _part(spec: Spec, configuration: Configuration, error: str) -> KeyPath:
    where = error.partition(":")[0]
    names = [name for name, _ in configuration.evaluators]
    if where in names:
        return ("evaluator", names.index(where))
    if "trial" in spec.raw:
        return ("fit", str(spec.raw["trial"]))
    parts = {kind: getattr(configuration, kind) for kind in ("data", "model", "optimizer", "attack")}
    named = {kind: full_name(type(part)) for kind, part in parts.items() if part is not None}
    found = re.search(r" in (?:plugin )?([\w.]+) \(", error)
    culprits = [kind for kind, name in named.items() if found and found[1] in (name, name.partition(".")[0])]
    return (culprits[0] if len(culprits) == 1 else "optimizer",)
