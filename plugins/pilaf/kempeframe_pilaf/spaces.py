"""Where prompts and responses live: how they are sampled, scored and packed, for responses in a list and for text.

A pair is one row of int64: prompt (P), first response (T), second response (T), and the reference's part of the
margin, log ref(first) - log ref(second), as the bits of a float64. So the reference is asked once per pair, when it is
drawn. Everywhere c is the tilt of a row: its tokens have the logits (1 + c) h - c h_ref.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import torch
from kempeframe_standard.generation import distributions, draw_from, generate
from torch import Tensor, nn
from torch.nn import functional

from kempeframe.task import CannotGive


@attrs.frozen(eq=False, kw_only=True)
class Space:
    """Prompts of P and responses of T whole numbers."""

    prompt_length: int
    response_length: int

    @property
    def width(self) -> int:
        """Of a packed pair."""
        return self.prompt_length + 2 * self.response_length + 1

    def packed(self, prompts: Tensor, first: Tensor, second: Tensor, reference_margin: Tensor) -> Tensor:
        """(n, P), (n, T), (n, T) and (n,) -> (n, P + 2 T + 1) int64."""
        bits = reference_margin.double().contiguous().view(torch.int64)
        return torch.cat([prompts, first, second, bits[:, None]], dim=1)

    def unpacked(self, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The inverse of `packed`.

        Raises:
            CannotGive: these are no pairs of this space.
        """
        if pairs.dim() != 2 or pairs.shape[1] != self.width or pairs.dtype != torch.int64:
            wanted = f"(n, {self.width}) int64: prompt, two responses, reference"
            raise CannotGive(f"an implicit reward compares pairs {wanted}; got {tuple(pairs.shape)} {pairs.dtype}")
        p, t = self.prompt_length, self.response_length
        margin = pairs[:, -1].contiguous().view(torch.float64)
        return pairs[:, :p], pairs[:, p : p + t], pairs[:, p + t : p + 2 * t], margin

    def log_probabilities(self, network: nn.Module, prompts: Tensor, responses: Tensor) -> Tensor:
        """log pi(y|x) of whole responses, (n,), with gradients."""
        raise NotImplementedError

    def sample(
        self, policy: nn.Module, reference: nn.Module | None, prompts: Tensor, tilt: Tensor, uniforms: Tensor
    ) -> Tensor:
        """A response to each prompt, (n, T), by its own tilt (n,) and its own uniforms (n, T) in [0, 1)."""
        raise NotImplementedError


