"""Evaluators: margins of homogeneous networks in every norm, how far from stationary they are, and the optimum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from kempeframe_standard.models import Linear
from kempeframe_standard.models_diagonal import Diagonal

from kempeframe import Evaluator, NoTheory, component, field
from kempeframe.components import Needs
from kempeframe_flavors_of_margin import theory
from kempeframe_flavors_of_margin.names import column_of, flat_exponent, geometry_of

if TYPE_CHECKING:
    from kempeframe.runs import Run
    from kempeframe.trial import Fitted

NORMS = ("l_1", "l_2", "l_inf")
DOC_NORMS = '"l_1", "l_2", "l_inf", a number p, "spectral" (the largest of the layers), or "max_l_1" and such'


class _MaybeRobust(Evaluator):
    """An evaluator that looks at the trial's attack where its field `robust` says so."""

    robust: bool

    @property
    def uses_attack(self) -> bool:  # type: ignore[override]
        """Whether it looks at the trial's attack."""
        return self.robust

    @property
    def needs_attack(self) -> bool:
        return self.robust


@component
class Margins(_MaybeRobust):
    """Geometric and soft margins, and the distance from a KKT point, in every norm (Sections 3.3 and 3.8 of the brief).

    On the training split, in float64; the loss is the sum over examples of the one that was trained. For networks that
    state their degree L; the statement is checked by Euler's identity. With `robust`, margins are those under the
    trial's attack, q_i - epsilon |w|_dual, for networks that are linear in their inputs.
    """

    norms: tuple[str | float, ...] = field(NORMS, DOC_NORMS)
    robust: bool = field(False, "under the trial's attack, by its dual norm")

    def __attrs_post_init__(self) -> None:
        _check_norms(self.norms)

    def columns(self) -> Mapping[str, str]:
        found = {
            "log_loss": "log of the loss, summed over the training examples",
            "inverse_loss": "l^-1(loss), the margin of one example of that loss: log(1/loss) for the exponential one",
            "smallest_margin": "q_min, the smallest margin of an example",
            "train_accuracy": "share of the training examples with a margin above 0",
        }
        for name in map(column_of, self.norms):
            found |= {
                f"norm_{name}": "of the weights",
                f"margin_{name}": "geometric margin, q_min / norm^L",
                f"soft_margin_{name}": "l^-1(loss) / norm^L",
                f"gap_{name}": "1 - <theta, s> / (norm, dual norm of s): 0 at KKT points of this norm's problem",
                f"complementarity_{name}": "sum of multipliers times slacks at that point; nan before separation",
            }
        return found

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        from kempeframe_flavors_of_margin.measuring import measure, sizes, soft_margin_loss

        assert fitted.optimizer is not None
        loss = getattr(fitted.optimizer, "loss", "exponential")
        seen = measure(fitted, run, loss, self.robust)
        smallest = float(seen.margins.min())
        proxy = theory.inverse_loss(seen.log_loss, soft_margin_loss(loss))
        found = {
            "log_loss": seen.log_loss,
            "inverse_loss": proxy,
            "smallest_margin": smallest,
            "train_accuracy": float((seen.margins > 0).double().mean()),
        }
        for given, (size, dual) in sizes(seen, self.norms).items():
            name, scale = column_of(given), size**seen.degree
            found |= {
                f"norm_{name}": size,
                f"margin_{name}": smallest / scale if size else math.nan,
                f"soft_margin_{name}": proxy / scale if size else math.nan,
                f"gap_{name}": theory.gap(seen.product, size, dual),
                f"complementarity_{name}": theory.complementarity(
                    seen.product, smallest, seen.share, size, dual, seen.degree
                ),
            }
        return found


