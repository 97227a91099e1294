"""kempeframe: experiments as declarative specs, papers as plugins."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from kempeframe.components import Attack, Data, Evaluator, Fit, Model, NoTheory, Optimizer, component, field
from kempeframe.hookspecs import hookimpl

if TYPE_CHECKING:
    from kempeframe.api import load_plugin, run
    from kempeframe.claims import Claim
    from kempeframe.draft import Draft
    from kempeframe.figures import Figure
    from kempeframe.problems import SpecError
    from kempeframe.spec import load_spec
    from kempeframe.study import Study
    from kempeframe.task import Batch, Examples, Moments, MomentSplit, Snapshot, Split, Task

try:
    __version__ = version("kempeframe")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"

# Imported when first used: torch stays out until a network is needed.
_LATER = {
    "run": "kempeframe.api",
    "load_plugin": "kempeframe.api",
    "Draft": "kempeframe.draft",
    "Claim": "kempeframe.claims",
    "Figure": "kempeframe.figures",
    "SpecError": "kempeframe.problems",
    "load_spec": "kempeframe.spec",
    "Study": "kempeframe.study",
    **dict.fromkeys(("Batch", "Examples", "Moments", "MomentSplit", "Snapshot", "Split", "Task"), "kempeframe.task"),
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'kempeframe' has no attribute {name!r}")


__all__ = [
    "Attack",
    "Batch",
    "Claim",
    "Data",
    "Draft",
    "Evaluator",
    "Examples",
    "Figure",
    "Fit",
    "Model",
    "MomentSplit",
    "Moments",
    "NoTheory",
    "Optimizer",
    "Snapshot",
    "SpecError",
    "Split",
    "Study",
    "Task",
    "__version__",
    "component",
    "field",
    "hookimpl",
    "load_plugin",
    "load_spec",
    "run",
]
