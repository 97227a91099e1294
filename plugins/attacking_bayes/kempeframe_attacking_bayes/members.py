"""Posteriors that come of ordinary training: ensembles, dropout masks, and starts for chains."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import torch
from kempeframe_standard.optimizers_gradient import Adam, GradientOptimizer
from torch import Tensor, nn

from kempeframe.components import Attack, FitJob, fields_of
from kempeframe.runs import Run, stream_seed
from kempeframe.task import CannotGive, Examples, Snapshot, Task
from kempeframe_attacking_bayes.dropout import dropped, masked_copies
from kempeframe_attacking_bayes.forward import flattened
from kempeframe_attacking_bayes.networks import BayesianNetwork, bayesian
from kempeframe_attacking_bayes.stacked import Link, PosteriorNetwork

if TYPE_CHECKING:
    from kempeframe_attacking_bayes.optimizers import Ensemble, McDropout


def inside(network: nn.Module) -> tuple[nn.Module, Link]:
    """The network whose parameters a posterior is over, and how its samples' outputs are put together."""
    if isinstance(network, BayesianNetwork):
        return network.network, network.link
    return network, "log_mean_softmax"


def restored(network: nn.Module, state: Mapping[str, Tensor]) -> PosteriorNetwork:
    """A stored posterior, from a freshly built network."""
    inner, link = inside(network)
    return PosteriorNetwork.restored(inner, state, link)


def examples_of(task: Task) -> Examples:
    """The training examples, which a likelihood sums over.

    Raises:
        CannotGive: the training split is no fixed set of examples.
    """
    if not isinstance(task.train, Examples):
        raise CannotGive(f"a posterior needs a fixed training set; got a {type(task.train).__name__}")
    return task.train


def with_prior(job: FitJob) -> FitJob:
    """A job of `Map` as one of Adam with the weight decay of the network's prior."""
    network = bayesian(job.network, "map")
    assert isinstance(job.optimizer, Adam)
    settings = {a.name: getattr(job.optimizer, a.name) for a in fields_of(Adam)}
    settings["weight_decay"] = 1 / (len(examples_of(job.task)) * network.prior_std**2)
    return attrs.evolve(job, optimizer=Adam(**settings))


def member_runs(run: Run, count: int) -> list[Run]:
    """Runs with streams of their own: of members of an ensemble, of chains. The first may keep checkpoints."""
    runs = [Run(stream_seed(run.seed, "member", number), run.session, run.root) for number in range(count)]
    runs[0].checkpoints = run.checkpoints
    return runs


def trained_members(
    network: BayesianNetwork, optimizer: GradientOptimizer, task: Task, attack: Attack | None, runs: Sequence[Run]
) -> tuple[Tensor, list[Snapshot]]:
    """Fits from new starts, one for each run: parameter vectors (members, d), and their last snapshots."""
    jobs = [FitJob(optimizer, network.remake(run), task, attack, run) for run in runs]
    last: dict[int, Snapshot] = dict(optimizer.fit_many(jobs))
    snapshots = [last[number] for number in range(len(jobs))]
    return torch.stack([flattened(inside(snapshot.network)[0]) for snapshot in snapshots]), snapshots


def fit_ensemble(settings: Ensemble, network: nn.Module, task: Task, attack: Attack | None, run: Run) -> Snapshot:
    """The members' last snapshots as one posterior; it has converged where all have."""
    start = bayesian(network, "an ensemble (which builds its members anew)")
    assert isinstance(settings.optimizer, GradientOptimizer)
    runs = member_runs(run, settings.n_members)
    samples, ends = trained_members(start, settings.optimizer, task, attack, runs)
    losses = [float(end.certificate["training_loss"]) for end in ends]
    certificate = {
        "converged": all(end.certificate["converged"] for end in ends),
        "training_loss": sum(losses) / len(losses),
    }
    posterior = PosteriorNetwork(start.network, samples, link=start.link).eval()
    return Snapshot(max(end.step for end in ends), posterior, certificate)


def fit_with_masks(
    settings: McDropout, network: nn.Module, task: Task, attack: Attack | None, run: Run
) -> Iterator[Snapshot]:
    """Train, and draw masks at every snapshot.

    Raises:
        CannotGive: the network has no dropout.
    """
    inner, link = inside(network)
    if not dropped(inner):
        raise CannotGive(
            'mc_dropout needs dropout: write model = { use = "attacking_bayes.dropout", model = ... }; '
            f"this {type(inner).__name__} has none"
        )
    for snapshot in settings.optimizer.fit(network, task, attack, run):
        masks = torch.Generator().manual_seed(stream_seed(run.seed, "optimizer", "masks"))
        trained = inside(snapshot.network)[0]
        samples = torch.stack(list(masked_copies(trained, settings.n_samples, masks)))
        posterior = PosteriorNetwork(copy.deepcopy(trained), samples.to(run.device), link=link).eval()
        yield Snapshot(snapshot.step, posterior, snapshot.certificate)
