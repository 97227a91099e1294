"""Models for images: a small convolutional network, and ResNet-18 for images of 32 x 32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kempeframe import Model, component, field

if TYPE_CHECKING:
    from torch import nn

    from kempeframe.runs import Run
    from kempeframe.task import Task

Norm = Literal["none", "group", "batch"]
NORM = (
    '"group": over groups of channels, example by example; "batch": over the batch, which makes a result depend on the '
    "number of processes (each normalises its own share of a batch) and on what else is in the batch"
)


@component
class ImageModel(Model):
    """What the networks for images share.

    Normalisation of pixels belongs to the network, so that an attack's epsilon and the task's box mean pixels as they
    are. Its constants stand in the spec and not in the training split: a stored network is then loaded without that
    split, and two networks trained on different images are the same function at the start.
    """

    mean: tuple[float, ...] = field((0.0,), "subtracted from the pixels; one number, or one for each channel")
    std: tuple[float, ...] = field((1.0,), "what they are then divided by; one number, or one for each channel", gt=0)


@component
class Cnn(ImageModel):
    """A small convolutional network: convolutions, each with its activation and pooling, then dense layers.

    Convolutions keep height and width ("same" padding), pooling halves them. Without biases and norms, and with an
    activation that is positively homogeneous, the network is so in its parameters: `homogeneity` is the number of its
    layers.
    """

    channels: tuple[int, ...] = field((16, 32), "output channels of each convolution", ge=1)
    kernel: int = field(3, "height and width of the kernels, an odd number of pixels", ge=1)
    pooling: Literal["max", "average", "none"] = field("max", "over 2 x 2 pixels, after each convolution")
    hidden: tuple[int, ...] = field((), "widths of the dense layers before the last one", ge=1)
    activation: Literal["relu", "leaky_relu", "tanh", "gelu"] = field("relu", "after each layer but the last")
    norm: Norm = field("none", f"between convolution and activation; {NORM}")
    bias: bool = field(True, "whether the layers have biases")
    init_scale: float = field(1.0, "what all initial weights and biases are multiplied by", ge=0)

    def __attrs_post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel = {self.kernel}: expected an odd number")
        if not self.channels:
            raise ValueError("channels = []: expected at least one convolution")

    @property
    def stackable(self) -> bool:
        # Measured on the CPU, 8 fits against one by one: at 8 x 8 and 28 x 28 pixels, channels (8, 16) take 0.54 and
        # 0.89 of the time, (16, 32) 0.67 and 1.24.
        return max(self.channels) <= 16 and self.norm != "batch"

    def build(self, task: Task, run: Run) -> nn.Module:
        from kempeframe_standard.convolutional import ConvolutionalNetwork

        return ConvolutionalNetwork(self, task.input_shape, task.outputs).to(task.dtype)


@component
class Resnet18(ImageModel):
    """ResNet-18 (He et al., 2016) in its form for images of 32 x 32: a 3 x 3 first convolution and no max pooling.

    Four stages of two blocks, the last three of which halve height and width; 11.17 million parameters at width 64 and
    10 classes. Takes any number of channels, and images from 8 x 8 upward.
    """

    width: int = field(64, "channels of the first stage; each later one has twice as many as the one before", ge=1)
    norm: Norm = field("group", f"after each convolution; {NORM}")

    def build(self, task: Task, run: Run) -> nn.Module:
        from kempeframe_standard.convolutional import ResidualNetwork

        return ResidualNetwork(self, task.input_shape, task.outputs).to(task.dtype)
