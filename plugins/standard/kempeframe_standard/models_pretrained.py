"""A model that starts from another fit: fine-tuning, transfer, and rounds of training."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kempeframe import Fit, Model, component, field

if TYPE_CHECKING:
    from torch import nn

    from kempeframe.runs import Run
    from kempeframe.task import Task


@component
class Pretrained(Model):
    """The network of another fit, as a copy: what is trained on it does not change that fit.

    `freeze` and `train_only` name parameters by how their names begin ("stack.tokens", "blocks.0."); neither: all are
    trained, whatever the other fit froze. Buffers are not parameters: batch norm's go on changing.

    The weights come from the store. Only where they are gone is the other fit computed again; its training split is
    drawn then, and never else.
    """

    fit: Fit = field(doc="the fit to start from")
    freeze: tuple[str, ...] = field((), "beginnings of the names of parameters that are not trained")
    train_only: tuple[str, ...] = field((), "beginnings of the names of parameters that alone are trained")
    new_head: bool = field(False, "a fresh last layer, with as many outputs as this task has")

    def __attrs_post_init__(self) -> None:
        if self.freeze and self.train_only:
            raise ValueError("expected freeze or train_only, not both")

    @property
    def stackable(self) -> bool:
        return self.fit.model.stackable

    def build(self, task: Task, run: Run) -> nn.Module:
        from kempeframe.task import CannotGive

        fitted = run.fit(self.fit)
        network = copy.deepcopy(fitted.network).to(task.dtype)
        if self.new_head:
            replace_head(network, task.outputs)
        elif fitted.task.output_shape[-1] != task.output_shape[-1]:
            had, needed = fitted.task.output_shape[-1], task.output_shape[-1]
            raise CannotGive(f"the fit has {had} outputs, this task needs {needed}: new_head = true gives it others")
        names = [name for name, _ in network.named_parameters()]
        frozen, only = matching(names, self.freeze), matching(names, self.train_only)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in only if self.train_only else name not in frozen)
        return network.train()


def replace_head(network: nn.Module, outputs: int) -> None:
    """A new last layer, initialised as torch does, in the dtype of the old one: `head`, or a Sequential's last part.

    Raises:
        CannotGive: the network has no such nn.Linear.
    """
    from torch import nn

    from kempeframe.task import CannotGive

    name = str(len(network) - 1) if isinstance(network, nn.Sequential) else "head"
    old = getattr(network, name, None)
    if not isinstance(old, nn.Linear):
        raise CannotGive(f"new_head: {type(network).__name__} has no last layer of its own named {name}")
    new = nn.Linear(old.in_features, outputs, bias=old.bias is not None)
    setattr(network, name, new.to(old.weight))


def matching(names: Sequence[str], beginnings: Sequence[str]) -> set[str]:
    """The names that begin with one of these.

    Raises:
        CannotGive: one of them begins no name.
    """
    from kempeframe.task import CannotGive

    for beginning in beginnings:
        if not any(name.startswith(beginning) for name in names):
            raise CannotGive(f"no parameter's name begins with {beginning!r}; there are {', '.join(names)}")
    return {name for name in names if name.startswith(tuple(beginnings))}
