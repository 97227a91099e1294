"""Text from networks that predict the next token: greedy or sampled, with keys and values kept between tokens."""

from __future__ import annotations

from typing import Any, Protocol

import attrs
import torch
from torch import Tensor

from kempeframe.task import CannotGive


class Generative(Protocol):
    """A network that generates. Decoders are; so is a mixture of two, whose cache holds both of theirs."""

    def begin(self, prompts: Tensor, lengths: Tensor, capacity: int) -> tuple[Tensor, Any]:
        """Read prompts (n, longest), each padded behind its length (n,).

        Returns the logits after each prompt's last token, (n, tokens), and a cache with room for `capacity` tokens.
        """

    def advance(self, tokens: Tensor, cache: Any) -> Tensor:
        """Read one more token of each row, (n,): the logits after it, (n, tokens)."""

    # A network may have `select(cache, rows)` too: the cache of these rows. Then rows that have ended are let go.


LET_GO = 0.75  # share of unfinished rows from which on those that have ended are let go


@attrs.frozen(eq=False)
class Generated:
    """What was generated.

    tokens (n, longest prompt + steps): each prompt and, directly behind it, its response, then padding; lengths (n,) of
    both together. responses (n, steps): the generated tokens alone, then padding; response_lengths (n,) of them, the
    stop token included. log_probabilities (n, steps): of each generated token under the network's own softmax, whatever
    temperature and top_k it was drawn with; 0 behind a response; None unless asked for.
    """

    tokens: Tensor
    lengths: Tensor
    responses: Tensor
    response_lengths: Tensor
    log_probabilities: Tensor | None = None


def generate(
    network: torch.nn.Module,
    prompts: Tensor,
    lengths: Tensor | None = None,
    *,
    steps: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    uniforms: Tensor | None = None,
    generator: torch.Generator | None = None,
    stop_token: int | None = None,
    pad: int = 0,
    log_probabilities: bool = False,
) -> Generated:
    """Continue prompts by up to so many tokens, in evaluation mode and without gradients.

    Token t of row i is drawn by its uniform number u[i, t] alone (`draw`): neither how rows are put into batches nor
    how many processes share them matters, and two networks given the same numbers say the same where they agree.

    Args:
        network: has `begin` and `advance` (`Generative`).
        prompts: (n, longest) int64, padded behind their lengths with any token of the vocabulary.
        lengths: (n,) of the prompts; not given: all of full length.
        steps: most tokens to add; the last of them is not read, so prompt + steps - 1 must fit into the context.
        temperature: what logits are divided by; 0 takes the likeliest token, the first of several.
        top_k: draw from the so many likeliest tokens only (more where several are as likely as the last of them).
        uniforms: (n, steps) in [0, 1), float64. Not given: drawn from `generator`, row by row.
        stop_token: a row ends with it.
        pad: what stands behind a row's end.
        log_probabilities: whether to return them.

    Raises:
        CannotGive: the network does not generate, or the context is too short.
        ValueError: temperature above 0 without uniforms and without generator, or arguments out of range.
    """
    if not (hasattr(network, "begin") and hasattr(network, "advance")):
        raise CannotGive(f"{type(network).__name__} does not generate: it has no `begin` and `advance`")
    if steps < 1 or temperature < 0 or (top_k is not None and top_k < 1):
        raise ValueError(f"steps = {steps}, temperature = {temperature}, top_k = {top_k}: expected >= 1, >= 0, >= 1")
    rows = len(prompts)
    if lengths is None:
        lengths = torch.full((rows,), prompts.shape[1], device=prompts.device)
    lengths = lengths.to(prompts.device)
    if not ((lengths >= 1) & (lengths <= prompts.shape[1])).all():
        raise ValueError(f"lengths: expected numbers from 1 to {prompts.shape[1]}, one for each prompt")
    uniforms = _uniforms(uniforms, generator, rows, steps).to(prompts.device) if temperature > 0 else None
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            return _Writer(prompts, lengths, steps, pad, stop_token, log_probabilities).write(
                network, temperature, top_k, uniforms
            )
    finally:
        for module, training in modes:
            module.training = training


