"""Gradient descent: what it converges to, what a step minimises, what a fit leaves alone and says of itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from kempeframe_standard.networks import Readout
from kempeframe_standard.optimizers import Ridge
from kempeframe_standard.optimizers_gradient import Adam, Adamw, EarlyStopping, GradientOptimizer, Sgd, Spaced
from kempeframe_standard.training import DivergedError
from torch import Tensor, nn

from kempeframe import Attack, component
from kempeframe.runs import Run
from kempeframe.task import Batch, CannotGive, Examples, Snapshot, Split, Task

Make = Callable[..., Any]


def last(
    optimizer: GradientOptimizer, network: nn.Module, task: Task, run: Run, attack: Attack | None = None
) -> Snapshot:
    *_, snapshot = optimizer.fit(network, task, attack, run)
    return snapshot


def weights(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def task_of(examples: Split, inputs: int = 5, outputs: int = 3, **more: Any) -> Task:
    return Task({"train": lambda: examples}, (inputs,), (outputs,), dtype=torch.float64, **more)


# ---- what it converges to ------------------------------------------------------------------------------------------


@component
class Lbfgs(GradientOptimizer):
    """Calls its closure many times a step."""

    elementwise = False

    def torch_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(
            parameters, lr=self.learning_rate, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
        )


@pytest.mark.parametrize(
    "optimizer",
    [
        # sum_k |w_k|^2 has the gradient 2 w: torch's weight decay of 2 lambda is a ridge penalty of lambda.
        Sgd(loss="squared", batch_size="full", steps=3000, learning_rate=0.1, weight_decay=0.2),
        Sgd(loss="squared", batch_size="full", steps=400, learning_rate=0.1, weight_decay=0.2, momentum=0.8),
        Lbfgs(loss="squared", batch_size="full", steps=20, learning_rate=1.0),
    ],
    ids=["descent", "momentum", "lbfgs"],
)
def test_gradient_descent_on_the_squared_loss_is_ridge(
    optimizer: GradientOptimizer, classification: Make, run: Run
) -> None:
    task = classification(weights=False)
    penalty = 0.0 if isinstance(optimizer, Lbfgs) else 0.1
    *_, ridge = Ridge(penalty=penalty).fit(Readout(5, 3, torch.float64), task, None, run)
    found = last(optimizer, Readout(5, 3, torch.float64), task, run)
    torch.testing.assert_close(weights(found.network), weights(ridge.network), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("make", [Sgd, Adam, Adamw])
def test_a_step_is_torchs_own(make: type[GradientOptimizer], classification: Make, perceptron: Make, run: Run) -> None:
    task, found, bare = classification(), perceptron(), perceptron()
    optimizer = make(steps=30, batch_size=16, learning_rate=0.05)
    last(optimizer, found, task, run)
    torch_optimizer = getattr(torch.optim, {"Sgd": "SGD", "Adamw": "AdamW"}.get(make.__name__, "Adam"))
    reference = torch_optimizer(bare.parameters(), lr=0.05)
    batch, generator, done = task.train.examples(), Run(0, run.session).generator("data"), 0
    while done < 30:
        order = torch.randperm(40, generator=generator)
        for index in order.split(16)[: 30 - done]:
            reference.zero_grad()
            nn.functional.cross_entropy(bare(batch.inputs[index]), batch.targets[index]).backward()
            reference.step()
            done += 1
    torch.testing.assert_close(weights(found), weights(bare), rtol=1e-12, atol=1e-12)


def test_the_learning_rate_follows_its_schedule(classification: Make, run: Run) -> None:
    """On the linear loss -w, a step of gradient descent is the learning rate."""

    class Slope(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))

        def forward(self, inputs: Tensor) -> Tensor:
            return self.weight.expand(len(inputs), 1)

    examples = Examples(torch.zeros(4, 1), torch.full((4,), 1))
    steps = tuple(range(8))
    optimizer = Sgd(
        loss="hinge", steps=8, learning_rate=1e-3, batch_size="full", schedule="cosine", warmup_steps=3, snapshots=steps
    )
    path = [
        float(snapshot.network.weight.detach())  # type: ignore[arg-type]
        for snapshot in optimizer.fit(Slope(), task_of(examples, 1, 1), None, run)
    ]
    moves = [b - a for a, b in itertools.pairwise(path)]
    assert moves == pytest.approx([1e-3 * optimizer.rate_factor(step, 8) for step in range(8)])


# ---- what a step minimises -----------------------------------------------------------------------------------------


def test_weighted_examples_are_repeated_examples(classification: Make, perceptron: Make, run: Run) -> None:
    batch = classification(n=12).train.examples()
    counts = torch.tensor([1, 2, 3, 0] * 3)
    weighted = task_of(Examples(batch.inputs, batch.targets, counts.double()))
    repeated = task_of(Examples(batch.inputs.repeat_interleave(counts, 0), batch.targets.repeat_interleave(counts)))
    one, two = perceptron(), perceptron()
    optimizer = Sgd(steps=20, batch_size="full", learning_rate=0.5)
    first, second = last(optimizer, one, weighted, run), last(optimizer, two, repeated, run)
    torch.testing.assert_close(weights(one), weights(two))
    assert first.certificate["training_loss"] == pytest.approx(second.certificate["training_loss"])


@pytest.mark.parametrize("weighted", [False, True])
def test_accumulated_batches_are_one_batch(
    weighted: bool, classification: Make, perceptron: Make, session: Any
) -> None:
    """Also at the end of a pass: 42 examples are 10 batches of 4 and one of 2, which steps of four do not divide."""
    task = classification(n=42, weights=weighted)
    many, one = perceptron(), perceptron()
    common = dict(epochs=3, learning_rate=0.3, momentum=0.5)
    a = last(Sgd(batch_size=4, accumulate=4, **common), many, task, Run(0, session))  # type: ignore[arg-type]
    b = last(Sgd(batch_size=16, **common), one, task, Run(0, session))  # type: ignore[arg-type]
    assert a.step == b.step == 9
    torch.testing.assert_close(weights(many), weights(one))
    assert a.certificate["training_loss"] == pytest.approx(b.certificate["training_loss"])


def test_a_batch_whose_weights_are_all_zero_moves_nothing(classification: Make, perceptron: Make, run: Run) -> None:
    batch = classification().train.examples()
    network = perceptron()
    before = weights(network)
    last(Sgd(steps=5), network, task_of(Examples(batch.inputs, batch.targets, torch.zeros(40))), run)
    assert torch.equal(weights(network), before)


def test_clipping_bounds_the_norm_of_the_gradient(classification: Make, perceptron: Make, run: Run) -> None:
    free, clipped = perceptron(), perceptron()
    start, task = weights(free), classification()
    last(Sgd(steps=1, learning_rate=1.0, batch_size="full"), free, task, run)
    last(Sgd(steps=1, learning_rate=1.0, batch_size="full", gradient_clipping=1e-3), clipped, task, run)
    move, bounded = weights(free) - start, weights(clipped) - start
    assert move.norm() > 0.1
    torch.testing.assert_close(bounded, move * 1e-3 / move.norm(), rtol=1e-4, atol=0)


def test_epochs_are_passes_over_all_examples(classification: Make, perceptron: Make, run: Run) -> None:
    assert last(Adam(epochs=3, batch_size=16), perceptron(), classification(), run).step == 9
    assert last(Adam(epochs=3, batch_size="full"), perceptron(), classification(), run).step == 3
    assert last(Adam(epochs=2, batch_size=16, accumulate=2), perceptron(), classification(), run).step == 4


class Stream(Split):
    """Endless."""

    def batches(self, network: nn.Module | None, batch_size: int, run: Run) -> Iterator[Batch]:
        while True:
            inputs = torch.randn(batch_size, 5, generator=run.generator("data"), dtype=torch.float64)
            yield Batch(inputs, (inputs[:, 0] > 0).long())


def test_a_stream_goes_on_for_steps_and_has_no_epochs(perceptron: Make, run: Run) -> None:
    assert last(Adam(steps=7), perceptron(), task_of(Stream()), run).step == 7
    with pytest.raises(CannotGive, match="Stream is not: give steps"):
        last(Adam(epochs=1), perceptron(), task_of(Stream()), run)


def test_an_empty_split_is_refused(perceptron: Make, run: Run) -> None:
    empty = Examples(torch.zeros(0, 5, dtype=torch.float64), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(CannotGive, match="no batch"):
        last(Adam(steps=1), perceptron(), task_of(empty), run)


# ---- adversarial training ------------------------------------------------------------------------------------------


@component
class Shift(Attack):
    """Moves every input by one, against the sign of nothing: a toy."""

    def perturb(self, network: nn.Module, batch: Batch, run: Run) -> Tensor:
        assert network.training
        return batch.inputs + 1


def test_adversarial_training_is_training_on_perturbed_inputs(
    classification: Make, perceptron: Make, session: Any
) -> None:
    batch, attacked, shifted = classification().train.examples(), perceptron(), perceptron()
    optimizer = Adam(steps=20, adversarial=True, accumulate=2, batch_size=8)
    assert optimizer.uses_attack and not Adam(steps=20).uses_attack
    last(optimizer, attacked, task_of(Examples(batch.inputs, batch.targets)), Run(0, session), Shift())
    clean = Adam(steps=20, accumulate=2, batch_size=8)
    last(clean, shifted, task_of(Examples(batch.inputs + 1, batch.targets)), Run(0, session), Shift())
    assert torch.equal(weights(attacked), weights(shifted))
    with pytest.raises(ValueError, match=r"no \[attack\] to train against"):
        last(optimizer, attacked, task_of(Examples(batch.inputs, batch.targets)), Run(0, session))


# ---- what it leaves alone ------------------------------------------------------------------------------------------


def test_frozen_parameters_stay_what_they_are(classification: Make, perceptron: Make, run: Run) -> None:
    network = perceptron()
    network[0].requires_grad_(False)
    before = weights(network[0])
    last(Adamw(steps=10, learning_rate=0.1), network, classification(), run)
    assert torch.equal(weights(network[0]), before)
    assert all(p.grad is None for p in network.parameters())
    network.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter to train"):
        last(Adam(steps=1), network, classification(), run)


def test_the_callers_random_numbers_are_left_alone(classification: Make, perceptron: Make, run: Run) -> None:
    network = perceptron(dropout=0.5)
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    fit = Adam(steps=4, snapshots=(0, 2)).fit(network, classification(), None, run)
    assert next(fit).step == 0
    assert torch.rand(1) == expected[0]
    assert [snapshot.step for snapshot in fit] == [2, 4]
    assert torch.rand(1) == expected[1]


def test_looking_at_snapshots_changes_nothing(classification: Make, perceptron: Make, session: Any) -> None:
    """Dropout, batch norm and their modes included."""
    plain, watched = (
        nn.Sequential(perceptron(dropout=0.3, outputs=4), nn.BatchNorm1d(4), nn.Linear(4, 3)).double() for _ in range(2)
    )
    watched.load_state_dict(plain.state_dict())
    optimizer = Adam(steps=12, learning_rate=0.1)
    last(optimizer, plain, classification(), Run(0, session))
    seen = []
    for snapshot in Adam(steps=12, learning_rate=0.1, snapshots=Spaced(linear=(0, 50), points=11)).fit(
        watched, classification(), None, Run(0, session)
    ):
        assert not any(module.training for module in snapshot.network.modules())
        torch.rand(3), snapshot.network(torch.randn(2, 5, dtype=torch.float64))
        seen.append(snapshot.step)
    assert seen == [0, 5, 10, 12]
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, watched.state_dict()[name])


# ---- what it says of itself ----------------------------------------------------------------------------------------


def test_the_certificate_is_of_the_last_snapshot(classification: Make, perceptron: Make, run: Run) -> None:
    optimizer = Adam(steps=6, snapshots=(0, 3), batch_size="full")
    assert optimizer.trajectory and not Adam(steps=6).trajectory
    network, task = perceptron(), classification()
    found = [dict(snapshot.certificate) for snapshot in optimizer.fit(network, task, None, run)]
    assert found[0] == {"converged": False}
    assert [one["converged"] for one in found] == [False, False, True]
    assert found[2]["training_loss"] < found[1]["training_loss"]


def test_a_loss_that_is_not_finite_ends_the_fit(run: Run) -> None:
    examples = Examples(torch.ones(4, 1, dtype=torch.float64), torch.ones(4, 1, dtype=torch.float64))
    task = task_of(examples, 1, 1)
    optimizer = Sgd(loss="squared", steps=10_000, learning_rate=1e20, batch_size="full")
    with pytest.raises(
        DivergedError, match=r"^step 9: the loss is inf; the last finite loss was 1.6384e\+284 at step 8$"
    ):
        last(optimizer, Readout(1, 1, torch.float64), task, run)
    bad = task_of(Examples(torch.full((4, 1), torch.nan, dtype=torch.float64), torch.ones(4, 1)), 1, 1)
    with pytest.raises(DivergedError, match=r"^step 1: the loss is nan$"):
        last(optimizer, Readout(1, 1, torch.float64), bad, run)


def test_long_fits_report_their_loss_now_and_then(
    classification: Make, perceptron: Make, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[tuple[int, dict[str, float]]] = []
    run.session.report = lambda step, metrics: reports.append((step, dict(metrics)))
    last(Adam(steps=50), perceptron(), classification(), run)
    few = len(reports)
    monkeypatch.setattr("kempeframe_standard.training.loop.REPORT_SECONDS", 0.0)
    last(Adam(steps=50, schedule="linear"), perceptron(), classification(), run)
    assert few <= 5 and len(reports) == few + 50
    step, metrics = reports[-1]
    assert step == 50 and metrics["learning_rate"] == pytest.approx(1e-3 / 50) and metrics["loss"] > 0


# ---- early stopping ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_early_stopping_gives_the_best_weights(
    metric: str, classification: Make, perceptron: Make, session: Any
) -> None:
    """The same fit, looked at by hand."""
    task = classification(n=20)
    validation = task.split("validation").examples()
    rule = EarlyStopping(metric=metric, every=5, patience=3)  # type: ignore[arg-type]
    common = dict(steps=1000, learning_rate=0.05, batch_size=8)
    path = {}
    every = tuple(range(5, 1000, 5))
    for snapshot in Adam(snapshots=every, **common).fit(perceptron(), task, None, Run(0, session)):  # type: ignore[arg-type]
        with torch.no_grad():
            outputs = snapshot.network(validation.inputs)
        value = nn.functional.cross_entropy(outputs, validation.targets)
        if metric == "accuracy":
            value = -(outputs.argmax(dim=1) == validation.targets).double().mean()
        path[snapshot.step] = float(value), weights(snapshot.network)
    best, since = 5, 0
    for step, (value, _) in path.items():
        if step > 5:
            best, since = (step, 0) if value < path[best][0] else (best, since + 1)
        if since == 3:
            break
    assert best + 15 < 1000  # it did stop early
    found = last(Adam(early_stopping=rule, **common), perceptron(), task, Run(0, session))  # type: ignore[arg-type]
    assert found.step == best
    assert torch.equal(weights(found.network), path[best][1])
    assert found.certificate["converged"] is True


def test_early_stopping_needs_a_validation_split(perceptron: Make, run: Run) -> None:
    task = task_of(Stream())
    with pytest.raises(CannotGive, match="no validation split"):
        last(Adam(steps=2, early_stopping=EarlyStopping(every=1, patience=1)), perceptron(), task, run)


def test_only_subclasses_have_a_torch_optimizer(classification: Make, perceptron: Make, run: Run) -> None:
    with pytest.raises(NotImplementedError):
        last(GradientOptimizer(steps=1), perceptron(), classification(), run)
