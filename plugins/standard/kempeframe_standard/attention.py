"""Attention: who sees whom, keys and values kept for generation, rotary positions."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional

from kempeframe_standard.layers import Linear, affine
from kempeframe_standard.models_text import Transformer

Rotation = tuple[Tensor, Tensor]  # cosines and sines that broadcast to (n, heads, length, head)

# Up to so many keys, attention without a causal mask is written out: no slower, and torch.func.vmap, which stacks of
# networks are trained with, has no rule for the fused kernel on the CPU.
WRITTEN_OUT = 16


class Cache:
    """Keys and values of the tokens so far, for networks that generate; room for `capacity` tokens in each row.

    `lengths` (n,) says how many each row holds: padding behind a prompt is written over by what is generated.
    """

    def __init__(self, layers: int, heads: int, like: Tensor, lengths: Tensor, capacity: int):
        """like: a weight (..., width), whose dtype and device the cache takes."""
        shape = (layers, len(lengths), heads, capacity, like.shape[-1] // heads)
        # Not empty: what a mask hides is still multiplied, by 0, and it may be nan.
        self.keys, self.values = like.new_zeros(shape), like.new_zeros(shape)
        self.lengths = lengths
        self.longest = int(lengths.max())
        self.even = bool((lengths == self.longest).all())
        self.memory: list[tuple[Tensor, Tensor]] = []  # of an encoder, for each layer
        self.memory_mask: Tensor | None = None

    def fill(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Keep a prompt's keys and values, (n, heads, length, head)."""
        self.keys[layer, :, :, : key.shape[2]] = key
        self.values[layer, :, :, : key.shape[2]] = value

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the keys and values of one more token in each row, and give all that any row holds."""
        keys, values = self.keys[layer], self.values[layer]
        if self.even:
            keys[:, :, self.longest], values[:, :, self.longest] = key[:, :, 0], value[:, :, 0]
        else:
            rows = torch.arange(len(key), device=key.device)
            keys[rows, :, self.lengths], values[rows, :, self.lengths] = key[:, :, 0], value[:, :, 0]
        return keys[:, :, : self.longest + 1], values[:, :, : self.longest + 1]

    def mask(self) -> Tensor | None:
        """What the next token sees, (n, 1, 1, longest + 1); None: everything."""
        if self.even:
            return None
        columns = torch.arange(self.longest + 1, device=self.lengths.device)
        return (columns <= self.lengths[:, None])[:, None, None]

    def advance(self) -> None:
        """All layers have appended."""
        self.lengths = self.lengths + 1
        self.longest += 1

    def select(self, rows: Tensor) -> Cache:
        """A cache of these rows, in this order and as often as they are named (the beams of a search)."""
        chosen = object.__new__(Cache)
        chosen.keys, chosen.values = self.keys[:, rows], self.values[:, rows]
        chosen.lengths, chosen.longest, chosen.even = self.lengths[rows], self.longest, self.even
        chosen.memory = [(key[rows], value[rows]) for key, value in self.memory]
        chosen.memory_mask = None if self.memory_mask is None else self.memory_mask[rows]
        return chosen


@attrs.frozen(eq=False)
class Sight:
    """What tokens see in one forward pass.

    mask is True where a query (rows) sees a key (columns); causal says that each token sees those up to itself, without
    a mask. cache keeps keys and values; `cached` says that it holds those of earlier tokens already.
    """

    causal: bool = False
    mask: Tensor | None = None
    rotation: Rotation | None = None
    cache: Cache | None = None
    cached: bool = False


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """softmax(Q K' / sqrt(head)) V: queries (n, heads, q, head), keys and values (n, heads, k, head) -> as queries."""
    if causal or key.shape[2] > WRITTEN_OUT:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
    scores: Tensor = query @ key.mT * query.shape[3] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    # Along a last dimension of so few keys the softmax is not vectorised; with keys in front it takes a tenth as long.
    shares = scores.permute(3, 0, 1, 2).contiguous().softmax(dim=0).permute(1, 2, 3, 0)
    mixed: Tensor = shares @ value
    return mixed


class SelfAttention(nn.Module):
    """Attention among the tokens of one sequence; queries, keys and values by one matrix."""

    def __init__(self, settings: Transformer, layer: int):
        super().__init__()
        self.layer, self.heads, self.width = layer, settings.heads, settings.width
        self.inwards = Linear(settings.width, 3 * settings.width, bias=settings.bias)
        self.outwards = Linear(settings.width, settings.width, bias=settings.bias)

    def forward(self, stream: Tensor, sight: Sight) -> Tensor:
        """(n, length, width) -> (n, length, width)."""
        n, length, width = stream.shape
        projected = self.inwards(stream).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = projected.transpose(1, 3).unbind(2)
        mask = sight.mask
        if sight.rotation is not None:
            query, key = rotated(query, sight.rotation), rotated(key, sight.rotation)
        if sight.cache is not None:
            if sight.cached:
                key, value = sight.cache.append(self.layer, key, value)
            else:
                sight.cache.fill(self.layer, key, value)
        mixed = self.attend(query, key, value, mask, sight.causal)
        outputs: Tensor = self.outwards(mixed.transpose(1, 2).reshape(n, length, width))
        return outputs

    def first(self, stream: Tensor, sight: Sight) -> Tensor:
        """What the first token alone gets: (n, length, width) -> (n, 1, width)."""
        n, length, width = stream.shape
        weight, bias = self.inwards.weight, self.inwards.bias
        head = width // self.heads
        query = affine(stream[:, :1], weight[..., :width, :], None if bias is None else bias[..., :width])
        both = affine(stream, weight[..., width:, :], None if bias is None else bias[..., width:])
        key, value = both.view(n, length, 2, self.heads, head).transpose(1, 3).unbind(2)
        query = query.view(n, 1, self.heads, head).transpose(1, 2)
        if sight.rotation is not None:
            cosine, sine = sight.rotation
            query, key = rotated(query, (cosine[:1], sine[:1])), rotated(key, sight.rotation)
        mixed = self.attend(query, key, value, sight.mask, False)
        outputs: Tensor = self.outwards(mixed.transpose(1, 2).reshape(n, 1, width))
        return outputs

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """As the function; a subclass or an evaluator that looks at attention maps puts its own in this place."""
        return attend(query, key, value, mask, causal)


class CrossAttention(nn.Module):
    """Attention of the target's tokens to the source's."""

    def __init__(self, settings: Transformer):
        super().__init__()
        self.heads = settings.heads
        self.query = Linear(settings.width, settings.width, bias=settings.bias)
        self.memory = Linear(settings.width, 2 * settings.width, bias=settings.bias)
        self.outwards = Linear(settings.width, settings.width, bias=settings.bias)

    def read(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the source, (n, heads, source, head), from what the encoder made of it."""
        n, length, width = memory.shape
        both = self.memory(memory).view(n, length, 2, self.heads, width // self.heads)
        key, value = both.transpose(1, 3).unbind(2)
        return key, value

    def forward(self, stream: Tensor, memory: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """(n, length, width) -> (n, length, width)."""
        n, length, width = stream.shape
        query = self.query(stream).view(n, length, self.heads, width // self.heads).transpose(1, 2)
        mixed = attend(query, *memory, mask)
        outputs: Tensor = self.outwards(mixed.transpose(1, 2).reshape(n, length, width))
        return outputs


class Rotary(nn.Module):
    """Angles by which queries and keys are turned: position p turns coordinate pair i by p 10000^(-2i / head)."""

    cosine: Tensor
    sine: Tensor

    def __init__(self, head: int, length: int):
        super().__init__()
        rates = 10000.0 ** (-torch.arange(0, head, 2, dtype=torch.float64) / head)
        angles = torch.arange(length, dtype=torch.float64)[:, None] * torch.cat([rates, rates])
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)

    def upto(self, length: int) -> Rotation:
        """For the tokens of sequences from their start."""
        return self.cosine[:length], self.sine[:length]

    def at(self, positions: Tensor) -> Rotation:
        """For one token of each row, at these positions (n,)."""
        return self.cosine[positions][:, None, None], self.sine[positions][:, None, None]


def rotated(vectors: Tensor, rotation: Rotation) -> Tensor:
    """(n, heads, length, head), each turned by the angles of its position; halves make the pairs."""
    cosine, sine = rotation
    first, second = vectors.chunk(2, dim=-1)
    return vectors * cosine + torch.cat([-second, first], dim=-1) * sine
