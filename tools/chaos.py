"""Kill, damage, fill: is the table still right?  `python tools/chaos.py --kills 200 --seed 0`.

A study runs through the real command line while its processes get SIGKILL at random moments and inside their writes,
files of its store are damaged between runs, and its disk is full for a while. Then it runs once undisturbed, and its
tables are compared with those of an undisturbed run in a fresh store. The exit code is 0 where no row is lost or
wrong and nothing is left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import attrs
from chaos_damage import DAMAGE, small_disk
from chaos_study import spec_text, tables
from chaos_tally import Tally

from kempeframe.locks import Locks

PLUGIN = Path(__file__).parents[1] / "tests" / "chaos_plugin.py"
LEASE = 2.0  # seconds, in place of 20: a lock that nobody can tell to be stale holds a run up for so long
KILLS = 20  # of one store, before its study is let through and compared
LEFT = (".part", ".lock", ".aside", ".clock")  # what only a dead process leaves
PATIENCE = 120.0  # seconds after which a command hangs
FAILED = 3  # the exit code of the study: one trial of it always raises
CALLS = {  # a process ends in one of the first so many of these calls
    "parent": {"write": 3, "fsync": 3, "replace": 6, "io.open": 12, "os.open": 6, "unlink": 6},
    "worker": {"write": 40, "fsync": 8, "replace": 6, "io.open": 6, "os.open": 30, "unlink": 20, "rename": 2},
}


@attrs.define
class Command:
    """One running command."""

    process: subprocess.Popen[bytes]
    errors: Path
    allowed: tuple[int, ...]  # exit codes
    started: float = attrs.field(factory=time.monotonic)

    @property
    def text(self) -> str:
        """What it wrote to stderr."""
        return self.errors.read_text(errors="replace")


class Chaos:
    """A study below one folder, and all that is done to it."""

    def __init__(self, folder: Path, seed: int, size: float = 1.0):
        self.folder, self.own = folder, folder / "chaos"
        self.random = random.Random(seed)
        self.tally = Tally()
        self.number = 0
        (self.own / "orders").mkdir(parents=True)
        shutil.copy(PLUGIN, folder)
        (folder / "spec.toml").write_text(spec_text(size))
        self.store = folder / "reference"
        self.finish("undisturbed")
        self.seconds = self.duration
        self.needed = set(self.lines("fits"))
        self.right = tables(folder / "undisturbed")

    def lines(self, name: str) -> list[str]:
        """What the plugin noted."""
        path = self.own / name
        return path.read_text().splitlines() if path.exists() else []

    def start(self, *arguments: str, allowed: Sequence[int] = (FAILED,)) -> Command:
        """Start a command on the store."""
        self.number += 1
        errors = self.own / f"{self.number}.err"
        environment = {**os.environ, "KEMPEFRAME_CHAOS": str(self.own), "KEMPEFRAME_CHAOS_LEASE": str(LEASE)}
        command = [sys.executable, "-m", "kempeframe", *arguments, "--store", str(self.store)]
        with errors.open("wb") as file, (self.own / f"{self.number}.out").open("wb") as out:
            process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=out, stderr=file, stdin=subprocess.DEVNULL
            )
        return Command(process, errors, tuple(allowed))

    def run(self, out: str) -> Command:
        """Start the study."""
        return self.start("run", "spec.toml", "--jobs", "2", "--out", out, allowed=(FAILED, -signal.SIGKILL))

    def end(self, command: Command) -> int:
        """Wait for a command; what it should not have done is a problem."""
        try:
            code = command.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.problem("hangs", command)
            command.process.kill()
            return command.process.wait()
        never_up = code == 4 and "workers end before they begin" in command.text
        if code not in command.allowed and not never_up:
            self.problem(f"exit code {code}", command)
        elif "Traceback" in command.text:
            self.problem("a traceback", command)
        return code

    def problem(self, what: str, command: Command | None = None) -> None:
        """Note what should not be."""
        text = f"{command.errors.name} {command.process.args}: {command.text[-3000:]}" if command else ""
        self.tally.problems.append(f"{what} {text}".strip())

    def processes(self) -> dict[int, str]:
        """All living processes of the study: number -> parent or worker."""
        mark = f"KEMPEFRAME_CHAOS={self.own}\0".encode()
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (path / "environ").read_bytes():
                    worker = b"kempeframe.workers" in (path / "cmdline").read_bytes()
                    found[int(path.name)] = "worker" if worker else "parent"
        return found

    def kill(self, role: str) -> bool:
        """SIGKILL to a process of this role; False where there is none."""
        pids = sorted(pid for pid, found in self.processes().items() if found == role)
        with contextlib.suppress(ProcessLookupError):
            if pids:
                os.kill(self.random.choice(pids), signal.SIGKILL)
                self.tally.kills[role] += 1
                return True
        return False

    def order(self) -> None:
        """Have some processes of the next round end in the middle of a write."""
        for path in (self.own / "orders").glob("*"):
            path.unlink()
        for index in range(self.random.randint(1, 5)):
            role = self.random.choice(["parent", "worker", "worker", "worker"])
            call, most = self.random.choice(sorted(CALLS[role].items()))
            order = {"role": role, "call": call, "number": 1 + int(most * self.random.random() ** 3)}
            (self.own / "orders" / f"{index}.json").write_text(json.dumps(order))

    def round(self, late: bool = False) -> None:
        """Run the study, and kill its processes, the parents last. `late`: while it writes the run directory."""
        self.order()
        commands = [self.run("out")]
        if self.random.random() < 0.25:
            commands.append(self.run("other"))
        if self.random.random() < 0.2:
            prune = ("store", "prune", "--yes", "--keep-hours", "0")  # it refuses to where a registration is damaged
            commands.append(self.start(*prune, allowed=(0, 1, 2, -signal.SIGKILL)))
        when = self.random.random()
        if late:
            self.wait_for_writing(commands)
            time.sleep(self.random.uniform(0, 0.5))
        elif when < 0.15:
            time.sleep(self.random.uniform(0, 1.0))  # it is still starting
        elif when < 0.55:
            self.wait_for_orders(commands)
        else:
            for _ in range(self.random.randint(1, 4)):
                time.sleep(self.random.uniform(0, self.seconds / 5))
                self.disturb_worker()
        both = self.random.random() < 0.3
        for command in commands:
            if command.process.poll() is None:
                command.process.kill()
                self.tally.kills["parent"] += 1
        while both and self.kill("worker"):
            time.sleep(0.01)
        for command in commands:
            self.end(command)
        self.wait_for_workers()
        self.count_orders()

    def wait_for_orders(self, commands: Sequence[Command]) -> None:
        """Until all orders to workers are carried out, or for half the time that the study takes."""
        end = time.monotonic() + self.seconds / 2
        while time.monotonic() < end and any(command.process.poll() is None for command in commands):
            orders = [json.loads(path.read_text()) for path in (self.own / "orders").glob("*.json")]
            if all(order["role"] == "parent" for order in orders):
                return
            time.sleep(0.05)

    def disturb_worker(self) -> None:
        """Kill one, or stop it for longer than its lease."""
        workers = [pid for pid, role in self.processes().items() if role == "worker"]
        if not workers or self.random.random() > 0.1:
            self.kill("worker")
            return
        pid = self.random.choice(workers)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(1.5 * LEASE)
            os.kill(pid, signal.SIGCONT)
            self.tally.stopped += 1

    def wait_for_writing(self, commands: Sequence[Command]) -> None:
        """Until the run directory is being written, or the commands have ended."""
        path = self.folder / "out" / "claims.json"
        before = path.stat().st_mtime_ns if path.exists() else 0
        end = time.monotonic() + PATIENCE
        while any(command.process.poll() is None for command in commands) and time.monotonic() < end:
            if path.exists() and path.stat().st_mtime_ns != before:
                return
            time.sleep(0.002)

    def wait_for_workers(self) -> None:
        """Workers end with their parent."""
        end = time.monotonic() + 20
        while self.processes():
            if time.monotonic() > end:
                self.problem(f"processes left behind: {self.processes()}")
                for pid in self.processes():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.02)

    def count_orders(self) -> None:
        """Kills inside of writes, since the last time."""
        for line in self.lines("carried_out"):
            role, call, _ = line.split(" ", 2)
            self.tally.kills[f"{role} in a write"] += 1
            self.tally.calls[call] += 1
        (self.own / "carried_out").unlink(missing_ok=True)

    def damage(self) -> None:
        """Do some of what disks, people and dead processes do to files."""
        files = sorted(path for path in self.store.rglob("*") if path.is_file())
        for _ in range(self.random.randint(1, 3)):
            what = self.random.choice([*DAMAGE])
            if files:
                with contextlib.suppress(FileNotFoundError):
                    DAMAGE[what](self.random.choice(files), self.random)
                    self.tally.damage[what] += 1

    def finish(self, out: str) -> Command:
        """Run the study to its end, undisturbed."""
        command = self.run(out)
        if self.end(command) != FAILED:
            self.problem("the study does not come to its end", command)
        self.duration = time.monotonic() - command.started
        return command

    def one_store(self, kills: int) -> None:
        """A fresh store: so many kills, with damage between them; then compare."""
        self.store = self.folder / f"store {self.tally.stores}"
        self.tally.stores += 1
        for name in ("out", "other"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.own / "fits").unlink(missing_ok=True)
        target = self.tally.total + kills
        while self.tally.total < target - 2:
            self.round()
            if self.random.random() < 0.6:
                self.damage()
        while self.tally.total < target:
            self.round(late=True)
        before = len(self.tally.problems)
        self.settle()
        if len(self.tally.problems) == before:
            shutil.rmtree(self.store)

    def settle(self) -> None:
        """Compare the tables; what dead processes left goes when the store is pruned, and nothing that is needed."""
        for path in (self.own / "orders").glob("*"):
            path.unlink()
        for path in self.left():
            os.utime(path, (1e9, 1e9))  # an hour later
        for out in ("out", "other"):
            if (self.folder / out).exists():
                self.finish(out)
                self.compare(out)
        times = Counter(self.lines("fits"))
        self.tally.fits += len(self.needed)
        self.tally.again += sum(times.values()) - len(times)
        self.tally.resumed += len(self.lines("resumed"))
        (self.own / "resumed").unlink(missing_ok=True)
        self.end(self.start("store", "prune", "--yes", "--keep-hours", "0", allowed=(0,)))
        left = [str(path.relative_to(self.folder)) for path in self.left()]
        left += [f"lock {key}" for key, _ in Locks(self.store / "locks").holders()]
        if left:
            self.problem(f"left behind: {left}")
        last = self.finish("out")
        self.compare("out")
        if "all others from the store" not in last.errors.with_suffix(".out").read_text():
            self.problem("after pruning something was computed again", last)

    def left(self) -> list[Path]:
        """Files that only dead processes leave."""
        places = (self.store, self.folder / "out", self.folder / "other")
        return [path for place in places for path in place.rglob("*") if path.suffix in LEFT]

    def compare(self, out: str) -> None:
        """Count the rows that are not what they should be."""
        try:
            found = tables(self.folder / out)
        except (OSError, ValueError) as error:
            self.problem(f"{out}: {error}")
            found = {name: {} for name in self.right}
        for name, right in self.right.items():
            self.tally.rows += len(right)
            for key, row in right.items():
                other = found[name].get(key)
                if other == row:
                    continue
                lost = other is None or other.get("status") != row.get("status") or None in other.values()
                self.tally.lost += lost
                self.tally.wrong += not lost
                self.problem(f"{self.store.name} {out} {name} {key}: expected {row}, got {other}")
            self.tally.wrong += len(found[name].keys() - right.keys())

    def full_disk(self) -> None:
        """The store's disk is full while the study runs; then there is room again."""
        self.store = self.folder / "small"
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        with small_disk(self.store):
            command = self.start("run", "spec.toml", "--jobs", "2", "--out", "out", allowed=(4,))
            filler, begin = self.store / "filler", float("inf")
            with filler.open("wb", buffering=0) as file:
                while command.process.poll() is None and time.monotonic() < command.started + PATIENCE:
                    if begin == float("inf") and any(self.store.glob("results/*.seg")):  # it has begun to compute
                        begin = time.monotonic() + self.random.uniform(0, 0.1) * self.seconds
                    with contextlib.suppress(OSError):
                        file.write(bytes(1 << 16) if time.monotonic() > begin else b"")
                    time.sleep(0.001)
            self.end(command)
            self.tally.full += 1
            said = [line for line in command.text.splitlines() if not line.startswith(("failed ", " "))]
            if "No space left" not in command.text or len(said) > 6:  # beside the trials that fail in any case
                self.problem("a full disk is not said well", command)
            self.wait_for_workers()
            filler.unlink()
            self.finish("out")
            self.compare("out")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="at least so many (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="of what is done when (default: 0)")
    parser.add_argument("--size", type=float, default=1.0, help="of the study (default: 1, about 300 trials)")
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    arguments = parser.parse_args()
    begin = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="kempeframe-chaos-"))
    chaos = Chaos(folder, arguments.seed, arguments.size)
    tally = chaos.tally
    print(f"{folder}: undisturbed {chaos.seconds:.1f} s, {len(chaos.right['table.csv'])} trials", flush=True)
    try:
        chaos.full_disk()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no disk filled: {error}")
    while tally.total < arguments.kills:
        chaos.one_store(min(KILLS, arguments.kills - tally.total))
        rows = f"rows lost {tally.lost}, wrong {tally.wrong}"
        print(f"{tally.total} kills, {rows}, {len(tally.problems)} problems", flush=True)
    print(f"{tally}\nseconds          {time.monotonic() - begin:.0f}")
    if not arguments.keep:
        shutil.rmtree(folder)
    return 0 if tally.good else 1


if __name__ == "__main__":
    sys.exit(main())
