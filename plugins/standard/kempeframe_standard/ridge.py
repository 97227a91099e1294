"""Stacked ridge solves: systems of one shape are one batch; one eigendecomposition serves all penalties."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import attrs
import torch
from torch import Tensor

from kempeframe.components import FitJob
from kempeframe.task import CannotGive, MomentSplit, Snapshot
from kempeframe_standard.networks import Readout, centred_targets

CHUNK_BYTES = 64 << 20  # matrices factorised in one batch


@attrs.define(eq=False)
class System:
    """One data set under one network: A w = b with A = matrix + n penalty I, for the penalties of several jobs.

    Primal (n >= k): matrix X'WX, right X'Wy, features None. Dual: matrix V X X' V with V = sqrt(W), right V y, and
    features V X, from which w = features' solution.
    """

    matrix: Tensor
    right: Tensor
    count: int
    features: Tensor | None
    jobs: list[int]


def solve_stack(jobs: Sequence[FitJob]) -> Iterator[tuple[int, Snapshot]]:
    """Solve every job; jobs that share a task must be neighbours (they share its system)."""
    waiting: list[System] = []
    for system in _systems(jobs, _Designs()):
        if waiting and (_shape(system) != _shape(waiting[0]) or _size(waiting) + system.matrix.nbytes > CHUNK_BYTES):
            yield from _solve(waiting, jobs)
            waiting = []
        waiting.append(system)
    if waiting:
        yield from _solve(waiting, jobs)


class _Designs:
    """Features and matrices of the last few inputs: other labels of the same inputs need only another right side."""

    KEPT = 8

    def __init__(self) -> None:
        self.made: OrderedDict[tuple[int, ...], tuple[Tensor, Tensor, Tensor]] = OrderedDict()

    def __call__(self, job: FitJob, network: Readout, inputs: Tensor, root: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weighted features (n, k) and their matrix, (k, k) where n >= k, else (n, n). One stack has one model."""
        key = (id(inputs), 0 if root is None else id(root), job.run.seed, job.run.root.seed)
        if root is not None or key not in self.made:
            features = network.features(inputs.to(job.run.device)).detach().double()
            features = features if root is None else features * root.to(features)
            primal = features.shape[0] >= features.shape[1]
            matrix = features.mT @ features if primal else features @ features.mT
            if root is not None:
                return features, matrix
            self.made[key] = (inputs, features, matrix)  # the inputs too: their id stays theirs
            if len(self.made) > self.KEPT:
                self.made.popitem(last=False)
        return self.made[key][1:]


def _systems(jobs: Sequence[FitJob], designs: _Designs) -> Iterator[System]:
    start = 0
    while start < len(jobs):
        end = start + 1
        while end < len(jobs) and jobs[end].task is jobs[start].task:
            end += 1
        yield _system(jobs[start], list(range(start, end)), designs)
        start = end


def _shape(system: System) -> tuple[object, ...]:
    return (system.matrix.shape, system.right.shape, system.features is None, len(system.jobs) > 1)


def _size(systems: Sequence[System]) -> int:
    return sum(system.matrix.nbytes for system in systems)


def _system(job: FitJob, indices: list[int], designs: _Designs) -> System:
    """The linear system of a job, in float64."""
    network, split = job.network, job.task.train
    if not isinstance(network, Readout):
        raise TypeError(f"ridge solves networks that are linear in their weights, not a {type(network).__name__}")
    if isinstance(split, MomentSplit):
        moments = network.feature_moments(split)
        job.task.release("train")
        gram, cross = (part.to(job.run.device, dtype=torch.float64) for part in (moments.gram, moments.cross))
        return System(gram, cross, moments.count, None, indices)
    batch = split.examples()
    if batch.targets is None:
        raise CannotGive("ridge needs targets")
    root = None if batch.weights is None else batch.weights.double().sqrt()[:, None]
    features, matrix = designs(job, network, batch.inputs, root)
    targets = centred_targets(batch.targets, job.task.classes).to(features)
    job.task.release("train")
    if root is not None:
        targets = targets * root.to(targets)
    count = len(features)
    if count >= features.shape[1]:
        return System(matrix, features.mT @ targets, count, None, indices)
    return System(matrix, targets, count, features, indices)


