"""What data loads: splits of batches, moments, or streams, with shapes and the ground truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from kempeframe.runs import Run


Weights = Callable[[], Mapping[str, Tensor]]


class CannotGive(TypeError):
    """A split was asked for what it does not hold; the message says what it is and what was wanted."""


@attrs.define(eq=False)
class Batch:
    """Examples that are used together.

    Shapes: inputs (n, ...); targets (n,) int64 class indices or (n, k) floats; index (n,) int64, which examples
    of the split these are; weights and groups (n,).
    """

    inputs: Tensor
    targets: Tensor | None = None
    index: Tensor | None = None
    weights: Tensor | None = None
    groups: Tensor | None = None


@attrs.define(eq=False)
class Moments:
    """All that least squares needs of any number of examples.

    gram: X'WX, (d, d); cross: X'Wy, (d, k); count: number of examples n (not the sum of weights).
    """

    gram: Tensor
    cross: Tensor
    count: int


class Split:
    """A part of a task. What a split cannot give, it refuses."""

    def batches(self, network: nn.Module | None, batch_size: int, run: Run) -> Iterator[Batch]:
        """Batches in the order of one pass."""
        raise CannotGive(f"{type(self).__name__} holds no examples to draw batches from")

    def batches_from(self, start: int, network: nn.Module | None, batch_size: int, run: Run) -> Iterator[Batch]:
        """The batches of a pass after its first `start`, for a fit that goes on after an interruption.

        When it is called, the data stream stands at the start of the pass; afterwards the stream is put where the
        interrupted fit left it. So the first batches are drawn and dropped before it returns. A stream whose batches
        depend on the network can't draw them again: it has to override this.
        """
        batches = self.batches(network, batch_size, run)
        for _ in range(start):
            next(batches, None)
        return batches

    def examples(self) -> Batch:
        """All examples at once."""
        raise CannotGive(f"{type(self).__name__} holds no examples")

    @property
    def nbytes(self) -> int:
        """Bytes that it holds, as far as they count."""
        return 0

    @property
    def form(self) -> object:
        """Splits of one form can be stacked; None where this one can't be: its batches depend on the network, say."""
        return None

    @staticmethod
    def stack(splits: Sequence[Any]) -> StackedSplit:
        """Splits of one form as one, for fits that are trained together."""
        return StackedStreams(splits)

    def moments(self) -> Moments:
        """Second moments of inputs and targets."""
        raise CannotGive(f"{type(self).__name__} holds no moments")


@attrs.define(eq=False)
class Examples(Split):
    """Tensors of examples, in memory."""

    inputs: Tensor
    targets: Tensor
    weights: Tensor | None = None
    groups: Tensor | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def batches(self, network: nn.Module | None, batch_size: int, run: Run) -> Iterator[Batch]:
        """Shuffled by the data stream; the last batch may be smaller."""
        return self.batches_from(0, network, batch_size, run)

    def batches_from(self, start: int, network: nn.Module | None, batch_size: int, run: Run) -> Iterator[Batch]:
        order = torch.randperm(len(self), generator=run.generator("data"))
        return (self._take(order[at : at + batch_size]) for at in range(start * batch_size, len(self), batch_size))

    @staticmethod
    def stack(splits: Sequence[Examples]) -> StackedExamples:
        """Splits of equal shape as one, for fits that are trained together.

        Raises:
            CannotGive: their shapes differ.
        """
        return StackedExamples(splits)

    @property
    def nbytes(self) -> int:
        parts = (self.inputs, self.targets, self.weights, self.groups)
        return sum(part.untyped_storage().nbytes() for part in parts if part is not None)

    @property
    def form(self) -> tuple[object, ...]:
        """Shapes and types of its tensors: splits of one form can be stacked."""
        parts = (self.inputs, self.targets, self.weights, self.groups)
        return tuple(None if part is None else (tuple(part.shape), part.dtype) for part in parts)

    def examples(self) -> Batch:
        return Batch(self.inputs, self.targets, torch.arange(len(self)), self.weights, self.groups)

    def moments(self) -> Moments:
        """Of the inputs as they are, flattened, in float64."""
        inputs = self.inputs.flatten(1).to(torch.float64)
        targets = self.targets.to(torch.float64).reshape(len(self), -1)
        weighted = inputs if self.weights is None else inputs * self.weights[:, None]
        return Moments(weighted.mT @ inputs, weighted.mT @ targets, len(self))

    def _take(self, index: Tensor) -> Batch:
        return Batch(
            self.inputs.index_select(0, index),
            self.targets.index_select(0, index),
            index,
            None if self.weights is None else self.weights.index_select(0, index),
            None if self.groups is None else self.groups.index_select(0, index),
        )


class StackedSplit:
    """Splits of several fits: a batch holds one of each fit, along a leading dimension.

    Shapes of a batch: inputs (fits, n, ...); targets (fits, n, ...); index, weights and groups (fits, n). Each fit's
    part is what its own split gives under its own run.
    """

    def batches_from(
        self, start: int, batch_size: int, runs: Sequence[Run], weights: Weights | None = None
    ) -> Iterator[Batch]:
        """The batches of a pass after its first `start`; each fit draws from its run's data stream.

        `weights` looks at the stacked weights and buffers as they stand, (fits, ...) each, for streams that draw from
        the networks being trained.
        """
        raise NotImplementedError

    def examples(self) -> Batch:
        """All examples of all fits, each fit's in the order of its split."""
        raise NotImplementedError


