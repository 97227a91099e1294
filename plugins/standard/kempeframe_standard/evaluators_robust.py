"""Evaluators: accuracy under attack, and whether an attack does what attacks must."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from kempeframe import Attack, Evaluator, Fit, component, field
from kempeframe.components import fields_of
from kempeframe_standard.attacks import Fgsm, Noise, Transfer

if TYPE_CHECKING:
    from kempeframe.components import Measured
    from kempeframe.runs import Run
    from kempeframe.trial import Fitted


class UnderAttack(Evaluator):
    """What measures under the trial's attack, or under its own."""

    attack: Attack | None
    split: str
    examples: int | None

    @property
    def uses_attack(self) -> bool:  # type: ignore[override]
        """Whether the result depends on the trial's attack."""
        return self.attack is None

    @property
    def needs_attack(self) -> bool:
        return self.attack is None

    def attack_of(self, fitted: Fitted) -> Attack:
        """The attack that counts, not bound yet."""
        attack = self.attack or fitted.attack
        if attack is None:
            raise ValueError("no attack: the trial has no [attack], and the evaluator none of its own")
        return attack

    def accuracy_under(self, fitted: Fitted, run: Run, attack: Attack | None) -> float:
        """Share of the examples that are classified correctly under the attack."""
        import torch

        from kempeframe_standard.evaluation import pieces
        from kempeframe_standard.training.losses import correct

        if fitted.task.classes is None:
            raise TypeError("accuracy is for classification; this task has no classes")
        bound = attack.bind(fitted.task, run) if attack else None
        right = total = 0
        for batch in pieces(fitted, run, self.split, self.examples):
            inputs = bound.perturb(fitted.network, batch, run) if bound else batch.inputs
            assert batch.targets is not None
            with torch.no_grad():
                right += int(correct(fitted.network(inputs), batch.targets).sum())
            total += len(inputs)
        return right / total


def sized(attack: Attack, epsilon: float) -> Attack:
    """The attack with another radius; of one that wraps another attack, that one's.

    Raises:
        ValueError: neither has a field epsilon.
    """
    whole: Any = attack
    names = {a.name for a in fields_of(type(attack))}
    if "epsilon" in names:
        made: Attack = attrs.evolve(whole, epsilon=epsilon)
    elif "attack" in names:
        made = attrs.evolve(whole, attack=sized(whole.attack, epsilon))
    else:
        raise ValueError(f"{attack.component_name()} has no epsilon: other radii can't be tried")
    return made


@component
class RobustAccuracy(UnderAttack):
    """Accuracy under attack: the trial's, or one of its own; at its radius, and along `epsilons` as a curve."""

    attack: Attack | None = field(None, "instead of the trial's")
    epsilons: tuple[float, ...] = field((), "radii of the curve; 0 is the clean accuracy", ge=0)
    split: str = field("test", "of the task")
    examples: int | None = field(None, "attack the first so many; not given: all", ge=1)

    def columns(self) -> Mapping[str, str]:
        curve = {
            "epsilon": "radii of the attack (a list: the x axis of a figure)",
            "robust_accuracy_curve": "share of examples classified correctly under attack at each radius (a list)",
        }
        return {
            "robust_accuracy": "share of examples classified correctly under attack",
            "attack_size": "radius of the attack, also where it depends on the drawn data; nan for one without",
            **(curve if self.epsilons else {}),
        }

    def check_with(self, fit: Fit) -> None:
        attack = self.attack or fit.attack
        if self.epsilons and attack is not None:
            sized(attack, 1.0)

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        attack = self.attack_of(fitted)
        size = attack.bind(fitted.task, run).size
        found: dict[str, Measured] = {"robust_accuracy": self.accuracy_under(fitted, run, attack)}
        found["attack_size"] = math.nan if size is None else size
        if self.epsilons:
            attacks = [sized(attack, epsilon) if epsilon else None for epsilon in self.epsilons]
            found["epsilon"] = list(self.epsilons)
            found["robust_accuracy_curve"] = [self.accuracy_under(fitted, run, one) for one in attacks]
        return found


@component
class AttackSanity(UnderAttack):
    """Whether an attack does what one must (Carlini et al., 2019, "On evaluating adversarial robustness").

    An attack that fails here measures its own weakness: gradients that are masked or vanish, too few steps.
    """

    attack: Attack | None = field(None, "instead of the trial's")
    largest: float = field(doc="a radius at which nothing can withstand: the width of the box, say", gt=0)
    source: Fit | None = field(None, "another fit; an attack transferred from it must be weaker")
    tolerance: float = field(0.01, "accuracies that differ by no more than this count as equal", ge=0)
    split: str = field("test", "of the task")
    examples: int | None = field(None, "attack the first so many; not given: all", ge=1)

    def columns(self) -> Mapping[str, str]:
        transfer = {
            "transfer_accuracy": "under the attack on the other fit",
            "white_box_beats_transfer": "whether that is no stronger than the attack itself",
        }
        return {
            "clean_accuracy": "without attack",
            "attacked_accuracy": "under the attack",
            "one_step_accuracy": "under one step of the same radius",
            "noise_accuracy": "under random noise of the same radius",
            "largest_accuracy": "under the attack with the largest radius",
            "falls_to_zero": "whether the largest radius leaves no accuracy",
            "iterative_beats_one_step": "whether the attack is at least as strong as one step",
            "noise_is_weaker": "whether noise is no stronger than one step and than the attack",
            **(transfer if self.source else {}),
            "sane": "whether all of these hold",
        }

    def check_with(self, fit: Fit) -> None:
        attack = self.attack or fit.attack
        if attack is not None:
            _ball(attack)

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        attack = self.attack_of(fitted)
        ball = _ball(attack)
        accuracy = {
            "clean": self.accuracy_under(fitted, run, None),
            "attacked": self.accuracy_under(fitted, run, attack),
            "one_step": self.accuracy_under(fitted, run, Fgsm(**ball)),
            "noise": self.accuracy_under(fitted, run, Noise(**ball)),
            "largest": self.accuracy_under(fitted, run, sized(attack, self.largest)),
        }
        slack = self.tolerance
        verdicts = {
            "falls_to_zero": accuracy["largest"] <= slack,
            "iterative_beats_one_step": accuracy["attacked"] <= accuracy["one_step"] + slack,
            "noise_is_weaker": accuracy["noise"] >= max(accuracy["one_step"], accuracy["attacked"]) - slack,
        }
        if self.source is not None:
            accuracy["transfer"] = self.accuracy_under(fitted, run, Transfer(fit=self.source, attack=attack))
            verdicts["white_box_beats_transfer"] = accuracy["attacked"] <= accuracy["transfer"] + slack
        named = {f"{name}_accuracy": value for name, value in accuracy.items()}
        return {**named, **verdicts, "sane": all(verdicts.values())}


def _ball(attack: Attack) -> dict[str, Any]:
    """The norm and radius of an attack, by the names of their fields.

    Raises:
        ValueError: it has none.
    """
    ball = {name: getattr(attack, name, None) for name in ("norm", "epsilon")}
    if None in ball.values():
        raise ValueError(f"{attack.component_name()} has no norm and epsilon to compare with")
    return ball
