"""Attacks: what perturbs inputs inside a ball round them and inside the task's box.

An attack is bound to a task before it is used, `attack.bind(task, run).perturb(network, batch, run)`: binding brings
the box, and for some attacks the radius.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import attrs

from kempeframe import Attack, Fit, component, field

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kempeframe.runs import Run
    from kempeframe.task import Batch, Task
    from kempeframe_standard.judging import Found
    from kempeframe_standard.regions import Region

Norm = Literal["l_inf", "l_2", "l_1"]
DUAL: dict[str, Norm] = {"l_inf": "l_1", "l_2": "l_2", "l_1": "l_inf"}


@component
class BallAttack(Attack):
    """|x' - x| <= epsilon in a norm over all coordinates of an example, and x' in the task's box, if it has one.

    A subclass searches; what it finds is brought into ball and box exactly, in every floating-point type. Where the
    clean input is worse for the network than what was found, that is kept: an attack never helps. While the network is
    being trained (`network.training`) this last check is left out, and random numbers are new at every call.

    Which of two points is worse: one that is broken, then one whose objective is larger. Here an example is broken
    once it is misclassified, and the objective is the cross-entropy, in regression the squared error.
    """

    norm: Norm = field("l_inf", "of the ball")
    epsilon: float = field(doc="radius of the ball, in units of the inputs", ge=0, lt=math.inf)

    @property
    def size(self) -> float:
        return self.epsilon

    @property
    def dual_norm(self) -> str | None:
        return DUAL[self.norm]

    def bind(self, task: Task, run: Run) -> Attack:
        return BoundAttack(attack=self, box=task.bounds)

    def perturb(self, network: nn.Module, batch: Batch, run: Run) -> Tensor:
        """Only a bound attack does.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(f"{type(self).__name__} does not know its task's box: use attack.bind(task, run).perturb")

    # ---- what subclasses may replace -------------------------------------------------------------------------------

    def search(self, network: nn.Module, batch: Batch, region: Region, run: Run) -> Tensor | Found:
        """Points (n, d) that are bad for the network: inputs flattened, in the region's dtype.

        `Found` says also how they stand, and spares asking the network again.
        """
        raise NotImplementedError

    def objective(self, outputs: Tensor, batch: Batch) -> Tensor:
        """(n,), what the attack makes large, from the network's outputs on the batch's examples."""
        from kempeframe_standard.judging import Mistakes

        return Mistakes().objective(outputs, batch)

    def broken(self, outputs: Tensor, batch: Batch) -> Tensor:
        """(n,) int64: 0 not broken, 1 broken but worth searching on, 2 done; it counts before the objective."""
        from kempeframe_standard.judging import Mistakes

        return Mistakes().broken(outputs, batch)

    def region(self, inputs: Tensor, box: tuple[float, float] | None) -> Region:
        """The ball round clean inputs (n, d), cut by the box."""
        from kempeframe_standard.regions import REGIONS

        return REGIONS[self.norm](inputs, self.epsilon, box)

    def prepare(self, network: nn.Module, batch: Batch, run: Run) -> Batch:
        """The batch with what else the attack has to know of its examples."""
        return batch


@component
class BoundAttack(Attack):
    """A ball attack that knows the box of its task; not for specs."""

    attack: BallAttack = field(doc="what searches")
    box: tuple[float, float] | None = field(None, "smallest and largest value of an input")

    @property
    def norm(self) -> Norm:
        """Of the ball."""
        return self.attack.norm

    @property
    def epsilon(self) -> float:
        """Radius of the ball."""
        return self.attack.epsilon

    @property
    def size(self) -> float | None:
        return self.attack.size

    @property
    def dual_norm(self) -> str | None:
        return self.attack.dual_norm

    def perturb(self, network: nn.Module, batch: Batch, run: Run) -> Tensor:
        """Perturbed inputs of the batch; same shape, dtype and device, without a gradient.

        Raises:
            TypeError: the inputs are no floating-point numbers.
            ValueError: they do not lie in the box.
        """
        from kempeframe_standard.perturbing import perturb

        return perturb(self.attack, self.box, network, batch, run)


