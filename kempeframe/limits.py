"""Limits on what a trial takes: a time limit that ends it and not the study, and the number of threads."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType


class TrialTimeout(BaseException):
    """A trial took longer than --time-limit. No Exception, so that a component's own handlers do not swallow it."""


@contextlib.contextmanager
def time_limit(seconds: float | None, trials: int = 1) -> Iterator[None]:
    """Raise TrialTimeout inside the block after `seconds` per trial.

    It interrupts between Python instructions: a single call into compiled code is waited for. Outside the main thread,
    where no signal arrives, and where `seconds` is None, it does nothing.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise TrialTimeout(f"longer than the time limit of {seconds:g} s per trial")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds * trials)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@contextlib.contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Give NumPy's, SciPy's and torch's libraries so many threads inside the block; None leaves them as they are.

    Results can depend on the number of threads in their last bits, and two libraries with a thread for each core spin
    against each other.
    """
    if threads is None:
        yield
        return
    from threadpoolctl import threadpool_limits

    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))  # for libraries that are loaded later
    torch = sys.modules.get("torch")
    torch_threads = torch.get_num_threads() if torch else None
    try:
        with threadpool_limits(threads):  # puts back what it finds, OpenMP's threads too: torch's are set inside
            if torch:
                torch.set_num_threads(threads)
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        if torch:
            torch.set_num_threads(torch_threads)
