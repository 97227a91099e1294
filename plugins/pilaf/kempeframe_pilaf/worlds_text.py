"""Worlds of text: the tiny language, and prompts of a data set with a reward model as oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import torch
from torch import Tensor

from kempeframe_pilaf import grammar
from kempeframe_pilaf.conversations import Encoded
from kempeframe_pilaf.spaces import TextSpace
from kempeframe_pilaf.worlds import World


@attrs.frozen(eq=False, kw_only=True, slots=False)
class GrammarWorld(World):
    """The tiny language."""

    def reward(self, prompts: Tensor, responses: Tensor) -> Tensor:
        found = grammar.rewards(prompts.cpu().numpy(), responses.cpu().numpy())
        return torch.from_numpy(found).to(prompts.device)


@attrs.frozen(eq=False, kw_only=True, slots=False)
class JudgedWorld(World):
    """Prompts of a data set; the reward is a scorer's, of texts."""

    space: TextSpace
    decode: Callable[[Sequence[int]], str]
    scorer: Callable[[Sequence[str], Sequence[str]], Tensor]

    def reward(self, prompts: Tensor, responses: Tensor) -> Tensor:
        return self.scorer(*self.texts(prompts, responses)).double().to(prompts.device)

    def texts(self, prompts: Tensor, responses: Tensor) -> tuple[list[str], list[str]]:
        """What tokens say: prompts, and responses without their end."""
        lengths = self.space.lengths(prompts).tolist()
        inside = self.space.mask(responses) & (responses != self.space.end)
        counts = inside.sum(dim=1).tolist()
        asked = [self.decode(row[:n]) for row, n in zip(prompts.tolist(), lengths, strict=True)]
        said = [self.decode(row[:n]) for row, n in zip(responses.tolist(), counts, strict=True)]
        return asked, said


@attrs.frozen(eq=False, kw_only=True, slots=False)
class ComparedWorld(JudgedWorld):
    """The same, with pairs of responses that humans have compared."""

    train: Encoded
    test: Encoded
