"""Transformers with an encoder: encoder-only, and encoder-decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from kempeframe.task import CannotGive
from kempeframe_standard.attention import Cache, Sight
from kempeframe_standard.layers import affine, repeated
from kempeframe_standard.models_text import Encoder, EncoderDecoder
from kempeframe_standard.transformer import Stack, last_layer, sequence_shape


class EncoderNetwork(nn.Module):
    """Outputs (n, outputs) from tokens (n, length), read at a token of its own in front of them."""

    def __init__(self, settings: Encoder, input_shape: Sequence[int], outputs: int):
        super().__init__()
        self.folds = settings.dropout == 0  # what is dropped would depend on who else is in the stack
        self.pad = settings.pad
        self.stack = Stack(settings, settings.depth, settings.vocabulary, sequence_shape(input_shape) + 1)
        self.readout = nn.Parameter(torch.empty(settings.width))
        nn.init.normal_(self.readout, std=settings.embedding_scale)
        self.head = last_layer(settings, outputs, bias=settings.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, length) -> (n, outputs)."""
        embedded: Tensor = self.stack.tokens(inputs)
        front = repeated(self.readout, 1, len(inputs)).unsqueeze(1)
        stream = self.stack.placed(torch.cat([front, embedded], dim=1))
        mask = None if self.pad is None else functional.pad(inputs != self.pad, (1, 0), value=True)[:, None, None]
        sight = Sight(mask=mask, rotation=self.stack.rotation(stream.shape[1]))
        *blocks, last = self.stack.layers
        for block in blocks:
            stream = block(stream, sight)
        outputs: Tensor = self.head(self.stack.last_norm(last.first(stream, sight)[:, 0]))
        return outputs


class EncoderDecoderNetwork(nn.Module):
    """Logits (n, target, tokens) from (n, source + target) tokens; generates by `begin` and `advance`.

    Prompts for generation are laid out like inputs: the source, padded to its full length, then what the target begins
    with. Their lengths count both.
    """

    def __init__(self, settings: EncoderDecoder, input_shape: Sequence[int], output_shape: Sequence[int]):
        super().__init__()
        total = sequence_shape(input_shape)
        if len(output_shape) != 2 or total <= output_shape[0]:
            raise CannotGive(
                f"an encoder-decoder needs inputs (source + target) and outputs (target, tokens); this task has "
                f"{tuple(input_shape)} and {tuple(output_shape)}"
            )
        target, outputs = output_shape
        vocabulary = settings.vocabulary or outputs
        self.folds = settings.dropout == 0  # what is dropped would depend on who else is in the stack
        self.source, self.pad = total - target, settings.pad
        self.encoder = Stack(settings, settings.encoder_depth, vocabulary, self.source)
        self.decoder = Stack(settings, settings.decoder_depth, outputs, target, cross=True)
        self.head = None if settings.tie_embeddings else last_layer(settings, outputs, bias=settings.output_bias)
        self.bias: nn.Parameter | None = None
        if settings.tie_embeddings and settings.output_bias:
            self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, source + target) -> (n, target, tokens)."""
        mask, memory = self._read(inputs[:, : self.source])
        memories = [block.cross.read(memory) for block in self.decoder.layers]
        return self.logits(self._write(inputs[:, self.source :], memories, mask, None))

    def begin(self, prompts: Tensor, lengths: Tensor, capacity: int) -> tuple[Tensor, Cache]:
        """Read prompts (n, source + longest), each padded behind its length (n,), which counts the source.

        Returns the logits after each prompt's last token, (n, tokens), and the cache, with room for `capacity` tokens
        (source included).
        """
        if int(lengths.min()) <= self.source:
            raise CannotGive(f"prompts need the source ({self.source} tokens) and at least one token of the target")
        self.decoder.check(capacity - self.source)
        lengths = lengths - self.source
        cache = self.decoder.cache(lengths, capacity - self.source)
        cache.memory_mask, memory = self._read(prompts[:, : self.source])
        cache.memory = [block.cross.read(memory) for block in self.decoder.layers]
        stream = self._write(prompts[:, self.source :], cache.memory, cache.memory_mask, cache)
        last = stream[torch.arange(len(prompts), device=prompts.device), lengths - 1]
        return self.logits(last), cache

    def advance(self, tokens: Tensor, cache: Cache) -> Tensor:
        """Read one more token of each row, (n,): the logits after it, (n, tokens)."""
        stream, sight = self.decoder.embed_at(tokens, cache.lengths), self.decoder.step_sight(cache)
        for block, memory in zip(self.decoder.layers, cache.memory, strict=True):
            stream = block(stream, sight, memory, cache.memory_mask)
        cache.advance()
        return self.logits(self.decoder.last_norm(stream)[:, 0])

    def logits(self, stream: Tensor) -> Tensor:
        """(..., width) -> (..., tokens)."""
        if self.head is None:
            return affine(stream, self.decoder.tokens.weight, self.bias)
        logits: Tensor = self.head(stream)
        return logits

    def _read(self, source: Tensor) -> tuple[Tensor | None, Tensor]:
        """What of the source is seen, (n, 1, 1, source), and what the encoder makes of it, (n, source, width)."""
        source = self._without_common_padding(source)
        mask = None if self.pad is None else (source != self.pad)[:, None, None]
        stream = self.encoder.embed(source)
        sight = Sight(mask=mask, rotation=self.encoder.rotation(source.shape[1]))
        for block in self.encoder.layers:
            stream = block(stream, sight)
        return mask, self.encoder.last_norm(stream)

    def _without_common_padding(self, source: Tensor) -> Tensor:
        """The source up to the longest row: what is padding in every row is seen by none.

        On a GPU asking for the length would wait for it, and long rows cost little there.
        """
        if self.pad is None or source.device.type != "cpu":
            return source
        try:
            longest = int((source != self.pad).any(dim=0).nonzero().max())
        except RuntimeError:  # nothing but padding; or under torch.func.vmap, which lets no value be read
            return source
        return source[:, : longest + 1]

    def _write(
        self, target: Tensor, memories: list[tuple[Tensor, Tensor]], mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        stream = self.decoder.embed(target)
        sight = Sight(causal=True, rotation=self.decoder.rotation(target.shape[1]), cache=cache)
        for block, memory in zip(self.decoder.layers, memories, strict=True):
            stream = block(stream, sight, memory, mask)
        outputs: Tensor = self.decoder.last_norm(stream)
        return outputs
