"""What data have to do: the same from the same seed, splits apart, shapes as declared, batches that resume."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kempeframe.task import Batch, CannotGive, Split, Task
from kempeframe.testing.surroundings import (
    Around,
    CheckFunction,
    concerning,
    first_batches,
    global_randomness_left_alone,
    same,
)


def contents(task: Task, around: Around, seed: int = 0) -> dict[str, Any]:
    """What every split holds: its examples, its moments, or the first batches of its stream."""
    return {name: _of_split(task.split(name), task, around, seed) for name in task.splits}


def _of_split(split: Split, task: Task, around: Around, seed: int) -> Any:
    for ask in (split.examples, split.moments):
        try:
            return list(_tensors(ask()))
        except CannotGive:
            continue
    try:
        batches = first_batches(split, _network(task, around), around.run(seed), count=3)
    except CannotGive:
        return "nothing"
    return [list(_tensors(batch)) for batch in batches]


def _tensors(record: Any) -> list[Any]:
    return [getattr(record, name) for name in record.__annotations__]


def _network(task: Task, around: Around) -> nn.Module:
    return around.network(task).eval()


def same_seed_same_task(around: Around) -> None:
    """Loaded twice under one seed, every split is the same, bit by bit."""
    first, second = (contents(around.task(0), around) for _ in range(2))
    for name in first:
        assert same(first[name], second[name]), f"the {name} split differs between two loads of one seed"


def other_seed_other_task(around: Around) -> None:
    """Under another seed something differs."""
    first, second = (contents(around.task(seed), around, seed) for seed in (0, 1))
    assert not same(first, second), "two seeds give the same task: randomness comes from run.rng('data', ...)"


def drawn_again_it_is_the_same(around: Around) -> None:
    """A split that was released is drawn again, the same: a stored fit is loaded without its training split."""
    task = around.task()
    before = contents(task, around)
    for name in task.splits:
        task.release(name)
    after = contents(task, around)
    for name in before:
        assert same(before[name], after[name]), f"the {name} split is another one when it is drawn again"


def splits_are_disjoint(around: Around) -> None:
    """No example of the test or validation split is one of the training split."""
    task = around.task()
    rows = {name: _rows(task.split(name)) for name in ("train", "validation", "test") if name in task.splits}
    names = list(rows)
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            shared = len(rows[first] & rows[second])
            assert not shared, f"{shared} examples are both in {first} and in {second}"


def _rows(split: Split) -> set[bytes]:
    try:
        inputs = split.examples().inputs
    except CannotGive:
        return set()
    return {row.contiguous().numpy().tobytes() for row in inputs.flatten(1)} if inputs.dim() > 1 else set()


def shapes_are_as_declared(around: Around) -> None:
    """Inputs and targets have the task's shapes and types; class indices lie within the classes; all is finite."""
    task = around.task()
    seen = 0
    for name in task.splits:
        for batch in _some_batches(task.split(name), task, around):
            _check_shapes(batch, task, name)
            seen += 1
    has_moments = any(_has_moments(task.split(name)) for name in task.splits)
    assert seen or has_moments, "no split gives batches, examples or moments"


def _some_batches(split: Split, task: Task, around: Around) -> list[Batch]:
    try:
        return [split.examples()]
    except CannotGive:
        pass
    try:
        return list(first_batches(split, _network(task, around), around.run(), count=2))
    except CannotGive:
        return []


def _has_moments(split: Split) -> bool:
    try:
        split.moments()
    except CannotGive:
        return False
    return True


def _check_shapes(batch: Batch, task: Task, name: str) -> None:
    inputs, targets, n = batch.inputs, batch.targets, len(batch.inputs)
    assert tuple(inputs.shape[1:]) == tuple(task.input_shape), (
        f"{name}: inputs have shape {tuple(inputs.shape[1:])}, the task says {tuple(task.input_shape)}"
    )
    if inputs.is_floating_point():
        assert inputs.dtype == task.dtype, f"{name}: inputs are {inputs.dtype}, the task says {task.dtype}"
        assert bool(inputs.isfinite().all()), f"{name}: some inputs are not finite"
    for part, what in (
        (targets, "targets"),
        (batch.index, "index"),
        (batch.weights, "weights"),
        (batch.groups, "groups"),
    ):
        assert part is None or len(part) == n, f"{name}: {len(part)} {what} for {n} inputs"
    if targets is None:
        return
    classes = task.classes
    if classes is None and targets.dtype == torch.int64:  # tokens: one of the last dimension's outputs
        classes = task.output_shape[-1]
    if classes is not None:
        assert targets.dtype == torch.int64, f"{name}: targets are {targets.dtype}; class indices are int64"
        wrong = (targets < 0) | (targets >= classes)
        ignored = targets == -100  # what torch's cross-entropy leaves out
        assert not bool((wrong & ~ignored).any()), f"{name}: class indices lie outside 0 to {classes - 1}"
    else:
        assert targets.is_floating_point(), f"{name}: targets are {targets.dtype}; without classes they are floats"
        assert bool(targets.isfinite().all()), f"{name}: some targets are not finite"


@concerning(lambda around: around.task().bounds is not None)
def inputs_lie_in_the_box(around: Around) -> None:
    """Where the task has bounds, every input lies within them."""
    task = around.task()
    assert task.bounds is not None
    low, high = task.bounds
    for name in task.splits:
        for batch in _some_batches(task.split(name), task, around):
            least, most = float(batch.inputs.min()), float(batch.inputs.max())
            assert low <= least and most <= high, f"{name}: inputs from {least:g} to {most:g}, bounds are {task.bounds}"


def a_pass_has_every_example_once(around: Around) -> None:
    """Batches of a split with examples: each example in one of them, the right one for its index."""
    task = around.task()
    for name in task.splits:
        try:
            whole = task.split(name).examples()
            batches = list(task.split(name).batches(None, 5, around.run()))
        except CannotGive:
            continue
        assert all(batch.index is not None for batch in batches), f"{name}: a batch does not say which examples it has"
        index = torch.cat([_tensor(batch.index) for batch in batches])
        assert same(index.sort().values, torch.arange(len(whole.inputs))), (
            f"{name}: some examples are left out or double"
        )
        assert same(torch.cat([batch.inputs for batch in batches]), whole.inputs[index]), f"{name}: the index is wrong"


def _tensor(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


def a_pass_goes_on_where_it_stopped(around: Around) -> None:
    """`batches_from(2)` gives what `batches` gives after two: a fit that was interrupted sees what it would have."""
    task = around.task()
    for name in task.splits:
        split = task.split(name)
        try:
            whole = first_batches(split, _network(task, around), around.run(), count=4)
            rest = split.batches_from(2, _network(task, around), 4, around.run())
        except CannotGive:
            continue
        for expected, found in zip(whole[2:], rest, strict=False):
            assert same(_tensors(expected), _tensors(found)), f"{name}: a pass that goes on gives other batches"


def global_generators_are_left_alone(around: Around) -> None:
    """Loading and drawing use the run's streams."""
    with global_randomness_left_alone():
        task = around.task()
        for name in task.splits:
            task.split(name)


CHECKS: list[CheckFunction] = [
    same_seed_same_task,
    other_seed_other_task,
    drawn_again_it_is_the_same,
    splits_are_disjoint,
    shapes_are_as_declared,
    inputs_lie_in_the_box,
    a_pass_has_every_example_once,
    a_pass_goes_on_where_it_stopped,
    global_generators_are_left_alone,
]
