"""Layers that serve one network or many at once: the same forward pass, whether weights are one network's or stacked.

Stacked weights have the fits in front: (fits, out, in) in place of (out, in). Examples of all fits then lie end to end
in the batch, (fits * n, ...), the first n those of the first fit. What has no weights (attention, activations) need not
know. A network made of these layers says so by `folds` (see training/stacks.py).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Linear(nn.Linear):
    """nn.Linear; with stacked weights one batched product."""

    def forward(self, input: Tensor) -> Tensor:
        return affine(input, self.weight, self.bias)


class LayerNorm(nn.LayerNorm):
    """nn.LayerNorm over the last dimension; with stacked weights each fit's own gain and bias."""

    def forward(self, input: Tensor) -> Tensor:
        if self.weight.dim() == 1:
            return super().forward(input)
        plain = functional.layer_norm(input, input.shape[-1:], eps=self.eps)
        return _rescaled(plain, self.weight, self.bias)


class RMSNorm(nn.RMSNorm):
    """nn.RMSNorm over the last dimension; with stacked weights each fit's own gain."""

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.dim() == 1:
            return super().forward(x)
        return _rescaled(functional.rms_norm(x, x.shape[-1:], eps=self.eps), self.weight, None)


class Embedding(nn.Embedding):
    """nn.Embedding; with stacked weights each fit's own table."""

    def forward(self, input: Tensor) -> Tensor:
        if self.weight.dim() == 2:
            return super().forward(input)
        fits, rows, width = self.weight.shape
        first = torch.arange(fits, device=input.device) * rows
        index = per_fit(input, fits) + first.view(-1, *[1] * input.dim())
        return functional.embedding(index.flatten(0, 1), self.weight.reshape(-1, width))


def affine(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """W x + b: inputs (n, ..., in), weight (out, in), bias (out,).

    Stacked: inputs (fits * n, ..., in), weight (fits, out, in), bias (fits, out).
    """
    if weight.dim() == 2:
        return functional.linear(inputs, weight, bias)
    rows = inputs.reshape(len(weight), -1, inputs.shape[-1])
    product = torch.bmm(rows, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, weight.mT)
    return product.view(*inputs.shape[:-1], -1)


def per_fit(examples: Tensor, fits: int) -> Tensor:
    """(fits * n, ...) -> (fits, n, ...)."""
    return examples.view(fits, -1, *examples.shape[1:])


def added(examples: Tensor, parameter: Tensor, own: int) -> Tensor:
    """Each example plus a parameter of `own` dimensions, or of one more in front: each fit's examples plus its own."""
    if parameter.dim() == own:
        return examples + parameter
    return (per_fit(examples, len(parameter)) + parameter.unsqueeze(1)).flatten(0, 1)


def repeated(parameter: Tensor, own: int, examples: int) -> Tensor:
    """A parameter of `own` dimensions once for each example, (examples, ...); stacked ones for each fit's examples."""
    if parameter.dim() == own:
        return parameter.expand(examples, *parameter.shape)
    fits = len(parameter)
    return parameter.unsqueeze(1).expand(fits, examples // fits, *parameter.shape[1:]).flatten(0, 1)


def _rescaled(plain: Tensor, gain: Tensor, bias: Tensor | None) -> Tensor:
    """plain (fits * n, ..., width), gain and bias (fits, width)."""
    rows = plain.view(len(gain), -1, plain.shape[-1])
    scaled = rows * gain.unsqueeze(1) if bias is None else torch.addcmul(bias.unsqueeze(1), rows, gain.unsqueeze(1))
    return scaled.view(plain.shape)
