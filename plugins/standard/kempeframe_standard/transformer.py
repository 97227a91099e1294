"""What transformers are made of: blocks, stacks of them, embeddings with positions, and how weights start."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from kempeframe.task import CannotGive
from kempeframe_standard.attention import Cache, CrossAttention, Rotary, Rotation, SelfAttention, Sight
from kempeframe_standard.layers import Embedding, LayerNorm, Linear, RMSNorm, added
from kempeframe_standard.models_text import Transformer
from kempeframe_standard.networks import ACTIVATIONS


def norm_layer(settings: Transformer) -> nn.Module:
    """A norm of one token's stream."""
    if settings.norm == "rms":
        return RMSNorm(settings.width, eps=settings.norm_epsilon or 1e-6)
    return LayerNorm(settings.width, eps=settings.norm_epsilon or 1e-5, bias=settings.bias)


def dropout_layer(settings: Transformer) -> nn.Module:
    """The identity where nothing is dropped."""
    return nn.Dropout(settings.dropout) if settings.dropout else nn.Identity()


class FeedForward(nn.Module):
    """Token by token: width -> mlp_ratio * width -> width."""

    def __init__(self, settings: Transformer):
        super().__init__()
        hidden = round(settings.mlp_ratio * settings.width)
        self.inwards = Linear(settings.width, hidden, bias=settings.bias)
        self.activation = ACTIVATIONS[settings.activation]()
        self.outwards = Linear(hidden, settings.width, bias=settings.bias)

    def forward(self, stream: Tensor) -> Tensor:
        outputs: Tensor = self.outwards(self.activation(self.inwards(stream)))
        return outputs


