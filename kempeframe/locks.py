"""Locks with leases, on a directory that several processes and machines share.

They save work: two processes do not compute the same thing at once. They keep nothing right. A process that is
suspended for longer than the lease loses its locks without knowing, so that two may hold one; everything in the store
is correct whoever writes it, and however often.

A lock is a file made with O_CREAT | O_EXCL, which its process renews by setting its time. It is judged by the file
system's clock alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import attrs

from kempeframe.processes import Process, this_process, unique_name
from kempeframe.segments import cannot_write

LEASE = 20.0  # seconds after which a lock that was not renewed is free
TRIES = 3  # so often a lock that is free, but not for us, is asked for
LONGEST = 1 << 16  # bytes of a lock file that are read


@attrs.frozen
class Holder:
    """Who holds a lock."""

    host: str
    pid: int
    what: str  # the command that it runs


@attrs.frozen
class _Seen:
    """A lock file as it was found."""

    content: bytes
    time: int  # of the last renewal, in nanoseconds of the file system's clock

    @property
    def fields(self) -> dict[str, object]:
        try:
            found = json.loads(self.content)
        except ValueError:  # just being made, or left by a process that was killed while it made it
            return {}
        return found if isinstance(found, dict) else {}


class Lock:
    """Locks that are held together; a context manager that releases them."""

    def __init__(self, locks: Locks, keys: Sequence[str], content: bytes):
        self.locks, self.keys, self.content = locks, keys, content

    def release(self) -> None:
        """Give the locks back; one that was lost meanwhile is left to whoever has it now."""
        self.locks.give_back(self)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


class Locks:
    """The locks in a directory, and those of them that this process holds. May be used from several threads."""

    def __init__(self, root: Path, lease: float = LEASE):
        self.root = root
        self.lease = lease
        self.what = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200] if sys.argv else ""
        self.own: set[Lock] = set()
        self.guard = threading.RLock()
        self.renewing: threading.Thread | None = None

    @property
    def held(self) -> int:
        """How many keys are locked through this object."""
        with self.guard:
            return sum(len(lock.keys) for lock in self.own)

    def acquire(self, keys: Sequence[str]) -> Lock | None:
        """Lock all keys or none; None where a living process holds one of them, this one included.

        Raises:
            StoreError: the directory can't be written.
        """
        wanted = sorted(set(keys))
        entry = {"host": socket.gethostname(), "process": str(this_process()), "what": self.what}
        lock = Lock(self, wanted, json.dumps({**entry, "token": secrets.token_hex(8)}).encode())
        taken = 0
        try:
            for key in wanted:
                taken += 1
                if not self._take(self._path(key), lock.content):
                    self._drop(wanted[: taken - 1], lock.content)
                    return None
        except BaseException as error:
            self._drop(wanted[:taken], lock.content)
            if isinstance(error, OSError):
                raise cannot_write(self.root, error) from None
            raise
        with self.guard:
            self.own.add(lock)
            self._keep_renewing()
        return lock

    def holder(self, key: str) -> Holder | None:
        """Who holds a key; None where nobody who lives does."""
        seen = _look(self._path(key))
        return None if seen is None or self._is_stale(seen) else _holder(seen)

    def holders(self) -> Iterator[tuple[str, Holder]]:
        """All keys that are locked now, and by whom."""
        for path in sorted(self.root.glob("*.lock")):
            holder = self.holder(path.stem)
            if holder is not None:
                yield path.stem, holder

    def remove_stale(self) -> int:
        """Remove what dead processes have left; how many files that were."""
        removed = 0
        for path in self.root.glob("*.lock"):
            seen = _look(str(path))
            removed += seen is not None and self._is_stale(seen) and self._remove_stale(str(path))
        for path in (*self.root.glob("*.aside"), *self.root.glob("*.clock")):
            seen = _look(str(path))
            if seen is not None and self._is_late(seen):
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def give_back(self, lock: Lock) -> None:
        """Release a lock."""
        with self.guard:
            if lock not in self.own:
                return
            self.own.discard(lock)
        self._drop(lock.keys, lock.content)

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}.lock"

    def _take(self, path: str, content: bytes) -> bool:
        for _ in range(TRIES):
            try:
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                if not self._remove_stale(path):
                    return False
                continue
            except FileNotFoundError:
                self.root.mkdir(parents=True, exist_ok=True)
                continue
            try:
                os.write(fd, content)
            except OSError:
                os.unlink(path)
                raise
            finally:
                os.close(fd)
            return True
        return False

    def _remove_stale(self, path: str) -> bool:
        """Whether the lock is free now: it was left by a dead process, or is gone.

        Of two that find the same stale lock only one can rename it; the other may rename the fresh lock of the first,
        sees that it is not the stale one, and puts it back.
        """
        seen = _look(path)
        if seen is None:
            return True
        if not self._is_stale(seen) or _look(path) != seen:
            return False
        aside = f"{path}.{unique_name()}.aside"
        try:
            os.rename(path, aside)
        except FileNotFoundError:
            return True
        stale = _look(aside) == seen
        if not stale:
            with contextlib.suppress(OSError):
                os.link(aside, path)
        os.unlink(aside)
        return stale

    def _is_stale(self, seen: _Seen) -> bool:
        process = Process.named(str(seen.fields.get("process", "")))
        return (process is not None and process.is_gone) or self._is_late(seen)

    def _is_late(self, seen: _Seen) -> bool:
        try:
            return file_system_time(self.root) - seen.time > self.lease * 1e9
        except OSError:  # in a directory that can't be written nobody can tell
            return False

    def _drop(self, keys: Sequence[str], content: bytes) -> None:
        for key in keys:
            path = self._path(key)
            seen = _look(path)
            if seen is not None and seen.content == content:
                with contextlib.suppress(OSError):
                    os.unlink(path)

    def _keep_renewing(self) -> None:
        if self.renewing is None or not self.renewing.is_alive():
            arguments = (weakref.ref(self), self.lease / 4)
            self.renewing = threading.Thread(target=_renew_forever, args=arguments, daemon=True, name="locks")
            self.renewing.start()

    def renew(self) -> None:
        """Renew the locks held, but not one that someone else has taken meanwhile."""
        with self.guard:
            own = list(self.own)
        for lock in own:
            for key in lock.keys:
                path = self._path(key)
                with contextlib.suppress(OSError):
                    seen = _look(path)
                    if seen is not None and seen.content == lock.content:
                        os.utime(path)


def _renew_forever(reference: weakref.ref[Locks], pause: float) -> None:
    while True:
        time.sleep(pause)
        locks = reference()
        if locks is None:
            return
        locks.renew()
        del locks


def _look(path: str) -> _Seen | None:
    """A lock file's content and time; opened, since NFS shows a closed file as it was some seconds ago."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return _Seen(os.read(fd, LONGEST), os.fstat(fd).st_mtime_ns)
    except OSError:  # removed meanwhile, on NFS
        return None
    finally:
        os.close(fd)


def _holder(seen: _Seen) -> Holder:
    fields = seen.fields
    process = Process.named(str(fields.get("process", "")))
    return Holder(str(fields.get("host", "?")), process.pid if process else 0, str(fields.get("what", "")))


def file_system_time(directory: Path) -> int:
    """The present in nanoseconds, by the clock that gives files in this directory their times.

    Raises:
        OSError: nothing can be written there.
    """
    path = directory / f"{unique_name()}.clock"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        return os.fstat(fd).st_mtime_ns
    finally:
        os.close(fd)
        os.unlink(path)
