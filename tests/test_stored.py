"""The command `store`: what it prints, and that pruning removes what nobody needs and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from kempeframe.processes import Process, this_process
from kempeframe.segments import header
from kempeframe.store import LARGE, NEEDS, Namespace, Store
from kempeframe.stored import HOUR, prune_command, store_command

DEAD = Process(this_process().machine, os.getpid(), "1")  # of this machine, and gone
OLD = 2 * HOUR


def key(number: int) -> str:
    return f"{number:032x}"


def payload(number: int) -> bytes:
    return f"record {number} ".encode() * (1 + number % 30)


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def segment_of_the_dead(root: Path, numbers: Iterable[int], order: int = 1, seconds: float = OLD) -> Path:
    """A segment whose writer has ended."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{order:016x}-{DEAD}.seg"
    path.write_bytes(b"".join(header(bytes.fromhex(key(i)), payload(i)) + payload(i) for i in numbers))
    age(path, seconds)
    return path


def small_store(root: Path, needed: Iterable[int] = range(0, 40, 2)) -> Store:
    """Forty results in two segments, a fit of its own file, two checkpoints; a run directory needs some of them."""
    segment_of_the_dead(root / "store" / "results", range(20), 1)
    segment_of_the_dead(root / "store" / "results", range(20, 40), 2)
    store = Store(root / "store")
    store.fits.put(key(100), bytes(LARGE + 1))
    store.checkpoints.put(key(2), b"needed")
    store.checkpoints.put(key(3), b"not needed")
    for path in store.root.rglob("*.bin"):
        age(path, OLD)
    store.register(root / "run", map(key, needed))
    return store