class Block(nn.Module):
    """Self-attention, then (in a decoder that reads a source) cross-attention, then feed-forward.

    Each part's output is added to the stream: x + part(norm(x)), or norm(x + part(x)) with norm_position = "post".
    """

    def __init__(self, settings: Transformer, layer: int, cross: bool = False):
        super().__init__()
        self.pre = settings.norm_position == "pre"
        self.attention_norm = norm_layer(settings)
        self.attention = SelfAttention(settings, layer)
        if cross:
            self.cross_norm = norm_layer(settings)
            self.cross = CrossAttention(settings)
        self.feedforward_norm = norm_layer(settings)
        self.feedforward = FeedForward(settings)
        self.dropout = dropout_layer(settings)

    def forward(
        self, stream: Tensor, sight: Sight, memory: tuple[Tensor, Tensor] | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """(n, length, width) -> the same. memory: keys and values of the source, of which mask says what is seen."""
        if self.pre:
            stream = stream + self.dropout(self.attention(self.attention_norm(stream), sight))
        else:
            stream = self.attention_norm(stream + self.dropout(self.attention(stream, sight)))
        if memory is not None and self.pre:
            stream = stream + self.dropout(self.cross(self.cross_norm(stream), memory, mask))
        elif memory is not None:
            stream = self.cross_norm(stream + self.dropout(self.cross(stream, memory, mask)))
        return self._fed_forward(stream)

    def first(self, stream: Tensor, sight: Sight) -> Tensor:
        """The first token alone: (n, length, width) -> (n, 1, width)."""
        if self.pre:
            mixed = self.attention.first(self.attention_norm(stream), sight)
            return self._fed_forward(stream[:, :1] + self.dropout(mixed))
        mixed = self.attention.first(stream, sight)
        return self._fed_forward(self.attention_norm(stream[:, :1] + self.dropout(mixed)))

    def _fed_forward(self, stream: Tensor) -> Tensor:
        outputs: Tensor
        if self.pre:
            outputs = stream + self.dropout(self.feedforward(self.feedforward_norm(stream)))
        else:
            outputs = self.feedforward_norm(stream + self.dropout(self.feedforward(stream)))
        return outputs


class Stack(nn.Module):
    """Token embeddings, positions, blocks, and the norm at the end (or, with "post", after the embeddings)."""

    def __init__(self, settings: Transformer, depth: int, vocabulary: int, length: int, cross: bool = False):
        super().__init__()
        self.length, self.heads = length, settings.heads
        self.tokens = Embedding(vocabulary, settings.width)
        self.positions: nn.Parameter | None = None
        self.rotary: Rotary | None = None
        if settings.positions == "learned":
            self.positions = nn.Parameter(torch.empty(length, settings.width))
        elif settings.positions == "rotary":
            self.rotary = Rotary(settings.width // settings.heads, length)
        self.dropout = dropout_layer(settings)
        after = settings.norm_position == "post"
        self.first_norm = norm_layer(settings) if after else nn.Identity()
        self.blocks = nn.ModuleList([self.block(settings, layer, cross) for layer in range(depth)])
        self.last_norm = nn.Identity() if after else norm_layer(settings)
        self._initialise(settings, depth * (3 if cross else 2))

    def block(self, settings: Transformer, layer: int, cross: bool) -> Block:
        """One block; a subclass may build another."""
        return Block(settings, layer, cross)

    @property
    def layers(self) -> list[Block]:
        """The blocks, in order."""
        return cast("list[Block]", list(self.blocks))

    def embed(self, tokens: Tensor) -> Tensor:
        """Sequences from their start: (n, length) -> (n, length, width)."""
        return self.placed(self.tokens(tokens))

    def placed(self, embedded: Tensor) -> Tensor:
        """What the first block gets of embedded sequences from their start, (n, length, width)."""
        self.check(embedded.shape[1])
        if self.positions is not None:
            embedded = added(embedded, self.positions[..., : embedded.shape[1], :], own=2)
        stream: Tensor = self.dropout(self.first_norm(embedded))
        return stream

    def embed_at(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """One token of each row, (n,), at these positions: (n, 1, width)."""
        embedded: Tensor = self.tokens(tokens)
        if self.positions is not None:
            embedded = embedded + self.positions[positions]
        stream: Tensor = self.dropout(self.first_norm(embedded[:, None]))
        return stream

    def rotation(self, length: int) -> Rotation | None:
        """Of sequences from their start."""
        return None if self.rotary is None else self.rotary.upto(length)

    def cache(self, lengths: Tensor, capacity: int) -> Cache:
        """An empty cache for these blocks."""
        return Cache(len(self.blocks), self.heads, self.tokens.weight, lengths, capacity)

    def step_sight(self, cache: Cache) -> Sight:
        """What one more token of each row sees."""
        rotation = None if self.rotary is None else self.rotary.at(cache.lengths)
        return Sight(mask=cache.mask(), rotation=rotation, cache=cache, cached=True)

    def check(self, length: int) -> None:
        """
        Raises:
            CannotGive: there are no positions for sequences of this length.
        """
        if length > self.length and (self.positions is not None or self.rotary is not None):
            raise CannotGive(f"a sequence of {length} tokens: this network has positions for {self.length}")

    def _initialise(self, settings: Transformer, writers: int) -> None:
        """writers: number of matrices that write into the stream."""
        nn.init.normal_(self.tokens.weight, std=settings.embedding_scale)
        if self.positions is not None:
            nn.init.normal_(self.positions, std=settings.embedding_scale)
        if settings.init_scale == "fan_in":
            return
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Linear):
                shrunk = writers**-0.5 if name.endswith("outwards") else 1.0
                start(layer, settings.init_scale * shrunk)


def start(layer: nn.Linear, scale: float) -> None:
    """Weights from N(0, scale^2), bias 0."""
    nn.init.normal_(layer.weight, std=scale)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def last_layer(settings: Transformer, outputs: int, bias: bool) -> nn.Linear:
    """The linear layer from the stream to logits or numbers."""
    layer = Linear(settings.width, outputs, bias=bias)
    if settings.init_scale != "fan_in":
        start(layer, settings.init_scale)
    return layer


def sequence_shape(input_shape: Iterable[int]) -> int:
    """Length of the inputs.

    Raises:
        CannotGive: they are no sequences of tokens.
    """
    shape = tuple(input_shape)
    if len(shape) != 1:
        raise CannotGive(f"expected inputs of tokens, of shape (length,), got {shape}")
    return shape[0]
