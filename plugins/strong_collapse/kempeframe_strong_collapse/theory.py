"""Test error of ridge regression on real and synthetic examples, in closed form, for many points at once.

Source: Dohmatob, Feng, Subramonian, Kempe, "Strong Model Collapse", arXiv:2410.04840: Theorem 1 (classical
linear model), Theorem 2 (random projections of width m), the weighted loss of Section 5. In the
proportionate limit

    E_test = E |w_hat - w1|^2_Sigma  ~  B + V + zeta     (bias, variance, collapse; zeta = 0 if all is real)

Everything lives in the eigenbasis of the covariance Sigma (eigenvalues s). With nu from `theory_equation`:

    T = s/(s + nu)     df_k = sum T^k     rho = (m - df1)/(m - df2)     D2 = df1 - (df1 - df2) rho
    leak = (1 - rho) T (1 - T)    f = df1/n    y_k = omega_k/(Ebar + omega_k f)    q_k = p_k y_k (sum 1)
    a_k = y_k^2 D2/n              c_k = a_k/(1 - sum_j p_j a_j)                u = sum_k p_k c_k
    wmix = w1 + q_2 delta                 Q_k = sum s [(w_k - T wmix)^2 + leak wmix^2]
    E_test = Q_1 + sum_k p_k c_k (sigma_k^2 + Q_k)

(equal weights 1: y = 1, q_k = p_k, c_k = u = D2/(n - D2)). Q_k needs only second moments of the truth per
direction: signal = E w1^2, shift = E delta^2, cross = E w1 delta with delta = w2 - w1. A random signal and
an independent random shift have cross = 0; fixed vectors have all three. So one formula serves both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .theory_equation import FloatArray, Points, as_points, solve, solve_nu

__all__ = [
    "Constants",
    "Risk",
    "Truth",
    "constants",
    "constants_at",
    "risk",
    "risk_of_vectors",
    "solve_nu",
    "vectors_as_truth",
]


@dataclass(frozen=True)
class Truth:
    """Second moments of the true weights per eigendirection, each (d,) or (P, d), summed over outputs."""

    signal: FloatArray  # g: E w1^2, the diagonal of Gamma in the eigenbasis
    shift: FloatArray  # dl: E delta^2, the diagonal of Delta; the quality is c^2 = sum s dl, small = good
    cross: FloatArray  # E w1 delta: 0 for an independent shift


@dataclass(frozen=True)
class Constants:
    """Constants of the theory at P points; fields (P,) unless noted. Symbols as in the module's docstring."""

    nu: FloatArray
    e: FloatArray  # Ebar; 1 - df1/n for equal weights 1
    tau: FloatArray  # 1 - df1/m, 1 for the classical model
    kappa: FloatArray  # nu (m/d) tau = lambda/e, the penalty that the projected problem feels
    rho: FloatArray
    df1: FloatArray
    df2: FloatArray
    df2_projected: FloatArray  # D2, df2 of S'Sigma S at kappa
    u: FloatArray
    q: FloatArray  # (2, P): share of the real and of the synthetic weights in the mean estimator
    pc: FloatArray  # (2, P): p_k c_k, its sum is u
    shrinkage: FloatArray  # (P, d): T
    remainder: FloatArray  # (P, d): 1 - T
    leak: FloatArray  # (P, d): (1 - rho) T (1 - T)


@dataclass(frozen=True)
class Risk:
    """Excess risk E_x (x.w_hat - x.w1)^2 on real clean labels and its parts, every field (P,)."""

    test_error: FloatArray  # bias + variance + collapse
    bias: FloatArray  # B
    variance: FloatArray  # V
    collapse: FloatArray  # zeta; can be negative only when the shift correlates with the signal
    nu: FloatArray
    u: FloatArray
    rho: FloatArray
    df1: FloatArray
    df2: FloatArray
    e: FloatArray
    tau: FloatArray
    q2: FloatArray


def constants(
    eigenvalues: ArrayLike,
    n_train: ArrayLike,
    penalty: ArrayLike,
    *,
    width: ArrayLike = np.inf,
    synthetic_fraction: ArrayLike = 0.0,
    weights: tuple[ArrayLike, ArrayLike] = (1.0, 1.0),
) -> Constants:
    """All constants at P points; arguments as in `risk`, raises as it does."""
    return constants_at(as_points(eigenvalues, n_train, penalty, width, synthetic_fraction, weights))


