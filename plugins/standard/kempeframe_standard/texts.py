"""Plain text by its hub name, as tokens. Nothing here imports torch."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt

from kempeframe_standard.hub import NAME, DataNotFound

Tokens = npt.NDArray[np.int64]


CHARACTERS = "characters"


@attrs.frozen(eq=False)
class Text:
    """A text as tokens: what each token stands for, and the text's token indices."""

    name: str
    vocabulary: tuple[str, ...]
    tokens: Tokens

    def decode(self, tokens: Tokens) -> str:
        """What token indices stand for, end to end."""
        return "".join(self.vocabulary[token] for token in tokens)


@cache
def load_text(dataset: str, tokenizer: str = CHARACTERS) -> Text:
    """All text of a data set on the hub, "karpathy/tiny_shakespeare" say, as characters or as a tokenizer's tokens.

    Looks for DATASET/**/*.txt below KEMPEFRAME_HUB first, then asks the hub for the part "train" and its column "text".
    A tokenizer is that of a model on the hub, "openai-community/gpt2" say: its tokenizer.json, found likewise.

    Raises:
        DataNotFound: neither has it.
        ValueError: the name is none.
    """
    if not NAME.fullmatch(dataset):
        raise ValueError(f"dataset = {dataset!r}: expected a hub name, OWNER/NAME")
    mirror = os.environ.get("KEMPEFRAME_HUB", "")
    files = sorted((Path(mirror) / dataset).rglob("*.txt")) if mirror else []
    text = "".join(file.read_text(encoding="utf-8") for file in files) if files else _of_hub(dataset, mirror)
    if tokenizer != CHARACTERS:
        return _tokenized(dataset, text, tokenizer, mirror)
    alphabet = tuple(sorted(set(text)))
    index = {character: number for number, character in enumerate(alphabet)}
    return Text(dataset, alphabet, np.fromiter((index[c] for c in text), dtype=np.int64, count=len(text)))


def _tokenized(dataset: str, text: str, name: str, mirror: str) -> Text:
    """By the tokenizer of a model on the hub, an extra that is imported here only."""
    todo = f"let KEMPEFRAME_HUB name a directory with {name}/tokenizer.json, or pip install 'kempeframe-standard[hub]'"
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise DataNotFound(f"no tokenizer {name!r}: the `tokenizers` package is not installed; {todo}") from None
    file = Path(mirror) / name / "tokenizer.json"
    try:
        found = Tokenizer.from_file(str(file)) if mirror and file.exists() else Tokenizer.from_pretrained(name)
    except Exception as error:  # it raises bare exceptions: offline, unknown name
        raise DataNotFound(f"no tokenizer {name!r}: the hub gave {error}; {todo}") from error
    vocabulary = tuple(found.id_to_token(number) or "" for number in range(found.get_vocab_size()))
    return Text(f"{dataset} {name}", vocabulary, np.array(found.encode(text).ids, dtype=np.int64))


def _of_hub(dataset: str, mirror: str) -> str:
    looked = f"KEMPEFRAME_HUB = {mirror} has no {dataset}/*.txt" if mirror else "KEMPEFRAME_HUB is not set"
    todo = f"Let KEMPEFRAME_HUB name a directory with {dataset}/input.txt, or pip install 'kempeframe-standard[hub]'"
    try:
        import datasets
    except ImportError:
        raise DataNotFound(f"no text {dataset!r}: {looked}, and `datasets` is not installed. {todo}.") from None
    try:
        return "".join(datasets.load_dataset(dataset, split="train")["text"])
    except Exception as error:  # it raises errors of many libraries
        raise DataNotFound(f"no text {dataset!r}: {looked}, and the hub gave {error}. {todo}.") from error
