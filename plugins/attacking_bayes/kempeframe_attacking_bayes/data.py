"""Data: inputs from elsewhere beside a task's own, and linear classification with a known Gaussian posterior."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from kempeframe import Data, component, field

if TYPE_CHECKING:
    from kempeframe.runs import Run
    from kempeframe.task import Task


@component
class SemanticShift(Data):
    """A task with one more split, "ood": inputs of no class, or of other classes, as many as its test inputs.

    "pixel_permutation": the test inputs with all pixels in one random order, the trial's; "inverted": with their values
    mirrored in the box; "other_dataset": the test inputs of `other`, turned grey, cut in the middle and pooled to the
    shape of the task's own.
    """

    data: Data = field(doc="the task")
    shift: Literal["pixel_permutation", "inverted", "other_dataset"] = field(
        "pixel_permutation", "where they come from"
    )
    other: Data | None = field(None, 'the other data set, for "other_dataset"')

    def __attrs_post_init__(self) -> None:
        if (self.shift == "other_dataset") != (self.other is not None):
            raise ValueError('expected `other` with shift = "other_dataset", and only there')

    def load(self, run: Run) -> Task:
        from kempeframe_attacking_bayes.shift import with_shifted

        return with_shifted(self, run)


@component
class GaussianLinear(Data):
    """Linear classification whose posterior is given: w ~ N(m, V), x ~ N(0, I), y = 1 with probability E Phi(w.x).

    m = mean_scale N(0, I); V = covariance_scale^2 A A' / d with A (d, 2d) standard normal. Both are the trial's truth
    (`GaussianPosterior`). Labels follow the posterior predictive itself, so that it is calibrated. No box.
    """

    dimension: int = field(50, "number d of inputs", ge=1)
    n_train: int = field(100, "training examples, which no exact posterior looks at", ge=1)
    n_test: int = field(1000, "test examples", ge=1)
    mean_scale: float = field(0.3, "standard deviation of the entries of m", gt=0, lt=math.inf)
    covariance_scale: float = field(
        0.18, "size of the posterior's standard deviations, over sqrt(2)", gt=0, lt=math.inf
    )

    def load(self, run: Run) -> Task:
        from kempeframe_attacking_bayes.shift import gaussian_linear

        return gaussian_linear(self, run)
