"""The store: what was computed once, under its digest.

Small records are appended to checksummed segment files, one per writing process and namespace; large ones get a file
of their own. What `put` returned for survives the end of the process, however it comes, and half a second later also
a power cut. A cut-short or altered record is never read, and costs itself alone.

Any number of processes on any number of machines may use one store at once: none touches another's segment. Of a
shared file system (NFS, Lustre ...) this needs that creating a file with O_EXCL and renaming within a directory are
atomic, that what one process has appended and synced is seen by another that opens the file afterwards, and that
all modification times come from one clock. There is no flock and no SQLite, which such file systems do badly.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from kempeframe.locks import Locks
from kempeframe.processes import Process
from kempeframe.segments import (
    FLUSH_SECONDS,
    HEADER,
    MAGIC,
    Record,
    Segment,
    StoreError,
    Writer,
    cannot_write,
    header,
    read_own_file,
    write_file,
)

LARGE = 1 << 20  # bytes above which a record gets its own file
SEALED_SECONDS = 600.0  # a segment that nobody touched for so long is looked at more rarely:
SEALED_LOOKS = 1.0  # seconds between two looks at such segments, at least
TICK = 2.0  # no file system's clock is coarser
OPEN_SEGMENTS = 16  # kept open for reading
READS = 4  # so often a record is looked for while its segments are being rewritten
PART_SECONDS = 3600.0  # nobody takes so long over a file of a run directory
NEEDS = "needs.bin"  # in a run directory: the keys that it needs, 16 bytes each


def default_root() -> Path:
    """`KEMPEFRAME_STORE`, or the user's cache directory."""
    named = os.environ.get("KEMPEFRAME_STORE")
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "kempeframe" / "store"


class Namespace:
    """Records of one sort ("fits", "results", "checkpoints"). Keys are 32 hex digits.

    Records of more than `large` bytes have a file of their own; with -1 all have. May be used from several threads.
    """

    def __init__(self, root: Path, large: int = LARGE):
        self.root = root
        self.large = large
        self.index: dict[bytes, Record] = {}
        self.damaged: set[tuple[str, int]] = set()  # places in segments
        self.damaged_files: set[bytes] = set()  # keys of records that have files of their own
        self.segments: dict[str, Segment] = {}  # by file name, without this process's own
        self.growing: list[Segment] = []
        self.folders: set[str] = set()  # of records that have files of their own
        self.opened: dict[str, int] = {}
        self.writer = Writer(root)
        self.own: Segment | None = None  # the one that this process appends to
        self.lock = threading.RLock()
        self.listed_time, self.listed_since, self.listed = -1, 0.0, False
        self.looked_at_all = 0.0
        self.refresh(everything=True)

    def refresh(self, everything: bool = False) -> None:
        """Take in what other processes have written since. Cheap: for before every unit of work.

        Segments that did not change for ten minutes are looked at once a second. With `everything` all are, and what
        was damaged is read again: on NFS that may be what had not arrived yet.
        """
        with self.lock:
            now = time.monotonic()
            look_at_all = everything or now - self.looked_at_all > SEALED_LOOKS
            try:
                changed = os.stat(self.root).st_mtime_ns
                if changed != self.listed_time:
                    self.listed_time, self.listed_since, self.listed = changed, now, False
                if look_at_all or not self.listed:
                    self.listed = now - self.listed_since > TICK  # later changes will show in the directory's time
                    look_at_all = self._list() or look_at_all
            except (FileNotFoundError, NotADirectoryError):
                self.writer.leave()
                self.own = None
                self._forget()
                return
            except OSError as error:
                raise StoreError(f"the store at {self.root} can't be read: {error.strerror}") from None
            if look_at_all:
                self.looked_at_all = now
                self.growing = [segment for _, segment in sorted(self.segments.items())]
            self.growing = [segment for segment in self.growing if self._look(segment, everything)]

    def _list(self) -> bool:
        """Find new segments; whether some are gone, so that all has to be looked at again."""
        names = set(os.listdir(self.root))
        gone = not names.issuperset(self.segments)
        if self.own is not None and self.own.name not in names:
            self.writer.leave()
            self.own, gone = None, True
        if gone:  # removed or rewritten: the records may now lie elsewhere
            self._forget()
        for name in sorted(names.difference(self.segments, self.folders)):
            if len(name) == 2:
                self.folders.add(name)
            elif name.endswith(".seg") and (self.own is None or name != self.own.name):
                self.segments[name] = Segment(self.root / name)
                self.growing.append(self.segments[name])
        return gone

    def _forget(self) -> None:
        """Forget all but this process's own records."""
        self.index = {key: record for key, record in self.index.items() if record.segment is self.own}
        self.segments.clear()
        self.growing.clear()
        self._close()

    def _look(self, segment: Segment, everything: bool) -> bool:
        """Take in what is new in a segment; whether it may still grow."""
        try:
            status = os.stat(segment.file)
            if everything and segment.gap is not None:
                segment.position, segment.gap = segment.gap, None
                segment.state = (-1, -1)
            if (status.st_size, status.st_mtime_ns) != segment.state:
                for key, record in segment.scan():
                    if (segment.name, record.offset) not in self.damaged:
                        self.index[key] = record
        except OSError:
            return True
        return time.time() - status.st_mtime < SEALED_SECONDS

    def __contains__(self, key: str) -> bool:
        raw = bytes.fromhex(key)
        with self.lock:
            return raw in self.index or (
                self._may_have_file(key) and raw not in self.damaged_files and self._file_exists(key)
            )

    def get(self, key: str) -> bytes | None:
        """The record of a key; None where there is none, or where it is damaged: then it is no longer stored."""
        raw = bytes.fromhex(key)
        with self.lock:
            for _ in range(READS):
                if raw not in self.index:
                    return self._read_own_file(key)
                try:
                    return self._read(raw)
                except OSError:  # the segment was removed, or rewritten elsewhere
                    self.refresh(everything=True)
            self.index.pop(raw, None)
            return None

    def _read(self, key: bytes) -> bytes | None:
        record = self.index[key]
        for again in (False, True):  # an open file of NFS may not show yet what was appended
            payload = record.payload(self._open(record.segment, again))
            if payload is not None:
                return payload
        self.damaged.add((record.segment.name, record.offset))
        del self.index[key]
        return None

    def _open(self, segment: Segment, again: bool) -> int:
        name = segment.name
        fd = self.opened.pop(name, -1)
        if fd >= 0 and again:
            os.close(fd)
            fd = -1
        if fd < 0:
            fd = os.open(segment.file, os.O_RDONLY)
        self.opened[name] = fd  # the last used is the last to be closed
        if len(self.opened) > OPEN_SEGMENTS:
            os.close(self.opened.pop(next(iter(self.opened))))
        return fd

    def put(self, key: str, payload: bytes) -> None:
        """Add a record. When this returns it survives the end of the process, after the next flush also a power cut.

        Raises:
            StoreError: it can't be written.
        """
        raw = bytes.fromhex(key)
        if len(payload) > self.large:
            self._put_own_file(key, payload)
            return
        with self.lock:
            record = self.writer.append(raw, payload)
            if record.segment is not self.own:
                if self.own is not None:  # left after an error, or removed
                    self.segments[self.own.name] = self.own
                self.own = record.segment
            self.index[raw] = record

    def flush(self) -> None:
        """Make durable what was put; it happens by itself within half a second.

        Raises:
            StoreError: it can't be.
        """
        self.writer.sync()

    def remove(self, key: str) -> None:
        """Forget a record that has a file of its own."""
        try:
            os.unlink(self._own_file(key))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise cannot_write(self.root, error) from None

    def keys(self) -> Iterator[str]:
        """The keys of all records known here."""
        with self.lock:
            small = [key.hex() for key in self.index]
        yield from small
        known = set(small)
        yield from (path.stem for path in self.root.glob("??/*.bin") if path.stem not in known)

    def _own_file(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}.bin"

    def _may_have_file(self, key: str) -> bool:
        """Most namespaces have few such files or none: no need to ask the disk."""
        return self.large < 0 or key[:2] in self.folders

    def _file_exists(self, key: str) -> bool:
        return self._own_file(key).exists()

    def _read_own_file(self, key: str) -> bytes | None:
        if not self._may_have_file(key):
            return None
        raw = bytes.fromhex(key)
        try:
            payload = read_own_file(self._own_file(key), raw)
        except OSError:
            return None
        (self.damaged_files.add if payload is None else self.damaged_files.discard)(raw)
        return payload

    def _put_own_file(self, key: str, payload: bytes) -> None:
        raw, path = bytes.fromhex(key), self._own_file(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, (header(raw, payload), payload))
        except OSError as error:
            raise cannot_write(self.root, error) from None
        with self.lock:
            self.folders.add(key[:2])
            self.damaged_files.discard(raw)
            self.index.pop(raw, None)

    def _close(self) -> None:
        while self.opened:
            with contextlib.suppress(OSError):
                os.close(self.opened.popitem()[1])

    def __del__(self) -> None:
        self._close()


