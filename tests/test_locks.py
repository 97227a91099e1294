"""Locks: one holder, none that outlives its process, none that is stolen while it is fresh."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kempeframe import locks as locks_module
from kempeframe.locks import LEASE, Lock, Locks
from kempeframe.processes import Process, this_process

SHORT = 1.0  # seconds of a short lease

HOLD = """
import sys, time
from pathlib import Path
from kempeframe.locks import Locks
locks = Locks(Path(sys.argv[1]), float(sys.argv[2]))
lock = locks.acquire(sys.argv[3:])
print("held" if lock else "refused", flush=True)
sys.stdin.readline()
if lock:
    lock.release()
print("released", flush=True)
"""


def holding(root: Path, *keys: str, lease: float = LEASE) -> subprocess.Popen[str]:
    """A process that holds keys until it is told to go on."""
    command = [sys.executable, "-c", HOLD, str(root), str(lease), *keys]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What the condition gives once it gives something."""
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit
        time.sleep(0.02)
    return found


def stale(root: Path, key: str) -> Path:
    """A lock of a process that has ended."""
    gone = Process(this_process().machine, os.getpid(), "1")  # the first process of this number
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{key}.lock"
    path.write_text(json.dumps({"host": "here", "process": str(gone), "what": "old", "token": "1"}))
    return path


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    one, two = Locks(tmp_path), Locks(tmp_path)
    lock = one.acquire(["a"])
    assert lock is not None
    assert two.acquire(["a"]) is None
    assert one.acquire(["a"]) is None
    lock.release()
    with two.acquire(["a"]) or pytest.fail("it is free"):
        assert one.acquire(["a"]) is None
    assert one.acquire(["a"]) is not None


def test_all_keys_are_locked_or_none(tmp_path: Path) -> None:
    one, two = Locks(tmp_path), Locks(tmp_path)
    middle = two.acquire(["b"])
    assert middle is not None
    assert one.acquire(["c", "a", "b"]) is None
    assert [key for key, _ in one.holders()] == ["b"]
    assert (one.held, two.held) == (0, 1)
    middle.release()
    lock = one.acquire(["c", "a", "b", "a"])
    assert lock is not None and one.held == 3
    lock.release()
    lock.release()
    assert one.held == 0 and not list(tmp_path.glob("*.lock"))


def test_it_says_who_holds_a_key(tmp_path: Path) -> None:
    locks = Locks(tmp_path)
    locks.what = "kempeframe run spec.toml"
    assert locks.holder("a") is None
    lock = locks.acquire(["a"])
    holder = Locks(tmp_path).holder("a")
    assert holder is not None and lock is not None
    assert (holder.pid, holder.what) == (os.getpid(), "kempeframe run spec.toml")
    lock.release()
    assert locks.holder("a") is None


def test_nothing_is_made_before_a_lock_is_needed(tmp_path: Path) -> None:
    locks = Locks(tmp_path / "locks")
    assert locks.holder("a") is None and not list(locks.holders()) and locks.remove_stale() == 0
    assert not (tmp_path / "locks").exists()


COMPUTE = """
import sys, time
from pathlib import Path
from kempeframe.store import Store
store, out = Store(Path(sys.argv[1])), Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for i in range(40):
    key = f"{i:032x}"
    while True:
        lock = store.locks.acquire([key])
        if lock is not None:
            break
        time.sleep(0.001)
    with lock:
        store.refresh()
        if key not in store.results:
            with out.open("ab", buffering=0) as file:
                file.write(f"{i}\\n".encode())
            store.results.put(key, b"done")
"""


def test_of_several_processes_one_computes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COMPUTE, str(tmp_path / "store"), str(tmp_path / "computed")]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        process.communicate(b"\n")
        assert process.returncode == 0
    assert sorted(map(int, (tmp_path / "computed").read_text().split())) == list(range(40))


def test_a_killed_holder_loses_its_locks_at_once(tmp_path: Path) -> None:
    process = holding(tmp_path, "a", "b")
    locks = Locks(tmp_path)
    assert locks.acquire(["a"]) is None
    end(process)
    assert locks.holder("a") is None
    lock = locks.acquire(["a", "b"])
    assert lock is not None
    assert not list(tmp_path.glob("*.aside"))


def test_a_killed_holder_whose_end_nobody_has_noticed_yet_is_gone_too(tmp_path: Path) -> None:
    process = holding(tmp_path, "a")
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it stays behind as a zombie
    assert Locks(tmp_path).acquire(["a"]) is not None
    process.communicate()


def test_a_process_number_used_again_is_no_holder(tmp_path: Path) -> None:
    path = stale(tmp_path, "a")
    entry = json.loads(path.read_text())
    own = this_process()
    path.write_text(json.dumps({**entry, "process": str(Process(own.machine, own.pid, str(int(own.started) + 1)))}))
    assert Locks(tmp_path).acquire(["a"]) is not None


