"""PILAF's mathematics where responses can be listed: tilted policies, pair densities of every scheme, J, the frontier.

X prompts with weights rho (X,), K responses each, in float64. log_policy and log_reference are log-probabilities,
(X, K); rewards (X, K). Feng et al., "PILAF", arXiv:2502.04270; implicit reward: beta (log policy - log reference).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, logsumexp

Array = npt.NDArray[np.float64]


def implicit_reward(log_policy: Array, log_reference: Array, beta: float) -> Array:
    """r(x, y) = beta (log pi(y|x) - log ref(y|x)), (X, K)."""
    return beta * (log_policy - log_reference)


def tilted(log_policy: Array, log_reference: Array, tilt: float) -> Array:
    """log of pi^(1+c) ref^(-c) / Z: c = beta is pi+, c = -beta is pi-, c = -1 is the reference."""
    return np.asarray(log_softmax((1 + tilt) * log_policy - tilt * log_reference, axis=-1))


def log_normalisers(log_policy: Array, log_reference: Array, beta: float) -> tuple[Array, Array]:
    """log Z+ = log E_pi exp(r) and log Z- = log E_pi exp(-r), each (X,)."""
    rewards = implicit_reward(log_policy, log_reference, beta)
    return logsumexp(log_policy + rewards, axis=-1), logsumexp(log_policy - rewards, axis=-1)


def both_normalisers(log_policy: Array, log_reference: Array, beta: float) -> Array:
    """Z+ Z-, (X,)."""
    return np.asarray(np.exp(sum(log_normalisers(log_policy, log_reference, beta))))


# ---- pair densities: mu(a, b | x), (X, K, K), each prompt's sums to 1 ------------------------------------------------


def product(log_first: Array, log_second: Array) -> Array:
    """Both responses drawn independently."""
    return np.asarray(np.exp(log_first[:, :, None] + log_second[:, None, :]))


def vanilla(log_policy: Array) -> Array:
    """pi x pi."""
    return product(log_policy, log_policy)


def plus_minus(log_policy: Array, log_reference: Array, beta: float) -> Array:
    """pi+ x pi-."""
    return product(tilted(log_policy, log_reference, beta), tilted(log_policy, log_reference, -beta))


def branched(log_policy: Array, log_reference: Array, beta: float, probability: Array | float) -> Array:
    """pi+ x pi- with a probability, given once or for each prompt, else pi x pi."""
    share = np.asarray(probability, dtype=float).reshape(-1, 1, 1)
    return (1 - share) * vanilla(log_policy) + share * plus_minus(log_policy, log_reference, beta)


def theoretical_branch(log_policy: Array, log_reference: Array, beta: float) -> Array:
    """T-PILAF's probability of pi+ x pi-: Z+Z- / (1 + Z+Z-), (X,)."""
    both = both_normalisers(log_policy, log_reference, beta)
    return both / (1 + both)


def prompt_weights(log_policy: Array, log_reference: Array, beta: float, rho: Array) -> Array:
    """w(x) = (1 + Z+Z-) / E_rho[1 + Z+Z-], (X,): with it the T-PILAF gradient is parallel to that of J."""
    sums = 1 + both_normalisers(log_policy, log_reference, beta)
    return np.asarray(sums / (rho @ sums))


def best_of_n(log_policy: Array, rewards: Array, n: int) -> Array:
    """(best, worst) by reward of n responses from pi; of equals the first drawn is best, the last drawn is worst.

    P(all n have rewards between those of j and i) by inclusion and exclusion, shared out within equal rewards.
    """
    density = np.zeros((*log_policy.shape, log_policy.shape[1]))
    for prompt, (row, values) in enumerate(zip(np.exp(log_policy), rewards, strict=True)):
        _, level = np.unique(values, return_inverse=True)
        mass = np.bincount(level, weights=row)
        upto = np.concatenate([[0.0], np.cumsum(mass)])
        best, worst = np.meshgrid(np.arange(len(mass)), np.arange(len(mass)), indexing="ij")
        inside = upto[best + 1] - upto[worst]  # mass from worst to best, both included
        m = [inside, inside - mass[best], inside - mass[worst], inside - mass[best] - mass[worst]]
        whole, no_best, no_worst, neither = (np.clip(part, 0, None) ** n for part in m)
        pairs = np.where(best == worst, whole, whole - no_best - no_worst + neither)
        pairs = np.where(best < worst, 0.0, np.clip(pairs, 0, None))
        share = np.divide(row, mass[level], out=np.zeros_like(row), where=mass[level] > 0)
        density[prompt] = pairs[level[:, None], level[None, :]] * share[:, None] * share[None, :]
    return density


