"""Conversations of HH-RLHF: parsed, turned into tokens, found in a mirror or on the hub. Nothing here imports torch."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import attrs
from kempeframe_standard.hub import DataNotFound

DATASET = "Anthropic/hh-rlhf"
ASSISTANT, HUMAN = "\n\nAssistant:", "\n\nHuman:"
BYTES = "bytes"


@attrs.frozen
class Comparison:
    """A prompt, which ends with the word of the assistant, the response that a human chose, and the other."""

    prompt: str
    chosen: str
    rejected: str


@attrs.frozen
class Parsed:
    """The comparisons that can be used, and how many can't: other last turns in both texts; an empty response."""

    comparisons: tuple[Comparison, ...]
    different_prompts: int
    empty_responses: int


def parse(records: Iterable[dict[str, str]]) -> Parsed:
    """Texts `chosen` and `rejected`: the prompt is what stands before and in the last "Assistant:"."""
    found, different, empty = [], 0, 0
    for record in records:
        (prompt, chosen), (other, rejected) = split(record["chosen"]), split(record["rejected"])
        if prompt != other:
            different += 1
        elif not chosen.strip() or not rejected.strip():
            empty += 1
        else:
            found.append(Comparison(prompt, chosen, rejected))
    return Parsed(tuple(found), different, empty)


def split(text: str) -> tuple[str, str]:
    """A conversation as prompt and last response.

    Raises:
        ValueError: the assistant has no turn.
    """
    before, word, response = text.rpartition(ASSISTANT)
    if not word:
        raise ValueError(f"a conversation without {ASSISTANT.strip()!r}: {text[:60]!r}")
    return before + word, response


def turns(prompt: str) -> list[dict[str, str]]:
    """The turns of a prompt as chat templates want them: role "user" or "assistant", and content."""
    found: list[dict[str, str]] = []
    for piece in prompt.removesuffix(ASSISTANT).split(HUMAN)[1:]:
        asked, *answered = piece.split(ASSISTANT)
        found.append({"role": "user", "content": asked.strip()})
        found += [{"role": "assistant", "content": answer.strip()} for answer in answered]
    return found


@cache
def load(subset: str, part: str) -> Parsed:
    """The comparisons of a subset ("harmless-base") and a part ("train", "test").

    Looks below KEMPEFRAME_HUB for Anthropic/hh-rlhf/SUBSET/PART.jsonl.gz first, then asks the hub.

    Raises:
        DataNotFound: neither has it.
    """
    mirror = os.environ.get("KEMPEFRAME_HUB", "")
    file = Path(mirror) / DATASET / subset / f"{part}.jsonl.gz"
    if mirror and file.exists():
        return parse(_lines(file))
    looked = f"KEMPEFRAME_HUB = {mirror} has no {DATASET}/{subset}/{part}.jsonl.gz" if mirror else "no KEMPEFRAME_HUB"
    todo = f"Let KEMPEFRAME_HUB name a directory with {DATASET}/{subset}/{part}.jsonl.gz, or pip install datasets"
    try:
        import datasets
    except ImportError:
        raise DataNotFound(f"no {DATASET} {subset} {part}: {looked}, and `datasets` is not installed. {todo}") from None
    try:
        return parse(datasets.load_dataset(DATASET, data_dir=subset, split=part))
    except Exception as error:  # it raises errors of many libraries
        raise DataNotFound(f"no {DATASET} {subset} {part}: {looked}, and the hub gave {error}. {todo}") from error


def _lines(file: Path) -> Iterator[dict[str, str]]:
    with gzip.open(file, "rt", encoding="utf-8") as opened:
        for line in opened:
            yield json.loads(line)


class Tokenizer(Protocol):
    """Texts to numbers and back."""

    size: int  # of the vocabulary
    pad: int
    end: int

    def encode(self, text: str, first: bool) -> list[int]:
        """`first`: at the start of a sequence, where some models have a token of their own."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Without special tokens."""


class ByteTokenizer:
    """UTF-8, one token a byte, then end and padding. Needs no download."""

    size, end, pad = 258, 256, 257

    def encode(self, text: str, first: bool) -> list[int]:
        return list(text.encode())

    def decode(self, tokens: Sequence[int]) -> str:
        return bytes(token for token in tokens if token < 256).decode(errors="replace")


class HubTokenizer:
    """That of a model on the Hugging Face hub."""

    def __init__(self, name: str):
        from kempeframe_pilaf.huggingface import transformers

        self.own: Any = transformers().AutoTokenizer.from_pretrained(name)
        self.size, self.end = len(self.own), self.own.eos_token_id
        self.pad = self.end if self.own.pad_token_id is None else self.own.pad_token_id

    def encode(self, text: str, first: bool) -> list[int]:
        return list(self.own.encode(text, add_special_tokens=first))

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self.own.decode(tokens, skip_special_tokens=True))


@cache
def tokenizer(name: str) -> Tokenizer:
    """By name: "bytes", or a model on the hub."""
    return ByteTokenizer() if name == BYTES else HubTokenizer(name)


@attrs.frozen
class Encoded:
    """Tokens of comparisons whose prompts are not too long; responses end with the end token or are cut off."""

    prompts: list[list[int]]
    chosen: list[list[int]]
    rejected: list[list[int]]
    too_long: int  # prompts that were left out


def encode(comparisons: Sequence[Comparison], by: Tokenizer, most_prompt: int, most_response: int) -> Encoded:
    """All comparisons as tokens."""
    found = Encoded([], [], [], 0)
    too_long = 0
    for one in comparisons:
        prompt = by.encode(one.prompt, first=True)
        if len(prompt) > most_prompt:
            too_long += 1
            continue
        found.prompts.append(prompt)
        found.chosen.append([*by.encode(one.chosen, first=False), by.end][:most_response])
        found.rejected.append([*by.encode(one.rejected, first=False), by.end][:most_response])
    return attrs.evolve(found, too_long=too_long)
