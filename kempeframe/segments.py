"""The files of the store: records with checksums, in segments to which one process appends, or one to a file."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from kempeframe.problems import Breakdown
from kempeframe.processes import this_process, unique_name

MAGIC = b"KF01"
HEADER = struct.Struct("<4s16sIII")  # magic, key, length, checksum of the payload, checksum of the header
HEADER_BODY = struct.Struct("<4s16sII")
LENGTHS = 1 << 32  # a record in a file of its own may be longer: its header holds the rest of the division
WINDOW = 1 << 18  # bytes read at once in search of headers
FLUSH_SECONDS = 0.5  # at most so much is lost by a power cut


class StoreError(Breakdown):
    """The store can't be read or written."""


def cannot_write(root: Path, error: OSError) -> StoreError:
    """The error to raise where writing below `root` failed."""
    reason = error.strerror or str(error)
    return StoreError(f"the store at {root} can't be written: {reason}; what was finished before is kept")


class Record(NamedTuple):
    """Where a record's payload lies, and its checksum."""

    segment: Segment
    offset: int
    length: int
    checksum: int

    def payload(self, fd: int) -> bytes | None:
        """The payload, read from the open segment; None where it is not what was written."""
        payload = os.pread(fd, self.length, self.offset)
        return payload if len(payload) == self.length and zlib.crc32(payload) == self.checksum else None


class Segment:
    """What is known of a segment: the records up to `position`."""

    def __init__(self, path: Path):
        self.file, self.name = str(path), path.name
        self.position = 0
        self.gap: int | None = None  # where the first damage begins
        self.state = (-1, -1)  # size and time of the last change, as of the last scan

    def scan(self) -> list[tuple[bytes, Record]]:
        """Keys and places of the records that came since the last scan.

        A damaged record costs itself alone. One that is not whole at the end of the file may still be being written:
        the next scan looks at it again.

        Raises:
            OSError: the file can't be read.
        """
        fd = os.open(self.file, os.O_RDONLY)
        try:
            status = os.fstat(fd)
            found = self._walk(fd, status.st_size)
        finally:
            os.close(fd)
        self.state = (status.st_size, status.st_mtime_ns)
        return found

    def _walk(self, fd: int, size: int) -> list[tuple[bytes, Record]]:
        found: list[tuple[bytes, Record]] = []
        offset, window, at = self.position, b"", 0
        while offset + HEADER.size <= size:
            inside = offset - at
            if not 0 <= inside <= len(window) - HEADER.size:
                window, at, inside = os.pread(fd, WINDOW, offset), offset, 0
                if len(window) < HEADER.size:
                    break  # cut shorter since
            header = _sound_header(window, inside)
            if header is None:
                self.gap = offset if self.gap is None else min(self.gap, offset)
                start = offset + 1
                if found and found[-1][1].payload(fd) is None:
                    start = found.pop()[1].offset  # shorter than its header says, so that the next ones lie inside it
                offset = _next_header(fd, start, size)
                continue
            key, length, checksum = header
            payload_at = offset + HEADER.size
            if payload_at + length > size:
                break
            found.append((key, Record(self, payload_at, length, checksum)))
            offset = payload_at + length
        self.position = offset
        return found


def _sound_header(data: bytes, at: int) -> tuple[bytes, int, int] | None:
    """Key, length and checksum of the record whose header is at `at`."""
    magic, key, length, checksum, own_checksum = HEADER.unpack_from(data, at)
    sound = magic == MAGIC and zlib.crc32(data[at : at + HEADER_BODY.size]) == own_checksum
    return (key, length, checksum) if sound else None


def _next_header(fd: int, offset: int, size: int) -> int:
    """Where the first sound header at or after `offset` begins; near the end of the file if there is none."""
    while offset + HEADER.size <= size:
        window = os.pread(fd, WINDOW, offset)
        if len(window) < HEADER.size:
            break
        last = len(window) - HEADER.size
        at = window.find(MAGIC)
        while 0 <= at <= last:
            if _sound_header(window, at) is not None:
                return offset + at
            at = window.find(MAGIC, at + 1)
        offset += last + 1
    return offset


def header(key: bytes, payload: bytes) -> bytes:
    """What stands before a payload."""
    body = HEADER_BODY.pack(MAGIC, key, len(payload) % LENGTHS, zlib.crc32(payload))
    return body + struct.pack("<I", zlib.crc32(body))


def read_own_file(path: Path, key: bytes) -> bytes | None:
    """The payload of a record that has a file of its own; None where it is not what was written.

    Raises:
        OSError: the file can't be read.
    """
    with path.open("rb", buffering=0) as file:
        head = file.read(HEADER.size)
        payload = file.read()
    found = _sound_header(head, 0) if len(head) == HEADER.size else None
    sound = found == (key, len(payload) % LENGTHS, zlib.crc32(payload))
    return payload if sound else None


