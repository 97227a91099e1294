"""Dropout as a posterior: a mask on hidden units is a copy of the next layer's weights with columns scaled or 0."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from kempeframe.task import CannotGive


class DropoutBefore(nn.Module):
    """A layer that leaves out a share of its inputs while it is trained, and scales the others by 1 / (1 - rate)."""

    def __init__(self, layer: nn.Linear, rate: float):
        super().__init__()
        self.layer, self.rate = layer, rate

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(nn.functional.dropout(inputs, self.rate, self.training))
        return outputs


def with_dropout(network: nn.Module, rate: float) -> nn.Module:
    """Put dropout before every dense layer but one that sees the inputs themselves; changes the network.

    Raises:
        CannotGive: it has no dense layer behind another one.
    """
    first = next((module for module in network.modules() if list(module.parameters(recurse=False))), None)
    places = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear) and child is not first
    ]
    if not places:
        raise CannotGive(f"dropout leaves out hidden units; {type(network).__name__} has no dense layer behind others")
    for parent, name, child in places:
        setattr(parent, name, DropoutBefore(child, rate))
    return network


def dropped(network: nn.Module) -> list[tuple[str, DropoutBefore]]:
    """The layers with dropout, by name; it is off where the rate is 0."""
    return [(name, module) for name, module in network.named_modules() if isinstance(module, DropoutBefore)]


def masked_copies(network: nn.Module, count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Flat parameter vectors (d,), each with a mask of its own in the weights behind the dropout."""
    layers = {f"{name}.layer.weight": layer.rate for name, layer in dropped(network)}
    for _ in range(count):
        parts = []
        for name, parameter in network.named_parameters():
            value = parameter.detach()
            if name in layers:
                rate = layers[name]
                kept = torch.rand(value.shape[1], generator=generator) >= rate
                value = value * (kept.to(value) / (1 - rate))
            parts.append(value.reshape(-1))
        yield torch.cat(parts)
