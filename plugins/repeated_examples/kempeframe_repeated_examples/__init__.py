"""Plugin `repeated_examples`: Charton, Kempe, "Emergent properties with repeated examples", arXiv:2410.07041."""

from kempeframe import hookimpl
from kempeframe_repeated_examples import data, evaluators, evaluators_steps, evaluators_theory, models


@hookimpl
def kempeframe_data():  # type: ignore[no-untyped-def]
    return [data.Gcd, data.ModularMultiplication, data.Eigenvalues]


@hookimpl
def kempeframe_model():  # type: ignore[no-untyped-def]
    return [models.CompactEncoder, models.Seq2seqTransformer]


@hookimpl
def kempeframe_evaluator():  # type: ignore[no-untyped-def]
    measured = [evaluators.SequenceAccuracy, evaluators.GcdCount, evaluators.EigenvalueAccuracy]
    curves = [evaluators_steps.EscapeStep, evaluators_steps.Staircase]
    theory = [evaluators_theory.ModularPlateau, evaluators_theory.GcdBaseline, evaluators_theory.Repetition]
    return [*measured, *curves, *theory]
