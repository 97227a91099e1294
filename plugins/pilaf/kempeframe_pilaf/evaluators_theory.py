"""Evaluators on bandits: how a scheme's gradient is aligned with that of J, and what its pairs teach in the limit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from kempeframe import Evaluator, Fit, component, field
from kempeframe.components import Measured, Needs

if TYPE_CHECKING:
    from kempeframe.runs import Run
    from kempeframe.trial import Fitted
    from kempeframe_pilaf.data_pairs import Preferences
    from kempeframe_pilaf.theory import Array


def scheme_of(fit: Fit | Fitted) -> Preferences:
    """The sampling scheme of a fit.

    Raises:
        ValueError: its data is none.
    """
    from kempeframe_pilaf.data_pairs import Preferences

    if not isinstance(fit.data, Preferences):
        raise ValueError("this evaluator is about sampling schemes, data such as pilaf.pilaf")
    return fit.data


class OfSchemes(Evaluator):
    """What is theory of the trial's sampling scheme."""

    def check_with(self, fit: Fit) -> None:
        scheme_of(fit)


@component
class Alignment(OfSchemes):
    """The expected DPO gradient of the trial's scheme beside the gradient of J, exactly, at the fitted policy.

    With `reward_error` e the true reward is the implicit one plus e times a standard normal number for each response;
    else it is the task's (PILAF, Section 4).
    """

    reward_error: float | None = field(None, "e; not given: the task's own reward", gt=0)

    def columns(self) -> Mapping[str, str]:
        return {
            "cosine": "of minus the expected DPO gradient and the gradient of J",
            "one_minus_cosine": "1 - cosine, without cancellation",
            "relative_residual": "|grad L + (beta/Zbar) grad J| / |(beta/Zbar) grad J|",
            "residual_over_bound": "the residual over the bound on weighted T-PILAF's second-order term",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        from kempeframe_pilaf import theory_alignment as alignment
        from kempeframe_pilaf.problems import fitted_problem
        from kempeframe_pilaf.worlds import bandit_world

        scheme = scheme_of(fitted)
        world = bandit_world(fitted.task.truth, "alignment")
        at = fitted_problem(fitted.network, world.rho)
        if self.reward_error is None:
            true_reward = world.rewards
        else:
            noise = run.rng("evaluator", "reward error").standard_normal(at.reward.shape)
            true_reward = at.reward + self.reward_error * noise
        weighted, _ = scheme.measure(at)
        loss = alignment.loss_gradient(weighted, at.reward, true_reward, at.g, at.rho)
        objective = alignment.objective_gradient(at.log_policy, at.reward, true_reward, at.g, at.beta, at.rho)
        distance = alignment.cosine_distance(loss, objective)
        residual = alignment.relative_residual(loss, objective, at.beta, at.mean_sum)
        size = residual * at.beta / at.mean_sum * math.sqrt(float(objective @ objective))
        bound = alignment.residual_bound(
            at.log_policy, at.log_reference, true_reward, at.g, at.beta, at.rho, at.mean_sum
        )
        return {
            "cosine": 1 - distance,
            "one_minus_cosine": distance,
            "relative_residual": residual,
            "residual_over_bound": size / bound,
        }


@component
class Asymptotics(OfSchemes):
    """The limit of n (J* - J) for pairs of the trial's scheme, drawn and labelled at the truth (PILAF, Section 4).

    `n_times_gap` is its mean, d (1 + Z+Z-) / (2 beta) for T-PILAF with one prompt, where the error is isotropic in J.
    """

    needs: ClassVar[Needs] = "task"

    def columns(self) -> Mapping[str, str]:
        return {
            "n_times_gap": "lim n E[J* - J]",
            "variance": "of the limit of n (J* - J)",
            "eigenvalue_ratio": "largest over smallest eigenvalue of Sigma*^(1/2) Omega Sigma*^(1/2); 1: isotropic",
            "anisotropy": "largest relative deviation of one of these eigenvalues from their mean",
            "relative_to_vanilla": "n_times_gap over that of vanilla: labels needed for the same J",
            "relative_to_design": "n_times_gap over that of the optimal design",
            "dimension": "directions that change the policy",
            "mean_sum": "Zbar, the mean of 1 + Z+Z- over prompts",
            "within_bound": "largest eigenvalue of Sigma*^(1/2) Omega Sigma*^(1/2) over w_max Zbar; T-PILAF: at most 1",
            "design_excess": "how far the optimal design is from its certificate",
            "reward_deviation": "standard deviation of the true reward under the best policy",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        import numpy as np

        from kempeframe_pilaf import theory
        from kempeframe_pilaf.theory_asymptotics import Limit, limit
        from kempeframe_pilaf.worlds import Problem, bandit_world

        scheme = scheme_of(fitted)
        world = bandit_world(fitted.task.truth, "asymptotics")
        at = Problem.of_log_linear(world, world.theta)

        def law(first: Array, second: Array) -> Limit:
            return limit(first, second, at.log_policy, at.reward, at.g, at.beta, at.rho)

        own = law(*scheme.measure(at))
        plain = theory.vanilla(at.log_policy)
        design = world.optimal_design
        sums = 1 + theory.both_normalisers(at.log_policy, at.log_reference, at.beta)
        policy = np.exp(at.log_policy)
        centred = world.rewards - (policy * world.rewards).sum(axis=1, keepdims=True)
        return {
            "n_times_gap": own.gap,
            "variance": own.variance,
            "eigenvalue_ratio": own.eigenvalue_ratio,
            "anisotropy": own.anisotropy,
            "relative_to_vanilla": own.gap / law(plain, plain).gap,
            "relative_to_design": own.gap / law(design.density, design.density).gap,
            "dimension": float(len(own.weights)),
            "mean_sum": at.mean_sum,
            "within_bound": float(own.weights.max() / sums.max()),
            "design_excess": design.excess,
            "reward_deviation": math.sqrt(float(at.rho @ (policy * centred**2).sum(axis=1))),
        }
