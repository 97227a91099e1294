"""Exact largest margins: worked numbers, closed forms, both sides of the duality, and what has no margin."""

from __future__ import annotations

import math

import numpy as np
import pytest
from kempeframe_flavors_of_margin import theory
from kempeframe_flavors_of_margin.theory_oracles import NotSeparable, margin_rows, max_margin

Z = np.array([[2.0, 1.0, 0.0], [1.0, -1.0, 1.0], [0.5, 2.0, -1.0]])
EXPONENTS = [1.0, 1.5, 2.0, 3.0, 4.0, math.inf]


def separable(n: int = 15, d: int = 25, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((n, d)), rng.standard_normal(d)
    return x * np.sign(x @ w)[:, None]


def test_the_worked_numbers() -> None:
    """W2 and W3 of the brief."""
    for p, wanted in {1.0: 4 / 7, 2.0: 0.872872, math.inf: 1.0}.items():
        assert max_margin(np.diag([1.0, 2.0, 4.0]), p).margin == pytest.approx(wanted, abs=1e-6)
    first = max_margin(Z, 1.0)
    assert first.margin == pytest.approx(0.7142857, abs=1e-7)
    assert first.weight == pytest.approx([6 / 7, 1 / 7, 0])
    second = max_margin(Z, 2.0)
    assert second.margin == pytest.approx(0.8467474, abs=1e-7)
    assert second.weight == pytest.approx([0.9358787, 0.2896767, 0.2005454], abs=1e-6)
    third = max_margin(Z, math.inf)
    assert third.margin == pytest.approx(1.1666667, abs=1e-7)
    assert third.weight == pytest.approx([1, 5 / 6, 1], abs=1e-7)


@pytest.mark.parametrize("p", EXPONENTS)
def test_diagonal_data_and_single_points_have_closed_forms(p: float) -> None:
    a = np.array([0.5, 1.0, 3.0])
    wanted = 0.5 if p == math.inf else float((a**-p).sum()) ** (-1 / p)
    assert max_margin(np.diag(a), p).margin == pytest.approx(wanted, rel=1e-6)
    x = np.array([[3.0, -4.0, 1.0]])
    assert max_margin(x, p).margin == pytest.approx(theory.norm(x[0], theory.conjugate(p)), rel=1e-6)


@pytest.mark.parametrize("p", EXPONENTS)
def test_no_direction_has_a_larger_margin_and_no_weights_a_smaller_dual(p: float) -> None:
    rows, rng = separable(), np.random.default_rng(1)
    found = max_margin(rows, p)
    assert theory.norm(found.weight, p) == pytest.approx(1)
    assert float((rows @ found.weight).min()) == pytest.approx(found.margin)
    for scale in (0.01, 0.1, 1.0):
        for _ in range(50):
            w = found.weight + scale * rng.standard_normal(25) / 25
            assert (rows @ w).min() / theory.norm(w, p) <= found.margin * (1 + 1e-6)
            weights = rng.dirichlet(np.full(15, scale))
            assert theory.norm(rows.T @ weights, theory.conjugate(p)) >= found.margin * (1 - 1e-6)


@pytest.mark.parametrize(("p", "dual"), [(1.0, "l_1"), (2.0, "l_1"), (math.inf, "l_1"), (2.0, "l_inf"), (3.0, "l_2")])
def test_under_an_attack_both_sides_of_the_optimum_meet(p: float, dual: str) -> None:
    rows, epsilon = separable(), 0.05
    found = max_margin(rows, p, epsilon, dual)
    plain = max_margin(rows, p)
    r = {"l_1": 1.0, "l_2": 2.0, "l_inf": math.inf}[dual]
    robust = (rows @ found.weight).min() - epsilon * theory.norm(found.weight, r)
    assert found.margin == pytest.approx(robust)
    assert found.margin < plain.margin
    assert found.margin >= plain.margin - epsilon * theory.norm(plain.weight, r) - 1e-7
    rng = np.random.default_rng(2)
    for _ in range(100):
        w = found.weight + 0.1 * rng.standard_normal(25) / 25
        assert ((rows @ w).min() - epsilon * theory.norm(w, r)) / theory.norm(w, p) <= found.margin * (1 + 1e-5)


def test_an_attack_in_the_dual_of_the_own_norm_costs_its_size() -> None:
    """For |w|_1 = 1 every attack of the l_inf ball takes epsilon from every margin: the classifier stays the same."""
    rows = separable()
    assert max_margin(rows, 1.0, 0.05, "l_1").margin == pytest.approx(max_margin(rows, 1.0).margin - 0.05)
    assert max_margin(rows, 2.0, 0.05, "l_2").margin == pytest.approx(max_margin(rows, 2.0).margin - 0.05, rel=1e-4)


@pytest.mark.parametrize("p", EXPONENTS)
def test_data_that_is_not_separable_is_refused(p: float) -> None:
    with pytest.raises(NotSeparable, match="the training examples are not linearly separable"):
        max_margin(np.vstack([Z, -Z[:1]]), p)
    with pytest.raises(NotSeparable, match=r"under an attack of size 50"):
        max_margin(Z, 2.0, 50.0, "l_1")


def test_below_one_it_is_no_norm() -> None:
    with pytest.raises(ValueError, match=r"p = 0\.5: below 1 it is no norm"):
        max_margin(Z, 0.5)


def test_rows_of_several_outputs_are_the_margins_between_classes() -> None:
    rng = np.random.default_rng(0)
    x, w, y = rng.standard_normal((6, 4)), rng.standard_normal((4, 3)), rng.integers(3, size=6)
    scores = x @ w
    found = margin_rows(x, y, 3) @ w.reshape(-1)
    wanted = sorted(scores[i, y[i]] - scores[i, j] for i in range(6) for j in range(3) if j != y[i])
    assert sorted(found) == pytest.approx(wanted)
    signs = 2.0 * (y > 0) - 1
    assert margin_rows(x, (y > 0).astype(int), 1) @ w[:, 0] == pytest.approx(signs * scores[:, 0])


def test_a_linear_model_after_unit_steps_is_as_near_as_the_bound_says() -> None:
    """Section 3.4, for coordinate, gradient and sign descent."""
    rows = separable(10, 12)
    rates = 0.05 / np.sqrt(np.arange(1, 3001))
    for p in (1.0, 2.0, math.inf):
        w = np.zeros(12)
        for rate in rates:
            q = rows @ w
            w += rate * theory.direction(rows.T @ np.exp(-q - np.logaddexp.reduce(-q)), p)
        optimum = max_margin(rows, p).margin
        largest = max(theory.norm(z, theory.conjugate(p)) for z in rows)
        reached, upper = theory.certificate(rows, w, p)
        assert theory.margin_bound(optimum, 10, largest, rates) <= reached <= optimum * (1 + 1e-9) <= upper * (1 + 1e-9)
