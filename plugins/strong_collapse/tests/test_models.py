"""A stored projection network is the fitted one: its first layer is drawn again, and is not in the store."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from kempeframe_standard.optimizers import Ridge
from kempeframe_strong_collapse.data import GaussianMixture
from kempeframe_strong_collapse.models import RandomProjection

from kempeframe import Fit
from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.trial import Session


@pytest.mark.parametrize("width", [5, 12, 400])
def test_a_stored_projection_is_drawn_again_the_same(tmp_path: Path, width: int) -> None:
    data = GaussianMixture(dimension=12, n_train=30, synthetic_fraction=0.5)
    fit = Fit(data=data, model=RandomProjection(width=width), optimizer=Ridge(penalty=1e-3), stream="other")
    session = Session(Store(tmp_path))
    fitted = session.fitted(fit, Run(3, session)).network
    session.store.flush()
    later = Session(Store(tmp_path))
    stored = later.fitted(fit, Run(3, later))
    assert stored.packed is not None
    assert set(stored.network.state_dict()) == {"weight"}
    assert torch.equal(stored.network.projection, fitted.projection)  # type: ignore[arg-type]
    assert torch.equal(stored.network.effective_weight(), fitted.effective_weight())  # type: ignore[operator]
