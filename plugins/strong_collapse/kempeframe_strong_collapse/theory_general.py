"""Ridge regression on K populations of different covariance, target, noise and weight (no projection).

Extends Theorem 1 of "Strong Model Collapse" (arXiv:2410.04840), where both populations share one
covariance. With Sigma~_k = omega_k Sigma_k, the constants e_k in (0, 1] and the mean estimator wbar solve

    e_k = 1/(1 + tr Sigma~_k K^-1/n)              K = sum_k p_k e_k Sigma~_k + lambda I
    wbar = K^-1 sum_k p_k e_k Sigma~_k w_k

and for a test covariance A

    h_k = tr(Sigma~_k K^-1 A K^-1)/n       M_kj = p_j e_j^2 tr(Sigma~_k K^-1 Sigma~_j K^-1)/n
    (I - M) t = h                          c_k = e_k^2 t_k
    E_A = |wbar - w_1|_A^2 + sum_k p_k c_k omega_k (sigma_k^2 + |w_k - wbar|_{Sigma_k}^2)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

MAX_STEPS = 100
STEP_TOLERANCE = 1e-9  # Newton's error is the square of its last step
LONGEST_STEP = 2.0  # in log e


@dataclass(frozen=True)
class GeneralRisk:
    """Excess risk |w_hat - w_1|_A^2 at one point in the parts of `theory.Risk`, and its constants."""

    test_error: float
    bias: float  # the error without noise if every population had the target w_1
    variance: float
    collapse: float
    e: FloatArray  # (K,)
    c: FloatArray  # (K,)
    mean: FloatArray  # (d, outputs): wbar


def general_risk(
    covariances: ArrayLike,
    n_train: float,
    penalty: float,
    *,
    targets: ArrayLike,
    fractions: ArrayLike,
    noise: ArrayLike = 0.0,
    weights: ArrayLike = 1.0,
    test_covariance: ArrayLike | None = None,
) -> GeneralRisk:
    """Theory at one point for fixed target weights; population 1 (index 0) is the real one that is tested on.

    covariances: (K, d, d). targets: (K, d) or (K, d, outputs), risks summed over outputs. fractions: (K,),
    sum 1.
    noise: standard deviations, a number or (K,). weights: omega_k >= 0, a number or (K,). test_covariance:
    (d, d), the first population's unless given. penalty: > 0; also 0 when more than d examples have
    positive weight and K is invertible.

    Raises ValueError for shapes or values outside this, RuntimeError if the constants do not settle.
    """
    sigma = np.asarray(covariances, dtype=np.float64)
    if sigma.ndim != 3 or sigma.shape[1] != sigma.shape[2]:
        raise ValueError(f"covariances must have shape (K, d, d), not {sigma.shape}")
    count, dimension = sigma.shape[:2]
    w = np.asarray(targets, dtype=np.float64)
    w = w[:, :, None] if w.ndim == 2 else w
    if w.shape[:2] != (count, dimension):
        raise ValueError(
            f"targets must have shape (K, d) or (K, d, outputs) with K, d = {count}, {dimension}"
        )
    p = np.asarray(fractions, dtype=np.float64)
    if p.shape != (count,) or (p < 0).any() or abs(p.sum() - 1) > 1e-9:
        raise ValueError(f"fractions must be {count} numbers >= 0 of sum 1, not {p}")
    omega = np.broadcast_to(np.asarray(weights, dtype=np.float64), (count,))
    variances = np.broadcast_to(np.asarray(noise, dtype=np.float64), (count,)) ** 2
    if (omega < 0).any() or not (p * omega).any():
        raise ValueError(f"weights must be >= 0 and positive for some example, not {omega}")
    if not n_train > 0 or not penalty >= 0:
        raise ValueError(f"n_train must be positive and penalty not negative, not {n_train} and {penalty}")
    if penalty == 0 and n_train * p[omega > 0].sum() <= dimension:
        raise ValueError("penalty = 0 needs more than d examples of positive weight when covariances differ")
    a = sigma[0] if test_covariance is None else np.asarray(test_covariance, dtype=np.float64)

    weighted = omega[:, None, None] * sigma
    e, inverse, pairs = _solve(weighted, p, n_train, penalty)
    h = np.einsum("kij,ji->k", weighted, inverse @ a @ inverse) / n_train
    t = np.linalg.solve(np.eye(count) - p * e**2 * pairs, h)
    c = e**2 * t

    missing = -penalty * inverse @ w[0]  # wbar - w_1 if every population had the target w_1
    delta = w - w[0]
    moved = inverse @ np.einsum("k,kij,kjo->io", p * e, weighted, delta)
    bias = _norm(a, missing) + sum(p[k] * c[k] * omega[k] * _norm(sigma[k], missing) for k in range(count))
    variance = float((p * c * omega * variances).sum())
    test_error = _norm(a, missing + moved) + variance
    test_error += sum(
        p[k] * c[k] * omega[k] * _norm(sigma[k], delta[k] - missing - moved) for k in range(count)
    )
    return GeneralRisk(test_error, bias, variance, test_error - bias - variance, e, c, w[0] + missing + moved)


def _norm(matrix: FloatArray, vectors: FloatArray) -> float:
    return float((vectors * (matrix @ vectors)).sum())


def _solve(
    weighted: FloatArray, p: FloatArray, n: float, penalty: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """e (K,), K^-1 (d, d) and tr(Sigma~_k K^-1 Sigma~_j K^-1)/n (K, K), by Newton's method in log e.

    The Jacobian of log e_k + log(1 + tr Sigma~_k K^-1/n) is strictly diagonally dominant, hence never
    singular.
    """
    count, dimension = weighted.shape[:2]
    log_e = np.zeros(count)
    for _ in range(MAX_STEPS):
        e = np.exp(log_e)
        inverse = np.linalg.inv(np.einsum("k,kij->ij", p * e, weighted) + penalty * np.eye(dimension))
        shrunk = weighted @ inverse
        traces = np.trace(shrunk, axis1=1, axis2=2) / n
        pairs = np.einsum("kij,lji->kl", shrunk, shrunk) / n
        jacobian = np.eye(count) - p * e * pairs / (1 + traces)[:, None]
        step = -np.linalg.solve(jacobian, log_e + np.log1p(traces))
        if np.abs(step).max() <= STEP_TOLERANCE:
            return e, inverse, pairs
        log_e = log_e + np.clip(step, -LONGEST_STEP, LONGEST_STEP)
    raise RuntimeError(f"the constants e_k did not settle in {MAX_STEPS} steps")
