"""The exact theory: worked numbers, identities, finite differences, and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from kempeframe_pilaf import theory, theory_alignment, theory_asymptotics
from kempeframe_pilaf.theory import Array
from kempeframe_pilaf.worlds import Problem
from scipy.special import expit, log_softmax

ONE = np.ones(1)
REFERENCE = np.log([[0.1, 0.2, 0.3, 0.4]])
POLICY = np.log([[0.4, 0.3, 0.2, 0.1]])


def random_problem(
    seed: int, prompts: int = 3, responses: int = 5, d: int = 4, beta: float = 0.7
) -> tuple[Problem, Array]:
    """A log-linear policy away from its reference, and the features."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((prompts, responses, d))
    log_reference = log_softmax(rng.standard_normal((prompts, responses)), axis=1)
    rho = rng.dirichlet(np.ones(prompts))
    return at(features, log_reference, 0.6 * rng.standard_normal(d), beta, rho), features


def at(features: Array, log_reference: Array, theta: Array, beta: float, rho: Array) -> Problem:
    log_policy = log_softmax(log_reference + features @ theta, axis=1)
    mean = np.einsum("xk,xkd->xd", np.exp(log_policy), features)
    return Problem(log_policy, log_reference, beta * (features - mean[:, None]), beta, rho)


# ---- worked numbers (brief, 3.7) -----------------------------------------------------------------------------------


def test_tilts_normalisers_and_pair_densities_of_four_responses() -> None:
    z_plus, z_minus = np.exp(theory.log_normalisers(POLICY, REFERENCE, 0.5))
    np.testing.assert_allclose([z_plus[0], z_minus[0]], [1.38072278, 0.88989795], atol=1e-8)
    plus = [[0.57940668, 0.26610951, 0.11827089, 0.03621292]]
    minus = [[0.22474487, 0.27525513, 0.27525513, 0.22474487]]
    np.testing.assert_allclose(np.exp(theory.tilted(POLICY, REFERENCE, 0.5)), plus, atol=1e-8)
    np.testing.assert_allclose(np.exp(theory.tilted(POLICY, REFERENCE, -0.5)), minus, atol=1e-8)
    branch = theory.theoretical_branch(POLICY, REFERENCE, 0.5)
    assert branch[0] == pytest.approx(0.55130841, abs=1e-8)
    densities = {
        0.7: theory.vanilla(POLICY),
        0.8: theory.product(POLICY, REFERENCE),
        0.7279199878: theory.branched(POLICY, REFERENCE, 0.5, 0.5),
        0.7307850484: theory.branched(POLICY, REFERENCE, 0.5, branch),
    }
    for wanted, density in densities.items():
        assert density.sum() == pytest.approx(1)
        assert theory.share_unequal(density, ONE) == pytest.approx(wanted, abs=1e-10)


def test_the_objective_of_four_responses() -> None:
    rewards = np.array([[1, 0, 0.5, -1]])
    best = theory.optimum(REFERENCE, rewards, 0.5)
    np.testing.assert_allclose(np.exp(best), [[0.40856826, 0.1105874, 0.45091159, 0.02993275]], atol=1e-8)
    value = theory.objective(POLICY, REFERENCE, rewards, 0.5, ONE)
    assert value == pytest.approx(0.1717825904, abs=1e-10)
    assert theory.best_objective(REFERENCE, rewards, 0.5, ONE) == pytest.approx(0.2962555966, abs=1e-10)


