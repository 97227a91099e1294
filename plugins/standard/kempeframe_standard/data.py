"""Data: generated regression, and scikit-learn's digits."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from kempeframe import Data, component, field
from kempeframe_standard.pool import Indices, Pool

if TYPE_CHECKING:
    from kempeframe.runs import Run
    from kempeframe.task import Examples, Task


@component
class LinearRegression(Data):
    """y = x.w + noise with x ~ N(0, I) and a random unit vector w: the plainest regression there is."""

    dimension: int = field(20, "number of features", ge=1)
    n_train: int = field(100, "training examples", ge=1)
    n_test: int = field(1000, "test examples", ge=1)
    noise: float = field(0.1, "standard deviation of the label noise, in training and test", ge=0)

    def load(self, run: Run) -> Task:
        import torch

        from kempeframe.task import Examples, Task

        weight = run.root.rng("data", "teacher").standard_normal(self.dimension)
        weight /= np.linalg.norm(weight)

        def draw(part: str, count: int) -> Examples:
            inputs = run.rng("data", part, "inputs").standard_normal((count, self.dimension))
            noise = run.rng("data", part, "noise").standard_normal(count)
            targets = inputs @ weight + self.noise * noise
            return Examples(torch.from_numpy(inputs), torch.from_numpy(targets[:, None]))

        return Task(
            splits={"train": lambda: draw("train", self.n_train), "test": lambda: draw("test", self.n_test)},
            input_shape=(self.dimension,),
            output_shape=(1,),
            dtype=torch.float64,
            truth=weight,
        )


@component
class Digits(Data):
    """Scikit-learn's 1,797 images of handwritten digits, 8 x 8, pixels in [0, 1], ten classes.

    They come inside the package. Training images are taken from the front of one permutation of the trial's, so that
    a larger n_train holds a smaller one; test images from its end. The split "population" holds all 1,797.
    """

    n_train: int = field(1000, "training images", ge=1, le=1797)
    n_validation: int = field(0, "validation images, those after the training images; 0: no such split", ge=0)
    n_test: int = field(500, "test images, disjoint from the training images", ge=1, le=1797)
    skip: int = field(0, "images of the permutation to leave out before the first training image", ge=0)
    centre: bool = field(False, "subtract the mean image of all 1,797")
    dtype: Literal["float32", "float64"] = field("float32", "of the inputs")

    def __attrs_post_init__(self) -> None:
        total = self.skip + self.n_train + self.n_validation + self.n_test
        if total > 1797:
            raise ValueError(f"skip + n_train + n_validation + n_test = {total}: there are 1797 digits")

    def load(self, run: Run) -> Task:
        import torch

        from kempeframe.task import Examples, Task

        pixels, labels = _digits()
        pixels = pixels / 16
        if self.centre:
            pixels -= pixels.mean(axis=0)
        order = run.root.rng("data", "order").permutation(len(labels))

        def take(part: Indices) -> Examples:
            inputs = torch.from_numpy(pixels[part].astype(self.dtype)).reshape(-1, 1, 8, 8)
            return Examples(inputs, torch.tensor(labels[part], dtype=torch.int64))

        last = self.skip + self.n_train
        train, test = order[self.skip : last], order[len(order) - self.n_test :]
        validation = {"validation": lambda: take(order[last : last + self.n_validation])} if self.n_validation else {}
        return Task(
            splits={
                "train": lambda: take(train),
                **validation,
                "test": lambda: take(test),
                "population": lambda: take(np.arange(len(labels))),
            },
            input_shape=(1, 8, 8),
            output_shape=(10,),
            dtype=getattr(torch, self.dtype),
            classes=10,
            truth=Pool("scikit-learn digits", f"centre {self.centre} {self.dtype}", train, test),
            bounds=None if self.centre else (0.0, 1.0),
        )


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels (1797, 64), 0 to 16, and labels, from scikit-learn's own file: importing it all takes 2 seconds."""
    spec = find_spec("sklearn")
    path = Path(spec.origin if spec and spec.origin else "").parent / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():  # a release that keeps it elsewhere; or none, and then the import says so
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        return pixels, labels
    rows = np.loadtxt(path, delimiter=",")
    return rows[:, :-1], rows[:, -1].astype(np.int64)
