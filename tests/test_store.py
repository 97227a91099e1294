"""The store: durable, checksummed, safe for several writers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kempeframe.store import HEADER, LARGE, Namespace, Store


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


def test_pending_records_are_readable_before_they_are_durable(tmp_path: Path) -> None:
    space = Namespace(tmp_path)
    space.put(key(1), b"soon")
    assert space.get(key(1)) == b"soon"
    assert key(1) in space


def test_large_records_get_a_file_of_their_own(tmp_path: Path) -> None:
    payload = os.urandom(LARGE + 1)
    Namespace(tmp_path).put(key(7), payload)
    other = Namespace(tmp_path)
    assert other.get(key(7)) == payload
    assert not list(tmp_path.glob("*.seg"))
    (file,) = tmp_path.rglob("*.bin")
    file.write_bytes(file.read_bytes()[:-1])
    assert other.get(key(7)) is None


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
    assert again.get(key(6)) is not None


def test_the_header_is_small() -> None:
    assert HEADER.size <= 40


def test_the_store_lies_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEMPEFRAME_STORE", str(tmp_path / "here"))
    store = Store()
    store.results.put(key(1), b"{}")
    store.flush()
    assert list((tmp_path / "here" / "results").glob("*.seg"))
