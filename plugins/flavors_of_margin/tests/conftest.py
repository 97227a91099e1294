"""What the tests share: fits of a component on small separable data, outside a study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kempeframe_standard.data_generated import TeacherStudent
from kempeframe_standard.models import Linear

from kempeframe.components import Fit, FitJob
from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.trial import Fitted, Session

SEPARABLE = TeacherStudent(dimension=12, n_train=8, n_test=50, outputs=1)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(Store(tmp_path))


@pytest.fixture
def fit(session: Session) -> Callable[..., list[Fitted]]:
    """The snapshots of a fit, as evaluators see them; `change` may alter the network before training."""

    def made(optimizer: Any, model: Any = None, data: Any = SEPARABLE, seed: int = 0, **more: Any) -> list[Fitted]:
        whole = Fit(data=data, model=model or Linear(), optimizer=optimizer, attack=more.get("attack"))
        run = Run(seed, session)
        task = data.load(run)
        network = whole.model.build(task, run)
        more.get("change", lambda network: None)(network)
        job = FitJob(optimizer, network, task, None, run, whole)
        found = []
        for snapshot in optimizer.fit(network, task, whole.attack, run):
            fitted = Fitted.in_training(job, network, snapshot.step)
            fitted.certificate, fitted.attack = snapshot.certificate, whole.attack
            found.append((fitted, {name: tensor.clone() for name, tensor in network.state_dict().items()}))
        import copy

        for fitted, state in found:
            fitted.given_network = copy.deepcopy(network)
            fitted.given_network.load_state_dict(state)
        return [fitted for fitted, _ in found]

    return made
