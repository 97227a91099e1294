"""Networks that models build: one with a prior on its parameters, and variational families round one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from kempeframe.task import CannotGive
from kempeframe_attacking_bayes.forward import flattened, forward_many, unflattened
from kempeframe_attacking_bayes.stacked import Link, StackedNetwork
from kempeframe_attacking_bayes.theory_predictive import log_mean_softmax, log_softmax

if TYPE_CHECKING:
    from kempeframe.runs import Run

N = TypeVar("N")


class BayesianNetwork(StackedNetwork):
    """A network with the prior N(0, prior_std^2) on each of its parameters; a stack of one, whose parameters train.

    `remake(run)` builds another one of the same model, initialised from that run's streams.
    """

    def __init__(self, network: nn.Module, prior_std: float, link: Link, remake: Callable[[Run], BayesianNetwork]):
        super().__init__()
        self.network, self.prior_std, self.link, self.remake = network, prior_std, link, remake

    @property
    def samples_held(self) -> int:
        return 1

    def logits_per_sample(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.network(inputs)
        return outputs[None]

    def subset(self, index: Tensor) -> StackedNetwork:
        return self

    def effective_weight(self) -> Tensor:
        """Of a network that is linear in its inputs, for exact attacks and theory.

        Raises:
            CannotGive: it is none.
        """
        found: Any = getattr(self.network, "effective_weight", None)
        if found is None:
            raise CannotGive(f"{type(self.network).__name__} is not linear in its inputs")
        weight: Tensor = found()
        return weight


def bayesian(network: nn.Module, who: str) -> BayesianNetwork:
    """The network, if it has a prior.

    Raises:
        CannotGive: it has none.
    """
    if not isinstance(network, BayesianNetwork):
        raise CannotGive(
            f'{who} needs a prior: write [model] use = "attacking_bayes.bayesian", model = {{ use = ... }}; '
            f"got a {type(network).__name__}"
        )
    return network


class VariationalNetwork(StackedNetwork):
    """q = N(mean, diag softplus(rho)^2) over all parameters.

    In training the output is the mean over drawn samples of their log-probabilities, whose right entry is the expected
    log-likelihood: draws come in antithetic pairs, so that the mean's gradient has no first-order noise. In evaluation
    it is the network at the mean.
    """

    def __init__(self, network: nn.Module, rho: float, draws: int, link: Link):
        super().__init__()
        start = flattened(network)
        self.mean, self.rho = nn.Parameter(start.clone()), nn.Parameter(torch.full_like(start, rho))
        self.held = [network.eval().requires_grad_(False)]  # in a list: no part of the state
        self.draws, self.link = draws, link

    @property
    def deviation(self) -> Tensor:
        """Standard deviations (d,)."""
        return nn.functional.softplus(self.rho)

    def flat(self, noise: Tensor) -> Tensor:
        """Parameter vectors (S, d) of standard normal noise (S, d)."""
        return self.mean + self.deviation * noise

    def logits_of(self, flat: Tensor, inputs: Tensor) -> Tensor:
        """(S, n, outputs) of parameter vectors (S, d)."""
        return forward_many(self.held[0], unflattened(self.held[0], flat), inputs)

    def logits_per_sample(self, inputs: Tensor) -> Tensor:
        return self.logits_of(self.mean[None], inputs)

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return super().forward(inputs)
        logits = self.logits_of(self.flat(antithetic(self.draws, self.mean)), inputs)
        return mean_log_likelihoods(logits, self.link)


class LastLayerNetwork(StackedNetwork):
    """Deterministic features, and q_k = N(mean_k, diag softplus(rho_k)^2) over the last layer of each output k.

    The means are the network's own parameters. Forward as in `VariationalNetwork`.
    """

    def __init__(self, network: nn.Module, rho: float, draws: int, link: Link):
        super().__init__()
        self.network, self.draws, self.link = network.train(), draws, link
        self.name, self.last = last_layer(network)
        shape = (self.last.out_features, self.last.in_features + (self.last.bias is not None))
        self.rho = nn.Parameter(torch.full(shape, rho, dtype=self.last.weight.dtype))
        self.seen: list[Tensor] = []
        self.last.register_forward_pre_hook(lambda module, given: self.seen.append(given[0]))

    @property
    def deviation(self) -> Tensor:
        """(outputs, features)."""
        return nn.functional.softplus(self.rho)

    @property
    def mean(self) -> Tensor:
        """(outputs, features): the last layer's weights, and its biases as those of a feature that is 1."""
        weight, bias = self.last.weight, self.last.bias
        return weight if bias is None else torch.cat([weight, bias[:, None]], dim=1)

    def features(self, inputs: Tensor) -> Tensor:
        """What the last layer sees, and 1 for its bias, (n, features)."""
        self.seen.clear()
        self.network(inputs)
        features = self.seen.pop() * float(getattr(self.last, "scale", 1.0))
        ones = features.new_ones(len(features), 1)
        return features if self.last.bias is None else torch.cat([features, ones], dim=1)

    def logits_per_sample(self, inputs: Tensor) -> Tensor:
        return (self.features(inputs) @ self.mean.T)[None]

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return super().forward(inputs)
        features = self.features(inputs)
        noise = antithetic(self.draws, self.rho.reshape(-1)).view(self.draws, *self.rho.shape)
        return mean_log_likelihoods(features @ (self.mean + self.deviation * noise).mT, self.link)


def mean_log_likelihoods(logits: Tensor, link: Link) -> Tensor:
    """mean_s log p_s(x), (n, classes), whose right entry is minus the expected loss; a single draw as it is."""
    if len(logits) == 1:
        return log_mean_softmax(logits) if link == "log_mean_softmax" else logits[0]
    return log_softmax(logits).mean(dim=0)


def antithetic(draws: int, like: Tensor) -> Tensor:
    """Standard normal (draws, d) from torch's global generator: the second half is minus the first."""
    half = torch.randn((draws + 1) // 2, len(like), dtype=like.dtype, device=like.device)
    return torch.cat([half, -half])[:draws]


def last_layer(network: nn.Module) -> tuple[str, nn.Linear]:
    """The dense layer that gives the network's outputs, with its name: the last one that it has.

    Raises:
        CannotGive: it has none.
    """
    found = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not found:
        raise CannotGive(f"{type(network).__name__} has no dense last layer")
    return found[-1]
