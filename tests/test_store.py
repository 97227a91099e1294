"""The store: what was put is read back, by several writers, threads and processes, also after a removal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kempeframe.segments import header
from kempeframe.store import HEADER, LARGE, NEEDS, Namespace, Store, StoreError
from tests.store_records import filled, key


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
