"""Data: which pairs of responses are labelled. A sampling scheme is a data component.

Without `policy` pairs are drawn from the network being trained (online); with it, all at once from that fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from kempeframe import Data, Fit, component, field

if TYPE_CHECKING:
    from torch import Tensor

    from kempeframe.runs import Run
    from kempeframe.task import Split, Task
    from kempeframe_pilaf.networks import Policies
    from kempeframe_pilaf.pairs import Drawn, Setting
    from kempeframe_pilaf.theory import Array
    from kempeframe_pilaf.worlds import Problem, World

Measure = tuple["Array", "Array"]
TIE = 6  # decimals up to which implicit rewards count as equal: those of equal responses differ by rounding


@component
class Preferences(Data):
    """What the schemes share. A scheme says the tilts of both responses, or draws them itself; and its exact density.

    Inputs are packed pairs, (n, P + 2 T + 1) int64, in the order in which they were drawn; targets are 1 where the
    first response won, else 0. The test split has pairs of two responses of the reference, the same for all schemes.
    """

    needs_list: ClassVar[bool] = False  # it is for sources whose responses can be listed

    source: Data = field(doc="prompts and the true reward: pilaf.bandit, pilaf.grammar, pilaf.hh_rlhf")
    reference: Fit | None = field(None, "the fit that training is kept near to; a bandit has its own")
    policy: Fit | None = field(None, "the fit that pairs are drawn from; not given: the network being trained")
    n_pairs: int | None = field(
        None, "pairs drawn from `policy`; of a live stream: in a pass, which else is endless", ge=1
    )
    n_test: int = field(1000, "pairs of the test split", ge=1)
    labels: Literal["bradley_terry", "argmax"] = field(
        "bradley_terry", "won with probability sigma(r* - r*), or always"
    )
    draw_ahead: int = field(1, "batches that a live stream draws at once; set it to optimizer.accumulate", ge=1)

    def __attrs_post_init__(self) -> None:
        listed = getattr(self.source, "listed", None)
        if listed is None:
            raise ValueError(f"source: {type(self.source).__name__} has no prompts with a true reward")
        name = type(self).component_name()
        if self.needs_list and not listed:
            instead = "pilaf.pilaf" if name == "t_pilaf" else "pilaf.vanilla or pilaf.pilaf"
            raise ValueError(f"{name} lists all responses, which text does not allow: use {instead}")
        if self.reference is None and not listed:
            raise ValueError("reference: a source of text needs the fit that training is kept near to")
        if self.policy is not None and self.n_pairs is None:
            raise ValueError("n_pairs: how many pairs are drawn from `policy`?")
        if self.policy is not None and self.draw_ahead > 1:
            raise ValueError("draw_ahead is for live streams: with `policy` all pairs are drawn at once")

    # ---- what a scheme is ------------------------------------------------------------------------------------------

    def tilts(self, policies: Policies, setting: Setting) -> tuple[Tensor, Tensor]:
        """The tilt c of the first and of the second response, (n,) each."""
        raise NotImplementedError

    def draw(self, policies: Policies, setting: Setting) -> Drawn:
        """The responses of these pairs."""
        from kempeframe_pilaf.pairs import Drawn

        tilts = list(self.tilts(policies, setting))
        first, second = setting.responses(policies, tilts)
        return Drawn(first, second, generations(tilts))

    def measure(self, problem: Problem) -> Measure:
        """E[w mu] and E[w^2 mu] for the loss weight w and the pair density mu, each (X, K, K)."""
        density = self.density(problem)
        return density, density

    def density(self, problem: Problem) -> Array:
        """mu(a, b | x), (X, K, K), of a scheme without weights."""
        raise NotImplementedError

    # ---- the task --------------------------------------------------------------------------------------------------

    def load(self, run: Run) -> Task:
        import attrs

        from kempeframe.task import Task
        from kempeframe_pilaf.pairs import BoundedLivePairs, FrozenPairs, LivePairs

        source = run.session.task(self.source, run)
        digest = "" if self.reference is None else self.reference.digest
        world: World = attrs.evolve(source.truth, reference_digest=digest) if digest else source.truth

        def train() -> Split:
            if self.policy is None:
                return LivePairs(self, world) if self.n_pairs is None else BoundedLivePairs(self, world)
            assert self.n_pairs is not None
            seed = int(run.rng("data", "pairs").integers(2**62))
            return FrozenPairs.draw(self, world, self._frozen(world, run), seed, self.n_pairs)

        def test() -> Split:
            seed = int(run.rng("data", "test pairs").integers(2**62))
            plain = Vanilla(**{name: getattr(self, name) for name in SHARED})
            return FrozenPairs.draw(plain, world, self._of_reference(world, run), seed, self.n_test, test=True)

        return Task(
            splits={"train": train, "test": test},
            input_shape=(world.space.width,),
            output_shape=(1,),
            dtype=source.dtype,
            classes=2,
            truth=world,
        )

    def _of_reference(self, world: World, run: Run) -> Policies:
        from kempeframe_pilaf.networks import Policies, policy_of

        if self.reference is None:
            own = world.reference  # type: ignore[attr-defined]
            return Policies(own, own, 1.0, world.space)
        network = policy_of(run.fit(self.reference).network.to(run.device))
        return Policies(network, network, 1.0, world.space)

    def _frozen(self, world: World, run: Run) -> Policies:
        import attrs

        from kempeframe_pilaf.networks import ImplicitRewardNetwork, policy_of

        assert self.policy is not None
        reference = self._of_reference(world, run)
        if self.reference is not None and self.policy.digest == self.reference.digest:
            return reference
        network = run.fit(self.policy).network.to(run.device)
        if not isinstance(network, ImplicitRewardNetwork):
            raise ValueError(
                f"policy: its network is a {type(network).__name__}, neither an implicit reward nor the reference: "
                "nothing says at which temperature beta to tilt it"
            )
        return attrs.evolve(reference, policy=policy_of(network), beta=network.beta)


SHARED = ("source", "reference", "policy", "n_pairs", "n_test", "labels", "draw_ahead")


def generations(tilts: list[Tensor]) -> float:
    """One for a response of the policy or of the reference, two for one of both."""
    return float(sum(len(tilt) + int(((tilt != 0) & (tilt != -1)).sum()) for tilt in tilts))


def _plain(setting: Setting, value: float = 0.0) -> Tensor:
    import torch

    return torch.full((len(setting),), value, dtype=torch.float64, device=setting.prompts.device)


@component
class Vanilla(Preferences):
    """Both responses from the policy: usual practice."""

    def tilts(self, policies: Policies, setting: Setting) -> tuple[Tensor, Tensor]:
        return _plain(setting), _plain(setting)

    def density(self, problem: Problem) -> Array:
        from kempeframe_pilaf import theory

        return theory.vanilla(problem.log_policy)


@component
class Hybrid(Preferences):
    """One response from the policy, one from the reference."""

    def tilts(self, policies: Policies, setting: Setting) -> tuple[Tensor, Tensor]:
        return _plain(setting), _plain(setting, -1.0)

    def density(self, problem: Problem) -> Array:
        from kempeframe_pilaf import theory

        return theory.product(problem.log_policy, problem.log_reference)


@component
class PlusMinus(Preferences):
    """One response from pi+ ~ pi^(1+beta) ref^(-beta), one from pi- ~ pi^(1-beta) ref^beta: PILAF without its coin."""

    def tilts(self, policies: Policies, setting: Setting) -> tuple[Tensor, Tensor]:
        return _plain(setting, policies.beta), _plain(setting, -policies.beta)

    def density(self, problem: Problem) -> Array:
        from kempeframe_pilaf import theory

        return theory.plus_minus(problem.log_policy, problem.log_reference, problem.beta)


@component
class Pilaf(Preferences):
    """A coin for each pair: both from the policy, or one from pi+ and one from pi- (Section 5)."""

    branch_probability: float = field(0.5, "of pi+ and pi-", ge=0, le=1)

    def tilts(self, policies: Policies, setting: Setting) -> tuple[Tensor, Tensor]:
        from kempeframe_pilaf.pairs import BRANCH

        tilted = (setting.coin(BRANCH) < self.branch_probability).double() * policies.beta
        return tilted, -tilted

    def density(self, problem: Problem) -> Array:
        from kempeframe_pilaf import theory

        return theory.branched(problem.log_policy, problem.log_reference, problem.beta, self.branch_probability)


@component
class TPilaf(Preferences):
    """PILAF as the theory has it: pi+ and pi- with probability Z+Z- / (1 + Z+Z-) (Section 4).

    With its prompt weight the DPO gradient is parallel to that of J up to second order.
    """

    needs_list: ClassVar[bool] = True

    prompt_weight: bool = field(False, "weigh each prompt by (1 + Z+Z-) over its mean over prompts")

    def draw(self, policies: Policies, setting: Setting) -> Drawn:
        from kempeframe_pilaf.pairs import BRANCH, Drawn

        both = sum(policies.log_normalisers(setting.prompts)).exp()  # type: ignore[union-attr]
        tilted = (setting.coin(BRANCH) < both / (1 + both)).double() * policies.beta
        first, second = setting.responses(policies, [tilted, -tilted])
        return Drawn(first, second, generations([tilted, -tilted]), 1 + both if self.prompt_weight else None)

    def measure(self, problem: Problem) -> Measure:
        from kempeframe_pilaf import theory

        policies = problem.log_policy, problem.log_reference, problem.beta
        density = theory.branched(*policies, theory.theoretical_branch(*policies))
        if not self.prompt_weight:
            return density, density
        weights = theory.prompt_weights(*policies, problem.rho)[:, None, None]
        return weights * density, weights**2 * density


@component
class EstimatedPilaf(Preferences):
    """T-PILAF with its prompt weight, for text too: Z+Z- is estimated from responses of the policy to the same prompt.

    Not the paper's. The estimate U is the mean of cosh(r_i - r_j) over pairs of `n_probes` responses; pi+ and pi- come
    with probability U / (1 + U) and the loss weight is 1 + U. Where responses are drawn by exact tilts, the expected
    loss is that of weighted T-PILAF times Zbar for any number of probes: (1 + U) mu = pi pi + U pi+ pi-, and U is
    unbiased. What it costs is generations, and weights that vary.
    """

    n_probes: int = field(4, "responses of the policy that the estimate is made from", ge=2)

    def draw(self, policies: Policies, setting: Setting) -> Drawn:
        import torch

        from kempeframe_pilaf.pairs import BRANCH, Drawn

        probes = setting.responses(policies, [_plain(setting)] * self.n_probes, first=2)
        rewards = policies.beta * policies.log_ratio(setting.prompts.repeat(self.n_probes, 1), torch.cat(probes))
        estimate = mean_cosh(rewards.view(self.n_probes, len(setting)))
        tilted = (setting.coin(BRANCH) < estimate / (1 + estimate)).double() * policies.beta
        first, second = setting.responses(policies, [tilted, -tilted])
        cost = generations([tilted, -tilted]) + self.n_probes * len(setting)
        return Drawn(first, second, cost, 1 + estimate)

    def measure(self, problem: Problem) -> Measure:
        from kempeframe_pilaf import theory

        policies = problem.log_policy, problem.log_reference, problem.beta
        mean, variance = (part[:, None, None] for part in theory.probe_moments(*policies, self.n_probes))
        plain, tilted = theory.vanilla(problem.log_policy), theory.plus_minus(*policies)
        scale = problem.mean_sum
        return (plain + mean * tilted) / scale, ((1 + mean) * plain + (mean + mean**2 + variance) * tilted) / scale**2


def mean_cosh(rewards: Tensor) -> Tensor:
    """The mean of cosh(r_i - r_j) over pairs i < j of rewards (m, n): (n,)."""
    import torch

    first, second = torch.triu_indices(len(rewards), len(rewards), offset=1)
    return (rewards[first] - rewards[second]).cosh().mean(dim=0)


@component
class BestOfN(Preferences):
    """N responses from the policy; the best and the worst of them by its own implicit reward (Table 1, DPO reward).

    Of equal rewards the first counts as best and the last as worst, so that at the reference, where all are equal, it
    is vanilla; were both the first, nothing would ever be learned from there.
    """

    n_candidates: int = field(8, "N", ge=2)

    def draw(self, policies: Policies, setting: Setting) -> Drawn:
        import torch

        from kempeframe_pilaf.pairs import Drawn

        candidates = torch.stack(setting.responses(policies, [_plain(setting)] * self.n_candidates))
        prompts = setting.prompts.repeat(self.n_candidates, 1)
        rewards = policies.log_ratio(prompts, candidates.flatten(0, 1)).view(self.n_candidates, len(setting))
        rewards = rewards.round(decimals=TIE)
        rows = torch.arange(len(setting), device=rewards.device)
        best = rewards.argmax(dim=0)
        worst = self.n_candidates - 1 - rewards.flip(0).argmin(dim=0)
        return Drawn(candidates[best, rows], candidates[worst, rows], float(candidates.shape[0] * candidates.shape[1]))

    def density(self, problem: Problem) -> Array:
        from kempeframe_pilaf import theory

        return theory.best_of_n(problem.log_policy, problem.reward.round(TIE), self.n_candidates)


class Listed(Preferences):
    """A density over all pairs of responses that does not come from tilted policies."""

    needs_list: ClassVar[bool] = True

    def table(self, policies: Policies, setting: Setting) -> Array:
        """mu(a, b | x) of all prompts, (X, K, K)."""
        raise NotImplementedError

    def draw(self, policies: Policies, setting: Setting) -> Drawn:
        import torch
        from kempeframe_standard.generation import draw

        from kempeframe_pilaf.pairs import RESPONSES, Drawn

        table = torch.from_numpy(self.table(policies, setting)).to(setting.prompts.device)
        rows = table.flatten(1)[setting.prompts[:, 0]].log()
        chosen = draw(rows, setting.coin(RESPONSES))[:, None]
        return Drawn(chosen // table.shape[2], chosen % table.shape[2], 0.0)


@component
class Uniform(Listed):
    """Both responses evenly from all there are. Not the paper's; nonsense for text."""

    def table(self, policies: Policies, setting: Setting) -> Array:
        import numpy as np

        from kempeframe_pilaf.spaces import log_table

        x, k = log_table(policies.reference).shape
        return np.full((x, k, k), 1 / k**2)

    def density(self, problem: Problem) -> Array:
        import numpy as np

        x, k = problem.log_policy.shape
        return np.full((x, k, k), 1 / k**2)


@component
class OptimalDesign(Listed):
    """The pair density that minimises the limit of n (J* - J): the yardstick. It knows the truth, so is no sampler."""

    def table(self, policies: Policies, setting: Setting) -> Array:
        from kempeframe_pilaf.worlds import BanditWorld, ManyBandits

        assert isinstance(setting.world, BanditWorld | ManyBandits)
        return setting.world.best_pairs

    def density(self, problem: Problem) -> Array:
        from kempeframe_pilaf.theory_asymptotics import optimal_design

        return optimal_design(problem.log_policy, problem.reward, problem.g, problem.rho).density
