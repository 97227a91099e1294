"""A stack of fits gives each fit what it would have got alone, up to rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from kempeframe_standard.networks import ReluFeatures
from kempeframe_standard.optimizers_gradient import Adam, Adamw, EarlyStopping, GradientOptimizer, Sgd
from kempeframe_standard.training import DivergedError
from kempeframe_standard.training.many import partition
from torch import Tensor, nn

from kempeframe import component
from kempeframe.components import FitJob
from kempeframe.runs import Run
from kempeframe.task import CannotGive, Examples, Snapshot, StackedExamples, Task

Make = Callable[..., Any]
OPTIMIZERS: dict[str, GradientOptimizer] = {
    "sgd": Sgd(steps=50, learning_rate=0.2, batch_size=8),
    "momentum": Sgd(steps=50, learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=0.01, batch_size=8),
    "adam": Adam(steps=50, learning_rate=0.02, batch_size=8),
    "adamw cosine": Adamw(steps=50, learning_rate=0.02, weight_decay=0.1, schedule="cosine", warmup_steps=5),
    "clipping": Sgd(steps=50, learning_rate=0.5, gradient_clipping=0.05, batch_size=8),
    "accumulate": Adam(epochs=10, learning_rate=0.02, batch_size=4, accumulate=3),
    "full": Sgd(steps=50, learning_rate=0.2, batch_size="full"),
    "squared": Adam(steps=50, learning_rate=0.02, loss="squared"),
    "exponential": Adam(steps=50, learning_rate=0.02, loss="exponential"),
    "hinge": Sgd(steps=50, learning_rate=0.1, loss="hinge"),
    "early": Adam(steps=400, learning_rate=0.05, batch_size=8, early_stopping=EarlyStopping(every=5, patience=4)),
    "accurate": Adam(
        steps=400,
        learning_rate=0.05,
        batch_size=8,
        early_stopping=EarlyStopping(metric="accuracy", every=5, patience=4),
    ),
}


def jobs_of(optimizer: GradientOptimizer, tasks: list[Task], networks: list[nn.Module], session: Any) -> list[FitJob]:
    return [
        FitJob(optimizer, network, task, None, Run(seed, session))
        for seed, (task, network) in enumerate(zip(tasks, networks, strict=True))
    ]


def together(jobs: list[FitJob]) -> dict[int, Snapshot]:
    return dict(jobs[0].optimizer.fit_many(jobs))


def alone(jobs: list[FitJob]) -> dict[int, Snapshot]:
    return {
        number: list(job.optimizer.fit(job.network, job.task, job.attack, job.run))[-1]
        for number, job in enumerate(jobs)
    }


def assert_same(found: dict[int, Snapshot], expected: dict[int, Snapshot], tolerance: float = 1e-10) -> None:
    for number, snapshot in expected.items():
        assert found[number].step == snapshot.step
        assert found[number].certificate == pytest.approx(dict(snapshot.certificate), rel=tolerance)
        for name, tensor in snapshot.network.state_dict().items():
            torch.testing.assert_close(
                found[number].network.state_dict()[name], tensor, rtol=tolerance, atol=tolerance, msg=name
            )


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_stack_is_its_fits(name: str, weighted: bool, classification: Make, perceptron: Make, session: Any) -> None:
    def jobs() -> list[FitJob]:
        tasks = [classification(n=30, seed=s, weights=weighted) for s in range(5)]
        return jobs_of(OPTIMIZERS[name], tasks, [perceptron(seed=s) for s in range(5)], session)

    assert partition(jobs()) == [[0, 1, 2, 3, 4]]
    found = together(jobs())
    assert_same(found, alone(jobs()))
    if OPTIMIZERS[name].early_stopping:
        assert len({snapshot.step for snapshot in found.values()}) > 1


def test_fits_on_one_task_share_its_tensors(classification: Make, perceptron: Make, session: Any) -> None:
    task = classification()
    split = Examples.stack([task.train] * 5)
    assert split.inputs.pool is task.train.inputs

    def jobs() -> list[FitJob]:
        return jobs_of(OPTIMIZERS["adam"], [task] * 5, [perceptron(seed=s) for s in range(5)], session)

    assert_same(together(jobs()), alone(jobs()))


@pytest.mark.parametrize("name", ["adam", "clipping", "early"])
def test_a_fit_does_not_depend_on_who_else_is_in_the_stack(
    name: str, classification: Make, perceptron: Make, session: Any
) -> None:
    def jobs(seeds: Iterable[int]) -> list[FitJob]:
        return [
            FitJob(OPTIMIZERS[name], perceptron(seed=s), classification(n=30, seed=s), None, Run(s, session))
            for s in seeds
        ]

    many = together(jobs(range(6)))
    pair = together(jobs([4, 1]))
    assert_same({0: many[4], 1: many[1]}, pair)


def test_frozen_weights_and_drawn_buffers_are_each_fits_own(classification: Make, session: Any) -> None:
    """Random features differ from fit to fit, and stay; so does a frozen bias."""

    def networks() -> list[nn.Module]:
        made = []
        for seed in range(3):
            rng = np.random.default_rng(seed)
            features = ReluFeatures(rng.standard_normal((5, 11)), rng.standard_normal(11), 3, torch.float64)
            torch.manual_seed(seed)
            readout = nn.Linear(3, 3).double()
            readout.bias.requires_grad_(False)
            made.append(nn.Sequential(features, readout))
        return made

    def jobs() -> list[FitJob]:
        return jobs_of(OPTIMIZERS["adamw cosine"], [classification(seed=s) for s in range(3)], networks(), session)

    assert partition(jobs()) == [[0, 1, 2]]
    found = together(jobs())
    assert_same(found, alone(jobs()))
    for number, network in enumerate(networks()):
        assert torch.equal(found[number].network[1].bias, network[1].bias)  # type: ignore[index]


def test_snapshots_of_a_stack_are_those_of_its_fits(classification: Make, perceptron: Make, session: Any) -> None:
    optimizer = Adam(steps=20, learning_rate=0.05, snapshots=(0, 7, 13))

    def jobs() -> list[FitJob]:
        tasks = [classification(seed=s) for s in range(3)]
        return jobs_of(optimizer, tasks, [perceptron(seed=s) for s in range(3)], session)

    def weights(network: nn.Module) -> Tensor:
        assert not network.training
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    found = [(job, snapshot.step, weights(snapshot.network)) for job, snapshot in optimizer.fit_many(jobs())]
    assert [(job, step) for job, step, _ in found] == [(job, step) for step in (0, 7, 13, 20) for job in range(3)]
    for number, job in enumerate(jobs()):
        own = [(step, w) for other, step, w in found if other == number]
        for (step, w), snapshot in zip(own, optimizer.fit(job.network, job.task, None, job.run), strict=True):
            assert step == snapshot.step
            torch.testing.assert_close(w, weights(snapshot.network), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["adam", "early", "accumulate"])
def test_an_interrupted_stack_goes_on_to_the_same_bits(
    name: str,
    classification: Make,
    perceptron: Make,
    session: Any,
    memory: Any,
    interrupted: type[Exception],
) -> None:
    def start(checkpoints: Any) -> dict[int, Snapshot]:
        tasks = [classification(n=30, seed=s) for s in range(4)]
        jobs = jobs_of(OPTIMIZERS[name], tasks, [perceptron(seed=s) for s in range(4)], session)
        for job in jobs:
            job.run.checkpoints = checkpoints
        return together(jobs)

    counting = memory()
    whole = start(counting)
    for moment in np.linspace(1, counting.asked - 1, 7).astype(int).tolist():
        killed = memory(interrupt=moment)
        with pytest.raises(interrupted):
            start(killed)
        assert_same(start(killed.again()), whole, tolerance=0)


def test_parts_that_are_done_are_not_trained_again(
    classification: Make, perceptron: Make, session: Any, memory: Any, interrupted: type[Exception]
) -> None:
    """Two stacks and one that can't be stacked: 50 questions each whether a checkpoint is due."""

    def start(checkpoints: Any) -> dict[int, Snapshot]:
        sizes = [30, 20, 30, 20, 25]
        tasks = [classification(n=n, seed=s) for s, n in enumerate(sizes)]
        jobs = jobs_of(OPTIMIZERS["adam"], tasks, [perceptron(seed=s) for s in range(5)], session)
        assert partition(jobs) == [[0, 2], [1, 3], [4]]
        for job in jobs:
            job.run.checkpoints = checkpoints
        return together(jobs)

    whole = start(memory())
    for moment in (20, 70, 120):
        killed = memory(interrupt=moment)
        with pytest.raises(interrupted):
            start(killed)
        again = killed.again()
        assert_same(start(again), whole, tolerance=0)
        assert again.asked == 150 - moment + 1


