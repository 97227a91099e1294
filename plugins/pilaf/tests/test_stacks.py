"""Bandits that train as one stack: each fit is what it is alone."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
import torch
from kempeframe_pilaf import data_pairs

from kempeframe.checkpoints import Checkpoints
from kempeframe.task import CannotGive
from kempeframe.trial import Session, fit_stack

SCHEMES = [
    (data_pairs.Vanilla, {}),
    (data_pairs.Hybrid, {"draw_ahead": 2}),
    (data_pairs.Pilaf, {}),
    (data_pairs.TPilaf, {"prompt_weight": True}),
    (data_pairs.EstimatedPilaf, {}),
    (data_pairs.BestOfN, {"n_pairs": 24}),
    (data_pairs.OptimalDesign, {}),
    (data_pairs.Uniform, {}),
]


def ended(fit: Any, seeds: list[int], session: Session, checkpoints: Checkpoints | None = None) -> list[torch.Tensor]:
    last = {}
    for number, snapshot in fit_stack([(fit, seed) for seed in seeds], session, checkpoints or Checkpoints()):
        last[number] = snapshot.network
    return [last[number].policy.theta.detach() for number in range(len(seeds))]


@pytest.mark.parametrize(("scheme", "settings"), SCHEMES, ids=lambda v: getattr(v, "__name__", str(v)))
def test_a_fit_of_a_stack_is_the_fit_alone(
    session: Session, bandit: Any, online: Any, scheme: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kempeframe_pilaf.pairs import StackedLivePairs

    stacked: list[int] = []
    before = StackedLivePairs.__init__

    def noted(self: StackedLivePairs, splits: Any) -> None:
        stacked.append(len(splits))
        before(self, splits)

    monkeypatch.setattr(StackedLivePairs, "__init__", noted)
    fit = attrs.evolve(bandit(scheme, settings), optimizer=online(steps=12, accumulate=settings.get("draw_ahead", 1)))
    together = ended(fit, [0, 1, 2], session)
    assert stacked == [3]
    for seed, theta in enumerate(together):
        torch.testing.assert_close(theta, ended(fit, [seed], session)[0], atol=1e-10, rtol=1e-8)
    assert not torch.equal(together[0], together[1])


def test_a_stream_of_a_stack_needs_the_networks(session: Session, bandit: Any) -> None:
    split = session.task(bandit(data_pairs.Pilaf, {}).data, session.run_of_seed(0)).train
    with pytest.raises(CannotGive, match="give `policy` to freeze them"):
        split.stack([split]).batches_from(0, 8, [session.run_of_seed(0)])


def test_text_is_not_stacked(session: Session, sft: Any) -> None:
    scheme = data_pairs.Pilaf(source=sft.data, reference=sft)
    assert session.task(scheme, session.run_of_seed(0)).train.form is None


class Memory(Checkpoints):
    """Keeps the state of its fifth question, and ends the fit at the sixth."""

    def __init__(self, payload: bytes | None = None):
        self.payload, self.asked = payload, 0 if payload is None else -(10**9)

    def due(self) -> bool:
        self.asked += 1
        if self.asked > 5:
            raise InterruptedError
        return self.asked == 5

    def save(self, state: Mapping[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        self.payload = buffer.getvalue()

    def load(self) -> Mapping[str, Any] | None:
        return None if self.payload is None else torch.load(io.BytesIO(self.payload), weights_only=True)


def test_an_interrupted_stack_goes_on(session: Session, bandit: Any, online: Any) -> None:
    fit = attrs.evolve(bandit(data_pairs.Pilaf, {}), optimizer=online(steps=12))
    whole = ended(fit, [0, 1, 2], session)
    memory = Memory()
    with pytest.raises(InterruptedError):
        ended(fit, [0, 1, 2], Session(session.store), memory)
    again = ended(fit, [0, 1, 2], Session(session.store), Memory(memory.payload))
    for one, other in zip(whole, again, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)
