"""Evaluator: whether an attack on a posterior can be believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import kempeframe_standard.evaluators_robust as standard

from kempeframe import component, field

if TYPE_CHECKING:
    from kempeframe.components import Measured
    from kempeframe.runs import Run
    from kempeframe.trial import Fitted


@component
class AttackSanity(standard.AttackSanity):
    """The checks of `standard.attack_sanity`, and those for posteriors and saturated networks (brief, C7 and C10).

    With a zero gradient a sign attack stands still, and the input counts as robust: so the share of zero gradients at
    the clean inputs, the share of margins at which a float32 softmax is one-hot, and the attack on tempered logits
    stand beside the accuracies. Noise that breaks a network is a symptom as well: its features are saturated. And an
    attack of more steps must not be weaker.
    """

    temperatures: tuple[float, ...] = field((10.0,), "of the attack on tempered logits, see `tempered`", gt=0)
    steps_factor: int = field(2, "so many times as many steps must not make the attack weaker", ge=2)
    most_zero_gradients: float = field(0.1, "largest share of inputs with no gradient that passes", ge=0, le=1)
    largest_noise_drop: float = field(0.1, "of the accuracy that random noise may cost", ge=0, le=1)

    def columns(self) -> Mapping[str, str]:
        return {
            **{name: text for name, text in super().columns().items() if name != "sane"},
            "tempered_accuracy": "under the attack on tempered logits",
            "more_steps_accuracy": "under the attack with more steps; nan where it has no steps",
            "zero_gradients": "share of clean inputs at which the gradient of the loss is exactly 0",
            "saturated": "share of clean inputs whose largest margin over samples exceeds ln 2^24 = 16.64",
            "median_margin": "of single samples' logits at clean inputs",
            "sign_agreement": "share of the gradient's signs that are the same in float64",
            "gradients_live": "whether few gradients are 0",
            "tempered_is_no_stronger": "whether tempering the logits gains nothing",
            "more_steps_are_no_weaker": "whether more steps leave no more accuracy",
            "noise_is_harmless": "whether random noise costs little",
            "sane": "whether all of these hold",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        from kempeframe_attacking_bayes.numerics import examine

        return examine(self, dict(super().evaluate(fitted, run)), fitted, run)
