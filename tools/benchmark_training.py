"""Speed of the training loop, beside a bare PyTorch loop and beside itself: `python tools/benchmark_training.py`.

One thread, and its processor time: on a machine that others use, wall time is theirs too. What is compared runs in
turns, block by block, and medians count.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from kempeframe_standard.optimizers_gradient import Adam
from torch import nn

from kempeframe.components import FitJob
from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.task import Examples, Task
from kempeframe.trial import Session

BLOCKS = 20
FITS = 16
EXAMPLES = 2000


def network(width: int, seed: int = 0) -> nn.Module:
    """64 inputs, two hidden layers, 10 outputs."""
    torch.manual_seed(seed)
    layers = [nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)]
    return nn.Sequential(*layers)


def task(seed: int = 0) -> Task:
    """Random inputs and classes."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(EXAMPLES, 64, generator=generator)
    targets = torch.randint(0, 10, (EXAMPLES,), generator=generator)
    split = Examples(inputs, targets)
    return Task({"train": lambda: split}, (64,), (10,), classes=10)


def bare(width: int, batch_size: int, steps: int) -> None:
    """The same training, written by hand."""
    model, of = network(width), task().train.examples()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    generator = torch.Generator().manual_seed(0)
    assert of.targets is not None
    step = 0
    while step < steps:
        order = torch.randperm(EXAMPLES, generator=generator)
        for start in range(0, EXAMPLES, batch_size):
            index = order[start : start + batch_size]
            optimizer.zero_grad()
            outputs = model(of.inputs.index_select(0, index))
            loss = nn.functional.cross_entropy(outputs, of.targets.index_select(0, index))
            loss.backward()
            optimizer.step()
            step += 1
            if step == steps:
                break


def fit(session: Session, width: int, batch_size: int, steps: int, seed: int = 0) -> None:
    """One fit by the loop."""
    optimizer = Adam(steps=steps, batch_size=batch_size)
    for _ in optimizer.fit(network(width, seed), task(seed), None, Run(seed, session)):
        pass


def stack(session: Session, width: int, batch_size: int, steps: int) -> None:
    """Many fits by the loop, as one stack."""
    optimizer = Adam(steps=steps, batch_size=batch_size)
    jobs = [FitJob(optimizer, network(width, s), task(s), None, Run(s, session)) for s in range(FITS)]
    for _ in optimizer.fit_many(jobs):
        pass


def in_turns(*actions: Callable[[], object]) -> list[float]:
    """Median seconds of each, over blocks in which each runs once."""
    times: list[list[float]] = [[] for _ in actions]
    for block in range(BLOCKS + 1):
        for action, own in zip(actions, times, strict=True):
            start = time.process_time()
            action()
            if block:  # the first warms up
                own.append(time.process_time() - start)
    return [statistics.median(own) for own in times]


def line(what: str, value: str, limit: str) -> None:
    print(f"{what:<66} {value:>26}   (must: {limit})", flush=True)


def overhead(session: Session, width: int, batch_size: int, steps: int, limit: str) -> None:
    ours, theirs = in_turns(lambda: fit(session, width, batch_size, steps), lambda: bare(width, batch_size, steps))
    extra = (ours - theirs) / steps * 1e6
    value = f"{extra:+.0f} us of {theirs / steps * 1e6:.0f} us ({ours / theirs - 1:+.1%})"
    line(f"a step over a bare one, MLP 64-{width}-{width}-10, batch {batch_size}", value, limit)


def stacking(session: Session, width: int, batch_size: int, steps: int, limit: str) -> None:
    together, alone = in_turns(
        lambda: stack(session, width, batch_size, steps),
        lambda: [fit(session, width, batch_size, steps, seed) for seed in range(FITS)],
    )
    line(
        f"{FITS} fits as a stack, of the time one by one, width {width}, batch {batch_size}",
        f"{together / alone:.3f}",
        limit,
    )


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Store(Path(folder)))
        overhead(session, 32, 32, 500, "at most +60 us")
        overhead(session, 512, 256, 60, "at most +2 % from 3 ms")
        stacking(session, 32, 32, 60, "at most 0.35")
        stacking(session, 64, 64, 60, "at most 0.50")


if __name__ == "__main__":
    main()
