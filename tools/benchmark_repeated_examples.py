"""Speed of repeated examples, as ratios in one process: `python tools/benchmark_repeated_examples.py`.

One thread, and its processor time: on a machine that others use, wall time is theirs too. What is compared runs in
turns, block by block, and medians count. With INT2INT set to a checkout of github.com/f-charton/Int2Int, the authors'
code, its trainer is compared on the CPU; else PyTorch's nn.Transformer stands in for it.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from kempeframe_repeated_examples.data import Gcd, ModularMultiplication
from kempeframe_repeated_examples.models import CompactEncoder, Seq2seqTransformer
from kempeframe_standard.optimizers_gradient import Adam, Adamw
from torch import Tensor, nn
from torch.nn import functional

from kempeframe.components import FitJob, Model
from kempeframe.registry import Registry
from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.trial import Session

BLOCKS = 7
FITS = 8
SIZE = 64  # of a batch
PRODUCTS: dict[str, Any] = dict(modulus=7, minimum=0, maximum=1023, base=32, fixed_width=True, answer="class")
ARMS: list[dict[str, Any]] = [{}, {"data_budget": 10_000}, {"small_set": 2500, "small_set_probability": 0.5}]


def in_turns(*actions: Callable[[], object]) -> list[float]:
    """Median processor seconds of each, over blocks in which each runs once."""
    times: list[list[float]] = [[] for _ in actions]
    for block in range(BLOCKS + 1):
        for action, own in zip(actions, times, strict=True):
            start = time.process_time()
            action()
            if block:  # the first warms up
                own.append(time.process_time() - start)
    return [statistics.median(own) for own in times]


def line(what: str, value: str, must: str = "") -> None:
    print(f"{what:<72} {value:>34}" + (f"   (must: {must})" if must else ""), flush=True)


def jobs(session: Session, model: Model, steps: int) -> list[FitJob]:
    """Eight fits of the default spec's arms."""
    optimizer = Adamw(steps=steps, batch_size=SIZE, learning_rate=1e-3, warmup_steps=200, weight_decay=0.0)
    made = []
    for seed in range(FITS):
        data, run = ModularMultiplication(**PRODUCTS, **ARMS[seed % len(ARMS)]), Run(seed, session)
        task = session.task(data, run)
        with run.global_seed("model"):
            made.append(FitJob(optimizer, model.build(task, run), task, None, run))
    return made


def stacking(session: Session, width: int, heads: int, steps: int, must: str) -> None:
    model = CompactEncoder(width=width, heads=heads)

    def together() -> None:
        made = jobs(session, model, steps)
        list(made[0].optimizer.fit_many(made))

    def alone() -> None:
        for job in jobs(session, model, steps):
            list(job.optimizer.fit(job.network, job.task, None, job.run))

    stacked, separate = in_turns(together, alone)
    per = 1000 / FITS / steps
    value = f"{separate / stacked:.2f} x ({separate * per:.2f} -> {stacked * per:.2f} ms)"
    line(f"examples/s of {FITS} fits as a stack over one by one, width {width}, {heads} heads", value, must)


def data_share(session: Session, steps: int) -> None:
    """Drawing alone, as a share of a training step that draws."""
    model = CompactEncoder()

    def draw() -> None:
        for job in jobs(session, model, steps):
            for _ in itertools.islice(job.task.train.batches(None, SIZE, job.run), steps):
                pass

    def build() -> None:
        jobs(session, model, steps)

    def train() -> None:
        made = jobs(session, model, steps)
        list(made[0].optimizer.fit_many(made))

    drawn, built, stacked = in_turns(draw, build, train)
    examples = FITS * steps * SIZE
    value = f"{(drawn - built) / (stacked - built):.1%} ({(drawn - built) / examples * 1e9:.0f} ns an example)"
    line("drawing data, of the time of a stack at width 64", value, "at most 4 %")


def overhead(session: Session, steps: int) -> None:
    """One fit by the loop over a loop by hand, of the same network on the same batches."""
    model = CompactEncoder()

    def ours() -> None:
        job = jobs(session, model, steps)[0]
        list(job.optimizer.fit(job.network, job.task, None, job.run))

    def by_hand() -> None:
        job = jobs(session, model, steps)[0]
        network, batches = job.network, job.task.train.batches(None, SIZE, job.run)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
        for step, batch in enumerate(itertools.islice(batches, steps)):
            optimizer.param_groups[0]["lr"] = 1e-3 * min(1.0, (step + 1) / 200)
            optimizer.zero_grad()
            assert batch.targets is not None
            functional.cross_entropy(network(batch.inputs), batch.targets).backward()
            optimizer.step()

    loop, hand = in_turns(ours, by_hand)
    line("a step of the loop over one by hand, width 64", f"{loop / hand:.3f} x", "at most 1.1 x")


class Plain(nn.Module):
    """PyTorch's encoder-decoder, with embeddings and positions."""

    def __init__(self, task: Any, width: int, layers: tuple[int, int]):
        super().__init__()
        layout = task.truth.layout
        self.source = layout.source
        self.words = nn.ModuleList(nn.Embedding(len(layout.vocabulary), width) for _ in range(2))
        self.places = nn.ParameterList(torch.randn(n, width) / width**0.5 for n in (layout.source, layout.target))
        self.body = nn.Transformer(width, 4, *layers, 4 * width, dropout=0.0, batch_first=True)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(layout.target))
        self.head = nn.Linear(width, len(layout.vocabulary))

    def forward(self, inputs: Tensor) -> Tensor:
        source, target = inputs[:, : self.source], inputs[:, self.source :]
        pad = source == 1
        embedded = [words(part) + at for words, part, at in zip(self.words, (source, target), self.places, strict=True)]
        outputs: Tensor = self.head(
            self.body(*embedded, tgt_mask=self.mask, src_key_padding_mask=pad, memory_key_padding_mask=pad)
        )
        return outputs


