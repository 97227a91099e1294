"""Multilayer perceptrons: the function they are, the law they start from, when they are trained as a stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from kempeframe_standard.data import Digits
from kempeframe_standard.evaluators import Accuracy
from kempeframe_standard.models import Linear, Mlp, RandomFeatures
from kempeframe_standard.optimizers_gradient import Adam, Adamw
from kempeframe_standard.training.many import partition
from torch import nn

from kempeframe.components import Fit, FitJob
from kempeframe.runs import Run
from kempeframe.trial import fit_key

Make = Callable[..., Any]
FORMULAS: dict[str, Callable[[Any], Any]] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "gelu": lambda x: torch.nn.functional.gelu(torch.tensor(x)).numpy(),
}


@pytest.mark.parametrize("activation", FORMULAS)
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_what_the_formula_says(activation: Any, bias: bool, classification: Make, run: Run) -> None:
    task = classification()
    network = Mlp(width=6, depth=2, activation=activation, bias=bias).build(task, run)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)
    state = [p.detach().numpy() for p in network.parameters()]
    found = x = task.test.examples().inputs.numpy()
    step = 2 if bias else 1
    for layer in range(0, len(state), step):
        found = (FORMULAS[activation](found) if layer else found) @ state[layer].T + (state[layer + 1] if bias else 0)
    np.testing.assert_allclose(network(torch.tensor(x)).detach().numpy(), found, rtol=1e-10, atol=1e-12)


def test_weights_start_with_the_variance_they_say(classification: Make, run: Run) -> None:
    network = Mlp(width=400, depth=2, weight_scale=1.5).build(classification(), run)
    named = network.state_dict()
    for name, fan_in in (("1.weight", 5), ("3.weight", 400), ("5.weight", 400)):
        entries = named[name].numel()
        assert float(named[name].var()) == pytest.approx(2.25 / fan_in, rel=4.5 * (2 / entries) ** 0.5)
    assert not any(named[name].any() for name in ("1.bias", "3.bias", "5.bias"))


def test_depth_zero_is_linear(classification: Make, run: Run) -> None:
    network = Mlp(depth=0).build(classification(), run)
    assert [tuple(p.shape) for p in network.parameters()] == [(3, 5), (3,)]


def test_relu_layers_of_scale_root_two_keep_the_size_of_their_inputs(session: Any, classification: Make) -> None:
    """He et al., 2015: E |h|^2 / width = |x|^2 / d, whatever the depth. Mean over 200 networks, 4.5 standard errors."""
    task = classification(n=1)
    x = task.train.examples().inputs
    sizes = []
    for seed in range(200):
        network = Mlp(width=50, depth=3).build(task, Run(seed, session))
        assert isinstance(network, nn.Sequential)
        with torch.no_grad():
            sizes.append(float(network[:-1](x).square().mean() / x.square().mean()))
    assert abs(np.mean(sizes) - 1) < 4.5 * np.std(sizes) / 200**0.5


def test_small_networks_of_all_seeds_and_data_form_a_unit() -> None:
    assert Adam(steps=1).unit(Mlp(width=128)) == ("seed", "data")
    assert Adam(steps=1).unit(Mlp(width=129)) == ()
    assert Adam(steps=1).unit(Mlp(dropout=0.1)) == ()
    assert Adam(steps=1).unit(RandomFeatures()) == Adam(steps=1).unit(Linear()) == ()
    assert Adam(steps=1, adversarial=True).unit(Mlp()) == ()
    assert Adam(steps=1, mixed_precision="bf16").unit(Mlp()) == ()


def test_digits_are_learned_and_stored(session: Any) -> None:
    """16 seeds as a stack; scikit-learn's own MLPClassifier of this size reaches 0.96 to 0.98."""
    optimizer = Adamw(epochs=15, learning_rate=3e-3)
    data, model = Digits(), Mlp(width=32)
    jobs = []
    for seed in range(16):
        run = Run(seed, session)
        task = session.task(data, run)
        jobs.append(FitJob(optimizer, model.build(task, run), task, None, run))
    assert partition(jobs) == [list(range(16))]
    fit = Fit(data=data, model=model, optimizer=optimizer)
    accuracies = []
    for seed in range(2):
        fitted = session.fitted(fit, Run(seed, session))
        accuracies.append(Accuracy().evaluate(fitted, Run(seed, session))["accuracy"])
        stored = session.fitted(fit, Run(seed, session))
        inputs = fitted.task.test.examples().inputs
        assert stored.packed is not None and fit_key(fit, seed) in session.store.fits
        assert torch.equal(stored.network(inputs), fitted.network(inputs))
    assert min(accuracies) > 0.93


def test_parametrisations_start_as_one_function(run: Run, classification: Make) -> None:
    task = classification()
    networks = {
        name: Mlp(width=25, depth=2, parametrisation=name).build(task, run)
        for name in ("standard", "ntk", "mean_field")
    }
    inputs = task.train.examples().inputs
    standard, ntk, mean_field = (networks[name](inputs) for name in networks)
    torch.testing.assert_close(ntk, standard)
    torch.testing.assert_close(mean_field, standard / 25**0.5)


def test_the_ntk_parametrisation_divides_learning_rates_by_the_fan_in(run: Run, classification: Make) -> None:
    """dL/dV = size dL/dW for W = size V: a step of V moves W by size^2 times the step of W."""
    task = classification()
    inputs = task.train.examples().inputs
    gradients = []
    for name in ("standard", "ntk"):
        network = Mlp(width=25, depth=1, parametrisation=name, weight_scale=1.3).build(task, run)
        network(inputs).square().sum().backward()
        gradients.append([layer.weight.grad for layer in network if isinstance(layer, torch.nn.Linear)])
    for fan_in, standard, ntk in zip((task.inputs, 25), *gradients, strict=True):
        torch.testing.assert_close(ntk, standard * 1.3 / fan_in**0.5)


@pytest.mark.parametrize("parametrisation", ["standard", "ntk", "mean_field"])
def test_a_relu_network_without_biases_is_homogeneous(run: Run, classification: Make, parametrisation: str) -> None:
    task = classification()
    network = Mlp(width=9, depth=2, bias=False, parametrisation=parametrisation).build(task, run)
    inputs = task.train.examples().inputs
    before = network(inputs)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.7)
    torch.testing.assert_close(network(inputs), before * 1.7**network.homogeneity)
    assert not hasattr(Mlp(width=9, bias=True).build(task, run), "homogeneity")
    assert not hasattr(Mlp(width=9, bias=False, activation="tanh").build(task, run), "homogeneity")
