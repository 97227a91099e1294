"""Data: a mixture of real and synthetic examples with Gaussian inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from kempeframe import Data, component, field
from kempeframe_strong_collapse.population import (
    Population,
    eigenvalues,
    random_rotation,
    random_signs,
    scaled,
    wishart_factor,
)

if TYPE_CHECKING:
    from kempeframe.runs import Run
    from kempeframe.task import Split, Task

Vector = NDArray[np.float64]


@component
class GaussianMixture(Data):
    """n inputs x ~ N(0, Sigma); the first n1 labelled y = x.w1 + noise, the last n2 = round(p2 n) y = x.w2 + noise.

    w2 = w1 + shift. Signal and shift have exactly the size that the fields give them, with random signs in the
    eigenbasis of Sigma. Test error is the excess risk on real clean labels (strong_collapse.excess_risk).
    Streams: signs belong to the trial; design, noise and shift do not depend on fraction, quality or noise levels.
    """

    dimension: int = field(100, "number d of features", ge=1)
    spectrum: float | tuple[float, ...] = field(
        0.0, "exponent a of the eigenvalues s_j = j^-a of Sigma (0: isotropic), or the list of them", ge=0
    )
    n_train: int = field(1000, "training examples n, real and synthetic together", ge=1)
    synthetic_fraction: float = field(0.0, "fraction p2 of synthetic examples", ge=0, le=1)
    quality: float = field(
        1.0, "c^2 = E (x.(w2 - w1))^2, squared error of the synthetic labels: small is good", ge=0
    )
    shift: Literal["isotropic", "signal"] | int = field(
        "isotropic",
        "where w2 - w1 lies: evenly, like the signal, or in one eigendirection (its number from 0)",
        ge=0,
    )
    signal: Literal["isotropic"] | float = field(
        "isotropic", "w1: Gamma ~ I, or the exponent b of s_j Gamma_j ~ j^-b (source condition)", ge=0
    )
    signal_strength: float = field(1.0, "tr Gamma Sigma = E (x.w1)^2", gt=0)
    noise: float = field(0.1, "standard deviation of the noise on real labels", ge=0)
    synthetic_noise: float = field(0.1, "standard deviation of the noise on synthetic labels", ge=0)
    synthetic_weight: float = field(
        1.0, "weight of a synthetic example in the loss; a real one has weight 1", ge=0
    )
    sampler: Literal["examples", "moments"] = field(
        "examples", "draw examples, or only their second moments (exact; for any n)"
    )

    def __attrs_post_init__(self) -> None:
        if isinstance(self.spectrum, tuple) and len(self.spectrum) != self.dimension:
            raise ValueError(f"spectrum lists {len(self.spectrum)} eigenvalues, dimension = {self.dimension}")
        if isinstance(self.spectrum, tuple) and not any(self.spectrum):
            raise ValueError("spectrum: all eigenvalues are 0")
        if isinstance(self.shift, int) and self.shift >= self.dimension:
            raise ValueError(
                f"shift = {self.shift}: there are {self.dimension} eigendirections, counted from 0"
            )

    @property
    def n_synthetic(self) -> int:
        """n2 = round(p2 n)."""
        return round(self.synthetic_fraction * self.n_train)

    def population(self) -> Population:
        """Eigenvalues, signal and shift per eigendirection."""
        s = eigenvalues(self.dimension, self.spectrum)
        signal = np.ones_like(s)
        if self.signal != "isotropic":
            positive = np.where(s > 0, s, 1.0)
            signal = np.where(
                s > 0, np.arange(1.0, self.dimension + 1) ** -float(self.signal) / positive, 0.0
            )
        signal = scaled(signal, s, self.signal_strength)
        shift = np.ones_like(s)
        if self.shift == "signal":
            shift = signal
        elif isinstance(self.shift, int):
            shift = np.eye(self.dimension)[self.shift]
        return Population(s, signal, scaled(shift, s, self.quality))

    def labels(self, run: Run) -> tuple[Vector, Vector]:
        """w1 and w2, each (d,): the labels' weights in the eigenbasis."""
        population = self.population()
        real = random_signs(population.signal, run.root.rng("data", "signal"))
        return real, real + random_signs(population.shift, run.root.rng("data", "shift"))

    def load(self, run: Run) -> Task:
        import torch

        from kempeframe.task import Task

        weights = self.labels(run)
        draw = self._draw_moments if self.sampler == "moments" else self._draw_examples
        return Task(
            splits={"train": lambda: draw(run, *weights)},
            input_shape=(self.dimension,),
            output_shape=(1,),
            dtype=torch.float64,
            truth={"weight": weights[0], "eigenvalues": self.population().eigenvalues},
        )

    def _draw_examples(self, run: Run, real: Vector, synthetic: Vector) -> Split:
        import torch

        from kempeframe.task import Examples

        is_synthetic = np.arange(self.n_train) >= self.n_train - self.n_synthetic
        inputs = self._inputs(run, is_synthetic)
        noise = run.rng("data", "noise").standard_normal(self.n_train)
        targets = np.where(
            is_synthetic,
            inputs @ synthetic + self.synthetic_noise * noise,
            inputs @ real + self.noise * noise,
        )
        weights = None
        if self.synthetic_weight != 1:
            weights = torch.from_numpy(np.where(is_synthetic, self.synthetic_weight, 1.0))
        return Examples(
            torch.from_numpy(inputs),
            torch.from_numpy(targets[:, None]),
            weights,
            torch.from_numpy(is_synthetic),
        )

    def _inputs(self, run: Run, is_synthetic: NDArray[np.bool_]) -> Vector:
        scale = np.sqrt(eigenvalues(self.dimension, self.spectrum))
        return run.rng("data", "design").standard_normal((self.n_train, self.dimension)) * scale

    def _draw_moments(self, run: Run, real: Vector, synthetic: Vector) -> Split:
        """X'X = A L L' A and X'noise = A L z, with A = Sigma^(1/2): exact, and d^3 for any n."""
        import torch

        from kempeframe.task import Moments, MomentSplit

        gram: Any = 0.0
        cross: Any = 0.0
        parts = (
            ("real", self.n_train - self.n_synthetic, real, self.noise, 1.0),
            ("synthetic", self.n_synthetic, synthetic, self.synthetic_noise, self.synthetic_weight),
        )
        root = np.sqrt(eigenvalues(self.dimension, self.spectrum))[:, None]
        for name, count, weight, noise, loss_weight in parts:
            if count == 0:
                continue
            rngs = [run.rng("data", name, what) for what in ("design", "scale", "noise")]
            factor = root * wishart_factor(self.dimension, count, *rngs[:2])
            part = loss_weight * (factor @ factor.T)
            gram = gram + part
            cross = cross + part @ weight
            cross = cross + loss_weight * noise * (
                factor @ rngs[2].standard_normal(self.dimension)[: factor.shape[1]]
            )
        moments = Moments(torch.from_numpy(gram), torch.from_numpy(cross[:, None]), self.n_train)
        return MomentSplit(moments)


