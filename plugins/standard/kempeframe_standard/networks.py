"""Networks: linear in their trained weights (fixed features, then a readout), and multilayer perceptrons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from kempeframe.task import CannotGive, Moments, Split

if TYPE_CHECKING:
    from kempeframe_standard.models import Mlp


class Readout(nn.Module):
    """f(x) = features(x) W, W of shape (features, outputs), from 0. Here the features are the inputs, flattened."""

    homogeneity = 1  # degree in the parameters

    def __init__(self, features: int, outputs: int, dtype: torch.dtype):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features, outputs, dtype=dtype))

    def features(self, inputs: Tensor) -> Tensor:
        """(n, ...) -> (n, features)."""
        return inputs.flatten(1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.features(inputs) @ self.weight

    def feature_moments(self, split: Split) -> Moments:
        """The split's moments in feature space.

        Raises:
            CannotGive: the split holds moments alone and the features are not linear in the inputs.
        """
        return split.moments()

    def effective_weight(self) -> Tensor:
        """(inputs, outputs): the weights of the linear function that the network is.

        Raises:
            CannotGive: the network is not linear in its inputs.
        """
        return self.weight


class ReluFeatures(Readout):
    """Random ReLU features: sqrt(2/m) relu(x V + b). V and b are buffers that are drawn again and not stored."""

    first: Tensor
    bias: Tensor

    def __init__(self, weight: np.ndarray, bias: np.ndarray, outputs: int, dtype: torch.dtype):
        super().__init__(weight.shape[1], outputs, dtype)
        self.register_buffer("first", torch.tensor(weight, dtype=dtype), persistent=False)
        self.register_buffer("bias", torch.tensor(bias, dtype=dtype), persistent=False)

    def features(self, inputs: Tensor) -> Tensor:
        scale = math.sqrt(2 / self.first.shape[1])
        return scale * torch.relu(torch.addmm(self.bias, inputs.flatten(1), self.first))

    def feature_moments(self, split: Split) -> Moments:
        raise CannotGive("random ReLU features are not linear: they need examples, not moments")

    def effective_weight(self) -> Tensor:
        raise CannotGive("a network of ReLU features is not linear in its inputs")


ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


class ScaledLinear(nn.Linear):
    """x -> scale W x + b: the scale is no part of the weights, and so of their learning rate."""

    scale: float = 1.0

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.linear(inputs, self.weight * self.scale, self.bias)


def perceptron(
    weights: Sequence[np.ndarray], scales: Sequence[float], settings: Mlp, dtype: torch.dtype
) -> nn.Sequential:
    """Layers with these weights, (outputs, inputs) each, scales in front of them, and biases of 0."""
    layers: list[nn.Module] = [nn.Flatten()]
    for number, (weight, scale) in enumerate(zip(weights, scales, strict=True)):
        if number:
            layers.append(ACTIVATIONS[settings.activation]())
            layers += [nn.Dropout(settings.dropout)] if settings.dropout else []
        kind = nn.Linear if scale == 1 else ScaledLinear
        layer = kind(weight.shape[1], weight.shape[0], bias=settings.bias, dtype=dtype)
        if isinstance(layer, ScaledLinear):
            layer.scale = scale
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight))
            if settings.bias:
                layer.bias.zero_()
        layers.append(layer)
    network = nn.Sequential(*layers)
    if not settings.bias and (settings.activation == "relu" or settings.depth == 0):
        network.homogeneity = len(weights)  # type: ignore[assignment]  # degree in the parameters
    return network


def centred_targets(targets: Tensor, classes: int | None) -> Tensor:
    """Regression targets (n, k) as they are; class indices (n,) as one-hot minus 1/classes, in float64."""
    if classes is None:
        return targets.reshape(len(targets), -1)
    return nn.functional.one_hot(targets, classes).double() - 1 / classes
