"""Data: real inputs of which a fitted network labels a part."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from kempeframe import Data, Fit, component, field

if TYPE_CHECKING:
    from kempeframe.runs import Run
    from kempeframe.task import Batch, Examples, Task


@attrs.frozen(eq=False)
class LabelledTruth:
    """What theory on real inputs needs: the population they come from, and the network that labels a part."""

    pool: Any  # the source's ground truth; a Pool names a finite population
    population: Callable[[], Batch]  # all inputs with targets (n, outputs) as the student sees them
    generator: Any  # the fitted network behind the synthetic labels
    n_train: int
    n_synthetic: int


@component
class SyntheticLabels(Data):
    """The examples of `source`; the last round(p2 n) of them are labelled by the network of `generator`, without noise.

    Class indices become one-hot minus 1/classes, so that labels and outputs are of one kind. Inputs are the same for
    every fraction and every generator. The generator must have been trained on other examples: `skip` of
    standard.digits and standard.hub_images keeps them apart, and what overlaps is refused.
    """

    source: Data = field(doc="real inputs and labels")
    generator: Fit = field(doc="the fit whose network labels the synthetic examples")
    synthetic_fraction: float = field(0.0, "fraction p2 of examples with synthetic labels", ge=0, le=1)

    def load(self, run: Run) -> Task:
        from kempeframe_standard.networks import centred_targets
        from kempeframe_standard.pool import Pool

        from kempeframe.task import Task

        task = run.session.task(self.source, run)
        fitted = run.fit(self.generator)
        pool, other = task.truth, fitted.task.truth
        shared = pool.shared(other) if isinstance(pool, Pool) and isinstance(other, Pool) else 0
        if shared:
            raise ValueError(f"{shared} examples of the generator are among the student's: set `skip` in the source")

        def encoded(name: str) -> Examples:
            split = task.split(name)
            batch = split.examples()
            assert batch.targets is not None
            targets = centred_targets(batch.targets, task.classes).to(task.dtype)
            return type(split)(batch.inputs, targets)  # type: ignore[call-arg, return-value]

        count = self.source.n_train  # type: ignore[attr-defined]
        n_synthetic = round(self.synthetic_fraction * count)

        def train() -> Examples:
            import torch

            real = encoded("train")
            if n_synthetic:
                with torch.no_grad():
                    labels = fitted.network(real.inputs[-n_synthetic:].to(run.device)).to(real.targets)
                real.targets = torch.cat([real.targets[:-n_synthetic], labels])
            real.groups = torch.arange(count) >= count - n_synthetic
            return real

        splits: dict[str, Callable[[], Examples]] = {"train": train, "test": lambda: encoded("test")}
        return Task(
            splits=splits,
            input_shape=task.input_shape,
            output_shape=task.output_shape,
            dtype=task.dtype,
            truth=LabelledTruth(
                pool, lambda: encoded("population").examples(), fitted.network, count, n_synthetic
            ),
            bounds=task.bounds,
        )
