"""Fitting variational families with the common training loop, and drawing their posteriors."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from kempeframe_standard.training import fit_one
from torch import Tensor, nn

from kempeframe.components import FitJob
from kempeframe.runs import Run, stream_seed
from kempeframe.task import CannotGive, Snapshot, Task
from kempeframe_attacking_bayes.forward import flattened, unflattened
from kempeframe_attacking_bayes.members import examples_of
from kempeframe_attacking_bayes.networks import LastLayerNetwork, VariationalNetwork, bayesian
from kempeframe_attacking_bayes.stacked import PosteriorNetwork
from kempeframe_attacking_bayes.theory_variational import function_space_kl, kl_to_prior

if TYPE_CHECKING:
    from kempeframe_attacking_bayes.optimizers_variational import Fsvi, Variational

Family = VariationalNetwork | LastLayerNetwork


def fit_family(settings: Variational, network: nn.Module, task: Task, run: Run) -> Iterator[Snapshot]:
    """Train the family; at every snapshot its posterior is drawn, with the same random numbers.

    Raises:
        CannotGive: the network has no prior, or one output and several draws a step.
    """
    from kempeframe_attacking_bayes.optimizers_variational import Fsvi, Mfvi

    start = bayesian(network, type(settings).component_name())
    if settings.mc_samples > 1 and (start.link == "mean" or task.outputs == 1):
        raise CannotGive('one output: write mc_samples = 1 and loss = "logistic" (two classes) or "squared"')
    family: Family
    if isinstance(settings, Fsvi):
        family = LastLayerNetwork(start.network, settings.rho_init, settings.mc_samples, start.link)
    else:
        assert isinstance(settings, Mfvi)
        family = VariationalNetwork(start.network, settings.rho_init, settings.mc_samples, start.link)
    family.prior_std = start.prior_std  # type: ignore[assignment]
    for snapshot in fit_one(FitJob(settings, family, task, None, run)):
        posterior = _drawn(settings, family, start.network, run)
        yield Snapshot(snapshot.step, posterior, snapshot.certificate)


def _drawn(settings: Variational, family: Family, network: nn.Module, run: Run) -> PosteriorNetwork:
    generator = torch.Generator().manual_seed(stream_seed(run.seed, "optimizer", "draws"))

    def noise(like: Tensor) -> Tensor:
        drawn = torch.randn(settings.n_samples, *like.shape, generator=generator, dtype=like.dtype)
        return drawn.to(like.device)

    with torch.no_grad():
        if isinstance(family, VariationalNetwork):
            samples = family.flat(noise(family.mean))
            found = {"mean": family.mean, "deviation": family.deviation}
            inner = copy.deepcopy(network)
        else:
            last = family.mean + family.deviation * noise(family.rho)
            samples = _with_last_layer(family, last)
            found = {"mean": family.mean, "deviation": family.deviation}
            inner = copy.deepcopy(family.network)
            for hook in (inner.get_submodule(family.name)._forward_pre_hooks,):
                hook.clear()
        found = {name: value.detach().clone() for name, value in found.items()}
    return PosteriorNetwork(inner, samples, found, family.link).eval()


def _with_last_layer(family: LastLayerNetwork, last: Tensor) -> Tensor:
    """Parameter vectors (S, d) with the last layer's (S, outputs, features) in their place."""
    flat = flattened(family.network).expand(len(last), -1).clone()
    parts = unflattened(family.network, flat)
    width = family.last.in_features
    parts[f"{family.name}.weight"].copy_(last[..., :width])
    if family.last.bias is not None:
        parts[f"{family.name}.bias"].copy_(last[..., width])
    return flat


def mean_field_penalty(network: nn.Module, task: Task) -> Tensor:
    """KL(q || prior) / n."""
    assert isinstance(network, VariationalNetwork)
    prior_std: float = network.prior_std  # type: ignore[assignment]
    return kl_to_prior(network.mean, network.deviation, prior_std) / len(examples_of(task))


def function_space_penalty(settings: Fsvi, network: nn.Module, task: Task) -> Tensor:
    """(sum_k KL at context points + the features' prior) / n."""
    assert isinstance(network, LastLayerNetwork)
    prior_std: float = network.prior_std  # type: ignore[assignment]
    features = network.features(context(settings, task, network.rho.device))
    found = function_space_kl(features, network.mean, network.deviation, prior_std, settings.jitter)
    feature_std = prior_std if settings.feature_prior_std == "prior" else settings.feature_prior_std
    if feature_std != "none":
        own = (f"{network.name}.weight", f"{network.name}.bias")
        squares = [p.square().sum() for name, p in network.network.named_parameters() if name not in own]
        found = found + torch.stack(squares).sum() / (2 * float(feature_std) ** 2) if squares else found
    return found / len(examples_of(task))


def context(settings: Fsvi, task: Task, device: torch.device) -> Tensor:
    """Context points: noisy training inputs (cut to the task's box), and ones with shuffled pixels."""
    inputs = examples_of(task).inputs
    rows = torch.randint(len(inputs), (settings.n_context,))
    chosen = inputs[rows]
    half = settings.n_context // 2
    noisy = chosen[:half] + settings.context_noise * torch.randn_like(chosen[:half])
    if task.bounds is not None:
        noisy = noisy.clamp(*task.bounds)
    flat = chosen[half:].flatten(1)
    orders = torch.rand(flat.shape).argsort(dim=1)
    shuffled = flat.gather(1, orders).view_as(chosen[half:])
    return torch.cat([noisy, shuffled]).to(device)
