"""Data: generated regression, and scikit-learn's digits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kempeframe import Data, component, field

if TYPE_CHECKING:
    from kempeframe.run import Run
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

    They come inside the package. Train and test are parts of one permutation drawn from the trial's seed.
    """

    n_train: int = field(1000, "training images", ge=1, le=1797)
    n_test: int = field(500, "test images, disjoint from the training images", ge=1, le=1797)

    def __attrs_post_init__(self) -> None:
        if self.n_train + self.n_test > 1797:
            raise ValueError(f"n_train + n_test = {self.n_train + self.n_test}: there are 1797 digits")

    def load(self, run: Run) -> Task:
        import torch
        from sklearn.datasets import load_digits

        from kempeframe.task import Examples, Task

        pixels, labels = load_digits(return_X_y=True)
        order = run.root.rng("data", "order").permutation(len(labels))

        def take(part: np.ndarray) -> Examples:
            inputs = torch.tensor(pixels[part] / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
            return Examples(inputs, torch.tensor(labels[part], dtype=torch.int64))

        test, train = order[: self.n_test], order[self.n_test : self.n_test + self.n_train]
        return Task(
            splits={"train": lambda: take(train), "test": lambda: take(test)},
            input_shape=(1, 8, 8),
            output_shape=(10,),
            classes=10,
            bounds=(0.0, 1.0),
        )
