"""Evaluators for real inputs: the excess risk over a finite population, and the theory with its moments."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from kempeframe import Evaluator, NoTheory, component
from kempeframe.components import Needs
from kempeframe.digest import full_name
from kempeframe_strong_collapse import theory
from kempeframe_strong_collapse.data_labels import LabelledTruth, SyntheticLabels

if TYPE_CHECKING:
    from torch import nn

    from kempeframe.runs import Run
    from kempeframe.trial import Fitted

Array = NDArray[np.float64]
NULL = 1e-10  # eigenvalues below this share of the largest are directions in which no input varies


@attrs.frozen(eq=False)
class RealPopulation:
    """Second moments of a finite set of inputs (d,) and its least-squares labels, in the basis of its covariance."""

    basis: Array  # (d, r): the directions in which inputs vary
    eigenvalues: Array  # (r,)
    weight: Array  # (r, outputs): w1, the population's least squares
    residual: float  # sigma1^2: mean squared residual, summed over outputs

    def coordinates(self, network: nn.Module) -> Array:
        """(r, outputs): a linear network's weights in the basis.

        Raises:
            NoTheory: the network is not linear in its inputs.
        """
        from kempeframe.task import CannotGive

        try:
            weight = network.effective_weight()  # type: ignore[operator]
        except (AttributeError, CannotGive):
            raise NoTheory(f"the excess risk is for linear networks, not for a {type(network).__name__}") from None
        return np.asarray(self.basis.T @ weight.detach().cpu().double().numpy())


_POPULATIONS: OrderedDict[tuple[str, str], RealPopulation] = OrderedDict()  # the last few, by pool and preparation


def population_of(truth: object) -> RealPopulation:
    """The population behind a task of synthetic_labels.

    Raises:
        NoTheory: the task is no such, or its source is no finite set.
    """
    if not isinstance(truth, LabelledTruth) or not hasattr(truth.pool, "form"):
        raise NoTheory("there is a population for strong_collapse.synthetic_labels over digits or hub_images alone")
    key = (truth.pool.name, truth.pool.form)
    if key not in _POPULATIONS:
        _POPULATIONS[key] = _moments(truth)
        while len(_POPULATIONS) > 4:
            _POPULATIONS.popitem(last=False)
    return _POPULATIONS[key]


def _moments(truth: LabelledTruth) -> RealPopulation:
    batch = truth.population()
    assert batch.targets is not None
    inputs, targets = batch.inputs.flatten(1).double().numpy(), batch.targets.double().numpy()
    values, vectors = np.linalg.eigh(inputs.T @ inputs / len(inputs))
    varied = values > NULL * values[-1]
    values, vectors = values[varied], vectors[:, varied]
    weight = vectors.T @ (inputs.T @ targets) / len(inputs) / values[:, None]
    residual = targets - inputs @ (vectors @ weight)
    return RealPopulation(vectors, values, weight, float((residual**2).sum(axis=1).mean()))


@component
class PopulationRisk(Evaluator):
    """|w_hat - w1|^2_Sigma over the population: excess risk over its least-squares labels, summed over outputs."""

    def columns(self) -> Mapping[str, str]:
        return {"test_error": "excess risk over the population's least squares"}

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        population = population_of(fitted.task.truth)
        gap = population.coordinates(fitted.network) - population.weight
        return {"test_error": float(population.eigenvalues @ (gap**2).sum(axis=1))}


@component
class RealTheory(Evaluator):
    """Theorem 1 with the moments of real inputs: nothing is fitted to what is predicted.

    Sigma, w1 and sigma1 are the population's, w2 the generator's weights; their correlation enters (fixed vectors).
    Covers strong_collapse.synthetic_labels over a finite source, with standard.linear under standard.ridge.
    """

    needs: ClassVar[Needs] = "task"

    def columns(self) -> Mapping[str, str]:
        return {
            "test_error": "bias + variance + collapse",
            "bias": "B, error of noiseless labels",
            "variance": "V, error from label noise",
            "collapse": "zeta, what synthetic labels add; can be negative",
            "quality": "c^2, excess risk of the generator",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        for part, wanted in ((fitted.model, "standard.linear"), (fitted.optimizer, "standard.ridge")):
            name = "nothing" if part is None else full_name(type(part))
            if name != wanted:
                raise NoTheory(f"no theory for {name}; there is one for {wanted}")
        if not isinstance(fitted.data, SyntheticLabels):
            raise NoTheory(f"no theory for {full_name(type(fitted.data))}; there is one for synthetic_labels")
        truth = fitted.task.truth
        population = population_of(truth)
        synthetic = population.coordinates(truth.generator)
        found = theory.risk_of_vectors(
            population.eigenvalues,
            truth.n_train,
            fitted.optimizer.penalty,  # type: ignore[union-attr]
            real=population.weight,
            synthetic=synthetic,
            noise=population.residual**0.5,
            n_synthetic=truth.n_synthetic,
        )
        quality = population.eigenvalues @ ((synthetic - population.weight) ** 2).sum(axis=1)
        parts = {name: float(getattr(found, name)[0]) for name in self.columns() if name != "quality"}
        return {**parts, "quality": float(quality)}
