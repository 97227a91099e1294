"""Measuring detection: uncertainty of clean, attacked and shifted inputs, and what it is worth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
from kempeframe_standard.evaluation import pieces
from kempeframe_standard.training.losses import correct
from torch import Tensor

from kempeframe import Attack
from kempeframe.components import Measured
from kempeframe.runs import Run
from kempeframe.task import Batch, CannotGive
from kempeframe.trial import Fitted
from kempeframe_attacking_bayes import theory_detection as theory
from kempeframe_attacking_bayes.stacked import StackedNetwork, stacked
from kempeframe_attacking_bayes.theory_predictive import epistemic_uncertainty, total_uncertainty
from kempeframe_attacking_bayes.views import refuse_constant

if TYPE_CHECKING:
    from kempeframe_attacking_bayes.attacks import UncertaintyAttack
    from kempeframe_attacking_bayes.evaluators import AdversarialDetection

COVERAGES = 51  # points of the curve


def uncertainty_of(network: StackedNetwork, inputs: Tensor, kind: str) -> Tensor:
    """Nats, (n,), float64, at least 0; epistemic uncertainty of a single network is 0, exactly."""
    with torch.no_grad():
        if kind == "total":
            found = total_uncertainty(network(inputs).double())
        elif network.samples_held == 1:
            found = torch.zeros(len(inputs), dtype=torch.float64, device=inputs.device)
        else:
            found = epistemic_uncertainty(network.logits_per_sample(inputs).double())
        return found.clamp_min(0)


def detect(settings: AdversarialDetection, attack: Attack, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
    """The columns of `AdversarialDetection`."""
    if fitted.task.classes is None:
        raise CannotGive("detection of adversarial inputs is for classification; this task has no classes")
    network, bound = stacked(fitted.network), attack.bind(fitted.task, run)
    parts: dict[str, list[Tensor]] = {"clean": [], "attacked": [], "right": [], "right_attacked": []}
    for batch in pieces(fitted, run, settings.split, settings.examples):
        points = bound.perturb(fitted.network, batch, run)
        for name, inputs, hits in (("clean", batch.inputs, "right"), ("attacked", points, "right_attacked")):
            parts[name].append(uncertainty_of(network, inputs, settings.uncertainty))
            parts[hits].append(_right(network, inputs, batch))
    u, u_attacked, right, right_attacked = (torch.cat(values).cpu().numpy() for values in parts.values())
    both, both_right = np.concatenate([u, u_attacked]), np.concatenate([right, right_attacked])
    curve = theory.selective_accuracy(both, both_right)
    kept = np.linspace(1 / len(curve), 1, COVERAGES)
    false, true = theory.roc_curve(u_attacked, u)
    edges = np.linspace(0, math.log(max(2, fitted.task.classes)), settings.bins + 1)
    return {
        "asa": theory.asa(both, both_right),
        "asa_grid": theory.asa_on_grid(both, both_right),
        "asa_clean": theory.asa(u, right),
        "auroc": theory.auroc(u_attacked, u),
        "auroc_broken": theory.auroc(u_attacked[right_attacked == 0], u),
        "adversarial_accuracy": float(right_attacked.mean()),
        "clean_accuracy": float(right.mean()),
        "uncertainty_clean": float(u.mean()),
        "uncertainty_adversarial": float(u_attacked.mean()),
        "coverage": kept.tolist(),
        "selective_accuracy": curve[np.ceil(kept * len(curve) - 1e-9).astype(int) - 1].tolist(),
        "false_positive_rate": false.tolist(),
        "true_positive_rate": true.tolist(),
        "uncertainty": ((edges[1:] + edges[:-1]) / 2).tolist(),
        "density_clean": _density(u, edges),
        "density_adversarial": _density(u_attacked, edges),
    }


def _right(network: StackedNetwork, inputs: Tensor, batch: Batch) -> Tensor:
    assert batch.targets is not None
    with torch.no_grad():
        return correct(network(inputs), batch.targets).double()


def _density(values: np.ndarray, edges: np.ndarray) -> list[float]:
    counts, _ = np.histogram(values.clip(edges[0], edges[-1]), edges)
    found: list[float] = (counts / (len(values) * np.diff(edges))).tolist()
    return found


def detect_shift(attack: UncertaintyAttack, fitted: Fitted, run: Run, limit: int | None) -> Mapping[str, Measured]:
    """The columns of `ShiftDetection`."""
    network = stacked(fitted.network)

    whole: Any = attack

    def uncertainties(split: str, direction: str | None) -> np.ndarray:
        bound = attrs.evolve(whole, direction=direction).bind(fitted.task, run) if direction else None
        found = []
        for batch in _without_targets(pieces(fitted, run, split, limit)):
            inputs = bound.perturb(fitted.network, batch, run) if bound else batch.inputs
            found.append(uncertainty_of(network, inputs, attack.uncertainty))
        return torch.cat(found).cpu().numpy()

    refuse_constant(attack.uncertainty, network.samples_held)
    own, other = uncertainties("test", None), uncertainties("ood", None)
    raised, lowered = uncertainties("test", "raise"), uncertainties("ood", "lower")
    return {
        "auroc": theory.auroc(other, own),
        "auroc_ood_attacked": theory.auroc(lowered, own),
        "auroc_id_attacked": theory.auroc(other, raised),
        "auroc_both_attacked": theory.auroc(lowered, raised),
        "uncertainty_id": float(own.mean()),
        "uncertainty_ood": float(other.mean()),
    }


def _without_targets(batches: Iterator[Batch]) -> Iterator[Batch]:
    for batch in batches:
        yield attrs.evolve(batch, targets=None)
