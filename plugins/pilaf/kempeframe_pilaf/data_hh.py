"""Data: HH-RLHF's prompts with a reward model as oracle, and its own comparisons with their human labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from kempeframe import Data, Evaluator, Fit, component, field
from kempeframe_pilaf.data import Source

if TYPE_CHECKING:
    from torch import Tensor

    from kempeframe.runs import Run
    from kempeframe.task import Examples, Task
    from kempeframe_pilaf.conversations import Encoded


@component
class HhRlhf(Source):
    """Prompts of Anthropic's HH-RLHF; the chosen responses are the text to imitate (supervised fine-tuning).

    The true reward of a response is the oracle's. Read from the directory that KEMPEFRAME_HUB names, else from the hub.
    Prompts that are too long are left out, responses cut off; so are comparisons whose two prompts differ, and empty
    responses. Inputs (n, P + T - 1) tokens, targets the next token, -100 inside the prompt and behind the end.
    """

    oracle: Evaluator = field(doc="pilaf.reward_oracle: gives the true reward")
    subset: str = field("harmless-base", "a folder of the data set: harmless-base, helpful-base, ...")
    split: str = field("train", 'of the training prompts; with "test" they come before the test prompts')
    tokenizer: str = field("bytes", "or a model on the hub, whose tokenizer it is")
    max_prompt_tokens: int = field(512, "longer prompts are left out", ge=1)
    max_response_tokens: int = field(256, "longer responses are cut off", ge=1)
    n_train: int | None = field(None, "training prompts, the first of the split; not given: all", ge=1)
    n_test: int = field(256, "test prompts, the last of the split test", ge=1)

    def __attrs_post_init__(self) -> None:
        from kempeframe_pilaf.oracle import RewardOracle

        if not isinstance(self.oracle, RewardOracle):
            raise ValueError(f"oracle: {type(self.oracle).__name__} scores no texts; expected pilaf.reward_oracle")

    def load(self, run: Run) -> Task:
        from kempeframe.task import Examples, Task
        from kempeframe_pilaf import conversations
        from kempeframe_pilaf.oracle import RewardOracle
        from kempeframe_pilaf.spaces import TextSpace
        from kempeframe_pilaf.worlds_text import ComparedWorld

        by = conversations.tokenizer(self.tokenizer)
        last = conversations.load(self.subset, "test").comparisons
        first = (
            last[: -self.n_test] if self.split == "test" else conversations.load(self.subset, self.split).comparisons
        )
        lengths = self.max_prompt_tokens, self.max_response_tokens
        train = _first(conversations.encode(first, by, *lengths), self.n_train)
        test = conversations.encode(last[-self.n_test :], by, *lengths)
        if not train.prompts or not test.prompts:
            raise ValueError(f"max_prompt_tokens = {self.max_prompt_tokens}: no prompt of {self.subset} is so short")
        space = TextSpace(
            prompt_length=lengths[0], response_length=lengths[1], pad=by.pad, end=by.end, rows_at_once=256
        )
        assert isinstance(self.oracle, RewardOracle)
        world = ComparedWorld(
            space=space,
            train_prompts=padded(train.prompts, lengths[0], by.pad),
            test_prompts=padded(test.prompts, lengths[0], by.pad),
            decode=by.decode,
            scorer=self.oracle.scorer(run.device),
            train=train,
            test=test,
        )

        def imitated(encoded: Encoded) -> Examples:
            prompts = padded(encoded.prompts, lengths[0], by.pad)
            return Examples(*space.imitated(prompts, padded(encoded.chosen, lengths[1], by.pad)))

        length = sum(lengths) - 1
        return Task(
            splits={"train": lambda: imitated(train), "test": lambda: imitated(test)},
            input_shape=(length,),
            output_shape=(length, by.size),
            truth=world,
        )


def _first(encoded: Encoded, count: int | None) -> Encoded:
    parts = {name: getattr(encoded, name)[:count] for name in ("prompts", "chosen", "rejected")}
    return attrs.evolve(encoded, **parts)


def padded(rows: list[list[int]], length: int, pad: int) -> Tensor:
    """(n, length) int64, padding behind."""
    import torch

    return torch.tensor([row + [pad] * (length - len(row)) for row in rows])


@component
class HumanPairs(Data):
    """Offline preferences: the data set's own pairs with their human labels, in an order drawn for each."""

    source: Data = field(doc="pilaf.hh_rlhf")
    reference: Fit = field(doc="the fit that training is kept near to")

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.source, HhRlhf):
            raise ValueError("source: expected pilaf.hh_rlhf, which has pairs that humans have compared")

    def load(self, run: Run) -> Task:
        import torch

        from kempeframe.task import Task
        from kempeframe_pilaf.networks import Policies, policy_of
        from kempeframe_pilaf.pairs import Counts, FrozenPairs
        from kempeframe_pilaf.worlds_text import ComparedWorld

        source = run.session.task(self.source, run)
        world = source.truth
        assert isinstance(world, ComparedWorld)
        world = attrs.evolve(world, reference_digest=self.reference.digest)
        space = world.space

        def pairs(name: str) -> FrozenPairs:
            encoded: Encoded = getattr(world, name)
            network = policy_of(run.fit(self.reference).network.to(run.device))
            prompts = padded(encoded.prompts, space.prompt_length, space.pad)
            chosen, rejected = (padded(r, space.response_length, space.pad) for r in (encoded.chosen, encoded.rejected))
            swapped = torch.from_numpy(run.rng("data", "order", name).random(len(prompts)) < 0.5)[:, None]
            first, second = torch.where(swapped, rejected, chosen), torch.where(swapped, chosen, rejected)
            policies = Policies(network, network, 1.0, space)
            margin = policies.reference_margin(prompts.to(run.device), first.to(run.device), second.to(run.device))
            equal = float((first == second).all(dim=1).sum())
            counts = Counts(float(len(prompts)), 0.0, equal)
            inputs = space.packed(prompts, first, second, margin.cpu())
            return FrozenPairs(inputs, (~swapped[:, 0]).long(), counts=counts)

        return Task(
            splits={"train": lambda: pairs("train"), "test": lambda: pairs("test")},
            input_shape=(space.width,),
            output_shape=(1,),
            dtype=source.dtype,
            classes=2,
            truth=world,
        )
