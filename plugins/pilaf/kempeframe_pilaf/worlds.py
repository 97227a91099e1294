"""What sources of preferences know: prompts, the true reward, and, for a bandit, the truth itself."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import attrs
import numpy as np
import torch
from scipy.special import log_softmax
from torch import Tensor

from kempeframe_pilaf import theory
from kempeframe_pilaf.networks import TablePolicy
from kempeframe_pilaf.spaces import Space, TableSpace
from kempeframe_pilaf.theory import Array
from kempeframe_pilaf.theory_asymptotics import Design, optimal_design


@attrs.frozen(eq=False, kw_only=True, slots=False)
class World:
    """The ground truth of a task of preferences. Prompts are drawn evenly from `train_prompts`, (N, P) int64.

    `reference_digest` names the fit that the pairs of a task compare with; "" where the world has its own reference.
    """

    space: Space
    train_prompts: Tensor
    test_prompts: Tensor
    reference_digest: str = ""

    def reward(self, prompts: Tensor, responses: Tensor) -> Tensor:
        """r*(x, y), (n,) float64."""
        raise NotImplementedError

    def drawn(self, uniforms: Tensor) -> Tensor:
        """Training prompts by uniforms in [0, 1): (n,) -> (n, P)."""
        last = len(self.train_prompts) - 1
        return self.train_prompts[(uniforms * len(self.train_prompts)).long().clamp_max(last)]


@attrs.frozen(eq=False, kw_only=True, slots=False)
class BanditWorld(World):
    """X prompts, K responses in a list, features (X, K, d), a reference, and theta*, the policy that is best.

    r*(x, y) = beta phi(x, y) . theta*: realisable, r* = r_theta* up to a number for each prompt.
    """

    features: Array
    log_reference: Array
    theta: Array
    beta: float

    @cached_property
    def rewards(self) -> Array:
        """r*, (X, K)."""
        return np.asarray(self.beta * self.features @ self.theta)

    @property
    def rho(self) -> Array:
        """Weights of the prompts, (X,)."""
        return np.full(len(self.features), 1 / len(self.features))

    @cached_property
    def reference(self) -> TablePolicy:
        """As a network."""
        return TablePolicy(self.log_reference)

    @property
    def best_pairs(self) -> Array:
        """The optimal design, (X, K, K)."""
        return self.optimal_design.density

    @property
    def optimal_design(self) -> Design:
        """The best pair density at the truth, (X, K, K); kept, for all schemes are measured by it."""
        parts = (self.features, self.log_reference, self.rewards)
        key = hashlib.sha256(b"".join(part.tobytes() for part in parts)).digest()
        if key not in _DESIGNS:
            truth = Problem.of_log_linear(self, self.theta)
            _DESIGNS[key] = optimal_design(truth.log_policy, truth.reward, truth.g, truth.rho)
            while len(_DESIGNS) > 2000:
                _DESIGNS.popitem(last=False)
        return _DESIGNS[key]

    def reward(self, prompts: Tensor, responses: Tensor) -> Tensor:
        table = torch.from_numpy(self.rewards).to(prompts.device)
        return table[prompts[:, 0], responses[:, 0]]


@attrs.frozen(eq=False, kw_only=True, slots=False)
class ManyBandits(World):
    """Several bandits of one shape as one: prompt x of bandit i is number i X + x. Rows of all come in their order."""

    bandits: Sequence[BanditWorld]

    @cached_property
    def rewards(self) -> Tensor:
        """r* of all, (bandits X, K)."""
        return torch.from_numpy(np.concatenate([bandit.rewards for bandit in self.bandits]))

    @cached_property
    def reference(self) -> TablePolicy:
        """All references, as one network."""
        return TablePolicy(np.concatenate([bandit.log_reference for bandit in self.bandits]))

    @cached_property
    def best_pairs(self) -> Array:
        """The optimal designs, (bandits X, K, K)."""
        return np.concatenate([bandit.best_pairs for bandit in self.bandits])

    def drawn(self, uniforms: Tensor) -> Tensor:
        own = self.bandits[0].drawn(uniforms)
        return own + self.offsets(len(uniforms))[:, None]

    def offsets(self, rows: int) -> Tensor:
        """By what the numbers of the prompts of so many rows are shifted, (rows,)."""
        each = torch.arange(len(self.bandits)) * len(self.bandits[0].features)
        return each.repeat_interleave(rows // len(self.bandits))

    def reward(self, prompts: Tensor, responses: Tensor) -> Tensor:
        return self.rewards[prompts[:, 0], responses[:, 0]]


_DESIGNS: OrderedDict[bytes, Design] = OrderedDict()


@attrs.frozen(eq=False)
class Problem:
    """Policies that can be listed, as the theory wants them: log-probabilities (X, K), gradient g of r (X, K, d)."""

    log_policy: Array
    log_reference: Array
    g: Array
    beta: float
    rho: Array

    @property
    def reward(self) -> Array:
        """The implicit reward, (X, K)."""
        return theory.implicit_reward(self.log_policy, self.log_reference, self.beta)

    @property
    def mean_sum(self) -> float:
        """Zbar = E_rho[1 + Z+Z-]."""
        return float(self.rho @ (1 + theory.both_normalisers(self.log_policy, self.log_reference, self.beta)))

    @classmethod
    def of_log_linear(cls, world: BanditWorld, theta: Any) -> Problem:
        """At a parameter of the bandit's log-linear policies: g = beta (phi - E_pi phi)."""
        log_policy = log_softmax(world.log_reference + world.features @ np.asarray(theta), axis=1)
        mean = np.einsum("xk,xkd->xd", np.exp(log_policy), world.features)
        g = world.beta * (world.features - mean[:, None])
        return cls(log_policy, world.log_reference, g, world.beta, world.rho)


def bandit_world(world: object, who: str) -> BanditWorld:
    """A task's truth as that of a bandit.

    Raises:
        CannotGive: it is another one.
    """
    from kempeframe.task import CannotGive

    if not isinstance(world, BanditWorld) or not isinstance(world.space, TableSpace):
        raise CannotGive(f"{who} lists all responses: it needs a source such as pilaf.bandit")
    return world
