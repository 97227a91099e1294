"""Speed of the transformer, beside a minimal one written by hand: `python tools/benchmark_transformer.py`.

One thread. What is compared runs in turns, block by block, and medians count: a busy machine slows both sides.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from kempeframe_standard.decoder import DecoderNetwork
from kempeframe_standard.generation import generate
from kempeframe_standard.models_images import Cnn
from kempeframe_standard.models_text import Decoder, Encoder
from kempeframe_standard.optimizers_gradient import Adamw
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from kempeframe.components import Model
from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.task import Examples, Task
from kempeframe.trial import Session

TOKENS = 65
FITS = 8


# ---- the minimal one -------------------------------------------------------------------------------------------------


class MinimalBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        parts = self.qkv(self.norm1(x)).split(width, dim=2)
        q, k, v = (part.view(n, length, self.heads, width // self.heads).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).contiguous().view(n, length, width))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class MinimalDecoder(nn.Module):
    """A GPT with nothing in it that is not needed, and no cache."""

    def __init__(self, width: int, depth: int, heads: int, length: int):
        super().__init__()
        self.tokens, self.places = nn.Embedding(TOKENS, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList([MinimalBlock(width, heads) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, TOKENS, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


# ---- timing ----------------------------------------------------------------------------------------------------------


def in_turns(blocks: int, *actions: Callable[[], object]) -> list[float]:
    """Median seconds of each, over blocks in which each runs once, in an order that turns about."""
    times: list[list[float]] = [[] for _ in actions]
    for block in range(blocks + 1):
        turn = list(enumerate(actions))
        for number, action in turn if block % 2 else reversed(turn):
            start = time.perf_counter()
            action()
            if block:  # the first warms up
                times[number].append(time.perf_counter() - start)
    return [statistics.median(own) for own in times]


def line(what: str, value: str, limit: str) -> None:
    print(f"{what:<74} {value:>28}   (must: {limit})", flush=True)


def decoder(run: Run, width: int, depth: int, length: int) -> DecoderNetwork:
    """Ours, at the sizes of the minimal one."""
    task = Task({}, (length,), (length, TOKENS), classes=TOKENS)
    with run.global_seed("model"):
        network = Decoder(width=width, depth=depth).build(task, run)
    assert isinstance(network, DecoderNetwork)
    return network


def step(network: nn.Module, length: int, batch: int) -> Callable[[], object]:
    """One step of training, optimizer included."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    tokens = torch.randint(0, TOKENS, (batch, length + 1), generator=torch.Generator().manual_seed(0))
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].reshape(-1)

    def take() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(network(inputs).flatten(0, 1), targets).backward()
        optimizer.step()

    return take


def training(run: Run, width: int, depth: int, length: int, batch: int, blocks: int) -> None:
    ours, minimal = decoder(run, width, depth, length), MinimalDecoder(width, depth, 4, length)
    sizes = [sum(p.numel() for p in network.parameters()) for network in (ours, minimal)]
    assert sizes[0] == sizes[1], sizes
    mine, theirs = in_turns(blocks, step(ours, length, batch), step(minimal, length, batch))
    value = f"{mine / theirs:.3f} of {theirs * 1e3:.1f} ms"
    line(f"a training step, width {width}, depth {depth}, {length} tokens, batch {batch}", value, "at most 1.05")