def sequences(session: Session, width: int, layers: tuple[int, int], steps: int) -> None:
    """The paper's modular multiplication: examples/s of our fit over those of a peer."""
    data = ModularMultiplication(modulus=67, maximum=10**6, n_test=1)
    run = Run(0, session)
    task = session.task(data, run)
    model = Seq2seqTransformer(width=width, heads=4, encoder_layers=layers[0], decoder_layers=layers[1])
    network = model.build(task, run)

    def ours(steps: int) -> None:
        optimizer = Adam(steps=steps, batch_size=SIZE, learning_rate=1e-4, gradient_clipping=5.0)
        list(optimizer.fit(network, task, None, Run(0, session)))

    def start() -> None:  # a fit of one step: what a fit costs once is no part of a step
        ours(1)

    def several() -> None:
        ours(1 + steps)

    plain = Plain(task, width, layers)
    plain_optimizer = torch.optim.Adam(plain.parameters(), lr=1e-4, fused=True)

    def torchs() -> None:
        for batch in itertools.islice(task.train.batches(None, SIZE, run), steps):
            plain_optimizer.zero_grad()
            assert batch.targets is not None
            functional.cross_entropy(plain(batch.inputs).flatten(0, 1), batch.targets.flatten()).backward()
            nn.utils.clip_grad_norm_(plain.parameters(), 5.0)
            plain_optimizer.step()

    name = f"encoder-decoder {layers[0]}+{layers[1]}, width {width}: examples/s over"
    trainer = int2int(width, layers)
    if trainer is None:
        once, whole, theirs = in_turns(start, several, torchs)
        mine = whole - once
    else:
        once, whole, theirs, authors = in_turns(
            start, several, torchs, lambda: [trainer.enc_dec_step("arithmetic") for _ in range(steps)]
        )
        mine = whole - once
        rates = f"({SIZE * steps / mine:.0f} against {SIZE * steps / authors:.0f})"
        line(f"{name} Int2Int's trainer", f"{authors / mine:.2f} x {rates}", "at least 1 x")
    rates = f"({SIZE * steps / mine:.0f} against {SIZE * steps / theirs:.0f})"
    line(f"{name} nn.Transformer by hand", f"{theirs / mine:.2f} x {rates}", "at least 1 x, if it is the only peer")


def int2int(width: int, layers: tuple[int, int]) -> Any:
    """The authors' trainer with the same model and batch; None without a checkout."""
    folder = os.environ.get("INT2INT")
    if not folder:
        return None
    sys.path.insert(0, folder)
    import train as authors  # type: ignore[import-not-found]
    from src.envs import build_env  # type: ignore[import-not-found]
    from src.model import build_modules  # type: ignore[import-not-found]
    from src.trainer import Trainer  # type: ignore[import-not-found]

    given = {
        "cpu": "true", "operation": "modular_mul", "num_workers": "0", "batch_size": str(SIZE), "env_base_seed": "1",
        "enc_emb_dim": str(width), "dec_emb_dim": str(width), "n_enc_heads": "4", "n_dec_heads": "4",
        "n_enc_layers": str(layers[0]), "n_dec_layers": str(layers[1]), "dump_path": tempfile.mkdtemp(),
    }  # fmt: skip
    params = authors.get_parser().parse_args([word for key, value in given.items() for word in (f"--{key}", value)])
    for name, value in dict(multi_gpu=False, is_master=True, is_slurm_job=False, global_rank=0, local_rank=0).items():
        setattr(params, name, value)
    params.n_gpu_per_node = 1
    authors.src.utils.CUDA = False
    environment = build_env(params)
    trainer = Trainer(build_modules(environment, params), environment, params)
    trainer.n_equations = 0
    return trainer


def generation(session: Session) -> None:
    """Nanoseconds an example, tokens included, at the paper's sizes."""
    for name, data in (
        ("gcd, base 1000", Gcd(test_per_outcome=1)),
        ("modular multiplication, base 1000", ModularMultiplication(n_test=1)),
        ("modular multiplication, base 32, as classes", ModularMultiplication(**PRODUCTS)),
    ):
        split = data.load(Run(0, session)).train

        def draw(split: Any = split) -> None:
            for _ in itertools.islice(split.batches(None, SIZE, Run(0, session)), 640):
                pass

        (seconds,) = in_turns(draw)
        line(f"generating {name}", f"{seconds / 640 / SIZE * 1e9:.0f} ns an example")


def main() -> None:
    torch.set_num_threads(1)
    Registry().load("standard")
    print("load:", os.getloadavg())
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Store(Path(folder)))
        stacking(session, 64, 4, 60, "at least 1.3 x")
        stacking(session, 32, 2, 60, "at least 1.9 x")  # the heads of the brief
        stacking(session, 32, 4, 60, "")
        data_share(session, 256)
        overhead(session, 300)
        sequences(session, 64, (2, 1), 40)
        generation(session)
        sequences(session, 512, (4, 4), 3)
    print("load:", os.getloadavg())


if __name__ == "__main__":
    main()
