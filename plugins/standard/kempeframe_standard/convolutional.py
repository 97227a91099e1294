"""Convolutional networks. Both have a `head`, their last layer, an nn.Linear."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kempeframe.task import CannotGive
from kempeframe_standard.models_images import Cnn, ImageModel, Norm, Resnet18
from kempeframe_standard.networks import ACTIVATIONS

NONLINEARITIES: dict[str, type[nn.Module]] = {**ACTIVATIONS, "leaky_relu": nn.LeakyReLU}
POOLINGS: dict[str, type[nn.Module]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}
HOMOGENEOUS = ("relu", "leaky_relu")  # a(c x) = c a(x) for c > 0
GROUPS = 32  # of a group norm, where the number of channels is a multiple of it


class Normalise(nn.Module):
    """(x - mean) / std, channel by channel. The constants come from the spec and are not stored."""

    mean: Tensor
    std: Tensor

    def __init__(self, settings: ImageModel, channels: int):
        super().__init__()
        for name in ("mean", "std"):
            values = getattr(settings, name)
            if len(values) not in (1, channels):
                raise CannotGive(f"{name} has {len(values)} values: expected 1 or {channels}, one for each channel")
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64)[:, None, None], persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs - self.mean) / self.std


def normaliser(settings: ImageModel, channels: int) -> nn.Module:
    """The network's first layer; the identity where there is nothing to do."""
    plain = set(settings.mean) == {0.0} and set(settings.std) == {1.0}
    return nn.Identity() if plain else Normalise(settings, channels)


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """A norm over so many channels."""
    if norm == "none":
        return nn.Identity()
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(math.gcd(channels, GROUPS), channels)


def image_shape(input_shape: Sequence[int]) -> tuple[int, int, int]:
    """Channels, height and width.

    Raises:
        CannotGive: the inputs are no images.
    """
    if len(input_shape) != 3:
        raise CannotGive(
            f"expected images of shape (channels, height, width), got inputs of shape {tuple(input_shape)}"
        )
    channels, height, width = input_shape
    return channels, height, width


class ConvolutionalNetwork(nn.Module):
    """normalise -> (convolution, norm, activation, pooling) for each of `channels` -> dense layers -> head."""

    homogeneity: int  # only where the network is positively homogeneous in its parameters

    def __init__(self, settings: Cnn, input_shape: Sequence[int], outputs: int):
        super().__init__()
        channels, height, width = image_shape(input_shape)
        self.normalise = normaliser(settings, channels)
        self.convolutions = nn.Sequential()
        for number, wider in enumerate(settings.channels, 1):
            self.convolutions.append(_convolution(settings, channels, wider))
            channels = wider
            if settings.pooling != "none":
                height, width = height // 2, width // 2
            if min(height, width) == 0:
                size = f"{input_shape[1]} x {input_shape[2]}"
                raise CannotGive(
                    f"channels has {len(settings.channels)} layers: after {number - 1} of them images of "
                    f"{size} have no two pixels left to pool"
                )
        features = [channels * height * width, *settings.hidden]
        self.dense = nn.Sequential(nn.Flatten())
        for narrow, wide in itertools.pairwise(features):
            self.dense.append(nn.Linear(narrow, wide, bias=settings.bias))
            self.dense.append(NONLINEARITIES[settings.activation]())
        self.head = nn.Linear(features[-1], outputs, bias=settings.bias)
        self._scale(settings.init_scale)
        if settings.activation in HOMOGENEOUS and not settings.bias and settings.norm == "none":
            self.homogeneity = len(settings.channels) + len(features)

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, channels, height, width) -> (n, outputs)."""
        outputs: Tensor = self.head(self.dense(self.convolutions(self.normalise(inputs))))
        return outputs

    def _scale(self, factor: float) -> None:
        if factor == 1:
            return
        with torch.no_grad():
            for layer in self.modules():
                if isinstance(layer, (nn.Conv2d, nn.Linear)):
                    for parameter in layer.parameters():
                        parameter.mul_(factor)


def _convolution(settings: Cnn, narrow: int, wide: int) -> nn.Sequential:
    layers = nn.Sequential(nn.Conv2d(narrow, wide, settings.kernel, padding=settings.kernel // 2, bias=settings.bias))
    if settings.norm != "none":
        layers.append(norm_layer(settings.norm, wide))
    layers.append(NONLINEARITIES[settings.activation]())
    if settings.pooling != "none":
        layers.append(POOLINGS[settings.pooling](2))
    return layers


class ResidualNetwork(nn.Module):
    """ResNet-18 for small images: stem, four stages of two blocks, mean over the image, head."""

    def __init__(self, settings: Resnet18, input_shape: Sequence[int], outputs: int):
        super().__init__()
        channels, height, width = image_shape(input_shape)
        if min(height, width) < 8:
            raise CannotGive(f"ResNet-18 halves images three times: {height} x {width} is below 8 x 8")
        widths = [settings.width * factor for factor in (1, 2, 4, 8)]
        self.normalise = normaliser(settings, channels)
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, padding=1, bias=False), norm_layer(settings.norm, widths[0]), nn.ReLU()
        )
        self.blocks = nn.Sequential()
        narrow = widths[0]
        for stage, wide in enumerate(widths):
            for stride in (1 if stage == 0 else 2, 1):
                self.blocks.append(ResidualBlock(narrow, wide, stride, settings.norm))
                narrow = wide
        self.head = nn.Linear(narrow, outputs)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, channels, height, width) -> (n, outputs)."""
        features: Tensor = self.blocks(self.stem(self.normalise(inputs)))
        outputs: Tensor = self.head(features.mean(dim=(2, 3)))
        return outputs


class ResidualBlock(nn.Module):
    """relu(shortcut(x) + norm(conv(relu(norm(conv(x)))))); the shortcut is the identity where the shape stays."""

    def __init__(self, narrow: int, wide: int, stride: int, norm: Norm):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(narrow, wide, 3, stride, padding=1, bias=False),
            norm_layer(norm, wide),
            nn.ReLU(),
            nn.Conv2d(wide, wide, 3, padding=1, bias=False),
            norm_layer(norm, wide),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or narrow != wide:
            self.shortcut = nn.Sequential(nn.Conv2d(narrow, wide, 1, stride, bias=False), norm_layer(norm, wide))

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, narrow, height, width) -> (n, wide, height / stride, width / stride)."""
        return torch.relu(self.shortcut(inputs) + self.inner(inputs))
