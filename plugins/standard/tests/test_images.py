"""Images by hub name: from a mirror, cached, disjoint; and a clear error where there are none."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from kempeframe_standard.data_images import HubImages
from kempeframe_standard.hub import DataNotFound, load_images

from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.trial import Session

MIRROR = os.environ.get("KEMPEFRAME_HUB", "")
NEEDS_MNIST = pytest.mark.skipif(
    not (Path(MIRROR) / "ylecun" / "mnist").is_dir(), reason="KEMPEFRAME_HUB names no mirror that has ylecun/mnist"
)
NEEDS_CIFAR = pytest.mark.skipif(
    not (Path(MIRROR) / "uoft-cs" / "cifar10").is_dir(), reason="KEMPEFRAME_HUB names no mirror that has uoft-cs/cifar10"
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(0, Session(Store(tmp_path / "store")))


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror with a data set of 30 training and 10 test images, 4 x 4, laid out as on the hub."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    rng = np.random.default_rng(0)
    folder = tmp_path / "hub" / "somebody" / "tiny" / "data"
    folder.mkdir(parents=True)
    for part, count in (("train", 30), ("test", 10)):
        rows = []
        for _ in range(count):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (4, 4), dtype=np.uint8)).save(buffer, "PNG")
            rows.append({"bytes": buffer.getvalue(), "path": None})
        labels = [i % 3 for i in range(count)]
        pq.write_table(pa.table({"image": rows, "label": labels}), folder / f"{part}-00000-of-00001.parquet")
    monkeypatch.setenv("KEMPEFRAME_HUB", str(tmp_path / "hub"))
    monkeypatch.setenv("KEMPEFRAME_STORE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "hub"


def test_a_mirror_is_read(mirror: Path, run: Run) -> None:
    task = HubImages(dataset="somebody/tiny", n_train=20, n_test=10).load(run)
    batch = task.train.examples()
    assert batch.inputs.shape == (20, 1, 4, 4)
    assert 0 <= float(batch.inputs.min()) < float(batch.inputs.max()) <= 1
    assert task.classes == 3
    assert len(task.test.examples().inputs) == 10
    assert len(task.split("population").examples().inputs) == 30


def test_parts_that_do_not_overlap_share_no_image(mirror: Path, run: Run) -> None:
    one = HubImages(dataset="somebody/tiny", n_train=10, n_test=5).load(run)
    two = HubImages(dataset="somebody/tiny", n_train=10, n_test=5, skip=10).load(run)
    three = HubImages(dataset="somebody/tiny", n_train=10, n_test=5, skip=5).load(run)
    assert one.truth.shared(two.truth) == 0
    assert one.truth.shared(three.truth) == 5
    rows = [{row.tobytes() for row in task.train.examples().inputs.numpy()} for task in (one, two)]
    assert not rows[0] & rows[1]


def test_classes_are_kept_and_renumbered(mirror: Path, run: Run) -> None:
    task = HubImages(dataset="somebody/tiny", n_train=20, n_test=3, classes=(2, 0)).load(run)
    assert task.classes == 2
    assert set(task.train.examples().targets.tolist()) == {0, 1}  # type: ignore[union-attr]


def test_pooling_and_centring(mirror: Path, run: Run) -> None:
    plain = HubImages(dataset="somebody/tiny", n_train=20, n_test=3).load(run).train.examples().inputs
    pooled = HubImages(dataset="somebody/tiny", n_train=20, n_test=3, pool=2).load(run).train.examples().inputs
    np.testing.assert_allclose(pooled[:, 0, 0, 0], plain[:, 0, :2, :2].mean(dim=(1, 2)), atol=1e-6)
    centred = HubImages(dataset="somebody/tiny", n_train=20, n_test=3, centre=True).load(run)
    assert float(centred.split("population").examples().inputs.mean(dim=0).abs().max()) < 1e-6
    assert centred.bounds is None


def test_a_damaged_cache_is_decoded_again(mirror: Path, run: Run) -> None:
    before = np.array(load_images("somebody/tiny", "train").pixels)
    cached = [file for file in (mirror.parent / "cache").rglob("*") if file.is_file()]
    assert cached
    for file in cached:
        file.write_bytes(file.read_bytes()[:-20])
    assert np.array_equal(load_images("somebody/tiny", "train").pixels, before)


def test_what_is_nowhere_is_said_with_both_places(mirror: Path) -> None:
    with pytest.raises(DataNotFound) as error:
        load_images("nobody/nothing", "train")
    message = str(error.value)
    assert str(mirror) in message
    assert "KEMPEFRAME_HUB" in message
    assert "hub" in message


def test_too_many_images_are_refused(mirror: Path, run: Run) -> None:
    with pytest.raises(ValueError, match="there are 30 images in the training part"):
        HubImages(dataset="somebody/tiny", n_train=31).load(run)
    with pytest.raises(ValueError, match="OWNER/NAME"):
        HubImages(dataset="mnist")


@NEEDS_MNIST
def test_mnist(run: Run) -> None:
    task = HubImages(dataset="ylecun/mnist", n_train=500, n_test=200).load(run)
    batch = task.train.examples()
    assert batch.inputs.shape == (500, 1, 28, 28)
    assert task.classes == 10
    assert 0.05 < float(batch.inputs.mean()) < 0.25  # mostly black
    counts = np.bincount(load_images("ylecun/mnist", "train").labels, minlength=10)
    assert counts.min() > 0.08 * counts.sum()


@NEEDS_CIFAR
def test_cifar10(run: Run) -> None:
    task = HubImages(dataset="uoft-cs/cifar10", n_train=50, n_test=20).load(run)
    assert task.train.examples().inputs.shape == (50, 3, 32, 32)
    assert task.classes == 10
