"""Several processes, and mixed precision: the same fit but for rounding."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kempeframe_standard.optimizers_gradient import Adam, Adamw, EarlyStopping, GradientOptimizer, Sgd
from kempeframe_standard.training.accelerated import AcceleratedEngine
from torch import Tensor, nn

from kempeframe.components import FitJob
from kempeframe.runs import Run
from kempeframe.task import Task

Make = Callable[..., Any]

# 30 examples in batches of 7: neither the batches nor the last one, of 2, divide by two processes; of 29 the last is 1.
EARLY = EarlyStopping(every=5, patience=3)
CASES: dict[str, tuple[GradientOptimizer, dict[str, Any]]] = {
    "sgd": (Sgd(epochs=6, learning_rate=0.2, momentum=0.9, batch_size=7), dict(n=29)),
    "adam float32": (Adam(epochs=6, learning_rate=0.01, batch_size=7), dict(n=29, dtype="float32")),
    "weighted": (Sgd(steps=25, learning_rate=0.2, batch_size=7), dict(n=30, weights=True)),
    "accumulate": (
        Adam(steps=25, learning_rate=0.01, batch_size=3, accumulate=3, gradient_clipping=0.1),
        dict(n=30, weights=True),
    ),
    "full": (Adamw(steps=25, learning_rate=0.01, batch_size="full", schedule="cosine"), dict(n=29)),
    "log": (
        Sgd(steps=25, learning_rate=0.2, batch_size=7, loss="exponential", log_domain=True),
        dict(n=30, weights=True),
    ),
    "early": (Adam(steps=500, learning_rate=0.05, batch_size=7, early_stopping=EARLY), dict(n=30)),
    "bf16": (Adam(steps=10, learning_rate=0.01, mixed_precision="bf16"), dict(n=30, dtype="float32")),
}
SCRIPT = """
import sys, pickle, importlib.util, pathlib, torch
from torch import nn
from kempeframe.components import FitJob
from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.trial import Session