@pytest.mark.parametrize("kind", ["dropout", "batch norm", "decides"])
def test_networks_that_can_not_be_one_are_trained_alone(
    kind: str, classification: Make, perceptron: Make, session: Any
) -> None:
    class Decides(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs if inputs.sum() > 0 else -inputs

    layers = {"dropout": lambda: nn.Dropout(0.5), "batch norm": lambda: nn.BatchNorm1d(3).double(), "decides": Decides}

    def jobs() -> list[FitJob]:
        networks = [nn.Sequential(perceptron(seed=s), layers[kind]()) for s in range(3)]
        return jobs_of(OPTIMIZERS["adam"], [classification(seed=s) for s in range(3)], networks, session)

    assert partition(jobs()) == [[0], [1], [2]]
    assert_same(together(jobs()), alone(jobs()), tolerance=0)


@component
class Normalized(GradientOptimizer):
    """Steps along the gradient of unit norm: a weight's step depends on all weights of its network."""

    elementwise = False

    def torch_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        class Step(torch.optim.SGD):
            def step(self, closure: Any = None) -> Any:
                loss = closure()
                for group in self.param_groups:
                    norm = nn.utils.get_total_norm([p.grad for p in group["params"]])
                    for p in group["params"]:
                        p.data.sub_(p.grad, alpha=group["lr"] / float(norm))
                return loss

        return Step(parameters, lr=self.learning_rate)


def test_optimizers_that_are_not_elementwise_and_other_shapes_are_no_stack(
    classification: Make, perceptron: Make, session: Any
) -> None:
    def jobs(optimizer: GradientOptimizer, networks: list[nn.Module], **kinds: Any) -> list[list[int]]:
        return partition(jobs_of(optimizer, [classification(seed=s, **kinds) for s in range(2)], networks, session))

    pair = [perceptron(seed=s) for s in range(2)]
    assert jobs(Adam(steps=1), pair) == [[0, 1]]
    assert jobs(Normalized(steps=1), pair) == [[0], [1]]
    assert jobs(Adam(steps=1, adversarial=True), pair) == [[0], [1]]
    assert jobs(Adam(steps=1), [pair[0], nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))]) == [[0], [1]]
    single = jobs_of(Normalized(steps=30), [classification()] * 2, [perceptron(seed=s) for s in range(2)], session)
    again = jobs_of(Normalized(steps=30), [classification()] * 2, [perceptron(seed=s) for s in range(2)], session)
    assert_same(together(single), alone(again), tolerance=0)


