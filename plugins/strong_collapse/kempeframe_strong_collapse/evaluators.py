"""Evaluators: the exact excess risk, and the paper's theory of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kempeframe import Evaluator, NoTheory, component
from kempeframe.components import Needs
from kempeframe.digest import full_name
from kempeframe_strong_collapse import theory, theory_mixing
from kempeframe_strong_collapse.data import GaussianMixture, GeneralMixture
from kempeframe_strong_collapse.data_iterative import IterativeMixture
from kempeframe_strong_collapse.models import RandomProjection
from kempeframe_strong_collapse.theory_general import general_risk

if TYPE_CHECKING:
    from kempeframe.runs import Run
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


@component
class Theory(Evaluator):
    """Test error of ridge in the proportionate limit: bias + variance + collapse (Theorems 1 and 2 of the paper).

    Covers strong_collapse.gaussian_mixture with standard.linear or strong_collapse.random_projection under
    standard.ridge; for anything else it has no value.
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
            by_dimension.setdefault(covered(fitted).dimension, []).append(index)
        for indices in by_dimension.values():
            risk = _risk([fits[i] for i in indices])
            for row, index in enumerate(indices):
                found[index] = {name: float(getattr(risk, name)[row]) for name in self.columns()}
        return found


@component
class GeneralTheory(Evaluator):
    """Ridge where real and synthetic inputs have different covariances (Section 3.8 of the brief), for the drawn truth.

    Covers strong_collapse.general_mixture with standard.linear under standard.ridge, loss weights included.
    """

    needs: ClassVar[Needs] = "task"  # rotation and signs are the trial's

    def columns(self) -> Mapping[str, str]:
        return {
            "test_error": "bias + variance + collapse",
            "bias": "error if every label came from w1 without noise",
            "variance": "error from label noise",
            "collapse": "what synthetic labels add",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        data = fitted.data
        if not isinstance(data, GeneralMixture):
            raise NoTheory(f"no theory for {full_name(type(data))}; there is one for strong_collapse.general_mixture")
        _linear_ridge(fitted)
        if isinstance(fitted.model, RandomProjection):
            raise NoTheory("no theory of different covariances for random projections")
        penalty = fitted.optimizer.penalty  # type: ignore[union-attr]
        in_use = data.n_train if data.synthetic_weight else data.n_train - data.n_synthetic
        if in_use == 0:
            raise NoTheory("no theory where every example has weight 0")
        if penalty == 0 and in_use <= data.dimension:
            raise NoTheory("different covariances without penalty need more examples than dimensions")
        truth = fitted.task.truth
        fraction = data.n_synthetic / data.n_train
        found = general_risk(
            np.stack([np.diag(truth["eigenvalues"]), truth["synthetic_covariance"]]),
            data.n_train,
            penalty,
            targets=np.stack([truth["weight"], truth["synthetic_weight"]]),
            fractions=(1 - fraction, fraction),
            noise=(data.noise, data.synthetic_noise),
            weights=(1.0, data.synthetic_weight),
        )
        return {name: float(getattr(found, name)) for name in self.columns()}


@component
class IterativeTheory(Evaluator):
    """Test error after each round of iterative mixing with fresh examples, and its limit (Section 5 of the paper)."""

    needs: ClassVar[Needs] = "components"

    def columns(self) -> Mapping[str, str]:
        return {"test_error": "test error after this round", "limit": "test error after infinitely many rounds"}

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        data = fitted.data
        if not isinstance(data, IterativeMixture):
            raise NoTheory(f"no theory for {full_name(type(data))}; there is one for strong_collapse.iterative_mixture")
        if not data.fresh_real:
            raise NoTheory("no theory for real examples that are used again in every round")
        if data.synthetic_weight != 1:
            raise NoTheory("no theory of iterative mixing with weighted examples")
        _linear_ridge(fitted)
        if isinstance(fitted.model, RandomProjection):
            raise NoTheory("no theory of iterative mixing for random projections")
        population = data.population()
        arguments: dict[str, Any] = dict(
            signal=population.signal,
            noise=data.noise,
            synthetic_noise=data.synthetic_noise,
            synthetic_fraction=data.n_synthetic / data.n_train,
        )
        penalty = fitted.optimizer.penalty  # type: ignore[union-attr]
        errors = theory_mixing.iterative_errors(
            population.eigenvalues, data.n_train, penalty, rounds=data.round, shift=population.shift, **arguments
        )
        limit = theory_mixing.iterative_limit(population.eigenvalues, data.n_train, penalty, **arguments)
        return {"test_error": float(errors[-1, 0]), "limit": float(np.ravel(limit)[0])}


@component
class OptimalWeight(Evaluator):
    """The static weight on synthetic examples that theory finds best, and what it is worth (Section 5 of the paper)."""

    needs: ClassVar[Needs] = "components"

    def columns(self) -> Mapping[str, str]:
        return {
            "weight": "best weight of a synthetic example; a real one has weight 1",
            "test_error": "test error at that weight",
            "real_only": "test error at weight 0",
            "unweighted": "test error at weight 1",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        data = covered(fitted)
        if not 0 < data.n_synthetic < data.n_train:
            raise NoTheory("a best weight needs both real and synthetic examples")
        penalty = fitted.optimizer.penalty  # type: ignore[union-attr]
        best = theory_mixing.optimal_weight(
            data.population().eigenvalues, data.n_train, penalty, **_population(fitted, data)
        )
        return {name: float(getattr(best, name)) for name in self.columns()}


@component
class OptimalPenalty(Evaluator):
    """The ridge penalty that theory finds best, and its test error: tuning is no cure of collapse."""

    needs: ClassVar[Needs] = "components"

    def columns(self) -> Mapping[str, str]:
        return {"penalty": "best penalty", "test_error": "test error at that penalty"}

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        data = covered(fitted)
        weights = (1.0, data.synthetic_weight)
        best = theory_mixing.optimal_penalty(
            data.population().eigenvalues, data.n_train, weights=weights, **_population(fitted, data)
        )
        return {"penalty": best.penalty, "test_error": best.test_error}


def _population(fitted: Fitted, data: GaussianMixture) -> dict[str, Any]:
    population = data.population()
    return dict(
        signal=population.signal,
        shift=population.shift,
        noise=data.noise,
        synthetic_noise=data.synthetic_noise,
        synthetic_fraction=data.n_synthetic / data.n_train,
        width=fitted.model.width if isinstance(fitted.model, RandomProjection) else np.inf,
    )


def covered(fitted: Fitted) -> GaussianMixture:
    """The fit's data, if the theory covers the fit.

    Raises:
        NoTheory: it does not; the message says which component it lacks.
    """
    data = fitted.data
    if not isinstance(data, GaussianMixture) or isinstance(data, (GeneralMixture, IterativeMixture)):
        raise NoTheory(f"no theory for {full_name(type(data))}; there is one for strong_collapse.gaussian_mixture")
    _linear_ridge(fitted)
    return data


def _linear_ridge(fitted: Fitted) -> None:
    model, optimizer = fitted.model, fitted.optimizer
    if not isinstance(model, RandomProjection) and (model is None or full_name(type(model)) != "standard.linear"):
        name = "no model" if model is None else full_name(type(model))
        raise NoTheory(f"no theory for {name}; there is one for standard.linear and strong_collapse.random_projection")
    if optimizer is None or full_name(type(optimizer)) != "standard.ridge":
        name = "no optimizer" if optimizer is None else full_name(type(optimizer))
        raise NoTheory(f"no theory for {name}; there is one for standard.ridge")


def _risk(fits: Sequence[Fitted]) -> theory.Risk:
    mixtures = [covered(fitted) for fitted in fits]
    populations = [mixture.population() for mixture in mixtures]
    return theory.risk(
        np.stack([p.eigenvalues for p in populations]),
        np.array([mixture.n_train for mixture in mixtures], dtype=np.float64),
        np.array([fitted.optimizer.penalty for fitted in fits]),  # type: ignore[union-attr]
        signal=np.stack([p.signal for p in populations]),
        shift=np.stack([p.shift for p in populations]),
        noise=np.array([mixture.noise for mixture in mixtures]),
        synthetic_noise=np.array([mixture.synthetic_noise for mixture in mixtures]),
        width=np.array([f.model.width if isinstance(f.model, RandomProjection) else np.inf for f in fits]),
        n_synthetic=np.array([mixture.n_synthetic for mixture in mixtures], dtype=np.float64),
        weights=(1.0, np.array([mixture.synthetic_weight for mixture in mixtures])),
    )
