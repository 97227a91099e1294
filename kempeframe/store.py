"""The store: what was computed once, under its digest.

Small records are appended to checksummed segment files, one per writing process and namespace, with one fsync per
batch; large ones get a file of their own (write, fsync, rename). A cut-short or altered record is never read.
Any number of processes may write at once: none touches another's segment.
"""

from __future__ import annotations

import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

MAGIC = b"KF01"
HEADER = struct.Struct("<4s16sIII")  # magic, key, length, checksum of the payload, checksum of the header
HEADER_BODY = struct.Struct("<4s16sII")
LARGE = 1 << 20  # bytes above which a record gets its own file
FLUSH_SECONDS = 0.5  # at most so much is lost by a power cut


def default_root() -> Path:
    """`KEMPEFRAME_STORE`, or the user's cache directory."""
    named = os.environ.get("KEMPEFRAME_STORE")
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "kempeframe" / "store"


class Namespace:
    """Records of one sort ("fits", "results"). Keys are 32 hex digits."""

    def __init__(self, root: Path):
        self.root = root
        self.index: dict[bytes, tuple[Path, int, int, int]] = {}  # key -> file, offset, length, checksum
        self.scanned: dict[Path, int] = {}  # segment -> bytes that hold whole records
        self.pending: dict[bytes, bytes] = {}
        self.segment: Path | None = None
        self.lock = threading.RLock()
        self.timer: threading.Timer | None = None
        self.refresh()

    def refresh(self) -> None:
        """Take in what other processes have written since."""
        if self.root.is_dir():
            for segment in sorted(self.root.glob("*.seg")):
                self._scan(segment)

    def __contains__(self, key: str) -> bool:
        raw = bytes.fromhex(key)
        return raw in self.pending or raw in self.index or self._large(key).exists()

    def get(self, key: str) -> bytes | None:
        """The record of a key; None where there is none or where its checksum is wrong."""
        raw = bytes.fromhex(key)
        with self.lock:
            if raw in self.pending:
                return self.pending[raw]
            place = self.index.get(raw)
        if place is not None:
            return self._checked(*place)
        try:
            return _unpack_large(self._large(key).read_bytes(), raw)
        except OSError:
            return None

    def put(self, key: str, payload: bytes) -> None:
        """Add a record; it is durable after the next flush, at most half a second later."""
        if len(payload) > LARGE:
            self._write_large(key, payload)
            return
        with self.lock:
            self.pending[bytes.fromhex(key)] = payload
            if self.timer is None:  # flushes also while a long fit keeps the main thread
                self.timer = threading.Timer(FLUSH_SECONDS, self.flush)
                self.timer.daemon = True
                self.timer.start()

    def flush(self) -> None:
        """Write what is pending to this process's segment, with one fsync."""
        with self.lock:
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None
            if self.pending:
                self._append()

    def _append(self) -> None:
        if self.segment is None:
            self.root.mkdir(parents=True, exist_ok=True)
            self.segment = self.root / f"{time.time_ns():x}-{os.getpid()}.seg"
        with self.segment.open("ab") as file:
            start = file.tell()
            records = [_header(key, payload) + payload for key, payload in self.pending.items()]
            file.write(b"".join(records))
            file.flush()
            os.fsync(file.fileno())
        self.pending.clear()
        self.scanned.setdefault(self.segment, start)
        self._scan(self.segment)

    def keys(self) -> Iterator[str]:
        """Keys of the small records."""
        yield from (key.hex() for key in (*self.index, *self.pending))

    def _scan(self, segment: Path) -> None:
        """Index the records after the last one known; stop at the first that is not whole."""
        start = self.scanned.get(segment, 0)
        if segment.stat().st_size <= start:
            return
        with segment.open("rb") as file:
            file.seek(start)
            data = file.read()
        offset, end = 0, len(data)
        while offset + HEADER.size <= end:
            magic, key, length, checksum, header_checksum = HEADER.unpack_from(data, offset)
            body = data[offset : offset + HEADER_BODY.size]
            payload_at = offset + HEADER.size
            if magic != MAGIC or zlib.crc32(body) != header_checksum or payload_at + length > end:
                break
            self.index[key] = (segment, start + payload_at, length, checksum)
            offset = payload_at + length
        self.scanned[segment] = start + offset

    def _checked(self, path: Path, offset: int, length: int, checksum: int) -> bytes | None:
        try:
            with path.open("rb") as file:
                file.seek(offset)
                payload = file.read(length)
        except OSError:
            return None
        return payload if len(payload) == length and zlib.crc32(payload) == checksum else None

    def _large(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}.bin"

    def _write_large(self, key: str, payload: bytes) -> None:
        path = self._large(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as file:
            file.write(_header(bytes.fromhex(key), payload) + payload)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)


def _header(key: bytes, payload: bytes) -> bytes:
    body = HEADER_BODY.pack(MAGIC, key, len(payload), zlib.crc32(payload))
    return body + struct.pack("<I", zlib.crc32(body))


def _unpack_large(data: bytes, key: bytes) -> bytes | None:
    if len(data) < HEADER.size:
        return None
    magic, stored_key, length, checksum, header_checksum = HEADER.unpack_from(data)
    payload = data[HEADER.size :]
    sound = magic == MAGIC and stored_key == key and length == len(payload)
    sound = sound and zlib.crc32(data[: HEADER_BODY.size]) == header_checksum and zlib.crc32(payload) == checksum
    return payload if sound else None


class Store:
    """Fits and results below one directory."""

    def __init__(self, root: Path | None = None):
        self.root = root or default_root()
        self.fits = Namespace(self.root / "fits")
        self.results = Namespace(self.root / "results")

    def flush(self) -> None:
        """Make everything durable. Results last: a result without its fit costs a refit, never a wrong row."""
        self.fits.flush()
        self.results.flush()
