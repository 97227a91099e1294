"""Divergences of variational families. Vectors are (d,); deviations are standard deviations."""

from __future__ import annotations

import torch
from torch import Tensor


def kl_to_prior(mean: Tensor, deviation: Tensor, prior_std: float) -> Tensor:
    """KL(N(mean, diag deviation^2) || N(0, prior_std^2)) = sum_j log(prior/s_j) + (s_j^2 + m_j^2)/(2 prior^2) - 1/2."""
    ratio = deviation / prior_std
    return (-ratio.log() + (ratio.square() + (mean / prior_std).square()) / 2 - 0.5).sum()


def function_space_kl(features: Tensor, mean: Tensor, deviation: Tensor, prior_std: float, jitter: float) -> Tensor:
    """sum_k KL(q_k || prior) of a last layer's functions at context points (Rudner et al., 2022).

    q_k = N(Phi mu_k, Phi diag(s_k^2) Phi' + jitter I), prior N(0, prior_std^2 Phi Phi' + jitter I).
    features: Phi, (points, features); mean and deviation (outputs, features).
    """
    points = len(features)
    noise = jitter * torch.eye(points, dtype=features.dtype, device=features.device)
    prior = torch.linalg.cholesky(prior_std**2 * features @ features.T + noise)
    scaled = features[None] * deviation[:, None]
    posterior = torch.linalg.cholesky(scaled @ scaled.mT + noise)  # (outputs, points, points)
    ratio = torch.linalg.solve_triangular(prior, posterior, upper=False)
    shift = torch.linalg.solve_triangular(prior, features @ mean.T, upper=False)
    log_determinants = 2 * (_log_diagonal(prior) * len(mean) - _log_diagonal(posterior))
    found: Tensor = (ratio.square().sum() + shift.square().sum() - points * len(mean) + log_determinants) / 2
    return found


def _log_diagonal(factor: Tensor) -> Tensor:
    return factor.diagonal(dim1=-2, dim2=-1).log().sum()


def best_mean_field(precision: Tensor) -> tuple[Tensor, Tensor]:
    """The mean-field approximation of N(m, L^-1), L the precision: variances 1/L_jj (its mean is m), and the KL gap."""
    variances = 1 / precision.diagonal()
    gap = (precision.diagonal().log().sum() - torch.logdet(precision)) / 2
    return variances, gap
