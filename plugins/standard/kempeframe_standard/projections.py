"""Balls cut by a box, row by row: nearest points and best directions, exact, without iteration.

Everywhere: values and directions (n, d); room (n, d), how far each coordinate may move in the direction of its value's
sign, >= 0, inf where there is no box. What comes back has the signs of what went in.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEGLIGIBLE = 1e-100  # a direction's coordinate, relative to its largest: its square would be 0


def nearest_in_l1(values: Tensor, room: Tensor, epsilon: float) -> Tensor:
    """The point nearest to `values` (Euclidean) among those with |s|_1 <= epsilon and |s_j| <= room_j.

    s_j = sign(v_j) min(max(|v_j| - t, 0), room_j), with t = 0 or such that |s|_1 = epsilon. |s(t)|_1 is piecewise
    linear in t; its kinks are |v_j| and |v_j| - room_j. Without a box this is Duchi et al. (ICML 2008, figure 1), with
    one Croce and Hein ("Mind the box", ICML 2021, proposition 2.1).
    """
    sizes = values.abs()
    kept = torch.minimum(sizes, room)
    outside = (kept.sum(dim=1) > epsilon).nonzero()[:, 0]
    if len(outside):
        threshold = _threshold(sizes[outside], room[outside], epsilon)
        cut = torch.minimum((sizes[outside] - threshold).clamp_min(0), room[outside])
        excess = cut.sum(dim=1, keepdim=True) / epsilon if epsilon else torch.inf  # 1 but for rounding
        kept[outside] = cut / torch.as_tensor(excess).clamp_min(1)
    return kept.mul_(values.sign())


def _threshold(sizes: Tensor, room: Tensor, epsilon: float) -> Tensor:
    """t, (n, 1), for rows whose norm at t = 0 is more than epsilon."""
    kinks, order = torch.cat([sizes, (sizes - room).clamp_min(0)], dim=1).sort(dim=1, descending=True)
    # Going down from the largest kink, a coordinate begins to grow at |v_j| and stops at |v_j| - room_j.
    growing = torch.where(order < sizes.shape[1], 1.0, -1.0).to(sizes).cumsum(dim=1)[:, :-1]
    norms = (growing * -kinks.diff(dim=1)).cumsum(dim=1)
    at = (norms < epsilon).sum(dim=1, keepdim=True).clamp_max(norms.shape[1] - 1)
    excess = (norms.gather(1, at) - epsilon).clamp_min(0)
    return kinks.gather(1, at + 1) + excess / growing.gather(1, at).clamp_min(1)


def best_in_l1(directions: Tensor, room: Tensor, epsilon: float) -> Tensor:
    """argmax <g, s> among |s|_1 <= epsilon and |s_j| <= room_j: the largest |g_j| first, each as far as it may go."""
    order = directions.abs().argsort(dim=1, descending=True, stable=True)
    steps = room.clamp_max(epsilon).gather(1, order)
    before = steps.cumsum(dim=1) - steps
    steps = torch.minimum(steps, (epsilon - before).clamp_min(0))
    return torch.empty_like(steps).scatter_(1, order, steps).mul_(directions.sign())


def best_in_l2(directions: Tensor, room: Tensor, epsilon: float) -> Tensor:
    """argmax <g, s> among |s|_2 <= epsilon and |s_j| <= room_j, in float64.

    s_j = sign(g_j) min(c |g_j|, room_j), with c as large as |s|_2 <= epsilon allows. c^2 is found among the kinks
    c_j = room_j / |g_j|, at which |s|_2^2 is a sum over those before and those after.
    """
    sizes = relative(directions.double()).abs()
    sizes[sizes < NEGLIGIBLE] = 0
    room = torch.where(sizes > 0, room.double().clamp_max(epsilon), 0)
    kinks, order = torch.where(sizes > 0, room / sizes, 0).sort(dim=1)
    full = _before(room.square().gather(1, order))
    squares = sizes.square().gather(1, order)
    free = squares.flip(1).cumsum(dim=1).flip(1)
    at = (full + kinks.square() * free < epsilon**2).sum(dim=1, keepdim=True)
    inner = at.clamp_max(sizes.shape[1] - 1)
    square = (epsilon**2 - full.gather(1, inner)).clamp_min(0) / free.gather(1, inner).clamp_min(NEGLIGIBLE**2)
    factor = torch.where(at < sizes.shape[1], square.sqrt(), torch.inf)
    return torch.where(sizes > 0, torch.minimum(sizes * factor, room), 0).mul_(directions.sign()).to(directions.dtype)


def _before(numbers: Tensor) -> Tensor:
    """Sums of those before each one."""
    return torch.cat([torch.zeros_like(numbers[:, :1]), numbers[:, :-1].cumsum(dim=1)], dim=1)


def relative(directions: Tensor) -> Tensor:
    """Each row over its largest absolute value, so that its squares neither vanish nor overflow; rows of 0 stay 0."""
    largest = directions.abs().amax(dim=1, keepdim=True)  # vector_norm(ord=inf) takes ten times as long
    return directions / largest.clamp_min_(torch.finfo(directions.dtype).tiny)
