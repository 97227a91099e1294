"""Plugin `attacking_bayes`: Feng, Rudner, Tsilivis, Kempe, "Attacking Bayes", arXiv:2404.19640."""

from kempeframe import hookimpl
from kempeframe_attacking_bayes import (
    attacks,
    attacks_faulty,
    data,
    evaluators,
    evaluators_posterior,
    evaluators_sanity,
    models,
    optimizers,
    optimizers_sampling,
    optimizers_variational,
)


@hookimpl
def kempeframe_data():  # type: ignore[no-untyped-def]
    return [data.SemanticShift, data.GaussianLinear]


@hookimpl
def kempeframe_model():  # type: ignore[no-untyped-def]
    return [models.Bayesian, models.Dropout]


@hookimpl
def kempeframe_optimizer():  # type: ignore[no-untyped-def]
    variational = [optimizers_variational.Mfvi, optimizers_variational.Psvi, optimizers_variational.Fsvi]
    others = [optimizers.Map, optimizers.Ensemble, optimizers.McDropout, optimizers.ExactGaussian]
    return [optimizers_sampling.Hmc, *variational, *others]


@hookimpl
def kempeframe_attack():  # type: ignore[no-untyped-def]
    faulty = [
        attacks_faulty.FaultyDoubleSoftmax,
        attacks_faulty.FaultyUnrelatedStep,
        attacks_faulty.FaultyTinyStep,
        attacks_faulty.FaultySamples,
        attacks_faulty.FaultySingleSample,
    ]
    return [attacks.PgdPlus, attacks.UncertaintyAttack, attacks.PosteriorSubset, attacks.Tempered, *faulty]


@hookimpl
def kempeframe_evaluator():  # type: ignore[no-untyped-def]
    return [
        evaluators.AdversarialDetection,
        evaluators.HalfRadius,
        evaluators.ShiftDetection,
        evaluators_posterior.PosteriorDiagnostics,
        evaluators_posterior.GradientCancellation,
        evaluators_posterior.ScaledLogits,
        evaluators_posterior.Theory,
        evaluators_sanity.AttackSanity,
    ]
