"""A two-layer network without biases, whose degree of homogeneity is known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

DEGREES = {"relu": 2, "leaky_relu": 2, "squared_relu": 3}  # of the network in its parameters
LEAK = 0.1


class TwoLayerNetwork(nn.Module):
    """f(x) = A a(W x), W (width, inputs), A (outputs, width), a one of DEGREES; inputs are flattened."""

    def __init__(self, first: np.ndarray, second: np.ndarray, activation: str, dtype: torch.dtype):
        super().__init__()
        self.activation = activation
        self.homogeneity = DEGREES[activation]
        self.first = nn.Parameter(torch.tensor(first, dtype=dtype))
        self.second = nn.Parameter(torch.tensor(second, dtype=dtype))

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, ...) -> (n, outputs)."""
        hidden = inputs.flatten(1) @ self.first.mT
        if self.activation == "leaky_relu":
            hidden = nn.functional.leaky_relu(hidden, LEAK)
        else:
            hidden = hidden.relu() if self.activation == "relu" else hidden.relu().square()
        return hidden @ self.second.mT

    def extra_repr(self) -> str:
        """Fits are stacked by what a network prints."""
        return f"{self.first.shape[1]}, {self.first.shape[0]}, {self.second.shape[0]}, {self.activation}"
