"""One forward pass of many networks of one architecture: hand-batched where layers allow it, else by vmap."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from kempeframe_standard.networks import ScaledLinear
from torch import Tensor, nn
from torch.func import functional_call, vmap

from kempeframe_attacking_bayes.dropout import DropoutBefore

Weights = Mapping[str, Tensor]  # parameter -> (S, ...)
ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.GELU, nn.LeakyReLU, nn.Identity)


def flattened(network: nn.Module) -> Tensor:
    """All parameters as one vector, (d,), in the order of `named_parameters()`."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()])


def unflattened(network: nn.Module, flat: Tensor) -> dict[str, Tensor]:
    """(S, d) -> name -> (S, ...), as views."""
    named = dict(network.named_parameters())
    parts = torch.split(flat, [parameter.numel() for parameter in named.values()], dim=1)
    return {n: part.view(len(flat), *p.shape) for (n, p), part in zip(named.items(), parts, strict=True)}


def forward_many(network: nn.Module, weights: Weights, inputs: Tensor) -> Tensor:
    """(n, ...) -> (S, n, outputs), in the mode in which the network is.

    Perceptrons go through one batched matrix product a layer; vmap takes 1.2 to 3.8 times as long there.
    """
    layers = _layers(network)
    if layers is None:
        return _by_vmap(network, weights, inputs)
    samples = len(next(iter(weights.values())))
    values = inputs.flatten(1).expand(samples, -1, -1)
    for layer in layers:
        values = layer(values, weights)
    return values


def _by_vmap(network: nn.Module, weights: Weights, inputs: Tensor) -> Tensor:
    def alone(own: Weights) -> Tensor:
        outputs: Tensor = functional_call(network, dict(own), (inputs,))
        return outputs

    found: Tensor = vmap(alone, randomness="different")(dict(weights))
    return found


Layer = Callable[[Tensor, Weights], Tensor]


def _layers(network: nn.Module) -> list[Layer] | None:
    """The layers of a perceptron, batched by hand; None where it has others."""
    if not isinstance(network, nn.Sequential) or network.training:
        return None
    found: list[Layer] = []
    for name, module in network.named_children():
        if isinstance(module, nn.Flatten) and not found:
            continue
        layer = _layer(name, module)
        if layer is None:
            return None
        found.append(layer)
    return found


def _layer(name: str, module: nn.Module) -> Layer | None:
    if isinstance(module, DropoutBefore):
        return _layer(f"{name}.layer", module.layer)
    if isinstance(module, (nn.Dropout, *ELEMENTWISE)):
        return lambda values, weights: module(values)
    return _linear(name, module) if type(module) in (nn.Linear, ScaledLinear) else None


def _linear(name: str, module: nn.Module) -> Layer:
    scale, bias = float(getattr(module, "scale", 1.0)), getattr(module, "bias", None) is not None

    def layer(values: Tensor, weights: Weights) -> Tensor:
        weight = weights[f"{name}.weight"].mT
        weight = weight if scale == 1 else weight * scale
        if bias:
            return torch.baddbmm(weights[f"{name}.bias"].unsqueeze(1), values, weight)
        return torch.bmm(values, weight)

    return layer
