"""The two populations: covariance, signal and shift in the eigenbasis, and the one in which everything is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Population:
    """Second moments per eigendirection of the inputs' covariance Sigma (the basis in which everything is drawn).

    eigenvalues s (d,); signal (d,): diagonal of Gamma = E w1 w1', with sum s * signal = signal_strength;
    shift (d,): diagonal of Delta = E delta delta', delta = w2 - w1, with sum s * shift = c^2, the quality.
    """

    eigenvalues: NDArray[np.float64]
    signal: NDArray[np.float64]
    shift: NDArray[np.float64]


def eigenvalues(dimension: int, spectrum: float | tuple[float, ...]) -> NDArray[np.float64]:
    """s_j = j^-spectrum, or the given list."""
    if isinstance(spectrum, tuple):
        return np.array(spectrum)
    return np.arange(1, dimension + 1, dtype=np.float64) ** -spectrum


def scaled(diagonal: NDArray[np.float64], spectrum: NDArray[np.float64], size: float) -> NDArray[np.float64]:
    """The diagonal, scaled to sum s * diagonal = size."""
    return diagonal * (size / (spectrum @ diagonal))


def random_signs(diagonal: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A vector (d,) with exactly these squares: no spread of its norm hides what is measured (brief, trap T10)."""
    return np.asarray(np.sqrt(diagonal) * rng.choice([-1.0, 1.0], size=len(diagonal)))


def random_rotation(dimension: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A uniform (Haar) orthogonal matrix (d, d): QR of a Gaussian one, the signs of R's diagonal made positive."""
    q, r = np.linalg.qr(rng.standard_normal((dimension, dimension)))
    rotation: NDArray[np.float64] = q * np.sign(np.diagonal(r))
    return rotation


def wishart_factor(
    dimension: int, count: int, normals: np.random.Generator, scales: np.random.Generator
) -> NDArray[np.float64]:
    """Lower trapezoidal L (d, min(d, count)) with L L' distributed as X'X for X (count, d) standard normal (Bartlett).

    The diagonal is chi with count, count - 1, ... degrees of freedom, below it are standard normals. Both streams
    give nearly the same L to two counts of one seed: common random numbers along n.
    """
    rank = min(dimension, count)
    factor = np.tril(normals.standard_normal((dimension, dimension)), -1)[:, :rank]
    freedom = count - np.arange(rank, dtype=np.float64)
    factor[np.arange(rank), np.arange(rank)] = np.sqrt(2 * scales.standard_gamma(freedom / 2))
    return factor
