"""Where attacks may go: a ball round each clean input, cut by the box that inputs live in.

Points, gradients and directions are (n, d): examples flattened. Half-precision inputs are attacked in float32.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from kempeframe_standard.draws import Draws
from kempeframe_standard.projections import best_in_l1, best_in_l2, nearest_in_l1, relative


class Region:
    """Points within epsilon of their clean inputs, in a norm that is not larger where a coordinate is smaller.

    A subclass gives the ball. Bringing a shift into the ball and then clipping the point to the box leaves it in both:
    the clean input lies in the box, so clipping makes no coordinate of the shift larger.
    """

    def __init__(self, inputs: Tensor, epsilon: float, box: tuple[float, float] | None):
        """inputs: (n, d), clean, in the box."""
        self.inputs, self.epsilon = inputs, epsilon
        self.low, self.high = (-torch.inf, torch.inf) if box is None else limits(box, inputs.dtype)
        self.dtype = torch.promote_types(inputs.dtype, torch.float32)
        self.centres = inputs.to(self.dtype)
        # Steps stay inside by more than they are rounded, so that `contain` has nothing left to do.
        self.inside = epsilon * (1 - 8 * torch.finfo(self.dtype).eps)

    def keep(self, rows: Tensor) -> Region:
        """The region of the examples with these numbers."""
        kept = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(kept, name, value.index_select(0, rows))
        return kept

    # ---- a ball ----------------------------------------------------------------------------------------------------

    def norms(self, shifts: Tensor) -> Tensor:
        """(n,), by which the ball is measured."""
        raise NotImplementedError

    def into_ball(self, shifts: Tensor, radius: float) -> Tensor:
        """Shifts brought into the ball of this radius, no coordinate larger than before. May write into them."""
        raise NotImplementedError

    def best(self, directions: Tensor) -> Tensor:
        """The points that maximise <direction, point>, exactly."""
        raise NotImplementedError

    def unit(self, gradients: Tensor, points: Tensor, size: float) -> Tensor:
        """Steps of this size that raise a function fastest which has these gradients at these points.

        A gradient that is no number counts as 0. May write into the gradients.
        """
        raise NotImplementedError

    def spread(self, draws: Draws, stream: int) -> Tensor:
        """(n, d) float64, uniform in the ball of radius 1."""
        raise NotImplementedError

    # ---- what attacks do with it -----------------------------------------------------------------------------------

    def step(self, points: Tensor, gradients: Tensor, size: float) -> Tensor:
        """Points after a steepest step of this size, inside but for rounding. May write into all it is given."""
        shifts = points.add_(self.unit(gradients, points, size)).sub_(self.centres)
        return self._settled(self.into_ball(shifts, self.inside).add_(self.centres))

    def uniform(self, draws: Draws, stream: int) -> Tensor:
        """Random points: uniform in the ball, clipped to the box."""
        return self._settled(self.centres + self.spread(draws, stream).mul_(self.epsilon))

    def noise(self, draws: Draws, stream: int) -> Tensor:
        """Random points at distance epsilon, clipped to the box: uniform in the ball, pushed out to its surface."""
        spread = self.spread(draws, stream)
        return self._settled(self.centres + spread * (self.epsilon / self.norms(spread))[:, None])

    def contain(self, points: Tensor) -> Tensor:
        """Points as inputs, (n, d) in their type: inside ball and box exactly, whatever they were before.

        Rounding x + s may lengthen the shift. Where it does, the neighbour on the side of x is taken: then no
        coordinate of the shift is larger than it was in float64.
        """
        clean = self.inputs.double()
        shifts = (points.double() - clean).nan_to_num_(nan=0.0)
        shifts = self.into_ball(shifts, self.epsilon)
        points = (clean + shifts).clamp_(self.low, self.high)
        return rounded_towards(self.inputs, points, shifts)

    def room(self, directions: Tensor) -> Tensor:
        """How far the box lets each coordinate move from the clean input, in the direction of its sign."""
        clean = self.inputs.to(directions.dtype)
        return torch.where(directions > 0, self.high - clean, clean - self.low)

    def _settled(self, points: Tensor) -> Tensor:
        """In the box; of half-precision inputs, exactly what the network will see."""
        points = points.clamp_(self.low, self.high) if self.high < torch.inf else points
        if self.inputs.dtype == self.dtype:
            return points.to(self.dtype)
        return rounded_towards(self.inputs, points, points - self.centres).to(self.dtype)


class LinfRegion(Region):
    """|s_j| <= epsilon for every j: a box of its own."""

    def __init__(self, inputs: Tensor, epsilon: float, box: tuple[float, float] | None):
        super().__init__(inputs, epsilon, box)
        self.lower, self.upper = (self._end(shift).to(self.dtype) for shift in (-epsilon, epsilon))

    def _end(self, shift: float) -> Tensor:
        points = (self.inputs.double() + shift).clamp_(self.low, self.high)
        return rounded_towards(self.inputs, points, points.new_full((), shift))

    def norms(self, shifts: Tensor) -> Tensor:
        return shifts.abs().amax(dim=1)

    def into_ball(self, shifts: Tensor, radius: float) -> Tensor:
        return shifts.clamp_(-radius, radius)

    def best(self, directions: Tensor) -> Tensor:
        return torch.where(directions == 0, self.centres, torch.where(directions > 0, self.upper, self.lower))

    def unit(self, gradients: Tensor, points: Tensor, size: float) -> Tensor:
        return gradients.sign_().mul_(size)  # the sign of what is no number is 0

    def step(self, points: Tensor, gradients: Tensor, size: float) -> Tensor:
        return self._settled(points.add_(gradients.sign_(), alpha=size))

    def contain(self, points: Tensor) -> Tensor:
        points = torch.where(points.isnan(), self.centres, points)
        return self._settled(points).to(self.inputs.dtype)

    def spread(self, draws: Draws, stream: int) -> Tensor:
        return draws.uniform(stream, self.inputs.shape[1]).mul_(2).sub_(1)

    def _settled(self, points: Tensor) -> Tensor:
        # The ends are exact, and whatever is rounded between them stays there.
        points = points.to(self.dtype)
        return torch.minimum(torch.maximum(points, self.lower, out=points), self.upper, out=points)


class L2Region(Region):
    """|s|_2 <= epsilon."""

    def norms(self, shifts: Tensor) -> Tensor:
        norms: Tensor = torch.linalg.vector_norm(shifts, dim=1)
        return norms

    def into_ball(self, shifts: Tensor, radius: float) -> Tensor:
        norms = self.norms(shifts).clamp_min_(torch.finfo(shifts.dtype).tiny)
        factors = (radius / norms).clamp_max_(1)
        return shifts.mul_(factors[:, None])

    def best(self, directions: Tensor) -> Tensor:
        return self.centres + best_in_l2(directions, self.room(directions), self.epsilon).to(self.dtype)

    def unit(self, gradients: Tensor, points: Tensor, size: float) -> Tensor:
        gradients = relative(gradients.nan_to_num_(nan=0.0))
        factors = size / self.norms(gradients).clamp_min_(1)  # a largest coordinate of 1, or all are 0
        return gradients.mul_(factors[:, None])

    def spread(self, draws: Draws, stream: int) -> Tensor:
        """A normal vector's direction, at a radius whose d-th power is uniform."""
        drawn = draws.uniform(stream, self.inputs.shape[1] + 1)
        normal: Tensor = torch.special.ndtri(drawn[:, :-1])
        radius = drawn[:, -1].pow(1 / self.inputs.shape[1])
        return normal * (radius / self.norms(normal))[:, None]