def test_a_fit_of_a_stack_that_diverges_is_said(classification: Make, perceptron: Make, session: Any) -> None:
    tasks = [classification(seed=s) for s in range(3)]
    tasks[1].train.inputs[3] = torch.nan
    jobs = jobs_of(Adam(steps=50, batch_size="full"), tasks, [perceptron(seed=s) for s in range(3)], session)
    with pytest.raises(DivergedError, match=r"^step 1: the loss is nan$"):
        together(jobs)


def test_a_stack_of_splits_gives_each_fit_its_own_batches(classification: Make, session: Any) -> None:
    tasks = [classification(n=22, seed=s, weights=True) for s in range(3)]
    split = Examples.stack([task.train for task in tasks])
    stacked = list(split.batches_from(0, 8, [Run(s, session) for s in range(3)]))
    assert [batch.inputs.shape for batch in stacked] == [(3, 8, 5), (3, 8, 5), (3, 6, 5)]
    for fit, task in enumerate(tasks):
        for many, own in zip(stacked, task.train.batches(None, 8, Run(fit, session)), strict=True):
            for name in ("inputs", "targets", "index", "weights"):
                assert torch.equal(getattr(many, name)[fit], getattr(own, name))
    whole = split.examples()
    assert torch.equal(whole.inputs[1], tasks[1].train.inputs) and whole.index is not None
    assert torch.equal(whole.index, torch.arange(22).expand(3, -1))
    rest = list(split.batches_from(2, 8, [Run(s, session) for s in range(3)]))
    assert torch.equal(rest[0].inputs, stacked[2].inputs)
    with pytest.raises(CannotGive, match="differ in shape"):
        StackedExamples([classification(n=3).train, classification(n=4).train])
