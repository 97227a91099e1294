"""Plugin `strong_collapse`: Dohmatob, Feng, Subramonian, Kempe, "Strong Model Collapse", arXiv:2410.04840."""

from kempeframe import hookimpl
from kempeframe_strong_collapse import data, data_iterative, data_labels, data_text, evaluators, evaluators_real, models


@hookimpl
def kempeframe_data():  # type: ignore[no-untyped-def]
    mixtures = [data.GaussianMixture, data.GeneralMixture, data_iterative.IterativeMixture]
    return [*mixtures, data_labels.SyntheticLabels, data_text.SyntheticText]


@hookimpl
def kempeframe_model():  # type: ignore[no-untyped-def]
    return [models.RandomProjection]


@hookimpl
def kempeframe_evaluator():  # type: ignore[no-untyped-def]
    return [
        evaluators.ExcessRisk,
        evaluators.Theory,
        evaluators.GeneralTheory,
        evaluators.IterativeTheory,
        evaluators.OptimalWeight,
        evaluators.OptimalPenalty,
        evaluators_real.PopulationRisk,
        evaluators_real.RealTheory,
    ]
