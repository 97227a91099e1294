"""Pairs of responses, drawn and labelled: frozen ones (an ordinary data set) and a stream from the network in training.

Every number of a pair is a function of (seed, number of the pair, what it is for): how pairs are put into batches, how
many processes there are and where a fit was interrupted changes nothing, and schemes share what they can.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import torch
from kempeframe_standard.draws import Draws
from kempeframe_standard.training.passes import changed
from torch import Tensor, nn

from kempeframe.runs import Run
from kempeframe.task import Batch, CannotGive, Examples, Split, StackedSplit, Weights
from kempeframe_pilaf.networks import ImplicitRewardNetwork, Policies, TablePolicy
from kempeframe_pilaf.worlds import BanditWorld, ManyBandits, World

if TYPE_CHECKING:
    from kempeframe_pilaf.data_pairs import Preferences

PROMPT, BRANCH, LABEL, RESPONSES = range(4)  # streams of uniforms; response number k of a pair has RESPONSES + k
PAIRS_AT_ONCE = 4096  # of frozen pairs


@attrs.frozen(eq=False)
class Setting:
    """n pairs before their responses are drawn: prompts (n, P), their uniforms, and the world they are of."""

    prompts: Tensor
    draws: Draws
    world: World

    def __len__(self) -> int:
        return len(self.prompts)

    def coin(self, stream: int) -> Tensor:
        """One uniform for each pair, (n,)."""
        return self.draws.uniform(stream, 1)[:, 0]

    def responses(self, policies: Policies, tilts: list[Tensor], first: int = 0) -> list[Tensor]:
        """Responses number `first`, `first` + 1, ... of each pair, (n, T) each, by their tilts (n,); in one batch."""
        streams = range(RESPONSES + first, RESPONSES + first + len(tilts))
        uniforms = torch.cat([self.draws.uniform(stream, self.world.space.response_length) for stream in streams])
        found = policies.sample(self.prompts.repeat(len(tilts), 1), torch.cat(tilts), uniforms)
        return list(torch.split(found, len(self)))


@attrs.frozen(eq=False)
class Drawn:
    """The responses of n pairs, (n, T) each, loss weights (n,), and how many generations they took in all.

    A generation is one network writing one response: a tilted response takes two, of policy and of reference.
    """

    first: Tensor
    second: Tensor
    generations: float
    weights: Tensor | None = None


@attrs.frozen(eq=False)
class Counts:
    """Pairs labelled, generations, and pairs of two equal responses, which cost a label and teach nothing."""

    labels: float = 0.0
    generations: float = 0.0
    equal_pairs: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(attrs.astuple(self), attrs.astuple(other), strict=True)))


def labelled_pairs(
    scheme: Preferences, world: World, policies: Policies, seed: int, index: Tensor, test: bool = False
) -> tuple[Batch, Counts]:
    """The pairs with these numbers, (n,): packed inputs, and targets that are 1 where the first response won."""
    draws = Draws(seed, index.to(world.train_prompts.device))
    chosen = attrs.evolve(world, train_prompts=world.test_prompts) if test else world
    return pairs_of(scheme, world, policies, draws, chosen.drawn(draws.uniform(PROMPT, 1)[:, 0]))


def pairs_of(
    scheme: Preferences, world: World, policies: Policies, draws: Draws, prompts: Tensor
) -> tuple[Batch, Counts]:
    """A pair for each row of draws and prompts, (n, P)."""
    setting = Setting(prompts, draws, world)
    drawn = scheme.draw(policies, setting)
    difference = world.reward(prompts, drawn.first) - world.reward(prompts, drawn.second)
    targets = won(difference, setting.coin(LABEL), scheme.labels)
    margin = policies.reference_margin(prompts, drawn.first, drawn.second)
    inputs = world.space.packed(prompts, drawn.first, drawn.second, margin)
    equal = float((drawn.first == drawn.second).all(dim=1).sum())
    counts = Counts(float(len(prompts)), drawn.generations, equal)
    return Batch(inputs, targets, draws.index, drawn.weights), counts


def won(difference: Tensor, uniforms: Tensor, labels: str) -> Tensor:
    """Whether the first response wins, (n,) int64: by Bradley and Terry, or by the larger reward (ties by a coin)."""
    if labels == "argmax":
        return torch.where(difference == 0, uniforms < 0.5, difference > 0).long()
    return (uniforms < torch.sigmoid(difference)).long()


@attrs.define(eq=False)
class FrozenPairs(Examples):
    """Pairs that were drawn once, from a fit."""

    counts: Counts = attrs.field(factory=Counts)

    def batches_from(self, start: int, network: nn.Module | None, batch_size: int, run: Run) -> Iterator[Batch]:
        if isinstance(network, ImplicitRewardNetwork):
            network.count(*attrs.astuple(self.counts), add=False)
        return super().batches_from(start, network, batch_size, run)

    @classmethod
    def draw(
        cls, scheme: Preferences, world: World, policies: Policies, seed: int, count: int, test: bool = False
    ) -> FrozenPairs:
        """So many pairs by a scheme."""
        batches, counts = [], Counts()
        for index in torch.split(torch.arange(count), PAIRS_AT_ONCE):
            batch, own = labelled_pairs(scheme, world, policies, seed, index, test)
            batches.append(batch)
            counts = counts + own
        weights = [batch.weights for batch in batches if batch.weights is not None]
        return cls(
            torch.cat([batch.inputs for batch in batches]),
            torch.cat([batch.targets for batch in batches if batch.targets is not None]),
            torch.cat(weights) if weights else None,
            counts=counts,
        )


class LivePairs(Split):
    """An endless stream of fresh pairs from the network being trained."""

    def __init__(self, scheme: Preferences, world: World):
        self.scheme, self.world = scheme, world
        self.last: int | None = scheme.n_pairs

    def batches(self, network: nn.Module | None, batch_size: int, run: Run) -> Iterator[Batch]:
        return self.batches_from(0, network, batch_size, run)

    def batches_from(self, start: int, network: nn.Module | None, batch_size: int, run: Run) -> Iterator[Batch]:
        if not isinstance(network, ImplicitRewardNetwork):
            found = "there is none" if network is None else f"a {type(network).__name__} is none"
            raise CannotGive(
                "this training split draws from the network being trained, an implicit reward, and "
                f"{found}; give `policy` to freeze it"
            )
        seed = int(torch.randint(2**62, (), generator=run.generator("data")))
        return self._from(start, network, batch_size, seed)

    def _from(self, start: int, network: ImplicitRewardNetwork, batch_size: int, seed: int) -> Iterator[Batch]:
        together = self.scheme.draw_ahead
        at = start * batch_size
        while self.last is None or at < self.last:
            end = at + together * batch_size
            end = end if self.last is None else min(end, self.last)
            batch, counts = labelled_pairs(self.scheme, self.world, network.policies, seed, torch.arange(at, end))
            network.count(*attrs.astuple(counts), add=True)
            yield from _parts(batch, batch_size)
            at = end

    @property
    def form(self) -> object:
        """Streams of one scheme on bandits of one shape can be stacked."""
        if not isinstance(self.world, BanditWorld):
            return None
        return "live pairs", self.scheme.digest, self.world.features.shape

    @staticmethod
    def stack(splits: Sequence[LivePairs]) -> StackedSplit:
        return StackedLivePairs(splits)


class StackedLivePairs(StackedSplit):
    """Streams of several bandits, drawn as one with several times the prompts. Nothing is counted."""

    def __init__(self, splits: Sequence[LivePairs]):
        self.scheme, self.last = splits[0].scheme, splits[0].last
        self.worlds = [split.world for split in splits if isinstance(split.world, BanditWorld)]
        first = self.worlds[0]
        self.all = ManyBandits(
            space=first.space,
            train_prompts=first.train_prompts,
            test_prompts=first.test_prompts,
            bandits=self.worlds,
        )

    def batches_from(
        self, start: int, batch_size: int, runs: Sequence[Run], weights: Weights | None = None
    ) -> Iterator[Batch]:
        if weights is None:
            raise CannotGive("these training splits draw from the networks being trained; give `policy` to freeze them")
        seeds = [int(torch.randint(2**62, (), generator=run.generator("data"))) for run in runs]
        return self._from(start, batch_size, torch.tensor(seeds), weights)

    def _from(self, start: int, batch_size: int, seeds: Tensor, weights: Weights) -> Iterator[Batch]:
        together, at = self.scheme.draw_ahead * batch_size, start * batch_size
        while self.last is None or at < self.last:
            end = at + together if self.last is None else min(at + together, self.last)
            policies = self._policies(weights())
            with torch.no_grad():
                draws = Draws.of_several(seeds, torch.arange(at, end))
                prompts = self.all.drawn(draws.uniform(PROMPT, 1)[:, 0])
                batch, _ = pairs_of(self.scheme, self.all, policies, draws, prompts)
                batch.inputs[:, 0] -= self.all.offsets(len(prompts))
            rows = changed(batch, lambda tensor: tensor.view(len(seeds), -1, *tensor.shape[1:]))
            for part in range(0, end - at, batch_size):
                yield changed(rows, lambda tensor, part=part: tensor[:, part : part + batch_size])  # type: ignore[misc]
            at = end

    def _policies(self, weights: Mapping[str, Tensor]) -> Policies:
        """The networks as they stand, as one table."""
        own = {name.removeprefix("policy."): value for name, value in weights.items() if name.startswith("policy.")}
        table = own["log_reference"] + torch.einsum("fxkd,fd->fxk", own["features"], own["theta"])
        policy = TablePolicy(table.log_softmax(dim=2).flatten(0, 1))
        return Policies(policy, self.all.reference, self.worlds[0].beta, self.all.space)


class BoundedLivePairs(LivePairs):
    """A stream whose pass has so many pairs."""

    def __len__(self) -> int:
        assert self.last is not None
        return self.last


def _parts(batch: Batch, size: int) -> Iterator[Batch]:
    assert batch.targets is not None and batch.index is not None
    for at in range(0, len(batch.inputs), size):
        part = slice(at, at + size)
        weights = None if batch.weights is None else batch.weights[part]
        yield Batch(batch.inputs[part], batch.targets[part], batch.index[part], weights)
