"""The likelihood of many perceptrons and its gradient, by hand: half of autograd's time, which is most of HMC's."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from kempeframe_standard.networks import ScaledLinear
from torch import Tensor, nn

Activation = tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]


def tanh_(values: Tensor) -> Tensor:
    """tanh in place, as 2 sigmoid(2 a) - 1: a quarter of torch's time, and right to the last digits of 1."""
    return values.mul_(2).sigmoid_().mul_(2).sub_(1)


def tanh_backward(gradient: Tensor, outputs: Tensor) -> Tensor:
    """gradient (1 - outputs^2)."""
    found: Tensor = torch.ops.aten.tanh_backward(gradient, outputs)
    return found


def relu_backward(gradient: Tensor, outputs: Tensor) -> Tensor:
    """gradient where outputs > 0."""
    found: Tensor = torch.ops.aten.threshold_backward(gradient, outputs, 0)
    return found


ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.Tanh: (tanh_, tanh_backward),
    nn.ReLU: (torch.relu_, relu_backward),
}


@attrs.frozen
class Layer:
    """scale W a + b of the activations before, then an activation; none after the last layer."""

    wide: int
    narrow: int
    bias: bool
    scale: float
    activation: Activation | None


class PerceptronLikelihood:
    """sum_i CE(f_q(x_i), y_i) of perceptrons with flat parameters q (chains, d), and its gradient in q.

    Everything is (chains, units, n): examples last, so that no operation goes along a short dimension.
    """

    def __init__(self, layers: list[Layer], inputs: Tensor, targets: Tensor):
        self.layers = layers
        self.inputs = inputs.flatten(1)  # (n, narrow)
        self.transposed = self.inputs.T.contiguous()
        self.right = targets[None]
        self.one_hot = nn.functional.one_hot(targets, layers[-1].wide).T.to(inputs).contiguous()
        self.sizes = [size for layer in layers for size in _sizes(layer)]

    @classmethod
    def of(cls, network: nn.Module, inputs: Tensor, targets: Tensor) -> PerceptronLikelihood | None:
        """For a network and its training examples; None where it is another one, or the loss is."""
        layers = _layers(network)
        if layers is None or targets.is_floating_point() or layers[-1].wide == 1:
            return None
        return cls(layers, inputs, targets)

    def __call__(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """(chains,) float64, and (chains, d)."""
        weights, biases = self._unpacked(position)
        outputs = self._forward(weights, biases)
        logs = outputs[-1].log_softmax(dim=1)
        chains = len(position)
        right = logs.gather(1, self.right.expand(chains, 1, -1))
        signal = logs.exp_().sub_(self.one_hot)
        return -right.sum(dim=(1, 2), dtype=torch.float64), self._backward(signal, weights, outputs)

    def gradient(self, position: Tensor) -> Tensor:
        """The gradient alone, (chains, d): most steps of a trajectory need no more."""
        weights, biases = self._unpacked(position)
        outputs = self._forward(weights, biases)
        return self._backward(outputs[-1].softmax(dim=1).sub_(self.one_hot), weights, outputs)

    def _unpacked(self, position: Tensor) -> tuple[list[Tensor], list[Tensor | None]]:
        parts = iter(torch.split(position, self.sizes, dim=1))
        weights: list[Tensor] = []
        biases: list[Tensor | None] = []
        for layer in self.layers:
            weight = next(parts).reshape(len(position), layer.wide, layer.narrow)
            weights.append(weight if layer.scale == 1 else weight * layer.scale)
            biases.append(next(parts).unsqueeze(2) if layer.bias else None)
        return weights, biases

    def _forward(self, weights: list[Tensor], biases: list[Tensor | None]) -> list[Tensor]:
        """Each layer's outputs, (chains, wide, n)."""
        found: list[Tensor] = []
        for layer, weight, bias in zip(self.layers, weights, biases, strict=True):
            if not found:  # all chains see the same inputs: one matrix product
                values = (weight.reshape(-1, layer.narrow) @ self.transposed).view(len(weight), layer.wide, -1)
                values = values if bias is None else values.add_(bias)
            elif bias is None:
                values = torch.bmm(weight, found[-1])
            else:
                values = torch.baddbmm(bias, weight, found[-1])
            found.append(layer.activation[0](values) if layer.activation else values)
        return found

    def _backward(self, signal: Tensor, weights: list[Tensor], outputs: list[Tensor]) -> Tensor:
        """From the gradient in the last layer's outputs, (chains, wide, n)."""
        parts: list[Tensor] = []
        for number in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[number]
            if layer.bias:
                parts.append(signal.sum(dim=2))
            if number:
                gradient = torch.bmm(signal, outputs[number - 1].mT)
                below = self.layers[number - 1].activation
                assert below is not None
                signal_below = below[1](torch.bmm(weights[number].mT, signal), outputs[number - 1])
            else:
                gradient = signal.reshape(-1, signal.shape[2]) @ self.inputs
                signal_below = signal
            parts.append((gradient if layer.scale == 1 else gradient * layer.scale).reshape(len(signal), -1))
            signal = signal_below
        return torch.cat(parts[::-1], dim=1)


def _sizes(layer: Layer) -> list[int]:
    return [layer.wide * layer.narrow, *([layer.wide] if layer.bias else [])]


def _layers(network: nn.Module) -> list[Layer] | None:
    """The layers of a perceptron in order; None where it has others, or two activations in a row."""
    if not isinstance(network, nn.Sequential):
        return None
    found: list[Layer] = []
    for module in network:
        if isinstance(module, nn.Flatten) and not found:
            continue
        plain = isinstance(module, nn.Linear) and type(module) in (nn.Linear, ScaledLinear)
        if isinstance(module, nn.Linear) and plain and (not found or found[-1].activation):
            scale = float(getattr(module, "scale", 1.0))
            wide, narrow = module.out_features, module.in_features
            found.append(Layer(wide, narrow, module.bias is not None, scale, None))
        elif type(module) in ACTIVATIONS and found and not found[-1].activation:
            found[-1] = attrs.evolve(found[-1], activation=ACTIVATIONS[type(module)])
        else:
            return None
    return found if found and found[-1].activation is None else None
