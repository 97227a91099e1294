"""The mathematics of attacks: projections and best points against solvers, random starts against their laws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kempeframe_standard.draws import Draws, _mixed, _signed
from kempeframe_standard.projections import best_in_l1, best_in_l2, nearest_in_l1
from kempeframe_standard.regions import REGIONS, Region
from torch import Tensor

NORMS = ["l_inf", "l_2", "l_1"]
BOXES: list[tuple[float, float] | None] = [None, (0.0, 1.0)]


def size(norm: str, shifts: Tensor) -> Tensor:
    """By definition."""
    flat = shifts.double().flatten(1)
    return {"l_inf": flat.abs().amax(1), "l_2": flat.square().sum(1).sqrt(), "l_1": flat.abs().sum(1)}[norm]


def inside(norm: str, epsilon: float, box: tuple[float, float] | None, centres: Tensor, seed: int) -> Tensor:
    """Random points of ball and box, many of them at the edges."""
    rng = np.random.default_rng(seed)
    shape = tuple(centres.shape)
    shifts = torch.tensor(rng.standard_normal(shape) * (rng.random(shape) < 0.5))
    radius = torch.tensor(np.minimum(1.0, 1.5 * rng.random(len(centres))))
    shifts *= (epsilon * radius / size(norm, shifts).clamp_min(1e-12))[:, None]
    points = centres + shifts
    return points if box is None else points.clamp(*box)


def region(norm: str, centres: Tensor, epsilon: float, box: tuple[float, float] | None) -> Region:
    return REGIONS[norm](centres, epsilon, box)


# ---- nearest points ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("boxed", [False, True])
def test_the_nearest_point_of_the_l1_ball_is_that_of_a_solver(boxed: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        values, room = rng.standard_normal(5), rng.random(5) if boxed else np.full(5, np.inf)
        (found,) = nearest_in_l1(torch.tensor(values)[None], torch.tensor(room)[None], 0.8)
        signs = np.sign(values)
        # In t = |s| the problem is smooth: min |t - |v||^2, sum t <= epsilon, 0 <= t <= room.
        solved = scipy.optimize.minimize(
            lambda t, v: ((t - abs(v)) ** 2).sum(),
            np.zeros(5),
            args=(values,),
            bounds=list(zip(np.zeros(5), room, strict=True)),
            constraints={"type": "ineq", "fun": lambda t: 0.8 - t.sum()},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        np.testing.assert_allclose(found.numpy(), signs * solved.x, atol=2e-6)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 12), st.floats(1e-3, 10), st.booleans())
def test_no_point_of_the_l1_ball_and_box_is_nearer(seed: int, dimension: int, epsilon: float, boxed: bool) -> None:
    rng = np.random.default_rng(seed)
    centres = torch.tensor(rng.random((50, dimension)))
    box = (0.0, 1.0) if boxed else None
    ball = region("l_1", centres, epsilon, box)
    points = centres + torch.tensor(rng.standard_normal((50, dimension)) * 10 ** rng.uniform(-3, 3))
    nearest = ball.contain(points)
    others = inside("l_1", epsilon, box, centres, seed)
    # The nearest point s of a convex set to v is the one with <v - s, z - s> <= 0 for every z of the set.
    products = ((points - nearest) * (others - nearest)).sum(1)
    assert products.max() <= 1e-9 * (1 + (points - nearest).norm(dim=1).max())


# ---- the best points -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("norm", NORMS)
def test_no_point_is_better_than_the_best(norm: str, box: tuple[float, float] | None) -> None:
    rng = np.random.default_rng(1)
    for dimension, epsilon in itertools.product((1, 2, 7), (0.0, 0.1, 0.7, 30.0)):
        centres = torch.tensor(rng.random((400, dimension)))
        directions = torch.tensor(rng.standard_normal((400, dimension)) * (rng.random((400, dimension)) < 0.8))
        best = region(norm, centres, epsilon, box).best(directions)
        assert (size(norm, best - centres) <= epsilon * (1 + 1e-12)).all()
        assert box is None or (best.min() >= box[0] and best.max() <= box[1])
        others = inside(norm, epsilon, box, centres, 2)
        assert ((directions * (others - best)).sum(1) <= 1e-12).all()
        if box is None:  # the dual norm
            dual = {"l_inf": "l_1", "l_2": "l_2", "l_1": "l_inf"}[norm]
            gains = (directions * (best - centres)).sum(1)
            torch.testing.assert_close(gains, epsilon * size(dual, directions))


def test_the_best_of_the_l1_ball_and_box_solves_the_linear_program() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        direction, room = rng.standard_normal(6), rng.random(6)
        found = best_in_l1(torch.tensor(direction)[None], torch.tensor(room)[None], 1.1)[0].numpy()
        program = scipy.optimize.linprog(
            -abs(direction), np.ones((1, 6)), [1.1], bounds=list(zip([0] * 6, room, strict=True))
        )
        assert found @ direction == pytest.approx(-program.fun, rel=1e-9)


def test_the_best_of_the_l2_ball_and_box_is_that_of_a_solver() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        direction, room = rng.standard_normal(5), rng.random(5)
        found = best_in_l2(torch.tensor(direction)[None], torch.tensor(room)[None], 0.9)[0].numpy()
        solved = scipy.optimize.minimize(
            lambda t, g: -t @ abs(g),
            np.full(5, 0.01),
            args=(direction,),
            bounds=list(zip([0] * 5, room, strict=True)),
            constraints={"type": "ineq", "fun": lambda t: 0.81 - t @ t},
        )
        assert found @ direction == pytest.approx(-solved.fun, rel=1e-5)
        assert found @ found <= 0.81 * (1 + 1e-12)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1.0, 1e30, 1e300])
@pytest.mark.parametrize("norm", NORMS)
def test_a_step_is_the_steepest_of_its_size(norm: str, scale: float) -> None:
    rng = np.random.default_rng(4)
    gradients = torch.tensor(rng.standard_normal((5, 8)))
    ball = region(norm, torch.zeros(5, 8, dtype=torch.float64), 10.0, None)
    steps = ball.unit(gradients * scale, ball.centres.clone(), 0.3)
    torch.testing.assert_close(size(norm, steps), torch.full((5,), 0.3, dtype=torch.float64))
    gains = (gradients * steps).sum(1)
    for seed in range(200):
        others = inside(norm, 0.3, None, ball.centres, seed)
        assert ((gradients * others).sum(1) <= gains + 1e-12).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_step_without_a_gradient_goes_nowhere(norm: str) -> None:
    centres = torch.full((2, 4), 0.5)
    gradients = torch.tensor([[0.0] * 4, [math.nan, 0.0, math.nan, 0.0]])
    ball = region(norm, centres, 0.3, (0.0, 1.0))
    assert torch.equal(ball.step(centres.clone(), gradients, 0.1), centres)


# ---- random numbers ------------------------------------------------------------------------------------------------


def test_the_hash_is_splitmix64() -> None:
    # The first outputs for the seed 1234567, as published with the reference implementation.
    states = torch.arange(1, 6) * _signed(0x9E3779B97F4A7C15) + 1234567
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert _mixed(states).tolist() == [_signed(number) for number in published]


def test_uniform_numbers_are_uniform_and_independent() -> None:
    drawn = Draws(7, torch.arange(400)).uniform(3, 50)
    assert drawn.min() > 0 and drawn.max() < 1
    assert scipy.stats.kstest(drawn.flatten().numpy(), "uniform").pvalue > 0.01
    neighbours = [
        (drawn[1:], drawn[:-1]),
        (drawn[:, 1:], drawn[:, :-1]),
        (drawn, Draws(7, torch.arange(400)).uniform(4, 50)),
    ]
    neighbours += [(drawn, Draws(8, torch.arange(400)).uniform(3, 50))]
    for one, other in neighbours:
        correlation = np.corrcoef(one.flatten(), other.flatten())[0, 1]
        assert abs(correlation) < 4 / math.sqrt(one.numel())


def test_an_examples_numbers_do_not_depend_on_the_others() -> None:
    whole = Draws(1, torch.tensor([5, 0, 9]))
    assert torch.equal(whole.uniform(0, 4)[2], Draws(1, torch.tensor([9])).uniform(0, 7)[0, :4])
    assert torch.equal(whole.keep(torch.tensor([2, 0])).uniform(0, 4), whole.uniform(0, 4)[[2, 0]])


@pytest.mark.parametrize("norm", NORMS)
def test_random_starts_are_uniform_in_the_ball(norm: str) -> None:
    dimension, count = 5, 4000
    ball = region(norm, torch.zeros(count, dimension, dtype=torch.float64), 2.0, None)
    points = ball.uniform(Draws(0, torch.arange(count)), 1)
    # The share of the volume within radius r is (r / epsilon)^d ...
    assert scipy.stats.kstest((size(norm, points) / 2).pow(dimension), "uniform").pvalue > 0.01
    # ... and a coordinate's law is that of its slice: (1 - |t|)^(d-1) for l_1, (1 - t^2)^((d-1)/2) for l_2.
    first = points[:, 0].numpy() / 2
    law = {
        "l_inf": lambda t: (t + 1) / 2,
        "l_2": lambda t: scipy.stats.beta.cdf((t + 1) / 2, (dimension + 1) / 2, (dimension + 1) / 2),
        "l_1": lambda t: np.where(t < 0, (1 + t) ** dimension / 2, 1 - (1 - t) ** dimension / 2),
    }[norm]
    assert scipy.stats.kstest(first, law).pvalue > 0.01


@pytest.mark.parametrize("norm", NORMS)
def test_noise_lies_on_the_surface(norm: str) -> None:
    ball = region(norm, torch.zeros(300, 6, dtype=torch.float64), 0.4, None)
    points = ball.noise(Draws(0, torch.arange(300)), 1)
    torch.testing.assert_close(size(norm, points), torch.full((300,), 0.4, dtype=torch.float64))
    assert points.mean(0).abs().max() < 0.05


# ---- inside, in every type -----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(NORMS),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    st.sampled_from([None, (0.0, 1.0), (-0.7, 3.1)]),
    st.sampled_from([0.0, 1e-6, 3e-3, 0.1, 0.7, 5.0]),
    st.integers(0, 10**6),
)
def test_whatever_it_is_given_a_region_contains(
    norm: str, dtype: torch.dtype, box: tuple[float, float] | None, epsilon: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    low, high = box or (-5.0, 5.0)
    edge = torch.tensor(box or (-5.0, 5.0), dtype=dtype)
    centres = torch.tensor(rng.uniform(low, high, (20, 9))).to(dtype).clamp(edge[0], edge[1])
    points = centres.double() + torch.tensor(rng.standard_normal((20, 9)) * 10 ** rng.uniform(-6, 6))
    points[0, :3] = torch.tensor([math.nan, math.inf, -math.inf])
    found = region(norm, centres, epsilon, box).contain(points)
    assert found.dtype == dtype and found.isfinite().all()
    assert (size(norm, found.double() - centres.double()) <= epsilon * (1 + 1e-12) + 1e-300).all()
    if box is not None:
        assert found.min() >= edge[0] and found.max() <= edge[1]
    again = region(norm, centres, epsilon, box).contain(found)
    unit = 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(again, found, rtol=unit, atol=unit * max(abs(low), abs(high)))
