"""What evaluators compute on a split: outputs in batches, and measures of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from kempeframe.runs import Run
from kempeframe.task import Batch, CannotGive
from kempeframe.trial import Fitted

EXAMPLES_AT_ONCE = 1000


def pieces(fitted: Fitted, run: Run, split: str, limit: int | None = None) -> Iterator[Batch]:
    """The first `limit` examples of a split, or all, on the run's device, in batches."""
    batch = fitted.task.split(split).examples()
    count = len(batch.inputs) if limit is None else min(limit, len(batch.inputs))
    for start in range(0, count, EXAMPLES_AT_ONCE):
        part = slice(start, min(start + EXAMPLES_AT_ONCE, count))
        yield Batch(
            batch.inputs[part].to(run.device),
            None if batch.targets is None else batch.targets[part].to(run.device),
            None if batch.index is None else batch.index[part].to(run.device),
            None if batch.weights is None else batch.weights[part].to(run.device),
            None if batch.groups is None else batch.groups[part].to(run.device),
        )


def outputs_and_targets(fitted: Fitted, run: Run, split: str) -> tuple[Tensor, Tensor]:
    """The network's outputs on a split, and the targets, on the run's device.

    Raises:
        CannotGive: the split has no targets.
    """
    outputs, targets = [], []
    with torch.no_grad():
        for batch in pieces(fitted, run, split):
            if batch.targets is None:
                raise CannotGive(f"the {split} split has no targets")
            outputs.append(fitted.network(batch.inputs))
            targets.append(batch.targets)
    return torch.cat(outputs), torch.cat(targets)


def class_outputs(fitted: Fitted, run: Run, split: str) -> tuple[Tensor, Tensor]:
    """The same for classification; a single output f becomes the two scores (0, f).

    Raises:
        CannotGive: the task has no classes.
    """
    if fitted.task.classes is None:
        raise CannotGive("this is for classification; the task has no classes")
    outputs, targets = outputs_and_targets(fitted, run, split)
    return two_scores(outputs), targets


def two_scores(outputs: Tensor) -> Tensor:
    """(n, k) as it is for k >= 2; (n, 1) -> (n, 2): class 0 scores 0, class 1 the output."""
    return torch.cat([torch.zeros_like(outputs), outputs], dim=1) if outputs.shape[1] == 1 else outputs


def calibration(outputs: Tensor, targets: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Bins of equal width in the confidence: mean confidence, accuracy, share of the examples, each (bins,).

    The confidence is the largest softmax probability. An empty bin has nan for mean and accuracy, and share 0.
    """
    probabilities = outputs.double().softmax(dim=1)
    confidence, guess = probabilities.max(dim=1)
    right = (guess == targets).double()
    place = (confidence * bins).long().clamp_max(bins - 1)
    count = torch.bincount(place, minlength=bins).double()
    means = torch.bincount(place, weights=confidence, minlength=bins) / count
    accuracies = torch.bincount(place, weights=right, minlength=bins) / count
    return means, accuracies, count / len(targets)
