"""A time limit that ends a trial and not the study."""

from __future__ import annotations

import contextlib
import signal
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
