"""Evaluators: detection by uncertainty, under attack, and of semantic shift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kempeframe_standard.evaluators_robust import RobustAccuracy, UnderAttack

from kempeframe import Attack, Evaluator, Fit, component, field
from kempeframe_attacking_bayes.attacks import UNCERTAINTY, Uncertainty, UncertaintyAttack

if TYPE_CHECKING:
    from kempeframe.components import Measured
    from kempeframe.runs import Run
    from kempeframe.trial import Fitted


@component
class AdversarialDetection(UnderAttack):
    """Whether uncertainty tells adversarial inputs from clean ones: as many of each, correct = the true label.

    ASA, the average selective accuracy, mixes accuracy and detection: with a weak attack it is high for a useless
    detector. So the accuracy under attack stands beside it, and the AUROC. For clean inputs that are all right and
    adversarial ones that are all wrong a blind detector has 0.5, a perfect one 0.847, a fooled one 0.153.
    """

    attack: Attack | None = field(None, "instead of the trial's")
    uncertainty: Uncertainty = field("total", UNCERTAINTY)
    bins: int = field(20, "of the histograms, from 0 to the largest possible entropy", ge=1)
    split: str = field("test", "of the task")
    examples: int | None = field(None, "attack the first so many; not given: all", ge=1)

    def columns(self) -> Mapping[str, str]:
        return {
            "asa": "average selective accuracy on clean and adversarial inputs, half and half",
            "asa_grid": "the same on the usual grid, rejecting 0 %, 1 %, ... 99 %",
            "asa_clean": "on the clean inputs alone",
            "auroc": "adversarial against clean: P(adversarial is more uncertain), ties half; 0.5 is blind",
            "auroc_broken": "the same, for adversarial inputs that are misclassified; nan where there are none",
            "adversarial_accuracy": "on the adversarial inputs",
            "clean_accuracy": "on the clean ones",
            "uncertainty_clean": "mean, nats",
            "uncertainty_adversarial": "mean, nats",
            "coverage": "share of inputs that are not rejected (a list: the x axis of a figure)",
            "selective_accuracy": "accuracy on them (a list)",
            "false_positive_rate": "of detection (a list: the x axis of a figure)",
            "true_positive_rate": "of detection (a list)",
            "uncertainty": "middles of the histograms' bins, nats (a list: the x axis of a figure)",
            "density_clean": "of the uncertainty of clean inputs (a list)",
            "density_adversarial": "of adversarial ones (a list)",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        from kempeframe_attacking_bayes.detection import detect

        return detect(self, self.attack_of(fitted), fitted, run)


@component
class HalfRadius(RobustAccuracy):
    """Robust accuracy along `epsilons`, and the radius at which it falls to `level`: what inference buys, as a radius.

    Linear between the radii; nan where the curve does not come down to the level, or never was above it.
    """

    epsilons: tuple[float, ...] = field((0.0, 0.05, 0.1, 0.15, 0.2), "radii of the curve, ascending", ge=0)
    level: float = field(0.5, "the accuracy whose radius is sought", gt=0, lt=1)

    def __attrs_post_init__(self) -> None:
        if len(self.epsilons) < 2 or list(self.epsilons) != sorted(set(self.epsilons)):
            raise ValueError(f"epsilons = {list(self.epsilons)}: expected two or more, ascending")

    def columns(self) -> Mapping[str, str]:
        return {**super().columns(), "half_radius": "smallest radius at which the accuracy is `level`"}

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        from kempeframe_attacking_bayes.theory_detection import crossing

        found = dict(super().evaluate(fitted, run))
        radii, accuracies = found["epsilon"], found["robust_accuracy_curve"]
        return {**found, "half_radius": crossing(radii, accuracies, self.level)}


@component
class ShiftDetection(Evaluator):
    """Whether uncertainty tells the split "ood" from the test split, and whether that survives an attack on it.

    The attack, the trial's or an own one, is an `uncertainty_attack`: it lowers the uncertainty of inputs from
    elsewhere, raises that of test inputs, or does both; its direction is set here.
    """

    attack: Attack | None = field(None, "an uncertainty_attack instead of the trial's")
    examples: int | None = field(None, "attack the first so many of each; not given: all", ge=1)

    def __attrs_post_init__(self) -> None:
        if self.attack is not None:
            _check_direction(self.attack)

    def check_with(self, fit: Fit) -> None:
        if self.attack is None and fit.attack is not None:
            _check_direction(fit.attack)

    @property
    def uses_attack(self) -> bool:  # type: ignore[override]
        """Whether the result depends on the trial's attack."""
        return self.attack is None

    @property
    def needs_attack(self) -> bool:
        return self.attack is None

    def columns(self) -> Mapping[str, str]:
        return {
            "auroc": "P(an input from elsewhere is more uncertain than a test input), ties half; without attack",
            "auroc_ood_attacked": "the same, inputs from elsewhere attacked",
            "auroc_id_attacked": "test inputs attacked",
            "auroc_both_attacked": "both attacked",
            "uncertainty_id": "mean of test inputs, nats",
            "uncertainty_ood": "mean of inputs from elsewhere, nats",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        from kempeframe_attacking_bayes.detection import detect_shift

        attack = self.attack or fitted.attack
        if attack is None:
            raise ValueError("no attack: the trial has no [attack], and the evaluator none of its own")
        return detect_shift(_check_direction(attack), fitted, run, self.examples)


def _check_direction(attack: Attack) -> UncertaintyAttack:
    if not isinstance(attack, UncertaintyAttack):
        name = type(attack).component_name()
        raise ValueError(f"attack = {name}: expected attacking_bayes.uncertainty_attack, which has a direction")
    return attack
