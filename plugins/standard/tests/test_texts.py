"""Text by hub name: characters or a tokenizer's tokens, windows of them, and what to do where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from kempeframe_standard.data_text import HubText
from kempeframe_standard.hub import DataNotFound
from kempeframe_standard.texts import load_text

from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.trial import Session

WORDS = "to be or not to be that is the question whether it is nobler in the mind " * 20


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    load_text.cache_clear()
    (tmp_path / "hub" / "me" / "words").mkdir(parents=True)
    (tmp_path / "hub" / "me" / "words" / "input.txt").write_text(WORDS)
    monkeypatch.setenv("KEMPEFRAME_HUB", str(tmp_path / "hub"))
    return Run(0, Session(Store(tmp_path / "store")))


def test_every_window_is_an_example_and_targets_are_one_character_on(run: Run) -> None:
    task = HubText(dataset="me/words", n_train=300, n_test=100, skip=50, context=16).load(run)
    text = task.truth.text
    assert "".join(text.vocabulary) == "".join(sorted(set(WORDS)))
    train = task.train.examples()
    assert train.inputs.shape == (300 - 16, 16)
    for i in (0, 7, 283):
        assert text.decode(train.inputs[i].numpy()) == WORDS[50 + i : 66 + i]
        assert text.decode(train.targets[i].numpy()) == WORDS[51 + i : 67 + i]
    test = task.test.examples()
    assert text.decode(test.inputs.flatten().numpy()) == WORDS[-100:][: 6 * 16]
    assert task.output_shape == (16, len(text.vocabulary))


def test_batches_of_windows_are_whole(run: Run) -> None:
    task = HubText(dataset="me/words", n_train=200, n_test=100, context=8).load(run)
    batches = list(task.train.batches(None, 50, run))
    assert sum(len(batch.inputs) for batch in batches) == 192
    assert all(torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1]) for batch in batches)


def test_a_tokenizer_from_the_mirror(run: Run, tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = sorted(set(WORDS.split()))
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0]))
    made.pre_tokenizer = Whitespace()
    (tmp_path / "hub" / "me" / "model").mkdir(parents=True)
    made.save(str(tmp_path / "hub" / "me" / "model" / "tokenizer.json"))
    text = load_text("me/words", "me/model")
    assert [text.vocabulary[token] for token in text.tokens] == WORDS.split()


def test_tasks_that_share_tokens_say_how_many(run: Run) -> None:
    one = HubText(dataset="me/words", n_train=300, n_test=100, context=8).load(run)
    other = HubText(dataset="me/words", skip=200, n_train=300, n_test=100, context=8).load(run)
    apart = HubText(dataset="me/words", skip=300, n_train=300, n_test=100, context=8).load(run)
    assert (one.truth.shared(other.truth), one.truth.shared(apart.truth)) == (100, 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_train": 10_000}, "there are 1,460 tokens"),
        ({"n_train": 50, "context": 60}, "must be larger"),
        ({"dataset": "words"}, "OWNER/NAME"),
    ],
)
def test_bad_fields(run: Run, fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HubText(**{"dataset": "me/words", "n_train": 300, "n_test": 100, **fields}).load(run)


def test_no_text_anywhere(run: Run) -> None:
    with pytest.raises(DataNotFound, match=r"has no me/other/.*KEMPEFRAME_HUB name a directory"):
        load_text("me/other")
