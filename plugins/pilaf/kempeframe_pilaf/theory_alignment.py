"""How well one DPO step points along the gradient of J (PILAF, Section 4: gradient alignment), exactly.

g (X, K, d) is the gradient of the implicit reward, beta grad log pi; all else as in theory.py. `weighted` is the pair
density times the loss weight, w(x) mu(a, b | x), (X, K, K).
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from kempeframe_pilaf.theory import Array, implicit_reward


def differences(values: Array) -> Array:
    """(X, K, ...) -> (X, K, K, ...): value of a minus value of b."""
    return values[:, :, None] - values[:, None, :]


def loss_gradient(weighted: Array, reward: Array, true_reward: Array, g: Array, rho: Array) -> Array:
    """grad L = E_rho sum_ab w mu (sigma(m) - sigma(m*)) (g_a - g_b), (d,): the sampling is not differentiated."""
    error = expit(differences(reward)) - expit(differences(true_reward))
    mass = rho[:, None, None] * weighted * error
    return np.asarray(np.einsum("xab,xad->d", mass, g) - np.einsum("xab,xbd->d", mass, g))


def objective_gradient(
    log_policy: Array, reward: Array, true_reward: Array, g: Array, beta: float, rho: Array
) -> Array:
    """grad J = E_rho E_pi[(r* - r) grad log pi], (d,)."""
    mass = rho[:, None] * np.exp(log_policy) * (true_reward - reward)
    return np.asarray(np.einsum("xk,xkd->d", mass, g) / beta)


def cosine_distance(loss: Array, objective: Array) -> float:
    """1 - cos(-grad L, grad J), without cancellation where it is small: half the squared distance of unit vectors."""
    unit = -loss / np.linalg.norm(loss) - objective / np.linalg.norm(objective)
    return float(unit @ unit / 2)


def relative_residual(loss: Array, objective: Array, beta: float, mean_sum: float) -> float:
    """|grad L + (beta / Zbar) grad J| over |(beta / Zbar) grad J|: of weighted T-PILAF first order in r* - r."""
    wanted = -beta / mean_sum * objective
    return float(np.linalg.norm(loss - wanted) / np.linalg.norm(wanted))


def residual_bound(
    log_policy: Array, log_reference: Array, true_reward: Array, g: Array, beta: float, rho: Array, mean_sum: float
) -> float:
    """|T2| <= (1 / 2 Zbar) E_{x, pi x pi}[(e^|D| - 1 - |D|) |g_a - g_b|], D = m* - m (derived in the brief, 3.3)."""
    gap = np.abs(differences(true_reward - implicit_reward(log_policy, log_reference, beta)))
    lengths = np.linalg.norm(differences(g), axis=-1)
    pairs = np.exp(log_policy[:, :, None] + log_policy[:, None, :])
    return float(np.einsum("x,xab->", rho, pairs * (np.expm1(gap) - gap) * lengths) / (2 * mean_sum))
