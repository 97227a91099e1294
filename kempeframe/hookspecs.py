"""The whole plugin interface: five hooks, each returns the component classes of one kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from kempeframe.components import Attack, Data, Evaluator, Model, Optimizer

PROJECT = "kempeframe"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def kempeframe_data() -> list[type[Data]]:
    """Data components: what a network is trained and tested on."""
    raise NotImplementedError


@hookspec
def kempeframe_model() -> list[type[Model]]:
    """Model components: what builds a network for a task."""
    raise NotImplementedError


@hookspec
def kempeframe_optimizer() -> list[type[Optimizer]]:
    """Optimizer components: what trains, solves or samples."""
    raise NotImplementedError


@hookspec
def kempeframe_attack() -> list[type[Attack]]:
    """Attack components: what perturbs inputs inside a threat model."""
    raise NotImplementedError


@hookspec
def kempeframe_evaluator() -> list[type[Evaluator]]:
    """Evaluator components: what measures a fit, or solves a paper's equations for it."""
    raise NotImplementedError
