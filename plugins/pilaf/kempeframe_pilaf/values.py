"""What `pilaf.value` and `pilaf.frontier` compute."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from functools import cached_property
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from kempeframe_standard.draws import Draws
from torch import Tensor

from kempeframe.task import CannotGive
from kempeframe_pilaf import theory
from kempeframe_pilaf.networks import ImplicitRewardNetwork, Policies, policy_of
from kempeframe_pilaf.pairs import RESPONSES
from kempeframe_pilaf.spaces import TextSpace, at_rest, log_table
from kempeframe_pilaf.theory import Array
from kempeframe_pilaf.worlds import BanditWorld, World

if TYPE_CHECKING:
    from kempeframe.runs import Run
    from kempeframe.trial import Fitted
    from kempeframe_pilaf.evaluators import Value

LEAST_DRAWS = 100  # effective responses behind each prompt of the frontier
TEMPERATURES = np.geomspace(1e3, 0.02, 400)
LOGITS_AT_ONCE = 1 << 26  # numbers of one network's logits held at a time


@attrs.frozen(eq=False, slots=False)
class FrontierOf:
    """log weights (X, K) and rewards (X, K) of listed responses, or of responses drawn from the reference."""

    log_base: Array
    rewards: Array
    listed: bool

    @property
    def rho(self) -> Array:
        """Weights of the prompts."""
        return np.full(len(self.rewards), 1 / len(self.rewards))

    @cached_property
    def points(self) -> tuple[Array, Array]:
        """KL and reward, rising, where enough responses stand behind them."""
        kl, reward, effective = theory.frontier(self.log_base, self.rewards, TEMPERATURES, self.rho)
        sound = np.ones(len(kl), dtype=bool) if self.listed else effective >= LEAST_DRAWS
        return kl[sound], reward[sound]

    def curve(self, count: int) -> tuple[Array, Array]:
        """So many points of it, evenly in the root of the KL."""
        kl, reward = self.points
        at = np.linspace(0, math.sqrt(kl.max()), count) ** 2
        return at, np.interp(at, kl, reward)

    def reward_at(self, kl: float) -> float:
        """The largest reward at a KL; nan where too few responses would stand behind it."""
        known, reward = self.points
        return float(np.interp(kl, known, reward)) if self.listed or kl <= known.max() else math.nan

    def best_objective(self, beta: float) -> tuple[float, float]:
        """J* and the effective number of responses behind it; nan where that is too small."""
        best = theory.best_objective(self.log_base, self.rewards, beta, self.rho)
        effective = float(theory.frontier(self.log_base, self.rewards, np.array([beta]), self.rho)[2][0])
        return (best if self.listed or effective >= LEAST_DRAWS else math.nan), effective


_FRONTIERS: OrderedDict[tuple[str, int, int], FrontierOf] = OrderedDict()
_OF_BANDITS: OrderedDict[bytes, FrontierOf] = OrderedDict()


def frontier_of(fitted: Fitted, run: Run, draws: int) -> FrontierOf:
    """The frontier of a task; it is kept: for all snapshots of a bandit, for all trials with the same reference.

    Raises:
        CannotGive: the task has no true reward, or no reference.
    """
    from kempeframe_pilaf.data_pairs import Preferences

    world = fitted.task.truth
    if isinstance(world, BanditWorld):
        content = hashlib.sha256(world.log_reference.tobytes() + world.rewards.tobytes()).digest()
        if content not in _OF_BANDITS:
            _OF_BANDITS[content] = FrontierOf(world.log_reference, world.rewards, True)
            while len(_OF_BANDITS) > 2000:
                _OF_BANDITS.popitem(last=False)
        return _OF_BANDITS[content]
    if not isinstance(world, World) or not isinstance(fitted.data, Preferences) or fitted.data.reference is None:
        raise CannotGive("the frontier is of a task of preferences with a reference")
    fit, own = fitted.data.reference, fitted.run or run
    seed = own.root.seed if fit.seed is None else fit.seed
    key = (fit.digest + fitted.data.source.digest, seed, draws)
    if key not in _FRONTIERS:
        _FRONTIERS[key] = _sampled(world, own, policy_of(own.fit(fit).network), draws, seed)
        while len(_FRONTIERS) > 16:
            _FRONTIERS.popitem(last=False)
    return _FRONTIERS[key]


def _sampled(world: World, run: Run, reference: torch.nn.Module, draws: int, seed: int) -> FrontierOf:
    prompts = world.test_prompts.to(run.device)
    reference = reference.to(run.device)
    policies = Policies(reference, reference, 1.0, world.space)
    rewards = []
    numbers = torch.arange(draws)
    for number, prompt in enumerate(prompts):
        uniforms = Draws(seed, numbers + number * draws).uniform(RESPONSES, world.space.response_length)
        many = prompt.expand(draws, -1)
        found = policies.sample(many, torch.zeros(draws, dtype=torch.float64, device=run.device), uniforms)
        rewards.append(world.reward(many, found).cpu().numpy())
    return FrontierOf(np.full((len(prompts), draws), -math.log(draws)), np.array(rewards), False)


def value(settings: Value, fitted: Fitted, run: Run) -> dict[str, float]:
    """The columns of `pilaf.value`.

    Raises:
        CannotGive: the network is no implicit reward.
    """
    network = fitted.network
    if not isinstance(network, ImplicitRewardNetwork):
        raise CannotGive(f"value is of an implicit reward, which has a reference; not of a {type(network).__name__}")
    world = fitted.task.truth
    beta = settings.beta or network.beta
    if isinstance(world, BanditWorld):
        found = _exact(network.policies, world)
    else:
        found = _sampled_value(network.policies, world, settings.n_prompts, run)
    found["objective"] = found["reward"] - beta * found["kl"]
    found["gap"] = found["frontier"] = math.nan
    if isinstance(world, BanditWorld) or settings.frontier_draws is not None:
        frontier = frontier_of(fitted, run, settings.frontier_draws or 0)
        found["frontier"] = frontier.reward_at(found["kl"])
        if not frontier.listed:
            found["gap"] = frontier.best_objective(beta)[0] - found["objective"]
    if isinstance(world, BanditWorld):  # J* - J = beta KL(pi || pi*), without the cancellation
        with at_rest(network.policy):
            policy = log_table(network.policy).double().cpu().numpy()
        best = theory.optimum(world.log_reference, world.rewards, beta)
        found["gap"] = beta * theory.divergence(policy, best, world.rho)
    return found


def _exact(policies: Policies, world: BanditWorld) -> dict[str, float]:
    with at_rest(policies.policy):
        policy = log_table(policies.policy).double().cpu().numpy()
    reward = theory.expected_reward(policy, world.rewards, world.rho)
    kl = theory.divergence(policy, world.log_reference, world.rho)
    return {"reward": reward, "kl": kl, "length": 1.0, "without_end": 0.0}


def _sampled_value(policies: Policies, world: World, count: int, run: Run) -> dict[str, float]:
    space = world.space
    assert isinstance(space, TextSpace)
    prompts = world.test_prompts[torch.arange(count) % len(world.test_prompts)].to(run.device)
    seed = int(run.rng("evaluator", "value").integers(2**62))
    uniforms = Draws(seed, torch.arange(count)).uniform(RESPONSES, space.response_length)
    pieces = []
    for rows in torch.split(torch.arange(count), space.rows_at_once):
        tilt = torch.zeros(len(rows), dtype=torch.float64, device=run.device)
        pieces.append(policies.sample(prompts[rows], tilt, uniforms[rows]))
    responses = torch.cat(pieces)
    reward = world.reward(prompts, responses)
    return {
        "reward": float(reward.mean()),
        "kl": float(sequence_kl(policies, space, prompts, responses).mean()),
        "length": float(space.mask(responses).sum(dim=1).double().mean()),
        "without_end": float((~space.ended(responses)).double().mean()),
    }


def sequence_kl(policies: Policies, space: TextSpace, prompts: Tensor, responses: Tensor) -> Tensor:
    """sum_t KL(pi(.|prefix) || ref(.|prefix)) over the positions of each response, (n,) float64: never negative.

    Its mean over responses of pi is KL(pi || ref) of whole responses, with less variance than the log-ratio's.
    """
    found = []
    with at_rest(policies.policy, policies.reference):
        start, rows = 0, 64
        while start < len(prompts):
            part = slice(start, start + rows)
            own, mask = space.response_logits(policies.policy, prompts[part], responses[part])
            other, _ = space.response_logits(policies.reference, prompts[part], responses[part])
            logs, others = own.float().log_softmax(dim=2), other.float().log_softmax(dim=2)
            per_token = (logs.exp() * (logs - others)).sum(dim=2).double()
            found.append((per_token.clamp_min(0) * mask).sum(dim=1))
            start += rows
            rows = max(1, min(1024, LOGITS_AT_ONCE // (own[0].numel() or 1)))
    return torch.cat(found)
