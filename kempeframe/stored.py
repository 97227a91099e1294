"""The command `store`: what the store holds and who needs it; and the removal of what nobody needs."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import attrs

from kempeframe.locks import file_system_time
from kempeframe.processes import Process, this_process
from kempeframe.segments import HEADER, Record, Segment, cannot_write, header, write_file
from kempeframe.store import NEEDS, Namespace, Store

HOUR = 3600.0  # for so long after its last change a file of another machine may still be written to
PRUNE = "prune"  # the lock of who prunes


class NotPrunable(Exception):
    """It can't be known what is still needed."""


@attrs.frozen
class Registration:
    """A run directory that needs records of the store."""

    file: Path
    directory: Path
    host: str

    @classmethod
    def read(cls, file: Path) -> Registration:
        """A registration as the store has it.

        Raises:
            NotPrunable: the file is damaged.
        """
        try:
            found = json.loads(file.read_bytes())
            return cls(file, Path(found["run_directory"]), str(found["host"]))
        except (OSError, ValueError, KeyError, TypeError):
            raise NotPrunable(
                f"{file} can't be read, expected the name of a run directory; if none is missing, delete the file"
            ) from None

    @property
    def is_gone(self) -> bool:
        """Whether the run directory surely is no more: one of another host may be out of sight only."""
        return self.host == socket.gethostname() and not os.path.lexists(self.directory)

    def keys(self) -> set[bytes]:
        """The keys of the records that the run directory needs.

        Raises:
            NotPrunable: they can't be read.
        """
        path = self.directory / NEEDS
        try:
            data = path.read_bytes()
        except OSError as error:
            away = self.host != socket.gethostname() and not os.path.lexists(self.directory)
            hint = f": prune on {self.host}, or" if away else ": run its spec again, or"
            raise NotPrunable(
                f"can't tell what the run directory {self.directory} needs{hint} delete {self.file} if it needs nothing"
                f" ({NEEDS}: {error.strerror})"
            ) from None
        if len(data) % 16:
            raise NotPrunable(f"{path} is damaged: {len(data):,} bytes, expected 16 for each key; run its spec again")
        return {data[i : i + 16] for i in range(0, len(data), 16)}


def registrations(root: Path) -> list[Registration]:
    """All run directories that the store knows of, gone ones included.

    Raises:
        NotPrunable: a registration is damaged.
    """
    return sorted((Registration.read(file) for file in (root / "runs").glob("*.json")), key=lambda r: r.directory)


def store_command(root: Path | None) -> int:
    """Print what the store holds, who holds locks, and which run directories need how much."""
    store = Store(root)
    print(f"{store.root}: {_size(_bytes_below(store.root))}")
    for name, namespace in store.namespaces.items():
        print(f"  {name:<12}{_contents(namespace)}")
    for folder in sorted(store.root.glob("*/")):
        if folder.name not in {*store.namespaces, "locks", "runs"}:
            print(f"  {folder.name:<12}{_size(_bytes_below(folder))}, kept by a plugin; pruning leaves it alone")
    holders = Counter(holder for _, holder in store.locks.holders())
    print("locks held" if holders else "no locks held")
    for holder, count in holders.items():
        print(f"  {count:,} by process {holder.pid} on {holder.host}: {holder.what}")
    try:
        runs = registrations(store.root)
    except NotPrunable as error:
        print(error, file=sys.stderr)
        return 2
    print("needed by" if runs else "no run directory is registered")
    for run in runs:
        print(f"  {run.directory}  {_needs_text(run)}")
    return 0


def _contents(namespace: Namespace) -> str:
    files = [path for pattern in ("*.seg", "??/*.bin") for path in namespace.root.glob(pattern)]
    if not files:
        return "empty"
    times = [status.st_mtime for path in files if (status := _status(path)) is not None]
    segments = sum(path.suffix == ".seg" for path in files)
    oldest, newest = (time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) for at in (min(times), max(times)))
    parts = [f"{_counted(segments, 'segment')}", f"{_counted(len(files) - segments, 'own file')}"]
    records = _counted(len(set(namespace.keys())), "record")
    return f"{records}, {_size(_bytes_below(namespace.root))} in {' and '.join(parts)}, {oldest} to {newest}"


def _needs_text(run: Registration) -> str:
    if run.is_gone:
        return "is gone"
    try:
        return _counted(len(run.keys()), "record")
    except NotPrunable:
        return f"its {NEEDS} can't be read"


def prune_command(root: Path | None, yes: bool, keep_newer_seconds: float) -> int:
    """Say what no run directory needs; remove it where `yes`.

    Kept is what is newer than `keep_newer_seconds`, what a living process may be writing to, and what is locked.

    Raises:
        StoreError: something can't be removed.
    """
    store = Store(root)
    lock = store.locks.acquire([PRUNE]) if yes else None
    if yes and lock is None:
        holder = store.locks.holder(PRUNE)
        who = f" (process {holder.pid} on {holder.host})" if holder else ""
        print(f"the store is already being pruned{who}", file=sys.stderr)
        return 1
    with lock or contextlib.nullcontext():
        try:
            runs = registrations(store.root)
            needed = set().union(*(run.keys() for run in runs if not run.is_gone))
        except NotPrunable as error:
            print(f"nothing is removed: {error}", file=sys.stderr)
            return 2
        pruning = Pruning(store, needed, keep_newer_seconds, yes)
        try:
            pruning.everything()
            for run in runs:
                if yes and run.is_gone:
                    run.file.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(store.root, error) from None
    _report(pruning, runs, yes)
    return 0


