"""Exact maximum margins of linear classifiers in any l_p norm, also under an attack (Section 3.7 of the brief).

Rows z_i of Z are y_i x_i. The optimum of

    gamma* = max_{|w|_p <= 1} min_i <z_i, w> - epsilon |w|_r  =  min_{lambda, v} |Z' lambda - epsilon v|_q

over lambda in the simplex and v in the unit ball of the attack's norm, which is dual to r: both sides are computed,
and their difference is the accuracy. NumPy and SciPy alone; nothing of kempeframe.
"""

from __future__ import annotations

import math

import attrs
import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog, minimize, nnls

from kempeframe_flavors_of_margin.theory import conjugate, direction, norm

Array = npt.NDArray[np.float64]
TOLERANCE = 1e-6  # of the margin, between its two sides
DUAL_NORMS = {"l_1": 1.0, "l_2": 2.0, "l_inf": math.inf}


class NotSeparable(ValueError):
    """No linear classifier is right on all examples."""


@attrs.frozen(eq=False)
class Oracle:
    """The largest margin, the classifier that has it (norm 1), and by how much either may be off."""

    margin: float
    weight: Array
    gap: float


def max_margin(rows: Array, p: float, epsilon: float = 0.0, dual: str = "l_1") -> Oracle:
    """The largest l_p margin of rows (n, d), less epsilon times the `dual` norm of the attack's ball.

    Raises:
        NotSeparable: it is not above 0.
        ValueError: p < 1, where the problem is not convex.
        ArithmeticError: the two sides of the optimum do not meet.
    """
    if not p >= 1:
        raise ValueError(f"p = {p:g}: below 1 it is no norm, and the largest margin is no convex problem")
    r = DUAL_NORMS[dual]
    polyhedral = p in (1, math.inf) and (epsilon == 0 or r in (1, math.inf))
    if polyhedral:
        w = _linear_program(rows, p, epsilon, r)
    elif p == 2 and epsilon == 0:
        w = _least_distance(rows)
    else:
        w = _smooth(rows, p, epsilon, r)
    size = norm(w, p)
    if size == 0:
        raise _not_separable(epsilon)
    w = w / size
    margin = float((rows @ w).min()) - epsilon * norm(w, r)
    if margin <= TOLERANCE * float(np.abs(rows).max()):
        raise _not_separable(epsilon)
    upper = margin if polyhedral else _dual_value(rows, w, p, epsilon, r)
    if upper - margin > 10 * TOLERANCE * upper:
        raise ArithmeticError(
            f"the l_{p:g} margin lies between {margin:g} and {upper:g}: the solver did not get closer"
        )
    return Oracle(margin, w, max(upper - margin, 0.0))


def _not_separable(epsilon: float) -> NotSeparable:
    attacked = f" under an attack of size {epsilon:g}" if epsilon else ""
    return NotSeparable(f"the training examples are not linearly separable{attacked}: there is no largest margin")


def _linear_program(rows: Array, p: float, epsilon: float, r: float) -> Array:
    """max t over w = a - b with a, b >= 0, t, and sizes e1 >= |w|_p (1 or inf), e2 >= |w|_r."""
    n, d = rows.shape
    # variables: a (d), b (d), t, e2
    cost = np.zeros(2 * d + 2)
    cost[-2] = -1
    below = [np.hstack([-rows, rows, np.ones((n, 1)), np.full((n, 1), epsilon)])]
    right = [np.zeros(n)]
    one, many = np.ones((1, 2 * d)), np.hstack([np.eye(d), np.eye(d)])
    below.append(np.hstack([one, np.zeros((1, 2))]) if p == 1 else np.hstack([many, np.zeros((d, 2))]))
    right.append(np.ones(1 if p == 1 else d))
    below.append(np.hstack([one, [[0.0, -1.0]]]) if r == 1 else np.hstack([many, np.zeros((d, 1)), -np.ones((d, 1))]))
    right.append(np.zeros(1 if r == 1 else d))
    bounds = [(0, None)] * (2 * d) + [(None, None), (0, None)]
    found = linprog(cost, np.vstack(below), np.concatenate(right), bounds=bounds, method="highs")
    if found.status != 0:
        raise ArithmeticError(f"the linear program has no solution: {found.message}")
    return np.asarray(found.x[:d] - found.x[d : 2 * d])


