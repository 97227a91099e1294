"""Plugin `pilaf`: which pairs of responses to label (arXiv:2502.04270)."""

from kempeframe import hookimpl
from kempeframe_pilaf import data, data_hh, data_pairs, evaluators, evaluators_theory, models, oracle


@hookimpl
def kempeframe_data():  # type: ignore[no-untyped-def]
    plain = [data_pairs.Vanilla, data_pairs.Hybrid, data_pairs.BestOfN, data_pairs.Uniform, data_pairs.OptimalDesign]
    tilted = [data_pairs.PlusMinus, data_pairs.Pilaf, data_pairs.TPilaf, data_pairs.EstimatedPilaf]
    return [data.Bandit, data.Grammar, data_hh.HhRlhf, data_hh.HumanPairs, *plain, *tilted]


@hookimpl
def kempeframe_model():  # type: ignore[no-untyped-def]
    return [models.ImplicitReward, models.LogLinearPolicy, models.HuggingfaceChat]


@hookimpl
def kempeframe_evaluator():  # type: ignore[no-untyped-def]
    theory = [evaluators_theory.Alignment, evaluators_theory.Asymptotics]
    return [evaluators.Value, evaluators.Frontier, evaluators.Cost, *theory, oracle.RewardOracle]
