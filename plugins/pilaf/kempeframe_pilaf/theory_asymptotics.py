"""What n pairs teach: covariance of the DPO estimate, n (J* - J), and the best pair density (PILAF, Section 4).

At the truth theta*, in the realisable case. g (X, K, d) is the gradient of the implicit reward there. `first` is
E[w mu] and `second` E[w^2 mu], (X, K, K): densities with the first and second power of the loss weight.
"""

from __future__ import annotations

import attrs
import numpy as np
from scipy.special import expit

from kempeframe_pilaf.theory import Array
from kempeframe_pilaf.theory_alignment import differences

CUTOFF = 1e-9  # eigenvalues below this share of the largest count as 0: directions that change no policy


@attrs.frozen(eq=False)
class Limit:
    """The limit law of n (J* - J(estimate)) = sum_i weights_i chi^2_1 / (2 beta).

    gap is its mean; eigenvalue_ratio is 1 where the error is isotropic in J; covariance is Omega, (d, d).
    """

    covariance: Array
    weights: Array
    beta: float

    @property
    def gap(self) -> float:
        """lim n E[J* - J] = tr(Sigma* Omega) / (2 beta)."""
        return float(self.weights.sum() / (2 * self.beta))

    @property
    def eigenvalue_ratio(self) -> float:
        """Largest over smallest eigenvalue of Sigma*^(1/2) Omega Sigma*^(1/2)."""
        return float(self.weights.max() / self.weights.min())

    @property
    def anisotropy(self) -> float:
        """Largest relative deviation of an eigenvalue from their mean: 0 where the error is isotropic in J."""
        mean = self.weights.mean()
        return float(np.abs(self.weights / mean - 1).max())

    @property
    def variance(self) -> float:
        """Of n (J* - J)."""
        return float((self.weights**2).sum() / (2 * self.beta**2))


def reward_covariance(log_policy: Array, g: Array, rho: Array) -> Array:
    """Sigma* = E_rho Cov_pi(g), (d, d); the Hessian of J at the optimum is -Sigma* / beta."""
    policy = np.exp(log_policy)
    centred = g - np.einsum("xk,xkd->xd", policy, g)[:, None]
    return np.asarray(np.einsum("x,xk,xkd,xke->de", rho, policy, centred, centred))


def curvature(weighted: Array, reward: Array, g: Array, rho: Array) -> Array:
    """E[w sigma'(m) G G'], G = g_a - g_b, (d, d)."""
    margins = differences(reward)
    mass = rho[:, None, None] * weighted * expit(margins) * expit(-margins)
    rows, columns = mass.sum(axis=2), mass.sum(axis=1)
    own = np.einsum("xa,xad,xae->de", rows + columns, g, g)
    crossed = np.einsum("xad,xab,xbe->de", g, mass, g)
    return np.asarray(own - crossed - crossed.T)


def limit(first: Array, second: Array, log_policy: Array, reward: Array, g: Array, beta: float, rho: Array) -> Limit:
    """Omega = A^-1 B A^-1 and the law of n (J* - J) under it.

    Raises:
        ValueError: the pairs say nothing about a direction that changes the policy: the estimate does not converge.
    """
    _, back = _root(reward_covariance(log_policy, g, rho))
    a = root_form(curvature(first, reward, g, rho), back)
    values = np.linalg.eigvalsh(a)
    if values.min() <= CUTOFF * values.max():
        raise ValueError("the pairs say nothing about some direction of the policy: n (J* - J) has no limit")
    inverse = np.linalg.inv(a)  # (S^-1/2 A S^-1/2)^-1 = S^1/2 A^-1 S^1/2
    spread = inverse @ root_form(curvature(second, reward, g, rho), back) @ inverse
    return Limit(
        back @ spread @ back.T, np.asarray(np.linalg.eigvalsh((spread + spread.T) / 2), dtype=np.float64), beta
    )


def _root(covariance: Array) -> tuple[Array, Array]:
    """S^(1/2) and a right inverse of it, both (d, rank), on the directions that change the policy."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > CUTOFF * values.max()
    return vectors[:, kept] * np.sqrt(values[kept]), vectors[:, kept] / np.sqrt(values[kept])


def root_form(matrix: Array, back: Array) -> Array:
    """S^(-1/2) M S^(-1/2), (rank, rank)."""
    return np.asarray(back.T @ matrix @ back)


@attrs.frozen(eq=False)
class Design:
    """A pair density, and how near it is to the best: excess is max q / mean q - 1, at most the tolerance."""

    density: Array
    excess: float
    steps: int


def optimal_design(
    log_policy: Array, reward: Array, g: Array, rho: Array, tolerance: float = 1e-3, steps: int = 2000
) -> Design:
    """The density that minimises tr(Sigma* A^-1), by the multiplicative algorithm (L-optimal design; brief, 3.5).

    mu <- mu sqrt(q) normalised per prompt, q(a, b) = sigma'(m) G' A^-1 Sigma* A^-1 G, from the uniform density. At the
    optimum q is at most its mean for every pair of each prompt, which is checked.
    """
    _, back = _root(reward_covariance(log_policy, g, rho))
    scaled = np.einsum("xkd,dr->xkr", g, back)  # in these coordinates Sigma* is the identity
    margins = differences(reward)
    slope = expit(margins) * expit(-margins)
    density = np.full(margins.shape, 1 / margins.shape[1] ** 2)
    identity = np.eye(back.shape[1])
    excess = np.inf
    step = 0
    for step in range(1, steps + 1):  # noqa: B007
        inverse = np.linalg.solve(curvature(density, reward, scaled, rho), identity)
        moved = np.einsum("xkr,rs->xks", scaled, inverse)
        squares = (moved**2).sum(axis=2)
        inner = np.einsum("xas,xbs->xab", moved, moved)
        q = slope * np.clip(squares[:, :, None] + squares[:, None, :] - 2 * inner, 0, None)
        mean = (density * q).sum(axis=(1, 2))
        excess = float((q.max(axis=(1, 2)) / mean).max() - 1)
        if excess <= tolerance:
            break
        density = density * np.sqrt(q)
        density /= density.sum(axis=(1, 2), keepdims=True)
    return Design(density, excess, step)
