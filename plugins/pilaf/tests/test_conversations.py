"""HH-RLHF: parsing, tokens, human pairs, and the real file where a mirror has it."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from kempeframe_pilaf import conversations
from kempeframe_pilaf.data_hh import HhRlhf, HumanPairs
from kempeframe_pilaf.oracle import RewardOracle
from kempeframe_standard.hub import DataNotFound
from kempeframe_standard.models_text import Decoder
from kempeframe_standard.optimizers import Untrained

from kempeframe import Fit
from kempeframe.runs import Run
from kempeframe.trial import Session

RECORDS = [
    {
        "chosen": f"\n\nHuman: question {i}?\n\nAssistant: first\n\nHuman: and?\n\nAssistant: good {i}",
        "rejected": f"\n\nHuman: question {i}?\n\nAssistant: first\n\nHuman: and?\n\nAssistant: bad {i}",
    }
    for i in range(12)
]


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "Anthropic" / "hh-rlhf" / "harmless-base"
    folder.mkdir(parents=True)
    for part in ("train", "test"):
        with gzip.open(folder / f"{part}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(record) + "\n" for record in RECORDS)
    monkeypatch.setenv("KEMPEFRAME_HUB", str(tmp_path))
    conversations.load.cache_clear()
    return tmp_path


def test_a_prompt_ends_with_the_last_word_of_the_assistant() -> None:
    prompt, response = conversations.split(RECORDS[0]["chosen"])
    assert prompt.endswith("Human: and?\n\nAssistant:") and response == " good 0"
    with pytest.raises(ValueError, match="without 'Assistant:'"):
        conversations.split("\n\nHuman: hello")
    assert conversations.turns(prompt) == [
        {"role": "user", "content": "question 0?"},
        {"role": "assistant", "content": "first"},
        {"role": "user", "content": "and?"},
    ]


def test_what_can_not_be_compared_is_left_out_and_counted() -> None:
    different = {"chosen": RECORDS[0]["chosen"], "rejected": RECORDS[1]["rejected"]}
    empty = {"chosen": RECORDS[0]["chosen"], "rejected": RECORDS[0]["rejected"].removesuffix("bad 0")}
    parsed = conversations.parse([RECORDS[0], different, empty])
    assert len(parsed.comparisons) == 1
    assert (parsed.different_prompts, parsed.empty_responses) == (1, 1)


def test_long_prompts_are_left_out_and_long_responses_cut() -> None:
    by = conversations.ByteTokenizer()
    comparisons = [conversations.Comparison("ab", " long", "x"), conversations.Comparison("abcdef", "y", "z")]
    encoded = conversations.encode(comparisons, by, 4, 3)
    assert encoded.prompts == [[97, 98]] and encoded.too_long == 1
    assert encoded.chosen == [[32, 108, 111]] and encoded.rejected == [[120, 256]]
    assert by.decode([97, 98, 256, 257]) == "ab"


def data(**settings: Any) -> HhRlhf:
    return HhRlhf(oracle=RewardOracle(), max_prompt_tokens=64, max_response_tokens=12, n_test=4, **settings)


def test_the_true_reward_is_the_oracles(session: Session, mirror: Path) -> None:
    pytest.importorskip("transformers", reason="the oracle needs transformers")
    task = session.task(data(), Run(0, session))
    world = task.truth
    prompts, responses = world.train_prompts[:3], torch.full((3, 12), 257)
    for row, text in enumerate(("yes", "no", "yes")):
        tokens = [*text.encode(), 256]
        responses[row, : len(tokens)] = torch.tensor(tokens)
    asked, said = world.texts(prompts, responses)
    assert said == ["yes", "no", "yes"] and asked[0].endswith("Assistant:")
    found = world.reward(prompts, responses)
    direct = RewardOracle().scorer("cpu")(asked, said)
    torch.testing.assert_close(found, direct.double(), atol=1e-5, rtol=1e-5)
    assert found.std() > 1e-3


def test_supervised_targets_are_the_chosen_response_and_its_end(session: Session, mirror: Path) -> None:
    batch = session.task(data(), Run(0, session)).train.examples()
    assert batch.targets is not None
    learned = batch.targets[0][batch.targets[0] != -100]
    assert bytes(learned[:-1].tolist()).decode() == " good 0" and int(learned[-1]) == 256
    tail = session.task(data(split="test"), Run(0, session))
    assert len(tail.train.examples().inputs) == 8 and len(tail.test.examples().inputs) == 4


def test_human_pairs_come_in_either_order_with_their_labels(session: Session, mirror: Path) -> None:
    source = data()
    reference = Fit(data=source, model=Decoder(width=16, heads=2, depth=1), optimizer=Untrained(), seed=0, stream="r")
    task = session.task(HumanPairs(source=source, reference=reference), Run(0, session))
    batch = task.train.examples()
    _, first, _, margin = task.truth.space.unpacked(batch.inputs)
    assert batch.targets is not None and 0 < int(batch.targets.sum()) < 12
    for row, target in zip(first.tolist(), batch.targets.tolist(), strict=True):
        said = conversations.ByteTokenizer().decode(row)
        assert ("good" in said) == bool(target)
    assert float(margin.abs().max()) > 0


def test_bad_settings(session: Session, mirror: Path) -> None:
    from kempeframe_pilaf.data import Bandit
    from kempeframe_standard.evaluators import Accuracy

    with pytest.raises(ValueError, match=r"scores no texts; expected pilaf\.reward_oracle"):
        HhRlhf(oracle=Accuracy())
    with pytest.raises(ValueError, match="max_prompt_tokens = 3: no prompt of harmless-base is so short"):
        session.task(HhRlhf(oracle=RewardOracle(), max_prompt_tokens=3, n_test=4), Run(0, session))
    with pytest.raises(DataNotFound, match="no Anthropic/hh-rlhf helpful-base test"):
        session.task(data(subset="helpful-base"), Run(0, session))
    fit = Fit(data=data(), model=Decoder(), optimizer=Untrained(), seed=0)
    with pytest.raises(ValueError, match="pairs that humans have compared"):
        HumanPairs(source=Bandit(), reference=fit)


def test_the_real_file_is_parsed_as_it_was_counted() -> None:
    """2312 pairs of harmless-base: 2307 with one last turn, 4 of those with an empty response (brief, section 4)."""
    folder = os.environ.get("KEMPEFRAME_HUB")
    file = Path(folder or "") / "Anthropic" / "hh-rlhf" / "harmless-base" / "test.jsonl.gz"
    if not folder or not file.exists():
        pytest.skip("KEMPEFRAME_HUB names no mirror with Anthropic/hh-rlhf")
    conversations.load.cache_clear()
    parsed = conversations.load("harmless-base", "test")
    assert parsed.different_prompts == 5
    assert len(parsed.comparisons) + parsed.empty_responses == 2307
    assert parsed.empty_responses == 4
    lengths = sorted(len(c.prompt) for c in parsed.comparisons)
    assert abs(lengths[len(lengths) // 2] - 363) <= 3