class StackedStreams(StackedSplit):
    """Batches of several splits, put together as they come; all have the same shapes. A pass ends with the first."""

    def __init__(self, splits: Sequence[Split]):
        self.splits = splits

    def batches_from(
        self, start: int, batch_size: int, runs: Sequence[Run], weights: Weights | None = None
    ) -> Iterator[Batch]:
        own = [s.batches_from(start, None, batch_size, run) for s, run in zip(self.splits, runs, strict=True)]
        return map(_joined, zip(*own, strict=False))

    def examples(self) -> Batch:
        return _joined([split.examples() for split in self.splits])


def _joined(batches: Sequence[Batch]) -> Batch:
    """One batch of each fit, along a new dimension in front."""
    columns = {name: [getattr(batch, name) for batch in batches] for name in ("targets", "index", "weights", "groups")}
    held = {name: torch.stack(parts) for name, parts in columns.items() if parts[0] is not None}
    return Batch(torch.stack([batch.inputs for batch in batches]), **held)


class StackedExamples(StackedSplit):
    """Examples of several fits, equal in shape."""

    def __init__(self, splits: Sequence[Examples]):
        if len({split.form for split in splits}) != 1:
            raise CannotGive("these splits differ in shape or type: they can't be stacked")
        self.fits, self.length = len(splits), len(splits[0])
        self.inputs = _Pooled([split.inputs for split in splits])
        self.targets = _Pooled([split.targets for split in splits])
        self.weights = _pooled([split.weights for split in splits])
        self.groups = _pooled([split.groups for split in splits])

    def __len__(self) -> int:
        return self.length

    def batches_from(
        self, start: int, batch_size: int, runs: Sequence[Run], weights: Weights | None = None
    ) -> Iterator[Batch]:
        orders = torch.stack([torch.randperm(len(self), generator=run.generator("data")) for run in runs])
        return (self._take(orders[:, at : at + batch_size]) for at in range(start * batch_size, len(self), batch_size))

    def examples(self) -> Batch:
        return self._take(torch.arange(len(self)).expand(self.fits, -1))

    def _take(self, index: Tensor) -> Batch:
        return Batch(
            self.inputs.take(index),
            self.targets.take(index),
            index,
            None if self.weights is None else self.weights.take(index),
            None if self.groups is None else self.groups.take(index),
        )


class _Pooled:
    """One tensor of several fits, end to end; where all hold the same object, that object alone."""

    def __init__(self, tensors: Sequence[Tensor]):
        shared = all(tensor is tensors[0] for tensor in tensors)
        self.pool = tensors[0] if shared else torch.cat(list(tensors))
        self.first = None if shared else torch.arange(len(tensors))[:, None] * len(tensors[0])

    def take(self, index: Tensor) -> Tensor:
        """(fits, n) indices into each fit's own tensor -> (fits, n, ...)."""
        at = index if self.first is None else index + self.first
        return self.pool.index_select(0, at.reshape(-1)).reshape(index.shape + self.pool.shape[1:])


def _pooled(tensors: Sequence[Tensor | None]) -> _Pooled | None:
    given = [tensor for tensor in tensors if tensor is not None]
    return _Pooled(given) if given else None


@attrs.define(eq=False)
class MomentSplit(Split):
    """Moments alone: of so many examples that no tensor holds them."""

    of: Moments

    def moments(self) -> Moments:
        return self.of


@attrs.define(eq=False, slots=False)
class Task:
    """What a network is trained and tested on. Splits are drawn when they are first asked for.

    input_shape and output_shape are those of one example; for classification `classes` is their number and
    output_shape is (classes,). bounds is the box that inputs live in, which attacks respect.
    """

    splits: Mapping[str, Callable[[], Split]]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    classes: int | None = None
    truth: Any = None
    bounds: tuple[float, float] | None = None
    _drawn: dict[str, Split] = attrs.field(factory=dict, init=False, repr=False)

    def split(self, name: str) -> Split:
        """One split by name: train, validation, test, or an extra one of this task.

        Raises:
            CannotGive: the task has no such split.
        """
        if name not in self._drawn:
            if name not in self.splits:
                raise CannotGive(f"this task has no {name} split; it has {', '.join(self.splits)}")
            self._drawn[name] = self.splits[name]()
        return self._drawn[name]

    def release(self, name: str) -> None:
        """Let go of a split; it is drawn again, the same, when it is asked for."""
        self._drawn.pop(name, None)

    @property
    def nbytes(self) -> int:
        """Bytes of the examples that are drawn now."""
        return sum(split.nbytes for split in self._drawn.values())

    @property
    def train(self) -> Split:
        """The training split."""
        return self.split("train")

    @property
    def test(self) -> Split:
        """The test split."""
        return self.split("test")

    @cached_property
    def inputs(self) -> int:
        """Number of input features of one example, flattened."""
        return torch.Size(self.input_shape).numel()

    @cached_property
    def outputs(self) -> int:
        """Number of outputs of one example."""
        return torch.Size(self.output_shape).numel()


@attrs.define(eq=False)
class Snapshot:
    """The network at one step of a fit, and how well the optimizer did up to there."""

    step: int
    network: nn.Module
    certificate: Mapping[str, float | bool] = attrs.field(factory=dict)
