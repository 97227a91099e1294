"""Data: text, token by token, for networks that predict the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from kempeframe import Data, component, field
from kempeframe_standard.texts import Text, Tokens, load_text

if TYPE_CHECKING:
    from kempeframe.runs import Run
    from kempeframe.task import Examples, Task


@attrs.frozen(eq=False)
class TextTruth:
    """What text a task has: the whole, and which tokens of it are for training and for the test."""

    text: Text
    train: range
    test: range

    def shared(self, other: TextTruth) -> int:
        """How many training tokens of `other` this task trains or tests on."""
        if self.text.name != other.text.name:
            return 0
        return sum(_overlap(own, other.train) for own in (self.train, self.test))


@component
class HubText(Data):
    """Next-token prediction on a text of the Hugging Face hub: "karpathy/tiny_shakespeare", 65 characters.

    Read from the directory that KEMPEFRAME_HUB names, else from the hub (extra `kempeframe-standard[hub]`). Training
    tokens are [skip, skip + n_train), and every window of `context` of them is an example; test tokens are the last
    n_test, in windows side by side. Inputs (n, context) int64, targets the same one token on. Tokens are characters (of
    the whole text's alphabet), or those of a tokenizer.
    """

    dataset: str = field("karpathy/tiny_shakespeare", "name on the hub, OWNER/NAME")
    tokenizer: str = field("characters", 'or a model on the hub whose tokenizer it is, "openai-community/gpt2" say')
    n_train: int = field(100_000, "training tokens", ge=2)
    n_test: int = field(100_000, "test tokens, the last of the text", ge=2)
    skip: int = field(0, "tokens to leave out before the first training token", ge=0)
    context: int = field(64, "tokens of an example", ge=1)

    def load(self, run: Run) -> Task:
        text = load_text(self.dataset, self.tokenizer)
        last = self.skip + self.n_train
        total = len(text.tokens)
        if last + self.n_test > total:
            asked = f"skip + n_train + n_test = {last + self.n_test}"
            raise ValueError(f"{self.dataset}: {asked}, there are {total:,} tokens")
        if min(self.n_train, self.n_test) <= self.context:
            raise ValueError(f"context = {self.context}: n_train and n_test must be larger")
        truth = TextTruth(text, range(self.skip, last), range(total - self.n_test, total))
        return text_task(text.tokens[self.skip : last], truth, self.context)


def text_task(train: Tokens, truth: TextTruth, context: int) -> Task:
    """The task of predicting the next of these tokens, tested on the truth's test tokens."""
    from kempeframe.task import Task

    test = truth.text.tokens[truth.test.start : truth.test.stop]
    return Task(
        splits={"train": lambda: windows(train, context, 1), "test": lambda: windows(test, context, context)},
        input_shape=(context,),
        output_shape=(context, len(truth.text.vocabulary)),
        truth=truth,
    )


def windows(tokens: Tokens, context: int, stride: int) -> Examples:
    """Windows of so many tokens, `stride` apart, and the same windows one token on. Views: nothing is copied."""
    import torch

    from kempeframe.task import Examples

    whole = torch.from_numpy(tokens)
    return Examples(whole[:-1].unfold(0, context, stride), whole[1:].unfold(0, context, stride))


def _overlap(one: range, other: range) -> int:
    return max(0, min(one.stop, other.stop) - max(one.start, other.start))