class Store:
    """Fits, results, checkpoints and locks below one directory."""

    def __init__(self, root: Path | None = None):
        self.root = root or default_root()
        self.fits = Namespace(self.root / "fits")
        self.results = Namespace(self.root / "results")
        self.checkpoints = Namespace(self.root / "checkpoints", large=-1)  # written over often, never side by side
        self.locks = Locks(self.root / "locks")

    @property
    def namespaces(self) -> dict[str, Namespace]:
        """All namespaces, by name."""
        return {"fits": self.fits, "results": self.results, "checkpoints": self.checkpoints}

    def refresh(self, everything: bool = False) -> None:
        """Take in what other processes have written since."""
        self.fits.refresh(everything)
        self.results.refresh(everything)

    def flush(self) -> None:
        """Make everything durable. Results last: a result without its fit costs a refit, never a wrong row."""
        self.fits.flush()
        self.results.flush()

    def register(self, run_directory: Path, keys: Iterable[str]) -> None:
        """Note which records a run directory needs, so that `kempeframe store prune` leaves them alone.

        Best before anything is computed: then what an interrupted run has finished is kept too.

        Raises:
            StoreError: it can't be noted.
        """
        path = Path(os.path.abspath(run_directory))
        entry = {"run_directory": str(path), "host": socket.gethostname()}
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_file(path / NEEDS, [b"".join(sorted({bytes.fromhex(key) for key in keys}))])
            runs = self.root / "runs"
            runs.mkdir(parents=True, exist_ok=True)
            name = sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:32]
            write_file(runs / f"{name}.json", [json.dumps(entry).encode()])
            _remove_parts(path)
        except OSError as error:
            raise cannot_write(self.root, error) from None


def _remove_parts(folder: Path) -> None:
    """Remove what processes that were killed have left of files that they wrote."""
    for part in folder.glob("*.part"):
        with contextlib.suppress(OSError):
            writer = Process.named(part.name)
            if time.time() - part.stat().st_mtime > PART_SECONDS or (writer is not None and writer.is_gone):
                part.unlink()


__all__ = ["FLUSH_SECONDS", "HEADER", "LARGE", "MAGIC", "Namespace", "Store", "StoreError", "default_root"]
