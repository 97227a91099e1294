"""HMC beside numpyro, PGD on a posterior beside torchattacks: `python tools/benchmark_attacking_bayes.py`.

One network, 64-32-10 on scikit-learn's digits; one thread; float32; processor time; what is compared runs in turns, and
the median of the ratios of one turn counts. Compilation of numpyro's programme is timed apart. The peers are for
measuring only, best in an environment of its own that sees this one's packages:

    pip install -c constraints.txt numpyro
    pip install --no-deps torchattacks==3.5.1 requests urllib3 charset-normalizer certifi
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kempeframe_attacking_bayes.forward import flattened
from kempeframe_attacking_bayes.models import Bayesian
from kempeframe_attacking_bayes.networks import BayesianNetwork
from kempeframe_attacking_bayes.optimizers_sampling import Hmc
from kempeframe_attacking_bayes.sampling import Energy, Sampler, starts
from kempeframe_attacking_bayes.stacked import PosteriorNetwork
from kempeframe_attacking_bayes.theory_chains import effective_sample_size
from kempeframe_standard.attacks import Pgd
from kempeframe_standard.data import Digits
from kempeframe_standard.models import Mlp
from torch import Tensor, nn

from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.task import Batch, Task
from kempeframe.trial import Session

CHAINS, STEP_SIZE, LENGTH = 4, 0.028, 1.5
TURNS, DRAWS = 7, 30  # of HMC: turns, and trajectories of each chain in a turn
BLOCKS, SAMPLES, STEPS, EPSILON = 9, 100, 40, 0.1  # of PGD


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds, and what came of it."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def problem() -> tuple[Run, Task, BayesianNetwork]:
    """1,000 training digits, and the network with its prior."""
    run = Run(0, Session(Store(Path(tempfile.mkdtemp()))))
    task = Digits(n_train=1000, n_test=200).load(run)
    model = Bayesian(model=Mlp(width=32, depth=1, activation="tanh", weight_scale=1.0))
    network = model.build(task, run)
    assert isinstance(network, BayesianNetwork)
    return run, task, network


# ---- HMC -----------------------------------------------------------------------------------------------------------


class Ours:
    """Our chains, at a fixed step size without jitter, as numpyro's are."""

    def __init__(self, run: Run, task: Task, network: BayesianNetwork, start: Tensor):
        settings = Hmc(
            n_chains=CHAINS,
            n_warmup=0,
            n_samples=DRAWS,
            thin=1,
            adapt_step=False,
            step_size_init=STEP_SIZE,
            trajectory_length=LENGTH,
            step_jitter=0.0,
        )
        potential = Energy(network, task, 1.0, "cpu")
        self.run, self.sampler = run, Sampler(settings, potential, start, torch.Generator().manual_seed(1))

    def turn(self) -> tuple[np.ndarray, float]:
        """Potential, (chains, draws), and mean acceptance, of some more trajectories."""
        self.sampler.done = 0
        for values in self.sampler.trace.values():
            values.clear()
        self.sampler.run(self.run)
        found = self.sampler.diagnostics()
        return found["potential"].numpy(), float(found["acceptance"].mean())


class Numpyro:
    """numpyro.infer.HMC with vectorised chains on the same potential."""

    def __init__(self, task: Task, start: Tensor):
        import jax
        import jax.numpy as jnp
        from numpyro.infer import HMC

        examples = task.train.examples()
        assert examples.targets is not None
        inputs, targets = jnp.asarray(examples.inputs.flatten(1).numpy()), jnp.asarray(examples.targets.numpy())
        sizes = np.cumsum([32 * 64, 32, 10 * 32])

        def potential(q: Any) -> Any:
            w1, b1, w2, b2 = jnp.split(q, sizes)
            logits = jnp.tanh(inputs @ w1.reshape(32, 64).T + b1) @ w2.reshape(10, 32).T + b2
            right = jax.nn.log_softmax(logits)[jnp.arange(len(targets)), targets]
            return -right.sum() + (q**2).sum() / 2

        settings = dict(adapt_step_size=False, adapt_mass_matrix=False, trajectory_length=LENGTH, step_size=STEP_SIZE)
        kernel = HMC(potential_fn=potential, **settings)
        keys = jax.random.split(jax.random.PRNGKey(1), CHAINS)
        self.state = kernel.init(keys, 0, jnp.asarray(start.numpy()), (), {})

        def some(state: Any) -> Any:
            def one(state: Any, _: Any) -> Any:
                state = kernel.sample(state, (), {})
                return state, (state.potential_energy, state.accept_prob)

            return jax.lax.scan(one, state, None, length=DRAWS)

        self.compile_seconds, self.some = timed(lambda: jax.jit(some).lower(self.state).compile())

    def turn(self) -> tuple[np.ndarray, float]:
        """As `Ours.turn`."""
        self.state, (potential, accepted) = self.some(self.state)
        return np.asarray(potential).T, float(np.asarray(accepted).mean())


