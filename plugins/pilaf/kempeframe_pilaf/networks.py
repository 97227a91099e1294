"""The network whose output is the DPO margin, the two policies behind it, and the log-linear policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import attrs
import torch
from torch import Tensor, nn

from kempeframe_pilaf.spaces import Space, TableSpace, at_rest, log_table


@attrs.frozen(eq=False)
class Policies:
    """A policy and its reference: all that sampling schemes look at. r = beta (log policy - log reference).

    Nothing here has gradients, and both networks are in evaluation mode while they are asked.
    """

    policy: nn.Module
    reference: nn.Module
    beta: float
    space: Space

    def sample(self, prompts: Tensor, tilt: Tensor, uniforms: Tensor) -> Tensor:
        """Responses (n, T) to prompts (n, P), tilted row by row (n,), by uniforms (n, T)."""
        with at_rest(self.policy, self.reference):
            needed = self.reference if bool((tilt != 0).any()) else None
            return self.space.sample(self.policy, needed, prompts, tilt, uniforms)

    def log_ratio(self, prompts: Tensor, responses: Tensor) -> Tensor:
        """log pi(y|x) - log ref(y|x), (n,) float64."""
        with at_rest(self.policy, self.reference):
            own = self.space.log_probabilities(self.policy, prompts, responses)
            return own.double() - self.space.log_probabilities(self.reference, prompts, responses).double()

    def reference_margin(self, prompts: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """log ref(first) - log ref(second), (n,) float64; one pass for both."""
        with at_rest(self.reference):
            twice, both = torch.cat([prompts, prompts]), torch.cat([first, second])
            scores = self.space.log_probabilities(self.reference, twice, both).double()
        return scores[: len(prompts)] - scores[len(prompts) :]

    @property
    def listed(self) -> bool:
        """Whether the normalisers can be computed."""
        return isinstance(self.space, TableSpace)

    def log_normalisers(self, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """log Z+ and log Z- of the prompts, (n,) each; only where responses can be listed."""
        with at_rest(self.policy, self.reference):
            policy, reference = log_table(self.policy).double(), log_table(self.reference).double()
        reward = self.beta * (policy - reference)
        rows = prompts[:, 0]
        return (policy + reward).logsumexp(dim=1)[rows], (policy - reward).logsumexp(dim=1)[rows]


COUNTED = ("labels", "generations", "equal_pairs")


class ImplicitRewardNetwork(nn.Module):
    """Pairs (n, P + 2 T + 1) -> margins beta (log-ratio of the first - log-ratio of the second), (n, 1).

    Logistic loss on it is DPO (Rafailov et al., 2023). The reference is held outside of parameters and state: it is
    not trained, not stored with the fit, not wrapped by Accelerate, but moves with the network. `labels`,
    `generations` and `equal_pairs` count what the training stream has drawn.
    """

    labels: Tensor
    generations: Tensor
    equal_pairs: Tensor

    def __init__(self, policy: nn.Module, reference: nn.Module, beta: float, space: Space):
        super().__init__()
        self.policy, self.beta, self.space = policy, beta, space
        self._reference = (reference.requires_grad_(False).eval(),)
        for name in COUNTED:
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    @property
    def reference(self) -> nn.Module:
        """The policy that training is kept near to."""
        return self._reference[0]

    @property
    def policies(self) -> Policies:
        """What sampling schemes look at."""
        return Policies(self.policy, self.reference, self.beta, self.space)

    def sample(self, prompts: Tensor, tilt: Tensor, uniforms: Tensor) -> Tensor:
        """See `Policies.sample`."""
        return self.policies.sample(prompts, tilt, uniforms)

    def log_ratio(self, prompts: Tensor, responses: Tensor) -> Tensor:
        """See `Policies.log_ratio`."""
        return self.policies.log_ratio(prompts, responses)

    def forward(self, pairs: Tensor) -> Tensor:
        prompts, first, second, reference_margin = self.space.unpacked(pairs)
        twice, both = torch.cat([prompts, prompts]), torch.cat([first, second])
        scores = self.space.log_probabilities(self.policy, twice, both)
        margins = scores[: len(pairs)] - scores[len(pairs) :] - reference_margin.to(scores)
        return self.beta * (margins if self.policies.listed else margins.float())[:, None]

    def count(self, labels: float, generations: float, equal_pairs: float, *, add: bool) -> None:
        """Note what was drawn for training: in all, or besides what is noted."""
        for name, value in zip(COUNTED, (labels, generations, equal_pairs), strict=True):
            buffer = getattr(self, name)
            buffer.copy_(buffer * add + value)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._reference[0]._apply(fn)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]


def policy_of(network: nn.Module) -> nn.Module:
    """A fit stands for the policy that it trained: of an implicit reward, or the network itself."""
    return network.policy if isinstance(network, ImplicitRewardNetwork) else network


class LogLinearPolicy(nn.Module):
    """log pi(y|x) = log_softmax over y of log ref(y|x) + phi(x, y) . theta; theta (d,) is trained."""

    features: Tensor
    log_reference: Tensor

    def __init__(self, features: Any, log_reference: Any, theta: Any):
        super().__init__()
        self.register_buffer("features", torch.as_tensor(features), persistent=False)
        self.register_buffer("log_reference", torch.as_tensor(log_reference), persistent=False)
        self.theta = nn.Parameter(torch.as_tensor(theta).clone())

    def log_table(self) -> Tensor:
        """(X, K)."""
        return (self.log_reference + self.features @ self.theta).log_softmax(dim=1)

    def forward(self, prompts: Tensor) -> Tensor:
        """Log-probabilities of all responses: (n, 1) -> (n, K)."""
        return self.log_table()[prompts[:, 0]]


class TablePolicy(nn.Module):
    """A policy given by its log-probabilities, (X, K); nothing to train."""

    table: Tensor

    def __init__(self, table: Any):
        super().__init__()
        self.register_buffer("table", torch.as_tensor(table), persistent=False)

    def log_table(self) -> Tensor:
        """(X, K)."""
        return self.table

    def forward(self, prompts: Tensor) -> Tensor:
        """Log-probabilities of all responses: (n, 1) -> (n, K)."""
        return self.table[prompts[:, 0]]