def _solve(systems: list[System], jobs: Sequence[FitJob]) -> Iterator[tuple[int, Snapshot]]:
    penalties = [[_penalty(jobs[i]) for i in system.jobs] for system in systems]
    if len(systems[0].jobs) == 1 and all(p[0] > 0 for p in penalties):
        solutions = [[w] for w in _by_cholesky(systems, [p[0] for p in penalties])]
    else:
        solutions = _by_eigenvectors(systems, penalties)
    for system, row, system_penalties in zip(systems, solutions, penalties, strict=True):
        for index, solution, penalty in zip(system.jobs, row, system_penalties, strict=True):
            residual = _residual(system, solution, penalty)
            weight = solution if system.features is None else system.features.mT @ solution
            network = jobs[index].network
            assert isinstance(network, Readout)
            with torch.no_grad():
                network.weight.copy_(weight)
            yield index, Snapshot(0, network, {"residual": residual, "converged": residual < 1e-6})


def _penalty(job: FitJob) -> float:
    return float(job.optimizer.penalty)  # type: ignore[attr-defined]


def _by_cholesky(systems: list[System], penalties: list[float]) -> list[Tensor]:
    """A solution (k, outputs) for each. One penalty each: every distinct matrix is factorised once."""
    distinct: dict[tuple[int, float], int] = {}
    number = [
        distinct.setdefault((id(s.matrix), s.count * p), len(distinct)) for s, p in zip(systems, penalties, strict=True)
    ]
    first = [number.index(i) for i in range(len(distinct))]
    size = systems[0].matrix.shape[0]
    matrix = torch.stack([_even(systems[i].matrix, square=True) for i in first])
    loads = torch.tensor([systems[i].count * penalties[i] for i in first], dtype=torch.float64)
    matrix.diagonal(dim1=1, dim2=2)[:, :size].add_(loads.to(matrix.device)[:, None])
    matrix.diagonal(dim1=1, dim2=2)[:, size:].fill_(1.0)
    factor, info = torch.linalg.cholesky_ex(matrix)
    sound = (info == 0).tolist()
    if len(distinct) == len(systems) and all(sound):
        right = torch.stack([_even(system.right, square=False) for system in systems])
        return list(_substitute(factor, right)[:, :size])
    return [
        _substitute(factor[i], _even(system.right, square=False))[:size]
        if sound[i]  # else it is not positive definite to working precision
        else _by_eigenvectors([system], [[penalty]])[0][0]
        for system, penalty, i in zip(systems, penalties, number, strict=True)
    ]


def _even(matrix: Tensor, square: bool) -> Tensor:
    """With zeros up to an even number of rows, and of columns if it is square.

    In a batch of matrices of odd size every other one starts off a 16-byte boundary, where the linear algebra library
    rounds otherwise: a fit's last bits would depend on its place in the stack.
    """
    odd = matrix.shape[0] % 2
    return torch.nn.functional.pad(matrix, (0, odd if square else 0, 0, odd)) if odd else matrix


def _substitute(factor: Tensor, right: Tensor) -> Tensor:
    """(L L')^-1 right. Not cholesky_solve: on small matrices its last bits depend on where in a batch they lie."""
    forward = torch.linalg.solve_triangular(factor, right, upper=False)
    solution: Tensor = torch.linalg.solve_triangular(factor.mT, forward, upper=True)
    return solution


def _by_eigenvectors(systems: list[System], penalties: list[list[float]]) -> list[list[Tensor]]:
    """Solutions for every penalty of every system. Eigenvalues that are rounding count as 0: minimum norm."""
    solutions = []
    for system, loads in zip(systems, penalties, strict=True):
        values, vectors = torch.linalg.eigh(system.matrix)
        floor = values[-1] * len(values) * torch.finfo(values.dtype).eps
        values = torch.where(values > floor, values, 0.0)
        total = values + system.count * torch.tensor(loads, dtype=values.dtype, device=values.device)[:, None]
        inverse = torch.where(total > 0, 1 / torch.where(total > 0, total, 1.0), 0.0)  # (penalties, k)
        scaled = inverse[:, :, None] * (vectors.mT @ system.right)  # (penalties, k, outputs)
        solutions.append(list(vectors @ scaled))
    return solutions


def _residual(system: System, solution: Tensor, penalty: float) -> float:
    """|A w - b| / |b|; for a singular system at penalty 0, of its normal equations."""
    gap = system.matrix @ solution + system.count * penalty * solution - system.right
    if penalty == 0:
        gap = system.matrix @ gap
    size = torch.linalg.vector_norm(system.right)
    return float(torch.linalg.vector_norm(gap) / size) if size > 0 else 0.0
