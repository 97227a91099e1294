"""How the examples of a small set are chosen among candidates of the training law (brief, Section 3.6)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Curation = Literal["random", "rare_outcome", "balanced", "small_operands"]
CANDIDATES = 10  # of which one is kept


def chosen(
    rule: Curation,
    count: int,
    answers: NDArray[Any],
    sizes: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Which `count` of the candidates, given their answers (n, ...) and the size of their operands (n,).

    random: the first. rare_outcome: those whose answer is rarest among the candidates, in order of drawing where
    equally rare. balanced: of each answer the same number, filled up at random. small_operands: the smallest.
    Answers that are vectors of numbers count as outcomes of their own.
    """
    candidates = np.arange(len(sizes))
    if rule == "random":
        return candidates[:count]
    if rule == "small_operands":
        return np.argsort(sizes, kind="stable")[:count]
    _, outcome, frequency = np.unique(answers, axis=0, return_inverse=True, return_counts=True)
    outcome = outcome.reshape(-1)
    if rule == "rare_outcome":
        return np.argsort(frequency[outcome], kind="stable")[:count]
    share = count // len(frequency)
    by_outcome = np.argsort(outcome, kind="stable")
    rank = np.empty(len(outcome), dtype=np.int64)
    rank[by_outcome] = np.arange(len(outcome)) - (np.cumsum(frequency) - frequency)[outcome[by_outcome]]
    first = by_outcome[rank[by_outcome] < share]
    rest = np.setdiff1d(candidates, first)
    filled = rng.permutation(rest)[: count - len(first)]
    return np.concatenate([first, np.sort(filled)])
