"""Evaluators: what a posterior is worth, what its gradients do, and exact theory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from kempeframe import Evaluator, component, field
from kempeframe.components import Needs

if TYPE_CHECKING:
    from kempeframe.components import Measured
    from kempeframe.runs import Run
    from kempeframe.trial import Fitted


@component
class PosteriorDiagnostics(Evaluator):
    """Whether a sampler's chains agree, in the space of functions: weights have symmetries, so theirs says nothing.

    Split R-hat and effective sample size of predictive probabilities on test inputs, of the potential U, and of each
    draw's test loss. A high acceptance is no merit: with tiny steps it is near 1 while the chains stand still. Not
    for posteriors that come from no chains.
    """

    examples: int | None = field(None, "test inputs that are looked at, the first so many; not given: all", ge=1)

    def columns(self) -> Mapping[str, str]:
        return {
            "r_hat_median": "of the predictive probabilities: split R-hat over the kept draws",
            "r_hat_95": "its 95 % quantile",
            "r_hat_largest": "its largest value",
            "r_hat_potential": "of U, over all draws after the warm-up",
            "ess_potential": "effective sample size of U, of all draws after the warm-up",
            "ess_test_loss": "of each kept draw's test loss",
            "acceptance": "mean acceptance probability after the warm-up",
            "acceptance_lowest": "of the chain that has the lowest",
            "divergences": "trajectories after the warm-up whose energy error exceeds 1000, over all chains",
            "energy_error": "root mean square of the energy error of trajectories after the warm-up",
            "step_size": "after the warm-up",
            "leapfrog_steps": "in all, for each chain",
            "single_draw_accuracy": "mean test accuracy of single draws",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        from kempeframe_attacking_bayes.diagnosing import diagnose

        return diagnose(fitted, run, self.examples)


@component
class GradientCancellation(Evaluator):
    """|E g| / E|g| over posterior samples, g the gradient of the cross-entropy in the input; mean over test inputs.

    Carbone et al. (2020) and Bortolussi et al. (2022) have the mean gradient vanish in their limit: that would be 0.
    """

    examples: int | None = field(None, "test inputs, the first so many; not given: all", ge=1)

    def columns(self) -> Mapping[str, str]:
        return {
            "cancellation": "|mean of gradients| / mean of |gradient|, 2-norms, mean over inputs: 1 is none, 0 is all",
            "vanished": "share of inputs at which all samples' gradients are 0: they do not count",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        from kempeframe_attacking_bayes.diagnosing import cancellation

        return cancellation(fitted, run, self.examples)


@component
class ScaledLogits(Evaluator):
    """Another evaluator on the network with every sample's logits multiplied by a factor, which saturates its softmax.

    A single network keeps its labels: what its robust accuracy gains is what the attack lost.
    """

    evaluator: Evaluator = field(doc="what is measured")
    factor: float = field(1.0, "of all logits", gt=0, lt=math.inf)

    @property
    def uses_attack(self) -> bool:  # type: ignore[override]
        """Whether the result depends on the trial's attack."""
        return self.evaluator.uses_attack

    @property
    def needs_attack(self) -> bool:
        return self.evaluator.needs_attack

    def columns(self) -> Mapping[str, str]:
        return self.evaluator.columns()

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        import attrs

        from kempeframe_attacking_bayes.stacked import stacked

        scaled = stacked(fitted.network).tempered(1 / self.factor).eval()
        return self.evaluator.evaluate(attrs.evolve(fitted, given_network=scaled), run)


@component
class Theory(Evaluator):
    """Accuracies of a linear classifier with a Gaussian posterior under l_inf attacks, exactly on the test inputs.

    robust_accuracy: under attacks on the whole posterior P(y m.x > epsilon |m|_1); under `posterior_subset`, on K
    samples, P(y m.x > epsilon kappa_K |m|_1), which puts the random loss's mean in its place (brief, 3.5). For
    `gaussian_linear` data, which have no box.
    """

    needs: ClassVar[Needs] = "task"
    uses_attack: ClassVar[bool] = True

    def columns(self) -> Mapping[str, str]:
        return {
            "accuracy": "P(y m.x > 0) on the test inputs",
            "robust_accuracy": "under the trial's attack",
            "robust_accuracy_exact": "under the best attack on the posterior",
            "kappa": "share of the best attack's loss that one on K samples reaches, kappa_K; 1 for all of them",
            "critical_epsilon": "median l_inf radius at which the decision changes",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        from kempeframe_attacking_bayes.diagnosing import predicted

        return predicted(fitted)
