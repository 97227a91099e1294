"""Diagnostics of posteriors, gradients of their samples, and the exact theory of the linear one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from kempeframe_standard.attacks import Fgsm, Pgd
from kempeframe_standard.evaluation import pieces
from kempeframe_standard.training.losses import correct, cross_entropy
from torch import Tensor

from kempeframe.components import Measured, NoTheory
from kempeframe.runs import Run
from kempeframe.task import Examples
from kempeframe.trial import Fitted
from kempeframe_attacking_bayes.attacks import PosteriorSubset
from kempeframe_attacking_bayes.stacked import PosteriorNetwork, chains_of, stacked
from kempeframe_attacking_bayes.theory_chains import effective_sample_size, split_r_hat, worst_of
from kempeframe_attacking_bayes.theory_gaussian import GaussianPosterior


def diagnose(fitted: Fitted, run: Run, limit: int | None) -> Mapping[str, Measured]:
    """The columns of `PosteriorDiagnostics`.

    Raises:
        NoTheory: the posterior does not come from chains.
    """
    network = fitted.network
    chains = chains_of(network) if isinstance(network, PosteriorNetwork) else None
    if not isinstance(network, PosteriorNetwork) or chains is None:
        raise NoTheory("this posterior does not come from chains")
    probabilities, losses, right = [], [], []
    with torch.no_grad():
        for batch in pieces(fitted, run, "test", limit):
            logits = network.logits_per_sample(batch.inputs)
            assert batch.targets is not None
            repeated = batch.targets.repeat(len(logits))
            losses.append(cross_entropy(logits.flatten(0, 1), repeated).view(logits.shape[:2]).double())
            right.append(correct(logits.flatten(0, 1), repeated).view(logits.shape[:2]).double())
            wide = logits.shape[-1] > 1
            probabilities.append((logits.softmax(dim=-1) if wide else logits.sigmoid()).cpu())
    draws = torch.cat(probabilities, dim=1).numpy()
    draws = draws.reshape(chains, -1, *draws.shape[1:])
    loss = torch.cat(losses, dim=1).mean(dim=1).view(chains, -1).cpu().numpy()
    r_hat = split_r_hat(draws)
    told = {name: value.cpu().numpy() for name, value in network.diagnostics.named_buffers()}
    return {
        "r_hat_median": worst_of(r_hat, 0.5),
        "r_hat_95": worst_of(r_hat),
        "r_hat_largest": worst_of(r_hat, 1.0),
        "r_hat_potential": float(split_r_hat(told["potential"])[0]),
        "ess_potential": float(effective_sample_size(told["potential"])[0]),
        "ess_test_loss": float(effective_sample_size(loss)[0]),
        "acceptance": float(told["acceptance"].mean()),
        "acceptance_lowest": float(told["acceptance"].min()),
        "divergences": float(told["divergences"].sum()),
        "energy_error": float(np.sqrt(np.mean(np.square(told["energy_error"])))),
        "step_size": float(told["step_size"]),
        "leapfrog_steps": float(told["leapfrog_steps"]),
        "single_draw_accuracy": float(torch.cat(right, dim=1).mean()),
    }


def cancellation(fitted: Fitted, run: Run, limit: int | None) -> Mapping[str, Measured]:
    """The columns of `GradientCancellation`."""
    network = stacked(fitted.network)
    ratios: list[Tensor] = []
    for batch in pieces(fitted, run, "test", limit):
        assert batch.targets is not None
        total = torch.zeros_like(batch.inputs.flatten(1), dtype=torch.float64)
        lengths = total.new_zeros(len(total))
        for sample in range(network.samples_held):
            inputs = batch.inputs.clone().requires_grad_()
            with torch.enable_grad():
                logits = network.subset(torch.tensor([sample])).logits_per_sample(inputs)[0]
                losses = cross_entropy(logits, batch.targets)
            (gradient,) = torch.autograd.grad(losses.sum(), inputs)
            flat = gradient.flatten(1).double()
            total, lengths = total + flat, lengths + torch.linalg.vector_norm(flat, dim=1)
        ratios.append(torch.linalg.vector_norm(total, dim=1) / lengths)
    found = torch.cat(ratios)
    alive = found.isfinite()
    return {"cancellation": float(found[alive].mean()), "vanished": float((~alive).double().mean())}


def predicted(fitted: Fitted) -> Mapping[str, Measured]:
    """The columns of `Theory`.

    Raises:
        NoTheory: the task has no Gaussian posterior, or the attack is another one.
    """
    truth, attack = fitted.task.truth, fitted.attack
    if not isinstance(truth, GaussianPosterior):
        raise NoTheory("the exact theory is for a linear classifier with a Gaussian posterior (gaussian_linear data)")
    inner = attack.attack if isinstance(attack, PosteriorSubset) else attack
    if not isinstance(inner, (Pgd, Fgsm)) or inner.norm != "l_inf" or inner.target != "none":
        raise NoTheory("the theory is for untargeted fgsm and pgd in l_inf, on the posterior or on K of its samples")
    if isinstance(attack, PosteriorSubset) and attack.resample:
        raise NoTheory("the theory is for an attack on the same K samples at each step")
    test = fitted.task.test
    assert isinstance(test, Examples)
    x, y = test.inputs.double().numpy(), test.targets.numpy() * 2.0 - 1.0
    kappa = truth.kappa(attack.n_posterior_samples) if isinstance(attack, PosteriorSubset) else 1.0
    return {
        "accuracy": truth.robust_accuracy(x, y, 0.0),
        "robust_accuracy": truth.robust_accuracy(x, y, kappa * inner.epsilon),
        "robust_accuracy_exact": truth.robust_accuracy(x, y, inner.epsilon),
        "kappa": kappa,
        "critical_epsilon": float(np.median(truth.critical_epsilon(x))),
    }
