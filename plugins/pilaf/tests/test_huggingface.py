"""Policies of transformers generate and score as standard's decoders do; a tiny Llama built from a configuration."""

from __future__ import annotations

import pytest
import torch
from kempeframe_pilaf.models import HuggingfaceChat
from kempeframe_pilaf.spaces import TextSpace, TiltedNetwork, length_groups
from kempeframe_standard.generation import generate

from kempeframe import Fit
from kempeframe.runs import Run
from kempeframe.task import CannotGive
from kempeframe.trial import Session

pytest.importorskip("transformers", reason="the extra kempeframe-pilaf[llm] is not installed")


def tiny(session: Session, sft: Fit, seed: int = 0) -> torch.nn.Module:
    run = Run(seed, session)
    with run.global_seed("model"):
        network = HuggingfaceChat(width=32, heads=2).build(session.task(sft.data, run), run).eval()
    for parameter in network.parameters():  # far from even predictions
        parameter.data.mul_(3)
    return network


SPACE = TextSpace(prompt_length=5, response_length=8, pad=0, end=3)
PROMPTS = torch.tensor([[1, 4, 7, 2, 0], [1, 5, 8, 2, 9], [1, 6, 0, 0, 0]])


def uniforms(rows: int = 3) -> torch.Tensor:
    return torch.rand(rows, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_generating_with_the_cache_is_generating_without_it(session: Session, sft: Fit) -> None:
    """Prompts of different lengths, side by side and alone."""
    network = tiny(session, sft)
    lengths = SPACE.lengths(PROMPTS)
    together = generate(network, PROMPTS, lengths, steps=8, uniforms=uniforms(), stop_token=3)
    for row, length in enumerate(lengths.tolist()):
        tokens = PROMPTS[row : row + 1, :length]
        for step in range(int(together.response_lengths[row])):
            with torch.no_grad():
                last = network(tokens)[0, -1].double().softmax(0).cumsum(0)
            token = int(torch.searchsorted(last, uniforms()[row, step] * last[-1], right=True))
            assert token == int(together.responses[row, step])
            tokens = torch.cat([tokens, torch.tensor([[token]])], dim=1)


def test_what_is_sampled_is_scored_by_the_same_policy(session: Session, sft: Fit) -> None:
    network = tiny(session, sft)
    written = generate(
        network, PROMPTS, SPACE.lengths(PROMPTS), steps=8, uniforms=uniforms(), stop_token=3, log_probabilities=True
    )
    with torch.no_grad():
        scores = SPACE.log_probabilities(network, PROMPTS, written.responses)
    assert written.log_probabilities is not None
    torch.testing.assert_close(scores, written.log_probabilities.double().sum(dim=1), atol=1e-4, rtol=1e-4)


def test_tilts_of_one_batch_are_those_of_rows_alone(session: Session, sft: Fit) -> None:
    policy, reference = tiny(session, sft), tiny(session, sft, 1)
    tilt = torch.tensor([0.5, 0.0, -1.0])
    together = SPACE.sample(policy, reference, PROMPTS, tilt, uniforms())
    for row in range(3):
        part = slice(row, row + 1)
        alone = SPACE.sample(policy, reference, PROMPTS[part], tilt[part], uniforms()[part])
        assert torch.equal(alone[0], together[row])
    only = generate(reference, PROMPTS, SPACE.lengths(PROMPTS), steps=8, uniforms=uniforms(), stop_token=3)
    assert torch.equal(together[2], only.responses[2])
    network = TiltedNetwork(policy, reference, torch.tensor([-0.5, -0.5, -0.5]))
    logits, _ = network.begin(PROMPTS, SPACE.lengths(PROMPTS), 12)
    with torch.no_grad():
        wanted = 0.5 * policy(PROMPTS[1:2])[0, -1] + 0.5 * reference(PROMPTS[1:2])[0, -1]
    torch.testing.assert_close(logits[1], wanted, atol=1e-4, rtol=1e-4)


def test_a_prompt_longer_than_the_model_is_refused(session: Session, sft: Fit) -> None:
    network = tiny(session, sft)
    with pytest.raises(CannotGive, match="a sequence of 40 tokens: this network has positions for 18"):
        network.begin(PROMPTS, SPACE.lengths(PROMPTS), 40)


def test_half_precision_scores_in_single(session: Session, sft: Fit) -> None:
    run = Run(0, session)
    network = HuggingfaceChat(width=32, heads=2, dtype="bfloat16").build(session.task(sft.data, run), run)
    with torch.no_grad():
        logits, mask = SPACE.response_logits(network, PROMPTS, torch.full((3, 8), 5))
        scores = SPACE.log_probabilities(network, PROMPTS, torch.full((3, 8), 5))
    assert logits.dtype == torch.bfloat16 and scores.dtype == torch.float64
    wanted = (logits.float().log_softmax(2)[:, :, 5] * mask).double().sum(dim=1)
    torch.testing.assert_close(scores, wanted, atol=1e-4, rtol=1e-5)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="heads = 3"):
        HuggingfaceChat(width=64, heads=3)


