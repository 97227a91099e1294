"""Networks of the plugin."""

from __future__ import annotations

import numpy as np
import torch
from kempeframe_standard.networks import Readout
from torch import Tensor

from kempeframe.task import Moments, MomentSplit, Split


class Projection(Readout):
    """f(x) = x S v; S (d, m) is a buffer that is drawn again and not stored, v (m, outputs) the weight."""

    projection: Tensor

    def __init__(self, projection: np.ndarray, outputs: int, dtype: torch.dtype):
        super().__init__(projection.shape[1], outputs, dtype)
        self.register_buffer("projection", torch.tensor(projection, dtype=dtype), persistent=False)

    def features(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1) @ self.projection

    def feature_moments(self, split: Split) -> Moments:
        assert isinstance(split, MomentSplit)
        of = split.moments()
        return Moments(
            self.projection.mT @ of.gram @ self.projection, self.projection.mT @ of.cross, of.count
        )

    def effective_weight(self) -> Tensor:
        return self.projection @ self.weight
