"""Networks for images: how many parameters, in which units they see pixels, of which degree they are homogeneous."""

from __future__ import annotations

import math

import pytest
import torch
from kempeframe_standard.convolutional import Normalise
from kempeframe_standard.models_images import Cnn, ImageModel, Resnet18
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from kempeframe.runs import Run
from kempeframe.task import CannotGive, Task


def task(shape: tuple[int, ...] = (1, 8, 8), classes: int = 10, dtype: torch.dtype = torch.float32) -> Task:
    return Task({}, shape, (classes,), dtype=dtype, classes=classes)


def built(model: ImageModel, run: Run, of: Task | None = None) -> nn.Module:
    with run.global_seed("model"):
        return model.build(of or task(), run)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def images(n: int, shape: tuple[int, ...] = (1, 8, 8), dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize(("shape", "left"), [((1, 8, 8), 2), ((1, 28, 28), 7), ((3, 32, 32), 8)])
def test_a_cnn_takes_images_of_any_size(run: Run, shape: tuple[int, ...], left: int) -> None:
    network = built(Cnn(channels=(8, 16), hidden=(32,)), run, task(shape))
    convolutions = 9 * shape[0] * 8 + 8 + 9 * 8 * 16 + 16
    assert count(network) == convolutions + 16 * left**2 * 32 + 32 + 32 * 10 + 10
    assert network(images(5, shape)).shape == (5, 10)


def test_a_cnn_without_pooling_or_with_another_kernel(run: Run) -> None:
    assert count(built(Cnn(channels=(4,), pooling="none", kernel=5), run)) == 25 * 4 + 4 + 4 * 64 * 10 + 10
    averaged, largest = (built(Cnn(pooling=pooling), run) for pooling in ("average", "max"))  # type: ignore[arg-type]
    assert not torch.allclose(averaged(images(3)), largest(images(3)))


def test_too_many_poolings_and_inputs_that_are_no_images_are_refused(run: Run) -> None:
    with pytest.raises(CannotGive, match="8 x 8 have no two pixels left"):
        built(Cnn(channels=(4, 4, 4, 4)), run)
    with pytest.raises(CannotGive, match="expected images"):
        built(Cnn(), run, task((64,)))
    with pytest.raises(CannotGive, match="below 8 x 8"):
        built(Resnet18(), run, task((1, 4, 4)))
    with pytest.raises(ValueError, match="odd"):
        Cnn(kernel=4)
    with pytest.raises(ValueError, match="at least one convolution"):
        Cnn(channels=())


@pytest.mark.parametrize(("activation", "pooling"), [("relu", "max"), ("leaky_relu", "average"), ("relu", "none")])
def test_a_cnn_without_biases_is_homogeneous_of_the_degree_it_says(run: Run, activation: str, pooling: str) -> None:
    model = Cnn(channels=(3, 4), hidden=(5,), activation=activation, pooling=pooling, bias=False)  # type: ignore[arg-type]
    network = built(model, run, task(dtype=torch.float64))
    assert network.homogeneity == 4
    inputs = images(6, dtype=torch.float64)
    before = network(inputs)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    torch.testing.assert_close(network(inputs), before * 2**4)


@pytest.mark.parametrize("fields", [{"bias": True}, {"activation": "tanh"}, {"norm": "group"}])
def test_other_cnns_say_no_degree(run: Run, fields: dict[str, object]) -> None:
    assert not hasattr(built(Cnn(**{"bias": False, **fields}), run), "homogeneity")  # type: ignore[arg-type]


def test_init_scale_multiplies_the_initial_weights(run: Run) -> None:
    one, half, zero = (built(Cnn(init_scale=scale), run) for scale in (1.0, 0.5, 0.0))
    for ours, theirs in zip(half.parameters(), one.parameters(), strict=True):
        assert torch.equal(ours, theirs / 2)
    assert not zero(images(2)).any()


@pytest.mark.parametrize(
    "model", [Cnn(mean=(0.2, 0.3, 0.4), std=(2.0,)), Resnet18(width=4, mean=(0.2, 0.3, 0.4), std=(2.0,))]
)
def test_normalisation_belongs_to_the_network(run: Run, model: ImageModel) -> None:
    """The same weights on pixels that are normalised before give the same, and gradients in pixel units are 1/std."""
    of = task((3, 8, 8), dtype=torch.float64)
    plain = built(type(model)(**({"width": 4} if isinstance(model, Resnet18) else {})), run, of)
    network = built(model, run, of)
    assert isinstance(network.normalise, Normalise)
    assert network.state_dict().keys() == plain.state_dict().keys()
    pixels = images(4, (3, 8, 8), torch.float64).requires_grad_()
    shifted = (
        (pixels.detach() - torch.tensor([0.2, 0.3, 0.4], dtype=torch.float64)[:, None, None]) / 2
    ).requires_grad_()
    outputs, expected = network(pixels), plain(shifted)
    torch.testing.assert_close(outputs, expected)
    outputs.sum().backward()
    expected.sum().backward()
    assert pixels.grad is not None and shifted.grad is not None
    torch.testing.assert_close(pixels.grad, shifted.grad / 2)


def test_constants_that_fit_no_channels_are_refused(run: Run) -> None:
    with pytest.raises(CannotGive, match="mean has 2 values: expected 1 or 3"):
        built(Cnn(mean=(0.1, 0.2)), run, task((3, 8, 8)))


def test_resnet18_has_the_parameters_that_it_is_known_for(run: Run) -> None:
    """11,173,962 with batch norm at 10 classes; each norm has 2 parameters a channel, so group norm has as many."""
    with torch.device("meta"):
        batch, group, none = (
            Resnet18(norm=norm).build(task((3, 32, 32)), run)
            for norm in ("batch", "group", "none")  # type: ignore[arg-type]
        )
    assert count(batch) == count(group) == 11_173_962
    channels = 64 + 4 * (64 + 128 + 256 + 512) + 128 + 256 + 512
    assert count(none) == 11_173_962 - 2 * channels
    assert sum(isinstance(layer, nn.Conv2d) for layer in batch.modules()) == 17 + 3


@pytest.mark.parametrize(("shape", "width"), [((3, 32, 32), 8), ((1, 28, 28), 6), ((1, 8, 8), 5)])
def test_a_narrow_resnet_takes_other_images(run: Run, shape: tuple[int, ...], width: int) -> None:
    network = built(Resnet18(width=width), run, task(shape))
    outputs = network(images(3, shape))
    assert outputs.shape == (3, 10)
    outputs.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_a_resnet_with_group_norm_treats_each_image_alone(run: Run) -> None:
    network = built(Resnet18(width=8), run, task((3, 16, 16), dtype=torch.float64))
    inputs = images(6, (3, 16, 16), torch.float64)
    torch.testing.assert_close(network(inputs)[:2], network(inputs[:2]), rtol=0, atol=1e-10)
    batch = built(Resnet18(width=8, norm="batch"), run, task((3, 16, 16), dtype=torch.float64))
    assert not torch.allclose(batch(inputs)[:2], batch(inputs[:2]))


def test_the_stream_of_the_model_gives_the_initial_weights(run: Run) -> None:
    first, second = (built(Resnet18(width=4), run, task((3, 16, 16))) for _ in range(2))
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    convolution = next(layer for layer in first.modules() if isinstance(layer, nn.Conv2d))
    wanted = math.sqrt(2 / (9 * 4))
    assert float(convolution.weight.detach().std()) == pytest.approx(
        wanted, rel=4.5 / math.sqrt(2 * convolution.weight.numel())
    )


def test_small_cnns_as_a_stack_are_what_they_are_alone(run: Run) -> None:
    networks = [built(Cnn(channels=(4, 8)), Run(seed, run.session), task(dtype=torch.float64)) for seed in range(3)]
    parameters, _ = stack_module_state(networks)
    inputs = images(15, dtype=torch.float64).view(3, 5, 1, 8, 8)
    outputs = vmap(lambda own, x: functional_call(networks[0], own, (x,)))(parameters, inputs)
    for network, own, found in zip(networks, inputs, outputs, strict=True):
        torch.testing.assert_close(network(own), found, rtol=0, atol=1e-12)


def test_what_looks_at_a_whole_batch_or_is_too_wide_is_trained_alone() -> None:
    assert Cnn(channels=(8, 16)).stackable
    assert not Cnn(channels=(8, 16), norm="batch").stackable
    assert not Cnn(channels=(16, 32)).stackable
    assert not Resnet18(width=4).stackable
