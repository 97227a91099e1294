"""The faulty attacks of the literature, to show what they measure. None is for use.

Each names the symptom that gives it away. All take the last point, as the code they were read in does. An attack that
does not clip to the box (SEBR) is not among them: the base class brings every attack into ball and box.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs
from kempeframe_standard.attacks import Pgd

from kempeframe import Attack, component, field
from kempeframe_attacking_bayes.attacks import PosteriorSubset

if TYPE_CHECKING:
    from kempeframe_standard.judging import Found
    from kempeframe_standard.regions import Region
    from torch import Tensor, nn

    from kempeframe.runs import Run
    from kempeframe.task import Batch, Task


class FaultyPgd(Pgd):
    """PGD with an error in it."""

    symptom: ClassVar[str]


@component
class FaultyDoubleSoftmax(FaultyPgd):
    """Cross-entropy, which takes a softmax, of outputs that are probabilities already (robustBNNs on SVI, for one)."""

    symptom = "the loss stays between log(1 + (K - 1)/e) and log(e + K - 1), 1.46 and 2.46 for ten classes"

    keep_best: bool = field(False, "take the worst point on the way, else the last one")
    early_stop: bool = field(False, "search no longer for examples that are broken; not while the network is trained")

    def objective(self, outputs: Tensor, batch: Batch) -> Tensor:
        from kempeframe_standard.judging import loss_of, targets_of

        return loss_of(self.loss, outputs.softmax(dim=1), targets_of(batch))


@component
class FaultyUnrelatedStep(FaultyPgd):
    """A step that has nothing to do with epsilon: 2 for images in [0, 1] (robustBNNs), 1e5 (SEBR)."""

    symptom = "every iterate is a vertex of ball and box, and more steps do not make it stronger"

    step_size: float | None = field(2.0, "length of a step, whatever epsilon is", gt=0)
    double_softmax: bool = field(False, "and the double softmax besides, as robustBNNs has both")
    random_start: bool = field(False, "start at a random point of the ball, else at the clean input")
    keep_best: bool = field(False, "take the worst point on the way, else the last one")
    early_stop: bool = field(False, "search no longer for examples that are broken; not while the network is trained")

    def objective(self, outputs: Tensor, batch: Batch) -> Tensor:
        from kempeframe_standard.judging import loss_of, targets_of

        outputs = outputs.softmax(dim=1) if self.double_softmax else outputs
        return loss_of(self.loss, outputs, targets_of(batch))


@component
class FaultyTinyStep(FaultyPgd):
    """Steps so short that the attack does not get to the edge of the ball."""

    symptom = "one FGSM step of the same epsilon is stronger; the largest shift is below epsilon"

    share: float = field(1 / 400, "length of a step over epsilon", gt=0)
    random_start: bool = field(False, "start at a random point of the ball, else at the clean input")
    keep_best: bool = field(False, "take the worst point on the way, else the last one")
    early_stop: bool = field(False, "search no longer for examples that are broken; not while the network is trained")

    def search(self, network: nn.Module, batch: Batch, region: Region, run: Run) -> Found:
        from kempeframe_standard.restarts import climb_from_all_starts

        whole: Any = self
        resized: FaultyTinyStep = attrs.evolve(whole, step_size=self.share * self.epsilon or None)
        return climb_from_all_starts(resized, network, batch, region, run)


@component
class FaultySamples(FaultyPgd):
    """Another average over the samples than the prediction's: of logits, or of the samples' losses.

    "logits": one path averages logits, the other probabilities (robustBNNs). "losses": mean_s CE_s, an upper bound of
    the loss by Jensen, with another direction: samples that fail already go on pulling.
    """

    symptom = "the loss that is attacked differs from the loss of the network's output"

    average: Literal["logits", "losses"] = field("losses", "what is averaged over the samples")
    keep_best: bool = field(False, "take the worst point on the way, else the last one")
    early_stop: bool = field(False, "search no longer for examples that are broken; not while the network is trained")

    def bind(self, task: Task, run: Run) -> Attack:
        from kempeframe_attacking_bayes.views import BoundToSamples

        return BoundToSamples(attack=self, box=task.bounds)

    def objective(self, outputs: Tensor, batch: Batch) -> Tensor:
        from kempeframe_standard.judging import loss_of, targets_of

        targets = targets_of(batch)
        if self.average == "logits":
            return loss_of(self.loss, outputs.mean(dim=1), targets)
        samples = outputs.shape[1]
        losses = loss_of(self.loss, outputs.flatten(0, 1), targets.repeat_interleave(samples))
        return losses.view(-1, samples).mean(dim=1)

    def broken(self, outputs: Tensor, batch: Batch) -> Tensor:
        from kempeframe_attacking_bayes.views import predictive

        return super().broken(predictive(outputs), batch)


@component
class FaultySingleSample(PosteriorSubset):
    """One posterior draw for all steps, or one per gradient (SEBR), where the prediction takes the mean of many."""

    symptom: ClassVar[str] = "an attack transferred from another, deterministic network is stronger"
