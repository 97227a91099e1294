"""Images by hub name: from a mirror, cached, disjoint; and a clear error where there are none."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from kempeframe_standard import hub
from kempeframe_standard.data_images import HubImages
from kempeframe_standard.hub import DataNotFound, load_images
from PIL import Image

from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.trial import Session

MIRROR = os.environ.get("KEMPEFRAME_HUB", "")
NEEDS_MNIST = pytest.mark.skipif(
    not (Path(MIRROR) / "ylecun" / "mnist").is_dir(), reason="KEMPEFRAME_HUB names no mirror that has ylecun/mnist"
)
NEEDS_CIFAR = pytest.mark.skipif(
    not (Path(MIRROR) / "uoft-cs" / "cifar10").is_dir(),
    reason="KEMPEFRAME_HUB names no mirror that has uoft-cs/cifar10",
)


@pytest.fixture(autouse=True, scope="module")
def own_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test touches the user's store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEMPEFRAME_STORE", str(tmp_path_factory.mktemp("images")))
        yield


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(0, Session(Store(tmp_path / "store")))


def write(path: Path, pixels: np.ndarray, labels: Sequence[int], **more: list[Any]) -> None:
    """A parquet file as the hub has them: images as PNG bytes in a struct column."""
    rows = []
    for picture in pixels:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": rows, "label": list(labels), **more}), path)


def pictures(count: int, seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror with a data set of 30 training (in two files) and 10 test images, 4 x 4, laid out as on the hub."""
    folder = tmp_path / "hub" / "somebody" / "tiny" / "data"
    for shard in (0, 1):
        write(folder / f"train-0000{shard}-of-00002.parquet", pictures(15, shard, 4, 4), [0, 1, 2] * 5)
    write(folder / "test-00000-of-00001.parquet", pictures(10, 2, 4, 4), [*[0, 1, 2] * 3, 0])
    monkeypatch.setenv("KEMPEFRAME_HUB", str(tmp_path / "hub"))
    monkeypatch.setenv("KEMPEFRAME_STORE", str(tmp_path / "cache"))
    return tmp_path / "hub"


def test_pixels_are_the_files_in_their_order(mirror: Path) -> None:
    images = load_images("somebody/tiny", "train")
    np.testing.assert_array_equal(images.pixels[..., 0], np.concatenate([pictures(15, s, 4, 4) for s in (0, 1)]))
    assert images.labels.tolist() == [0, 1, 2] * 10
    assert not images.pixels.flags.writeable


def test_colour_images_have_three_channels_and_other_columns_do_not_matter(mirror: Path) -> None:
    pixels = pictures(4, 5, 5, 5, 3)
    write(mirror / "somebody" / "colour" / "train.parquet", pixels, [3, 1, 0, 2], coarse=[0, 0, 0, 1], name=["x"] * 4)
    images = load_images("somebody/colour", "train")
    np.testing.assert_array_equal(images.pixels, pixels)
    assert images.labels.tolist() == [3, 1, 0, 2]


def test_inputs_and_targets_are_the_images_that_the_task_names(mirror: Path, run: Run) -> None:
    task = HubImages(dataset="somebody/tiny", n_train=20, n_test=10, dtype="float64").load(run)
    batch, images = task.train.examples(), load_images("somebody/tiny", "train")
    np.testing.assert_allclose(batch.inputs[:, 0].numpy(), images.pixels[task.truth.train, :, :, 0] / 255)
    assert batch.targets is not None
    assert batch.targets.tolist() == images.labels[task.truth.train].tolist()
    assert task.bounds == (0, 1)
    batch.inputs.zero_()  # a task's tensors are its own
    assert float(HubImages(dataset="somebody/tiny", n_train=20).load(run).train.examples().inputs.max()) > 0


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


