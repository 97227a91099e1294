"""Image data sets by their hub name: found in a local mirror or on the hub, decoded once, then memory-mapped.

Decoding ten thousand PNG files takes seconds, so the decoded pixels are kept in the store's directory, one file per
part of a data set. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import numpy.typing as npt

from kempeframe.store import default_root

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1  # of the cache files; raised when they come to mean something else
NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
Bytes = npt.NDArray[np.uint8]
Row = tuple[bytes, int]  # an encoded image and its label


class DataNotFound(FileNotFoundError):
    """Neither the mirror nor the hub has the data set; the message says where was looked and what to do."""


@attrs.frozen(eq=False)
class Images:
    """One part of a data set. pixels: (n, height, width, channels) uint8, a read-only memory map; labels: (n,) int64.

    `identity` is the same wherever the same file is read: its name and size, or the hub's fingerprint.
    """

    identity: str
    pixels: Bytes
    labels: npt.NDArray[np.int64]


@attrs.frozen(eq=False)
class _Source:
    """Where the rows of one part are: `identity` as in Images; `stamp` changes whenever the files may have."""

    identity: str
    stamp: str
    rows: Callable[[], Iterator[Row]]


def load_images(dataset: str, part: str) -> Images:
    """All images of the part "train" or "test" of a data set, "ylecun/mnist" say.

    Looks into the directory that `KEMPEFRAME_HUB` names first, for DATASET/**/PART-*.parquet, then into the hub.

    Raises:
        DataNotFound: neither has it.
        ValueError: the name is none, or the files hold no single column of images and one of labels.
    """
    if not NAME.fullmatch(dataset):
        raise ValueError(f"dataset = {dataset!r}: expected a hub name, OWNER/NAME")
    mirror = os.environ.get("KEMPEFRAME_HUB", "")
    shards = _shards(Path(mirror) / dataset, part) if mirror else []
    source = _of_files(dataset, shards) if shards else _of_hub(dataset, part, mirror)
    text = "|".join([str(FORMAT), dataset, part, source.stamp])
    name = f"{dataset.replace('/', '-')}-{part}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npy"
    return _cached(default_root() / "images" / name, source)


def _shards(folder: Path, part: str) -> list[Path]:
    shards = sorted([*folder.rglob(f"{part}-*.parquet"), *folder.rglob(f"{part}.parquet")])
    folders = {shard.parent for shard in shards}
    if len(folders) > 1:
        shown = ", ".join(sorted(str(f.relative_to(folder)) for f in folders))
        raise ValueError(f"{folder} holds several configurations ({shown}); keep one of them in the mirror")
    return shards


def _of_files(dataset: str, shards: list[Path]) -> _Source:
    stats = [(shard.name, shard.stat()) for shard in shards]
    identity = " ".join([dataset, *(f"{name} {stat.st_size}" for name, stat in stats)])
    stamp = "|".join(f"{name}|{stat.st_size}|{stat.st_mtime_ns}" for name, stat in stats)
    return _Source(identity, stamp, lambda: _rows_of_files(shards))


def _rows_of_files(shards: Iterable[Path]) -> Iterator[Row]:
    import pyarrow.parquet as pq

    for shard in shards:
        file = pq.ParquetFile(shard)
        image, label = _columns(file.schema_arrow, shard)
        for batch in file.iter_batches(batch_size=1024, columns=[image, label]):
            encoded = batch.column(image).field("bytes").to_pylist()
            yield from zip(encoded, batch.column(label).to_pylist(), strict=True)


def _columns(schema: pa.Schema, shard: Path) -> tuple[str, str]:
    """The columns of images (a struct with encoded bytes) and labels (integers; "label" where there are more)."""
    import pyarrow as pa

    def is_image(kind: pa.DataType) -> bool:
        return bool(pa.types.is_struct(kind)) and kind.get_field_index("bytes") >= 0

    images = [f.name for f in schema if is_image(f.type)]
    labels = [f.name for f in schema if pa.types.is_integer(f.type)]
    labels = ["label"] if "label" in labels else labels
    if len(images) != 1 or len(labels) != 1:
        found = ", ".join(f"{f.name}: {f.type}" for f in schema)
        wanted = "one column of images (a struct with `bytes`) and one of labels"
        raise ValueError(f"{shard}: expected {wanted}; it has {found}")
    return images[0], labels[0]


@cache
def _of_hub(dataset: str, part: str, mirror: str) -> _Source:
    """Through the `datasets` package: an extra that is imported here only."""
    looked = "KEMPEFRAME_HUB, the local mirror, is not set"
    if mirror:
        looked = f"the local mirror, KEMPEFRAME_HUB = {mirror}, has no {dataset}/**/{part}-*.parquet"
    todo = (
        f"Either let KEMPEFRAME_HUB name a directory with {dataset}/.../{part}-00000-of-00001.parquet (laid out as "
        "the hub is), or install the extra, pip install 'kempeframe-standard[hub]', where the hub can be reached"
    )
    try:
        import datasets
    except ImportError:
        why = "the `datasets` package, which loads from the hub, is not installed"
        raise DataNotFound(f"no images {dataset!r} ({part}): {looked}, and {why}. {todo}.") from None
    try:
        table = datasets.load_dataset(dataset, split=part)
    except Exception as error:  # it raises errors of many libraries: offline, unknown name, no such split
        why = f"the hub did not give it ({type(error).__name__}: {error})"
        raise DataNotFound(f"no images {dataset!r} ({part}): {looked}, and {why}. {todo}.") from error
    identity = f"{dataset} {part} {table._fingerprint}"
    return _Source(identity, identity, lambda: _rows_of_hub(table, dataset))


def _rows_of_hub(table: Any, dataset: str) -> Iterator[Row]:
    import datasets

    images = [name for name, feature in table.features.items() if isinstance(feature, datasets.Image)]
    labels = [name for name, feature in table.features.items() if isinstance(feature, datasets.ClassLabel)]
    labels = ["label"] if "label" in labels else labels
    if len(images) != 1 or len(labels) != 1:
        found = dict(table.features)
        raise ValueError(f"{dataset}: expected one column of images and one of labels; it has {found}")
    encoded = table.cast_column(images[0], datasets.Image(decode=False))
    for row in encoded:
        image = row[images[0]]
        yield image["bytes"] or Path(image["path"]).read_bytes(), row[labels[0]]


def _decode(rows: Iterable[Row], identity: str) -> npt.NDArray[np.void]:
    """(n,) records with fields pixels (height, width, channels) and label. Grey images keep one channel."""
    from PIL import Image

    pixels, labels = [], []
    for encoded, label in rows:
        picture = Image.open(io.BytesIO(encoded))
        plain = picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
        array = np.asarray(plain, dtype=np.uint8)
        pixels.append(array if array.ndim == 3 else array[:, :, None])
        labels.append(label)
    shapes = {array.shape for array in pixels}
    if len(shapes) != 1:
        raise ValueError(f"{identity}: expected images of one size, found {len(shapes)} sizes")
    records = np.empty(len(pixels), dtype=[("pixels", np.uint8, shapes.pop()), ("label", np.int64)])
    records["pixels"], records["label"] = np.stack(pixels), labels
    return records


def _cached(path: Path, source: _Source) -> Images:
    try:
        return _open(path, source.identity)
    except (OSError, EOFError, ValueError):  # absent, empty, cut short, or altered
        _write(path, _decode(source.rows(), source.identity))
    return _open(path, source.identity)


@cache
def _open(path: Path, identity: str) -> Images:
    """A cache file, its checksum verified once per process.

    Raises:
        OSError, EOFError, ValueError: there is none, or it is damaged.
    """
    records = np.load(path, mmap_mode="r")
    with path.open("rb") as file:
        file.seek(-4, io.SEEK_END)
        checksum = int.from_bytes(file.read(4), "little")
    whole = path.stat().st_size == records.offset + records.nbytes + 4
    if not whole or zlib.crc32(records.view(np.uint8).data) != checksum:
        raise ValueError(f"{path} is damaged")
    return Images(identity, records["pixels"], np.array(records["label"]))


def _write(path: Path, records: npt.NDArray[np.void]) -> None:
    """An .npy file and four bytes of checksum: written beside, then renamed, so that nobody reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{uuid.uuid4().hex}.part")
    try:
        with beside.open("wb") as file:
            np.save(file, records, allow_pickle=False)
            file.write(zlib.crc32(records.view(np.uint8).data).to_bytes(4, "little"))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
