"""Loading the plugin's tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from torch import Tensor

from kempeframe.runs import Run
from kempeframe.task import CannotGive, Examples, Split, Task
from kempeframe_attacking_bayes.theory_gaussian import GaussianPosterior

if TYPE_CHECKING:
    from kempeframe_attacking_bayes.data import GaussianLinear, SemanticShift


def with_shifted(settings: SemanticShift, run: Run) -> Task:
    """The task with its split "ood"; the labels there are those of the inputs that were shifted.

    Raises:
        CannotGive: the task has no box to mirror in, or the other data do not fit.
    """
    task = settings.data.load(run)
    if settings.shift == "inverted" and task.bounds is None:
        raise CannotGive('shift = "inverted" mirrors inputs in the box of the task, which has none')

    def shifted() -> Split:
        own = task.test.examples()
        targets = torch.zeros(len(own.inputs), dtype=torch.int64) if own.targets is None else own.targets
        if settings.other is not None:
            others = settings.other.load(run).test.examples().inputs[: len(own.inputs)]
            inputs = fitted_to(others, task.input_shape).to(own.inputs.dtype)
            return Examples(inputs, torch.zeros(len(inputs), dtype=torch.int64))
        if settings.shift == "inverted":
            assert task.bounds is not None
            return Examples(sum(task.bounds) - own.inputs, targets)
        order = torch.from_numpy(run.root.rng("data", "pixels").permutation(task.inputs))
        return Examples(own.inputs.flatten(1)[:, order].view_as(own.inputs), targets)

    return Task(
        splits={**task.splits, "ood": shifted},
        **{a.name: getattr(task, a.name) for a in attrs.fields(Task) if a.init and a.name != "splits"},
    )


def fitted_to(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Images (n, channels, height, width) as others of this shape: grey if need be, the middle, averaged over squares.

    Raises:
        CannotGive: they are smaller, or have other channels.
    """
    if images.dim() != 4 or len(shape) != 3:
        raise CannotGive(f"expected images, got inputs of shape {tuple(images.shape[1:])} and {shape}")
    channels, height, width = shape
    if channels == 1:
        images = images.mean(dim=1, keepdim=True)
    factor = min(images.shape[2] // height, images.shape[3] // width)
    if images.shape[1] != channels or factor < 1:
        raise CannotGive(f"images of shape {tuple(images.shape[1:])} do not fit inputs of shape {shape}")
    top, left = (images.shape[2] - factor * height) // 2, (images.shape[3] - factor * width) // 2
    middle = images[:, :, top : top + factor * height, left : left + factor * width]
    return torch.nn.functional.avg_pool2d(middle, factor) if factor > 1 else middle


def gaussian_linear(settings: GaussianLinear, run: Run) -> Task:
    """The task, in float64."""
    d, draws = settings.dimension, run.root.rng("data", "posterior")
    mean = settings.mean_scale * draws.standard_normal(d)
    root = draws.standard_normal((d, 2 * d))
    posterior = GaussianPosterior(mean, settings.covariance_scale**2 * root @ root.T / d)

    def part(name: str, count: int) -> Examples:
        rng = run.rng("data", name)
        x = rng.standard_normal((count, d))
        y = rng.random(count) < posterior.predictive(x)
        return Examples(torch.from_numpy(x), torch.from_numpy(y.astype(np.int64)))

    return Task(
        splits={"train": lambda: part("train", settings.n_train), "test": lambda: part("test", settings.n_test)},
        input_shape=(d,),
        output_shape=(1,),
        dtype=torch.float64,
        classes=2,
        truth=posterior,
    )
