"""Data of strong_collapse: exact sizes, common random numbers, and moments that have the law of examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from kempeframe_strong_collapse.data import GaussianMixture
from kempeframe_strong_collapse.data_iterative import IterativeMixture
from kempeframe_strong_collapse.population import wishart_factor

from kempeframe.components import Fit
from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.task import CannotGive, Examples
from kempeframe.trial import Session


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(Store(tmp_path))


def examples(data: GaussianMixture, session: Session, seed: int = 0) -> Examples:
    split = data.load(Run(seed, session)).train
    assert isinstance(split, Examples)
    return split


@pytest.mark.parametrize("spectrum", [0.0, 1.5, (3.0, 2.0, 1.0, 0.5, 0.0)])
@pytest.mark.parametrize("shift", ["isotropic", "signal", 1])
def test_signal_and_shift_have_exactly_their_size(session: Session, spectrum: object, shift: object) -> None:
    data = GaussianMixture(dimension=5, spectrum=spectrum, shift=shift, quality=0.7, signal=1.2, signal_strength=2.0)  # type: ignore[arg-type]
    real, synthetic = data.labels(Run(3, session))
    s = data.population().eigenvalues
    assert s @ real**2 == pytest.approx(2.0)
    assert s @ (synthetic - real) ** 2 == pytest.approx(0.7)


def test_other_fractions_qualities_and_noises_share_the_design(session: Session) -> None:
    base = examples(GaussianMixture(dimension=4, n_train=50), session)
    for change in ({"synthetic_fraction": 0.5}, {"quality": 3.0}, {"noise": 2.0}, {"synthetic_noise": 0.0}):
        assert torch.equal(examples(GaussianMixture(dimension=4, n_train=50, **change), session).inputs, base.inputs)  # type: ignore[arg-type]


def test_a_larger_sample_holds_the_smaller_one(session: Session) -> None:
    small, large = (examples(GaussianMixture(dimension=4, n_train=n), session) for n in (20, 50))
    assert torch.equal(large.inputs[:20], small.inputs)


def test_the_last_examples_are_the_synthetic_ones(session: Session) -> None:
    data = GaussianMixture(dimension=3, n_train=10, synthetic_fraction=0.3, noise=0.0, synthetic_noise=0.0)
    split = examples(data, session)
    real, synthetic = map(torch.from_numpy, data.labels(Run(0, session)))
    assert split.groups is not None
    assert split.groups.tolist() == [False] * 7 + [True] * 3
    torch.testing.assert_close(split.targets[:7, 0], split.inputs[:7] @ real)
    torch.testing.assert_close(split.targets[7:, 0], split.inputs[7:] @ synthetic)


def test_without_shift_synthetic_labels_are_real_ones_with_the_same_noise(session: Session) -> None:
    mixed = examples(GaussianMixture(dimension=3, n_train=10, synthetic_fraction=0.5, quality=0.0), session)
    pure = examples(GaussianMixture(dimension=3, n_train=10), session)
    torch.testing.assert_close(mixed.targets, pure.targets)


def test_a_rounded_fraction_counts() -> None:
    assert GaussianMixture(n_train=100, synthetic_fraction=0.001).n_synthetic == 0


def test_moments_refuse_examples(session: Session) -> None:
    split = GaussianMixture(sampler="moments").load(Run(0, session)).train
    with pytest.raises(CannotGive, match="holds no examples"):
        split.examples()


@pytest.mark.parametrize(("n", "fraction", "weight"), [(30, 0.4, 1.0), (6, 0.5, 1.0), (30, 0.4, 0.3), (3, 0.0, 1.0)])
def test_moments_have_the_law_of_examples(session: Session, n: int, fraction: float, weight: float) -> None:
    """Means and variances of the Gram matrix and the cross products, both samplers, 1500 draws each."""
    fields = dict(dimension=4, spectrum=0.7, n_train=n, synthetic_fraction=fraction, synthetic_weight=weight, noise=0.5)
    drawn: dict[str, list[np.ndarray]] = {"examples": [], "moments": []}
    for sampler, numbers in drawn.items():
        data = GaussianMixture(sampler=sampler, **fields)  # type: ignore[arg-type]
        real, synthetic = data.labels(Run(0, session))
        for seed in range(1500):
            draw = data._draw_moments if sampler == "moments" else data._draw_examples
            moments = draw(Run(seed, session), real, synthetic).moments()
            numbers.append(np.concatenate([moments.gram.numpy().ravel(), moments.cross.numpy().ravel()]))
    one, two = (np.array(numbers) for numbers in drawn.values())
    for left, right in ((one, two), ((one - one.mean(0)) ** 2, (two - two.mean(0)) ** 2)):
        error = np.sqrt((left.var(0) + right.var(0)) / 1500)
        assert (np.abs(left.mean(0) - right.mean(0)) < 4.5 * error + 1e-12).all()


@pytest.mark.parametrize("count", [2, 4, 9, 50])
def test_the_bartlett_factor_has_the_law_of_a_wishart(count: int) -> None:
    rng = np.random.default_rng(count)
    factors = [wishart_factor(4, count, rng, rng) for _ in range(4000)]
    grams = np.array([factor @ factor.T for factor in factors])
    assert factors[0].shape == (4, min(4, count))
    error = np.sqrt(grams.var(0) / 4000)
    assert (np.abs(grams.mean(0) - count * np.eye(4)) < 4.5 * error).all()
    assert np.diagonal(grams.var(0)) == pytest.approx([2 * count] * 4, rel=0.15)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dimension": 3, "spectrum": (1.0, 2.0)}, "lists 2 eigenvalues"),
        ({"dimension": 2, "spectrum": (0.0, 0.0)}, "all eigenvalues are 0"),
        ({"dimension": 3, "shift": 3}, "there are 3 eigendirections"),
        ({"synthetic_fraction": 1.5}, "synthetic_fraction"),
    ],
)
def test_bad_fields_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GaussianMixture(**fields)  # type: ignore[arg-type]


def chain(rounds: int, **fields: object) -> IterativeMixture:
    from kempeframe_standard.models import Linear
    from kempeframe_standard.optimizers import Ridge

    data = IterativeMixture(dimension=5, n_train=40, synthetic_fraction=0.5, **fields)  # type: ignore[arg-type]
    for number in range(1, rounds):
        fit = Fit(data=data, model=Linear(), optimizer=Ridge(penalty=1e-3), stream=f"round.{number}")
        data = IterativeMixture(dimension=5, n_train=40, synthetic_fraction=0.5, previous=fit, **fields)  # type: ignore[arg-type]
    return data


def test_rounds_are_counted_along_the_chain() -> None:
    assert [chain(n).round for n in (1, 2, 5)] == [1, 2, 5]


def test_each_round_is_labelled_by_the_one_before(session: Session) -> None:
    data = chain(2, noise=0.0, synthetic_noise=0.0)
    assert data.previous is not None
    run = Run(0, session)
    split = data.load(run).train.examples()
    weight = run.fit(data.previous).network.effective_weight().detach()  # type: ignore[operator]
    torch.testing.assert_close(split.targets[20:], split.inputs[20:] @ weight)  # type: ignore[index]


@pytest.mark.parametrize("fresh", [True, False])
def test_real_examples_are_fresh_or_the_same(session: Session, fresh: bool) -> None:
    data = chain(3, fresh_real=fresh)
    assert data.previous is not None
    last = examples(data, session)
    before = session.fitted(data.previous, Run(0, session)).task.train.examples()
    assert torch.equal(last.inputs[:20], before.inputs[:20]) != fresh
    assert not torch.equal(last.inputs[20:], before.inputs[20:])