def share_unequal(density: Array, rho: Array) -> float:
    """P(a != b)."""
    return float(rho @ (1 - np.einsum("xkk->x", density)))


# ---- the variance of an estimated weight ---------------------------------------------------------------------------


def probe_moments(log_policy: Array, log_reference: Array, beta: float, probes: int) -> tuple[Array, Array]:
    """Mean and variance of the estimate of Z+Z- from so many responses of pi, each (X,).

    The estimate is the mean over pairs of cosh(r_i - r_j), a U-statistic of order two: E = Z+Z-, and
    Var = (4 (m - 2) zeta_1 + 2 zeta_2) / (m (m - 1)) (Hoeffding, 1948).
    """
    rewards = implicit_reward(log_policy, log_reference, beta)
    policy = np.exp(log_policy)
    kernel = np.cosh(rewards[:, :, None] - rewards[:, None, :])
    once = np.einsum("xkl,xl->xk", kernel, policy)
    mean = np.einsum("xk,xk->x", once, policy)
    first = np.einsum("xk,xk->x", once**2, policy) - mean**2
    second = np.einsum("xkl,xk,xl->x", kernel**2, policy, policy) - mean**2
    return mean, (4 * (probes - 2) * first + 2 * second) / (probes * (probes - 1))


# ---- the objective -------------------------------------------------------------------------------------------------


def expected_reward(log_policy: Array, rewards: Array, rho: Array) -> float:
    """E_rho E_pi[r]."""
    return float(rho @ (np.exp(log_policy) * rewards).sum(axis=1))


def divergence(log_policy: Array, log_other: Array, rho: Array) -> float:
    """E_rho KL(pi || other)."""
    return float(rho @ (np.exp(log_policy) * (log_policy - log_other)).sum(axis=1))


def objective(log_policy: Array, log_reference: Array, rewards: Array, beta: float, rho: Array) -> float:
    """J = E[r*] - beta E_rho KL(pi || ref)."""
    return expected_reward(log_policy, rewards, rho) - beta * divergence(log_policy, log_reference, rho)


def optimum(log_reference: Array, rewards: Array, beta: float) -> Array:
    """log pi*, pi* = ref exp(r*/beta) / Z*, (X, K): J(pi*) - J(pi) = beta E_rho KL(pi || pi*) for every pi."""
    return np.asarray(log_softmax(log_reference + rewards / beta, axis=-1))


def best_objective(log_reference: Array, rewards: Array, beta: float, rho: Array) -> float:
    """J* = beta E_rho log Z*."""
    return float(beta * (rho @ logsumexp(log_reference + rewards / beta, axis=-1)))


def frontier(log_base: Array, rewards: Array, temperatures: Array, rho: Array) -> tuple[Array, Array, Array]:
    """The policies ref exp(r*/b): their KL, their reward, and the effective number of responses behind them.

    For responses drawn from the reference instead of listed, log_base is -log(draws): self-normalised importance
    sampling. The third is the least over prompts of 1 / sum p^2, each (temperatures,). No policy has more reward at
    its KL.
    """
    parts = max(1, log_base.size * len(temperatures) // NUMBERS_AT_ONCE)
    found = [_frontier(log_base, rewards, part, rho) for part in np.array_split(temperatures, parts)]
    kl, reward, effective = (np.concatenate(column) for column in zip(*found, strict=True))
    return kl, reward, effective


NUMBERS_AT_ONCE = 1 << 20  # of an array over temperatures, prompts and responses


def _frontier(log_base: Array, rewards: Array, temperatures: Array, rho: Array) -> tuple[Array, Array, Array]:
    logs = log_base + rewards / temperatures[:, None, None]  # (temperatures, X, K)
    largest = logs.max(axis=2, keepdims=True)
    shares = np.exp(logs - largest)
    sums = shares.sum(axis=2, keepdims=True)
    p = shares / sums
    per_prompt = (p * rewards).sum(axis=2)
    constants = (largest + np.log(sums))[:, :, 0]
    kl = (per_prompt / temperatures[:, None] - constants) @ rho
    return kl, per_prompt @ rho, (1 / (p**2).sum(axis=2)).min(axis=1)
