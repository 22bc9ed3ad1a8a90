"""SIGINT and SIGTERM: both end a run in the same way, and let a training finish its step, or give it up, and save."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

# How long a step that is under way may take to end. Batch systems kill some 30 s after their warning.
_PATIENCE_SECONDS = 2.0
# A library's own code, which imports as it is loaded, may not survive an exception there: the signal comes again.
_IMPORT_SECONDS, _LONGEST_IMPORT_SECONDS = 0.05, 20.0


@dataclass
class _Received:
    """What this process was told.

    Parameters
    ----------
    number, since_seconds
        The signal, and the clock at the first one; none so far.
    process
        Whose signals are watched: a forked child is none of them.
    is_deferred
        Whether something is under way that ends by itself first.
    is_held, is_pending
        Whether nothing may be raised just now, and whether something was to be.
    timer
        Ends the patience, or sends the signal again.
    """

    number: int | None = None
    since_seconds: float = 0.0
    process: int = 0
    is_deferred: bool = False
    is_held: bool = False
    is_pending: bool = False
    timer: threading.Timer | None = None


_received = _Received()


@contextlib.contextmanager
def watching_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt where SIGINT or SIGTERM arrives in the block; `received_signal` says which it was.

    A signal that whoever started the process ignores stays ignored. Only the main thread can watch; in any other the
    block runs as it is.
    """
    _received.number, _received.is_deferred = None, False
    _received.is_held = _received.is_pending = False
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
        _stop_timer()
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
        _stop_timer()


@contextlib.contextmanager
def holding_signals() -> Iterator[None]:
    """Let a short block come to its end whatever comes: KeyboardInterrupt is raised after it.

    What would be wrong half done, a step's change of weights and moments, stands in one. A block that fails raises its
    own error.
    """
    was_held, _received.is_held = _received.is_held, True
    try:
        yield
    finally:
        _received.is_held = was_held
    if _received.is_pending and not was_held:
        _received.is_pending = False
        raise KeyboardInterrupt


def _receive(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _received.process:
        # A child, which reads ahead: whoever forked it ends it, once its batch is no longer wanted.
        if number == signal.SIGTERM:
            os._exit(128 + number)
        return
    is_first, _received.number = _received.number is None, number
    if is_first:
        _received.since_seconds = time.monotonic()
    if _received.is_deferred and is_first:
        _send_again(number, _PATIENCE_SECONDS)
    elif _is_importing(frame) and time.monotonic() - _received.since_seconds < _LONGEST_IMPORT_SECONDS:
        _send_again(number, _IMPORT_SECONDS)
    elif _received.is_held:
        _received.is_pending = True
    else:
        _stop_timer()  # what follows, saving above all, has all the time it needs
        raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _send_again(number: int, seconds: float) -> None:
    _stop_timer()
    _received.timer = threading.Timer(seconds, os.kill, (os.getpid(), number))
    _received.timer.daemon = True
    _received.timer.start()


def _stop_timer() -> None:
    if _received.timer is not None:
        _received.timer.cancel()
        _received.timer = None
