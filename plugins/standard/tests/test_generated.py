"""Generated data: the truths are what they say; augmentation moves and mirrors, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from kempeframe_standard.augmentation import AugmentedExamples, augmented
from kempeframe_standard.data import Digits
from kempeframe_standard.data_generated import GaussianMixture, Mixture, TeacherStudent

from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.trial import Session


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(0, Session(Store(tmp_path)))


def test_the_nearest_mean_reaches_the_bayes_accuracy(run: Run) -> None:
    task = GaussianMixture(dimension=5, separation=1.0, spread=0.8, n_test=200_000, dtype="float64").load(run)
    batch = task.test.examples()
    means = torch.from_numpy(task.truth.means)
    right = (torch.cdist(batch.inputs, means).argmin(dim=1) == batch.targets).double()
    assert task.truth.bayes_accuracy == pytest.approx(0.8943502)  # Phi(1 / 0.8)
    assert float(right.mean()) == pytest.approx(
        task.truth.bayes_accuracy, abs=4 * float(right.std()) / len(right) ** 0.5
    )


def test_labels_are_flipped_in_training_alone(run: Run) -> None:
    task = GaussianMixture(separation=50.0, classes=4, n_train=20_000, n_test=2000, flip=0.3).load(run)
    for part, expected in (("train", 0.7), ("test", 1.0)):
        batch = task.split(part).examples()
        nearest = torch.cdist(batch.inputs, torch.from_numpy(task.truth.means).float()).argmin(dim=1)
        assert float((nearest == batch.targets).double().mean()) == pytest.approx(expected, abs=0.015)


def test_no_closed_form_for_many_classes() -> None:
    assert Mixture(np.eye(3), 1.0).bayes_accuracy is None


@pytest.mark.parametrize("teacher", ["linear", "two_layer"])
def test_targets_are_what_the_teacher_says(run: Run, teacher: str) -> None:
    data = {"teacher": teacher, "dimension": 7, "active": 3, "neurons": 4}
    signs = TeacherStudent(**data).load(run)
    values = TeacherStudent(**data, targets="value", noise=0.5, n_test=20_000).load(run)
    batch = signs.test.examples()
    assert torch.equal(batch.targets, torch.from_numpy((signs.truth(batch.inputs.numpy()) > 0).astype(np.int64)))
    assert ((signs.truth.weights != 0).sum(axis=1) == 3).all()
    batch = values.test.examples()
    noise = batch.targets[:, 0].numpy() - values.truth(batch.inputs.numpy())
    assert noise.std() == pytest.approx(0.5, rel=0.02)
    assert np.array_equal(signs.truth.weights, values.truth.weights)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"active": 30}, "there are 20 features"),
        ({"noise": 1.0}, "noise is for targets"),
        ({"targets": "value", "flip": 0.1}, "flip is for targets"),
    ],
)
def test_fields_that_do_not_go_together(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TeacherStudent(**fields)


def test_more_training_examples_hold_the_fewer(run: Run) -> None:
    small, large = TeacherStudent(n_train=50).load(run), TeacherStudent(n_train=90).load(run)
    assert torch.equal(small.train.examples().inputs, large.train.examples().inputs[:50])


def test_validation_digits_are_neither_training_nor_test_ones(run: Run) -> None:
    task = Digits(n_train=900, n_validation=300, n_test=597).load(run)
    parts = [task.split(name).examples().inputs.flatten(1) for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [900, 300, 597]
    together = torch.cat(parts).double().sort(dim=0).values
    everything = task.split("population").examples().inputs.flatten(1).double().sort(dim=0).values
    assert torch.equal(together, everything)


def test_a_crop_moves_and_a_flip_mirrors() -> None:
    images = torch.arange(2 * 1 * 3 * 3.0).reshape(2, 1, 3, 3) + 1
    same = augmented(images, torch.full((2, 2), 4), torch.tensor([False, True]))
    assert torch.equal(same[0], images[0])
    assert torch.equal(same[1], images[1].flip(-1))
    down = augmented(images, torch.tensor([[3, 4], [4, 5]]), None)
    assert torch.equal(down[0, 0, 1:], images[0, 0, :2])
    assert (down[0, 0, 0] == 0).all()
    assert torch.equal(down[1, 0, :, :2], images[1, 0, :, 1:])
    assert (down[1, 0, :, 2] == 0).all()


def test_batches_of_augmented_images_go_on_where_a_pass_was_left(tmp_path: Path) -> None:
    def examples() -> AugmentedExamples:
        images = torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        return AugmentedExamples(images, torch.arange(10), crop=True, flip=True)

    run = Run(3, Session(Store(tmp_path)))
    whole = iter(examples().batches(None, 3, run))
    start = Run(3, Session(Store(tmp_path))).generator("data").get_state()
    next(whole)
    now = run.generator("data").get_state()
    rest = list(whole)
    again = Run(3, Session(Store(tmp_path)))
    again.generator("data").set_state(start)
    batches = examples().batches_from(1, None, 3, again)
    again.generator("data").set_state(now)
    for left, right in zip(rest, batches, strict=True):
        assert torch.equal(left.inputs, right.inputs)
        assert torch.equal(left.targets, right.targets)
