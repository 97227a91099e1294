"""Data that preferences come from: an enumerable bandit and a tiny language; their truth is a `World`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from kempeframe import Data, component, field

if TYPE_CHECKING:
    from kempeframe.runs import Run
    from kempeframe.task import Examples, Task


class Source(Data):
    """Prompts with a true reward: what the sampling schemes draw pairs on.

    `listed` says that all responses can be listed, and that the source has a reference policy of its own.
    """

    listed: ClassVar[bool] = False


@component
class Bandit(Source):
    """X prompts with K responses each, random features, reference and reward; J and everything else are exact.

    Features and log-reference are standard normal (the latter times reference_scale), theta* normal times reward_scale,
    r* = beta phi . theta*. n_features = 0 is the tabular policy: one free number for each response but the last.
    """

    listed: ClassVar[bool] = True

    n_prompts: int = field(8, "number X of prompts", ge=1)
    n_responses: int = field(20, "number K of responses to each prompt", ge=2)
    n_features: int = field(12, "number d of features; 0: tabular", ge=0)
    reference_scale: float = field(1.0, "standard deviation of the reference's logits", ge=0)
    reward_scale: float = field(0.45, "standard deviation of theta*", ge=0)
    beta: float = field(1.0, "temperature of J and of the implicit reward", gt=0)
    problem: int | None = field(None, "seed of features, reference and truth; not given: the trial's", ge=0)

    def load(self, run: Run) -> Task:
        import torch

        from kempeframe.task import Examples, Task
        from kempeframe_pilaf.spaces import TableSpace
        from kempeframe_pilaf.worlds import BanditWorld

        rng = run.root.rng("data", "bandit") if self.problem is None else np.random.default_rng(self.problem)
        x, k, d = self.n_prompts, self.n_responses, self.n_features
        if d:
            features = rng.standard_normal((x, k, d))
        else:
            features = np.eye(x * k).reshape(x, k, x, k)[..., :-1].reshape(x, k, x * (k - 1))
        logits = self.reference_scale * rng.standard_normal((x, k))
        log_reference = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        prompts = torch.arange(x)[:, None]
        world = BanditWorld(
            space=TableSpace(),
            train_prompts=prompts,
            test_prompts=prompts,
            features=features,
            log_reference=log_reference,
            theta=rng.standard_normal(features.shape[2:]) * self.reward_scale,
            beta=self.beta,
        )

        def best() -> Examples:
            return Examples(prompts, torch.from_numpy(world.rewards.argmax(axis=1)))

        splits = {"train": best, "test": best}
        return Task(splits, (1,), (k,), dtype=torch.float64, classes=k, truth=world)


@component
class Grammar(Source):
    """The tiny language: text to imitate (supervised fine-tuning), 24 prompts, and a programmatic reward.

    Inputs (n, 17) tokens of prompt and response, targets the next token, -100 inside the prompt and behind the end.
    """

    n_train: int = field(20_000, "sentences to imitate", ge=1)
    n_test: int = field(1000, "further ones for the test", ge=1)

    def load(self, run: Run) -> Task:
        import torch

        from kempeframe.task import Examples, Task
        from kempeframe_pilaf import grammar
        from kempeframe_pilaf.spaces import TextSpace
        from kempeframe_pilaf.worlds_text import GrammarWorld

        space = TextSpace(
            prompt_length=grammar.PROMPT_LENGTH,
            response_length=grammar.RESPONSE_LENGTH,
            pad=grammar.PAD,
            end=grammar.EOS,
        )

        def sentences(name: str, count: int) -> Examples:
            uniforms = run.rng("data", "grammar", name).random((count, grammar.MOST_DRAWS))
            prompts, responses = (torch.from_numpy(part) for part in grammar.corpus(uniforms))
            return Examples(*space.imitated(prompts, responses))

        prompts = torch.from_numpy(grammar.prompts())
        length = space.prompt_length + space.response_length - 1
        return Task(
            splits={"train": lambda: sentences("train", self.n_train), "test": lambda: sentences("test", self.n_test)},
            input_shape=(length,),
            output_shape=(length, len(grammar.VOCABULARY)),
            truth=GrammarWorld(space=space, train_prompts=prompts, test_prompts=prompts),
        )
