"""The closed form in exact arithmetic, against the paper's own four constants, and its errors."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
from kempeframe_strong_collapse.theory import constants, risk, solve_nu
from kempeframe_strong_collapse.theory_constants import four_constants
from kempeframe_strong_collapse.theory_equation import FloatArray, as_points, solve


def isotropic(dimension: int) -> FloatArray:
    return np.ones(dimension)


def power_law(dimension: int, exponent: float) -> FloatArray:
    return np.arange(1.0, dimension + 1) ** -exponent


def exact(
    s: FloatArray, n: int, penalty: float, width: float, p2: float, weights: tuple[float, float]
) -> dict[str, mpmath.mpf]:
    """nu and its companions from the definitions, subtractions and all, in 60 digits."""
    with mpmath.workdps(60):
        eig = [mpmath.mpf(float(x)) for x in s]
        lam, p, omega = (
            mpmath.mpf(penalty),
            [1 - mpmath.mpf(p2), mpmath.mpf(p2)],
            [mpmath.mpf(w) for w in weights],
        )
        d, classical = len(eig), np.isinf(width)

        def df(k: int, nu: mpmath.mpf) -> mpmath.mpf:
            return mpmath.fsum((x / (x + nu)) ** k for x in eig)

        def bisect(
            function: Callable[[mpmath.mpf], mpmath.mpf], low: mpmath.mpf, high: mpmath.mpf
        ) -> mpmath.mpf:
            for _ in range(230):
                middle = (low + high) / 2
                low, high = (middle, high) if function(middle) < 0 else (low, middle)
            return (low + high) / 2

        def ebar(f: mpmath.mpf) -> mpmath.mpf:
            b = (omega[0] + omega[1]) * f - p[0] * omega[0] - p[1] * omega[1]
            return (-b + mpmath.sqrt(b * b + 4 * omega[0] * omega[1] * f * (1 - f))) / 2

        def log_penalty(nu: mpmath.mpf) -> mpmath.mpf:
            df1 = df(1, nu)
            return mpmath.log(ebar(df1 / n) * nu * (1 if classical else (mpmath.mpf(width) - df1) / d) / lam)

        cap = min(n, width)
        nu_0 = mpmath.mpf(0)
        if cap < d:
            nu_0 = mpmath.exp(bisect(lambda t: cap - df(1, mpmath.exp(t)), mpmath.mpf(-60), mpmath.mpf(60)))
        nu = nu_0 + mpmath.exp(
            bisect(lambda t: log_penalty(nu_0 + mpmath.exp(t)), mpmath.mpf(-80), mpmath.mpf(30))
        )
        df1, df2 = df(1, nu), df(2, nu)
        e = ebar(df1 / n)
        rho = mpmath.mpf(1) if classical else (width - df1) / (width - df2)
        d2 = df1 - (df1 - df2) * rho
        y = [w / (e + w * df1 / n) for w in omega]
        a = [v * v * d2 / n for v in y]
        pc = [p[k] * a[k] / (1 - p[0] * a[0] - p[1] * a[1]) for k in (0, 1)]
        q2 = p[1] * y[1]
        t = [x / (x + nu) for x in eig]
        second = [v * v + (1 - rho) * v * (1 - v) for v in t]
        q_1 = mpmath.fsum(x * q2**2 * P for x, P in zip(eig, second, strict=True))
        q_2 = mpmath.fsum(x * (1 - 2 * v * q2 + P * q2**2) for x, v, P in zip(eig, t, second, strict=True))
        b0 = mpmath.fsum(x * (1 - 2 * v + P) for x, v, P in zip(eig, t, second, strict=True))
        tau = mpmath.mpf(1) if classical else 1 - df1 / width
        return dict(
            nu=nu,
            e=e,
            tau=tau,
            rho=rho,
            df1=df1,
            df2=df2,
            u=pc[0] + pc[1],
            bias=b0 * (1 + pc[0] + pc[1]),
            variance=pc[0] / 4 + pc[1],
            collapse=q_1 * (1 + pc[0]) + pc[1] * q_2,
            q2=q2,
        )


@pytest.mark.parametrize(
    ("n", "penalty", "width", "p2", "weights"),
    [
        (20, 1e-12, np.inf, 0.3, (1, 1)),
        (20, 1e-12, 20, 0.3, (1, 1)),
        (20, 1e-12, 30, 0.01, (1, 1)),
        (30, 1e-12, 20, 1e-3, (1, 1)),
        (40, 1e-12, np.inf, 0.5, (1, 1)),
        (40, 1e-10, 40, 0.5, (1, 1)),
        (60, 1e-12, 40, 0.5, (1, 1)),
        (20, 1e-12, 25, 0.3, (1, 0.2)),
        (20, 1e-9, 20, 0.6, (0.5, 3)),
        (30, 1e-12, 20, 0.6, (1, 1e-3)),
        (400, 1e-3, np.inf, 0.5, (1, 1e-6)),
        (10**7, 1e-8, np.inf, 0.01, (1, 1)),
        (25, 3.0, 15, 0.5, (1, 1)),
        (39, 1e-6, 41, 0.5, (1, 1)),
    ],
)
def test_every_constant_to_twelve_digits(
    n: int, penalty: float, width: float, p2: float, weights: tuple[float, float]
) -> None:
    s = power_law(40, 1.2)
    truth = exact(s, n, penalty, width, p2, weights)
    value = risk(
        s,
        n,
        penalty,
        width=width,
        synthetic_fraction=p2,
        weights=weights,
        signal=1,
        shift=1,
        noise=0.5,
        synthetic_noise=1,
    )
    for name, expected in truth.items():
        actual = float(getattr(value, name)[0])
        assert actual == pytest.approx(float(expected), rel=1e-12, abs=0), (
            name,
            actual / float(expected) - 1,
        )


def test_small_e_beyond_subtraction() -> None:
    """The brief's 40-digit value; 1 - df1/n in double precision is wrong in the eighth digit."""
    value = constants(power_law(300, 1.2), 150, 1e-12, width=[300, 3000])
    assert value.e[0] == pytest.approx(6.38591712350038e-10, rel=1e-13, abs=0)
    assert 1 - value.df1[0] / 150 != pytest.approx(value.e[0], rel=1e-9, abs=0)
    assert value.kappa * value.e == pytest.approx([1e-12, 1e-12], rel=1e-13, abs=0)


