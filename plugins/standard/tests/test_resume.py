"""A fit that was interrupted goes on to the same bits as one that was not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from kempeframe_standard.optimizers_gradient import Adam, Adamw, EarlyStopping, GradientOptimizer, Sgd
from torch import Tensor, nn

from kempeframe import Attack, component
from kempeframe.runs import Run
from kempeframe.task import Batch, Split, Task

Make = Callable[..., Any]
STEPS = 60
OPTIMIZERS: dict[str, GradientOptimizer] = {
    "momentum": Sgd(steps=STEPS, learning_rate=0.1, momentum=0.9, batch_size=8),
    "adamw cosine": Adamw(steps=STEPS, learning_rate=0.03, batch_size=8, schedule="cosine", warmup_steps=7),
    "accumulate": Adam(steps=STEPS, learning_rate=0.03, batch_size=4, accumulate=3, gradient_clipping=0.5),
    "early": Adam(steps=1000, learning_rate=0.05, batch_size=8, early_stopping=EarlyStopping(every=5, patience=6)),
    "snapshots": Adam(steps=STEPS, learning_rate=0.03, batch_size=8, snapshots=(0, 1, 10, 11, 40, 59)),
    "full": Sgd(steps=STEPS, learning_rate=0.1, momentum=0.9, batch_size="full"),
}


def final(steps: Iterator[Any]) -> tuple[dict[str, Tensor], list[int], dict[str, Any]]:
    found = [(snapshot.step, snapshot) for snapshot in steps]
    snapshot = found[-1][1]
    return dict(snapshot.network.state_dict()), [step for step, _ in found], dict(snapshot.certificate)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_interruption_changes_no_bit(
    name: str,
    dtype: str,
    classification: Make,
    perceptron: Make,
    session: Any,
    memory: Any,
    interrupted: type[Exception],
) -> None:
    optimizer, task = OPTIMIZERS[name], classification(dtype=dtype, weights=name == "accumulate")

    def start(checkpoints: Any, seed_of_process: int) -> Iterator[Any]:
        network = perceptron(dtype=dtype, dropout=0.3)
        torch.manual_seed(seed_of_process)  # what another process finds there must not matter
        run = Run(3, session)
        run.checkpoints = checkpoints
        return optimizer.fit(network, task, None, run)

    whole, steps, certificate = final(start(memory(), 0))
    length = steps[-1]
    rng = np.random.default_rng(1)
    for moment in rng.choice(np.arange(1, length), size=min(6, length - 1), replace=False).tolist():
        killed = memory(interrupt=moment, keep=max(1, moment - int(rng.integers(3))))
        with pytest.raises(interrupted):
            final(start(killed, 1))
        resumed, later, after = final(start(killed.again(), 2))
        assert later == [step for step in steps if step >= killed.keep or step == steps[-1]]
        assert after == certificate
        for key, tensor in whole.items():
            assert torch.equal(tensor, resumed[key]), (moment, key)


def test_interruptions_add_up(
    classification: Make, perceptron: Make, session: Any, memory: Any, interrupted: type[Exception]
) -> None:
    optimizer, task = OPTIMIZERS["adamw cosine"], classification()

    def start(checkpoints: Any) -> Iterator[Any]:
        run = Run(3, session)
        run.checkpoints = checkpoints
        return optimizer.fit(perceptron(dropout=0.5), task, None, run)

    whole, _, _ = final(start(memory()))
    store = memory(interrupt=9)
    for _ in range(5):
        with pytest.raises(interrupted):
            final(start(store))
        payload, store = store.payload, memory(interrupt=9)
        store.payload = payload
    resumed, _, _ = final(start(store.again()))
    assert all(torch.equal(tensor, resumed[key]) for key, tensor in whole.items())


@component
class Noise(Attack):
    """Adds noise from the attack's stream."""

    def perturb(self, network: nn.Module, batch: Batch, run: Run) -> Tensor:
        return batch.inputs + torch.randn(batch.inputs.shape, generator=run.generator("attack"), dtype=torch.float64)


class Sampled(Split):
    """Batches drawn as they come, passes of seven."""

    def batches(self, network: nn.Module | None, batch_size: int, run: Run) -> Iterator[Batch]:
        for _ in range(7):
            inputs = torch.randn(batch_size, 5, generator=run.generator("data"), dtype=torch.float64)
            yield Batch(inputs, (inputs[:, 0] > 0).long())


class Asking(Split):
    """An endless stream that asks the network which inputs to train on: its batches can't be drawn again."""

    def batches(self, network: nn.Module | None, batch_size: int, run: Run) -> Iterator[Batch]:
        assert network is not None
        while True:
            inputs = torch.randn(2 * batch_size, 5, generator=run.generator("data"), dtype=torch.float64)
            with torch.no_grad():
                hardest = network(inputs)[:, 0].argsort()[:batch_size]
            yield Batch(inputs[hardest], (inputs[hardest, 0] > 0).long())

    def batches_from(self, start: int, network: nn.Module | None, batch_size: int, run: Run) -> Iterator[Batch]:
        return self.batches(network, batch_size, run)


@pytest.mark.parametrize("split", [Sampled(), Asking()])
def test_streams_and_attacks_go_on_where_they_were(
    split: Split, perceptron: Make, session: Any, memory: Any, interrupted: type[Exception]
) -> None:
    task = Task({"train": lambda: split}, (5,), (3,), dtype=torch.float64)
    optimizer = Adam(steps=STEPS, learning_rate=0.1, adversarial=True)

    def start(checkpoints: Any) -> Iterator[Any]:
        run = Run(3, session)
        run.checkpoints = checkpoints
        return optimizer.fit(perceptron(), task, Noise(), run)

    whole, _, _ = final(start(memory()))
    for moment in (1, 7, 8, 22, 59):
        killed = memory(interrupt=moment)
        with pytest.raises(interrupted):
            final(start(killed))
        resumed, _, _ = final(start(killed.again()))
        assert all(torch.equal(tensor, resumed[key]) for key, tensor in whole.items()), moment


def test_skipping_batches_gives_the_rest_of_the_pass(classification: Make, session: Any) -> None:
    split = classification(n=42).train
    whole = list(split.batches(None, 8, Run(0, session)))
    for start in range(7):
        rest = list(split.batches_from(start, None, 8, Run(0, session)))
        assert [b.index.tolist() for b in rest] == [b.index.tolist() for b in whole[start:]]
