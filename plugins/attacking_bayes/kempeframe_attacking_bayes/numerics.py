"""What floating-point numbers do to the gradients that attacks follow."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import torch
from kempeframe_standard.evaluation import pieces
from kempeframe_standard.training.losses import cross_entropy
from torch import Tensor, nn

from kempeframe.components import Attack, Measured
from kempeframe.runs import Run
from kempeframe.task import Batch
from kempeframe.trial import Fitted
from kempeframe_attacking_bayes.attacks import Tempered
from kempeframe_attacking_bayes.stacked import StackedNetwork, stacked
from kempeframe_attacking_bayes.theory_predictive import FLOAT32_SATURATION

if TYPE_CHECKING:
    from kempeframe_attacking_bayes.evaluators_sanity import AttackSanity


def gradients(network: nn.Module, batch: Batch) -> Tensor:
    """Of the cross-entropy of the network's output in the inputs, (n, d)."""
    assert batch.targets is not None
    inputs = batch.inputs.clone().requires_grad_()
    with torch.enable_grad():
        losses = cross_entropy(network(inputs), batch.targets)
    (found,) = torch.autograd.grad(losses.sum(), inputs)
    return found.flatten(1)


def margins(network: StackedNetwork, batch: Batch) -> Tensor:
    """Of each sample, the largest logit less the second, (S, n); with one output its size."""
    with torch.no_grad():
        logits = network.logits_per_sample(batch.inputs)
    if logits.shape[-1] == 1:
        return logits[..., 0].abs()
    best = logits.topk(2, dim=-1).values
    return best[..., 0] - best[..., 1]


def examine(settings: AttackSanity, found: dict[str, Measured], fitted: Fitted, run: Run) -> Mapping[str, Measured]:
    """The columns of `AttackSanity`, from those of the standard one."""
    network = stacked(fitted.network)
    double = copy.deepcopy(network).double()
    zero, agree, wide = [], [], []
    for batch in pieces(fitted, run, settings.split, settings.examples):
        own = gradients(network, batch)
        precise = gradients(double, attrs.evolve(batch, inputs=batch.inputs.double()))
        zero.append((own == 0).all(dim=1).double())
        agree.append((own.sign() == precise.sign()).double().mean(dim=1))
        wide.append(margins(network, batch))
    margin = torch.cat(wide, dim=1)
    given: Any = {"attack": settings.attack_of(fitted), "temperatures": settings.temperatures}
    tempered = Tempered(**given)
    longer = with_steps(settings.attack_of(fitted), settings.steps_factor)
    numbers = {
        "tempered_accuracy": settings.accuracy_under(fitted, run, tempered),
        "more_steps_accuracy": settings.accuracy_under(fitted, run, longer) if longer else math.nan,
        "zero_gradients": float(torch.cat(zero).mean()),
        "saturated": float((margin.amax(dim=0) > FLOAT32_SATURATION).double().mean()),
        "median_margin": float(margin.double().median()),
        "sign_agreement": float(torch.cat(agree).mean()),
    }
    attacked, clean, noise = (_number(found[f"{name}_accuracy"]) for name in ("attacked", "clean", "noise"))
    verdicts = {
        "gradients_live": numbers["zero_gradients"] <= settings.most_zero_gradients,
        "tempered_is_no_stronger": numbers["tempered_accuracy"] >= attacked - settings.tolerance,
        "more_steps_are_no_weaker": longer is None or numbers["more_steps_accuracy"] <= attacked + settings.tolerance,
        "noise_is_harmless": noise >= clean - settings.largest_noise_drop,
    }
    sane = bool(found["sane"]) and all(verdicts.values())
    return {**found, **numbers, **verdicts, "sane": sane}


def with_steps(attack: Attack, factor: int) -> Attack | None:
    """The attack with so many times as many steps; of one that wraps another, that one's; None where it has none."""
    whole: Any = attack
    if (steps := getattr(attack, "steps", None)) is not None:
        longer: Attack = attrs.evolve(whole, steps=factor * steps)
        return longer
    inner = getattr(attack, "attack", None)
    inner = with_steps(inner, factor) if isinstance(inner, Attack) else None
    return attrs.evolve(whole, attack=inner) if inner else None


def _number(value: Measured) -> float:
    assert isinstance(value, (int, float))
    return float(value)
