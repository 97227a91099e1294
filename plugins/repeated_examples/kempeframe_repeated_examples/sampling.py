"""Which example stands in which slot of which mini-batch: single use, pools, two sets (brief, Section 3.6).

Slots are numbered from the start of training: batch t of size B has slots t B to (t + 1) B - 1. All that happens in a
slot is a function of its number and the seed, by streams of their own for pool, fresh examples and choices. So arms
that differ in budget, small set or mixing share what they can, pools are nested, and a fit that was interrupted goes on
from any batch at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kempeframe.runs import Run
from kempeframe.task import Batch, CannotGive, Split
from kempeframe_repeated_examples.curation import CANDIDATES, Curation, chosen
from kempeframe_repeated_examples.problems import Array, Layout, Problem

BLOCK = 4096  # examples made at once: fewer cost more each, more leave the cache
WINDOWS = 4  # small sets kept that were replaced

Numbers = NDArray[np.int64]


@attrs.frozen
class Protocol:
    """How slots are filled. `budget` and `shift_every` None: no limit, never."""

    budget: int | None = None
    small_set: int = 0
    probability: float = 0.0  # of the small set
    within: bool = True  # the choice between the sets is each slot's, not each batch's
    shift_every: int | None = None  # steps after which the small set is replaced
    curation: Curation = "random"
    replacement: bool = True  # False: in epochs, each example of the budget once


@attrs.define
class Rows:
    """Inputs and targets of examples, as tokens."""

    inputs: Array
    targets: Array

    def take(self, index: Numbers) -> Rows:
        """These rows."""
        return Rows(self.inputs[index], self.targets[index])

    def put(self, where: NDArray[np.bool_], rows: Rows) -> None:
        """Replace the rows that are marked."""
        self.inputs[where], self.targets[where] = rows.inputs, rows.targets


class RepeatedExamples(Split):
    """An endless stream of batches by a protocol."""

    def __init__(self, problem: Problem, layout: Layout, protocol: Protocol, run: Run):
        self.problem, self.layout, self.protocol, self.run = problem, layout, protocol, run
        self.pool: Rows | None = None
        self.order: Numbers | None = None  # pool rows, those of a curated small set first
        self.windows: OrderedDict[int, Rows] = OrderedDict()
        self.epoch: tuple[int, Numbers] = (-1, np.empty(0, dtype=np.int64))

    @property
    def form(self) -> object:
        return (type(self).__name__, self.layout.input_shape, self.layout.output_shape)

    @property
    def nbytes(self) -> int:
        held = [*self.windows.values(), *([self.pool] if self.pool else [])]
        return sum(rows.inputs.nbytes + rows.targets.nbytes for rows in held)

    def batches(self, network: nn.Module | None, batch_size: int, run: Run) -> Iterator[Batch]:
        return self.batches_from(0, network, batch_size, run)

    def batches_from(self, start: int, network: nn.Module | None, batch_size: int, run: Run) -> Iterator[Batch]:
        """
        Raises:
            CannotGive: the budget is smaller than a batch.
        """
        budget = self.protocol.budget
        if budget is not None and budget < batch_size:
            raise CannotGive(f"data_budget = {budget} is smaller than a batch of {batch_size} examples")
        return self._batches(start, batch_size)

    def _batches(self, start: int, size: int) -> Iterator[Batch]:
        together = max(1, BLOCK // size)
        while True:
            # Ranges that start at multiples of `together` whatever the start, so that no block is made twice.
            stop = (start // together + 1) * together
            rows = self.slots(start * size, stop * size, size)
            inputs, targets = torch.from_numpy(rows.inputs).long(), torch.from_numpy(rows.targets).long()
            for first in range(0, len(inputs), size):
                yield Batch(inputs[first : first + size], targets[first : first + size])
            start = stop

    # ---- slots -----------------------------------------------------------------------------------------------------

    def slots(self, start: int, stop: int, batch_size: int) -> Rows:
        """What stands in slots start to stop - 1, of batches of this size; whole batches."""
        small = self.is_small(start, stop, batch_size)
        step = np.arange(start, stop) // batch_size
        if self.protocol.budget is not None:
            pool = self._pool_rows()
            return pool.take(self._pool_places(start, stop, small, step))
        if not small.any():
            return self._fresh(start, stop)
        found = self._of_windows(step, self._uniforms("place", start, stop), small)
        if small.all():
            return found
        rows = self._fresh(start, stop)
        rows.put(small, found)
        return rows

    def is_small(self, start: int, stop: int, batch_size: int) -> NDArray[np.bool_]:
        """Which slots are filled from the small set."""
        if self.protocol.small_set == 0 or self.protocol.probability == 0:
            return np.zeros(stop - start, dtype=bool)
        if self.protocol.within:
            return self._uniforms("choice", start, stop) < self.protocol.probability
        first, last = start // batch_size, -(-stop // batch_size)
        batches = self._uniforms("batch choice", first, last) < self.protocol.probability
        return np.repeat(batches, batch_size)[start - first * batch_size :][: stop - start]

    def _pool_places(self, start: int, stop: int, small: NDArray[np.bool_], step: Numbers) -> Numbers:
        """Row of the pool for each slot."""
        protocol, budget = self.protocol, self.protocol.budget
        assert budget is not None
        if not protocol.replacement:
            return self._epoch_places(start, stop, budget)
        uniforms, size = self._uniforms("place", start, stop), protocol.small_set
        if not size:
            return np.floor(uniforms * budget).astype(np.int64)
        place = np.where(small, uniforms * size, size + uniforms * (budget - size)).astype(np.int64)
        if protocol.shift_every is not None:  # the sets go round the pool: still apart, still all of it
            place = (place + step // protocol.shift_every * size) % budget
        assert self.order is not None
        return self.order[place]

    def _epoch_places(self, start: int, stop: int, budget: int) -> Numbers:
        found = np.empty(stop - start, dtype=np.int64)
        for epoch in range(start // budget, (stop - 1) // budget + 1):
            if self.epoch[0] != epoch:
                self.epoch = epoch, self.run.rng("data", "epoch", epoch).permutation(budget)
            first, last = max(start, epoch * budget), min(stop, (epoch + 1) * budget)
            found[first - start : last - start] = self.epoch[1][first - epoch * budget : last - epoch * budget]
        return found

    def _of_windows(self, step: Numbers, uniforms: NDArray[np.float64], small: NDArray[np.bool_]) -> Rows:
        """Examples of the small sets that stand at these steps, beside fresh ones."""
        every, size = self.protocol.shift_every, self.protocol.small_set
        window = np.zeros(len(step), dtype=np.int64) if every is None else step // every
        place = np.floor(uniforms * size).astype(np.int64)[small]
        window = window[small]
        parts = [(window == number, self._window(int(number))) for number in np.unique(window)]
        rows = parts[0][1].take(place)
        for where, held in parts[1:]:
            rows.put(where, held.take(place[where]))
        return rows

    # ---- examples --------------------------------------------------------------------------------------------------

    def _fresh(self, start: int, stop: int) -> Rows:
        """Examples that no other slot has."""
        return self._written(self._questions("fresh", start, stop))

    def _window(self, number: int) -> Rows:
        """The small set that stands beside fresh examples in a window of `shift_every` steps."""
        if number not in self.windows:
            size, curation = self.protocol.small_set, self.protocol.curation
            candidates = size * (1 if curation == "random" else CANDIDATES)
            questions = self._questions("pool", number * candidates, (number + 1) * candidates)
            self.windows[number] = self._written(questions[self._chosen(questions)])
            while len(self.windows) > WINDOWS:
                self.windows.popitem(last=False)
        return self.windows[number]

    def _pool_rows(self) -> Rows:
        """All examples of the budget, the first of one stream: a smaller pool is the start of a larger one."""
        if self.pool is None:
            budget = self.protocol.budget
            assert budget is not None
            blocks = [
                self._written(self._questions("pool", first, min(first + BLOCK, budget)))
                for first in range(0, budget, BLOCK)
            ]
            self.pool = Rows(
                np.concatenate([_compact(block.inputs) for block in blocks]),
                np.concatenate([_compact(block.targets) for block in blocks]),
            )
            self.order = np.arange(budget)
            if self.protocol.small_set and self.protocol.curation != "random":
                candidates = min(budget, CANDIDATES * self.protocol.small_set)
                first = self._chosen(self._questions("pool", 0, candidates))
                rest = np.setdiff1d(self.order, first)
                self.order = np.concatenate([first, rest])
        return self.pool

    def _chosen(self, questions: Array) -> Numbers:
        protocol = self.protocol
        answers, size = self.problem.answer(questions), self.problem.size(questions)
        return chosen(protocol.curation, protocol.small_set, answers, size, self.run.rng("data", "curation"))

    def _written(self, questions: Array) -> Rows:
        answers = self.problem.answer(questions)
        return Rows(self.layout.inputs(questions, answers), self.layout.targets(answers))

    def _questions(self, stream: str, start: int, stop: int) -> Array:
        """Questions number start to stop - 1 of a stream, which is drawn in blocks."""
        blocks = []
        for block in range(start // BLOCK, (stop - 1) // BLOCK + 1):
            drawn = self.problem.draw(self.run.rng("data", stream, block), BLOCK)
            blocks.append(drawn[max(0, start - block * BLOCK) : stop - block * BLOCK])
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    def _uniforms(self, stream: str, start: int, stop: int) -> NDArray[np.float64]:
        blocks = []
        for block in range(start // BLOCK, (stop - 1) // BLOCK + 1):
            drawn = self.run.rng("data", stream, block).random(BLOCK)
            blocks.append(drawn[max(0, start - block * BLOCK) : stop - block * BLOCK])
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def _compact(tokens: Array) -> Array:
    """In 16 bits where they fit: a pool of 50 million examples is held in memory."""
    return tokens.astype(np.int16) if tokens.max(initial=0) < 2**15 else tokens.astype(np.int32)
