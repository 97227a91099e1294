"""Norms, duals and directions of networks; steepest descent as a torch optimizer, alone and in stacks."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from kempeframe_flavors_of_margin import theory
from kempeframe_flavors_of_margin.norms import Norm, newton_schulz, spectral_direction
from kempeframe_flavors_of_margin.steepest import SteepestDescent, largest_entry, normalised
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

SHAPES = ((5, 4), (3, 5), (7,), (2, 3, 2, 2))
GEOMETRIES: list[Any] = [
    ("l_1", "flat", ()),
    ("l_2", "flat", ()),
    ("l_inf", "flat", ()),
    (3.0, "flat", ()),
    (1.5, "flat", ()),
    (4.0, "flat", ()),
    ("spectral", "max", ()),
    ("spectral", "sum", (1.0, 2.0, 0.5, 1.5)),
    ("spectral", "l_2", (1.0, 2.0, 0.5, 1.5)),
    ("l_1", "max", (1.0, 2.0, 0.5, 1.5)),
    ("l_inf", "sum", ()),
    (3.0, "l_2", (1.0, 2.0, 0.5, 1.5)),
]


def tensors(seed: int, stack: int | None = None) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    front = () if stack is None else (stack,)
    return [torch.randn(*front, *shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


def inner(first: list[Tensor], second: list[Tensor]) -> float:
    return float(sum((a * b).sum() for a, b in zip(first, second, strict=True)))


@pytest.mark.parametrize(("norm", "scope", "ball"), GEOMETRIES)
def test_the_direction_is_the_best_of_the_unit_ball(norm: Any, scope: Any, ball: Any) -> None:
    """W6 of the brief: no random point of the ball gains more, and Hoelder's inequality is sharp."""
    geometry, gradient = Norm(norm, scope, ball), tensors(0)
    unit, dual = geometry.direction(gradient)
    assert float(geometry.value(unit)) == pytest.approx(1)
    assert inner(unit, gradient) == pytest.approx(float(dual))
    assert float(geometry.dual(gradient)) == pytest.approx(float(dual))
    for seed in range(1, 200):
        other = tensors(seed)
        if seed % 2:
            other = [u + 0.1 * o for u, o in zip(unit, other, strict=True)]
        assert inner(other, gradient) <= float(geometry.value(other) * dual) * (1 + 1e-12)


@pytest.mark.parametrize(("norm", "scope", "ball"), GEOMETRIES)
def test_a_stack_has_the_norms_of_its_networks(norm: Any, scope: Any, ball: Any) -> None:
    geometry, stack = Norm(norm, scope, ball), tensors(0, stack=3)
    units, duals = geometry.direction(stack, stacked=True)
    sizes, dual_sizes = geometry.value(stack, True), geometry.dual(stack, True)
    for s in range(3):
        own = [tensor[s] for tensor in stack]
        unit, dual = geometry.direction(own)
        torch.testing.assert_close([u[s] for u in units], unit)
        assert float(duals[s]) == pytest.approx(float(dual))
        assert float(sizes[s]) == pytest.approx(float(geometry.value(own)))
        assert float(dual_sizes[s]) == pytest.approx(float(dual))


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 4.0, 7.3, math.inf])
def test_flat_norms_are_those_of_one_long_vector(p: float) -> None:
    gradient = tensors(0)
    whole = torch.cat([g.flatten() for g in gradient]).numpy()
    unit, dual = Norm(p).direction(gradient)
    np.testing.assert_allclose(torch.cat([u.flatten() for u in unit]), theory.direction(whole, p), atol=1e-12)
    assert float(dual) == pytest.approx(theory.norm(whole, theory.conjugate(p)))
    assert float(Norm(p).value(gradient)) == pytest.approx(theory.norm(whole, p))


def test_directions_of_tiny_huge_and_zero_gradients() -> None:
    for p in (1.5, 2.0, 3.0, 4.0):
        for size in (1e-200, 1e200):
            unit, _ = Norm(p).direction([size * g for g in tensors(0)])
            assert float(Norm(p).value(unit)) == pytest.approx(1)
    for geometry in (Norm("l_1"), Norm(3.0), Norm("spectral", "max"), Norm("l_inf", "l_2")):
        unit, dual = geometry.direction([torch.zeros_like(g) for g in tensors(0)])
        assert all((u == 0).all() for u in unit) and float(dual) == 0


