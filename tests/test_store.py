"""The store: durable, checksummed, safe for several writers."""

from __future__ import annotations

import errno
import json
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
from kempeframe.store import HEADER, LARGE, NEEDS, Namespace, Store, StoreError


def key(number: int) -> str:
    return f"{number:032x}"


def filled(root: Path, count: int = 20) -> Namespace:
    space = Namespace(root)
    for i in range(count):
        space.put(key(i), f"record {i}".encode() * (i + 1))
    space.flush()
    return space


def test_what_was_put_is_read_back_by_another_process(tmp_path: Path) -> None:
    filled(tmp_path)
    other = Namespace(tmp_path)
    assert [other.get(key(i)) for i in range(20)] == [f"record {i}".encode() * (i + 1) for i in range(20)]
    assert other.get(key(99)) is None
    assert key(3) in other
    assert key(99) not in other


def test_a_record_is_readable_at_once_here_and_elsewhere(tmp_path: Path) -> None:
    space, other = Namespace(tmp_path), Namespace(tmp_path)
    space.put(key(1), b"soon")
    assert space.get(key(1)) == b"soon"
    assert key(1) in space
    other.refresh()
    assert other.get(key(1)) == b"soon"


def test_large_records_get_a_file_of_their_own(tmp_path: Path) -> None:
    payload = os.urandom(LARGE + 1)
    Namespace(tmp_path).put(key(7), payload)
    other = Namespace(tmp_path)
    assert other.get(key(7)) == payload
    assert not list(tmp_path.glob("*.seg"))
    (file,) = tmp_path.rglob("*.bin")
    file.write_bytes(file.read_bytes()[:-1])
    assert other.get(key(7)) is None
    assert key(7) not in other
    other.put(key(7), payload)
    assert key(7) in other
    assert other.get(key(7)) == payload
    assert set(other.keys()) == {key(7)}


def test_two_writers_do_not_disturb_each_other(tmp_path: Path) -> None:
    one, two = Namespace(tmp_path), Namespace(tmp_path)
    for i in range(10):
        one.put(key(i), b"one")
        two.put(key(100 + i), b"two")
        one.flush()
        two.flush()
    one.refresh()
    assert one.get(key(105)) == b"two"
    assert len(set(Namespace(tmp_path).keys())) == 20


def test_the_last_of_two_records_of_one_key_counts(tmp_path: Path) -> None:
    space = filled(tmp_path)
    space.put(key(3), b"anew")
    space.flush()
    assert space.get(key(3)) == b"anew"
    assert Namespace(tmp_path).get(key(3)) == b"anew"


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


def test_a_segment_removed_under_its_writer_is_begun_anew(tmp_path: Path) -> None:
    space = filled(tmp_path, 3)
    for segment in tmp_path.glob("*.seg"):
        segment.unlink()
    space.put(key(5), b"after")
    assert set(Namespace(tmp_path).keys()) == {key(5)}
    space.refresh()
    assert set(space.keys()) == {key(5)}


def test_a_store_removed_while_it_is_used_is_begun_anew(tmp_path: Path) -> None:
    space = filled(tmp_path / "space", 3)
    (segment,) = space.root.glob("*.seg")
    segment.unlink()
    space.root.rmdir()
    space.refresh()
    assert space.get(key(1)) is None
    space.put(key(5), b"after")
    assert set(Namespace(tmp_path / "space").keys()) == {key(5)}


def test_a_record_whose_segment_was_rewritten_is_found_again(tmp_path: Path) -> None:
    filled(tmp_path)
    readers = [Namespace(tmp_path), Namespace(tmp_path)]
    assert readers[1].get(key(3)) is not None  # this one has the old file open
    (segment,) = tmp_path.glob("*.seg")
    payload = b"record 7" * 8
    (tmp_path / "0-1.seg").write_bytes(header(bytes.fromhex(key(7)), payload) + payload)
    segment.unlink()
    assert readers[0].get(key(7)) == payload
    assert readers[0].get(key(8)) is None and key(8) not in readers[0]
    assert readers[1].get(key(7)) == payload
    readers[1].refresh()
    assert set(readers[1].keys()) == {key(7)}


def test_old_segments_are_looked_at_too(tmp_path: Path) -> None:
    space, reader = filled(tmp_path, 1), Namespace(tmp_path)
    (segment,) = tmp_path.glob("*.seg")
    os.utime(segment, (1e9, 1e9))
    reader.refresh(everything=True)
    assert not reader.growing
    space.put(key(5), b"after a long silence")
    reader.refresh(everything=True)
    assert key(5) in reader


def test_threads_share_a_namespace(tmp_path: Path) -> None:
    space = Namespace(tmp_path)
    wrong: list[str] = []

    def work(start: int) -> None:
        for i in range(start, start + 200):
            space.put(key(i), str(i).encode() * 10)
            space.refresh()
            if i % 50 == 0:
                space.flush()
            if space.get(key(i)) != str(i).encode() * 10:
                wrong.append(key(i))

    threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(set(Namespace(tmp_path).keys())) == 1200


def test_a_place_that_can_not_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    space = Namespace(tmp_path / "file" / "space")
    for size in (1, LARGE + 1):
        with pytest.raises(StoreError, match=r"can't be written: (Not a directory|File exists)"):
            space.put(key(1), bytes(size))


def test_checkpoints_replace_one_another_and_can_be_removed(tmp_path: Path) -> None:
    store, other = Store(tmp_path), Store(tmp_path)
    for payload in (b"one", os.urandom(LARGE + 1), b"two"):
        store.checkpoints.put(key(1), payload)
        assert other.checkpoints.get(key(1)) == payload
        assert key(1) in other.checkpoints
    store.checkpoints.flush()
    assert len(list((tmp_path / "checkpoints").rglob("*.*"))) == 1
    other.checkpoints.remove(key(1))
    other.checkpoints.remove(key(1))
    assert key(1) not in store.checkpoints
    assert store.checkpoints.get(key(1)) is None


WRITE_CHECKPOINTS = """
import sys
from pathlib import Path
from kempeframe.store import Store
store = Store(Path(sys.argv[1]))
for i in range(300):
    store.checkpoints.put("0" * 32, sys.argv[2].encode() * (1 + 997 * (i % 20)))
"""


def test_checkpoints_of_two_processes_are_never_mixed(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITE_CHECKPOINTS, str(tmp_path), name]) for name in "ab"]
    space = Store(tmp_path).checkpoints
    seen = set()
    while any(writer.poll() is None for writer in writers):
        payload = space.get("0" * 32)
        assert payload is not None or not seen
        if payload is not None:
            assert len(set(payload)) == 1 and (len(payload) - 1) % 997 == 0
            seen.add(payload[:1])
    assert [writer.wait() for writer in writers] == [0, 0]
    assert seen
    assert not list(tmp_path.rglob("*.part"))


def test_a_run_directory_notes_what_it_needs(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for keys in ([key(2), key(1), key(2)], [key(9)]):
        store.register(tmp_path / "run", keys)
        assert (tmp_path / "run" / NEEDS).read_bytes() == b"".join(bytes.fromhex(k) for k in sorted(set(keys)))
    (entry,) = (tmp_path / "store" / "runs").iterdir()
    assert json.loads(entry.read_text())["run_directory"] == str(tmp_path / "run")


def test_the_header_is_small() -> None:
    assert HEADER.size <= 40


def test_the_store_lies_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEMPEFRAME_STORE", str(tmp_path / "here"))
    store = Store()
    store.results.put(key(1), b"{}")
    store.flush()
    assert list((tmp_path / "here" / "results").glob("*.seg"))