def test_a_larger_training_set_holds_the_smaller(mirror: Path, run: Run) -> None:
    def inputs(n_train: int, skip: int, of: Run = run) -> torch.Tensor:
        return HubImages(dataset="somebody/tiny", n_train=n_train, skip=skip).load(of).train.examples().inputs

    assert torch.equal(inputs(10, 0), inputs(25, 0)[:10])
    assert torch.equal(inputs(25, 0)[10:], inputs(20, 10)[:15])
    assert torch.equal(inputs(10, 0), inputs(10, 0, Run(77, run.session, run)))  # one permutation in all of a trial
    assert not torch.equal(inputs(10, 0), inputs(10, 0, Run(1, run.session)))


def test_files_of_another_form_are_refused(mirror: Path, run: Run) -> None:
    folder = mirror / "somebody"
    (folder / "text").mkdir()
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), folder / "text" / "train.parquet")
    with pytest.raises(ValueError, match=r"expected one column of images .* it has text: string, label: int64"):
        load_images("somebody/text", "train")
    for size in (4, 5):
        write(folder / "sizes" / f"train-{size}.parquet", pictures(1, 0, size, size), [0])
    with pytest.raises(ValueError, match="images of one size, found 2 sizes"):
        load_images("somebody/sizes", "train")
    write(folder / "tiny" / "fancy" / "test.parquet", pictures(2, 0, 4, 4), [0, 1])
    with pytest.raises(ValueError, match=r"several configurations \(data, fancy\)"):
        load_images("somebody/tiny", "test")
    write(folder / "odd" / "train.parquet", pictures(2, 0, 5, 5), [0, 1])
    with pytest.raises(ValueError, match="pool = 2 does not divide images of 5 x 5"):
        HubImages(dataset="somebody/odd", n_train=2, pool=2).load(run)


def again(decoded: list[int], monkeypatch: pytest.MonkeyPatch) -> hub.Images:
    """As a new process would read it; `decoded` notes how many images were."""
    hub._open.cache_clear()
    decode = hub._decode

    def noted(rows: Any, identity: str) -> Any:
        records = decode(rows, identity)
        decoded.append(len(records))
        return records

    with monkeypatch.context() as patch:
        patch.setattr(hub, "_decode", noted)
        return load_images("somebody/tiny", "train")


