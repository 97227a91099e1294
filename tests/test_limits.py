"""Threads of a process are limited inside a block, and afterwards what they were."""

from __future__ import annotations

import os

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from kempeframe.limits import THREAD_VARIABLES, limited_threads


def state() -> tuple[object, ...]:
    pools = {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}
    return torch.get_num_threads(), pools, {name: os.environ.get(name) for name in THREAD_VARIABLES}


def test_threads_are_afterwards_what_they_were() -> None:
    """torch computes with OpenMP's threads, which two limits are put on, one inside the other."""
    with threadpool_limits(1):
        torch.set_num_threads(1)
        before = state()
        with limited_threads(2):
            assert torch.get_num_threads() == 2 and os.environ["OMP_NUM_THREADS"] == "2"
            with limited_threads(3):
                assert torch.get_num_threads() == 3
            assert torch.get_num_threads() == 2
        assert state() == before
        with limited_threads(None):
            assert state() == before


def test_they_are_put_back_after_an_error_too() -> None:
    before = state()
    with pytest.raises(ValueError), limited_threads(2):
        raise ValueError
    assert state() == before