def write_file(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file whole or not at all, in place of the one before; durable when this returns.

    Raises:
        OSError: it can't be written; nothing is left of it.
    """
    part = path.with_name(f"{path.name}.{unique_name()}.part")
    try:
        with part.open("xb", buffering=0) as file:
            for piece in pieces:
                _write_all(file.fileno(), piece)
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
    sync_directory(path.parent)


def _write_all(fd: int, data: bytes) -> None:
    """Write to the end of an open file; what can't be written whole is cut off again."""
    written = 0
    try:
        while written < len(data):
            written += os.write(fd, memoryview(data)[written:])
    except BaseException:
        if written:
            os.ftruncate(fd, os.lseek(fd, 0, os.SEEK_CUR) - written)
        raise


def sync_directory(path: Path) -> None:
    """Make new names in a directory durable, where the file system can."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class Writer:
    """This process's own segment: a record is written at once and durable half a second later.

    An error that comes to light only then is raised by the next call.
    """

    def __init__(self, root: Path):
        self.root = root
        self.segment: Segment | None = None
        self.fd, self.end = -1, 0
        self.named = True  # whether the segment's name is durable
        self.links = True  # whether the file system counts names, so that a removed file shows
        self.opened: list[int] = []
        self.unsynced: set[int] = set()
        self.timer: threading.Timer | None = None
        self.late: OSError | None = None
        self.lock = threading.RLock()
        self.syncing = threading.Lock()  # taken before `lock`: a put need not wait for the disk

    def append(self, key: bytes, payload: bytes) -> Record:
        """Write a record.

        Raises:
            StoreError: it can't be written; the records before it are untouched.
        """
        data = header(key, payload) + payload
        with self.lock:
            self._raise_late()
            try:
                if not self._write(data):  # someone removed the file: begin another
                    self.leave()
                    self._write(data)
            except OSError as error:
                raise cannot_write(self.root, error) from None
            if self.timer is None:
                self._sync_soon()
            assert self.segment is not None
            return Record(self.segment, self.end - len(payload), len(payload), zlib.crc32(payload))

    def _write(self, data: bytes) -> bool:
        """Whether the data is in a file that is still in its directory."""
        if self.segment is None:
            self._begin()
        self.unsynced.add(self.fd)
        try:
            _write_all(self.fd, data)
            status = os.fstat(self.fd)
        except OSError as error:
            if error.errno == errno.ESTALE and self.end:
                return False
            if os.fstat(self.fd).st_size > self.end:
                self.leave()  # the torn record could not be cut off: what came after it would be hard to find
            raise
        self.end = status.st_size
        return status.st_nlink > 0 or not self.links

    def _begin(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        while True:
            path = self.root / f"{time.time_ns():016x}-{this_process()}.seg"
            with contextlib.suppress(FileExistsError):
                self.fd, self.end = os.open(path, flags, 0o666), 0
                break
        self.opened.append(self.fd)
        self.named = False
        self.links = os.fstat(self.fd).st_nlink > 0
        self.segment = Segment(path)

    def leave(self) -> None:
        """Write no more to this segment; the next record begins another."""
        with self.lock:
            self.segment, self.fd = None, -1

    def _sync_soon(self) -> None:
        timer = threading.Timer(FLUSH_SECONDS, self._sync_late)
        timer.daemon = True
        with contextlib.suppress(RuntimeError):  # no new threads, as at the end of the interpreter
            timer.start()
            self.timer = timer

    def _sync_late(self) -> None:
        try:
            self._sync()
        except OSError as error:
            self.late = error

    def sync(self) -> None:
        """Make durable what was appended.

        Raises:
            StoreError: it can't be, now or when it was last tried.
        """
        try:
            self._sync()
        except OSError as error:
            raise cannot_write(self.root, error) from None
        with self.lock:
            self._raise_late()

    def _sync(self) -> None:
        with self.syncing:
            with self.lock:
                if self.timer is not None:
                    self.timer.cancel()
                    self.timer = None
                waiting, self.unsynced = self.unsynced, set()
            if not waiting:
                return
            try:
                for fd in waiting:
                    os.fsync(fd)
            except OSError:
                self.leave()  # nobody knows what is in it: a second fsync would claim success
                raise
            except BaseException:
                with self.lock:
                    self.unsynced |= waiting
                raise
            if not self.named:
                sync_directory(self.root)
                self.named = True

    def _raise_late(self) -> None:
        if self.late is not None:
            error, self.late = self.late, None
            raise cannot_write(self.root, error)

    def __del__(self) -> None:
        for fd in self.opened:
            with contextlib.suppress(OSError):
                os.close(fd)