def test_a_cache_hit_equals_a_decode(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    first, second = again(decoded, monkeypatch), again(decoded, monkeypatch)
    assert decoded == [30]
    np.testing.assert_array_equal(first.pixels, second.pixels)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert [path.suffix for path in (mirror.parent / "cache" / "images").iterdir()] == [".npy"]  # no part file is left


@pytest.mark.parametrize("damage", ["cut", "altered", "empty", "text"])
def test_a_damaged_cache_is_decoded_again(mirror: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    decoded: list[int] = []
    pixels = np.array(again(decoded, monkeypatch).pixels)
    (path,) = (mirror.parent / "cache" / "images").iterdir()
    content = bytearray(path.read_bytes())
    content[-99] ^= 1
    path.unlink()  # what maps the sound file keeps it
    path.write_bytes({"cut": content[:-9], "altered": content, "empty": b"", "text": b"no array at all"}[damage])
    np.testing.assert_array_equal(again(decoded, monkeypatch).pixels, pixels)
    assert decoded == [30, 30]


def test_a_changed_file_is_decoded_anew(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    again(decoded, monkeypatch)
    write(next(mirror.rglob("train-00000*")), pictures(15, 9, 4, 4), [0] * 15)
    np.testing.assert_array_equal(again(decoded, monkeypatch).pixels[:15, :, :, 0], pictures(15, 9, 4, 4))
    assert decoded == [30, 30]


class FakeHub:
    """What this plugin uses of the `datasets` package, which itself needs the network."""

    class Image:
        def __init__(self, decode: bool = True):
            self.decode = decode

    class ClassLabel:
        pass

    class Table:
        def __init__(self, rows: list[dict[str, Any]]):
            self.rows, self._fingerprint = rows, "f00d"
            self.features = {"image": FakeHub.Image(), "label": FakeHub.ClassLabel()}

        def cast_column(self, name: str, feature: FakeHub.Image) -> list[dict[str, Any]]:
            assert name == "image" and not feature.decode
            return self.rows

    def __init__(self, rows: list[dict[str, Any]]):
        self.rows = rows

    def load_dataset(self, dataset: str, split: str) -> FakeHub.Table:
        if dataset != "somebody/tiny":
            raise ConnectionError("offline")
        return FakeHub.Table(self.rows)


def test_the_hub_gives_what_the_mirror_lacks(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pq.read_table(next(mirror.rglob("test-*.parquet"))).to_pylist()
    local = load_images("somebody/tiny", "test")
    monkeypatch.delenv("KEMPEFRAME_HUB")
    monkeypatch.setitem(sys.modules, "datasets", FakeHub(rows))  # type: ignore[arg-type]
    hub._of_hub.cache_clear()
    remote = load_images("somebody/tiny", "test")
    hub._of_hub.cache_clear()
    np.testing.assert_array_equal(remote.pixels, local.pixels)
    np.testing.assert_array_equal(remote.labels, local.labels)
    with pytest.raises(DataNotFound, match="ConnectionError: offline"):
        load_images("somebody/else", "test")


def test_what_is_nowhere_is_said_with_both_places(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # as if it were not installed
    with pytest.raises(DataNotFound) as error:
        load_images("nobody/nothing", "train")
    message = str(error.value)
    assert str(mirror) in message
    assert "KEMPEFRAME_HUB" in message
    assert "not installed" in message and "kempeframe-standard[hub]" in message
    monkeypatch.delenv("KEMPEFRAME_HUB")
    with pytest.raises(DataNotFound, match="the local mirror, is not set"):
        load_images("nobody/nothing", "train")


def test_too_many_images_are_refused(mirror: Path, run: Run) -> None:
    with pytest.raises(ValueError, match="there are 30 images in the training part"):
        HubImages(dataset="somebody/tiny", n_train=31).load(run)
    with pytest.raises(ValueError, match="OWNER/NAME"):
        HubImages(dataset="mnist")
    with pytest.raises(ValueError, match="a label is there twice"):
        HubImages(classes=(1, 1))
    with pytest.raises(ValueError, match="no image has the label 7"):
        HubImages(dataset="somebody/tiny", n_train=3, classes=(7,)).load(run)


@NEEDS_MNIST
def test_mnist(run: Run) -> None:
    task = HubImages(dataset="ylecun/mnist", n_train=500, n_test=200).load(run)
    batch = task.train.examples()
    assert batch.inputs.shape == (500, 1, 28, 28)
    assert task.classes == 10
    assert 0.05 < float(batch.inputs.mean()) < 0.25  # mostly black
    counts = np.bincount(load_images("ylecun/mnist", "train").labels, minlength=10)
    assert counts.min() > 0.08 * counts.sum()
    pixels = np.asarray(load_images("ylecun/mnist", "train").pixels) / 255
    assert pixels.mean() == pytest.approx(0.1307, abs=0.002)  # as published for the 60,000
    assert pixels.std() == pytest.approx(0.3081, abs=0.003)


@NEEDS_MNIST
def test_mnists_parts_share_no_image(run: Run) -> None:
    student, generator = (HubImages(n_train=n, n_test=500, skip=k).load(run) for n, k in ((1000, 500), (500, 0)))
    assert student.truth.shared(generator.truth) == 0
    splits = (student.train, generator.train, student.test)
    rows = [{image.tobytes() for image in split.examples().inputs.numpy()} for split in splits]
    assert len(rows[0] | rows[1] | rows[2]) == sum(map(len, rows))


@NEEDS_CIFAR
@pytest.mark.slow  # 60,000 images are decoded
def test_cifar10(run: Run) -> None:
    task = HubImages(dataset="uoft-cs/cifar10", n_train=50, n_test=20).load(run)
    assert task.train.examples().inputs.shape == (50, 3, 32, 32)
    assert task.classes == 10
    for part in ("train", "test"):
        labels = load_images("uoft-cs/cifar10", part).labels
        assert (np.bincount(labels) == len(labels) // 10).all()
