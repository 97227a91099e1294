"""Do chains agree, and what are their draws worth: split R-hat and effective sample size, of many quantities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def _halves(draws: npt.ArrayLike) -> Array:
    """(chains, n, ...) -> (2 chains, n // 2, quantities)."""
    x = np.asarray(draws, dtype=np.float64)
    x = x.reshape(*x.shape[:2], -1)
    half = x.shape[1] // 2
    return np.concatenate([x[:, :half], x[:, x.shape[1] - half :]])


def split_r_hat(draws: npt.ArrayLike) -> Array:
    """sqrt(((n-1)/n W + B/n) / W) over half chains (Gelman et al., BDA3, 11.4): 1 where they agree, (quantities,).

    draws: (chains, n, ...). nan with fewer than 4 draws; 1 for a quantity that is constant over all chains.
    """
    x = _halves(draws)
    n = x.shape[1]
    if n < 2:
        return np.full(x.shape[2], np.nan)
    within = x.var(axis=1, ddof=1).mean(axis=0)
    between = x.mean(axis=1).var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.sqrt((n - 1) / n + between / within)
    return np.asarray(np.where((within == 0) & (between == 0), 1.0, found))


def worst_of(r_hats: Array, share: float = 0.95) -> float:
    """The smallest R-hat that at least this share of the quantities do not exceed; nan where none has a value."""
    known = r_hats[~np.isnan(r_hats)]
    return float(np.quantile(known, share, method="higher")) if len(known) else float("nan")


def effective_sample_size(draws: npt.ArrayLike) -> Array:
    """ESS = m n / tau, tau = -1 + 2 sum of pairs rho_2t + rho_2t+1, over half chains, (quantities,).

    Autocovariances by FFT; pairs are cut at the first negative one and made non-increasing (Geyer, 1992), as Stan and
    arviz do (Vehtari et al., 2021, section 3.2). Antithetic chains may be worth more than their draws, at most
    m n log10(m n). nan with fewer than 8 draws.
    """
    x = _halves(draws)
    m, n, quantities = x.shape
    if n < 4:
        return np.full(quantities, np.nan)
    covariances = _autocovariances(x)  # (m, n, quantities)
    mean_variance = covariances[:, 0].mean(axis=0) * n / (n - 1)
    total = mean_variance * (n - 1) / n + x.mean(axis=1).var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = 1 - (mean_variance - covariances.mean(axis=0)) / total
    rho[0] = 1.0
    most = m * n * np.log10(m * n)
    return np.array([min(m * n / _time(rho[:, q]), most) if total[q] > 0 else np.nan for q in range(quantities)])


def _autocovariances(x: Array) -> Array:
    """(1/n) sum_i (x_i - mean)(x_{i+t} - mean), along axis 1."""
    n = x.shape[1]
    centred = x - x.mean(axis=1, keepdims=True)
    size = 2 ** int(np.ceil(np.log2(2 * n)))
    spectrum = np.fft.rfft(centred, size, axis=1)
    return np.asarray(np.fft.irfft(spectrum * spectrum.conj(), size, axis=1)[:, :n] / n)


def _time(rho: Array) -> float:
    """The integrated autocorrelation time of correlations rho_0, rho_1, ...; the last lags rest on next to no draws."""
    pairs = rho[: len(rho) // 2 * 2].reshape(-1, 2).sum(axis=1)
    pairs = pairs if len(rho) % 2 else pairs[: max(1, len(pairs) - 1)]
    negative = np.flatnonzero(pairs < 0)
    kept = int(negative[0]) if len(negative) else max(1, len(pairs) - 1)
    cut = rho[2 * kept] if kept < len(pairs) else 0.0  # of the first pair that is left out, its first half
    return float(-1 + 2 * np.minimum.accumulate(pairs[:kept]).sum() + max(cut, 0.0))
