"""A posterior as a network: a stack of weights whose forward pass is the log of the mean predictive probability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kempeframe_attacking_bayes.forward import Weights, forward_many, unflattened
from kempeframe_attacking_bayes.theory_predictive import log_mean_softmax

Link = Literal["log_mean_softmax", "mean"]


class StackedNetwork(nn.Module):
    """What looks at single samples of a posterior asks for this. Any network is one, of one sample: see `stacked`.

    `link` says how outputs of samples become one: the log of the mean predictive probability, or, in regression, the
    mean.
    """

    link: Link = "log_mean_softmax"

    @property
    def samples_held(self) -> int:
        """Number S of samples."""
        raise NotImplementedError

    def logits_per_sample(self, inputs: Tensor) -> Tensor:
        """(n, ...) -> (S, n, outputs)."""
        raise NotImplementedError

    def subset(self, index: Tensor) -> StackedNetwork:
        """The posterior of these samples alone; index: int64."""
        raise NotImplementedError

    def tempered(self, temperature: float) -> StackedNetwork:
        """The same with every sample's logits divided by a temperature."""
        return Tempered(self, temperature)

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, outputs): log-probabilities of classes, normalised; log-odds (n, 1) of two; the mean in regression."""
        logits = self.logits_per_sample(inputs)
        return log_mean_softmax(logits) if self.link == "log_mean_softmax" else logits.mean(dim=0)


def stacked(network: nn.Module) -> StackedNetwork:
    """The network as a stack: itself, or an ordinary one as a stack of one."""
    return network if isinstance(network, StackedNetwork) else SingleNetwork(network)


class SingleNetwork(StackedNetwork):
    """An ordinary classifier as a stack of one."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.train(network.training)

    @property
    def samples_held(self) -> int:
        return 1

    def logits_per_sample(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.network(inputs)
        return outputs[None]

    def subset(self, index: Tensor) -> StackedNetwork:
        return self


class Tempered(StackedNetwork):
    """softmax(z / temperature) of each sample: one net keeps its labels, a mean predictive may change some."""

    def __init__(self, network: StackedNetwork, temperature: float):
        super().__init__()
        self.network, self.temperature, self.link = network, temperature, network.link
        self.train(network.training)

    @property
    def samples_held(self) -> int:
        return self.network.samples_held

    def logits_per_sample(self, inputs: Tensor) -> Tensor:
        return self.network.logits_per_sample(inputs) / self.temperature

    def subset(self, index: Tensor) -> StackedNetwork:
        return Tempered(self.network.subset(index), self.temperature)


class PosteriorNetwork(StackedNetwork):
    """S samples of a network's parameters, as flat vectors. They are not trained further: they are buffers.

    samples: (S, d), parameters in the order of `network.named_parameters()`; chains of a sampler one after the other.
    diagnostics: what the optimizer found out on the way, as named tensors; stored with the samples.
    """

    samples: Tensor

    def __init__(
        self,
        network: nn.Module,
        samples: Tensor,
        diagnostics: Mapping[str, Tensor] | None = None,
        link: Link = "log_mean_softmax",
    ):
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.register_buffer("samples", samples.detach())
        self.diagnostics = nn.Module()
        for name, value in (diagnostics or {}).items():
            self.diagnostics.register_buffer(name, value.detach())
        self.link = link
        self._held: Weights | None = None

    @classmethod
    def restored(cls, network: nn.Module, state: Mapping[str, Tensor], link: Link) -> PosteriorNetwork:
        """From a stored state and a fresh network of one sample."""
        named = [name for name in state if name.startswith("diagnostics.")]
        made = cls(network, state["samples"], {n.removeprefix("diagnostics."): state[n] for n in named}, link)
        made.load_state_dict(dict(state))
        return made

    @property
    def samples_held(self) -> int:
        return len(self.samples)

    @property
    def weights(self) -> Weights:
        """name -> (S, ...), each in one piece of memory."""
        if self._held is None:
            parts = unflattened(self.network, self.samples)
            self._held = {name: part.contiguous() for name, part in parts.items()}
        return self._held

    def logits_per_sample(self, inputs: Tensor) -> Tensor:
        return forward_many(self.network, self.weights, inputs)

    def subset(self, index: Tensor) -> StackedNetwork:
        some = PosteriorNetwork(self.network, self.samples[index.to(self.samples.device)], link=self.link)
        return some.train(self.training)

    def diagnostic(self, name: str) -> Tensor | None:
        """One of the optimizer's diagnostics, if it left that."""
        found = getattr(self.diagnostics, name, None)
        return found if isinstance(found, Tensor) else None

    def train(self, mode: bool = True) -> PosteriorNetwork:
        """The network inside stays in evaluation mode: its masks are among the samples."""
        super().train(mode)
        self.network.eval()
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> PosteriorNetwork:
        self._held = None  # on another device, or of another type
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        self._held = None
        return super().load_state_dict(*args, **kwargs)


def chains_of(network: PosteriorNetwork) -> int | None:
    """Number of chains that its samples come from, where they come from chains."""
    acceptance = network.diagnostic("acceptance")
    return None if acceptance is None else len(acceptance)


def draw(count: int, of: int, generator: torch.Generator) -> Tensor:
    """`count` of `of` samples without replacement (all, if there are no more), as an index."""
    return torch.randperm(of, generator=generator)[:count]
