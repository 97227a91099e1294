"""Speed of many trials in many processes, with Hydra and exca as peers: `python tools/benchmark_scale.py`.

The peers are an extra: `pip install -e .[benchmark]`; without them their lines are left out.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmark_spine import NOTHING, NOTHING_SPEC, line

PEER_TRIALS = 300
HYDRA_APP = '''
import hydra
from omegaconf import DictConfig

@hydra.main(version_base=None, config_path=None)
def app(config: DictConfig) -> float:
    return 0.0

app()
'''
EXCA_APP = '''
import sys
import exca
import pydantic

class Idle(pydantic.BaseModel):
    number: int = 0
    infra: exca.TaskInfra = exca.TaskInfra(version="1")

    @infra.apply
    def zero(self) -> float:
        return 0.0

for number in range(int(sys.argv[1])):
    Idle(number=number, infra={"folder": sys.argv[2]}).zero()
'''


def idle(folder: Path, configurations: int, jobs: int, more: tuple[str, ...] = ()) -> tuple[float, float]:
    """Seconds and the parent's largest memory (MB) of 20 seeds of trials that do nothing, in an empty store."""
    (folder / "nothing.py").write_text(NOTHING)
    spec = folder / "nothing.toml"
    spec.write_text(NOTHING_SPEC.replace("250", str(configurations)))
    out = tempfile.mkdtemp(dir=folder)
    command = [sys.executable, "-m", "kempeframe", "run", str(spec), "--jobs", str(jobs), "--out", f"{out}/run"]
    start = time.perf_counter()
    process = subprocess.Popen([*command, "--store", f"{out}/store", *more], stdout=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, high_water(process.pid))
        time.sleep(0.02)
    assert process.returncode == 0
    return time.perf_counter() - start, peak


def high_water(pid: int) -> float:
    """A process's largest resident memory so far, in MB."""
    try:
        for entry in Path(f"/proc/{pid}/status").read_text().splitlines():
            if entry.startswith("VmHWM"):
                return float(entry.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def command_seconds(command: list[str], folder: Path) -> float:
    """Wall time of a command."""
    start = time.perf_counter()
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def per_trial(command: list[str], few: list[str], many: list[str], folder: Path) -> float:
    """Milliseconds that one more trial costs: a run of many less a run of one."""
    one = command_seconds([*command, *few], folder)
    return (command_seconds([*command, *many], folder) - one) / (PEER_TRIALS - 1) * 1e3


def main() -> None:
    """Our own figures, then the peers'."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = idle(folder, 50, 2)
        large = idle(folder, 500, 2)
        serial = idle(folder, 500, 1)
        line("10,000 trials that do nothing, --jobs 2, whole command", f"{large[0]:.1f} s", "20 s")
        line("the same, --jobs 1", f"{serial[0]:.1f} s", "-")
        line("largest memory of the parent, 10,000 trials", f"{large[1]:.0f} MB", "300 MB")
        line("the same, 1,000 trials", f"{small[1]:.0f} MB", "flat")
        ours = (large[0] - small[0]) / 9000 * 1e3
        line("one more trial that does nothing, durable, --jobs 2", f"{ours:.2f} ms", "-")
        if importlib.util.find_spec("hydra"):
            (folder / "app.py").write_text(HYDRA_APP)
            command = [sys.executable, "app.py", "-m", "hydra.job.chdir=False"]
            numbers = ",".join(map(str, range(PEER_TRIALS)))
            hydra = per_trial(command, ["+number=0"], [f"+number={numbers}"], folder)
            line("Hydra's basic launcher: one more job that does nothing", f"{hydra:.2f} ms", "-")
            line("Hydra's over ours", f"{hydra / ours:.0f}", "-")
        if importlib.util.find_spec("exca"):
            (folder / "cached.py").write_text(EXCA_APP)
            command = [sys.executable, "cached.py"]
            exca = per_trial(command, ["1", "cache one"], [str(PEER_TRIALS), "cache many"], folder)
            line("exca: one more cached call that does nothing", f"{exca:.2f} ms", "-")
            line("exca's over ours", f"{exca / ours:.1f}", "-")
    print(f"{os.cpu_count()} cores")


if __name__ == "__main__":
    main()
