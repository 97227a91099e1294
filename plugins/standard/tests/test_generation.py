"""Generation: neither the cache nor batches change anything; samples and log-probabilities are the softmax's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kempeframe_standard.generation import draw, generate
from kempeframe_standard.models_text import Decoder, EncoderDecoder
from scipy.stats import chisquare
from torch import Tensor, nn

from kempeframe.runs import Run
from kempeframe.task import CannotGive, Task

TOKENS = 7
VARIANTS = [
    {},
    {"positions": "rotary"},
    {"positions": "none", "norm": "rms", "bias": False},
    {"norm_position": "post", "tie_embeddings": True},
]


def decoder(run: Run, **fields: Any) -> nn.Module:
    small = {"width": 12, "heads": 2, "init_scale": 0.5, "embedding_scale": 1.0}
    task = Task({}, (40,), (40, TOKENS), dtype=torch.float64, classes=TOKENS)
    with run.global_seed("model"):
        return Decoder(**{**small, **fields}).build(task, run)


def encoder_decoder(run: Run, **fields: Any) -> nn.Module:
    small = {"width": 12, "heads": 2, "init_scale": 0.5, "embedding_scale": 1.0, "pad": 0}
    task = Task({}, (5 + 30,), (30, TOKENS), dtype=torch.float64, classes=TOKENS)
    with run.global_seed("model"):
        return EncoderDecoder(**{**small, **fields}).build(task, run)


def prompts_of(lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Tokens 1 and up, padded with 0."""
    generator = torch.Generator().manual_seed(seed)
    prompts = torch.randint(1, TOKENS, (len(lengths), max(lengths)), generator=generator)
    kept = torch.tensor(lengths)
    return prompts.where(torch.arange(max(lengths)) < kept[:, None], 0), kept


