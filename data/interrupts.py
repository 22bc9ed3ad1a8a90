"""SIGINT and SIGTERM: both end a run in the same way, and let a training finish its step and save it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

# How long a step that is under way may take to end. Batch systems kill some 30 s after their warning.
_PATIENCE_SECONDS = 2.0


@dataclass
class _Received:
    """What this process was told.

    Parameters
    ----------
    number
        The signal; none so far.
    process
        Whose signals are watched: a forked child is none of them.
    is_deferred
        Whether something is under way that ends by itself first.
    timer
        Ends the patience.
    """

    number: int | None = None
    process: int = 0
    is_deferred: bool = False
    timer: threading.Timer | None = None


_received = _Received()


@contextlib.contextmanager
def watching_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt where SIGINT or SIGTERM arrives in the block; `received_signal` says which it was.

    A signal that whoever started the process ignores stays ignored. Only the main thread can watch; in any other the
    block runs as it is.
    """
    _received.number, _received.is_deferred = None, False
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.process = os.getpid()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    changed = {number: how for number, how in before.items() if how is not None and how != signal.SIG_IGN}
    for number in changed:
        signal.signal(number, _receive)
    try:
        yield
    finally:
        for number, how in changed.items():
            signal.signal(number, how)


def received_signal() -> int | None:
    """The signal that asked this process to end, once one did."""
    return _received.number


@contextlib.contextmanager
def deferring_signals() -> Iterator[Callable[[], bool]]:
    """Let what is under way come to its end first; yields whether a signal has come.

    Whoever asks, tidies up and raises KeyboardInterrupt. If nobody does within some seconds, or a second signal comes,
    it is raised where the process stands.
    """
    was_deferred, _received.is_deferred = _received.is_deferred, True
    try:
        yield lambda: _received.number is not None
        if _received.number is not None:
            raise KeyboardInterrupt
    finally:
        _received.is_deferred = was_deferred
        if _received.timer is not None:
            _received.timer.cancel()
            _received.timer = None


def _receive(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _received.process:
        # A child, which reads ahead: whoever forked it ends it, once its batch is no longer wanted.
        if number == signal.SIGTERM:
            os._exit(128 + number)
        return
    is_first, _received.number = _received.number is None, number
    if _received.is_deferred and is_first:
        _received.timer = threading.Timer(_PATIENCE_SECONDS, os.kill, (os.getpid(), number))
        _received.timer.daemon = True
        _received.timer.start()
        return
    raise KeyboardInterrupt
