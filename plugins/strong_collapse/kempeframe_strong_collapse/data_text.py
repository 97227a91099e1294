"""Data: real text, a part of which gives way to text that a fitted network has written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kempeframe import Data, Fit, component, field

if TYPE_CHECKING:
    import numpy.typing as npt

    from kempeframe.runs import Run
    from kempeframe.task import Task
    from kempeframe.trial import Fitted

WRITERS = 64  # texts that are written side by side


@component
class SyntheticText(Data):
    """The tokens of `source`; the last round(p2 n) of them give way to what the generator's network writes.

    Texts are written side by side: each begins with a prompt of real training tokens, which is not kept, and goes
    on from the last `prompt` tokens, over and over. Every token is drawn by its own uniform number, so that a
    larger fraction holds a smaller one's text. The generator must have been trained on other tokens.
    """

    source: Data = field(doc="real text: its ground truth says which tokens it has")
    generator: Fit = field(doc="the fit whose network writes; its data is text with the same tokens")
    synthetic_fraction: float = field(0.0, "fraction p2 of synthetic tokens", ge=0, le=1)
    temperature: float = field(1.0, "at which it writes", gt=0)
    prompt: int = field(32, "tokens that it goes on from; fewer than its context", ge=1)

    def load(self, run: Run) -> Task:
        from kempeframe_standard.data_text import TextTruth, text_task

        task = run.session.task(self.source, run)
        truth, context = task.truth, task.input_shape[0]
        if not isinstance(truth, TextTruth):
            raise TypeError(f"source: {type(self.source).__name__} is no text")
        n_train = len(truth.train)
        count = round(self.synthetic_fraction * n_train)
        real = truth.text.tokens[truth.train.start : truth.train.stop - count]
        if not count:
            return text_task(real, truth, context)
        fitted = run.fit(self.generator)
        if fitted.task.truth.text.vocabulary != truth.text.vocabulary:
            raise ValueError("the generator's tokens are others: it must be trained on the same text")
        shared = truth.shared(fitted.task.truth)
        if shared:
            raise ValueError(f"{shared:,} tokens of the generator are the student's too: set `skip` in the source")
        prompts = truth.text.tokens[truth.train.start : truth.train.stop]
        written = write(fitted, prompts, count, self.prompt, self.temperature, run)
        return text_task(np.concatenate([real, written]), truth, context)


def write(
    fitted: Fitted, real: npt.NDArray[np.int64], count: int, prompt: int, temperature: float, run: Run
) -> npt.NDArray[np.int64]:
    """`count` tokens by a fitted network, (count,); prompts are taken from `real`."""
    import torch
    from kempeframe_standard.generation import generate

    context = fitted.task.input_shape[0]
    if prompt >= context or len(real) < prompt:
        raise ValueError(f"prompt = {prompt}: expected less than the generator's context of {context}")
    rng = run.rng("data", "written")
    starts = rng.integers(len(real) - prompt + 1, size=WRITERS)
    state = torch.from_numpy(np.stack([real[start : start + prompt] for start in starts])).to(run.device)
    length, pieces = -(-count // WRITERS), []
    steps = context - prompt
    for _ in range(-(-length // steps)):
        uniforms = torch.from_numpy(rng.uniform(size=(WRITERS, steps)))
        found = generate(fitted.network, state, steps=steps, temperature=temperature, uniforms=uniforms)
        pieces.append(found.responses.cpu())
        state = torch.cat([state, found.responses], dim=1)[:, -prompt:]
    texts = torch.cat(pieces, dim=1)[:, :length]
    return np.asarray(texts.reshape(-1)[:count].numpy())
