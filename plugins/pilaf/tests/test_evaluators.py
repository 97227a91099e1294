"""Evaluators: exact values against sampled ones, KL of sequences, the frontier, and what pairs have cost."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from kempeframe_pilaf import data_pairs, evaluators, evaluators_theory, grammar, theory
from kempeframe_pilaf.pairs import FrozenPairs
from kempeframe_pilaf.problems import fitted_problem
from kempeframe_pilaf.values import frontier_of, sequence_kl
from kempeframe_pilaf.worlds import Problem
from kempeframe_standard.optimizers import LogisticRegression

from kempeframe import Fit
from kempeframe.runs import Run
from kempeframe.task import CannotGive
from kempeframe.trial import Session


def test_the_value_of_a_bandit_is_exact(session: Session, bandit: Any) -> None:
    fit = bandit(data_pairs.Vanilla, {})
    fitted = session.fitted(fit, Run(1, session))
    found = evaluators.Value().evaluate(fitted, Run(1, session))
    world = fitted.task.truth
    problem = fitted_problem(fitted.network, world.rho)
    wanted = theory.objective(problem.log_policy, problem.log_reference, world.rewards, 0.7, world.rho)
    assert found["objective"] == pytest.approx(wanted, abs=1e-12)
    best = theory.best_objective(problem.log_reference, world.rewards, 0.7, world.rho)
    assert found["gap"] == pytest.approx(best - wanted, abs=1e-12)
    assert found["frontier"] > found["reward"]
    curve = evaluators.Frontier().evaluate(fitted, Run(1, session))
    assert curve["best_objective"] == pytest.approx(best)


def test_the_gradient_of_the_implicit_reward_is_that_of_the_formula(session: Session, bandit: Any) -> None:
    fitted = session.fitted(bandit(data_pairs.Vanilla, {}), Run(1, session))
    found = fitted_problem(fitted.network, fitted.task.truth.rho)
    wanted = Problem.of_log_linear(fitted.task.truth, fitted.network.policy.theta.detach().numpy())
    for name in ("log_policy", "log_reference", "g", "reward"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), atol=1e-12)


def test_alignment_holds_at_small_errors_and_with_the_tasks_own_reward(session: Session, bandit: Any) -> None:
    fitted = session.fitted(bandit(data_pairs.TPilaf, {"prompt_weight": True}), Run(1, session))
    residuals = []
    for error in (1e-3, 1e-2):
        evaluator = evaluators_theory.Alignment(reward_error=error)
        found = evaluator.evaluate(fitted, Run(1, session))
        residuals.append(found["relative_residual"])
        assert found["residual_over_bound"] < 1
    assert residuals[1] / residuals[0] == pytest.approx(10, rel=0.1)
    own = evaluators_theory.Alignment().evaluate(fitted, Run(1, session))
    assert 0 < own["cosine"] <= 1 and own["one_minus_cosine"] == pytest.approx(1 - own["cosine"], abs=1e-12)


def test_n_times_the_gap_of_many_estimates_is_the_limit(session: Session, bandit: Any) -> None:
    truth = bandit(data_pairs.Vanilla, {}, problem=0)
    start = attrs.evolve(truth.model.policy, start="truth", init_scale=0.0)
    truth = attrs.evolve(truth, model=attrs.evolve(truth.model, policy=start), seed=0, stream="truth")
    policy = attrs.evolve(truth.model.policy, start="random")
    data = data_pairs.TPilaf(source=truth.data.source, policy=truth, n_pairs=2000, prompt_weight=True)
    fit = Fit(data=data, model=attrs.evolve(truth.model, policy=policy), optimizer=LogisticRegression())
    gaps = []
    for seed in range(120):
        fitted = session.fitted(fit, Run(seed, session))
        gaps.append(2000 * float(evaluators.Value().evaluate(fitted, Run(seed, session))["gap"]))
    predicted = evaluators_theory.Asymptotics().evaluate(fitted, Run(0, session))
    z = (np.mean(gaps) - predicted["n_times_gap"]) / (np.std(gaps) / math.sqrt(len(gaps)))
    assert abs(z) < 4
    assert predicted["relative_to_design"] > 1
    assert predicted["within_bound"] <= 1 + 1e-9


def test_the_kl_of_sequences_is_unbiased_and_has_less_variance(session: Session, trained: Fit) -> None:
    fitted = session.fitted(trained, Run(0, session))
    policies, world = fitted.network.policies, fitted.task.truth
    n = 3000
    prompts = world.test_prompts[torch.arange(n) % 24]
    uniforms = torch.rand(n, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    responses = policies.sample(prompts, torch.zeros(n), uniforms)
    exact = sequence_kl(policies, world.space, prompts, responses)
    simple = policies.log_ratio(prompts, responses)
    assert float(exact.min()) >= 0 and float(simple.min()) < 0
    difference = exact - simple
    assert abs(float(difference.mean())) < 4.5 * float(difference.std()) / n**0.5
    assert float(exact.var()) < 0.75 * float(simple.var())


def test_the_value_of_text(session: Session, trained: Fit) -> None:
    fitted = session.fitted(trained, Run(0, session))
    evaluator = evaluators.Value(n_prompts=240, frontier_draws=300)
    found = evaluator.evaluate(fitted, Run(0, session))
    assert found["objective"] == pytest.approx(found["reward"] - 0.5 * found["kl"])
    other = attrs.evolve(evaluator, beta=1.0).evaluate(fitted, Run(0, session))
    assert other["objective"] == pytest.approx(found["reward"] - found["kl"])
    assert 2 < found["length"] <= 14 and 0 <= found["without_end"] <= 1
    assert dict(evaluator.evaluate(fitted, Run(0, session))) == pytest.approx(dict(found), nan_ok=True)
    plain = evaluators.Value(n_prompts=24).evaluate(fitted, Run(0, session))
    assert math.isnan(plain["gap"]) and math.isnan(plain["frontier"])


def test_the_sampled_frontier_of_text_begins_at_the_reference(session: Session, trained: Fit, sft: Fit) -> None:
    fitted = session.fitted(trained, Run(0, session))
    frontier = frontier_of(fitted, Run(0, session), 400)
    kl, reward = frontier.points
    assert kl[0] == pytest.approx(0, abs=1e-5) and (np.diff(reward) > 0).all()
    assert reward[0] == pytest.approx(frontier.rewards.mean(), abs=0.01)
    assert frontier_of(fitted, Run(0, session), 400) is frontier
    assert math.isnan(frontier.reward_at(50.0))


def test_costs_are_counted(session: Session, sft: Fit, trained: Fit) -> None:
    fitted = session.fitted(trained, Run(0, session))
    found = evaluators.Cost().evaluate(fitted, Run(0, session))
    split = fitted.task.train
    assert isinstance(split, FrozenPairs)
    equal = split.counts.equal_pairs / 64
    wanted = {"labels": 64, "total_labels": 64, "generations": 128, "generations_per_pair": 2, "gradient_steps": 20}
    assert dict(found) == pytest.approx(wanted | {"equal_pairs": equal})
    later = data_pairs.Vanilla(source=sft.data, reference=sft, policy=trained, n_pairs=32)
    model = attrs.evolve(trained.model, start=trained)
    second = Fit(data=later, model=model, optimizer=trained.optimizer, stream="second")
    found = evaluators.Cost().evaluate(session.fitted(second, Run(0, session)), Run(0, session))
    assert (found["labels"], found["total_labels"]) == (32, 96)


def test_evaluators_refuse_what_they_are_not_about(session: Session, sft: Fit, trained: Fit) -> None:
    plain = session.fitted(sft, Run(0, session))
    with pytest.raises(CannotGive):
        evaluators.Value().evaluate(plain, Run(0, session))
    for evaluator in (evaluators_theory.Alignment(), evaluators_theory.Asymptotics()):
        with pytest.raises(ValueError, match="about sampling schemes"):
            evaluator.check_with(sft)
        evaluator.check_with(trained)
    with pytest.raises(ValueError, match="neither this evaluator nor the model has one"):
        evaluators.Frontier().check_with(sft)
    evaluators.Frontier().check_with(trained)
    with pytest.raises(CannotGive, match="lists all responses"):
        evaluators_theory.Asymptotics().evaluate(session.fitted(trained, Run(0, session)), Run(0, session))
    with pytest.raises(ValueError, match="has seen no pairs"):
        evaluators.Cost().evaluate(plain, Run(0, session))


# ---- the tiny language ---------------------------------------------------------------------------------------------


def reward_of(prompt: str, words: str) -> float:
    asked = np.array([[grammar.NUMBER[word] for word in prompt.split()]])
    said = [grammar.NUMBER[word] for word in words.split()]
    return float(grammar.rewards(asked, np.array([said + [grammar.PAD] * (14 - len(said))]))[0])


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("the cat is kind <eos>", 3.0),
        ("the dog is kind <eos>", 1.0),
        ("the cat is kind and calm and very safe <eos>", 5.0),
        ("the cat is kind and kind <eos>", 2.5),  # once as good, once as a repetition
        ("the cat is cruel and it hits the dog <eos>", 0.0),
        ("the cat is cruel and cruel <eos>", 0.5),
        ("the cat is kind", 2.0),  # no end
        ("the cat is kind <eos> calm safe", 3.0),  # nothing counts behind it
        ("<eos>", 0.0),
        ("the cat sees the cat <eos>", 1.5),
    ],
)
def test_the_oracle_of_the_tiny_language(words: str, wanted: float) -> None:
    assert len(grammar.VOCABULARY) == 44
    assert reward_of("<bos> tell cat <sep>", words) == wanted


def test_the_corpus_is_what_the_grammar_says() -> None:
    uniforms = np.random.default_rng(0).random((4000, grammar.MOST_DRAWS))
    prompts, responses = grammar.corpus(uniforms)
    words = [[grammar.VOCABULARY[t] for t in row[: list(row).index(grammar.EOS)]] for row in responses]
    assert max(map(len, words)) <= 13
    assert all(w[0] == "the" and w[1] in grammar.NOUNS and w[2] == "is" for w in words)
    same = np.mean([w[1] == grammar.VOCABULARY[p[2]] for w, p in zip(words, prompts, strict=True)])
    assert abs(same - (0.5 + 0.5 / 8)) < 4.5 * 0.5 / 4000**0.5
    very = np.mean([w[3] == "very" for w in words])
    assert abs(very - 0.2) < 4.5 * 0.4 / 4000**0.5
    kinds = [w[4] if w[3] == "very" else w[3] for w in words]
    for group, share in ((grammar.GOOD, 0.3), (grammar.BAD, 0.3), (grammar.NEUTRAL, 0.4)):
        assert abs(np.mean([k in group for k in kinds]) - share) < 4.5 * 0.5 / 4000**0.5