@component
class GradientAttack(BallAttack):
    """What attacks along the gradient of a loss share. The loss of float targets (regression) is the squared error.

    A targeted attack lowers the loss of another class. An example is done once it is taken for that class, and broken
    before that where it is misclassified; one whose right class it is stays as it is.
    """

    loss: Literal["cross_entropy", "margin"] = field(
        "cross_entropy", "what is raised; margin: the largest wrong output minus the right one, which does not saturate"
    )
    target: Literal["none", "random", "least_likely"] | int = field(
        "none", "the class that examples are to be taken for, or how to choose a wrong one for each", ge=0
    )

    def prepare(self, network: nn.Module, batch: Batch, run: Run) -> Batch:
        if self.target == "none":
            return batch
        from kempeframe_standard.draws import Draws
        from kempeframe_standard.judging import aimed

        return aimed(network, batch, self.target, Draws.of(network, batch, run))

    def objective(self, outputs: Tensor, batch: Batch) -> Tensor:
        from kempeframe_standard.judging import Mistakes, Targeted

        aim = Mistakes(self.loss) if self.target == "none" else Targeted(self.loss)
        return aim.objective(outputs, batch)

    def broken(self, outputs: Tensor, batch: Batch) -> Tensor:
        from kempeframe_standard.judging import Mistakes, Targeted

        aim = Mistakes(self.loss) if self.target == "none" else Targeted(self.loss)
        return aim.broken(outputs, batch)


@component
class Fgsm(GradientAttack):
    """The fast gradient sign method (Goodfellow et al., 2015), in any norm: one steepest step of size epsilon."""

    def search(self, network: nn.Module, batch: Batch, region: Region, run: Run) -> Found:
        from kempeframe_standard.ascent import Course, ascend

        course = Course(steps=1, step_size=region.epsilon, keep_best=False, early_stop=False)
        return ascend(network, batch, region, self, region.centres, course)


@component
class Pgd(GradientAttack):
    """Projected gradient descent (Madry et al., 2018): steepest steps of the norm, each brought back into ball and box.

    The steepest step is the gradient's sign (l_inf), the gradient over its length (l_2), or goes along the coordinates
    of the largest gradient that the box does not hold (l_1: Croce and Hein, 2021). Random starts are uniform in the
    ball.
    """

    steps: int = field(40, "number of gradients", ge=1)
    step_size: float | None = field(None, "length of a step; by default 2.5 epsilon / steps", gt=0)
    random_start: bool = field(True, "start at a random point of the ball, else at the clean input")
    restarts: int = field(1, "random starts; the worst point of all counts", ge=1)
    keep_best: bool = field(True, "take the worst point on the way, else the last one")
    early_stop: bool = field(True, "search no longer for examples that are broken; not while the network is trained")

    def __attrs_post_init__(self) -> None:
        if self.restarts > 1 and not self.random_start:
            raise ValueError("restarts > 1 needs random_start = true: all would be the same")
        if self.restarts > 1 and not self.keep_best:
            raise ValueError("restarts > 1 needs keep_best = true: the worst of all counts")

    def search(self, network: nn.Module, batch: Batch, region: Region, run: Run) -> Found:
        from kempeframe_standard.restarts import climb_from_all_starts

        return climb_from_all_starts(self, network, batch, region, run)


@component
class LinearAttack(BallAttack):
    """The worst case of a linear network, in closed form: exact in every norm, with and without a box.

    For networks with `effective_weight()`: classification, and regression with one output.
    """

    def search(self, network: nn.Module, batch: Batch, region: Region, run: Run) -> Tensor:
        from kempeframe_standard.linear_attack import worst_points

        return worst_points(network, batch, region)


@component
class Noise(BallAttack):
    """Random noise of size epsilon in the norm, then clipped to the box: what an attack has to beat.

    Uniform in the ball, pushed out to its surface.
    """

    @property
    def dual_norm(self) -> str | None:
        return None

    def search(self, network: nn.Module, batch: Batch, region: Region, run: Run) -> Tensor:
        from kempeframe_standard.draws import Draws

        return region.noise(Draws.of(network, batch, run), 1)


@component
class Transfer(Attack):
    """Perturbs against the network of another fit, within the limits that the trial's task sets.

    It does not stop early: what breaks the other network need not break this one.
    """

    fit: Fit = field(doc="where the attacked network comes from")
    attack: Attack = field(doc="how it is attacked")

    @property
    def size(self) -> float | None:
        return self.attack.size

    def bind(self, task: Task, run: Run) -> Attack:
        from kempeframe_standard.transfer import BoundTransfer

        return BoundTransfer(to_the_end(self.attack).bind(task, run), run.fit(self.fit).network.to(run.device))


def to_the_end(attack: Attack) -> Attack:
    """The attack without early stopping, where it has that: for attacks on another network than the one that counts."""
    whole: Any = attack
    if not getattr(attack, "early_stop", False):
        return attack
    made: Attack = attrs.evolve(whole, early_stop=False)
    return made