def _least_distance(rows: Array) -> Array:
    """min |w|_2 such that Z w >= 1 as nonnegative least squares (Lawson and Hanson, 1974, chapter 23)."""
    n, d = rows.shape
    scale = float(np.abs(rows).max())
    matrix = np.vstack([rows.T / scale, np.ones(n)])
    target = np.zeros(d + 1)
    target[-1] = 1
    solution, residual = nnls(matrix, target, maxiter=50 * (n + d))
    rest = matrix @ solution - target
    return np.zeros(d) if residual < 1e-10 else np.asarray(-rest[:d] / rest[d])


def _smooth(rows: Array, p: float, epsilon: float, r: float) -> Array:
    """The dual by sequential quadratic programming over lambda in the simplex and v in the attack's ball."""
    weight, attack = _dual_point(rows, p, epsilon, r, None)
    return direction(rows.T @ weight - epsilon * attack, p)


def _dual_value(rows: Array, w: Array, p: float, epsilon: float, r: float) -> float:
    weight, attack = _dual_point(rows, p, epsilon, r, w)
    return norm(rows.T @ weight - epsilon * attack, conjugate(p))


def _dual_point(rows: Array, p: float, epsilon: float, r: float, w: Array | None) -> tuple[Array, Array]:
    """lambda (n,) and v (d,) at the smallest |Z' lambda - epsilon v|_q. Of the l_2 norm without attack by NNLS."""
    n, d = rows.shape
    q = conjugate(p)
    if q == 1:
        raise ValueError("p = inf against an attack in l_2 has no exact solver here: use p = 2, or another attack")
    if p == 2 and epsilon == 0:
        scale = float(np.abs(rows).max())
        solution, _ = nnls(np.vstack([rows.T / scale, np.ones(n)]), np.append(np.zeros(d), 1.0), maxiter=50 * (n + d))
        return solution / solution.sum(), np.zeros(d)
    s = conjugate(r)  # the attack's own norm
    size = float(np.abs(rows).max())
    free = (d if s > 1 else 2 * d) if epsilon else 0

    def point(x: Array) -> tuple[Array, Array]:
        v = x[n:] if s > 1 else x[n : n + d] - x[n + d :]
        return x[:n], v if epsilon else np.zeros(d)

    def value(x: Array) -> tuple[float, Array]:
        weight, v = point(x)
        g = (rows.T @ weight - epsilon * v) / size
        length = norm(g, q)
        if length == 0:
            return 0.0, np.zeros_like(x)
        u = direction(g, p)
        by_v = -epsilon * u / size * length
        slopes = [rows @ u / size * length, by_v if s > 1 else np.concatenate([by_v, -by_v])]
        return length**2 / 2, np.concatenate(slopes[: 2 if epsilon else 1])

    constraints = [{"type": "eq", "fun": lambda x: x[:n].sum() - 1, "jac": lambda x: _mask(n, n + free)}]
    bounds = [(0.0, 1.0)] * n + [(-1.0, 1.0) if s > 1 else (0.0, 1.0)] * free
    if epsilon and s == 2:
        constraints.append(
            {"type": "ineq", "fun": lambda x: 1 - x[n:] @ x[n:], "jac": lambda x: -2 * np.append(np.zeros(n), x[n:])}
        )
    if epsilon and s == 1:
        constraints.append({"type": "ineq", "fun": lambda x: 1 - x[n:].sum(), "jac": lambda x: _mask(n, n + free) - 1})
    start = np.concatenate([np.full(n, 1 / n), np.zeros(free)])
    options = {"maxiter": 2000, "ftol": 1e-16}
    found = minimize(value, start, jac=True, bounds=bounds, constraints=constraints, method="SLSQP", options=options)
    weight, v = point(found.x)
    weight = np.maximum(weight, 0)
    return weight / weight.sum(), v


def _mask(first: int, length: int) -> Array:
    """1 in the first places."""
    return np.concatenate([np.ones(first), np.zeros(length - first)])


def margin_rows(inputs: Array, targets: npt.NDArray[np.int64], outputs: int) -> Array:
    """The rows whose products with the weights (flattened, features x outputs) are the margins.

    One output: y_i x_i with y = -1, +1. Several: x_i (e_t - e_j) for every j other than the class t.
    """
    flat = inputs.reshape(len(inputs), -1)
    if outputs == 1:
        return (2.0 * targets - 1)[:, None] * flat
    signs = np.eye(outputs)
    rows = [
        flat[:, :, None] * (signs[targets] - signs[(targets + shift) % outputs])[:, None, :]
        for shift in range(1, outputs)
    ]
    return np.concatenate(rows).reshape(len(flat) * (outputs - 1), -1)