def snapshot(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def results(root: Path) -> dict[int, bytes | None]:
    space = Namespace(root / "store" / "results")
    return {int(name, 16): space.get(name) for name in [*space.keys()]}


def test_it_prints_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = small_store(tmp_path)
    store.locks.what = "kempeframe run spec.toml"
    lock = store.locks.acquire([key(1), key(2)])
    (store.root / "images").mkdir()
    (store.root / "images" / "mnist.npy").write_bytes(bytes(12_300))
    assert store_command(store.root) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{store.root}: 1.1 MB\n")
    assert "fits        1 record, 1.0 MB in 0 segments and 1 own file" in out
    assert "results     40 records, " in out and " in 2 segments and 0 own files" in out
    assert "checkpoints 2 records" in out
    assert "images      12.3 kB, kept by a plugin" in out
    assert f"2 by process {os.getpid()} on " in out and "kempeframe run spec.toml" in out
    assert f"{tmp_path / 'run'}  20 records" in out
    assert lock is not None


def test_an_empty_store_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert store_command(tmp_path / "none") == 0
    assert prune_command(tmp_path / "none", False, HOUR) == 0
    assert "results     empty" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


def test_pruning_is_dry_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = small_store(tmp_path)
    before = snapshot(store.root)
    assert prune_command(store.root, False, HOUR) == 0
    assert snapshot(store.root) == before
    dry = capsys.readouterr().out
    assert "results     20 records" in dry and "fits        1 record, 1.0 MB" in dry and "--yes" in dry
    assert prune_command(store.root, True, HOUR) == 0
    done = capsys.readouterr().out
    assert [line for line in done.splitlines() if "record" in line] == [
        line.replace("to be removed", "removed") for line in dry.splitlines() if "record" in line
    ]


def test_pruning_keeps_what_is_needed_and_removes_the_rest(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    assert prune_command(store.root, True, HOUR) == 0
    assert results(tmp_path) == {i: payload(i) for i in range(0, 40, 2)}
    again = Store(store.root)
    assert key(100) not in again.fits
    assert again.checkpoints.get(key(2)) == b"needed" and key(3) not in again.checkpoints
    before = snapshot(store.root)
    assert prune_command(store.root, True, HOUR) == 0
    assert snapshot(store.root) == before  # what was rewritten is as old as it was, and whole


def test_an_open_reader_finds_its_records_again(tmp_path: Path) -> None:
    readers = [small_store(tmp_path).results, Namespace(tmp_path / "store" / "results")]
    assert readers[0].get(key(4)) == payload(4)
    assert prune_command(tmp_path / "store", True, HOUR) == 0
    for reader in readers:
        assert {i: reader.get(key(i)) for i in range(0, 40, 2)} == {i: payload(i) for i in range(0, 40, 2)}
        reader.refresh()
        assert key(1) not in reader and reader.get(key(1)) is None


def test_new_records_and_those_of_living_writers_are_kept(tmp_path: Path) -> None:
    space = tmp_path / "store" / "results"
    segment_of_the_dead(space, range(5), 1, seconds=60)
    living = Namespace(space)
    living.put(key(10), payload(10))
    (own,) = set(space.glob("*.seg")) - set(space.glob("0000*.seg"))
    age(own, 100 * HOUR)
    elsewhere = space / "0000000000000009-m00000000-1-1.seg"
    elsewhere.write_bytes(header(bytes.fromhex(key(20)), payload(20)) + payload(20))
    age(elsewhere, HOUR / 2)
    assert prune_command(tmp_path / "store", True, HOUR) == 0
    assert set(results(tmp_path)) == {0, 1, 2, 3, 4, 10, 20}
    assert prune_command(tmp_path / "store", True, 0.0) == 0
    assert set(results(tmp_path)) == {10, 20}
    age(elsewhere, 2 * HOUR)
    assert prune_command(tmp_path / "store", True, HOUR) == 0
    assert set(results(tmp_path)) == {10}


def test_what_is_locked_is_kept(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    with store.locks.acquire([key(1), key(100), key(3)]) or pytest.fail("they are free"):
        assert prune_command(store.root, True, HOUR) == 0
    assert set(results(tmp_path)) == {*range(0, 40, 2), 1, 3}
    assert key(100) in Store(store.root).fits and key(3) in Store(store.root).checkpoints


def test_of_several_copies_the_last_sound_one_is_kept(tmp_path: Path) -> None:
    space = tmp_path / "store" / "results"
    paths = [segment_of_the_dead(space, range(4), order) for order in (1, 2, 3)]
    data = bytearray(paths[2].read_bytes())
    data[40] ^= 1  # the payload of record 0
    paths[2].write_bytes(bytes(data))
    age(paths[2], OLD)
    Store(tmp_path / "store").register(tmp_path / "run", map(key, range(4)))
    assert prune_command(tmp_path / "store", True, HOUR) == 0
    assert results(tmp_path) == {i: payload(i) for i in range(4)}
    names = sorted(path.name.partition("-")[0] for path in space.glob("*.seg"))
    assert names == [f"{2:016x}", f"{3:016x}"]


def test_what_dead_processes_left_goes_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = small_store(tmp_path)
    folder = store.root / "fits" / "ab"
    folder.mkdir()
    for name in (f"x.bin.{DEAD}-7.part", f"x.bin.{this_process()}-7.part", "x.bin.m00000000-1-1-7.part"):
        (folder / name).touch()
    (store.root / "images").mkdir()
    (store.root / "images" / f"x.{DEAD}.part").touch()
    store.locks.root.mkdir()
    entry = {"host": "here", "process": str(DEAD), "what": "", "token": ""}
    (store.locks.root / f"{key(1)}.lock").write_text(json.dumps(entry))
    for yes in (False, True):
        assert prune_command(store.root, yes, HOUR) == 0
        assert "1 part of files, 1 stale lock" in capsys.readouterr().out
    assert len(list(folder.iterdir())) == 2 and len(list((store.root / "images").iterdir())) == 1
    assert not list(store.locks.root.iterdir())
    assert 1 not in results(tmp_path)


def test_a_run_directory_that_is_gone_is_forgotten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = small_store(tmp_path)
    store.register(tmp_path / "other", [key(1)])
    (tmp_path / "other" / NEEDS).unlink()
    (tmp_path / "other").rmdir()
    assert prune_command(store.root, True, HOUR) == 0
    assert f"{tmp_path / 'other'}, which is gone" in capsys.readouterr().out
    assert len(list((store.root / "runs").iterdir())) == 1
    assert 1 not in results(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "odd", "registration", "other host"])
def test_nothing_is_removed_where_needs_are_unknown(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = small_store(tmp_path)
    needs = tmp_path / "run" / NEEDS
    (registration,) = (store.root / "runs").iterdir()
    if damage == "missing":
        needs.unlink()
    elif damage == "odd":
        needs.write_bytes(needs.read_bytes()[:-1])
    elif damage == "registration":
        registration.write_text("{")
    else:
        registration.write_text(json.dumps({"run_directory": str(tmp_path / "out of sight"), "host": "far"}))
    before = snapshot(store.root)
    assert prune_command(store.root, True, HOUR) == 2
    assert snapshot(store.root) == before
    error = capsys.readouterr().err
    assert str({"registration": registration, "other host": "out of sight"}.get(damage, tmp_path / "run")) in error
    assert error.startswith("nothing is removed: ")


def test_two_do_not_prune_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = small_store(tmp_path)
    with store.locks.acquire(["prune"]) or pytest.fail("it is free"):
        assert prune_command(store.root, True, HOUR) == 1
    assert f"already being pruned (process {os.getpid()}" in capsys.readouterr().err
    assert len(results(tmp_path)) == 40


PRUNE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from kempeframe.stored import prune_command
left = 0

def dying(function):
    def called(*arguments, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return called

for name in ("open", "write", "fsync", "replace", "rename", "unlink", "utime", "fstat"):
    setattr(os, name, dying(getattr(os, name)))
for line in sys.stdin:
    root, step = line.split()
    child = os.fork()
    if child == 0:
        left = int(step)
        sys.stdout = sys.stderr
        prune_command(Path(root), True, 3600.0)
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def test_a_kill_at_any_moment_loses_nothing_that_is_needed(tmp_path: Path) -> None:
    """The process kills itself before its first, second, third ... call that touches a file, until one run ends."""
    command = [sys.executable, "-c", PRUNE_AND_DIE]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, text=True, **pipes)
    assert process.stdin is not None and process.stdout is not None
    for step in range(1, 1000):
        root = tmp_path / str(step)
        small_store(root)
        print(root / "store", step, file=process.stdin, flush=True)
        status = int(process.stdout.readline())
        assert status in (0, signal.SIGKILL)
        found = results(root)
        assert {i: found.get(i) for i in range(0, 40, 2)} == {i: payload(i) for i in range(0, 40, 2)}
        if status == 0:
            break
        if step % 5 == 0:
            assert prune_command(root / "store", True, HOUR) == 0
            assert results(root) == {i: payload(i) for i in range(0, 40, 2)}
            assert not list((root / "store").rglob("*.part"))
    else:
        pytest.fail("it never ended")
    process.communicate()
    assert step > 15


WRITE_AND_READ = """
import sys
from pathlib import Path
from kempeframe.store import Store
root, start = Path(sys.argv[1]), int(sys.argv[2])
text = lambda number: f"record {number} ".encode() * (1 + number % 30)
print("ready", flush=True)
for round in range(4):
    store = Store(root)  # a new segment each time
    for i in range(start + 100 * round, start + 100 * round + 100):
        store.results.put(f"{i:032x}", text(i))
        store.refresh()
        for j in (i, start, *range(0, 40, 2)):
            assert store.results.get(f"{j:032x}") == text(j), (i, j)
"""


def test_pruning_disturbs_nobody_who_reads_and_writes(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    command = [sys.executable, "-c", WRITE_AND_READ, str(store.root)]
    starts = (1000, 2000)
    store.register(tmp_path / "another", (key(i) for start in starts for i in range(start, start + 400)))
    workers = [subprocess.Popen([*command, str(start)], stdout=subprocess.PIPE, text=True) for start in starts]
    order = 10
    while any(worker.poll() is None for worker in workers):
        segment_of_the_dead(store.root / "results", range(40), order)  # so that there is always something to do
        order += 1
        assert prune_command(store.root, True, 0.0) == 0
    for worker in workers:
        worker.communicate()
    assert [worker.returncode for worker in workers] == [0, 0]
    found = results(tmp_path)
    assert all(found[i] == payload(i) for i in range(0, 40, 2))
    for start in starts:
        assert all(found[i] == payload(i) for i in range(start, start + 400))
