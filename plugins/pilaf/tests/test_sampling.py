"""Sampling schemes: what is drawn has the density that the theory says, whatever the batches are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from kempeframe_pilaf import data_pairs
from kempeframe_pilaf.networks import Policies
from kempeframe_pilaf.pairs import FrozenPairs, labelled_pairs, won
from kempeframe_pilaf.problems import fitted_problem
from kempeframe_pilaf.spaces import TextSpace, TiltedNetwork
from kempeframe_standard.decoder import DecoderNetwork
from kempeframe_standard.generation import generate

from kempeframe import Fit
from kempeframe.runs import Run
from kempeframe.trial import Session

SCHEMES = [
    (data_pairs.Vanilla, {}),
    (data_pairs.Hybrid, {}),
    (data_pairs.PlusMinus, {}),
    (data_pairs.Pilaf, {"branch_probability": 0.3}),
    (data_pairs.TPilaf, {}),
    (data_pairs.TPilaf, {"prompt_weight": True}),
    (data_pairs.EstimatedPilaf, {"n_probes": 2}),
    (data_pairs.EstimatedPilaf, {"n_probes": 4}),
    (data_pairs.BestOfN, {"n_candidates": 3}),
    (data_pairs.Uniform, {}),
    (data_pairs.OptimalDesign, {}),
]


@pytest.mark.parametrize(("scheme", "settings"), SCHEMES, ids=lambda v: getattr(v, "__name__", str(v)))
def test_pairs_have_the_density_and_the_weights_of_the_theory(
    session: Session, bandit: Any, scheme: Any, settings: Any
) -> None:
    """E[w 1(a, b)] and E[w^2 1(a, b)] within sampling error, prompt by prompt."""
    fit = bandit(scheme, settings)
    fitted = session.fitted(fit, Run(1, session))
    network, world = fitted.network, fitted.task.truth
    count = 60_000
    pairs = FrozenPairs.draw(fit.data, world, network.policies, 3, count)
    prompts, first, second, _ = world.space.unpacked(pairs.inputs)
    problem = fitted_problem(network, world.rho)
    # The optimal design draws by the truth, whatever the network is.
    fixed = scheme is data_pairs.OptimalDesign
    moments = (world.optimal_design.density,) * 2 if fixed else fit.data.measure(problem)
    weights = torch.ones(count, dtype=torch.float64) if pairs.weights is None else pairs.weights
    if pairs.weights is not None:
        weights = weights / problem.mean_sum
    for power, moment in enumerate(moments, start=1):
        cells = np.zeros((2, *moment.shape))
        place = (prompts[:, 0].numpy(), first[:, 0].numpy(), second[:, 0].numpy())
        value = (weights**power).numpy() / count
        np.add.at(cells[0], place, value)
        np.add.at(cells[1], place, value**2)
        expected = moment * world.rho[:, None, None]
        error = np.sqrt(cells[1] + expected * value.max())  # the second for cells that are hardly ever hit
        assert np.abs(cells[0] - expected).max() < 4.5 * error.max()
        assert (np.abs(cells[0] - expected) <= 5 * error + 1e-12).all()


def test_the_target_is_one_as_often_as_the_rewards_say(session: Session, bandit: Any) -> None:
    fit = bandit(data_pairs.Vanilla, {}, reward_scale=2.0)
    fitted = session.fitted(fit, Run(1, session))
    world = fitted.task.truth
    pairs = FrozenPairs.draw(fit.data, world, fitted.network.policies, 3, 40_000)
    prompts, first, second, _ = world.space.unpacked(pairs.inputs)
    p = torch.sigmoid(world.reward(prompts, first) - world.reward(prompts, second))
    z = (pairs.targets - p).sum() / (p * (1 - p)).sum().sqrt()
    assert abs(float(z)) < 4
    assert float((p * (1 - p)).mean()) < 0.24


def test_labels_by_the_larger_reward_toss_a_coin_for_ties() -> None:
    difference = torch.tensor([1.0, -1.0, 0.0, 0.0])
    assert won(difference, torch.tensor([0.9, 0.1, 0.4, 0.6]), "argmax").tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(("scheme", "settings"), SCHEMES, ids=lambda v: getattr(v, "__name__", str(v)))
def test_a_pair_does_not_depend_on_its_batch(session: Session, bandit: Any, scheme: Any, settings: Any) -> None:
    fit = bandit(scheme, settings)
    fitted = session.fitted(fit, Run(1, session))
    args = fit.data, fitted.task.truth, fitted.network.policies, 3
    whole, _ = labelled_pairs(*args, torch.arange(64))
    parts = [labelled_pairs(*args, index)[0] for index in (torch.arange(10), torch.arange(10, 64))]
    assert torch.equal(whole.inputs, torch.cat([part.inputs for part in parts]))
    assert whole.targets is not None and torch.equal(whole.targets[:10], parts[0].targets)


TEXT = [s for s in SCHEMES if not s[0].needs_list]


@pytest.mark.parametrize(("scheme", "settings"), TEXT, ids=lambda v: getattr(v, "__name__", str(v)))
def test_text_does_not_depend_on_its_batch_either(
    session: Session, sft: Fit, trained: Fit, scheme: Any, settings: Any
) -> None:
    network = session.fitted(trained, Run(0, session)).network
    data = scheme(source=trained.data.source, reference=sft, **settings)
    world = session.task(data, Run(0, session)).truth
    whole, counts = labelled_pairs(data, world, network.policies, 5, torch.arange(48))
    parts = [labelled_pairs(data, world, network.policies, 5, torch.arange(48)[i::3])[0] for i in range(3)]
    for i, part in enumerate(parts):
        assert torch.equal(whole.inputs[i::3, :-1], part.inputs[:, :-1])  # the last column rounds
    assert counts.labels == 48


def test_generations_are_counted_as_table_1_counts_them(session: Session, bandit: Any) -> None:
    wanted = {data_pairs.Vanilla: 2, data_pairs.Hybrid: 2, data_pairs.PlusMinus: 4, data_pairs.Uniform: 0}
    for scheme, number in wanted.items():
        fitted = session.fitted(bandit(scheme, {}), Run(1, session))
        _, counts = labelled_pairs(fitted.data, fitted.task.truth, fitted.network.policies, 0, torch.arange(100))
        assert counts.generations == 100 * number
    for settings, number in (({}, 3.0), ({"branch_probability": 0.0}, 2.0), ({"branch_probability": 1.0}, 4.0)):
        fitted = session.fitted(bandit(data_pairs.Pilaf, settings), Run(1, session))
        _, counts = labelled_pairs(fitted.data, fitted.task.truth, fitted.network.policies, 0, torch.arange(10_000))
        assert abs(counts.generations / 10_000 - number) <= 4 * 2 * 0.5 / 100
    fitted = session.fitted(bandit(data_pairs.BestOfN, {}), Run(1, session))
    _, counts = labelled_pairs(fitted.data, fitted.task.truth, fitted.network.policies, 0, torch.arange(100))
    assert counts.generations == 800


# ---- tilted text ---------------------------------------------------------------------------------------------------


def test_a_tilted_token_has_the_probabilities_of_the_formula(fixed_logits: Any) -> None:
    """One token, beta = 0.5, h = [2, 0, -1], h_ref = [1, 1, -1] (brief, W4)."""
    policy, reference = fixed_logits([2.0, 0.0, -1.0]), fixed_logits([1.0, 1.0, -1.0])
    space = TextSpace(prompt_length=2, response_length=1, pad=9, end=8)
    n = 100_000
    uniforms = torch.rand(n, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = {
        0.5: [0.92593926, 0.0460998, 0.02796094],
        -0.5: [0.68967209, 0.25371618, 0.05661173],
        0.0: torch.tensor([2.0, 0.0, -1.0]).softmax(0).tolist(),
        -1.0: torch.tensor([1.0, 1.0, -1.0]).softmax(0).tolist(),
    }
    for tilt, probabilities in wanted.items():
        policies = Policies(policy, reference, 0.5, space)
        tokens = policies.sample(torch.zeros(n, 2, dtype=torch.int64), torch.full((n,), tilt), uniforms)[:, 0]
        found = torch.bincount(tokens, minlength=3) / n
        assert float((found - torch.tensor(probabilities)).abs().max()) < 4.5 * 0.5 / n**0.5


def test_each_network_runs_on_the_rows_that_need_it(fixed_logits: Any) -> None:
    policy, reference = fixed_logits([0.0, 0.0, 0.0]), fixed_logits([0.0, 0.0, 0.0])
    tilt = torch.tensor([0.0, 0.5, -0.5, -1.0, 0.0])
    network = TiltedNetwork(policy, reference, tilt)
    generate(network, torch.zeros(5, 2, dtype=torch.int64), steps=4, uniforms=torch.rand(5, 4).double())
    assert (policy.rows, reference.rows) == (4 * 4, 3 * 4)


def test_sharing_uniforms_couples_the_schemes(session: Session, sft: Fit, trained: Fit) -> None:
    """The policy and its tilt say the same until their distributions part."""
    network = session.fitted(trained, Run(0, session)).network
    world = session.task(trained.data, Run(0, session)).truth
    prompts = world.train_prompts[torch.arange(240) % 24]
    uniforms = torch.rand(2, 240, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain = network.sample(prompts, torch.zeros(240), uniforms[0])
    tilted = network.sample(prompts, torch.full((240,), 0.01), uniforms[0])
    other = network.sample(prompts, torch.zeros(240), uniforms[1])
    assert (plain == tilted).all(dim=1).double().mean() > 0.5
    assert (plain == other).all(dim=1).double().mean() < 0.1


def test_what_is_sampled_is_scored_by_the_same_policy(session: Session, trained: Fit) -> None:
    """With the cache and without it; prompts of different lengths."""
    network = session.fitted(trained, Run(0, session)).network
    policy = network.policy
    assert isinstance(policy, DecoderNetwork)
    space = TextSpace(prompt_length=5, response_length=9, pad=0, end=3)
    prompts = torch.tensor([[1, 4, 7, 2, 0], [1, 5, 8, 2, 9], [1, 6, 0, 0, 0]])
    uniforms = torch.rand(3, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    written = generate(
        policy, prompts, space.lengths(prompts), steps=9, uniforms=uniforms, stop_token=3, log_probabilities=True
    )
    with torch.no_grad():
        scored = space.log_probabilities(policy, prompts, written.responses)
    assert written.log_probabilities is not None
    torch.testing.assert_close(scored, written.log_probabilities.double().sum(dim=1), atol=2e-5, rtol=1e-5)


def test_the_end_belongs_to_the_response_and_nothing_behind_it() -> None:
    space = TextSpace(prompt_length=2, response_length=4, pad=0, end=3)
    responses = torch.tensor([[5, 3, 3, 5], [3, 0, 0, 0], [5, 6, 7, 8]])
    assert space.mask(responses).tolist() == [[True, True, False, False], [True, False, False, False], [True] * 4]
    assert space.ended(responses).tolist() == [True, True, False]
    inputs, targets = space.imitated(torch.tensor([[1, 0], [1, 2], [1, 2]]), responses)
    assert inputs[0].tolist() == [1, 5, 3, 3, 5] and targets[0].tolist() == [5, 3, -100, -100, -100]
    assert targets[1].tolist() == [-100, 3, -100, -100, -100]
    assert targets[2].tolist() == [-100, 5, 6, 7, 8]


def test_token_wise_tilts_are_nearer_to_those_of_whole_responses_the_smaller_they_are(
    session: Session, trained: Fit
) -> None:
    """PILAF for T-PILAF (C11), by importance weights: their mean is the normaliser, which responses of pi give too.

    This policy is far from its reference: total variation 0.18 and 0.76 at tilts 0.1 and 0.5.
    """
    network = session.fitted(trained, Run(0, session)).network
    policies, space, n = network.policies, network.space, 3000
    prompts = session.task(trained.data, Run(0, session)).truth.train_prompts[:1].expand(n, -1)

    def drawn(c: float) -> tuple[torch.Tensor, torch.Tensor]:
        """log pi - log ref, and log pi^(1+c) ref^(-c) - log q, of responses of the token-wise tilt q: (n,) each."""
        uniforms = torch.rand(n, space.response_length, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        responses = policies.sample(prompts, torch.full((n,), c), uniforms)
        with torch.no_grad():
            own, mask = space.response_logits(policies.policy, prompts, responses)
            other, _ = space.response_logits(policies.reference, prompts, responses)
        tokens = responses[:, : mask.shape[1], None]
        parts = (logits.double().log_softmax(dim=2) for logits in (own, other, (1 + c) * own - c * other))
        policy, reference, tilted = ((part.gather(2, tokens)[:, :, 0] * mask).sum(dim=1) for part in parts)
        return policy - reference, (1 + c) * policy - c * reference - tilted

    distances = {}
    plain, none = drawn(0.0)
    assert float(none.abs().max()) < 1e-5
    for c in (-0.5, -0.1, 0.1, 0.5):
        weights = drawn(c)[1].exp()
        distances[c] = float((weights / weights.mean() - 1).abs().mean()) / 2
        normalisers = (c * plain).exp()
        error = ((weights.var() + normalisers.var()) / n).sqrt()
        assert abs(float(weights.mean() - normalisers.mean())) < 4.5 * float(error)
    assert 0 < distances[0.1] < distances[0.5] / 2 and 0 < distances[-0.1] < distances[-0.5] / 2