@component
class LogLoss(Evaluator):
    """log of the trained loss, summed over the training examples, exact at any size: to end fits at a level."""

    def columns(self) -> Mapping[str, str]:
        return {"log_loss": "log of the loss, summed over the training examples"}

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        from kempeframe_standard.evaluation import outputs_and_targets
        from kempeframe_standard.training.losses import LOG_LOSSES

        from kempeframe.task import CannotGive

        loss = getattr(fitted.optimizer, "loss", "exponential")
        if loss not in LOG_LOSSES:
            raise CannotGive(f"the {loss} loss has no logarithm: it can be 0")
        outputs, targets = outputs_and_targets(fitted, run, "train")
        return {"log_loss": float(LOG_LOSSES[loss](outputs.double(), targets).logsumexp(0))}


@component
class CertifiedRatio(Evaluator):
    """A lower bound of margin / largest margin of a linear model, in any norm, without solving for the optimum.

    q_min / (|w| |s|_*), for the optimum is at most |s|_* with s = Z' softmax(-q) (Section 3.8 of the brief).
    """

    norms: tuple[str | float, ...] = field(NORMS, DOC_NORMS)

    def __attrs_post_init__(self) -> None:
        _check_norms(self.norms)

    def columns(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for name in map(column_of, self.norms):
            found |= {
                f"certified_ratio_{name}": "the margin is at least this share of the largest",
                f"upper_bound_{name}": "of the largest margin",
            }
        return found

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        from kempeframe.task import CannotGive
        from kempeframe_flavors_of_margin.measuring import measure, sizes

        seen = measure(fitted, run, "exponential")
        if seen.degree != 1:
            raise CannotGive(f"the bound is for linear models; this network has the degree {seen.degree}")
        found: dict[str, float] = {}
        for given, (size, dual) in sizes(seen, self.norms).items():
            name = column_of(given)
            ratio = float(seen.margins.min()) / (size * dual) if size * dual > 0 else math.nan
            found |= {f"certified_ratio_{name}": ratio, f"upper_bound_{name}": dual}
        return found


@component
class OracleMargin(_MaybeRobust):
    """The largest margin that there is on the drawn data, exactly: linear programs, least squares, or the dual.

    For standard.linear the largest l_p margin; for standard.diagonal of depth L the largest l_(p/L) margin of the
    linear function that it is, which is that of its parameters in l_p (Section 3.7 of the brief). With `robust` it is
    the largest margin under the trial's attack. Where p/L < 1 the problem is not convex: such a column is nan.
    """

    needs: ClassVar[Needs] = "task"

    norms: tuple[str | float, ...] = field(NORMS, 'l_p norms: "l_1", "l_2", "l_inf" or a number p')
    robust: bool = field(False, "under the trial's attack, by its dual norm")

    def __attrs_post_init__(self) -> None:
        _check_norms(self.norms, flat=True)

    def columns(self) -> Mapping[str, str]:
        return {f"margin_{column_of(norm)}": "the largest there is" for norm in self.norms}

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        from kempeframe_flavors_of_margin.measuring import attack_of
        from kempeframe_flavors_of_margin.theory_oracles import margin_rows, max_margin

        if not isinstance(fitted.model, (Linear, Diagonal)):
            raise NoTheory("the largest margin is known for standard.linear and standard.diagonal alone")
        degree = fitted.model.depth if isinstance(fitted.model, Diagonal) else 1
        batch = fitted.task.train.examples()
        assert batch.targets is not None
        rows = margin_rows(batch.inputs.double().numpy(), batch.targets.numpy(), fitted.task.outputs)
        options: dict[str, Any] = {}
        if self.robust:
            options["epsilon"], options["dual"] = attack_of(fitted, run)
        found = {}
        for norm in self.norms:
            p = flat_exponent(norm)
            convex = p / degree >= 1
            found[f"margin_{column_of(norm)}"] = max_margin(rows, p / degree, **options).margin if convex else math.nan
        return found


@component
class FunctionMargin(Evaluator):
    """Margins of the linear function that a network is: q_min / |w|_p with its effective weight w, in every norm.

    For standard.diagonal, whose steps have one norm and whose function another: the l_p margin of the parameters is
    at its largest where the l_(p/L) margin of the function is.
    """

    norms: tuple[str | float, ...] = field(NORMS, 'l_p norms: "l_1", "l_2", "l_inf" or a number p')

    def __attrs_post_init__(self) -> None:
        _check_norms(self.norms, flat=True)

    def columns(self) -> Mapping[str, str]:
        return {f"margin_{column_of(norm)}": "of the linear function" for norm in self.norms}

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        from kempeframe_standard.evaluation import outputs_and_targets
        from kempeframe_standard.linear_attack import LinearNetwork

        from kempeframe.task import CannotGive
        from kempeframe_flavors_of_margin.measuring import margins_of

        if not isinstance(fitted.network, LinearNetwork):
            raise CannotGive(f"{type(fitted.network).__name__} is not linear: its function has no weight")
        smallest = float(margins_of(*outputs_and_targets(fitted, run, "train")).min())
        weight = fitted.network.effective_weight().detach().double().flatten().cpu().numpy()
        return {f"margin_{column_of(norm)}": smallest / theory.norm(weight, flat_exponent(norm)) for norm in self.norms}


@component
class Homogeneity(Evaluator):
    """The degree L that a network has in its parameters, measured: log2 of f(2 theta) / f(theta) on random inputs.

    Networks with biases, normalisation or dropout have none: `degree_error` is then far from 0.
    """

    inputs: int = field(3, "random inputs", ge=1)
    tolerance: float = field(1e-9, "degree_error that rounding may make, in float64", ge=0)

    def columns(self) -> Mapping[str, str]:
        return {
            "stated_degree": "what the network states; nan: nothing",
            "degree": "mean of log2 |f(2 theta) / f(theta)| over inputs and outputs",
            "degree_error": "largest distance of f(2 theta) from 2^degree f(theta), over the largest f(2 theta)",
            "homogeneous": "whether that is at most `tolerance`",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float | bool]:
        import torch

        from kempeframe_flavors_of_margin.measuring import in_double

        network = fitted.network
        drawn = run.rng("evaluator", "homogeneity").standard_normal((self.inputs, *fitted.task.input_shape))
        inputs = torch.from_numpy(drawn).to(run.device)
        state = {name: tensor.detach() for name, tensor in in_double(network).items()}
        trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
        twice = {name: 2 * tensor if name in trained else tensor for name, tensor in state.items()}
        with torch.no_grad():
            once, doubled = (torch.func.functional_call(network, s, (inputs,)) for s in (state, twice))
        sound = (once.abs() > 0) & (doubled.abs() > 0)
        degree = float((doubled[sound] / once[sound]).abs().log2().mean()) if sound.any() else math.nan
        stated = float(getattr(network, "homogeneity", math.nan))
        wanted = stated if not math.isnan(stated) else round(degree) if not math.isnan(degree) else math.nan
        size = float(doubled.abs().max())
        error = float((doubled - 2**wanted * once).abs().max()) / size if size else math.nan
        found = {"stated_degree": stated, "degree": degree, "degree_error": error}
        return {**found, "homogeneous": error <= self.tolerance}


@component
class UndoFraction(Evaluator):
    """The share of coordinate descent's steps that undid the step before: above 0.5 it is in a cycle across a kink."""

    def columns(self) -> Mapping[str, str]:
        return {"undo_fraction": "same weight, opposite direction; nan for other optimizers and before the end"}

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, float]:
        return {"undo_fraction": float(fitted.certificate.get("undo_fraction", math.nan))}


def _check_norms(norms: tuple[str | float, ...], flat: bool = False) -> None:
    """Refuse an unknown norm, p < 1, none at all, the same one twice, and, if `flat`, all but l_p of all weights."""
    names = [column_of(norm) for norm in norms]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"norms = {list(norms)}: expected at least one, and none twice")
    if flat and any(geometry_of(norm)[1] != "flat" for norm in norms):
        raise ValueError(f"norms = {list(norms)}: this is for l_p norms of all weights alone")
