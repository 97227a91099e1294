"""Speed of the spine, as ratios to bare operations measured beside it: `python tools/benchmark_spine.py`.

Every pair is measured in this process, or by processes started one after the other from it, and the median counts.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kempeframe.runs import stream_seed
from kempeframe.spec import load_spec
from kempeframe.store import Store
from kempeframe.study import run_study

ROOT = Path(__file__).parents[1]
FLAGSHIP = ROOT / "specs" / "strong_collapse.toml"

NOTHING = '''
from kempeframe import Data, Evaluator, Model, Optimizer, component, field, hookimpl

@component
class Nothing(Data):
    """No data."""
    number: int = field(0, "of the trial")
    def load(self, run):
        from kempeframe.task import Task
        return Task(splits={}, input_shape=(1,), output_shape=(1,))

@component
class Empty(Model):
    """No weights."""
    def build(self, task, run):
        import torch
        return torch.nn.Module()

@component
class Idle(Optimizer):
    """Does nothing."""
    def fit(self, network, task, attack, run):
        from kempeframe.task import Snapshot
        yield Snapshot(0, network)

@component
class Zero(Evaluator):
    """Always 0."""
    def columns(self):
        return {"zero": "0"}
    def evaluate(self, fitted, run):
        return {"zero": 0.0}

@hookimpl
def kempeframe_data(): return [Nothing]
@hookimpl
def kempeframe_model(): return [Empty]
@hookimpl
def kempeframe_optimizer(): return [Idle]
@hookimpl
def kempeframe_evaluator(): return [Zero]
'''
NOTHING_SPEC = """
seeds = 20
plugins = ["nothing.py"]
data = { use = "nothing.nothing" }
model = { use = "nothing.empty" }
optimizer = { use = "nothing.idle" }
[[evaluator]]
use = "nothing.zero"
[sweep]
"data.number" = { linear = [1, 250], points = 250 }
"""


def seconds(action: Callable[[], object], repeats: int = 3) -> float:
    """Median wall time of an action."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def line(what: str, value: str, limit: str) -> None:
    print(f"{what:<66} {value:>14}   (must: {limit})", flush=True)


def study_once(spec: Path, *overrides: str) -> float:
    """Seconds that the trials of a spec take, with an empty store."""
    loaded = load_spec(spec, overrides)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run_study(loaded, Store(Path(folder)))
        return time.perf_counter() - start


def bare_flagship() -> np.ndarray:
    """The flagship's 1,100 test errors in a bare NumPy loop: the same draws, one solve each."""
    d, noise, penalty = 100, 0.1, 1e-8
    errors = []
    for fraction in (0.0, 0.001, 0.01, 0.1, 0.5):
        for n in np.rint(np.geomspace(1e3, 1e8, 11)).astype(int):
            n_synthetic = round(fraction * n)
            for seed in range(20):
                sign = [_rng(seed, name).choice([-1.0, 1.0], size=d) for name in ("signal", "shift")]
                real = sign[0] * d**-0.5
                synthetic = real + sign[1] * d**-0.5
                gram, cross = np.zeros((d, d)), np.zeros(d)
                for name, count, weight in (("real", n - n_synthetic, real), ("synthetic", n_synthetic, synthetic)):
                    if count:
                        rank = min(d, count)
                        factor = np.tril(_rng(seed, name, "design").standard_normal((d, d)), -1)[:, :rank]
                        chi = _rng(seed, name, "scale").standard_gamma((count - np.arange(rank)) / 2)
                        factor[np.arange(rank), np.arange(rank)] = np.sqrt(2 * chi)
                        part = factor @ factor.T
                        gram += part
                        cross += part @ weight
                        cross += noise * factor @ _rng(seed, name, "noise").standard_normal(d)[:rank]
                fitted = np.linalg.solve(gram + n * penalty * np.eye(d), cross)
                errors.append(((fitted - real) ** 2).sum())
    return np.array(errors)


def _rng(seed: int, *names: str) -> np.random.Generator:
    return np.random.default_rng(stream_seed(seed, "data", *names))


def flagship() -> None:
    """Trials against the bare loop."""
    study_once(FLAGSHIP, "seeds=1")  # imports
    bare = seconds(bare_flagship)
    ours = statistics.median(study_once(FLAGSHIP) for _ in range(3))
    with tempfile.TemporaryDirectory() as folder:
        found = run_study(load_spec(FLAGSHIP), Store(Path(folder))).rows.column("excess_risk.test_error")
    worst = np.max(np.abs(found / bare_flagship() - 1))
    line("flagship, 1,100 trials, over a bare NumPy loop", f"{ours / bare:.2f} ({ours:.2f} s)", "2")
    line("largest relative difference of the 1,100 numbers", f"{worst:.1e}", "the same numbers")