def test_newton_schulz_is_close_and_no_maximiser() -> None:
    gradient = torch.randn(1, 20, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact, nuclear = spectral_direction(gradient)
    near, product = newton_schulz(gradient)
    sigma = torch.linalg.svdvals(near[0])
    assert float(sigma.min()) > 0.6 and float(sigma.max()) < 1.3
    assert float(torch.linalg.svdvals(exact[0]).min()) == pytest.approx(1)
    assert float(product / sigma.max() / nuclear) < 0.95


# ---- the optimizer -------------------------------------------------------------------------------------------------


def stepped(weights: list[Tensor], gradients: list[list[Tensor]], **options: Any) -> list[Tensor]:
    parameters = [nn.Parameter(w.clone()) for w in weights]
    optimizer = SteepestDescent(parameters, **options)
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return [p.detach() for p in parameters]


@pytest.mark.parametrize("step", ["unit", "dual"])
@pytest.mark.parametrize(("norm", "scope", "ball"), GEOMETRIES)
def test_a_step_goes_along_the_direction(norm: Any, scope: Any, ball: Any, step: Any) -> None:
    """Also where the optimizer has a faster way than the general one: l_1, l_2, l_inf, l_3."""
    weights, gradients = tensors(1), tensors(2)
    options = dict(lr=0.1, norm=norm, scope=scope, ball=ball, step=step)
    unit, dual = Norm(norm, scope, ball).direction(gradients)
    length = 0.1 * (float(dual) if step == "dual" else 1.0)
    wanted = [w - length * u for w, u in zip(weights, unit, strict=True)]
    torch.testing.assert_close(stepped(weights, [gradients], **options), wanted)
    torch.testing.assert_close(stepped(weights, [gradients], **options, spend_gradients=True), wanted)


@pytest.mark.parametrize("more", [{}, {"momentum": 0.9}, {"weight_decay": 0.1}, {"kink": "clarke"}], ids=str)
@pytest.mark.parametrize(("norm", "scope"), [("l_1", "flat"), ("l_2", "flat"), ("l_inf", "flat"), ("spectral", "max")])
def test_networks_of_a_stack_take_their_own_steps(norm: Any, scope: Any, more: Any) -> None:
    if "kink" in more and norm != "l_1":
        pytest.skip("kinks are for coordinate descent")
    for step in ("unit", "dual"):
        options = dict(lr=0.1, norm=norm, scope=scope, step=step, **more)
        weights, gradients = tensors(1, 3), [tensors(seed, 3) for seed in range(2, 8)]
        together = stepped(weights, gradients, **options, stacked=True)
        for s in range(3):
            alone = stepped([w[s] for w in weights], [[g[s] for g in part] for part in gradients], **options)
            torch.testing.assert_close([w[s] for w in together], alone)


def test_gradient_descent_is_the_l_2_flow() -> None:
    weights, gradients = tensors(1), tensors(2)
    found = stepped(weights, [gradients], lr=0.1, norm="l_2", step="dual")
    torch.testing.assert_close(found, [w - 0.1 * g for w, g in zip(weights, gradients, strict=True)])


def test_gradients_are_left_alone_unless_they_may_be_spent() -> None:
    for norm in ("l_1", "l_2", "l_inf", 3.0):
        parameter = nn.Parameter(torch.ones(4, 4))
        parameter.grad = torch.randn(4, 4)
        before = parameter.grad.clone()
        SteepestDescent([parameter], 0.1, norm).step()
        assert torch.equal(parameter.grad, before)


@pytest.mark.parametrize("norm", ["l_1", "l_2", "l_inf", 3.0, "spectral"])
def test_tiny_float32_gradients_make_full_steps_and_zero_ones_none(norm: Any) -> None:
    scope: Any = "max" if norm == "spectral" else "flat"
    weights, gradients = [w.float() for w in tensors(1)], [g.float() for g in tensors(2)]
    plain = stepped(weights, [gradients], lr=0.1, norm=norm, scope=scope)
    tiny = stepped(weights, [[g * 1e-30 for g in gradients]], lr=0.1, norm=norm, scope=scope)
    torch.testing.assert_close(tiny, plain, rtol=1e-3, atol=1e-4)
    still = stepped(weights, [[0 * g for g in gradients]], lr=0.1, norm=norm, scope=scope)
    torch.testing.assert_close(still, weights)


@pytest.mark.parametrize("step", ["unit", "dual"])
@pytest.mark.parametrize(("norm", "scope", "ball"), GEOMETRIES)
def test_no_step_waits_for_a_device(norm: Any, scope: Any, ball: Any, step: Any) -> None:
    """Tensors of the meta device have no values: whatever asks for one, as a wait for a GPU would, raises."""
    parameters = [nn.Parameter(torch.empty(shape, device="meta")) for shape in SHAPES]
    optimizer = SteepestDescent(parameters, 0.1, norm, scope, step, momentum=0.9, weight_decay=0.1, ball=ball)
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    if (norm, scope) == ("l_1", "flat"):
        with pytest.raises(RuntimeError):  # it has to choose a tensor
            optimizer.step()
    else:
        optimizer.step()


class Counted(TorchDispatchMode):
    """Counts torch's operations."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("step", ["unit", "dual"])
@pytest.mark.parametrize("norm", ["l_2", "l_inf"])
def test_sign_and_l_2_steps_have_no_loop_over_parameters(norm: Any, step: Any, device: str) -> None:
    def operations(tensors: int) -> int:
        parameters = [nn.Parameter(torch.ones(3, device=device)) for _ in range(tensors)]
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizer = SteepestDescent(parameters, 0.1, norm, step=step)
        with Counted() as counted:
            optimizer.step()
        return counted.count

    assert operations(40) == operations(4)


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_the_l_2_step_of_any_device_is_the_direction(size: float) -> None:
    gradients = [size * g for g in tensors(3)]
    unit, dual = Norm("l_2").direction(gradients)
    scaled, length = normalised(gradients)
    torch.testing.assert_close(scaled, unit)
    assert float(length) == pytest.approx(float(dual))


@pytest.mark.parametrize("size", [3, 1024, 5000])
def test_the_largest_entry_is_the_first_of_the_largest(size: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        parts = [torch.tensor(rng.integers(-4, 5, n).astype(float)) for n in (size, 1, size)]
        whole = np.concatenate([part.numpy() for part in parts])
        which, place, value = largest_entry(parts)
        first = int(np.abs(whole).argmax())
        assert sum(len(part) for part in parts[:which]) + place == first
        assert value == whole[first]


def test_nan_gradients_show() -> None:
    """But in sign descent: torch's sign of nan is 0, and a look for nan would be one more pass."""
    for norm in ("l_1", "l_2", 3.0):
        found = stepped([torch.ones(3)], [[torch.tensor([1.0, math.nan, 0.0])]], lr=0.1, norm=norm)
        assert found[0].isnan().any()


def test_across_a_kink_coordinate_descent_cycles_and_clarke_does_not() -> None:
    """f = 2|2x - y| + (x + y) / 2: on both sides the largest derivative is that of x; along the kink both fall."""

    def end(kink: Any) -> tuple[list[float], float]:
        parameter = nn.Parameter(torch.tensor([1.0, 1.999], dtype=torch.float64))
        optimizer = SteepestDescent([parameter], 0.01, "l_1", kink=kink)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = 2 * (2 * parameter[0] - parameter[1]).abs() + parameter.sum() / 2
            loss.backward()
            return loss

        for _ in range(300):
            optimizer.step(closure)
        return parameter.tolist(), optimizer.undo_fraction()

    stuck, cycle = end("none")
    assert stuck == pytest.approx([1.0, 1.999], abs=0.02) and cycle > 0.9
    moved, smooth = end("clarke")
    assert moved[0] < 0.5 and moved[1] < 1.0 and smooth < 0.1


def test_its_state_survives_being_stored() -> None:
    weights, gradients = tensors(1, 3), [tensors(seed, 3) for seed in range(2, 9)]
    for options in ({"kink": "clarke"}, {"momentum": 0.9}, {}):
        settings: Any = dict(lr=0.1, norm="l_1", stacked=True, **options)
        whole = stepped(weights, gradients, **settings)
        parameters = [nn.Parameter(w.clone()) for w in weights]
        optimizer = SteepestDescent(parameters, **settings)
        for number, step in enumerate(gradients):
            if number == 3:
                state = copy.deepcopy(optimizer.state_dict())
                optimizer = SteepestDescent(parameters, **settings)
                optimizer.load_state_dict(state)
            for parameter, gradient in zip(parameters, step, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
        torch.testing.assert_close([p.detach() for p in parameters], whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": 0.5}, r"norm = 0\.5: l_p is a norm for p >= 1 alone"),
        ({"norm": math.nan}, "p >= 1"),
        ({"norm": "l1"}, r"norm = 'l1': expected \"l_1\""),
        ({"norm": "spectral"}, 'give scope "max"'),
        ({"kink": "clarke"}, 'is for norm = "l_1"'),
        ({"lr": 0.0}, "lr = 0"),
        ({"momentum": 1.0}, "momentum = 1"),
        ({"step": "long"}, "step = 'long'"),
        ({"scope": "all"}, "scope = 'all': expected 'flat' or 'max'"),
        ({"kink": "smooth"}, "kink = 'smooth'"),
        ({"norm": "spectral", "scope": "max", "orthogonalization": "qr"}, "orthogonalization = 'qr'"),
        ({"ball": (1.0,)}, "there are no blocks"),
        ({"ball": (0.0,), "scope": "max"}, "expected sizes above 0"),
    ],
)
def test_options_that_are_none_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SteepestDescent([nn.Parameter(torch.ones(2))], **{"lr": 0.1, **options})
    optimizer = SteepestDescent([nn.Parameter(torch.ones(2))], 0.1)
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], **options})
    assert len(optimizer.param_groups) == 1


def test_there_is_a_ball_for_each_block() -> None:
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    with pytest.raises(ValueError, match="ball has 2 sizes; the network has 1 blocks"):
        SteepestDescent([parameter], 0.1, "l_2", "max", ball=(1.0, 2.0)).step()


def test_groups_have_norms_of_their_own() -> None:
    weights, gradients = tensors(1), tensors(2)
    parameters = [nn.Parameter(w.clone()) for w in weights]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    signs = {"params": parameters[2:], "norm": "l_inf", "lr": 0.3}
    SteepestDescent([{"params": parameters[:2]}, signs], lr=0.1, norm="l_2").step()
    size = math.sqrt(sum(float(g.square().sum()) for g in gradients[:2]))
    wanted = [w - 0.1 * g / size for w, g in zip(weights[:2], gradients[:2], strict=True)]
    wanted += [w - 0.3 * g.sign() for w, g in zip(weights[2:], gradients[2:], strict=True)]
    torch.testing.assert_close([p.detach() for p in parameters], wanted)