def hmc() -> None:
    """Effective samples of the potential per second, ours over numpyro's."""
    run, task, network = problem()
    start = starts(Hmc(n_chains=CHAINS), network, task, run)
    ours, peer = Ours(run, task, network, start), Numpyro(task, start)
    for sampler in (ours, peer):  # both into the typical set, untimed
        sampler.turn()
    seconds: dict[str, list[float]] = {"ours": [], "numpyro": []}
    traces: dict[str, list[np.ndarray]] = {"ours": [], "numpyro": []}
    accepted: dict[str, list[float]] = {"ours": [], "numpyro": []}
    for _ in range(TURNS):
        for name, sampler in (("ours", ours), ("numpyro", peer)):
            spent, (trace, rate) = timed(sampler.turn)
            seconds[name].append(spent)
            traces[name].append(trace)
            accepted[name].append(rate)
    gradients = DRAWS * int(np.ceil(LENGTH / STEP_SIZE))
    rates = {}
    for name in seconds:
        ess = float(effective_sample_size(np.concatenate(traces[name], axis=1))[0])
        rates[name] = ess / sum(seconds[name])
        per_gradient = statistics.median(seconds[name]) / gradients * 1e3
        level = np.mean([trace.mean() for trace in traces[name]])
        print(
            f"HMC {name:8}: {per_gradient:.2f} ms a gradient of {CHAINS} chains, ESS of U {ess:.0f} of "
            f"{CHAINS * DRAWS * TURNS}, {rates[name]:.2f} a second; acceptance {np.mean(accepted[name]):.3f}, "
            f"mean U {level:.1f}"
        )
    turns = zip(seconds["numpyro"], seconds["ours"], strict=True)
    speed = statistics.median(theirs / own for theirs, own in turns)
    print(f"HMC: numpyro's compilation apart, {peer.compile_seconds:.1f} s")
    print(f"HMC: speed at equal work {speed:.2f}; effective samples a second, ours / numpyro: "
          f"{rates['ours'] / rates['numpyro']:.2f} (must be at least 1.0)")  # fmt: skip


# ---- PGD -----------------------------------------------------------------------------------------------------------


def pgd() -> None:
    """PGD-40 on a posterior of 100 samples, ours over torchattacks, on the same module."""
    import torchattacks

    run, task, network = problem()
    settings = Hmc(n_chains=SAMPLES)
    samples = starts(settings, network, task, run) if SAMPLES <= 8 else _spread(network, task, run)
    posterior = PosteriorNetwork(network.network, samples).eval()
    examples = task.test.examples()
    assert examples.targets is not None
    images, classes = examples.inputs, examples.targets
    size = 2.5 * EPSILON / STEPS
    bounded = Task({}, (1, 8, 8), (10,), classes=10, bounds=(0.0, 1.0))
    plain: Any = {"epsilon": EPSILON, "steps": STEPS, "keep_best": False, "early_stop": False}
    attacks: dict[str, Callable[[], Tensor]] = {}
    theirs = torchattacks.PGD(posterior, eps=EPSILON, alpha=size, steps=STEPS, random_start=True)
    attacks["torchattacks"] = lambda: theirs(images, classes)
    for name, more in (("last point", plain), ("best point", {**plain, "keep_best": True}), ("default", {})):
        bound = Pgd(**{"epsilon": EPSILON, "steps": STEPS, **more}).bind(bounded, run)
        attacks[name] = lambda bound=bound: bound.perturb(posterior, Batch(images, classes), run)  # type: ignore[misc]
    times: dict[str, list[float]] = {name: [] for name in attacks}
    accuracy: dict[str, float] = {}
    for block in range(BLOCKS + 1):
        for name, attack in attacks.items():
            seconds, points = timed(attack)
            if block:  # the first one warms up
                times[name].append(seconds)
            accuracy[name] = _accuracy(posterior, points, classes)
    for name in attacks:
        pairs = zip(times[name], times["torchattacks"], strict=True)
        ratio = statistics.median(own / peer for own, peer in pairs)
        print(f"PGD-{STEPS}, S = {SAMPLES}, {name:12}: {statistics.median(times[name]):.3f} s, "
              f"{ratio:.3f} times torchattacks', accuracy {accuracy[name]:.3f}")  # fmt: skip
    print("PGD: the last point does the work that torchattacks does; its ratio must be at most 1.05")


def _spread(network: BayesianNetwork, task: Task, run: Run) -> Tensor:
    """100 vectors near a trained network: what an attack takes does not depend on where samples come from."""
    (centre,) = starts(Hmc(n_chains=1), network, task, run)
    assert centre.shape == flattened(network).shape
    return centre + 0.2 * torch.randn(SAMPLES, len(centre), generator=torch.Generator().manual_seed(0))


def _accuracy(network: nn.Module, points: Tensor, classes: Tensor) -> float:
    with torch.no_grad():
        return float((network(points).argmax(dim=1) == classes).double().mean())


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"load {os.getloadavg()[0]:.1f}")
    hmc()
    pgd()