def constants_at(points: Points) -> Constants:
    """All constants at validated points, each formed without a difference of nearly equal numbers."""
    root = solve(points)
    inverse = 1.0 / (points.denominators + root.nu[:, None])
    shrinkage, remainder = points.eigenvalues * inverse, root.nu[:, None] * inverse
    spread = (shrinkage * remainder).sum(axis=-1)  # df1 - df2
    classical = np.isinf(points.width)
    narrow = np.where(classical, 0.0, root.free_width)
    total = np.where(
        classical | (narrow + spread == 0), 1.0, narrow + spread
    )  # 0 only at nu = 0, where leak = 0 anyway
    rho = np.where(classical, 1.0, narrow / total)
    leaked = np.where(classical, 0.0, spread / total)  # 1 - rho
    projection = np.where(classical, 1.0, narrow / points.dimension)  # (m/d) tau
    tau = np.where(classical, 1.0, narrow / np.where(classical, 1.0, points.width))

    f = root.df1 / points.n_train
    load = root.ebar + points.weights * f
    load = np.where(load > 0, load, 1.0)  # 0 only for a population of weight 0, which has y = 0
    y = points.weights / load
    q = points.fractions * y
    d2 = root.df1 - spread * rho
    # 1 - sum p a = sum q_k e_k + sum p y^2 (df1 - D2)/n, e_k = Ebar/(Ebar + omega_k f), because sum q_k = 1
    deficit = (q * root.ebar / load).sum(axis=0) + (q * y).sum(axis=0) * spread * rho / points.n_train
    pc = q * y * d2 / points.n_train / deficit
    return Constants(
        nu=root.nu,
        e=root.ebar,
        tau=tau,
        kappa=root.nu * projection,
        rho=rho,
        df1=root.df1,
        df2=root.df1 - spread,
        df2_projected=d2,
        u=pc.sum(axis=0),
        q=q,
        pc=pc,
        shrinkage=shrinkage,
        remainder=remainder,
        leak=leaked[:, None] * shrinkage * remainder,
    )


def risk(
    eigenvalues: ArrayLike,
    n_train: ArrayLike,
    penalty: ArrayLike,
    *,
    signal: ArrayLike,
    shift: ArrayLike,
    cross: ArrayLike = 0.0,
    noise: ArrayLike = 0.0,
    synthetic_noise: ArrayLike = 0.0,
    width: ArrayLike = np.inf,
    synthetic_fraction: ArrayLike = 0.0,
    n_synthetic: ArrayLike | None = None,
    weights: tuple[ArrayLike, ArrayLike] = (1.0, 1.0),
) -> Risk:
    """Theory of ridge on n_train examples, w_hat = argmin (1/n) sum_i omega (x_i.w - y_i)^2 + penalty |w|^2.

    Arguments are numbers or arrays (P,), broadcast to P points; every result is (P,).
    eigenvalues: (d,) or (P, d), of the covariance Sigma, null ones included.
    n_train: n > 0, real and synthetic together; np.inf gives the plateau.
    penalty: lambda >= 0; 0 is the limit lambda -> 0 (minimum norm when n < min(width, d)).
    signal, shift, cross: (d,) or (P, d) or a number, diagonals of E w1 w1', E delta delta', E w1 delta' in
    the eigenbasis.
    noise, synthetic_noise: standard deviations of the label noise (several outputs: root of the summed
    variances).
    width: m of the random projection S (d x m, entries N(0, 1/d)), np.inf without one.
    synthetic_fraction: p2 in [0, 1]; n_synthetic, if given, replaces it by n_synthetic/n_train, exact after
    rounding.
    weights: loss weights omega_1 on real and omega_2 on synthetic examples.

    Raises ValueError outside these ranges, and for penalty = 0 exactly at n = min(width, rank of Sigma).
    """
    return _risk_at(
        *validated(
            eigenvalues,
            n_train,
            penalty,
            signal,
            shift,
            cross,
            noise,
            synthetic_noise,
            width,
            synthetic_fraction,
            n_synthetic,
            weights,
        )
    )


