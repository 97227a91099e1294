"""The diagonal linear network."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DiagonalNetwork(nn.Module):
    """f(x) = x (u^L - v^L); u and v of shape (inputs, outputs), all entries alpha at the start."""

    def __init__(self, inputs: int, outputs: int, depth: int, alpha: float, dtype: torch.dtype):
        super().__init__()
        self.homogeneity = depth
        self.positive = nn.Parameter(torch.full((inputs, outputs), alpha, dtype=dtype))
        self.negative = nn.Parameter(torch.full((inputs, outputs), alpha, dtype=dtype))

    def effective_weight(self) -> Tensor:
        """u^L - v^L, (inputs, outputs): the weights of the linear function that the network is."""
        return self.positive**self.homogeneity - self.negative**self.homogeneity

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, ...) -> (n, outputs)."""
        return inputs.flatten(1) @ self.effective_weight()
