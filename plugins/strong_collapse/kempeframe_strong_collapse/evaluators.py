"""Evaluators: the exact excess risk, and the paper's theory of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from kempeframe import Evaluator, component
from kempeframe.components import Needs
from kempeframe.digest import full_name
from kempeframe_strong_collapse import theory
from kempeframe_strong_collapse.data import GaussianMixture
from kempeframe_strong_collapse.models import RandomProjection

if TYPE_CHECKING:
    from kempeframe.run import Run
    from kempeframe.trial import Fitted


@component
class ExcessRisk(Evaluator):
    """E_x (x.w_hat - x.w1)^2 on real clean labels, exact from the weights of a linear network: no test sample."""

    def columns(self) -> Mapping[str, str]:
        return {"test_error": "excess risk on real clean labels"}

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        truth = fitted.task.truth
        gap = fitted.network.effective_weight().detach().cpu().numpy()[:, 0] - truth["weight"]  # type: ignore[operator]
        return {"test_error": float(truth["eigenvalues"] @ gap**2)}


class NoTheory(TypeError):
    """The paper's equations do not cover these components."""


@component
class Theory(Evaluator):
    """Test error of ridge in the proportionate limit: bias + variance + collapse (Theorems 1 and 2 of the paper).

    Covers strong_collapse.gaussian_mixture with standard.linear or strong_collapse.random_projection under
    standard.ridge; asked about anything else, it raises.
    """

    needs: ClassVar[Needs] = "components"

    def columns(self) -> Mapping[str, str]:
        return {
            "test_error": "bias + variance + collapse",
            "bias": "B, error of noiseless labels",
            "variance": "V, error from label noise",
            "collapse": "zeta, what synthetic labels add; 0 without them",
            "nu": "root of the scalar equation",
            "u": "variance per unit of noise variance",
            "df1": "degrees of freedom tr S/(S + nu)",
            "df2": "degrees of freedom tr S^2/(S + nu)^2",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        return self.evaluate_many([fitted], [run])[0]

    def evaluate_many(self, fits: Sequence[Fitted], runs: Sequence[Run]) -> list[Mapping[str, float]]:
        """All points of one dimension as one vectorised root finding."""
        found: list[Mapping[str, float]] = [{}] * len(fits)
        by_dimension: dict[int, list[int]] = {}
        for index, fitted in enumerate(fits):
            by_dimension.setdefault(_covered(fitted).dimension, []).append(index)
        for indices in by_dimension.values():
            risk = _risk([fits[i] for i in indices])
            for row, index in enumerate(indices):
                found[index] = {name: float(getattr(risk, name)[row]) for name in self.columns()}
        return found


def _covered(fitted: Fitted) -> GaussianMixture:
    """The fit's data, if the theory covers the fit."""
    data, model, optimizer = fitted.data, fitted.model, fitted.optimizer
    if not isinstance(data, GaussianMixture):
        raise NoTheory(
            f"no theory for {full_name(type(data))}; there is one for strong_collapse.gaussian_mixture"
        )
    if not isinstance(model, RandomProjection) and (
        model is None or full_name(type(model)) != "standard.linear"
    ):
        name = "no model" if model is None else full_name(type(model))
        raise NoTheory(
            f"no theory for {name}; there is one for standard.linear and strong_collapse.random_projection"
        )
    if optimizer is None or full_name(type(optimizer)) != "standard.ridge":
        name = "no optimizer" if optimizer is None else full_name(type(optimizer))
        raise NoTheory(f"no theory for {name}; there is one for standard.ridge")
    return data


def _risk(fits: Sequence[Fitted]) -> theory.Risk:
    mixtures = [_covered(fitted) for fitted in fits]
    populations = [mixture.population() for mixture in mixtures]
    n = np.array([mixture.n_train for mixture in mixtures], dtype=np.float64)
    return theory.risk(
        np.stack([p.eigenvalues for p in populations]),
        n,
        np.array([fitted.optimizer.penalty for fitted in fits]),  # type: ignore[union-attr]
        signal=np.stack([p.signal for p in populations]),
        shift=np.stack([p.shift for p in populations]),
        noise=np.array([mixture.noise for mixture in mixtures]),
        synthetic_noise=np.array([mixture.synthetic_noise for mixture in mixtures]),
        width=np.array([f.model.width if isinstance(f.model, RandomProjection) else np.inf for f in fits]),
        n_synthetic=np.array([mixture.n_synthetic for mixture in mixtures], dtype=np.float64),
        weights=(1.0, np.array([mixture.synthetic_weight for mixture in mixtures])),
    )