def commands() -> None:
    """The whole command, its smoke version, and a rerun, each as a process."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "KEMPEFRAME_STORE": f"{folder}/store"}

        def run(*arguments: str) -> None:
            command = [sys.executable, "-m", "kempeframe", "run", str(FLAGSHIP), "--out", f"{folder}/out", *arguments]
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)

        def python(code: str) -> Callable[[], object]:
            return lambda: subprocess.run([sys.executable, "-c", code], check=True)

        whole = seconds(run, 1)
        again = seconds(run, 5)
        torch = seconds(python("import torch"), 5)
        imports = seconds(python("import torch, matplotlib.pyplot, kempeframe.study, kempeframe.outputs"), 3)
        environment["KEMPEFRAME_STORE"] = f"{folder}/smoke"
        smoke = seconds(lambda: run("--smoke"), 1)
    line("flagship, the whole command", f"{whole:.1f} s", "10 s")
    line("smoke version, imports excluded", f"{max(smoke - imports, 0):.1f} s", "4 s")
    line("rerun with everything stored, over `import torch`", f"{again / torch:.2f} ({again:.2f} s)", "1.0")


def theory() -> None:
    """One point, and a dense curve."""
    from kempeframe_strong_collapse.theory import risk

    def ask(points: int) -> None:
        eigenvalues = np.arange(1, 301.0) ** -1.2
        n, width = np.geomspace(50, 5000, points), np.geomspace(20, 900, points)
        risk(eigenvalues, n, 1e-6, signal=1 / 300, shift=1 / 300, width=width)

    line("theory, one point, d = 300", f"{seconds(lambda: ask(1), 20) * 1e3:.1f} ms", "10 ms")
    line("theory, a curve of 200 points, d = 300", f"{seconds(lambda: ask(200), 10) * 1e3:.0f} ms", "300 ms")


def penalties() -> None:
    """50 penalties against one, both by the optimizer's own path."""
    import torch
    from kempeframe_standard.networks import Readout
    from kempeframe_standard.optimizers import Ridge
    from kempeframe_standard.ridge import solve_stack

    from kempeframe.components import FitJob
    from kempeframe.runs import Run
    from kempeframe.task import Moments, MomentSplit, Task
    from kempeframe.trial import Session

    d = 500
    inputs = torch.randn(1000, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moments = Moments(inputs.mT @ inputs, inputs.mT @ inputs[:, :1], 1000)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(0, Session(Store(Path(folder))))

        def solve(values: np.ndarray) -> None:
            task = Task({"train": lambda: MomentSplit(moments)}, (d,), (1,), dtype=torch.float64)
            jobs = [FitJob(Ridge(penalty=p), Readout(d, 1, torch.float64), task, None, run) for p in values.tolist()]
            list(solve_stack(jobs))

        two = seconds(lambda: solve(np.array([1e-3, 1e-2])), 7)  # the fewest that take the eigendecomposition
        eigh = seconds(lambda: torch.linalg.eigh(moments.gram), 7)
        fifty = seconds(lambda: solve(np.geomspace(1e-6, 1, 50)), 7)
    line("50 penalties over one eigendecomposition (d = 500)", f"{fifty / eigh:.2f}", "2")
    line("50 penalties over two", f"{fifty / two:.2f}", "2")


def overhead() -> None:
    """Trials that do nothing, with durable writes."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "nothing.py").write_text(NOTHING)
        spec = Path(folder) / "nothing.toml"
        spec.write_text(NOTHING_SPEC)
        start = time.perf_counter()
        loaded = load_spec(spec)
        loading = time.perf_counter() - start
        start = time.perf_counter()
        done = run_study(loaded, Store(Path(folder) / "store"))
        rows = len(done.rows)
        took = time.perf_counter() - start
    line(f"overhead of a trial that does nothing ({rows:,} trials)", f"{took / rows * 1e3:.2f} ms", "1 ms")
    line("of which checking the spec", f"{loading / rows * 1e3:.3f} ms", "-")


if __name__ == "__main__":
    for part in (flagship, theory, penalties, overhead, commands):
        part()