def test_equation_holds_where_it_was_solved() -> None:
    rng = np.random.default_rng(2)
    count = 300
    n, width, penalty = (
        rng.integers(1, 500, count),
        rng.integers(1, 500, count),
        10 ** rng.uniform(-15, 6, count),
    )
    weights, p2 = (10 ** rng.uniform(-6, 2, count), 10 ** rng.uniform(-6, 2, count)), rng.random(count)
    for exponent in (0.0, 1.0, 3.0):
        points = as_points(power_law(120, exponent), n, penalty, width, p2, weights)
        root = solve(points)
        assert root.ebar * root.nu * root.free_width / 120 == pytest.approx(penalty, rel=1e-13, abs=0)
        omega = np.stack(weights)
        residual = (np.stack([1 - p2, p2]) * omega / (root.ebar + omega * root.df1 / n)).sum(axis=0)
        assert residual == pytest.approx(np.ones(count), rel=1e-9)
    assert (np.diff(solve_nu(power_law(50, 1.0), 30, np.geomspace(1e-14, 1e5, 60), width=20)) > 0).all()


FOUR = list(itertools.product((0.0, 1.2), (20, 100, 150, 300, 1000, 3000), (1e-3, 1e-9)))


@pytest.mark.parametrize(("exponent", "width", "penalty"), FOUR)
def test_the_papers_four_constants(exponent: float, width: int, penalty: float) -> None:
    """24 points, n = 150, d = 300."""
    s = power_law(300, exponent)
    paper, ours = four_constants(s, 150, penalty, width), constants(s, 150, penalty, width=width)
    assert (paper.e, paper.tau, paper.nu) == pytest.approx(
        (ours.e[0], ours.tau[0], ours.nu[0]), rel=1e-11, abs=0
    )
    # 1 - A of the linear system is a subtraction, worst at m = n
    assert paper.u == pytest.approx(ours.u[0], rel=1e-9)
    omega = width / 300 * (1 + ours.u[0]) * (1 - ours.rho[0]) * ours.nu[0] * ours.tau[0] ** 2
    assert paper.omega == pytest.approx(omega, rel=1e-9, abs=0)


@pytest.mark.parametrize(
    ("n", "width", "p2", "weights"),
    [(50, np.inf, 0, (1, 1)), (30, 30, 0.5, (1, 1)), (50, 80, 0.5, (1, 2)), (100, 50, 0.5, (1, 0))],
)
def test_ridgeless_at_the_threshold_raises(
    n: int, width: float, p2: float, weights: tuple[float, float]
) -> None:
    with pytest.raises(ValueError, match="interpolation threshold"):
        constants(isotropic(50), n, 0, width=width, synthetic_fraction=p2, weights=weights)
    assert constants(isotropic(50), n, 1e-9, width=width, synthetic_fraction=p2, weights=weights).u > 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(synthetic_fraction=1.1), "synthetic_fraction"),
        (dict(synthetic_fraction=np.nan), "synthetic_fraction"),
        (dict(n_synthetic=-1), "synthetic_fraction"),
        (dict(n_train=0), "n_train"),
        (dict(width=0), "width"),
        (dict(penalty=-1e-9), "penalty"),
        (dict(penalty=np.inf), "penalty"),
        (dict(weights=(0, 0)), "weight"),
        (dict(weights=(0, 1)), "weight"),
        (dict(weights=(-1, 1)), "weights"),
        (dict(eigenvalues=[1.0, -0.1]), "eigenvalues"),
        (dict(eigenvalues=[]), "eigenvalues"),
        (dict(signal=[1.0, 1.0, 1.0]), "signal"),
        (dict(shift=-1.0), "variances"),
        (dict(noise=-1.0), "noise"),
    ],
)
def test_values_outside_their_range_raise(change: dict[str, object], message: str) -> None:
    setting: dict[str, object] = dict(eigenvalues=[1.0, 0.5], n_train=10, penalty=0.1, signal=1.0, shift=1.0)
    with pytest.raises(ValueError, match=message):
        risk(**(setting | change))  # type: ignore[arg-type]