def two_prompts() -> tuple[Problem, Array]:
    features = np.array([[[1, 0], [0, 1], [1, 1]], [[0, 1], [2, 0], [-1, 1]]], dtype=float)
    log_reference = np.log([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    return at(features, log_reference, np.array([0.5, -0.25]), 0.4, np.array([0.3, 0.7])), features


def test_gradients_of_two_prompts() -> None:
    problem, _ = two_prompts()
    policies = problem.log_policy, problem.log_reference, problem.beta
    weights = theory.prompt_weights(*policies, problem.rho)
    np.testing.assert_allclose(weights, [0.98081023, 1.00822419], atol=1e-8)
    assert problem.mean_sum == pytest.approx(2.0497435080, abs=1e-10)
    weighted = weights[:, None, None] * theory.branched(*policies, theory.theoretical_branch(*policies))
    error = np.array([[1, -1, 0], [0.5, 0, -0.5]])
    residuals = {1.0: 0.5177550737, 0.1: 0.0396063013, 0.01: 0.0037209770}
    for size, wanted in residuals.items():
        true = problem.reward + size * error
        loss = theory_alignment.loss_gradient(weighted, problem.reward, true, problem.g, problem.rho)
        objective = theory_alignment.objective_gradient(
            problem.log_policy, problem.reward, true, problem.g, problem.beta, problem.rho
        )
        found = theory_alignment.relative_residual(loss, objective, problem.beta, problem.mean_sum)
        assert found == pytest.approx(wanted, abs=1e-10)
        if size == 1:
            np.testing.assert_allclose(objective, [-0.05641023, -0.00774821], atol=1e-8)
            np.testing.assert_allclose(loss, [0.01553724, -0.00203569], atol=1e-8)


def schemes(problem: Problem) -> dict[str, tuple[Array, Array]]:
    policies = problem.log_policy, problem.log_reference, problem.beta
    theoretical = theory.branched(*policies, theory.theoretical_branch(*policies))
    weights = theory.prompt_weights(*policies, problem.rho)[:, None, None]
    plain = {
        "vanilla": theory.vanilla(problem.log_policy),
        "hybrid": theory.product(problem.log_policy, problem.log_reference),
        "PILAF": theory.branched(*policies, 0.5),
        "T-PILAF": theoretical,
    }
    return {name: (density, density) for name, density in plain.items()} | {
        "weighted": (weights * theoretical, weights**2 * theoretical)
    }


def law(problem: Problem, first: Array, second: Array) -> theory_asymptotics.Limit:
    return theory_asymptotics.limit(
        first, second, problem.log_policy, problem.reward, problem.g, problem.beta, problem.rho
    )


def test_the_limit_law_of_two_prompts() -> None:
    problem, _ = two_prompts()
    wanted = {
        "vanilla": (5.2016347676, 1.0599180349),
        "hybrid": (4.8187987192, 1.2215499663),
        "PILAF": (5.1008921283, 1.0250071413),
        "T-PILAF": (5.0977875377, 1.0239526958),
        "weighted": (5.0980413470, 1.0239357849),
    }
    for name, moments in schemes(problem).items():
        found = law(problem, *moments)
        assert (found.gap, found.eigenvalue_ratio) == pytest.approx(wanted[name], abs=2e-10)
    known = problem.log_policy, problem.reward, problem.g, problem.rho
    design = theory_asymptotics.optimal_design(*known, tolerance=1e-9, steps=20_000)
    assert law(problem, design.density, design.density).gap == pytest.approx(1.8972213818, abs=1e-9)
    sigma = [[0.12735764, -0.05811646], [-0.05811646, 0.03610491]]
    np.testing.assert_allclose(theory_asymptotics.reward_covariance(*known[::2], known[3]), sigma, atol=1e-8)


def test_best_of_three_of_four_responses() -> None:
    rewards = theory.implicit_reward(POLICY, REFERENCE, 0.5)
    wanted = [[0.064, 0.252, 0.288, 0.18], [0, 0.027, 0.09, 0.072], [0, 0, 0.008, 0.018], [0, 0, 0, 0.001]]
    np.testing.assert_allclose(theory.best_of_n(POLICY, rewards, 3)[0], wanted, atol=1e-12)


# ---- identities ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_the_gap_is_the_divergence_from_the_best_policy(seed: int) -> None:
    problem, _ = random_problem(seed)
    rewards = np.random.default_rng(seed).standard_normal(problem.log_policy.shape)
    best = theory.optimum(problem.log_reference, rewards, problem.beta)
    known = problem.log_reference, rewards, problem.beta, problem.rho
    gap = theory.best_objective(*known) - theory.objective(problem.log_policy, *known)
    assert gap == pytest.approx(problem.beta * theory.divergence(problem.log_policy, best, problem.rho), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_t_pilaf_cancels_the_logistic_curvature(seed: int) -> None:
    """sigma'(m) mu_sym(a, b) = pi_a pi_b / (2 (1 + Z+Z-))."""
    problem, _ = random_problem(seed)
    policies = problem.log_policy, problem.log_reference, problem.beta
    density = theory.branched(*policies, theory.theoretical_branch(*policies))
    margins = theory_alignment.differences(problem.reward)
    left = expit(margins) * expit(-margins) * (density + density.swapaxes(1, 2)) / 2
    sums = 1 + theory.both_normalisers(*policies)
    np.testing.assert_allclose(left, theory.vanilla(problem.log_policy) / (2 * sums[:, None, None]), atol=1e-16)


def test_at_beta_one_pi_minus_is_the_reference_and_at_the_reference_all_are_one() -> None:
    np.testing.assert_allclose(theory.tilted(POLICY, REFERENCE, -1.0), REFERENCE, atol=1e-12)
    for tilt in (-0.5, 0.5, 1.0):
        np.testing.assert_allclose(theory.tilted(REFERENCE, REFERENCE, tilt), REFERENCE, atol=1e-12)
    equal = theory.best_of_n(REFERENCE, np.zeros((1, 4)), 8)
    np.testing.assert_allclose(equal, theory.vanilla(REFERENCE), atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_residual_of_weighted_t_pilaf_is_within_its_bound(seed: int) -> None:
    problem, _ = random_problem(seed)
    weighted, _ = schemes(problem)["weighted"]
    true = problem.reward + np.random.default_rng(seed).standard_normal(problem.reward.shape)
    loss = theory_alignment.loss_gradient(weighted, problem.reward, true, problem.g, problem.rho)
    known = problem.g, problem.beta, problem.rho
    objective = theory_alignment.objective_gradient(problem.log_policy, problem.reward, true, *known)
    size = float(np.linalg.norm(loss + problem.beta / problem.mean_sum * objective))
    bound = theory_alignment.residual_bound(problem.log_policy, problem.log_reference, true, *known, problem.mean_sum)
    assert 0 < size <= bound


@pytest.mark.parametrize("seed", range(3))
def test_weighted_t_pilaf_has_the_curvature_of_j(seed: int) -> None:
    """A = Sigma* / Zbar, and Omega <= w_max Zbar Sigma*^-1."""
    problem, _ = random_problem(seed)
    first, second = schemes(problem)["weighted"]
    sigma = theory_asymptotics.reward_covariance(problem.log_policy, problem.g, problem.rho)
    curvature = theory_asymptotics.curvature(first, problem.reward, problem.g, problem.rho)
    np.testing.assert_allclose(curvature, sigma / problem.mean_sum, atol=1e-14)
    sums = 1 + theory.both_normalisers(problem.log_policy, problem.log_reference, problem.beta)
    assert law(problem, first, second).weights.max() <= sums.max() * (1 + 1e-12)


def test_with_one_prompt_t_pilaf_is_isotropic() -> None:
    problem, _ = random_problem(1, prompts=1, responses=8)
    found = law(problem, *schemes(problem)["T-PILAF"])
    assert found.eigenvalue_ratio == pytest.approx(1, abs=1e-9)
    assert found.gap == pytest.approx(4 * problem.mean_sum / (2 * problem.beta), rel=1e-9)
    assert law(problem, *schemes(problem)["vanilla"]).eigenvalue_ratio > 1.01


# ---- finite differences and simulation -----------------------------------------------------------------------------


def test_gradients_are_those_of_the_functions() -> None:
    problem, features = random_problem(2)
    rng = np.random.default_rng(0)
    theta = np.linalg.lstsq(
        features.reshape(-1, 4) - np.repeat(features[:, :1], 5, axis=1).reshape(-1, 4),
        _relative(problem.log_policy - problem.log_reference), rcond=None,
    )[0]  # fmt: skip
    true = rng.standard_normal(problem.reward.shape)
    weighted, _ = schemes(problem)["weighted"]

    def both(theta: Array) -> tuple[float, float]:
        here = at(features, problem.log_reference, theta, problem.beta, problem.rho)
        value = theory.objective(here.log_policy, here.log_reference, true, problem.beta, problem.rho)
        margins, wanted = theory_alignment.differences(here.reward), theory_alignment.differences(true)
        losses = expit(wanted) * np.logaddexp(0, -margins) + expit(-wanted) * np.logaddexp(0, margins)
        return value, float((problem.rho[:, None, None] * weighted * losses).sum())

    steps = 1e-5 * np.eye(4)
    numeric = np.array([np.subtract(both(theta + e), both(theta - e)) / 2e-5 for e in steps])
    known = problem.g, problem.beta, problem.rho
    objective = theory_alignment.objective_gradient(problem.log_policy, problem.reward, true, *known)
    loss = theory_alignment.loss_gradient(weighted, problem.reward, true, problem.g, problem.rho)
    np.testing.assert_allclose(numeric[:, 0], objective, atol=1e-8)
    np.testing.assert_allclose(numeric[:, 1], loss, atol=1e-8)


def _relative(values: Array) -> Array:
    return (values - values[:, :1]).reshape(-1)


def test_the_hessian_of_j_at_the_optimum_is_the_covariance() -> None:
    problem, features = random_problem(3)
    theta = np.array([0.3, -0.5, 0.2, 0.1])
    true = problem.beta * features @ theta

    def objective(move: Array) -> float:
        here = at(features, problem.log_reference, theta + move, problem.beta, problem.rho)
        return theory.objective(here.log_policy, here.log_reference, true, problem.beta, problem.rho)

    e = 1e-4 * np.eye(4)
    corners = [[objective(a + b) - objective(a - b) - objective(b - a) + objective(-a - b) for b in e] for a in e]
    here = at(features, problem.log_reference, theta, problem.beta, problem.rho)
    sigma = theory_asymptotics.reward_covariance(here.log_policy, here.g, here.rho)
    np.testing.assert_allclose(-np.array(corners) / 4e-8, sigma / problem.beta, atol=1e-6)


def test_best_of_n_is_what_is_drawn() -> None:
    """With equal rewards among different responses."""
    rng = np.random.default_rng(0)
    rewards = np.array([[0.5, -1.0, 0.5, 0.0]])
    drawn = rng.choice(4, size=(200_000, 3), p=np.exp(POLICY[0]))
    values = rewards[0][drawn]
    rows = np.arange(len(drawn))
    best, worst = drawn[rows, values.argmax(axis=1)], drawn[rows, 2 - values[:, ::-1].argmin(axis=1)]
    counts = np.zeros((4, 4))
    np.add.at(counts, (best, worst), 1 / len(drawn))
    wanted = theory.best_of_n(POLICY, rewards, 3)[0]
    assert wanted.sum() == pytest.approx(1)
    assert np.abs(counts - wanted).max() < 4.5 * np.sqrt(0.25 / len(drawn))


@pytest.mark.parametrize("probes", [2, 5])
def test_the_moments_of_the_estimated_normalisers(probes: int) -> None:
    rng = np.random.default_rng(0)
    rewards = theory.implicit_reward(POLICY, REFERENCE, 0.5)[0]
    drawn = rewards[rng.choice(4, size=(200_000, probes), p=np.exp(POLICY[0]))]
    i, j = np.triu_indices(probes, 1)
    estimates = np.cosh(drawn[:, i] - drawn[:, j]).mean(axis=1)
    mean, variance = theory.probe_moments(POLICY, REFERENCE, 0.5, probes)
    assert mean[0] == pytest.approx(float(theory.both_normalisers(POLICY, REFERENCE, 0.5)[0]), rel=1e-12)
    assert abs(estimates.mean() - mean[0]) < 4.5 * estimates.std() / np.sqrt(len(estimates))
    assert estimates.var() == pytest.approx(variance[0], rel=0.03)


def test_the_frontier_has_the_best_objective_and_nothing_lies_above_it() -> None:
    problem, _ = random_problem(4)
    rewards = np.random.default_rng(1).standard_normal(problem.log_policy.shape)
    temperatures = np.geomspace(100, 0.05, 300)
    kl, reward, _ = theory.frontier(problem.log_reference, rewards, temperatures, problem.rho)
    best = theory.best_objective(problem.log_reference, rewards, 0.7, problem.rho)
    assert (reward - 0.7 * kl).max() == pytest.approx(best, abs=1e-4)
    assert (np.diff(kl) > 0).all() and (np.diff(reward) > 0).all()
    for seed in range(200):
        other = log_softmax(2 * np.random.default_rng(seed).standard_normal(rewards.shape), axis=1)
        own = theory.divergence(other, problem.log_reference, problem.rho)
        ceiling = np.interp(own, kl, reward)
        assert theory.expected_reward(other, rewards, problem.rho) <= ceiling + 1e-9


def test_a_density_that_says_nothing_about_a_direction_has_no_limit() -> None:
    problem, _ = random_problem(5, prompts=1)
    only = np.zeros((1, 5, 5))
    only[0, 0, 1] = 1
    with pytest.raises(ValueError, match="say nothing"):
        law(problem, only, only)


def test_the_frontier_is_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, features = random_problem(3)
    rewards = features @ np.array([1.0, -2.0, 0.5, 0.0])
    given = (problem.log_reference, rewards, np.geomspace(100, 0.1, 7), problem.rho)
    whole = theory.frontier(*given)
    monkeypatch.setattr(theory, "NUMBERS_AT_ONCE", 1)
    for one, other in zip(whole, theory.frontier(*given), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)  # sums of another shape round elsewhere