def uniforms(rows: int, steps: int) -> Tensor:
    return torch.rand(rows, steps, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Rerun(nn.Module):
    """Generates without a cache: every token reads the whole sequence again, each row alone."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def begin(self, prompts: Tensor, lengths: Tensor, capacity: int) -> tuple[Tensor, list[Tensor]]:
        rows = [prompt[:length] for prompt, length in zip(prompts, lengths, strict=True)]
        return self._logits(rows), rows

    def advance(self, tokens: Tensor, cache: list[Tensor]) -> Tensor:
        cache[:] = [torch.cat([row, token[None]]) for row, token in zip(cache, tokens, strict=True)]
        return self._logits(cache)

    def _logits(self, rows: list[Tensor]) -> Tensor:
        return torch.cat([self.network(row[None])[:, -1] for row in rows])


@pytest.mark.parametrize("fields", VARIANTS)
@pytest.mark.parametrize("lengths", [[4, 4, 4, 4], [3, 9, 1, 5]])
@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_cached_is_uncached(run: Run, fields: dict[str, Any], lengths: list[int], temperature: float) -> None:
    network = decoder(run, **fields)
    prompts, kept = prompts_of(lengths)
    given: dict[str, Any] = {
        "steps": 20,
        "temperature": temperature,
        "uniforms": uniforms(4, 20),
        "stop_token": 2,
        "log_probabilities": True,
    }
    ours, theirs = generate(network, prompts, kept, **given), generate(Rerun(network), prompts, kept, **given)
    assert torch.equal(ours.tokens, theirs.tokens)
    assert torch.equal(ours.lengths, theirs.lengths)
    assert ours.log_probabilities is not None and theirs.log_probabilities is not None
    torch.testing.assert_close(ours.log_probabilities, theirs.log_probabilities, rtol=0, atol=1e-10)


@pytest.mark.parametrize("fields", [{}, {"positions": "rotary"}])
def test_cached_logits_of_each_step_are_those_of_the_prefix(run: Run, fields: dict[str, Any]) -> None:
    network = decoder(run, **fields)
    prompts, kept = prompts_of([3, 9, 1, 5])
    with torch.no_grad():
        logits, cache = network.begin(prompts, kept, 30)
        other, rows = Rerun(network).begin(prompts, kept, 30)
        for token in range(1, 7):
            torch.testing.assert_close(logits, other, rtol=0, atol=1e-10)
            tokens = torch.full((4,), token)
            logits, other = network.advance(tokens, cache), Rerun(network).advance(tokens, rows)


@pytest.mark.parametrize("fields", VARIANTS)
@pytest.mark.parametrize("lengths", [[6, 6, 6], [6, 9, 7]])
def test_an_encoder_decoder_generates_as_it_predicts(run: Run, fields: dict[str, Any], lengths: list[int]) -> None:
    """Source of five tokens, some of them padding, then what the target begins with."""
    network = encoder_decoder(run, **fields)
    prompts, kept = prompts_of(lengths)
    prompts[1, 3:5] = 0
    given: dict[str, Any] = {"steps": 12, "uniforms": uniforms(3, 12), "log_probabilities": True}
    ours, theirs = generate(network, prompts, kept, **given), generate(Rerun(network), prompts, kept, **given)
    assert torch.equal(ours.tokens, theirs.tokens)
    assert ours.log_probabilities is not None and theirs.log_probabilities is not None
    torch.testing.assert_close(ours.log_probabilities, theirs.log_probabilities, rtol=0, atol=1e-10)
    with pytest.raises(CannotGive, match="at least one token of the target"):
        generate(network, prompts[:, :5], steps=1, temperature=0)


def test_a_prefix_is_read_as_it_was_trained(run: Run) -> None:
    network = decoder(run, prefix=3)
    prompts, kept = prompts_of([3, 5, 4])
    given: dict[str, Any] = {"steps": 8, "temperature": 0, "log_probabilities": True}
    ours, theirs = generate(network, prompts, kept, **given), generate(Rerun(network), prompts, kept, **given)
    assert torch.equal(ours.tokens, theirs.tokens)
    torch.testing.assert_close(ours.log_probabilities, theirs.log_probabilities, rtol=0, atol=1e-10)
    with pytest.raises(CannotGive, match="shorter than the prefix"):
        generate(network, prompts[:, :2], steps=1, temperature=0)


def test_batches_and_padding_of_prompts_do_not_matter(run: Run) -> None:
    network = decoder(run)
    prompts, kept = prompts_of([3, 9, 1, 5, 5, 2])
    numbers = uniforms(6, 15)
    whole = generate(network, prompts, kept, steps=15, uniforms=numbers, stop_token=3)
    for rows in ([0, 1], [2], [3, 4, 5]):
        width = int(kept[rows].max())
        part = generate(network, prompts[rows, :width], kept[rows], steps=15, uniforms=numbers[rows], stop_token=3)
        assert torch.equal(part.responses, whole.responses[rows])
        assert torch.equal(part.lengths, whole.lengths[rows])
    noisy = prompts + (torch.arange(9) >= kept[:, None]) * 4
    assert torch.equal(generate(network, noisy, kept, steps=15, uniforms=numbers, stop_token=3).tokens, whole.tokens)


def test_a_generator_gives_one_number_for_each_row_and_token(run: Run) -> None:
    network = decoder(run)
    prompts, _ = prompts_of([4, 4, 4])
    drawn = generate(network, prompts, steps=9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(drawn.tokens, generate(network, prompts, steps=9, uniforms=uniforms(3, 9)).tokens)
    with pytest.raises(ValueError, match="uniforms or a generator"):
        generate(network, prompts, steps=9)
    with pytest.raises(ValueError, match=r"expected \(3, 9\)"):
        generate(network, prompts, steps=9, uniforms=uniforms(3, 8))
    with pytest.raises(ValueError, match="numbers from 1 to 4"):
        generate(network, prompts, torch.tensor([4, 0, 4]), steps=9, temperature=0)
    with pytest.raises(ValueError, match="steps = 0"):
        generate(network, prompts, steps=0, temperature=0)


def test_rows_end_with_the_stop_token_and_are_padded_behind_it(run: Run) -> None:
    network = decoder(run)
    prompts, kept = prompts_of([3, 6, 1, 5] * 10)
    found = generate(network, prompts, kept, steps=12, uniforms=uniforms(40, 12), stop_token=2, pad=TOKENS)
    assert float((found.response_lengths < 12).double().mean()) > 0
    for row in range(40):
        length, prompt = int(found.response_lengths[row]), int(kept[row])
        response = found.responses[row]
        assert (response[length:] == TOKENS).all() and not (response[: length - 1] == 2).any()
        assert length == 12 or response[length - 1] == 2
        assert torch.equal(found.tokens[row, :prompt], prompts[row, :prompt])
        assert torch.equal(found.tokens[row, prompt : prompt + length], response[:length])
        assert (found.tokens[row, prompt + length :] == TOKENS).all()
        assert int(found.lengths[row]) == prompt + length


def test_log_probabilities_are_those_of_a_forward_pass(run: Run) -> None:
    network = decoder(run)
    prompts, kept = prompts_of([3, 6, 1, 5])
    found = generate(
        network, prompts, kept, steps=10, temperature=0.7, top_k=3, uniforms=uniforms(4, 10), log_probabilities=True
    )
    scores = network(found.tokens[:, :-1]).log_softmax(dim=2).gather(2, found.tokens[:, 1:, None])[:, :, 0]
    assert found.log_probabilities is not None
    for row in range(4):
        start = int(kept[row]) - 1
        torch.testing.assert_close(found.log_probabilities[row], scores[row, start : start + 10], rtol=0, atol=1e-10)


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (0.5, None), (2.0, 3)])
def test_samples_follow_the_softmax(run: Run, temperature: float, top_k: int | None) -> None:
    """Chi-square at level 1e-3 for the first token of 20,000 rows, and none outside the top k."""
    network = decoder(run)
    prompts, _ = prompts_of([4])
    rows = 20_000
    found = generate(
        network, prompts.expand(rows, -1), steps=1, temperature=temperature, top_k=top_k, uniforms=uniforms(rows, 1)
    )
    logits = network(prompts)[0, -1].detach() / temperature
    if top_k is not None:
        logits[logits < logits.topk(top_k).values[-1]] = -torch.inf
    probabilities = logits.softmax(dim=0)
    counts = torch.bincount(found.responses[:, 0], minlength=TOKENS)
    allowed = probabilities > 0
    assert not counts[~allowed].any()
    assert chisquare(counts[allowed], rows * probabilities[allowed]).pvalue > 1e-3


def test_draws_are_the_inverse_of_the_distribution() -> None:
    logits = torch.tensor([0.2, 0.3, 0.0, 0.5]).log()
    numbers = torch.tensor([0.0, 0.1999, 0.2001, 0.4999, 0.5001, 1 - 2**-53], dtype=torch.float64)
    assert draw(logits.expand(6, -1), numbers).tolist() == [0, 0, 1, 1, 3, 3]
    last = torch.tensor([[0.0, 0.0, -torch.inf, -torch.inf]])
    assert draw(last, torch.tensor([1 - 2**-53], dtype=torch.float64)).tolist() == [1]


def test_two_networks_given_the_same_numbers_mostly_agree(run: Run) -> None:
    """The coupling that paired comparisons rest on: a small change of the weights changes few first tokens."""
    one, other = decoder(run), decoder(run)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)).double() * 1e-3)
    prompts, _ = prompts_of([4] * 300)
    first, second = (generate(network, prompts, steps=1, uniforms=uniforms(300, 1)) for network in (one, other))
    assert float((first.responses == second.responses).double().mean()) > 0.95


def test_selected_rows_of_a_cache_go_on_alone(run: Run) -> None:
    network = decoder(run)
    prompts, kept = prompts_of([3, 6, 4])
    rows = torch.tensor([2, 0, 2])
    with torch.no_grad():
        _, cache = network.begin(prompts, kept, 20)
        chosen = cache.select(rows)
        tokens = torch.tensor([1, 2, 3])
        expected = Rerun(network)
        _, uncached = expected.begin(prompts[rows], kept[rows], 20)
        torch.testing.assert_close(network.advance(tokens, chosen), expected.advance(tokens, uncached))


def test_the_context_is_the_limit_and_the_mode_stays(run: Run) -> None:
    network = decoder(run, dropout=0.5)
    prompts, _ = prompts_of([4])
    network.train()
    network.stack.eval()
    assert generate(network, prompts, steps=37, temperature=0).tokens.shape == (1, 41)
    assert network.training and not network.stack.training
    with pytest.raises(CannotGive, match="41 tokens: this network has positions for 40"):
        generate(network, prompts, steps=38, temperature=0)
    with pytest.raises(CannotGive, match="Linear does not generate"):
        generate(nn.Linear(2, 2), prompts, steps=1, temperature=0)


def test_padding_that_no_row_needs_is_not_read_and_changes_nothing(run: Run) -> None:
    network = encoder_decoder(run)
    inputs = torch.randint(1, TOKENS, (3, 5 + 12))
    inputs[:, 3:5] = 0
    seen: list[int] = []
    network.encoder.layers[0].register_forward_hook(lambda _, given, __: seen.append(given[0].shape[1]))
    short = network(inputs)
    longer = torch.cat([inputs, inputs], dim=0)
    longer[3:, 3:5] = 4  # other rows that need all of it
    whole = network(longer)[:3]
    assert seen == [3, 5]
    torch.testing.assert_close(short, whole, rtol=0, atol=1e-12)


def test_rows_that_have_ended_are_let_go_and_nothing_changes(run: Run) -> None:
    """The cache goes down to the unfinished rows; `Rerun`, which can't let go, writes the same."""
    network = decoder(run)
    prompts, kept = prompts_of([3, 9, 1, 5, 5, 2, 4, 4])
    given: dict[str, Any] = {"steps": 15, "uniforms": uniforms(8, 15), "stop_token": 3, "log_probabilities": True}
    read: list[int] = []
    advance = network.advance
    network.advance = lambda tokens, cache: (read.append(len(tokens)), advance(tokens, cache))[1]  # type: ignore
    ours, theirs = generate(network, prompts, kept, **given), generate(Rerun(network), prompts, kept, **given)
    assert read[0] > read[-1] and sorted(read, reverse=True) == read
    assert torch.equal(ours.tokens, theirs.tokens) and torch.equal(ours.response_lengths, theirs.response_lengths)
    assert ours.log_probabilities is not None and theirs.log_probabilities is not None
    torch.testing.assert_close(ours.log_probabilities, theirs.log_probabilities, rtol=0, atol=1e-10)


def test_a_batch_of_nothing_but_padding_is_read_whole(run: Run) -> None:
    network = encoder_decoder(run)
    assert network._without_common_padding(torch.zeros(2, 5, dtype=torch.int64)).shape == (2, 5)
