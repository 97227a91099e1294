"""Ctrl-C stops within a second, also while compiled code runs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

PATIENCE = 0.7  # seconds that the main thread has to react before the process is ended
ACTION_SECONDS = 5.0  # that each thing before a hard exit may take: a busy disk must not hold it up


class Interrupted(BaseException):
    """Ctrl-C arrived."""


_at_exit: list[Callable[[], None]] = []


def before_hard_exit(action: Callable[[], None]) -> None:
    """Something that must happen even when the process is ended from outside the main thread."""
    _at_exit.append(action)


def _within(seconds: float, action: Callable[[], None]) -> None:
    """Do something for so long at most."""

    def act() -> None:
        with contextlib.suppress(Exception):
            action()

    acting = threading.Thread(target=act, daemon=True)
    acting.start()
    acting.join(seconds)


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt in the main thread, as always; end the process where that thread does not react in time.

    Python delivers signals between its own instructions, so that a long call into a linear algebra library would hold
    Ctrl-C up. The number of the signal is also written to a pipe, which a watching thread reads.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    left = threading.Event()

    def watch() -> None:
        while True:
            data = os.read(reading, 1)
            if not data:
                return
            if data[0] == signal.SIGINT and not left.wait(PATIENCE):
                for action in _at_exit:
                    _within(ACTION_SECONDS, action)
                print("\nstopped. What was finished is stored; the same command goes on from there.", file=sys.stderr)
                sys.stderr.flush()
                os._exit(130)

    threading.Thread(target=watch, daemon=True, name="interrupt").start()
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(before)
        os.close(writing)
        _at_exit.clear()
