"""PGD beside torchattacks and foolbox, on one network and one budget: `python tools/benchmark_attacks.py`.

Time and robust accuracy of PGD-40 on a small convolutional network for scikit-learn's digits. One thread. What is
compared runs in turns; processor time counts, and the median of its ratio to the peer's in the same turn, which a busy
machine changes least. The peers are for measuring only:

    pip install --no-deps torchattacks==3.5.1 foolbox==3.3.4 eagerpy gitpython gitdb smmap requests urllib3 \\
        charset-normalizer certifi
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import ctypes
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from operator import truediv
from pathlib import Path
from typing import Any

import foolbox
import torch
import torchattacks
from kempeframe_standard.attacks import Pgd
from sklearn.datasets import load_digits
from torch import Tensor, nn

from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.task import Batch, Task
from kempeframe.trial import Session

BLOCKS = 9
STEPS = 40
TRAINED, TESTED = 1000, 400
RADII = {"l_inf": (0.1, 0.2), "l_2": (0.75, 1.5), "l_1": (3.0, 6.0)}

Attacked = Callable[[Tensor, Tensor, int], Tensor]  # images, classes, seed


def network() -> nn.Module:
    """Two convolutions and two dense layers, 8x8 grey images, 10 classes."""
    convolutions = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*convolutions, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10))


def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """The network after 300 steps of Adam, and test images and classes; pixels in [0, 1]."""
    torch.manual_seed(0)
    images, classes = load_digits(return_X_y=True)
    order = torch.randperm(len(images))
    x = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8)[order] / 16
    y = torch.tensor(classes)[order]
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(300):
        rows = torch.randint(TRAINED, (100,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return model.eval(), x[-TESTED:].contiguous(), y[-TESTED:].contiguous()


def ours(model: nn.Module, session: Session, norm: Any, epsilon: float, **more: Any) -> Attacked:
    """Our PGD, bound to the box [0, 1]."""
    task = Task({}, (1, 8, 8), (10,), classes=10, bounds=(0.0, 1.0))
    attack = Pgd(norm=norm, epsilon=epsilon, steps=STEPS, **more).bind(task, Run(0, session))
    return lambda x, y, seed: attack.perturb(model, Batch(x, y), Run(seed, session))


def of_torchattacks(model: nn.Module, norm: str, epsilon: float, random_start: bool = True) -> Attacked:
    """PGD or PGDL2."""
    size = 2.5 * epsilon / STEPS
    kind = {"l_inf": torchattacks.PGD, "l_2": torchattacks.PGDL2}[norm]
    attack = kind(model, eps=epsilon, alpha=size, steps=STEPS, random_start=random_start)
    return lambda x, y, seed: attack(x, y)


def of_foolbox(model: nn.Module, norm: str, epsilon: float, random_start: bool = True) -> Attacked:
    """LinfPGD, L2PGD, or for l_1 its sparse descent."""
    size, attacks = 2.5 * epsilon / STEPS, foolbox.attacks
    kind = {"l_inf": attacks.LinfPGD, "l_2": attacks.L2PGD, "l_1": attacks.SparseL1DescentAttack}[norm]
    attack = kind(abs_stepsize=size, steps=STEPS, random_start=random_start)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1))
    return lambda x, y, seed: attack(wrapped, x, y, epsilons=epsilon)[1]


def in_turns(model: nn.Module, x: Tensor, y: Tensor, attacks: Mapping[str, Attacked], reference: str) -> None:
    """A line for each attack: mean robust accuracy over random starts, median time and ratio to the reference's."""
    times: dict[str, list[float]] = {name: [] for name in attacks}
    accuracies: dict[str, list[float]] = {name: [] for name in attacks}
    for block in range(BLOCKS + 1):
        for name, attack in attacks.items():
            start = time.process_time()
            attacked = attack(x, y, block)
            if block:  # the first warms up
                times[name].append(time.process_time() - start)
                accuracies[name].append(accuracy(model, attacked, y))
    for name, own in times.items():
        mean, error = statistics.mean(accuracies[name]), statistics.stdev(accuracies[name]) / BLOCKS**0.5
        seconds, ratio = statistics.median(own), statistics.median(map(truediv, own, times[reference]))
        print(f"  {name:<28} {mean:.4f} +- {error:.4f}   {seconds * 1e3:6.0f} ms   {ratio:5.3f}", flush=True)


def keep_memory() -> None:
    """Let glibc keep what is freed.

    Else the heap's layout decides by chance whether a step's large buffers are given back to the system and taken again
    at every step, which changes the time of one and the same attack by up to a tenth.
    """
    for parameter in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
        ctypes.CDLL(None).mallopt(parameter, 2**30)


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of inputs classified correctly."""
    with torch.no_grad():
        return float((model(x).argmax(dim=1) == y).double().mean())


def main() -> None:
    keep_memory()
    torch.set_num_threads(1)
    model, x, y = trained()
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Store(Path(folder)))
        print(f"PGD-{STEPS}, {len(x)} images, clean accuracy {accuracy(model, x, y):.3f}; robust accuracy, time, ratio")
        print("must: ratio to torchattacks at most 1.05 without early stopping, less with it; accuracies equal")
        for norm, radii in RADII.items():
            for epsilon in radii:
                attacks: dict[str, Attacked] = {}
                if norm != "l_1":  # which torchattacks has not
                    attacks["torchattacks"] = of_torchattacks(model, norm, epsilon)
                attacks["foolbox"] = of_foolbox(model, norm, epsilon)
                attacks["ours, last point"] = ours(model, session, norm, epsilon, keep_best=False, early_stop=False)
                attacks["ours, best point"] = ours(model, session, norm, epsilon, early_stop=False)
                attacks["ours, best, early stopping"] = ours(model, session, norm, epsilon)
                print(f"{norm}, epsilon {epsilon:g}; from the clean input, last point: ", end="")
                same = {"foolbox": of_foolbox(model, norm, epsilon, False)}
                if norm != "l_1":
                    same["torchattacks"] = of_torchattacks(model, norm, epsilon, False)
                parts = {"random_start": False, "keep_best": False, "early_stop": False}
                same["ours"] = ours(model, session, norm, epsilon, **parts)
                found = [f"{name} {accuracy(model, attack(x, y, 0), y):.4f}" for name, attack in same.items()]
                print(", ".join(found))
                in_turns(model, x, y, attacks, reference=next(iter(attacks)))


if __name__ == "__main__":
    main()
