"""The decoder-only transformer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kempeframe.task import CannotGive
from kempeframe_standard.attention import Cache, Sight
from kempeframe_standard.layers import affine
from kempeframe_standard.models_text import Decoder
from kempeframe_standard.transformer import Stack, last_layer, sequence_shape


class DecoderNetwork(nn.Module):
    """Logits (n, length, tokens) from tokens (n, length); those at one position depend on the tokens up to there.

    Padding stands after a sequence and may be any token. Generates by `begin` and `advance` (see generation.py).
    """

    def __init__(self, settings: Decoder, input_shape: Sequence[int], output_shape: Sequence[int]):
        super().__init__()
        outputs = output_shape[-1]
        vocabulary = settings.vocabulary or outputs
        context = settings.context or sequence_shape(input_shape)
        self.folds = settings.dropout == 0  # what is dropped would depend on who else is in the stack
        self.prefix = settings.prefix
        self.stack = Stack(settings, settings.depth, vocabulary, context)
        self.head: nn.Linear | None = None
        if not settings.tie_embeddings:
            self.head = last_layer(settings, outputs, bias=False)
        elif vocabulary != outputs:
            raise CannotGive(f"tie_embeddings: there are {vocabulary} input tokens and {outputs} output tokens")

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, length) -> (n, length, tokens)."""
        return self.logits(self._run(inputs, None))

    def begin(self, prompts: Tensor, lengths: Tensor, capacity: int) -> tuple[Tensor, Cache]:
        """Read prompts (n, longest), each padded behind its length (n,).

        Returns the logits after each prompt's last token, (n, tokens), and the cache, with room for `capacity` tokens.
        """
        self.stack.check(capacity)
        if self.prefix and int(lengths.min()) < self.prefix:
            raise CannotGive(f"a prompt of {int(lengths.min())} tokens is shorter than the prefix of {self.prefix}")
        cache = self.stack.cache(lengths, capacity)
        stream = self._run(prompts, cache)
        last = stream[torch.arange(len(prompts), device=prompts.device), lengths - 1]
        return self.logits(last), cache

    def advance(self, tokens: Tensor, cache: Cache) -> Tensor:
        """Read one more token of each row, (n,): the logits after it, (n, tokens)."""
        stream, sight = self.stack.embed_at(tokens, cache.lengths), self.stack.step_sight(cache)
        for block in self.stack.layers:
            stream = block(stream, sight)
        cache.advance()
        return self.logits(self.stack.last_norm(stream)[:, 0])

    def select(self, cache: Cache, rows: Tensor) -> Cache:
        """The cache of these rows."""
        return cache.select(rows)

    def logits(self, stream: Tensor) -> Tensor:
        """(..., width) -> (..., tokens)."""
        if self.head is None:
            return affine(stream, self.stack.tokens.weight, None)
        logits: Tensor = self.head(stream)
        return logits

    def _run(self, tokens: Tensor, cache: Cache | None) -> Tensor:
        length = tokens.shape[1]
        stream, causal = self.stack.embed(tokens), self.prefix <= 1
        mask = None if causal else prefix_mask(length, self.prefix, tokens.device)
        sight = Sight(causal=causal, mask=mask, rotation=self.stack.rotation(length), cache=cache)
        for block in self.stack.layers:
            stream = block(stream, sight)
        outputs: Tensor = self.stack.last_norm(stream)
        return outputs


def prefix_mask(length: int, prefix: int, device: torch.device) -> Tensor:
    """(length, length), True where a query (row) sees a key (column): what is before it, and the prefix."""
    columns = torch.arange(length, device=device)
    return (columns <= columns[:, None]) | (columns < prefix)
