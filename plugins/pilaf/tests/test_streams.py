"""Pairs from the network being trained, and from fits: interruptions, counts, and what is refused."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
import torch
from kempeframe_pilaf import data_pairs
from kempeframe_pilaf.data import Bandit
from kempeframe_pilaf.pairs import BoundedLivePairs, FrozenPairs, LivePairs

from kempeframe import Fit
from kempeframe.checkpoints import Checkpoints
from kempeframe.runs import Run
from kempeframe.task import CannotGive
from kempeframe.trial import Fitted, Session, fit_stack


class Killed(Exception):
    """The fit was interrupted."""


class Memory(Checkpoints):
    """Keeps the state of one question, and ends the fit at the next."""

    def __init__(self, at: int | None = None, payload: bytes | None = None):
        self.at, self.payload, self.asked = at, payload, 0

    def due(self) -> bool:
        self.asked += 1
        if self.at is not None and self.asked > self.at:
            raise Killed
        return self.asked == self.at

    def save(self, state: Mapping[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        self.payload = buffer.getvalue()

    def load(self) -> Mapping[str, Any] | None:
        return None if self.payload is None else torch.load(io.BytesIO(self.payload), weights_only=True)


def last(fit: Fit, session: Session, checkpoints: Checkpoints) -> Any:
    for _, snapshot in fit_stack([(fit, 0)], session, checkpoints):
        found = snapshot.network
    return found


@pytest.mark.parametrize("settings", [{}, {"n_pairs": 40}, {"draw_ahead": 2}], ids=str)
@pytest.mark.parametrize("scheme", [data_pairs.Pilaf, data_pairs.TPilaf, data_pairs.BestOfN, data_pairs.EstimatedPilaf])
def test_an_interrupted_online_fit_goes_on_as_if_nothing_had_been(
    session: Session, bandit: Any, online: Any, scheme: Any, settings: Any
) -> None:
    accumulate = settings.get("draw_ahead", 1)
    fit = attrs.evolve(bandit(scheme, settings), optimizer=online(accumulate=accumulate))
    whole = last(fit, session, Checkpoints())
    memory = Memory(at=8)
    with pytest.raises(Killed):
        last(fit, Session(session.store), memory)
    again = last(fit, Session(session.store), Memory(payload=memory.payload))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert float(whole.labels) == 160 * accumulate


def test_online_pairs_follow_the_network(session: Session, bandit: Any, online: Any) -> None:
    """The tenth batch is what the scheme draws from the network as it is after nine steps."""
    fit = attrs.evolve(bandit(data_pairs.Pilaf, {}), optimizer=online(steps=9))
    network = last(fit, session, Checkpoints())
    run = Run(0, session)
    split = session.task(fit.data, run).train
    assert isinstance(split, LivePairs)
    tenth = next(iter(split.batches_from(9, network, 8, Run(0, session))))
    first = next(iter(split.batches_from(9, attrs_copy(network, 0.0), 8, Run(0, session))))
    assert torch.equal(tenth.inputs[:, 0], first.inputs[:, 0])  # the prompts do not depend on it
    assert not torch.equal(tenth.inputs, first.inputs)


def attrs_copy(network: Any, theta: float) -> Any:
    import copy

    other = copy.deepcopy(network)
    with torch.no_grad():
        other.policy.theta.fill_(theta)
    return other


def test_a_live_stream_needs_the_network(session: Session, bandit: Any) -> None:
    fit = bandit(data_pairs.Pilaf, {})
    run = Run(0, session)
    task = session.task(fit.data, run)
    with pytest.raises(CannotGive, match="being trained, an implicit reward, and there is none; give `policy`"):
        task.train.batches(None, 8, run)
    with pytest.raises(CannotGive, match="a Linear is none"):
        task.train.batches(torch.nn.Linear(1, 1), 8, run)
    with pytest.raises(CannotGive):
        task.train.examples()


def test_a_bounded_stream_has_a_length_and_new_pairs_in_each_pass(session: Session, bandit: Any) -> None:
    fit = bandit(data_pairs.Vanilla, {"n_pairs": 20})
    run = Run(0, session)
    network = session.fitted(fit, run).network
    split = session.task(fit.data, run).train
    assert isinstance(split, BoundedLivePairs) and len(split) == 20
    passes = [list(split.batches(network, 8, run)) for _ in range(2)]
    assert [len(batch.inputs) for batch in passes[0]] == [8, 8, 4]
    assert not torch.equal(passes[0][0].inputs, passes[1][0].inputs)


def test_frozen_pairs_are_an_ordinary_data_set_from_that_fit(session: Session, sft: Fit, trained: Fit) -> None:
    scheme = data_pairs.Pilaf(source=trained.data.source, reference=sft, policy=trained, n_pairs=70)
    run = Run(0, session)
    split = session.task(scheme, run).train
    assert isinstance(split, FrozenPairs) and len(split) == 70
    again = Session(session.store).task(scheme, Run(0, session)).train
    assert torch.equal(split.examples().inputs, again.examples().inputs)
    more = session.task(attrs.evolve(scheme, n_pairs=90), Run(0, session)).train
    assert torch.equal(more.examples().inputs[:70, :-1], split.examples().inputs[:, :-1])
    assert 2 * 70 <= split.counts.generations <= 4 * 70


def test_the_test_pairs_are_the_same_for_all_schemes(session: Session, bandit: Any) -> None:
    found = []
    for scheme in (data_pairs.Vanilla, data_pairs.TPilaf, data_pairs.BestOfN):
        task = session.task(bandit(scheme, {"n_test": 30}).data, Run(0, session))
        found.append(task.test.examples().inputs)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_best_of_n_at_the_reference_is_no_degenerate_pair(session: Session, bandit: Any) -> None:
    """All implicit rewards are equal there; were best and worst the same response, nothing would ever be learned."""
    fit = bandit(data_pairs.BestOfN, {}, init_scale=0.0)
    fitted = session.fitted(fit, Run(0, session))
    pairs = FrozenPairs.draw(fit.data, fitted.task.truth, fitted.network.policies, 0, 500)
    assert pairs.counts.equal_pairs < 300


SOURCE = Bandit()


@pytest.mark.parametrize(
    ("scheme", "settings", "message"),
    [
        (data_pairs.BestOfN, {"source": SOURCE, "n_candidates": 1}, "n_candidates = 1: expected a value >= 2"),
        (data_pairs.Pilaf, {"source": SOURCE, "branch_probability": 1.5}, "branch_probability"),
        (data_pairs.EstimatedPilaf, {"source": SOURCE, "n_probes": 1}, "n_probes"),
        (data_pairs.Vanilla, {"source": SOURCE, "n_pairs": 0}, "n_pairs"),
        (data_pairs.Vanilla, {"source": SOURCE, "draw_ahead": 0}, "draw_ahead"),
    ],
)
def test_fields_out_of_range(scheme: Any, settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scheme(**settings)


def test_schemes_that_list_responses_refuse_text(sft: Fit) -> None:
    for scheme, instead in ((data_pairs.TPilaf, "pilaf.pilaf"), (data_pairs.Uniform, "pilaf.vanilla")):
        with pytest.raises(ValueError, match=f"lists all responses, which text does not allow: use {instead}"):
            scheme(source=sft.data, reference=sft)


def test_other_bad_settings(sft: Fit, trained: Fit, session: Session) -> None:
    from kempeframe_standard.data import Digits

    with pytest.raises(ValueError, match="no prompts with a true reward"):
        data_pairs.Vanilla(source=Digits())
    with pytest.raises(ValueError, match="needs the fit that training is kept near to"):
        data_pairs.Vanilla(source=sft.data)
    with pytest.raises(ValueError, match="how many pairs"):
        data_pairs.Vanilla(source=sft.data, reference=sft, policy=trained)
    with pytest.raises(ValueError, match="draw_ahead is for live streams"):
        data_pairs.Vanilla(source=sft.data, reference=sft, policy=trained, n_pairs=3, draw_ahead=2)
    other = attrs.evolve(sft, seed=1, stream="other")
    scheme = data_pairs.Pilaf(source=sft.data, reference=sft, policy=other, n_pairs=3)
    with pytest.raises(ValueError, match="at which temperature beta to tilt"):
        session.task(scheme, Run(0, session)).train  # noqa: B018


def test_the_reference_as_policy_needs_no_temperature(session: Session, sft: Fit) -> None:
    scheme = data_pairs.Pilaf(source=sft.data, reference=sft, policy=sft, n_pairs=30)
    plain = data_pairs.Vanilla(source=sft.data, reference=sft, policy=sft, n_pairs=30)
    pairs = [session.task(data, Run(0, session)).train.examples().inputs for data in (scheme, plain)]
    assert torch.equal(pairs[0][:, :-1], pairs[1][:, :-1])


def test_separable_pairs_are_said_to_be_so(session: Session, bandit: Any) -> None:
    """A handful of pairs has no estimate: the fit is marked, and nothing overflows."""
    from kempeframe_standard.optimizers import LogisticRegression

    start = bandit(data_pairs.Vanilla, {})
    data = data_pairs.Vanilla(source=start.data.source, policy=start, n_pairs=4)
    fit = attrs.evolve(start, data=data, optimizer=LogisticRegression(), stream="few")
    fitted = session.fitted(fit, Run(0, session))
    assert isinstance(fitted, Fitted)
    assert fitted.certificate["separable"]
    assert bool(torch.isfinite(fitted.network.policy.theta).all())
