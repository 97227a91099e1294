"""Data: generated classification and regression with a known truth."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Literal

import attrs
import numpy as np
import numpy.typing as npt

from kempeframe import Data, component, field

if TYPE_CHECKING:
    from kempeframe.runs import Run
    from kempeframe.task import Examples, Task

Array = npt.NDArray[np.float64]


@attrs.frozen(eq=False)
class Mixture:
    """The truth of a Gaussian mixture: its means (classes, dimension), and the standard deviation around them."""

    means: Array
    spread: float

    @property
    def bayes_accuracy(self) -> float | None:
        """The best possible accuracy on labels without flips; None with more than two classes (no closed form).

        Two means at distance D: Phi(D / (2 spread)).
        """
        if len(self.means) != 2:
            return None
        distance = float(np.linalg.norm(self.means[0] - self.means[1]))
        return 0.5 * math.erfc(-distance / (2 * self.spread) / math.sqrt(2))


@component
class GaussianMixture(Data):
    """Classes of equal weight, x = mean of the class + spread N(0, I); means are random directions, `separation` long.

    With two classes the means are opposite. Labels are flipped to another class, chosen at random, with probability
    `flip`, in training alone.
    """

    dimension: int = field(20, "number of features", ge=1)
    n_train: int = field(1000, "training examples", ge=1)
    n_validation: int = field(0, "validation examples; 0: no such split", ge=0)
    n_test: int = field(1000, "test examples", ge=1)
    classes: int = field(2, "number of classes", ge=2)
    separation: float = field(2.0, "length of each class mean", ge=0)
    spread: float = field(1.0, "standard deviation around the mean, in each direction", gt=0)
    flip: float = field(0.0, "share of wrong labels in training", ge=0, lt=1)
    dtype: Literal["float32", "float64"] = field("float32", "of the inputs")

    def load(self, run: Run) -> Task:
        import torch

        from kempeframe.task import Task

        means = run.root.rng("data", "means").standard_normal((self.classes, self.dimension))
        means *= self.separation / np.linalg.norm(means, axis=1, keepdims=True)
        if self.classes == 2:
            means[1] = -means[0]
        counts = {"train": self.n_train, "validation": self.n_validation, "test": self.n_test}
        return Task(
            splits={part: partial(self._draw, part, count, means, run) for part, count in counts.items() if count},
            input_shape=(self.dimension,),
            output_shape=(self.classes,),
            dtype=getattr(torch, self.dtype),
            classes=self.classes,
            truth=Mixture(means, self.spread),
        )

    def _draw(self, part: str, count: int, means: Array, run: Run) -> Examples:
        import torch

        from kempeframe.task import Examples

        labels = run.rng("data", part, "labels").integers(self.classes, size=count)
        inputs = means[labels] + self.spread * run.rng("data", part, "inputs").standard_normal((count, self.dimension))
        if part == "train":
            flips = run.rng("data", part, "flips")
            other = (labels + flips.integers(1, self.classes, size=count)) % self.classes
            labels = np.where(flips.uniform(size=count) < self.flip, other, labels)
        return Examples(torch.from_numpy(inputs.astype(self.dtype)), torch.from_numpy(labels))


@attrs.frozen(eq=False)
class Teacher:
    """The truth of a teacher-student task: f(x) = sum_k sign_k relu(w_k . x), or w . x where there are no signs.

    weights: (neurons, dimension); signs: (neurons,).
    """

    weights: Array
    signs: Array | None

    def __call__(self, inputs: Array) -> Array:
        """(n, dimension) -> (n,)."""
        hidden = inputs @ self.weights.T
        return np.asarray(hidden[:, 0] if self.signs is None else np.maximum(hidden, 0) @ self.signs)


@component
class TeacherStudent(Data):
    """Gaussian inputs, labelled by a random teacher: a linear one, or one with a hidden layer of ReLU neurons.

    Its weights are N(0, 1/active) in `active` features of each neuron, chosen at random, and 0 in the others; the
    second layer's are +1 and -1 in turn. Targets are the teacher's output plus noise, or the class of its sign.
    """

    dimension: int = field(20, "number of features", ge=1)
    n_train: int = field(100, "training examples", ge=1)
    n_validation: int = field(0, "validation examples; 0: no such split", ge=0)
    n_test: int = field(2000, "test examples", ge=1)
    teacher: Literal["linear", "two_layer"] = field("linear", "its form")
    neurons: int = field(2, "of a two-layer teacher", ge=1)
    active: int | None = field(None, "features that each neuron looks at; none given: all", ge=1)
    targets: Literal["sign", "value"] = field("sign", "two classes by the sign of the output, or the output itself")
    outputs: Literal[1, 2] = field(2, "of a network on two classes: a score for each, or one whose sign decides")
    noise: float = field(0.0, "standard deviation of the noise on values, in training and test", ge=0)
    flip: float = field(0.0, "share of wrong classes in training", ge=0, lt=1)
    dtype: Literal["float32", "float64"] = field("float64", "of inputs and values")

    def __attrs_post_init__(self) -> None:
        if self.active is not None and self.active > self.dimension:
            raise ValueError(f"active = {self.active}: there are {self.dimension} features")
        if self.targets == "sign" and self.noise > 0:
            raise ValueError('noise is for targets = "value"; classes have flip')
        if self.targets == "value" and self.flip > 0:
            raise ValueError('flip is for targets = "sign"; values have noise')

    def load(self, run: Run) -> Task:
        import torch

        from kempeframe.task import Task

        teacher = self._teacher(run)
        counts = {"train": self.n_train, "validation": self.n_validation, "test": self.n_test}
        classes = 2 if self.targets == "sign" else None
        return Task(
            splits={part: partial(self._draw, part, count, teacher, run) for part, count in counts.items() if count},
            input_shape=(self.dimension,),
            output_shape=(self.outputs if classes else 1,),
            dtype=getattr(torch, self.dtype),
            classes=classes,
            truth=teacher,
        )

    def _teacher(self, run: Run) -> Teacher:
        neurons = 1 if self.teacher == "linear" else self.neurons
        active = self.active or self.dimension
        rng = run.root.rng("data", "teacher")
        weights = rng.standard_normal((neurons, self.dimension)) / math.sqrt(active)
        for row in weights:
            row[rng.permutation(self.dimension)[active:]] = 0
        signs = None if self.teacher == "linear" else np.where(np.arange(neurons) % 2 == 0, 1.0, -1.0)
        return Teacher(weights, signs)

    def _draw(self, part: str, count: int, teacher: Teacher, run: Run) -> Examples:
        import torch

        from kempeframe.task import Examples

        inputs = run.rng("data", part, "inputs").standard_normal((count, self.dimension))
        values = teacher(inputs)
        tensor = torch.from_numpy(inputs.astype(self.dtype))
        if self.targets == "value":
            values = values + self.noise * run.rng("data", part, "noise").standard_normal(count)
            return Examples(tensor, torch.from_numpy(values.astype(self.dtype))[:, None])
        labels = (values > 0).astype(np.int64)
        if part == "train":
            labels = np.where(run.rng("data", part, "flips").uniform(size=count) < self.flip, 1 - labels, labels)
        return Examples(tensor, torch.from_numpy(labels))