@attrs.frozen(eq=False, kw_only=True)
class TableSpace(Space):
    """Prompts and responses in a list; networks have `log_table()`, (X, K). Tilts are exact."""

    prompt_length: int = 1
    response_length: int = 1

    def log_probabilities(self, network: nn.Module, prompts: Tensor, responses: Tensor) -> Tensor:
        return log_table(network)[prompts[:, 0], responses[:, 0]]

    def sample(
        self, policy: nn.Module, reference: nn.Module | None, prompts: Tensor, tilt: Tensor, uniforms: Tensor
    ) -> Tensor:
        table = log_table(policy)
        rows = prompts[:, 0]
        if reference is not None:  # a table for each tilt there is: there are few, and many rows
            tilts, which = torch.unique(tilt, return_inverse=True)
            c = tilts[:, None, None].to(table)
            table = ((1 + c) * table - c * log_table(reference)).flatten(0, 1)
            rows = rows + which * (len(table) // len(tilts))
        return draw_from(distributions(table), rows, uniforms[:, 0])[:, None]


def log_table(network: nn.Module) -> Tensor:
    """log pi(y|x) of all, (X, K).

    Raises:
        CannotGive: the network's responses can't be listed.
    """
    if not hasattr(network, "log_table"):
        raise CannotGive(f"{type(network).__name__} has no `log_table`: its responses can't be listed")
    table: Tensor = network.log_table()  # type: ignore[operator]
    return table


@attrs.frozen(eq=False, kw_only=True)
class TextSpace(Space):
    """Token sequences; prompts are padded behind, responses end with their first `end` token, which belongs to them.

    Networks give logits (n, length, tokens) for (n, length) tokens, and generate by `begin` and `advance`. Tilts are
    token by token (PILAF's practical form, Section 5): without the normaliser of each step.
    """

    pad: int
    end: int
    rows_at_once: int = 4096  # sequences of one forward pass without gradients

    def lengths(self, prompts: Tensor) -> Tensor:
        """Tokens of each prompt, (n,): up to the last one that is no padding."""
        places = torch.arange(1, prompts.shape[1] + 1, device=prompts.device)
        return ((prompts != self.pad) * places).amax(dim=1)

    def mask(self, responses: Tensor) -> Tensor:
        """(n, T), True up to and including the first end token; of a response cut off, everywhere."""
        ended = (responses == self.end).long().cumsum(dim=1)
        return (ended - (responses == self.end).long()) == 0

    def ended(self, responses: Tensor) -> Tensor:
        """Whether each has an end token, (n,)."""
        return (responses == self.end).any(dim=1)

    def log_probabilities(self, network: nn.Module, prompts: Tensor, responses: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return self._log_probabilities(network, prompts, responses)
        pieces = zip(torch.split(prompts, self.rows_at_once), torch.split(responses, self.rows_at_once), strict=True)
        return torch.cat([self._log_probabilities(network, *piece) for piece in pieces])

    def _log_probabilities(self, network: nn.Module, prompts: Tensor, responses: Tensor) -> Tensor:
        parts = self.by_length(responses)
        if len(parts) == 1:
            return self._of_one_part(network, prompts, responses)
        scores = [self._of_one_part(network, prompts[rows], responses[rows]) for rows in parts]
        return torch.cat(scores)[torch.cat(parts).argsort()]

    def by_length(self, responses: Tensor) -> list[Tensor]:
        """Rows of similar lengths together, where that saves more padding than a further pass costs."""
        lengths = self.mask(responses).sum(dim=1)
        counts = torch.bincount(lengths, minlength=responses.shape[1] + 1).tolist()
        return [((lengths > low) & (lengths <= high)).nonzero()[:, 0] for low, high in length_groups(counts)]

    def _of_one_part(self, network: nn.Module, prompts: Tensor, responses: Tensor) -> Tensor:
        logits, mask = self.response_logits(network, prompts, responses)
        longest = mask.shape[1]
        targets = responses[:, :longest].masked_fill(~mask, -100)
        # In single precision: margins are differences of sums of hundreds of logarithms.
        losses = functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
        return -losses.view(targets.shape).double().sum(dim=1)

    def response_logits(self, network: nn.Module, prompts: Tensor, responses: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of each response token given those before, (n, longest, tokens), and the mask (n, longest)."""
        mask = self.mask(responses)
        longest = int(mask.sum(dim=1).max())
        mask, responses = mask[:, :longest], responses[:, :longest]
        lengths = self.lengths(prompts)
        if bool((lengths == prompts.shape[1]).all()):
            logits = network(torch.cat([prompts, responses[:, :-1]], dim=1))
            return logits[:, prompts.shape[1] - 1 :], mask
        tokens = self.joined(prompts, responses, lengths)
        places = lengths[:, None] - 1 + torch.arange(longest, device=tokens.device)
        logits = network(tokens[:, : int(places.max()) + 1])
        return logits.gather(1, places[:, :, None].expand(-1, -1, logits.shape[2])), mask

    def joined(self, prompts: Tensor, responses: Tensor, lengths: Tensor) -> Tensor:
        """Each response directly behind its prompt, then padding: (n, P + T)."""
        tokens = functional.pad(prompts, (0, responses.shape[1]), value=self.pad)
        places = lengths[:, None] + torch.arange(responses.shape[1], device=tokens.device)
        return tokens.scatter(1, places, responses)

    def imitated(self, prompts: Tensor, responses: Tensor) -> tuple[Tensor, Tensor]:
        """Examples for supervised fine-tuning: tokens and the next tokens, (n, P + T - 1), -100 outside responses."""
        lengths = self.lengths(prompts)
        tokens = self.joined(prompts, responses, lengths)
        places = torch.arange(tokens.shape[1], device=tokens.device) - lengths[:, None]
        mask = self.mask(responses)
        inside = (places >= 0) & (places < mask.shape[1])
        kept = mask.gather(1, places.clamp(0, mask.shape[1] - 1)) & inside
        return tokens[:, :-1], tokens[:, 1:].masked_fill(~kept[:, 1:], -100)

    def sample(
        self, policy: nn.Module, reference: nn.Module | None, prompts: Tensor, tilt: Tensor, uniforms: Tensor
    ) -> Tensor:
        if reference is None:
            reference, tilt = policy, torch.zeros_like(tilt)
        network = TiltedNetwork(policy, reference, tilt)
        written = generate(
            network,
            prompts,
            self.lengths(prompts),
            steps=self.response_length,
            uniforms=uniforms,
            stop_token=self.end,
            pad=self.pad,
        )
        return written.responses


PASS = 300  # tokens' worth that a pass through the network costs besides its tokens; measured on small ones


def length_groups(counts: Sequence[int]) -> list[tuple[int, int]]:
    """Lengths (low, high] that are best taken together; counts: how many rows have each length from 0 on.

    Each group of n rows costs n high + PASS; the least total, by dynamic programming.
    """
    present = [length for length, count in enumerate(counts) if count]
    if not present:
        return [(-1, len(counts))]
    best: list[tuple[int, list[tuple[int, int]]]] = [(0, [])]
    for end, high in enumerate(present, start=1):
        choices = []
        for start in range(end):
            rows = sum(counts[length] for length in present[start:end])
            low = present[start - 1] if start else -1
            choices.append((best[start][0] + rows * high + PASS, [*best[start][1], (low, high)]))
        best.append(min(choices, key=lambda choice: choice[0]))
    return best[-1][1]


@attrs.frozen(eq=False)
class TiltedCache:
    """The tilt of each row, (n,), and for policy and reference: the rows that it is asked about, and its own cache."""

    tilt: Tensor
    rows: tuple[Tensor, Tensor]
    caches: list[Any]


class TiltedNetwork(nn.Module):
    """Generates from logits (1 + c) h - c h_ref, row by row: guidance by a reference, each with its own cache.

    The reference runs on rows with c != 0 alone, the policy on rows with c != -1 alone.
    """

    def __init__(self, policy: nn.Module, reference: nn.Module, tilt: Tensor):
        super().__init__()
        self.policy, self.reference, self.tilt = policy, reference, tilt
        self.networks: tuple[Any, Any] = (policy, reference)
        if not all(hasattr(network, "select") for network in self.networks):
            self.select = None  # type: ignore[assignment]  # rows that have ended stay

    def begin(self, prompts: Tensor, lengths: Tensor, capacity: int) -> tuple[Tensor, TiltedCache]:
        """As `Generative`."""
        cache = TiltedCache(self.tilt, asked(self.tilt), [None, None])
        found: list[Tensor | None] = [None, None]
        for which, (network, rows) in enumerate(zip(self.networks, cache.rows, strict=True)):
            if len(rows):
                found[which], cache.caches[which] = begun(network, prompts[rows], lengths[rows], capacity)
        return mixed(cache, found), cache

    def advance(self, tokens: Tensor, cache: TiltedCache) -> Tensor:
        """As `Generative`."""
        parts = zip(self.networks, cache.rows, cache.caches, strict=True)
        return mixed(cache, [n.advance(tokens[rows], own) if len(rows) else None for n, rows, own in parts])

    def select(self, cache: TiltedCache, rows: Tensor) -> TiltedCache:
        """The cache of these rows."""
        kept = TiltedCache(cache.tilt[rows], asked(cache.tilt[rows]), [None, None])
        for which, network in enumerate(self.networks):
            if len(kept.rows[which]):
                place = torch.searchsorted(cache.rows[which], rows[kept.rows[which]])
                kept.caches[which] = network.select(cache.caches[which], place)
        return kept


def begun(network: Any, prompts: Tensor, lengths: Tensor, capacity: int) -> tuple[Tensor, Any]:
    """`begin` that reads each distinct prompt once: pairs have theirs twice, the best of N candidates N times."""
    if hasattr(network, "select"):
        distinct, place = torch.unique(prompts, dim=0, return_inverse=True)
        if len(distinct) < len(prompts):
            own = lengths.new_empty(len(distinct)).scatter(0, place, lengths)
            logits, cache = network.begin(distinct, own, capacity)
            return logits[place], network.select(cache, place)
    found: tuple[Tensor, Any] = network.begin(prompts, lengths, capacity)
    return found


def asked(tilt: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of the rows that need the policy, and of those that need the reference; both rise."""
    return (tilt != -1).nonzero()[:, 0], (tilt != 0).nonzero()[:, 0]


def mixed(cache: TiltedCache, logits: list[Tensor | None]) -> Tensor:
    """(1 + c) h - c h_ref of all rows, (n, tokens), from those of the rows that were asked about."""
    policy, reference = logits
    if policy is not None and reference is None:
        return policy
    some = policy if policy is not None else reference
    assert some is not None
    whole = torch.zeros(len(cache.tilt), some.shape[1], dtype=torch.float32, device=some.device)
    for part, rows, factor in zip(logits, cache.rows, (1 + cache.tilt, -cache.tilt), strict=True):
        if part is not None:
            whole[rows] += factor[rows, None].float() * part.float()
    return whole


@contextlib.contextmanager
def at_rest(*networks: nn.Module) -> Iterator[None]:
    """In evaluation mode and without gradients: with dropout, sampler and scorer would be different policies."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    for network in networks:
        network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