def validated(
    eigenvalues: ArrayLike,
    n_train: ArrayLike,
    penalty: ArrayLike,
    signal: ArrayLike,
    shift: ArrayLike,
    cross: ArrayLike,
    noise: ArrayLike,
    synthetic_noise: ArrayLike,
    width: ArrayLike = np.inf,
    synthetic_fraction: ArrayLike = 0.0,
    n_synthetic: ArrayLike | None = None,
    weights: tuple[ArrayLike, ArrayLike] = (1.0, 1.0),
) -> tuple[Points, Truth, FloatArray]:
    """Points, truth and noise variances (2, 1 or P) from the arguments of `risk`, with its errors."""
    if n_synthetic is not None:
        synthetic_fraction = np.asarray(n_synthetic, dtype=np.float64) / np.asarray(n_train, dtype=np.float64)
    points = as_points(eigenvalues, n_train, penalty, width, synthetic_fraction, weights)
    truth = Truth(
        _diagonal(signal, points, "signal"),
        _diagonal(shift, points, "shift"),
        _diagonal(cross, points, "cross"),
    )
    if (truth.signal < 0).any() or (truth.shift < 0).any():
        raise ValueError("signal and shift are variances and cannot be negative")
    sigma = np.stack(np.broadcast_arrays(np.atleast_1d(noise), np.atleast_1d(synthetic_noise))).astype(
        np.float64
    )
    if not (sigma >= 0).all():
        raise ValueError("noise and synthetic_noise are standard deviations and cannot be negative")
    return points, truth, sigma**2


def _diagonal(value: ArrayLike, points: Points, name: str) -> FloatArray:
    diagonal = np.asarray(value, dtype=np.float64)
    try:
        return np.broadcast_to(diagonal, np.broadcast_shapes(diagonal.shape, points.eigenvalues.shape))
    except ValueError:
        expected = f"(d,) or (P, d) with d = {points.dimension}"
        raise ValueError(f"{name} must have shape {expected}, not {diagonal.shape}") from None


def _risk_at(points: Points, truth: Truth, noise_variance: FloatArray) -> Risk:
    """The master formula, split into the part without shift and noise (B), the noise (V), the rest (zeta)."""
    k = constants_at(points)
    s, t, r, leak = points.eigenvalues, k.shrinkage, k.remainder, k.leak
    q1, q2 = k.q[0][:, None], k.q[1][:, None]
    missed = q1 + q2 * r  # 1 - q2 T without cancellation at q2 = T = 1
    b0 = (s * truth.signal * (r**2 + leak)).sum(axis=-1)
    # Q_1 - b0 and Q_2 - b0
    mean_part = s * q2**2 * truth.shift * (t**2 + leak) + 2 * s * q2 * truth.cross * (leak - t * r)
    other_part = s * truth.shift * (missed**2 + q2**2 * leak) + 2 * s * truth.cross * (r * missed + q2 * leak)
    lost = mean_part.sum(axis=-1)
    bias = (1 + k.u) * b0
    variance = (k.pc * noise_variance).sum(axis=0)
    collapse = (1 + k.pc[0]) * lost + k.pc[1] * other_part.sum(axis=-1)
    return Risk(
        bias + variance + collapse,
        bias,
        variance,
        collapse,
        k.nu,
        k.u,
        k.rho,
        k.df1,
        k.df2,
        k.e,
        k.tau,
        k.q[1],
    )


def vectors_as_truth(real: ArrayLike, synthetic: ArrayLike) -> Truth:
    """Fixed true weights w1 (real), w2 (synthetic) in the eigenbasis, (d,), (d, k outputs) or (P, d, k)."""
    w1, w2 = np.asarray(real, dtype=np.float64), np.asarray(synthetic, dtype=np.float64)
    if w1.shape != w2.shape or w1.ndim not in (1, 2, 3):
        raise ValueError(
            f"real and synthetic must share a shape (d,), (d, k) or (P, d, k), not {w1.shape} and {w2.shape}"
        )
    if w1.ndim == 1:
        w1, w2 = w1[:, None], w2[:, None]
    delta = w2 - w1
    return Truth((w1**2).sum(axis=-1), (delta**2).sum(axis=-1), (w1 * delta).sum(axis=-1))


def risk_of_vectors(
    eigenvalues: ArrayLike,
    n_train: ArrayLike,
    penalty: ArrayLike,
    *,
    real: ArrayLike,
    synthetic: ArrayLike,
    noise: ArrayLike = 0.0,
    synthetic_noise: ArrayLike = 0.0,
    width: ArrayLike = np.inf,
    synthetic_fraction: ArrayLike = 0.0,
    n_synthetic: ArrayLike | None = None,
    weights: tuple[ArrayLike, ArrayLike] = (1.0, 1.0),
) -> Risk:
    """`risk` for fixed true weights, correlation included, outputs summed; shapes: `vectors_as_truth`."""
    truth = vectors_as_truth(real, synthetic)
    return risk(
        eigenvalues,
        n_train,
        penalty,
        signal=truth.signal,
        shift=truth.shift,
        cross=truth.cross,
        noise=noise,
        synthetic_noise=synthetic_noise,
        width=width,
        synthetic_fraction=synthetic_fraction,
        n_synthetic=n_synthetic,
        weights=weights,
    )