class L1Region(Region):
    """|s|_1 <= epsilon. A step moves the coordinate of largest gradient as far as the box lets it, then the next."""

    def norms(self, shifts: Tensor) -> Tensor:
        return shifts.abs().sum(dim=1)

    def into_ball(self, shifts: Tensor, radius: float) -> Tensor:
        return nearest_in_l1(shifts, self.room(shifts), radius)

    def best(self, directions: Tensor) -> Tensor:
        return self.centres + best_in_l1(directions, self.room(directions), self.epsilon)

    def unit(self, gradients: Tensor, points: Tensor, size: float) -> Tensor:
        gradients = gradients.nan_to_num_(nan=0.0)
        room = torch.where(gradients > 0, self.high - points, points - self.low).clamp_min_(0)
        return best_in_l1(gradients, room, size)

    def spread(self, draws: Draws, stream: int) -> Tensor:
        """Exponentials over the sum of one more than there are, with random signs."""
        signed = draws.uniform(stream, self.inputs.shape[1] + 1).mul_(2).sub_(1)  # never 0
        sizes = signed.abs().log_().neg_()
        return (signed.sign_() * sizes)[:, :-1] / sizes.sum(dim=1, keepdim=True)


REGIONS: dict[str, type[Region]] = {"l_inf": LinfRegion, "l_2": L2Region, "l_1": L1Region}


def limits(box: tuple[float, float], dtype: torch.dtype) -> tuple[float, float]:
    """The box's ends as inputs of this type have them."""
    low, high = torch.tensor(box, dtype=dtype).tolist()
    return low, high


def rounded_towards(centres: Tensor, points: Tensor, shifts: Tensor) -> Tensor:
    """Points in the type of the centres, none farther from them in any coordinate than its shift."""
    rounded = points.to(centres.dtype)
    farther = (rounded.to(shifts.dtype) - centres.to(shifts.dtype)).abs() > shifts.abs()
    return torch.where(farther, _neighbours(rounded, centres), rounded)


def _neighbours(points: Tensor, towards: Tensor) -> Tensor:
    if points.dtype == torch.float16 and points.device.type != "cpu":
        return torch.nextafter(points.cpu(), towards.cpu()).to(points.device)  # CUDA has none for float16
    return torch.nextafter(points, towards)