def loop(run: Run, width: int, depth: int, length: int, batch: int, blocks: int) -> None:
    """The same by GradientOptimizer: batches drawn, losses by example, schedule, checkpoints, report."""
    steps = 4
    tokens = torch.randint(0, TOKENS, (steps * batch, length + 1), generator=torch.Generator().manual_seed(0))
    split = Examples(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
    task = Task({"train": lambda: split}, (length,), (length, TOKENS), classes=TOKENS)
    network, take = decoder(run, width, depth, length), step(MinimalDecoder(width, depth, 4, length), length, batch)
    optimizer = Adamw(steps=steps, batch_size=batch)
    mine, theirs = in_turns(
        blocks, lambda: list(optimizer.fit(network, task, None, run)), lambda: [take() for _ in range(steps)]
    )
    value = f"{mine / theirs:.3f} of {theirs / steps * 1e3:.1f} ms"
    line(f"the same as a fit of {steps} steps by standard.adamw, width {width}, batch {batch}", value, "at most 1.05")


def generation(run: Run, width: int, depth: int, rows: int) -> None:
    """From one token to 128, greedily."""
    network = decoder(run, width, depth, 128).eval()
    prompts = torch.randint(0, TOKENS, (rows, 1), generator=torch.Generator().manual_seed(0))

    def rerun() -> None:
        tokens = prompts
        with torch.no_grad():
            for _ in range(127):
                logits = network(tokens)[:, -1]
                tokens = torch.cat([tokens, logits.argmax(dim=1, keepdim=True)], dim=1)

    cached, whole = in_turns(5, lambda: generate(network, prompts, steps=127, temperature=0), rerun)
    value = f"{whole / cached:.1f} times ({cached / 127 * 1e3:.2f} ms a token)"
    limit = "at least 5" if rows > 1 else "-"  # a single row's token costs as much as calling its layers
    line(f"128 tokens with a cache, width {width}, depth {depth}, rows: {rows}", value, limit)


# ---- stacks of small networks ----------------------------------------------------------------------------------------


def stacking(run: Run, what: str, model: Model, task: Task, inputs: Tensor) -> None:
    """Training steps of so many fits as one stack, over the same one by one; inputs (fits, n, ...)."""
    networks = [model.build(task, run) for _ in range(FITS)]
    targets = torch.zeros(inputs.shape[:2], dtype=torch.int64)
    parameters, _ = stack_module_state(copy.deepcopy(networks))
    together = torch.optim.Adam(parameters.values(), fused=True)
    own = [torch.optim.Adam(network.parameters(), fused=True) for network in networks]
    call = vmap(lambda weights, x: functional_call(networks[0], weights, (x,)))

    def stack() -> None:
        together.zero_grad()
        outputs: Any = call(parameters, inputs)
        functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="sum").backward()
        together.step()

    def alone() -> None:
        for network, optimizer, x, y in zip(networks, own, inputs, targets, strict=True):
            optimizer.zero_grad()
            functional.cross_entropy(network(x), y, reduction="sum").backward()
            optimizer.step()

    one, many = in_turns(15, stack, alone)
    limit = "below 1" if model.stackable else "not stacked"
    line(f"{FITS} fits as a stack, of the time one by one, {what}", f"{one / many:.2f}", limit)


def stacks(run: Run) -> None:
    words = torch.randint(0, 32, (FITS, 64, 4))
    for width, heads in ((16, 2), (32, 2), (64, 4)):
        model = Encoder(vocabulary=32, width=width, heads=heads)
        stacking(run, f"encoder of width {width}, 4 tokens, batch 64", model, Task({}, (4,), (7,), classes=7), words)
    for channels, size, batch in (((4, 8), 8, 32), ((8, 16), 8, 64), ((16, 32), 8, 64), ((8, 16), 14, 64)):
        task = Task({}, (1, size, size), (10,), classes=10)
        images = torch.rand(FITS, batch, 1, size, size)
        stacking(run, f"CNN {channels}, {size} x {size} pixels, batch {batch}", Cnn(channels=channels), task, images)


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(0, Session(Store(Path(folder))))
        training(run, width=64, depth=2, length=64, batch=32, blocks=60)
        training(run, width=128, depth=4, length=128, batch=8, blocks=30)
        loop(run, width=64, depth=2, length=64, batch=32, blocks=20)
        loop(run, width=128, depth=4, length=128, batch=8, blocks=10)
        generation(run, width=64, depth=2, rows=32)
        generation(run, width=128, depth=4, rows=8)
        generation(run, width=64, depth=2, rows=1)
        stacks(run)


if __name__ == "__main__":
    main()
