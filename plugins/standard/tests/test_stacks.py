"""A stack of fits gives each fit what it would have got alone, up to rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from kempeframe_standard.layers import affine
from kempeframe_standard.models_text import Encoder, EncoderDecoder
from kempeframe_standard.networks import ReluFeatures
from kempeframe_standard.optimizers_gradient import Adam, Adamw, EarlyStopping, GradientOptimizer, Sgd
from kempeframe_standard.training import DivergedError
from kempeframe_standard.training.many import partition
from kempeframe_standard.training.stacks import folds
from torch import Tensor, nn

from kempeframe import component
from kempeframe.components import FitJob
from kempeframe.runs import Run
from kempeframe.task import Batch, CannotGive, Examples, Snapshot, Split, StackedExamples, Task

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


FOLDING: dict[str, Any] = {
    "pre": {},
    "post": {"norm_position": "post", "activation": "relu", "init_scale": "fan_in"},
    "rms, rotary, no bias": {"norm": "rms", "positions": "rotary", "bias": False},
    "padded": {"pad": 5},
}
TOKENS = 6


def sequences(seed: int, decoder: bool, n: int = 30) -> Task:
    """Random tokens with a class, or with answers of two tokens."""
    rng = np.random.default_rng(seed)
    inputs = torch.tensor(rng.integers(0, TOKENS, (n, 5)))
    inputs[:, 0] = 0
    targets = torch.tensor(rng.integers(0, TOKENS, (n, 2) if decoder else (n,)))
    split = Examples(inputs, targets)
    shape = (2, TOKENS) if decoder else (TOKENS,)
    return Task({"train": lambda: split}, (5,), shape, dtype=torch.float64, classes=TOKENS)


@pytest.mark.parametrize("decoder", [False, True], ids=["encoder", "encoder-decoder"])
@pytest.mark.parametrize("name", FOLDING)
def test_transformers_whose_layers_take_stacked_weights_train_as_alone(name: str, decoder: bool, session: Any) -> None:
    """Their own forward pass, fused kernels and all; each fit's gradient is clipped by its own norm."""
    model: Any = EncoderDecoder(width=8, heads=2, tie_embeddings=True, output_bias=True, **FOLDING[name])
    if not decoder:
        model = Encoder(width=8, heads=2, vocabulary=TOKENS, **FOLDING[name])
    optimizer = Adam(steps=30, learning_rate=0.02, batch_size=8, gradient_clipping=0.3)

    def jobs() -> list[FitJob]:
        tasks, networks = [sequences(seed, decoder) for seed in range(3)], []
        for seed, task in enumerate(tasks):
            torch.manual_seed(seed)
            networks.append(model.build(task, Run(seed, session)))
        return jobs_of(optimizer, tasks, networks, session)

    assert folds(jobs()) and partition(jobs()) == [[0, 1, 2]]
    assert_same(together(jobs()), alone(jobs()), tolerance=1e-9)


def test_frozen_layers_and_members_that_end_early_in_a_stack_of_transformers(session: Any) -> None:
    optimizer = Adam(steps=60, learning_rate=0.02, early_stopping=EarlyStopping(every=5, patience=2))

    def jobs() -> list[FitJob]:
        made = []
        for seed in range(4):
            task = sequences(seed, False)
            task.splits = {**task.splits, "validation": sequences(seed + 10, False).splits["train"]}
            torch.manual_seed(seed)
            network = Encoder(width=8, heads=2, vocabulary=TOKENS).build(task, Run(seed, session))
            network.stack.tokens.weight.requires_grad_(False)
            made.append(FitJob(optimizer, network, task, None, Run(seed, session)))
        return made

    assert folds(jobs()) and partition(jobs()) == [[0, 1, 2, 3]]
    found = together(jobs())
    assert len({snapshot.step for snapshot in found.values()}) > 1
    assert_same(found, alone(jobs()), tolerance=1e-9)


def test_a_batched_layer_has_the_derivatives_of_its_formula() -> None:
    torch.manual_seed(0)
    shapes = [(6, 4, 3), (2, 5, 3), (2, 5)]
    rows, weight, bias = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    assert torch.autograd.gradcheck(affine, (rows, weight, bias))
    found = affine(rows, weight, bias)
    for fit in range(2):
        part = slice(3 * fit, 3 * fit + 3)
        torch.testing.assert_close(found[part], nn.functional.linear(rows[part], weight[fit], bias[fit]))


class Stream(Split):
    """Endless batches, each fit's from its own generator."""

    @property
    def form(self) -> object:
        return "stream of 5 inputs"

    def batches(self, network: Any, batch_size: int, run: Run) -> Iterator[Batch]:
        while True:
            inputs = torch.randn(batch_size, 5, generator=run.generator("data"), dtype=torch.float64)
            yield Batch(inputs, (inputs.sum(dim=1) > 0).long())


def test_streams_are_stacked_batch_by_batch_and_go_on_to_the_same_bits(
    perceptron: Make, session: Any, memory: Any, interrupted: type[Exception]
) -> None:
    task = Task({"train": Stream}, (5,), (3,), dtype=torch.float64, classes=3)
    optimizer = Sgd(steps=40, learning_rate=0.1, batch_size=8)

    def jobs(checkpoints: Any = None) -> list[FitJob]:
        made = jobs_of(optimizer, [task] * 3, [perceptron(seed=s) for s in range(3)], session)
        for job in made:
            job.run.checkpoints = checkpoints or job.run.checkpoints
        return made

    assert partition(jobs()) == [[0, 1, 2]]
    whole = together(jobs())
    assert_same(whole, alone(jobs()))
    killed = memory(interrupt=25)
    with pytest.raises(interrupted):
        together(jobs(killed))
    assert_same(together(jobs(killed.again())), whole, tolerance=0)