def test_tilted_rows_that_have_ended_are_let_go_and_nothing_changes(session: Session, sft: Fit) -> None:
    policy, reference = tiny(session, sft), tiny(session, sft, 1)
    prompts, uniform = PROMPTS.repeat(6, 1), uniforms(18)
    given = {"lengths": SPACE.lengths(prompts), "steps": 8, "uniforms": uniform}
    tilt = torch.tensor([0.5, 0.0, -1.0, -0.5, 0.0, 0.5]).repeat_interleave(3)
    endless = generate(TiltedNetwork(policy, reference, tilt), prompts, **given)
    ended = torch.stack([(endless.responses[:, :6] == token).any(dim=1).sum() for token in range(48)])
    given["stop_token"] = int(ended.argmax())  # the one that ends most rows early
    written = []
    for letting_go in (True, False):
        network = TiltedNetwork(policy, reference, tilt)
        if not letting_go:
            network.select = None  # type: ignore[method-assign, assignment]
        written.append(generate(network, prompts, **given))
    assert (written[0].response_lengths < 7).double().mean() >= 0.25, "else none is let go"
    assert torch.equal(written[0].responses, written[1].responses)


def test_a_prompt_is_read_once_for_all_its_responses(
    session: Session, sft: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, reference = tiny(session, sft), tiny(session, sft, 1)
    prompts, uniform, tilt = PROMPTS.repeat(4, 1), uniforms(12), torch.tensor([0.0, 0.5, -0.5, -1.0] * 3)
    read: list[int] = []
    begin = type(policy).begin

    def noted(self: object, prompts: torch.Tensor, *rest: object) -> object:
        read.append(len(prompts))
        return begin(self, prompts, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(type(policy), "begin", noted)
    together = SPACE.sample(policy, reference, prompts, tilt, uniform)
    assert read == [3, 3]
    for row in range(12):
        alone = SPACE.sample(policy, reference, prompts[row : row + 1], tilt[row : row + 1], uniform[row : row + 1])
        assert torch.equal(together[row], alone[0])


def test_rows_are_scored_in_groups_of_like_lengths_and_in_their_order(session: Session, sft: Fit) -> None:
    network = tiny(session, sft)
    responses = torch.full((300, 8), 5)
    for row in range(300):
        responses[row, [7, 0, 3, 1][row % 4]] = 3  # where it ends
        responses[row, [7, 0, 3, 1][row % 4] + 1 :] = 0
    prompts = PROMPTS.repeat(100, 1)
    assert len(SPACE.by_length(responses)) > 1
    scores = SPACE.log_probabilities(network, prompts, responses)
    for row in range(8):
        alone = SPACE.log_probabilities(network, prompts[row : row + 1], responses[row : row + 1])
        torch.testing.assert_close(scores[row], alone[0], atol=1e-4, rtol=1e-4)


def test_groups_of_lengths_cost_least() -> None:
    """Every row is in one group; a second pass is taken only where it saves more than it costs."""
    assert length_groups([0, 0, 5, 0, 7]) == [(-1, 4)]
    assert length_groups([0, 1000, 0, 0, 0, 0, 0, 0, 10]) == [(-1, 1), (1, 8)]
    assert length_groups([0, 0]) == [(-1, 2)]
