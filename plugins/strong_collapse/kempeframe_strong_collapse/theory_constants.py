"""The four constants (e, tau, u, omega) of Theorem 2 of "Strong Model Collapse" (arXiv:2410.04840).

As the paper writes them:

    1/e = 1 + psi tau trbar Sigma K^-1                1/tau = 1 + trbar K0 K^-1
    u   = psi e^2 trbar Sigma (gamma tau^2 L + omega I) K^-2
    omega = tau^2 trbar (gamma omega K0^2 + lambda^2 L) K^-2
    trbar = tr/d, psi = m/n, gamma = m/d, K0 = e Sigma, K = gamma tau K0 + lambda I, L = (1 + u) Sigma

They equal the constants of `theory` through nu = lambda/(gamma e tau) and omega = gamma (1 + u)(1 - rho) nu
tau^2. This second derivation exists to check the first one; it is slower, and needs a positive penalty and
a finite width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

DAMPING = 0.5
RELATIVE_CHANGE = 1e-15
MAX_STEPS = 20_000


@dataclass(frozen=True)
class FourConstants:
    """The paper's constants at one point, with the nu and rho that `theory` is written in."""

    e: float
    tau: float
    u: float
    omega: float
    nu: float
    rho: float
    steps: int  # of the damped iteration for (e, tau)


def four_constants(eigenvalues: ArrayLike, n_train: float, penalty: float, width: float) -> FourConstants:
    """Solve the paper's equations at one point. eigenvalues (d,), penalty > 0, width finite.

    Raises ValueError for other penalties or widths, RuntimeError if (e, tau) do not settle.
    """
    if not (penalty > 0 and np.isfinite(width)):
        raise ValueError(
            "the four constants need penalty > 0 and a finite width; use theory.constants for the limits"
        )
    s = np.asarray(eigenvalues, dtype=np.float64)
    psi, gamma = width / n_train, width / s.size

    e, tau = 1.0, 1.0
    for steps in range(1, MAX_STEPS + 1):  # noqa: B007
        inverse = 1.0 / (gamma * tau * e * s + penalty)
        next_e = 1.0 / (1.0 + psi * tau * float(np.mean(s * inverse)))
        next_tau = 1.0 / (1.0 + float(np.mean(e * s * inverse)))
        change_e, change_tau = DAMPING * (next_e - e), DAMPING * (next_tau - tau)
        e, tau = e + change_e, tau + change_tau
        # relative, for near interpolation e is as small as the penalty
        if abs(change_e) <= RELATIVE_CHANGE * e and abs(change_tau) <= RELATIVE_CHANGE * tau:
            break
    else:
        raise RuntimeError(f"(e, tau) did not settle in {MAX_STEPS} steps")

    # given (e, tau) the rest is linear: u = a (1 + u) + b omega, omega = c omega + f (1 + u)
    inverse = 1.0 / (gamma * tau * e * s + penalty)
    a = psi * e**2 * gamma * tau**2 * np.mean((s * inverse) ** 2)
    b = psi * e**2 * np.mean(s * inverse**2)
    c = tau**2 * gamma * np.mean((e * s * inverse) ** 2)
    f = tau**2 * penalty**2 * np.mean(s * inverse**2)
    u, omega = np.linalg.solve(np.array([[1 - a, -b], [-f, 1 - c]]), np.array([a, f]))

    nu = penalty / (gamma * e * tau)
    rho = 1.0 - omega / (gamma * (1 + u) * nu * tau**2)
    return FourConstants(float(e), float(tau), float(u), float(omega), float(nu), float(rho), steps)
