"""A linear classifier with a Gaussian posterior w ~ N(m, V): its predictions and its robustness, exactly.

Labels y are -1 or +1, the likelihood is probit, Phi(y w.x). Everything here is float64 NumPy; x is (n, p). Derived in
the brief, 3.5; not in the paper.
"""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Array = npt.NDArray[np.float64]


@attrs.frozen(eq=False)
class GaussianPosterior:
    """mean m (p,), covariance V (p, p)."""

    mean: Array
    covariance: Array

    def predictive(self, x: Array) -> Array:
        """p(y = +1 | x) = Phi(m.x / sqrt(1 + x'Vx)), (n,)."""
        return np.asarray(ndtr(self._score(x)))

    def _score(self, x: Array) -> Array:
        return np.asarray((x @ self.mean) / np.sqrt(1 + np.einsum("ni,ij,nj->n", x, self.covariance, x)))

    def predictive_gradient(self, x: Array) -> Array:
        """Gradient of the score m.x / sqrt(a), a = 1 + x'Vx, in x: m / sqrt(a) - (m.x) Vx / a^(3/2), (n, p).

        Its sign is not that of m where the second term wins: FGSM on the mean predictive is not the optimal attack.
        """
        spread = x @ self.covariance
        a = 1 + np.einsum("ni,ni->n", spread, x)
        return np.asarray(self.mean / np.sqrt(a)[:, None] - (x @ self.mean / a**1.5)[:, None] * spread)

    def margin(self, x: Array, y: Array) -> Array:
        """y m.x, (n,): above 0 where the decision is right."""
        return np.asarray(y * (x @ self.mean))

    def robust_accuracy(self, x: Array, y: Array, epsilon: float, dual_norm: str = "l_1") -> float:
        """P(y m.x > epsilon |m|_dual): exact, for a ball without a box; the optimal shift is -epsilon y sign(m)."""
        return float((self.margin(x, y) > epsilon * self.dual(dual_norm)).mean())

    def dual(self, norm: str) -> float:
        """|m| in a norm."""
        return float(np.linalg.norm(self.mean, {"l_1": 1, "l_2": 2, "l_inf": np.inf}[norm]))

    def critical_epsilon(self, x: Array) -> Array:
        """The l_inf radius at which the decision changes: |m.x| / |m|_1, (n,)."""
        return np.asarray(np.abs(x @ self.mean) / self.dual("l_1"))

    def kappa(self, samples: int) -> float:
        """What an attack along the averaged weight of K posterior samples reaches of the optimal loss, on average.

        kappa_K = sum_j |m_j| (2 Phi(sqrt(K) |m_j| / sigma_j) - 1) / |m|_1, sigma_j^2 = V_jj; l_inf, goes to 1.
        """
        size = np.abs(self.mean)
        right = 2 * ndtr(np.sqrt(samples) * size / np.sqrt(np.diag(self.covariance))) - 1
        return float(size @ right / size.sum())

    def accuracy_against(self, x: Array, y: Array, epsilon: float, samples: int) -> float:
        """Predicted accuracy under the K-sample attack, with its random loss replaced by the mean.

        For an attack along the K samples' averaged weight. One on their mean predictive weighs each sample by the
        probability it gives the label, and is weaker where margins are far above 1: by 0.02 at 7, for K = 4.
        """
        return self.robust_accuracy(x, y, epsilon * self.kappa(samples))


def conjugate(x: Array, y: Array, noise_variance: float, prior_std: float) -> GaussianPosterior:
    """The posterior of linear regression y = w.x + N(0, noise_variance), w ~ N(0, prior_std^2 I). x (n, p), y (n,)."""
    precision = x.T @ x / noise_variance + np.eye(x.shape[1]) / prior_std**2
    covariance = np.linalg.inv(precision)
    return GaussianPosterior(covariance @ (x.T @ y) / noise_variance, (covariance + covariance.T) / 2)
