"""Plugin `flavors_of_margin`: Tsilivis, Gronich, Vardi, Kempe, "Flavors of Margin", arXiv:2410.22069."""

from kempeframe import hookimpl
from kempeframe_flavors_of_margin import (
    evaluators,
    evaluators_adam,
    evaluators_trajectory,
    models,
    optimizers,
    optimizers_oracle,
)


@hookimpl
def kempeframe_model():  # type: ignore[no-untyped-def]
    return [models.TwoLayer]


@hookimpl
def kempeframe_optimizer():  # type: ignore[no-untyped-def]
    steepest = [optimizers.SteepestDescent, optimizers.CoordinateDescent, optimizers.NormalizedGradientDescent]
    others = [optimizers.SignDescent, optimizers.SpectralDescent, optimizers.LogAdam]
    return [*steepest, *others, optimizers_oracle.MaxMargin]


@hookimpl
def kempeframe_evaluator():  # type: ignore[no-untyped-def]
    margins = [evaluators.Margins, evaluators.FunctionMargin, evaluators.CertifiedRatio, evaluators.OracleMargin]
    others = [evaluators.LogLoss, evaluators.Homogeneity, evaluators.UndoFraction]
    adam = [evaluators_adam.LossDecay, evaluators_adam.AdamSpeed]
    return [*margins, *others, *adam, evaluators_trajectory.MarginTrajectory]