def draw(logits: Tensor, uniforms: Tensor, temperature: float = 1.0, top_k: int | None = None) -> Tensor:
    """One token of each row by the inverse of the cumulative distribution: (n, tokens) and (n,) in [0, 1) -> (n,).

    The least token t with P(token <= t) > u, in float64. A token of probability 0 is never drawn.
    """
    scaled = logits.double() / temperature
    if top_k is not None and top_k < logits.shape[1]:
        least = scaled.topk(top_k, dim=1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    return _drawn(distributions(scaled), uniforms)


def distributions(logits: Tensor) -> Tensor:
    """Cumulative distributions of softmax(logits), (n, tokens), float64."""
    return logits.double().softmax(dim=1).cumsum(dim=1)


def draw_from(cumulative: Tensor, rows: Tensor, uniforms: Tensor) -> Tensor:
    """`draw` from row `rows`, (n,), of a table of distributions, (m, tokens), by uniforms (n,)."""
    return _drawn(cumulative[rows], uniforms)


def _drawn(cumulative: Tensor, uniforms: Tensor) -> Tensor:
    total = cumulative[:, -1:].contiguous()
    found = torch.searchsorted(cumulative, uniforms.double()[:, None] * total, right=True)
    # u * total may round up to total: then the last token that has a probability.
    return torch.minimum(found, torch.searchsorted(cumulative, total))[:, 0]


def _uniforms(given: Tensor | None, generator: torch.Generator | None, rows: int, steps: int) -> Tensor:
    if given is None:
        if generator is None:
            raise ValueError("temperature above 0 needs uniforms or a generator")
        return torch.rand(rows, steps, generator=generator, device=generator.device, dtype=torch.float64)
    if given.shape != (rows, steps):
        raise ValueError(f"uniforms of shape {tuple(given.shape)}: expected ({rows}, {steps}), one for each token")
    return given


class _Writer:
    """Writes responses behind prompts, token by token."""

    def __init__(
        self, prompts: Tensor, lengths: Tensor, steps: int, pad: int, stop_token: int | None, log_probabilities: bool
    ):
        rows, longest = prompts.shape
        self.prompts, self.lengths, self.steps = prompts, lengths, steps
        self.pad, self.stop_token = pad, stop_token
        self.capacity = longest + steps - 1
        self.responses = prompts.new_full((rows, steps), pad)
        self.counts = torch.zeros_like(lengths)
        self.rows = torch.arange(rows, device=prompts.device)
        self.alive = torch.ones(rows, dtype=torch.bool, device=prompts.device)
        self.log_probabilities: list[Tensor] | None = [] if log_probabilities else None

    def write(self, network: Any, temperature: float, top_k: int | None, uniforms: Tensor | None) -> Generated:
        """All steps, or until every row has ended."""
        logits, cache = network.begin(self.prompts, self.lengths, self.capacity)
        select = getattr(network, "select", None) if self.stop_token is not None else None
        for step in range(self.steps):
            drawn = None if uniforms is None else uniforms[self.rows, step]
            tokens = logits.argmax(dim=1) if drawn is None else draw(logits, drawn, temperature, top_k)
            self._take(tokens, logits, step)
            if step + 1 == self.steps or (self.stop_token is not None and not self.alive.any()):
                break
            if select is not None and int(self.alive.sum()) <= LET_GO * len(self.rows):
                kept = self.alive.nonzero()[:, 0]
                cache, tokens = select(cache, kept), tokens[kept]
                self.rows, self.alive = self.rows[kept], self.alive[kept]
            logits = network.advance(tokens, cache)
        return self._result()

    def _take(self, tokens: Tensor, logits: Tensor, step: int) -> None:
        """`rows` are those that the network still reads; `alive` says which of them have not ended."""
        self.responses[self.rows, step] = torch.where(self.alive, tokens, self.pad)
        self.counts[self.rows] += self.alive
        if self.log_probabilities is not None:
            chosen = logits.log_softmax(dim=1).gather(1, tokens[:, None])[:, 0]
            scores = chosen.new_zeros(len(self.prompts))
            scores[self.rows] = torch.where(self.alive, chosen, 0)
            self.log_probabilities.append(scores)
        if self.stop_token is not None:
            self.alive = self.alive & (tokens != self.stop_token)

    def _result(self) -> Generated:
        rows, longest = self.prompts.shape
        tokens = self.prompts.new_full((rows, longest + self.steps), self.pad)
        columns = torch.arange(longest + self.steps, device=tokens.device)
        tokens[:, :longest] = self.prompts
        behind = columns - self.lengths[:, None]  # place in the response; negative: in the prompt
        from_response = self.responses.gather(1, behind.clamp(0, self.steps - 1))
        tokens = torch.where(behind < 0, tokens, torch.where(behind < self.counts[:, None], from_response, self.pad))
        scores = None
        if self.log_probabilities is not None:
            missing = self.steps - len(self.log_probabilities)
            scores = torch.nn.functional.pad(torch.stack(self.log_probabilities, dim=1), (0, missing))
        return Generated(tokens, self.lengths + self.counts, self.responses, self.counts, scores)
