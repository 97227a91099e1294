"""Evaluators: reward, KL and J of a policy, what it has cost, and the reward-KL frontier."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from kempeframe import Evaluator, Fit, component, field
from kempeframe.components import Measured, Needs

if TYPE_CHECKING:
    from kempeframe.runs import Run
    from kempeframe.trial import Fitted


@component
class Value(Evaluator):
    """Reward, KL to the reference, and J = reward - beta KL: exact on a bandit, else on sampled responses.

    KL is of whole responses: at each position of a response of the policy the exact divergence of the two
    distributions of the next token, summed up to and including its end. Responses are drawn by uniforms that belong to
    (prompt number, position), the same for all snapshots and schemes. `frontier` is the reward that no policy of that
    KL exceeds (`pilaf.frontier`).
    """

    n_prompts: int = field(2048, "test prompts, in turn; a bandit is exact", ge=1)
    beta: float | None = field(None, "price of a nat of KL in J; not given: the network's own", gt=0)
    frontier_draws: int | None = field(None, "responses of the reference for each test prompt; not given: none", ge=200)

    def columns(self) -> Mapping[str, str]:
        return {
            "reward": "mean true reward of the policy's responses to test prompts",
            "kl": "KL(policy || reference) of whole responses, nats",
            "objective": "J = reward - beta KL",
            "gap": "J* - J; of text only with frontier_draws",
            "frontier": "largest reward at this KL; of text only with frontier_draws",
            "length": "mean tokens of a response",
            "without_end": "share of responses that were cut off",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        from kempeframe_pilaf.values import value

        return value(self, fitted, run)


@component
class Frontier(Evaluator):
    """The policies ref exp(r*/b): no policy has more reward at its KL. Lists of KL and reward, from small KL to large.

    Exact on a bandit; else self-normalised importance sampling from the reference, prompt by prompt, up to where fewer
    than 100 effective responses would stand behind a prompt.
    """

    needs: ClassVar[Needs] = "task"

    draws: int = field(1000, "responses of the reference for each test prompt; a bandit is exact", ge=200)
    points: int = field(40, "temperatures b, in geometric steps", ge=2)
    beta: float | None = field(None, "price of a nat of KL in J*; not given: the model's", gt=0)

    def columns(self) -> Mapping[str, str]:
        return {
            "kl": "KL to the reference at each temperature, nats",
            "reward": "largest reward at that KL",
            "best_objective": "J*, the largest J there is",
            "effective_draws": "least effective number of responses behind a prompt in J*",
        }

    def check_with(self, fit: Fit) -> None:
        if self.beta is None and getattr(fit.model, "beta", None) is None:
            raise ValueError("beta: neither this evaluator nor the model has one")

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        from kempeframe_pilaf.values import frontier_of

        beta = self.beta if self.beta is not None else getattr(fitted.model, "beta", None)
        assert beta is not None  # see check_with
        found = frontier_of(fitted, run, self.draws)
        kl, reward = found.curve(self.points)
        best, effective = found.best_objective(beta)
        return {"kl": kl.tolist(), "reward": reward.tolist(), "best_objective": best, "effective_draws": effective}


@component
class Cost(Evaluator):
    """What a fit's pairs have cost: labels, generations and gradient steps are three different axes."""

    def columns(self) -> Mapping[str, str]:
        return {
            "labels": "pairs labelled for this fit",
            "total_labels": "with those of the fits that it comes from",
            "generations": "responses written, a tilted one counted twice: by policy and by reference",
            "generations_per_pair": "generations over labels",
            "equal_pairs": "share of pairs of two equal responses, which teach nothing",
            "gradient_steps": "updates of this fit",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        from kempeframe_pilaf.networks import COUNTED, ImplicitRewardNetwork
        from kempeframe_pilaf.pairs import FrozenPairs

        network = fitted.network
        if not isinstance(network, ImplicitRewardNetwork):
            raise ValueError(f"cost: a {type(network).__name__} has seen no pairs")
        labels, generations, equal = (float(getattr(network, name)) for name in COUNTED)
        if labels == 0 and fitted.step and isinstance(split := fitted.task.train, FrozenPairs):
            labels, generations, equal = split.counts.labels, split.counts.generations, split.counts.equal_pairs
        return {
            "labels": labels,
            "total_labels": labels + earlier_labels(fitted),
            "generations": generations,
            "generations_per_pair": generations / labels if labels else math.nan,
            "equal_pairs": equal / labels if labels else math.nan,
            "gradient_steps": float(fitted.step),
        }


def earlier_labels(fitted: Fitted) -> float:
    """Labels of the fits that this one starts from, each counted once; of live streams, steps times batch."""
    from kempeframe.nested import innermost_first
    from kempeframe_pilaf.data_pairs import Preferences

    held = [getattr(fitted.model, "start", None), getattr(fitted.data, "policy", None)]
    found = {fit.digest: fit for outer in held if outer is not None for fit in innermost_first(outer)}
    count = 0.0
    for fit in found.values():
        if not isinstance(fit.data, Preferences):
            continue
        if fit.data.policy is not None:
            count += fit.data.n_pairs or 0
        else:
            steps = getattr(fit.optimizer, "steps", None)
            size = getattr(fit.optimizer, "batch_size", 0)
            count += steps * size * getattr(fit.optimizer, "accumulate", 1) if steps else fit.data.n_pairs or 0
    return count
