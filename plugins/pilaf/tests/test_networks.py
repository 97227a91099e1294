"""The implicit reward: DPO's loss and gradient, a reference that is not trained, and fits that come back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kempeframe_pilaf.data_pairs import Pilaf, Vanilla
from kempeframe_pilaf.models import ImplicitReward
from kempeframe_pilaf.networks import ImplicitRewardNetwork
from kempeframe_standard.optimizers_gradient import Adamw
from kempeframe_standard.training.losses import logistic
from torch.nn import functional

from kempeframe import Fit
from kempeframe.runs import Run
from kempeframe.task import CannotGive
from kempeframe.trial import Session


def text_network(session: Session, trained: Fit) -> tuple[ImplicitRewardNetwork, torch.Tensor, torch.Tensor]:
    fitted = session.fitted(trained, Run(0, session))
    batch = fitted.task.train.examples()
    assert batch.targets is not None and isinstance(fitted.network, ImplicitRewardNetwork)
    return fitted.network, batch.inputs, batch.targets


def test_logistic_loss_on_the_margin_is_dpo(session: Session, trained: Fit) -> None:
    """-log sigma(beta [(log pi(w) - log pi(l)) - (log ref(w) - log ref(l))]), token by token, and its gradient."""
    network, pairs, targets = text_network(session, trained)

    def by_hand() -> torch.Tensor:
        prompts, first, second, _ = network.space.unpacked(pairs)
        swap = (targets == 0)[:, None]
        winner, loser = torch.where(swap, second, first), torch.where(swap, first, second)
        ratios = []
        for responses in (winner, loser):
            tokens = torch.cat([prompts, responses], dim=1)
            mask = ((responses == 3).cumsum(dim=1) - (responses == 3).long()) == 0
            logs = []
            for model in (network.policy, network.reference):
                found = model(tokens[:, :-1])[:, 3:].log_softmax(dim=2)
                logs.append((found.gather(2, responses[:, :, None])[:, :, 0] * mask).sum(dim=1))
            ratios.append(logs[0] - logs[1].detach())
        return -functional.logsigmoid(network.beta * (ratios[0] - ratios[1])).mean()

    wanted = torch.autograd.grad(by_hand(), list(network.policy.parameters()))
    loss = logistic(network(pairs), targets).mean()
    found = torch.autograd.grad(loss, list(network.policy.parameters()))
    assert float(loss.detach()) == pytest.approx(float(by_hand().detach()), abs=1e-6)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.detach(), other.detach(), atol=1e-6, rtol=1e-4)


def test_swapping_a_pair_turns_its_margin(session: Session, trained: Fit) -> None:
    network, pairs, _ = text_network(session, trained)
    prompts, first, second, margin = network.space.unpacked(pairs)
    with torch.no_grad():
        swapped = network(network.space.packed(prompts, second, first, -margin))
        torch.testing.assert_close(swapped, -network(pairs), atol=1e-5, rtol=1e-5)
        ratio = network.log_ratio(prompts, first) - network.log_ratio(prompts, second)
        torch.testing.assert_close(network(pairs)[:, 0], (network.beta * ratio).float(), atol=1e-5, rtol=1e-5)


def test_the_reference_is_not_trained_not_stored_and_moves_along(session: Session, sft: Fit, trained: Fit) -> None:
    network, _, _ = text_network(session, trained)
    names = [name for name, _ in network.named_parameters()]
    assert names and all(name.startswith("policy.") for name in names)
    assert all(name.startswith("policy.") or "." not in name for name in network.state_dict())
    own = dict(session.fitted(sft, Run(0, session)).network.named_parameters())
    for name, parameter in network.reference.named_parameters():
        assert not parameter.requires_grad and torch.equal(parameter, own[name])
    assert any(not torch.equal(p, own[name]) for name, p in network.policy.named_parameters())
    network.double()
    assert next(network.reference.parameters()).dtype == torch.float64
    network.train()
    assert not network.reference.training


def test_a_stored_fit_comes_back(session: Session, trained: Fit) -> None:
    computed, pairs, _ = text_network(session, trained)
    again, _, _ = text_network(session, trained)
    assert again is not computed
    with torch.no_grad():
        assert torch.equal(computed(pairs), again(pairs))
    assert float(again.labels) == 64 and float(again.generations) == 128


def test_at_the_reference_every_margin_is_zero(session: Session, sft: Fit) -> None:
    data = Pilaf(source=sft.data, reference=sft, policy=sft, n_pairs=50)
    task = session.task(data, Run(0, session))
    network = ImplicitReward(reference=sft, beta=0.5).build(task, Run(0, session))
    with torch.no_grad():
        margins = network(task.train.examples().inputs)
    assert float(margins.abs().max()) < 1e-5


def test_pairs_of_another_space_are_refused(session: Session, trained: Fit) -> None:
    network, pairs, _ = text_network(session, trained)
    with pytest.raises(CannotGive, match=r"compares pairs \(n, 33\) int64"):
        network(pairs[:, 1:])


def test_data_and_model_must_agree_on_the_reference(session: Session, sft: Fit, trained: Fit) -> None:
    data = Vanilla(source=sft.data, reference=sft, policy=sft, n_pairs=10)
    task = session.task(data, Run(0, session))
    with pytest.raises(ValueError, match="another reference"):
        ImplicitReward(reference=trained).build(task, Run(0, session))
    with pytest.raises(ValueError, match="is for pairs"):
        ImplicitReward(reference=sft).build(session.task(sft.data, Run(0, session)), Run(0, session))


def test_a_bandits_beta_is_that_of_its_reward(session: Session, bandit: Any) -> None:
    fit = bandit(Vanilla, {})
    task = session.task(fit.data, Run(0, session))
    with pytest.raises(ValueError, match=r"the bandit's is 0\.7"):
        ImplicitReward(policy=fit.model.policy, beta=0.5).build(task, Run(0, session))


def test_training_lowers_the_loss_and_prefers_what_won(session: Session, sft: Fit, trained: Fit) -> None:
    network, pairs, targets = text_network(session, trained)
    with torch.no_grad():
        losses = logistic(network(pairs), targets)
    assert float(losses.mean()) < 0.5


def test_adam_on_a_live_stream_trains_under_mixed_precision_too(session: Session, sft: Fit) -> None:
    """Accelerate wraps the network; the stream gets the network itself."""
    data = Pilaf(source=sft.data, reference=sft)
    optimizer = Adamw(loss="logistic", steps=2, batch_size=8, mixed_precision="bf16")
    fit = Fit(data=data, model=ImplicitReward(reference=sft, beta=0.5), optimizer=optimizer)
    fitted = session.fitted(fit, Run(0, session))
    assert float(fitted.network.labels) == 16
