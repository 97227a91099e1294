"""Plain text by its hub name, and windows of it as examples. The reading part imports no torch."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt

from kempeframe_standard.hub import NAME, DataNotFound

Tokens = npt.NDArray[np.int64]


@attrs.frozen(eq=False)
class Text:
    """A text as characters: the sorted alphabet, and the index of each character in it."""

    name: str
    alphabet: str
    tokens: Tokens

    def decode(self, tokens: Tokens) -> str:
        """The characters of token indices."""
        return "".join(self.alphabet[token] for token in tokens)


@cache
def load_text(dataset: str) -> Text:
    """All text of a data set on the hub, "karpathy/tiny_shakespeare" say.

    Looks for DATASET/**/*.txt below KEMPEFRAME_HUB first, then asks the hub for the part "train" and its column "text".

    Raises:
        DataNotFound: neither has it.
        ValueError: the name is none.
    """
    if not NAME.fullmatch(dataset):
        raise ValueError(f"dataset = {dataset!r}: expected a hub name, OWNER/NAME")
    mirror = os.environ.get("KEMPEFRAME_HUB", "")
    files = sorted((Path(mirror) / dataset).rglob("*.txt")) if mirror else []
    text = "".join(file.read_text(encoding="utf-8") for file in files) if files else _of_hub(dataset, mirror)
    alphabet = "".join(sorted(set(text)))
    index = {character: number for number, character in enumerate(alphabet)}
    return Text(dataset, alphabet, np.fromiter((index[c] for c in text), dtype=np.int64, count=len(text)))


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