def test_a_holder_of_another_machine_has_its_lease(tmp_path: Path) -> None:
    path = stale(tmp_path, "a")
    path.write_text(json.dumps({**json.loads(path.read_text()), "process": "m00000000-1-1"}))
    assert Locks(tmp_path).acquire(["a"]) is None
    brief = Locks(tmp_path, SHORT)
    assert until(lambda: brief.acquire(["a"]))


def test_the_clock_of_this_machine_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = holding(tmp_path, "a")
    for wrong in (0.0, 4e9):
        monkeypatch.setattr(time, "time", lambda wrong=wrong: wrong)
        monkeypatch.setattr(time, "time_ns", lambda wrong=wrong: int(wrong * 1e9))
        assert Locks(tmp_path).acquire(["a"]) is None
    end(process)


def test_a_lock_is_renewed_while_its_process_lives(tmp_path: Path) -> None:
    process = holding(tmp_path, "a", lease=SHORT)
    locks = Locks(tmp_path, SHORT)
    limit = time.monotonic() + 2.5 * SHORT
    while time.monotonic() < limit:
        assert locks.acquire(["a"]) is None
        time.sleep(0.05)
    end(process)


def test_a_suspended_holder_loses_its_lock_and_leaves_the_new_one_alone(tmp_path: Path) -> None:
    process = holding(tmp_path, "a", lease=SHORT)
    process.send_signal(signal.SIGSTOP)
    locks = Locks(tmp_path, SHORT)
    lock = until(lambda: locks.acquire(["a"]))
    process.send_signal(signal.SIGCONT)
    assert process.communicate("\n")[0] == "released\n"
    assert isinstance(lock, Lock)
    assert Locks(tmp_path, SHORT).acquire(["a"]) is None
    lock.release()
    assert not list(tmp_path.glob("*.lock"))


def test_a_lock_without_content_is_free_after_a_lease(tmp_path: Path) -> None:
    """Its process was killed between making the file and writing to it."""
    (tmp_path / "a.lock").touch()
    locks = Locks(tmp_path)
    assert locks.acquire(["a"]) is None and locks.holder("a") is not None
    brief = Locks(tmp_path, SHORT)
    assert until(lambda: brief.acquire(["a"]))


def test_of_two_takers_of_a_stale_lock_one_gets_it(tmp_path: Path) -> None:
    for attempt in range(60):
        root = tmp_path / str(attempt)
        stale(root, "a")
        gate = threading.Barrier(2)
        taken: list[Lock | None] = []

        def take(root: Path = root, gate: threading.Barrier = gate, taken: list[Lock | None] = taken) -> None:
            locks = Locks(root)
            gate.wait()
            taken.append(locks.acquire(["a"]))

        threads = [threading.Thread(target=take) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (lock,) = [lock for lock in taken if lock is not None]
        assert (root / "a.lock").read_bytes() == lock.content


def test_a_taker_that_is_late_puts_the_fresh_lock_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale(tmp_path, "a")
    first, second = Locks(tmp_path), Locks(tmp_path)
    right = os.rename
    got: list[Lock | None] = []

    def rename(source: str, target: str) -> None:
        monkeypatch.setattr(os, "rename", right)
        got.append(first.acquire(["a"]))  # quicker than the one that is about to rename the stale lock
        right(source, target)

    monkeypatch.setattr(os, "rename", rename)
    assert second.acquire(["a"]) is None
    (lock,) = got
    assert lock is not None
    assert (tmp_path / "a.lock").read_bytes() == lock.content
    assert len(list(tmp_path.iterdir())) == 1


def test_a_lock_renewed_just_before_it_is_taken_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stale(tmp_path, "a")
    right = os.rename

    def rename(source: str, target: str) -> None:
        os.utime(source, (2e9, 2e9))
        right(source, target)

    monkeypatch.setattr(os, "rename", rename)
    assert Locks(tmp_path).acquire(["a"]) is None
    assert path.exists()


def test_what_the_dead_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    stale(tmp_path, "a")
    locks = Locks(tmp_path, SHORT)
    lock = locks.acquire(["b"])
    assert lock is not None
    for name in ("c.lock.x.aside", "x.clock"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1e9, 1e9))
    assert locks.remove_stale() == 3
    assert [path.name for path in tmp_path.iterdir()] == ["b.lock"]


def test_a_directory_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    from kempeframe.store import StoreError

    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="can't be written"):
        Locks(tmp_path / "file" / "locks").acquire(["a"])


def test_a_disk_without_room_for_a_lock_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kempeframe.store import StoreError

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(locks_module.os, "write", full)
    with pytest.raises(StoreError, match="No space left"):
        Locks(tmp_path).acquire(["a", "b"])
    assert not list(tmp_path.iterdir())


def test_locks_that_nobody_uses_leave_no_thread(tmp_path: Path) -> None:
    locks = Locks(tmp_path, SHORT)
    lock = locks.acquire(["a"])
    assert lock is not None
    lock.release()
    thread = locks.renewing
    assert thread is not None
    del locks, lock
    thread.join(20)
    assert not thread.is_alive()