def module(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made

here, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
conftest, cases = module("conftest", here / "conftest.py"), module("cases", here / "test_accelerated.py")
session = Session(Store(out / sys.argv[3]))
session.collective = True
found = {name: cases.outcome(name, conftest.classification_task, conftest.perceptron_network, session, conftest.Memory)
         for name in cases.CASES}
found["stack"] = cases.stack_outcome(
    conftest.classification_task, conftest.perceptron_network, session, conftest.Memory)
found["resumed"] = cases.resumed_outcome(
    conftest.classification_task, conftest.perceptron_network, session, conftest.Memory, out / "checkpoint")
found |= cases.refusals(conftest.classification_task, conftest.perceptron_network, session)
torch.save(found, out / f"{sys.argv[3]}.pt")
torch.distributed.destroy_process_group()
"""


def outcome(name: str, task: Make, network: Make, session: Any, memory: Any) -> dict[str, Any]:
    """A case's last snapshot, and whether this process kept checkpoints."""
    optimizer, of = CASES[name]
    run = Run(0, session)
    run.checkpoints = memory(keep=3)
    trained = network(dtype=of.get("dtype", "float64"))
    *_, snapshot = optimizer.fit(trained, task(**of), None, run)
    kept = run.checkpoints.payload is not None
    return {"weights": snapshot.network.state_dict(), "step": snapshot.step, "kept": kept, **snapshot.certificate}


def stack_outcome(task: Make, network: Make, session: Any, memory: Any) -> dict[str, Any]:
    """The weights of a stack's fits, and whether this process kept checkpoints."""
    optimizer, checkpoints = Adam(steps=20, learning_rate=0.01), memory(keep=3)
    jobs = [FitJob(optimizer, network(seed=s), task(seed=s), None, Run(s, session)) for s in range(3)]
    for job in jobs:
        job.run.checkpoints = checkpoints
    found = {str(number): snapshot.network.state_dict() for number, snapshot in optimizer.fit_many(jobs)}
    return {**found, "kept": checkpoints.payload is not None}


def resumed_outcome(task: Make, network: Make, session: Any, memory: Any, file: Path) -> dict[str, Any]:
    """The weights of a fit that stopped at a snapshot and went on from the first process's checkpoint; and of one that
    did not stop."""
    optimizer = Adam(steps=30, learning_rate=0.01, batch_size=7, snapshots=(14,), schedule="cosine")

    def start(checkpoints: Any) -> Any:
        run = Run(0, session)
        run.checkpoints = checkpoints
        return optimizer.fit(network(dropout=0.3), task(), None, run)

    stopped = memory(keep=10)
    assert next(start(stopped)).step == 14
    if stopped.payload is not None:
        file.write_bytes(stopped.payload)
    torch.distributed.barrier()
    again = memory()
    again.payload = file.read_bytes()
    (*_, resumed), (*_, whole) = start(again), start(memory())
    return {"resumed": resumed.network.state_dict(), "whole": whole.network.state_dict()}


def refusals(task: Make, network: Make, session: Any) -> dict[str, str]:
    """What is said of batch norm, and of a loss that is nan on one process alone."""
    said = {}
    normed = nn.Sequential(network(), nn.BatchNorm1d(3).double())
    bad = task(n=4)
    bad.train.inputs[0] = torch.nan
    for name, given, of in (("norm", normed, task()), ("nan", network(), bad)):
        try:
            list(Sgd(steps=3, batch_size="full").fit(given, of, None, Run(0, session)))
        except Exception as error:
            said[name] = f"{type(error).__name__}: {error}"
    return said


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes finds, started as Accelerate's launcher starts them."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "script.py").write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        world = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=2, LOCAL_WORLD_SIZE=2, MASTER_ADDR="127.0.0.1")
        world |= dict(MASTER_PORT=port, ACCELERATE_USE_CPU="true", OMP_NUM_THREADS=1)
        command = [sys.executable, str(folder / "script.py"), str(Path(__file__).parent), str(folder), str(rank)]
        environment = {**os.environ, **{key: str(value) for key, value in world.items()}}
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_are_one(
    name: str, two_processes: list[dict[str, Any]], classification: Make, perceptron: Make, session: Any, memory: Any
) -> None:
    one = outcome(name, classification, perceptron, session, memory)
    tolerance = {"adam float32": 1e-5, "bf16": 1e-2}.get(name, 1e-12)
    for found in (two_processes[0][name], two_processes[1][name]):
        assert found["step"] == one["step"]
        assert found["training_loss"] == pytest.approx(one["training_loss"], rel=100 * tolerance)
        for key, tensor in one["weights"].items():
            torch.testing.assert_close(found["weights"][key], tensor, rtol=tolerance, atol=tolerance)
            assert torch.equal(found["weights"][key], two_processes[0][name]["weights"][key])
    assert [found[name]["kept"] for found in two_processes] == [True, False]  # the first keeps the checkpoints


def test_all_processes_go_on_from_the_first_ones_checkpoint(two_processes: list[dict[str, Any]]) -> None:
    """To the same bits, dropout included, which each process draws for its share."""
    for process in two_processes:
        found = process["resumed"]
        assert all(torch.equal(found["resumed"][key], tensor) for key, tensor in found["whole"].items())


def test_each_process_computes_a_stack_for_itself(
    two_processes: list[dict[str, Any]], classification: Make, perceptron: Make, session: Any, memory: Any
) -> None:
    one = stack_outcome(classification, perceptron, session, memory)
    for rank, process in enumerate(two_processes):
        found = process["stack"]
        assert found.pop("kept") == (rank == 0)
        for fit, weights in found.items():
            assert all(torch.equal(weights[key], tensor) for key, tensor in one[fit].items())


def test_what_would_depend_on_the_number_of_processes_is_refused(two_processes: list[dict[str, Any]]) -> None:
    for found in two_processes:
        assert found["norm"].startswith("ValueError: 1 is a BatchNorm1d: each process would take the statistics")
        assert found["nan"] == "DivergedError: step 1: the loss is nan"


# ---- mixed precision -----------------------------------------------------------------------------------------------


def fit(mixed_precision: Any, task: Task, network: nn.Module, session: Any) -> Tensor:
    optimizer = Adam(steps=40, learning_rate=0.02, mixed_precision=mixed_precision, gradient_clipping=1.0)
    *_, snapshot = optimizer.fit(network, task, None, Run(0, session))
    return torch.cat([p.detach().flatten() for p in snapshot.network.parameters()])


def test_mixed_precision_computes_in_bfloat16_and_keeps_float32(
    classification: Make, perceptron: Make, session: Any
) -> None:
    task = classification(dtype="float32")
    network = perceptron(dtype="float32")
    mixed, plain = fit("bf16", task, network, session), fit("no", task, perceptron(dtype="float32"), session)
    assert mixed.dtype == torch.float32
    assert 0 < (mixed - plain).abs().max() < 0.1
    # Evaluators see the network as it is built, and not as it was trained.
    other = perceptron(dtype="float32", seed=9)
    other.load_state_dict(network.state_dict())
    inputs = task.test.examples().inputs
    assert torch.equal(other(inputs), network(inputs))
    assert list(network.__dict__) == list(other.__dict__)


def test_fits_of_one_process_may_differ_in_precision(classification: Make, perceptron: Make, session: Any) -> None:
    task = classification(dtype="float32")
    first = fit("bf16", task, perceptron(dtype="float32"), session)
    job = FitJob(Sgd(steps=1), perceptron(dtype="float32"), task, None, Run(0, session))
    assert AcceleratedEngine(job).accelerator.mixed_precision == "no"
    assert torch.equal(first, fit("bf16", task, perceptron(dtype="float32"), session))


def test_float16_needs_a_gpu(classification: Make, perceptron: Make, session: Any) -> None:
    with pytest.raises(ValueError, match="needs a GPU"):
        fit("fp16", classification(dtype="float32"), perceptron(dtype="float32"), session)


@pytest.mark.parametrize("moment", [1, 13, 39])
def test_an_interruption_changes_no_bit_in_mixed_precision(
    moment: int, classification: Make, perceptron: Make, session: Any, memory: Any, interrupted: type[Exception]
) -> None:
    task = classification(dtype="float32")
    optimizer = Adam(steps=40, learning_rate=0.02, mixed_precision="bf16", batch_size=8)

    def start(checkpoints: Any) -> Tensor:
        run, network = Run(0, session), perceptron(dtype="float32", dropout=0.2)
        run.checkpoints = checkpoints
        list(optimizer.fit(network, task, None, run))
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    killed = memory(interrupt=moment)
    with pytest.raises(interrupted):
        start(killed)
    assert torch.equal(start(killed.again()), start(memory()))