@component
class GeneralMixture(GaussianMixture):
    """gaussian_mixture whose synthetic inputs have a covariance of their own, U diag(s') U' (brief, Section 3.8).

    s' is `synthetic_spectrum`; U is a uniform rotation that belongs to the trial, like the signs. Signal, shift,
    quality and test error are those of the real inputs. Where the spectra agree and U = I, it is gaussian_mixture.
    """

    synthetic_spectrum: float | tuple[float, ...] = field(
        0.0, "eigenvalues of the synthetic inputs' covariance: exponent, or the list of them", ge=0
    )
    rotated: bool = field(True, "rotate the synthetic inputs' eigenbasis against the real one's")

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.sampler != "examples":
            raise ValueError('sampler = "moments": different covariances need examples')
        given = self.synthetic_spectrum
        if isinstance(given, tuple) and len(given) != self.dimension:
            raise ValueError(f"synthetic_spectrum lists {len(given)} eigenvalues, dimension = {self.dimension}")
        if isinstance(given, tuple) and not any(given):
            raise ValueError("synthetic_spectrum: all eigenvalues are 0")

    def synthetic_root(self, run: Run) -> Vector:
        """(d, d): A with A A' the synthetic inputs' covariance; x = A z."""
        scale = np.sqrt(eigenvalues(self.dimension, self.synthetic_spectrum))
        if not self.rotated:
            return np.diag(scale)
        rotation: Vector = random_rotation(self.dimension, run.root.rng("data", "rotation"))
        return rotation * scale

    def load(self, run: Run) -> Task:
        task = super().load(run)
        root = self.synthetic_root(run)
        task.truth |= {"synthetic_weight": self.labels(run)[1], "synthetic_covariance": root @ root.T}
        return task

    def _inputs(self, run: Run, is_synthetic: NDArray[np.bool_]) -> Vector:
        normals = run.rng("data", "design").standard_normal((self.n_train, self.dimension))
        inputs = normals * np.sqrt(eigenvalues(self.dimension, self.spectrum))
        inputs[is_synthetic] = normals[is_synthetic] @ self.synthetic_root(run).T
        return inputs