def _report(pruning: Pruning, runs: list[Registration], yes: bool) -> None:
    living = sum(not run.is_gone for run in runs)
    print(f"{pruning.store.root}: {'removed' if yes else 'to be removed'}")
    for name, removed in pruning.removed.items():
        print(f"  {name:<12}{_counted(removed.records, 'record')}, {_size(removed.size)}")
    print(f"  {'left over':<12}{_counted(pruning.parts, 'part')} of files, {_counted(pruning.stale, 'stale lock')}")
    for run in runs:
        if run.is_gone:
            print(f"  {'forgotten':<12}{run.directory}, which is gone")
    print(
        f"kept: what {_counted(living, 'registered run directory', 'registered run directories')} need, and what is new"
    )
    if not yes:
        print("nothing is removed yet; --yes does it")


@attrs.define
class Removed:
    """So much of a namespace."""

    records: int = 0
    size: int = 0


class Pruning:
    """One pass over the store. Whenever it is killed, each needed record is in the store once or twice."""

    def __init__(self, store: Store, needed: set[bytes], keep_newer_seconds: float, yes: bool):
        self.store, self.needed, self.keep_newer, self.yes = store, set(needed), keep_newer_seconds, yes
        self.removed = {name: Removed() for name in store.namespaces}
        self.parts = self.stale = 0
        try:
            self.now = file_system_time(store.root) / 1e9
        except OSError:  # it can't be written, or is not there
            self.now = time.time()
        for key, _ in store.locks.holders():
            with contextlib.suppress(ValueError):
                self.needed.add(bytes.fromhex(key))

    def everything(self) -> None:
        """Go through all namespaces, then through what dead processes have left."""
        for name, namespace in self.store.namespaces.items():
            self._segments(namespace.root, self.removed[name])
            self._own_files(namespace.root, self.removed[name])
        for folder in (*self.store.namespaces, "runs"):
            for path in (self.store.root / folder).rglob("*.part"):
                status = _status(path)
                if status is not None and not self._may_be_written(path, status):
                    self.parts += 1
                    self._remove(path)
        locks = self.store.locks
        self.stale = (
            locks.remove_stale() if self.yes else len(list(locks.root.glob("*.lock"))) - len([*locks.holders()])
        )

    def _segments(self, root: Path, removed: Removed) -> None:
        kept: set[bytes] = set()
        for path in sorted(root.glob("*.seg"), reverse=True):  # of two records of one key the later is kept
            status = _status(path)
            if status is None or self._is_new(status) or self._may_be_written(path, status):
                continue
            with contextlib.suppress(FileNotFoundError):
                self._segment(path, status, kept, removed)

    def _segment(self, path: Path, status: os.stat_result, kept: set[bytes], removed: Removed) -> None:
        segment = Segment(path)
        found = segment.scan()
        with path.open("rb", buffering=0) as file:
            chosen = self._chosen(found, file.fileno(), kept)
            if len(chosen) < len(found) or segment.gap is not None:
                removed.records += len(found) - len(chosen)
                removed.size += status.st_size - sum(HEADER.size + place.length for _, place in chosen)
                if self.yes:
                    self._rewrite(path, chosen, file.fileno(), status)

    def _chosen(self, found: list[tuple[bytes, Record]], fd: int, kept: set[bytes]) -> list[tuple[bytes, Record]]:
        """The sound records that are needed and not kept already; they are kept then."""
        chosen = []
        for key, record in reversed(found):
            if key in self.needed and key not in kept and record.payload(fd) is not None:
                kept.add(key)
                chosen.append((key, record))
        if self.yes:
            os.fsync(fd)  # older copies may go now
        return chosen[::-1]

    def _rewrite(self, path: Path, chosen: list[tuple[bytes, Record]], fd: int, status: os.stat_result) -> None:
        """Put a segment with the chosen records in place of another, as old as that."""
        if chosen:
            number = int(path.name.partition("-")[0], 16)
            while (new := path.with_name(f"{number:016x}-{this_process()}.seg")).exists():
                number += 1
            write_file(new, _copies(chosen, fd))
            os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
        now = _status(path)
        if now is not None and now.st_size == status.st_size:
            self._remove(path)

    def _own_files(self, root: Path, removed: Removed) -> None:
        for path in root.glob("??/*.bin"):
            status = _status(path)
            with contextlib.suppress(ValueError):  # the name is no key: not ours
                if status is None or bytes.fromhex(path.stem) in self.needed or self._is_new(status):
                    continue
                removed.records += 1
                removed.size += status.st_size
                self._remove(path)

    def _remove(self, path: Path) -> None:
        if self.yes:
            path.unlink(missing_ok=True)

    def _is_new(self, status: os.stat_result) -> bool:
        return self.now - status.st_mtime < self.keep_newer

    def _may_be_written(self, path: Path, status: os.stat_result) -> bool:
        writer = Process.named(path.name)
        if writer is not None and writer.is_here:
            return not writer.is_gone
        return self.now - status.st_mtime < HOUR


def _copies(chosen: list[tuple[bytes, Record]], fd: int) -> Iterator[bytes]:
    for key, record in chosen:
        payload = record.payload(fd)
        if payload is not None:
            yield header(key, payload) + payload


def _status(path: Path) -> os.stat_result | None:
    """A file's status; None where it is gone meanwhile."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _bytes_below(root: Path) -> int:
    statuses = (_status(path) for path in root.rglob("*") if path.is_file())
    return sum(status.st_size for status in statuses if status is not None)


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
