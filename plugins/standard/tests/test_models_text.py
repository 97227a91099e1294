"""Transformers and small CNNs under the training loop: sequences with gaps in their targets, stacks, stored fits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kempeframe_standard.generation import generate
from kempeframe_standard.models_images import Cnn
from kempeframe_standard.models_pretrained import Pretrained
from kempeframe_standard.models_text import Decoder, Encoder, EncoderDecoder
from kempeframe_standard.optimizers_gradient import Adam
from kempeframe_standard.training.stacks import one_pass_serves
from torch import Tensor

from kempeframe import Data, Fit, Model, component, field
from kempeframe.components import FitJob
from kempeframe.runs import Run
from kempeframe.task import Examples, Task
from kempeframe.trial import Session

BEGIN, END, PAD, DIGITS = 5, 6, 7, 5
TOKENS = 8


@component
class Reversed(Data):
    """Up to four digits, and the same backwards: as a pair for an encoder-decoder, or as one sequence."""

    pair: bool = field(True, "source and target, or one sequence")
    n_train: int = field(600, "training examples")
    dtype: str = field("float32", "of the network")

    def load(self, run: Run) -> Task:
        pieces = self._pieces(run)
        source, target = (torch.tensor([row[part] for row in pieces]) for part in (0, 1))
        begun = torch.cat([torch.full((len(target), 1), BEGIN), target[:, :-1]], dim=1)
        targets = target.masked_fill(target == PAD, -100)
        if not self.pair:
            targets = torch.cat([torch.full((len(source), 4), -100), targets], dim=1)
        split = Examples(torch.cat([source, begun], dim=1), targets)
        shape = (targets.shape[1], TOKENS)
        return Task({"train": lambda: split}, (9,), shape, dtype=getattr(torch, self.dtype), classes=TOKENS)

    def _pieces(self, run: Run) -> list[tuple[list[int], list[int]]]:
        rng, pieces = run.rng("data", "digits"), []
        for _ in range(self.n_train):
            digits = rng.integers(0, DIGITS, size=rng.integers(1, 5) if self.pair else 4).tolist()
            missing = 4 - len(digits)
            pieces.append((digits + [PAD] * missing, [*reversed(digits), END] + [PAD] * missing))
        return pieces


def fit(model: Model, data: Data | None = None, **fields: Any) -> Fit:
    optimizer = Adam(**{"steps": 400, "batch_size": 64, "learning_rate": 5e-3, "schedule": "linear", **fields})
    return Fit(data=data or Reversed(), model=model, optimizer=optimizer)


def answers(network: torch.nn.Module, inputs: Tensor) -> Tensor:
    """What greedy generation writes behind source and beginning token."""
    return generate(network, inputs[:, :5], steps=5, temperature=0, stop_token=END, pad=PAD).responses


def test_an_encoder_decoder_learns_to_reverse(run: Run) -> None:
    model = EncoderDecoder(width=32, heads=2, encoder_depth=1, decoder_depth=1, embedding_scale=0.3, pad=PAD)
    found = run.fit(fit(model))
    fresh = Reversed(n_train=300).load(Run(1, run.session)).train.examples()
    assert fresh.targets is not None
    wanted = fresh.targets.masked_fill(fresh.targets == -100, PAD)
    right = (answers(found.network, fresh.inputs) == wanted).all(dim=1)
    assert float(right.double().mean()) > 0.9


def test_a_decoder_that_sees_its_prompt_whole_learns_to_reverse(run: Run) -> None:
    model = Decoder(width=32, heads=2, depth=2, embedding_scale=0.3, prefix=4, tie_embeddings=True)
    data = Reversed(pair=False)
    found = run.fit(fit(model, data))
    fresh = data.load(Run(1, run.session)).train.examples()
    assert fresh.targets is not None
    right = (answers(found.network, fresh.inputs) == fresh.targets[:, 4:]).all(dim=1)
    assert float(right.double().mean()) > 0.9


@pytest.mark.parametrize(
    "model",
    [
        Decoder(width=8, heads=2, tie_embeddings=True),
        Decoder(width=8, heads=2, positions="rotary"),
        EncoderDecoder(width=8, heads=2, tie_embeddings=True, pad=PAD),
    ],
)
def test_stored_networks_come_back_as_they_were_and_can_be_trained_on(session: Session, run: Run, model: Model) -> None:
    data = Reversed(pair=isinstance(model, EncoderDecoder), n_train=64)
    first = fit(model, data, steps=3)
    inputs = data.load(run).train.examples().inputs
    ours = session.fitted(first, run).network(inputs)
    assert torch.equal(Session(session.store).fitted(first, run).network(inputs), ours)
    second = fit(Pretrained(fit=first), data, steps=3)
    assert not torch.equal(session.fitted(second, run).network(inputs), ours)


@component
class Words(Data):
    """Four random tokens, and their sum modulo three; or random images."""

    images: bool = field(False, "images of 8 x 8 pixels")

    def load(self, run: Run) -> Task:
        rng = run.rng("data", "words")
        words = torch.from_numpy(rng.integers(0, 6, size=(40, 4)))
        inputs = torch.from_numpy(rng.random((40, 1, 8, 8))) if self.images else words
        split = Examples(inputs, words.sum(dim=1) % 3)
        return Task({"train": lambda: split}, tuple(inputs.shape[1:]), (3,), dtype=torch.float64, classes=3)


@pytest.mark.parametrize(
    "model", [Encoder(vocabulary=6, width=8, heads=2, pad=0), Cnn(channels=(3, 4)), Cnn(channels=(4,), norm="group")]
)
def test_a_fit_in_a_stack_is_the_fit_alone(session: Session, model: Model) -> None:
    optimizer = Adam(steps=7, batch_size=16)
    assert model.stackable and "seed" in optimizer.unit(model)

    def jobs() -> list[FitJob]:
        made = []
        for seed in range(3):
            run = Run(seed, session)
            task = Words(images=isinstance(model, Cnn)).load(run)
            with run.global_seed("model"):
                made.append(FitJob(optimizer, model.build(task, run), task, None, run))
        return made

    assert one_pass_serves(jobs())
    together = {index: snapshot.network for index, snapshot in optimizer.fit_many(jobs())}
    for index, job in enumerate(jobs()):
        *_, last = optimizer.fit(job.network, job.task, None, job.run)
        for name, parameter in last.network.named_parameters():
            torch.testing.assert_close(together[index].get_parameter(name), parameter, rtol=0, atol=1e-10)
