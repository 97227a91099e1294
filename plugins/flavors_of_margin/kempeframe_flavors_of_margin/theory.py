"""Margins, stationarity and rates of the paper, as formulas. NumPy alone; nothing of kempeframe.

Section numbers are those of the brief. q_i = y_i f(x_i; theta) are the margins of n examples, f is homogeneous of
degree L in theta, Loss = sum_i l(q_i) is a SUM over examples (with the mean the theorem is false, Section 3.5).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import logsumexp

Array = npt.NDArray[np.float64]
Loss = Literal["exponential", "logistic"]
SMALL_LOG = math.log(1e-5)  # of a loss below which expm1 is a series
LARGE = 30.0  # of a loss above which e^-loss is below the resolution


def log_losses(margins: Array, loss: Loss) -> Array:
    """log l(q): -q for the exponential loss, log log(1 + e^-q) for the logistic one, without underflow (3.10)."""
    if loss == "exponential":
        return -margins
    small = margins > LARGE
    plain = np.log(np.logaddexp(0.0, -np.where(small, 0.0, margins)))
    return np.where(small, -margins - np.exp(-np.maximum(margins, LARGE)) / 2, plain)


def log_loss(margins: Array, loss: Loss = "exponential") -> float:
    """log of the sum over examples."""
    return float(logsumexp(log_losses(margins, loss)))


def inverse_loss(log_of_loss: float, loss: Loss) -> float:
    """l^-1(Loss): the margin of a single example that has this loss (3.3).

    -log Loss for the exponential loss, -log(e^Loss - 1) for the logistic one.
    """
    if loss == "exponential":
        return -log_of_loss
    if log_of_loss < SMALL_LOG:
        u = math.exp(log_of_loss)
        return -log_of_loss - u / 2 - u * u / 24
    if log_of_loss > 700:
        return -math.inf
    u = math.exp(log_of_loss)
    return -u - math.log1p(-math.exp(-u)) if u > LARGE else -math.log(math.expm1(u))


def threshold(loss: Loss) -> float:
    """log of the loss below which the soft margin is above 0: log 1, or log log 2."""
    return 0.0 if loss == "exponential" else math.log(math.log(2))


def soft_margin(log_of_loss: float, size: float, degree: int, loss: Loss = "exponential") -> float:
    """l^-1(Loss) / |theta|^L. It lies between the geometric margin less log(n) / |theta|^L and that margin (3.3)."""
    return inverse_loss(log_of_loss, loss) / float(size**degree)


def gap(product: float, size: float, dual: float) -> float:
    """1 - <theta, s> / (|theta| |s|_*) in [0, 2], for s = -grad log Loss (3.8); nan where theta or s is 0.

    Fenchel-Young: the divergence of (1/2)|.|_*^2 between the best multipliers' sum and the subgradients of
    (1/2)|theta|^2, over |theta|^2. 0 exactly at KKT points of min |theta| such that all margins are at least 1.
    """
    return 1 - product / (size * dual) if size > 0 and dual > 0 else math.nan


def complementarity(product: float, smallest: float, weights: float, size: float, dual: float, degree: int) -> float:
    """sum_i lambda_i (q_i - 1) at theta scaled to smallest margin 1 (3.8); nan unless all margins are above 0.

    product = <theta, s> = L sum_i c_i q_i and weights = sum_i c_i, for s = sum_i c_i grad q_i.
    """
    if not (smallest > 0 and dual > 0):
        return math.nan
    scaled = size / smallest ** (1 / degree)
    return float(scaled * (product / degree - smallest * weights) / (smallest ** (1 / degree) * dual))


def conjugate(p: float) -> float:
    """q with 1/p + 1/q = 1."""
    return math.inf if p == 1 else 1.0 if p == math.inf else p / (p - 1)


def norm(x: Array, p: float) -> float:
    """|x|_p, also for 0 < p < 1, where it is no norm."""
    largest = float(np.abs(x).max(initial=0.0))
    if p == math.inf or largest == 0:
        return largest
    return float(largest * np.sum((np.abs(x) / largest) ** p) ** (1 / p))


def direction(g: Array, p: float) -> Array:
    """The u with |u|_p = 1 and the largest <u, g> (3.2)."""
    q = conjugate(p)
    if q == math.inf:
        u = np.zeros_like(g)
        place = int(np.argmax(np.abs(g)))
        u[place] = np.sign(g[place])
        return u
    scaled = g / np.abs(g).max()
    powers: Array = np.sign(scaled) * np.abs(scaled) ** (q - 1) if q > 1 else np.sign(scaled)
    return powers / norm(powers, p)


def certificate(rows: Array, w: Array, p: float) -> tuple[float, float]:
    """Bounds around the largest l_p margin of a linear classifier: q_min / |w|_p, and |Z' softmax(-q)|_q (3.8)."""
    margins = rows @ w
    weights = np.exp(-margins - logsumexp(-margins))
    return float(margins.min()) / norm(w, p), norm(rows.T @ weights, conjugate(p))


def margin_bound(optimum: float, examples: int, largest: float, rates: Array) -> float:
    """Lower bound of q_min / |w| for a linear model after unit steps from 0, once log Loss < 0 (3.4).

    gamma* - (log n + D^2 sum lr^2 / 2) / sum lr, with D the largest dual norm of an example.
    """
    length = float(rates.sum())
    return optimum - (math.log(examples) + largest**2 * float(rates @ rates) / 2) / length


def adam_decay(rate: float, beta1: float, beta2: float) -> float:
    """c, by which log Loss falls in a step of Adam with epsilon = 0 on a linear model, rate = lr gamma*_inf (3.9).

    The smallest root of c = rate (1-b1)/(1-b1 e^c) sqrt((1-b2 e^2c)/(1-b2)), which is below log(1/b2)/2 whatever the
    rate: faster than the square's mean forgets, the step can't grow.
    """
    most = math.log(1 / beta2) / 2 if beta2 > 0 else math.inf
    most = min(most, math.log(1 / beta1)) if beta1 > 0 else most

    def excess(c: float) -> float:
        mean = (1 - beta1) / (1 - beta1 * math.exp(c))
        return c - rate * mean * math.sqrt(max(1 - beta2 * math.exp(2 * c), 0.0) / (1 - beta2))

    if most == math.inf:  # no memory: sign descent
        return rate
    grid = np.linspace(1e-12, most * (1 - 1e-13), 2001)
    above = next((i for i, c in enumerate(grid) if excess(float(c)) > 0), None)
    if above is None:
        return float(grid[-1])
    if above == 0:
        return float(grid[0])
    return float(brentq(excess, float(grid[above - 1]), float(grid[above]), xtol=1e-15))


def drawdown(values: Array) -> float:
    """The largest fall from the running maximum, over the final maximum (C1); nan without a value above 0."""
    if not len(values) or not values.max() > 0:
        return math.nan
    running = np.maximum.accumulate(values)
    return float((running - values).max() / values.max())


def gap_integral(gaps: Array, sizes: Array, degree: int) -> float:
    """Integral of gap / (1 - gap) against log |theta|^L, by trapezoids: at most log(soft margin end / start) (3.8)."""
    integrand = gaps / (1 - gaps)
    return float(np.sum((integrand[1:] + integrand[:-1]) / 2 * np.diff(degree * np.log(sizes))))
