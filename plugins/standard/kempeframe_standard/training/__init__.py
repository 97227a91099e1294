"""The training loop: what `GradientOptimizer` does. Imported when the first network is trained.

A fit, or a stack of fits, is one `Loop` over steps. What a step computes is an engine's: one network directly, many
networks as one (`stacks`), or one network on all processes (`accelerated`).
"""

from __future__ import annotations

from kempeframe_standard.training.divergence import DivergedError
from kempeframe_standard.training.many import fit_many, fit_one

__all__ = ["DivergedError", "fit_many", "fit_one"]
