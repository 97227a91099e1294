"""Data: iterative mixing, where each round's network labels the synthetic part of the next round's data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kempeframe import Fit, component, field
from kempeframe_strong_collapse.data import GaussianMixture, Vector

if TYPE_CHECKING:
    from kempeframe.runs import Run
    from kempeframe.task import Split


@component
class IterativeMixture(GaussianMixture):
    """Round t of dynamic mixing (Section 5 of the paper): real labels from w1, synthetic ones from round t-1's network.

    Without `previous` (round 1) the synthetic labels come from w1 + shift, as in gaussian_mixture. The truth belongs to
    the trial and is the same in all rounds; inputs and noise are each round's own, except, with fresh_real = false, the
    real examples.
    """

    previous: Fit | None = field(None, "the fit whose linear network labels the synthetic examples: NAME.previous")
    fresh_real: bool = field(True, "draw new real examples each round; false: the trial's same ones in all rounds")

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.sampler != "examples":
            raise ValueError('sampler = "moments": iterative mixing draws examples')

    @property
    def round(self) -> int:
        """t, counted from 1 along the chain of previous fits."""
        data = self.previous.data if self.previous else None
        return 1 + (data.round if isinstance(data, IterativeMixture) else 0)

    def labels(self, run: Run) -> tuple[Vector, Vector]:
        real, synthetic = super().labels(run)
        if self.previous is not None:
            weight = run.fit(self.previous).network.effective_weight()  # type: ignore[operator]
            synthetic = weight.detach().cpu().numpy()[:, 0]
        return real, synthetic

    def _draw_examples(self, run: Run, real: Vector, synthetic: Vector) -> Split:
        import torch

        from kempeframe.task import Examples

        n_real = self.n_train - self.n_synthetic
        # Real and synthetic examples have streams of their own: the real ones can then be the trial's.
        parts = [
            self._labelled(run if self.fresh_real else run.root, "real", n_real, real, self.noise),
            self._labelled(run, "synthetic", self.n_synthetic, synthetic, self.synthetic_noise),
        ]
        inputs, targets = (np.concatenate(column) for column in zip(*parts, strict=True))
        is_synthetic = torch.arange(self.n_train) >= n_real
        weights = None
        if self.synthetic_weight != 1:
            weights = torch.where(is_synthetic, self.synthetic_weight, 1.0).double()
        return Examples(torch.from_numpy(inputs), torch.from_numpy(targets[:, None]), weights, is_synthetic)

    def _labelled(self, run: Run, part: str, count: int, weight: Vector, noise: float) -> tuple[Vector, Vector]:
        scale = np.sqrt(self.population().eigenvalues)
        inputs = run.rng("data", part, "design").standard_normal((count, self.dimension)) * scale
        return inputs, inputs @ weight + noise * run.rng("data", part, "noise").standard_normal(count)
