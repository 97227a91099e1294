"""Speed of steepest descent beside torch's optimizers, and of a stack of seeds: `tools/benchmark_flavors_of_margin.py`.

1 M float32 parameters in four tensors, one thread, processor time. What is compared runs in turns, block by block in
one process, and medians count.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from kempeframe_flavors_of_margin.models import TwoLayer
from kempeframe_flavors_of_margin.optimizers import CoordinateDescent, NormalizedGradientDescent, SignDescent
from kempeframe_flavors_of_margin.steepest import SteepestDescent
from kempeframe_standard.data_generated import TeacherStudent
from torch import nn

from kempeframe.components import FitJob
from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.trial import Session

SHAPES = ((512, 512),) * 4
BLOCKS, STEPS = 60, 10
SEEDS = 10
DATA = TeacherStudent(dimension=20, n_train=50, n_test=10, teacher="two_layer", active=2, outputs=1)


def stepper(make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> Callable[[], None]:
    """Takes STEPS steps of an optimizer on gradients of its own."""
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    gradients = [torch.randn(shape, generator=generator) for shape in SHAPES]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer = make(parameters)

    def steps() -> None:
        for _ in range(STEPS):
            optimizer.step()

    return steps


def in_turns(actions: dict[str, Callable[[], object]], blocks: int) -> dict[str, float]:
    """Median seconds of each, over blocks in which each runs once."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for block in range(blocks + 1):
        for name, action in actions.items():
            start = time.process_time()
            action()
            if block:  # the first warms up
                times[name].append(time.process_time() - start)
    return {name: statistics.median(own) for name, own in times.items()}


def steepest(**options: Any) -> Callable[[list[nn.Parameter]], torch.optim.Optimizer]:
    return lambda parameters: SteepestDescent(parameters, 1e-9, **options)


LIMITS = {
    "sign descent, gradients spent": "at most 1.7, below Adam",
    "sign descent, gradients kept": "",
    "l_2, unit steps": "at most 2.0, below Adam",
    "l_2, dual steps": "",
    "coordinate descent": "at most 3.0, below Adam",
    "l_3": "at most 8.0",
    "l_4, by logarithms": "",
    "spectral, Newton-Schulz": "",
    "torch.optim.Adam": "",
    "torch.optim.Adam, fused": "",
}


def optimizers() -> None:
    made = {
        "torch.optim.SGD": lambda p: torch.optim.SGD(p, lr=1e-9),
        "torch.optim.Adam": lambda p: torch.optim.Adam(p, lr=1e-9),
        "torch.optim.Adam, fused": lambda p: torch.optim.Adam(p, lr=1e-9, fused=True),
        "sign descent, gradients spent": steepest(norm="l_inf", spend_gradients=True),
        "sign descent, gradients kept": steepest(norm="l_inf"),
        "l_2, unit steps": steepest(norm="l_2"),
        "l_2, dual steps": steepest(norm="l_2", step="dual"),
        "coordinate descent": steepest(norm="l_1"),
        "l_3": steepest(norm=3.0),
        "l_4, by logarithms": steepest(norm=4.0),
        "spectral, Newton-Schulz": steepest(norm="spectral", scope="max", orthogonalization="newton_schulz"),
    }
    found = in_turns({name: stepper(make) for name, make in made.items()}, BLOCKS)
    base = found["torch.optim.SGD"]
    print(f"torch.optim.SGD: {base / STEPS * 1e6:.0f} us a step; times of it")
    for name, limit in LIMITS.items():
        print(f"  {name:<34} {found[name] / base:6.2f}   {f'(must: {limit})' if limit else ''}")


def stacks() -> None:
    """Ten seeds of the two-layer network (width 50, 50 examples, 20 features), as one stack and one by one."""
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Store(Path(folder)))

        def jobs(optimizer: Any) -> list[FitJob]:
            runs = [Run(seed, session) for seed in range(SEEDS)]
            tasks = [DATA.load(run) for run in runs]
            models = [TwoLayer().build(task, run) for task, run in zip(tasks, runs, strict=True)]
            return [FitJob(optimizer, m, task, None, run) for m, task, run in zip(models, tasks, runs, strict=True)]

        for optimizer in (
            SignDescent(steps=60, learning_rate=1e-3),
            NormalizedGradientDescent(steps=60, learning_rate=1e-2),
            CoordinateDescent(steps=60, learning_rate=5e-3),
        ):

            def together(optimizer: Any = optimizer) -> None:
                list(optimizer.fit_many(jobs(optimizer)))

            def alone(optimizer: Any = optimizer) -> None:
                for job in jobs(optimizer):
                    list(optimizer.fit(job.network, job.task, None, job.run))

            found = in_turns({"together": together, "alone": alone}, 15)
            name = type(optimizer).__name__
            print(f"  {name:<34} {found['together'] / found['alone']:6.3f}   (must: at most 0.35)")


def main() -> None:
    torch.set_num_threads(1)
    optimizers()
    print(f"{SEEDS} seeds of the two-layer network as one stack, of the time one by one")
    stacks()


if __name__ == "__main__":
    main()
