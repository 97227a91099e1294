"""Where a task's examples come from: a finite set from which training parts are taken without overlap."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


@attrs.frozen(eq=False)
class Pool:
    """The ground truth of real data: which examples of which finite set a task has.

    The task's split "population" holds the whole set, its inputs prepared as those of the training split are.
    """

    name: str  # the set: equal names, equal examples at equal indices
    form: str  # how inputs are prepared: equal names and forms, equal population splits
    train: Indices  # (n_train,) indices of the training examples in the set
    test: Indices  # (n_test,) of the test examples; empty where they come from another set

    def shared(self, other: Pool) -> int:
        """How many training examples of `other` this task trains or tests on."""
        if self.name != other.name:
            return 0
        return len(np.intersect1d(np.concatenate([self.train, self.test]), other.train))
