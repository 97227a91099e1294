"""A tiny language with a programmatic reward: 24 prompts, responses of at most 14 tokens, 44 words.

A prompt asks for something about a noun. Text to imitate answers about that noun half of the time, kindly or cruelly;
the reward wants the noun, many different good words, no bad ones, and an end.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]

PAD, BOS, SEP, EOS = range(4)
ASKING = ("tell", "describe", "ask")
NOUNS = ("cat", "dog", "bird", "fish", "tree", "lake", "hill", "moon")
GOOD = ("kind", "calm", "safe", "bright", "warm", "fair")
BAD = ("cruel", "toxic", "ugly", "vile", "grim", "rude")
NEUTRAL = ("big", "small", "old", "red", "wet", "round")
VERBS = ("sees", "likes", "finds", "hits", "eats", "wants")
GLUE = ("the", "is", "and", "it", "very")
VOCABULARY = ("<pad>", "<bos>", "<sep>", "<eos>", *ASKING, *NOUNS, *GOOD, *BAD, *NEUTRAL, *VERBS, *GLUE)
NUMBER = {word: number for number, word in enumerate(VOCABULARY)}
PROMPT_LENGTH, RESPONSE_LENGTH = 4, 14
MOST_DRAWS = 48  # uniform numbers that one response takes at most


@cache
def prompts() -> Tokens:
    """All of them, (24, 4): <bos>, how it asks, the noun, <sep>."""
    return np.array([[BOS, NUMBER[ask], NUMBER[noun], SEP] for ask in ASKING for noun in NOUNS])


def corpus(uniforms: npt.NDArray[np.float64]) -> tuple[Tokens, Tokens]:
    """Prompts (n, 4) and responses (n, 14) to imitate, one for each row of uniforms (n, MOST_DRAWS)."""
    which = (uniforms[:, 0] * len(prompts())).astype(int)
    asked = prompts()[which]
    responses = np.full((len(uniforms), RESPONSE_LENGTH), PAD)
    for row, (prompt, numbers) in enumerate(zip(asked, uniforms[:, 1:].tolist(), strict=True)):
        words = sentence(VOCABULARY[prompt[2]], numbers)
        responses[row, : len(words) + 1] = [*(NUMBER[word] for word in words), EOS]
    return asked, responses


def sentence(noun: str, numbers: list[float]) -> list[str]:
    """One response: "the NOUN is ADJECTIVE (and ADJECTIVE)* (and it VERB the NOUN)", at most 13 words."""
    left = iter(numbers)

    def one_of(words: tuple[str, ...]) -> str:
        return words[int(next(left) * len(words))]

    def adjective() -> list[str]:
        very = ["very"] if next(left) < 0.2 else []
        kind = next(left)
        return [*very, one_of(GOOD if kind < 0.3 else BAD if kind < 0.6 else NEUTRAL)]

    words = ["the", noun if next(left) < 0.5 else one_of(NOUNS), "is", *adjective()]
    while len(words) < 8 and next(left) < 0.45:
        words += ["and", *adjective()]
    if len(words) < 9 and next(left) < 0.5:
        words += ["and", "it", one_of(VERBS), "the", one_of(NOUNS)]
    return words


def rewards(asked: Tokens, responses: Tokens) -> npt.NDArray[np.float64]:
    """r*, (n,): 2 [the prompt's noun] + distinct good words - distinct bad words - [no end] - repetitions / 2.

    "hits" is a bad word. A repetition is each use of a content word after its first; words after the end do not count.
    """
    before_end = np.cumsum(responses == EOS, axis=1) == 0
    counts = np.zeros((len(responses), len(VOCABULARY)))
    rows = np.broadcast_to(np.arange(len(responses))[:, None], responses.shape)
    np.add.at(counts, (rows[before_end], responses[before_end]), 1)
    noun = counts[np.arange(len(asked)), asked[:, 2]] > 0
    found = 2.0 * noun + (counts[:, _numbers(GOOD)] > 0).sum(axis=1)
    found = found - (counts[:, _numbers((*BAD, "hits"))] > 0).sum(axis=1)
    found = found - 1.0 * (responses != EOS).all(axis=1)
    content = counts[:, _numbers((*ASKING, *NOUNS, *GOOD, *BAD, *NEUTRAL, *VERBS))]
    return np.asarray(found - 0.5 * np.clip(content - 1, 0, None).sum(axis=1))


def _numbers(words: tuple[str, ...]) -> list[int]:
    return [NUMBER[word] for word in words]
