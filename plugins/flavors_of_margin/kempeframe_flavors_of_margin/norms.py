"""Norms of a whole network: their values, their duals, and the unit step that a gradient gains most by.

A network's weights are a list of tensors. In a stack every tensor has the networks in front, (S, ...); alone they are
as they are, and S = 1. Values and duals are (S,). With 1/p + 1/q = 1 (Section 3.2 of the brief):

    l_p block         N = |w|_p,       N* = |g|_q,          direction u = sign(g) |g|^(q-1) / |g|_q^(q-1)
    spectral block    N = sigma_max,   N* = sum of sigmas,  direction U V^T
    several blocks    N = |(N_l)|_c,    N* = |(N*_l)|_c',   direction_l = v_l u_l, v the l_c direction of (N*_l)

with c = inf (scope "max"), 2 ("l_2"), 1 ("sum"), and c = p for scope "flat", where the blocks make no difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import attrs
import torch
from torch import Tensor

from kempeframe_flavors_of_margin.names import check_geometry, exponent

Scope = Literal["flat", "max", "l_2", "sum"]
COMBINED = {"max": math.inf, "l_2": 2.0, "sum": 1.0}
LARGEST_EXPONENT = 1e3  # q beyond it is taken for infinity: |g|^(q-1) has no digits left
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Muon's quintic


def conjugate(p: float) -> float:
    """q with 1/p + 1/q = 1; infinity from LARGEST_EXPONENT on."""
    if p == 1:
        return math.inf
    q = p / (p - 1) if p < math.inf else 1.0
    return math.inf if q > LARGEST_EXPONENT else q


def vector_norm(x: Tensor, p: float) -> Tensor:
    """|x|_p of each row: (S, n) -> (S,). Scaled by the largest entry, so that no power over- or underflows."""
    if p in (1, math.inf):
        plain: Tensor = torch.linalg.vector_norm(x, p, dim=1)
        return plain
    largest = x.abs().amax(dim=1, keepdim=True)
    scale = torch.where(largest > 0, largest, torch.ones_like(largest))
    scaled: Tensor = torch.linalg.vector_norm(x / scale, p, dim=1) * scale[:, 0]
    return scaled


def vector_direction(g: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """The u with |u|_p = 1 and <u, g> = |g|_q in each row, and |g|_q: (S, n) -> (S, n), (S,).

    p = 1 takes one entry, the first of the largest; the direction of 0 is 0.
    """
    q = conjugate(p)
    if q == 1:
        return g.sign(), g.abs().sum(dim=1)
    if q == math.inf:
        place = g.abs().argmax(dim=1, keepdim=True)
        there = g.gather(1, place)
        return torch.zeros_like(g).scatter_(1, place, there.sign()), there[:, 0].abs()
    largest = g.abs().amax(dim=1, keepdim=True)
    scaled = g / torch.where(largest > 0, largest, torch.ones_like(largest))
    if q == 2:
        size = torch.linalg.vector_norm(scaled, 2, dim=1, keepdim=True)
        return scaled / torch.where(size > 0, size, torch.ones_like(size)), (size * largest)[:, 0]
    powers = scaled.sign() * power(scaled.abs(), q - 1)
    size = (powers * scaled).sum(dim=1, keepdim=True) ** (1 / q)
    return powers / torch.where(size > 0, size, torch.ones_like(size)) ** (q - 1), (size * largest)[:, 0]


def power(x: Tensor, by: float) -> Tensor:
    """x ** by for x >= 0; not by pow, which takes several times as long as a logarithm and an exponential."""
    if by == 0.5:
        return x.sqrt()
    if by in (1, 2):
        return x if by == 1 else x * x
    return x.log().mul_(by).exp_()


def spectral_norm(x: Tensor) -> Tensor:
    """The largest singular value of each matrix: (S, m, n) -> (S,)."""
    sigma: Tensor = torch.linalg.svdvals(x)
    return sigma[:, 0]


def spectral_direction(g: Tensor) -> tuple[Tensor, Tensor]:
    """U V^T without the directions of no singular value, and the nuclear norm: (S, m, n) -> (S, m, n), (S,)."""
    left, sigma, right = torch.linalg.svd(g, full_matrices=False)
    floor = torch.finfo(g.dtype).eps * max(g.shape[1:]) * sigma[:, :1]
    kept = (sigma > floor).to(g.dtype)
    return (left * kept[:, None]) @ right, sigma.sum(dim=1)


def newton_schulz(g: Tensor, steps: int = 5) -> tuple[Tensor, Tensor]:
    """Muon's approximate U V^T, whose singular values lie in [0.68, 1.2], and <u, g>: (S, m, n) -> (S, m, n), (S,).

    No maximiser of <u, g> on the unit ball; it needs no singular value decomposition.
    """
    a, b, c = NEWTON_SCHULZ
    x = g.mT if g.shape[1] > g.shape[2] else g
    size = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
    x = x / torch.where(size > 0, size, torch.ones_like(size))
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    u = x.mT if g.shape[1] > g.shape[2] else x
    return u, (u * g).sum(dim=(1, 2))


@attrs.frozen
class Norm:
    """A norm of all weights of a network. `ball` are the sizes r_l of the blocks: N_l / r_l takes the place of N_l."""

    norm: str | float = "l_2"
    scope: Scope = "flat"
    ball: tuple[float, ...] = ()
    orthogonalization: Literal["svd", "newton_schulz"] = "svd"

    def __attrs_post_init__(self) -> None:
        check_geometry(self.norm, self.scope, ball=self.ball)

    @property
    def p(self) -> float | None:
        """p of the blocks; None: spectral."""
        return exponent(self.norm)

    @property
    def across(self) -> float:
        """c: in which l_c norm the blocks are combined."""
        if self.scope != "flat":
            return COMBINED[self.scope]
        assert self.p is not None
        return self.p

    def value(self, tensors: Sequence[Tensor], stacked: bool = False) -> Tensor:
        """The norm, (S,)."""
        if self.scope == "flat":
            return vector_norm(joined(tensors, stacked), self.across)
        sizes = [self._block(tensor, stacked) for tensor in tensors]
        radii = self._radii(tensors)
        return vector_norm(torch.stack([s / r for s, r in zip(sizes, radii, strict=True)], dim=1), self.across)

    def dual(self, gradients: Sequence[Tensor], stacked: bool = False) -> Tensor:
        """The dual norm, (S,): the largest <u, g> over the unit ball."""
        if self.scope == "flat":
            return vector_norm(joined(gradients, stacked), conjugate(self.across))
        sizes = [self._block_dual(g, stacked) * r for g, r in zip(gradients, self._radii(gradients), strict=True)]
        return vector_norm(torch.stack(sizes, dim=1), conjugate(self.across))

    def direction(self, gradients: Sequence[Tensor], stacked: bool = False) -> tuple[list[Tensor], Tensor]:
        """A u of norm 1 with the largest <u, g>, in the gradients' shapes, and that product, the dual norm (S,)."""
        if self.scope == "flat":
            whole, dual = vector_direction(joined(gradients, stacked), self.across)
            return parted(whole, gradients), dual
        found = [self._block_direction(gradient, stacked) for gradient in gradients]
        radii = self._radii(gradients)
        sizes = torch.stack([size * radius for (_, size), radius in zip(found, radii, strict=True)], dim=1)
        shares, dual = vector_direction(sizes, self.across)
        units = [
            unit * (share * radius).view(-1, *[1] * (unit.dim() - 1))
            for (unit, _), share, radius in zip(found, shares.unbind(1), radii, strict=True)
        ]
        return [unit.view(gradient.shape) for unit, gradient in zip(units, gradients, strict=True)], dual

    def _radii(self, tensors: Sequence[Tensor]) -> tuple[float, ...]:
        """Numbers, no tensor: bringing one to a device would wait for it."""
        if self.ball and len(self.ball) != len(tensors):
            raise ValueError(f"ball has {len(self.ball)} sizes; the network has {len(tensors)} blocks of weights")
        return self.ball or (1.0,) * len(tensors)

    def _block(self, tensor: Tensor, stacked: bool) -> Tensor:
        if self.p is None:
            return spectral_norm(matrices(tensor, stacked))
        return vector_norm(rows(tensor, stacked), self.p)

    def _block_dual(self, gradient: Tensor, stacked: bool) -> Tensor:
        if self.p is None:
            sigma: Tensor = torch.linalg.svdvals(matrices(gradient, stacked))
            return sigma.sum(dim=1)
        return vector_norm(rows(gradient, stacked), conjugate(self.p))

    def _block_direction(self, gradient: Tensor, stacked: bool) -> tuple[Tensor, Tensor]:
        if self.p is not None:
            return vector_direction(rows(gradient, stacked), self.p)
        solve = newton_schulz if self.orthogonalization == "newton_schulz" else spectral_direction
        return solve(matrices(gradient, stacked))


def rows(tensor: Tensor, stacked: bool) -> Tensor:
    """(S, n): the entries of each network."""
    return tensor.flatten(1) if stacked else tensor.reshape(1, -1)


def joined(tensors: Sequence[Tensor], stacked: bool) -> Tensor:
    """(S, P): all weights of each network."""
    return torch.cat([rows(tensor, stacked) for tensor in tensors], dim=1)


def parted(whole: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """(S, P) back into tensors of these shapes."""
    sizes = [tensor.numel() // len(whole) for tensor in like]
    return [part.reshape(tensor.shape) for part, tensor in zip(torch.split(whole, sizes, dim=1), like, strict=True)]


def matrices(tensor: Tensor, stacked: bool) -> Tensor:
    """(S, m, n): a kernel (out, in, height, width) is a matrix (out, the rest), a vector has one row."""
    whole = tensor if stacked else tensor.unsqueeze(0)
    return whole.flatten(2) if whole.dim() > 2 else whole.reshape(len(whole), 1, -1)
