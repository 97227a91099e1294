"""The store under damage: cut and altered segments, kills, full disks, errors of a write. What was whole is kept."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kempeframe.segments import FLUSH_SECONDS, header
from kempeframe.store import HEADER, LARGE, Namespace, StoreError
from tests.store_records import filled, key


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 3000))
def test_a_cut_segment_gives_whole_records_or_none(tmp_path: Path, cut: int) -> None:
    root = tmp_path / str(cut)
    if not root.exists():
        filled(root)
    (segment,) = root.glob("*.seg")
    data = segment.read_bytes()
    segment.write_bytes(data[: max(0, len(data) - cut)])
    found = [Namespace(root).get(key(i)) for i in range(20)]
    segment.write_bytes(data)
    assert all(payload in (None, f"record {i}".encode() * (i + 1)) for i, payload in enumerate(found))
    if cut == 0:
        assert None not in found


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 2500), bit=st.integers(0, 7))
def test_a_flipped_bit_is_never_read(tmp_path: Path, at: int, bit: int) -> None:
    root = tmp_path / "one"
    if not root.exists():
        filled(root)
    (segment,) = root.glob("*.seg")
    data = segment.read_bytes()
    at %= len(data)
    segment.write_bytes(data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :])
    found = [Namespace(root).get(key(i)) for i in range(20)]
    segment.write_bytes(data)
    whole = [f"record {i}".encode() * (i + 1) for i in range(20)]
    assert all(payload is None or payload == right for payload, right in zip(found, whole, strict=True))
    assert sum(payload is None for payload in found) >= 1


def test_a_damaged_record_is_computed_again_not_read(tmp_path: Path) -> None:
    space = filled(tmp_path)
    record = space.index[bytes.fromhex(key(5))]
    path, offset = Path(record.segment.file), record.offset
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(bytes(data))
    again = Namespace(tmp_path)
    assert again.get(key(5)) is None
    assert key(5) not in again
    again.refresh(everything=True)
    assert key(5) not in again
    assert again.get(key(6)) is not None
    again.put(key(5), b"anew")
    assert Namespace(tmp_path).get(key(5)) == b"anew"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 2500), damage=st.binary(min_size=1, max_size=200))
def test_damage_costs_only_the_records_that_it_touches(tmp_path: Path, at: int, damage: bytes) -> None:
    root = tmp_path / "one"
    if not root.exists():
        filled(root)
    (segment,) = root.glob("*.seg")
    data = segment.read_bytes()
    at %= len(data)
    altered = (data[:at] + damage + data[at + len(damage) :])[: len(data)]
    whole = [header(bytes.fromhex(key(i)), p) + p for i in range(20) for p in [f"record {i}".encode() * (i + 1)]]
    starts = [sum(map(len, whole[:i])) for i in range(21)]
    touched = {i for i in range(20) if altered[starts[i] : starts[i + 1]] != whole[i]}
    segment.write_bytes(altered)
    reader = Namespace(root)
    lost = {i for i in range(20) if reader.get(key(i)) is None}
    segment.write_bytes(data)
    assert lost == touched


def test_a_record_that_holds_the_mark_of_records_misleads_nobody_after_damage(tmp_path: Path) -> None:
    space = Namespace(tmp_path)
    space.put(key(1), b"KF01" * 100)
    space.put(key(2), b"KF01" + os.urandom(1 << 19))
    space.put(key(3), b"three")
    (segment,) = tmp_path.glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[0] ^= 1
    data[data.index(b"KF01", HEADER.size + 400)] ^= 1
    segment.write_bytes(bytes(data))
    assert set(Namespace(tmp_path).keys()) == {key(3)}


def test_records_after_a_torn_one_are_found(tmp_path: Path) -> None:
    """A write that was cut short and could not be undone: the next records lie inside what its header claims."""
    torn = header(bytes.fromhex(key(1)), b"x" * 300) + b"x" * 50
    whole = b"".join(header(bytes.fromhex(key(i)), b"y" * 100) + b"y" * 100 for i in range(2, 8))
    (tmp_path / "1-1.seg").write_bytes(torn + whole)
    assert set(Namespace(tmp_path).keys()) == {key(i) for i in range(2, 8)}


def test_a_record_that_is_still_being_written_is_looked_at_again(tmp_path: Path) -> None:
    reader = Namespace(tmp_path)
    segment = tmp_path / "1-1.seg"
    record = header(bytes.fromhex(key(1)), b"slowly") + b"slowly"
    for size in range(len(record)):
        segment.write_bytes(record[:size])
        reader.refresh()
        assert key(1) not in reader
    segment.write_bytes(record)
    reader.refresh()
    assert reader.get(key(1)) == b"slowly"


def test_what_arrives_late_in_place_of_zeros_is_found_by_a_full_refresh(tmp_path: Path) -> None:
    """A network file system may show the end of a file before its middle."""
    records = [header(bytes.fromhex(key(i)), b"payload") + b"payload" for i in range(3)]
    segment = tmp_path / "1-1.seg"
    segment.write_bytes(records[0] + bytes(len(records[1])) + records[2])
    reader = Namespace(tmp_path)
    assert set(reader.keys()) == {key(0), key(2)}
    segment.write_bytes(b"".join(records))
    reader.refresh(everything=True)
    assert set(reader.keys()) == {key(0), key(1), key(2)}


WRITE_UNTIL_KILLED = """
import sys
from pathlib import Path
from kempeframe.store import Namespace
space = Namespace(Path(sys.argv[1]))
for i in range(1_000_000):
    space.put(f"{i:032x}", str(i).encode() * (1 + i % 500))
    sys.stdout.write(f"{i}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("records", [1, 50, 700, 5000])
def test_a_kill_loses_nothing_that_was_put(tmp_path: Path, records: int) -> None:
    command = [sys.executable, "-c", WRITE_UNTIL_KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= records:
                process.send_signal(signal.SIGKILL)
                break
        last = max([int(line), *(int(rest) for rest in process.stdout if rest.endswith("\n"))])
    reader = Namespace(tmp_path)
    assert all(reader.get(key(i)) == str(i).encode() * (1 + i % 500) for i in range(last + 1))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small file system can't be mounted here")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_full_disk_is_said_and_costs_nothing_that_was_stored(small_disk: Path) -> None:
    space = Namespace(small_disk / "space")
    stored: list[int] = []

    def fill() -> None:
        for i in range(1000):
            space.put(key(i), bytes([i % 256]) * 1500)
            stored.append(i)

    with pytest.raises(StoreError, match=r"space can't be written: No space left .*; what was finished before is kept"):
        fill()
    with pytest.raises(StoreError, match="No space left"):
        space.put(key(5000), os.urandom(LARGE + 1))
    assert not list(small_disk.rglob("*.part"))
    assert len(stored) > 100
    (segment,) = (small_disk / "space").glob("*.seg")
    assert segment.stat().st_size == len(stored) * (HEADER.size + 1500)
    assert all(Namespace(small_disk / "space").get(key(i)) == bytes([i % 256]) * 1500 for i in stored)
    space.put(key(6000), b"there is room for this")
    assert Namespace(small_disk / "space").get(key(6000)) == b"there is room for this"
    space.flush()


WRITE_TO_THE_LIMIT = """
import resource, sys
from pathlib import Path
from kempeframe.store import Namespace, StoreError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
space = Namespace(Path(sys.argv[1]))
for i in range(1000):
    try:
        space.put(f"{i:032x}", b"x" * 999)
    except StoreError as error:
        print(i, error)
        break
try:
    space.put(f"{1000:032x}", bytes(2 << 20))
except StoreError as error:
    print(error)
"""


def test_a_file_that_may_not_grow_is_said_and_left_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITE_TO_THE_LIMIT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    stored = int(first.partition(" ")[0])
    assert "File too large" in first and "File too large" in second
    assert not done.stderr
    assert set(Namespace(tmp_path).keys()) == {key(i) for i in range(stored)}
    assert not list(tmp_path.rglob("*.part")) and not list(tmp_path.rglob("*.bin"))


def test_a_half_written_record_that_can_not_be_cut_off_ends_the_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = filled(tmp_path, 3)
    right = os.write

    def half(fd: int, data: bytes) -> int:
        if len(data) < 60:
            raise OSError(errno.EIO, "Input/output error")
        return right(fd, bytes(data)[:50])

    def refuse(fd: int, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(StoreError, match="Input/output error"):
            space.put(key(10), b"x" * 50)
    space.put(key(11), b"after")
    assert set(Namespace(tmp_path).keys()) == {*(key(i) for i in range(3)), key(11)}


def test_an_error_of_the_timer_is_raised_by_the_next_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = Namespace(tmp_path)
    failed = threading.Event()

    def refuse(fd: int) -> None:
        failed.set()
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        space.put(key(1), b"one")
        assert failed.wait(20 * FLUSH_SECONDS)
        while space.writer.late is None:
            time.sleep(0.01)
    with pytest.raises(StoreError, match="Input/output error"):
        space.put(key(2), b"two")
    space.put(key(3), b"three")
    space.flush()
    assert Namespace(tmp_path).get(key(3)) == b"three"
    assert len(list(tmp_path.glob("*.seg"))) == 2  # the one that could not be synced is left


def test_a_flush_waits_for_the_disk_and_says_what_went_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = Namespace(tmp_path)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    space.flush()
    assert not synced
    space.put(key(1), b"one")
    space.flush()
    assert synced
    monkeypatch.setattr(os, "fsync", lambda fd: os.stat("/nowhere"))
    space.put(key(2), b"two")
    with pytest.raises(StoreError):
        space.flush()
