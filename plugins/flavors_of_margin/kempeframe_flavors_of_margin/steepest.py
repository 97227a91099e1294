"""Steepest descent in any norm, as a torch optimizer for any training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from kempeframe_flavors_of_margin.names import check_geometry
from kempeframe_flavors_of_margin.norms import Norm, Scope, joined, parted, vector_direction

Step = Literal["unit", "dual"]
Kink = Literal["none", "clarke"]
OPTIONS: dict[str, tuple[str, ...]] = {
    "step": ("unit", "dual"),
    "scope": ("flat", "max", "l_2", "sum"),
    "kink": ("none", "clarke"),
    "orthogonalization": ("svd", "newton_schulz"),
}
ROW = 1024  # entries between two candidates of a search for the largest
TINY = 1e-30  # in place of a root of 0
SAFE = (1e-12, 1e12)  # sums of powers in between have lost nothing to under- or overflow


class SteepestDescent(torch.optim.Optimizer):
    """theta <- theta - lr u, with u the unit vector of a norm along which the loss falls fastest.

    norm: "l_1" (coordinate descent), "l_2" (normalised gradient descent), "l_inf" (sign descent), a number p >= 1, or
    "spectral" (U V^T of every matrix; with scope "max" this is Muon without momentum). scope: "flat", one l_p norm of
    all weights of the group, or how the norms of its tensors are combined: "max", "l_2", "sum". step: "unit", or
    "dual", u times the dual norm of the gradient: the paper's flow (gradient descent for "l_2"). ball: sizes r_l of
    the tensors' balls. momentum: of the gradient, v <- momentum v + g, before the direction is taken. weight_decay:
    takes lr weight_decay theta away besides.

    kink = "clarke", for flat "l_1" alone: where a step would undo the last one, the gradient is mixed with the last one
    so that the coordinate drops out of it, an element of the Clarke subdifferential; without it coordinate descent on
    ReLU networks ends in a 2-cycle across a kink (T18 of the brief). spend_gradients: use .grad as working space, which
    saves a copy; afterwards it holds no gradient. stacked: the tensors hold many networks in front, (S, ...), and each
    takes its own step; a closure then gives (S,) losses.

    Each parameter group has a norm of its own weights, and may have options of its own. A gradient that is nan makes
    weights nan, but for "l_inf", where its sign is 0. On CUDA no step waits for the device, but where the flat l_1 norm
    has to choose a coordinate.

    Raises:
        ValueError: an option that there is not, or that another one excludes.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        norm: str | float = "l_2",
        scope: Scope = "flat",
        step: Step = "unit",
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        ball: Sequence[float] = (),
        kink: Kink = "none",
        orthogonalization: Literal["svd", "newton_schulz"] = "svd",
        spend_gradients: bool = False,
        stacked: bool = False,
    ):
        self.stacked, self.spend_gradients = stacked, spend_gradients
        self.space: dict[Tensor, Tensor] = {}  # working space that a step need not ask for again
        options = dict(norm=norm, scope=scope, ball=tuple(ball), orthogonalization=orthogonalization)
        super().__init__(
            params, dict(lr=lr, step=step, momentum=momentum, weight_decay=weight_decay, kink=kink, **options)
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's, with the group's options checked.

        Raises:
            ValueError: an option that there is not, or that another one excludes.
        """
        super().add_param_group(param_group)
        try:
            _check(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step. The closure, where there is one, computes gradients and returns the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._step(group, params)
        return loss

    def undo_fraction(self, network: int = 0) -> float:
        """The share of coordinate steps that undid the one before; nan where no step chose a coordinate.

        network: which one of a stack. Above one half coordinate descent is in a cycle across a kink.
        """
        done, undone = 0, 0.0
        for state in self.state.values():
            if "chosen" in state:
                done += state["steps"]
                undone += float(state["undone"][network]) if self.stacked else float(state["undone"])
        return undone / done if done else math.nan

    def _step(self, group: dict[str, Any], params: list[Tensor]) -> None:
        rate = group["lr"]
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - rate * group["weight_decay"])
        sources = self._momentum(group, params)
        spend = self.spend_gradients and not group["momentum"]
        measured = _norm(group)
        p = measured.p if measured.scope == "flat" and not self.stacked else None
        on_cpu = params[0].device.type == "cpu"
        if p == 1 and group["kink"] == "none":
            self._coordinate(group, params, sources)
        elif p == math.inf:
            total = torch.stack(torch._foreach_norm(sources, 1)).sum() if group["step"] == "dual" else None
            signs = sources if spend else torch._foreach_sign(sources)
            if spend:
                torch._foreach_sign_(signs)
            if total is not None:
                torch._foreach_mul_(signs, total)
            torch._foreach_add_(params, signs, alpha=-rate)
        elif p == 2 and on_cpu and (size := _size(sources)) is not None:  # one pass less
            torch._foreach_add_(params, sources, alpha=-rate * (1.0 if group["step"] == "dual" else 1 / size))
        elif p == 2:
            scaled, length = normalised(sources)
            if group["step"] == "dual":
                torch._foreach_mul_(scaled, length)
            torch._foreach_add_(params, scaled, alpha=-rate)
        elif p == 3 and on_cpu and _cubic(group, params, sources, self.space):
            pass
        elif _is_coordinate(measured):
            self._coordinates(group, params, sources)
        else:
            units, dual = measured.direction(sources, self.stacked)
            self._move(group, params, units, dual)

    def _move(self, group: dict[str, Any], params: list[Tensor], units: list[Tensor], dual: Tensor) -> None:
        """Go along unit vectors, each network of a stack by its own length."""
        if group["step"] == "unit":
            torch._foreach_add_(params, units, alpha=-group["lr"])
            return
        for parameter, unit in zip(params, units, strict=True):
            length = dual.view(-1, *[1] * (unit.dim() - 1)) if self.stacked else dual[0]
            parameter.sub_(unit * length, alpha=group["lr"])

    def _momentum(self, group: dict[str, Any], params: list[Tensor]) -> list[Tensor]:
        gradients = [p.grad for p in params if p.grad is not None]
        if not group["momentum"]:
            return gradients
        for parameter in params:
            if "velocity" not in self.state[parameter]:
                self.state[parameter]["velocity"] = torch.zeros_like(parameter)
        velocities = [self.state[p]["velocity"] for p in params]
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, gradients)
        return velocities

    # ---- coordinate descent ----------------------------------------------------------------------------------------

    def _coordinate(self, group: dict[str, Any], params: list[Tensor], sources: list[Tensor]) -> None:
        """The one entry with the largest gradient moves; of equal ones the first."""
        which, place, value = largest_entry(sources)
        if value == 0 or math.isnan(value):
            if value:
                params[which].fill_(math.nan)
            return
        length = abs(value) if group["step"] == "dual" else 1.0
        params[which].view(-1)[place].sub_(math.copysign(group["lr"] * length, value))
        before = sum(p.numel() for p in params[:which])
        state = self.state[params[0]]
        chosen = int(math.copysign(before + place + 1, value))
        state["undone"] = state.get("undone", 0) + (chosen == -state.get("chosen", 0))
        state["steps"] = state.get("steps", 0) + 1
        state["chosen"] = chosen

    def _coordinates(self, group: dict[str, Any], params: list[Tensor], sources: list[Tensor]) -> None:
        """The same for each network of a stack, and with elements of the Clarke subdifferential at kinks."""
        gradient, state = joined(sources, self.stacked), self.state[params[0]]
        if "chosen" not in state:
            none = torch.zeros(len(gradient), dtype=torch.int64, device=gradient.device)
            state.update(steps=0, chosen=none, undone=none.clone())
        if group["kink"] == "clarke":
            gradient = self._at_kink(gradient, state, params[0])
        unit, dual = vector_direction(gradient, 1.0)
        self._move(group, params, parted(unit, params), dual)
        chosen = _chosen(gradient)
        state["undone"] += (chosen == -state["chosen"]) & (chosen != 0)
        state["steps"] += 1
        state["chosen"] = chosen

    def _at_kink(self, gradient: Tensor, state: dict[str, Any], first: Tensor) -> Tensor:
        """(S, P): g where the step does not undo the last; else lam g_last + (1 - lam) g, which is 0 at the coordinate.

        With lam = g_j / (g_j - g_last_j), in (0, 1) because the two have opposite signs.
        """
        last = state.get("last")
        if last is not None:
            place = gradient.abs().argmax(dim=1, keepdim=True)
            undoes = (_chosen(gradient) == -state["chosen"])[:, None] & (state["chosen"] != 0)[:, None]
            here, there = gradient.gather(1, place), last.gather(1, place)
            share = torch.where(undoes & (here * there < 0), here / (here - there), torch.zeros_like(here))
            mixed = torch.lerp(gradient, last, share).scatter(1, place, 0.0)
            gradient = torch.where(share > 0, mixed, gradient)
        state["last"] = gradient.clone()
        return gradient


def _check(group: Mapping[str, Any]) -> None:
    if not group["lr"] > 0:
        raise ValueError(f"lr = {group['lr']}: expected a number above 0")
    if not 0 <= group["momentum"] < 1:
        raise ValueError(f"momentum = {group['momentum']}: expected a number in [0, 1)")
    for option, choices in OPTIONS.items():
        if group[option] not in choices:
            raise ValueError(f"{option} = {group[option]!r}: expected {' or '.join(map(repr, choices))}")
    check_geometry(group["norm"], group["scope"], group["kink"], group["ball"])


def _norm(group: dict[str, Any]) -> Norm:
    return Norm(group["norm"], group["scope"], tuple(group["ball"]), group["orthogonalization"])


def _is_coordinate(norm: Norm) -> bool:
    return norm.scope == "flat" and norm.p == 1


def _chosen(gradient: Tensor) -> Tensor:
    """(S,) int64: 1 + the place of the largest entry, with its sign; 0 where all are 0."""
    place = gradient.abs().argmax(dim=1, keepdim=True)
    sign: Tensor = gradient.gather(1, place).sign().long()
    return ((place + 1) * sign)[:, 0]


def _size(sources: list[Tensor]) -> float | None:
    """The Euclidean norm; None where squares may have under- or overflowed."""
    square = sum(size * size for size in torch.stack(torch._foreach_norm(sources)).tolist())
    return math.sqrt(square) if SAFE[0] < square < SAFE[1] else None


def normalised(sources: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """g / |g|_2 and |g|_2, 0-dimensional; without under- or overflow, and without asking a device for a value."""
    largest = torch.stack(torch._foreach_norm(sources, math.inf)).amax()
    scaled = list(torch._foreach_div(sources, torch.where(largest > 0, largest, torch.ones_like(largest))))
    size = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(scaled)))
    torch._foreach_div_(scaled, torch.where(size > 0, size, torch.ones_like(size)))
    return scaled, size * largest


def _cubic(group: dict[str, Any], params: list[Tensor], sources: list[Tensor], space: dict[Tensor, Tensor]) -> bool:
    """The step of p = 3, u = sign(g) sqrt|g| / S^(1/3) with S = sum |g|^(3/2), without pow; False where S is unsafe."""
    roots = []
    total = 0.0
    for parameter, source in zip(params, sources, strict=True):
        root = space.get(parameter)
        if root is None:
            root = space[parameter] = torch.empty_like(source, memory_format=torch.contiguous_format)
        torch.abs(source, out=root)
        torch.div(source, root.sqrt_().clamp_min_(TINY), out=root)
        total += float(torch.dot(root.view(-1), source.reshape(-1)))
        roots.append(root)
    if not SAFE[0] < total < SAFE[1]:
        return False
    length = total ** (2 / 3) if group["step"] == "dual" else 1.0
    torch._foreach_add_(params, roots, alpha=-group["lr"] * length * total ** (-1 / 3))
    return True


def largest_entry(tensors: Sequence[Tensor]) -> tuple[int, int, float]:
    """Which tensor has the entry of largest size, where in it (flattened), and the entry; the first of equal ones.

    One pass for the extremes of each tensor, one over that tensor for candidates row by row: argmax over a long vector
    takes longer than both.
    """
    extremes = torch.stack([torch.stack(torch.aminmax(tensor)) for tensor in tensors]).tolist()
    sizes = [max(-low, high) if low == low else math.nan for low, high in extremes]
    which = max(range(len(sizes)), key=lambda k: (sizes[k] != sizes[k], sizes[k], -k))
    if math.isnan(sizes[which]):
        return which, 0, math.nan
    low, high = extremes[which]
    flat = tensors[which].reshape(-1)
    places = [_first(flat, value, high=value == high) for value in {low, high} if abs(value) == sizes[which]]
    place = min(places)
    return which, place, float(flat[place])


def _first(flat: Tensor, value: float, high: bool) -> int:
    """The first place of the largest (smallest) value of a vector."""
    whole = flat[: len(flat) // ROW * ROW].view(-1, ROW)
    if len(whole):
        extremes = whole.amax(dim=1) if high else whole.amin(dim=1)
        row = int((extremes == value).to(torch.uint8).argmax())
        if extremes[row] == value:
            return row * ROW + int((whole[row] == value).to(torch.uint8).argmax())
    rest = flat[len(whole) * ROW :]
    return len(whole) * ROW + int((rest == value).to(torch.uint8).argmax())
