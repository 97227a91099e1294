"""Networks of `transformers`: a causal model that generates as standard's decoders do, and a classifier as oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import Tensor, nn

from kempeframe.task import CannotGive

if TYPE_CHECKING:
    from kempeframe_pilaf.models import HuggingfaceChat


class Missing(ImportError):
    """`transformers` is not installed; the message says what to install."""


def transformers() -> Any:
    """The package.

    Raises:
        Missing: it is not installed.
    """
    try:
        import transformers as package
    except ImportError:
        raise Missing("models of the Hugging Face hub need `pip install 'kempeframe-pilaf[llm]'`") from None
    return package


@attrs.define(eq=False)
class HuggingfaceCache:
    """Keys and values so far, which tokens are seen, (n, length), and the position of the next one, (n,).

    None where all rows are of one length: then nothing is hidden, and masks would only cost time.
    """

    past: Any
    seen: Tensor | None
    positions: Tensor | None


class CausalNetwork(nn.Module):
    """Logits (n, length, tokens) from tokens (n, length), padded behind; generates by `begin` and `advance`."""

    def __init__(self, model: Any, context: int):
        super().__init__()
        self.model, self.context = model, context

    def forward(self, tokens: Tensor) -> Tensor:
        """Padding stands behind, where no token looks at it: it needs no mask."""
        logits: Tensor = self.model(input_ids=tokens, use_cache=False).logits
        return logits

    def begin(self, prompts: Tensor, lengths: Tensor, capacity: int) -> tuple[Tensor, HuggingfaceCache]:
        """As standard's `Generative`."""
        if capacity > self.context:
            raise CannotGive(f"a sequence of {capacity} tokens: this network has positions for {self.context}")
        if bool((lengths == prompts.shape[1]).all()):
            found = self.model(input_ids=prompts, use_cache=True, logits_to_keep=1)
            return found.logits[:, -1], HuggingfaceCache(found.cache, None, None)
        columns = torch.arange(prompts.shape[1], device=prompts.device)
        seen = (columns < lengths[:, None]).long()
        positions = columns.expand_as(prompts)
        found = self.model(input_ids=prompts, attention_mask=seen, position_ids=positions, use_cache=True)
        last = found.logits[torch.arange(len(prompts), device=prompts.device), lengths - 1]
        return last, HuggingfaceCache(found.cache, seen, lengths)

    def advance(self, tokens: Tensor, cache: HuggingfaceCache) -> Tensor:
        """As standard's `Generative`."""
        if cache.seen is None or cache.positions is None:
            found = self.model(input_ids=tokens[:, None], cache=cache.past, use_cache=True)
            cache.past = found.cache
            return found.logits[:, -1]  # type: ignore[no-any-return]
        cache.seen = torch.cat([cache.seen, torch.ones_like(cache.seen[:, :1])], dim=1)
        found = self.model(
            input_ids=tokens[:, None],
            attention_mask=cache.seen,
            position_ids=cache.positions[:, None],
            cache=cache.past,
            use_cache=True,
        )
        cache.past, cache.positions = found.cache, cache.positions + 1
        logits: Tensor = found.logits[:, -1]
        return logits

    def select(self, cache: HuggingfaceCache, rows: Tensor) -> HuggingfaceCache:
        """The cache of these rows; the old one is used up."""
        cache.past.batch_select_indices(rows)
        seen, positions = (None if part is None else part[rows] for part in (cache.seen, cache.positions))
        return HuggingfaceCache(cache.past, seen, positions)


def causal_network(settings: HuggingfaceChat, context: int, vocabulary: int) -> CausalNetwork:
    """The model of a name, or a Llama of the given size with random weights.

    Raises:
        Missing: `transformers` is not installed.
        CannotGive: its context or its vocabulary is too small for the task.
    """
    package = transformers()
    dtype = getattr(torch, settings.dtype)
    if settings.name is None:
        config = package.LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=settings.width,
            intermediate_size=4 * settings.width,
            num_hidden_layers=settings.depth,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.heads,
            max_position_embeddings=context + 1,
            bos_token_id=None,
            eos_token_id=None,
        )
        model = package.LlamaForCausalLM(config).to(dtype)
    else:
        model = package.AutoModelForCausalLM.from_pretrained(settings.name, dtype=dtype)
    if model.config.vocab_size < vocabulary:
        raise CannotGive(f"{settings.name}: the data has {vocabulary} tokens, the model {model.config.vocab_size}")
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    room = model.config.max_position_embeddings
    if context > room:
        raise CannotGive(f"prompts and responses of {context} tokens: {settings.name} has positions for {room}")
    return CausalNetwork(model, room)


def classifier(name: str | None, vocabulary: int, seed: int) -> tuple[Any, Any]:
    """A sequence classifier with one logit and its tokenizer; without a name a tiny one with random weights, and None.

    Raises:
        Missing: `transformers` is not installed.
        ValueError: the model gives more than one number.
    """
    package = transformers()
    if name is None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            config = package.LlamaConfig(
                vocab_size=vocabulary,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                initializer_range=0.3,
                num_labels=1,
                pad_token_id=vocabulary - 1,
                bos_token_id=None,
                eos_token_id=None,
            )
            return package.LlamaForSequenceClassification(config).eval(), None
    model = package.AutoModelForSequenceClassification.from_pretrained(name).eval()
    if model.config.num_labels != 1:
        raise ValueError(f"{name} gives {model.config.num_labels} numbers: a reward model gives one")
    return model, package.AutoTokenizer.from_pretrained(name)
