"""One writer at a time: a lock file that names its holder and dies with it."""

import contextlib
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import EtadError
from .atomic import process_is_alive

_logger = logging.getLogger(__name__)

# Where the disk has no locks, a holder on another machine cannot be asked after; after a day it is given up.
_GIVEN_UP_SECONDS = 24 * 3600.0

# Time between two looks at a lock that somebody holds.
_POLL_SECONDS = 0.05


@contextlib.contextmanager
def holding(path: Path, purpose: str, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path` through the block, or say who does.

    A lock that the system grants decides, whichever machine wrote the file: it is freed when its holder dies, so what a
    killed process left is taken over, with a warning in the log. On a disk without locks the file's own words have to
    do, and those of another machine are respected for a day.

    Parameters
    ----------
    path
        Lock file; made here, removed at the end.
    purpose
        What the holder does, for the message that others get: "packing".
    wait_seconds
        How long to wait for a holder that lives.

    Raises
    ------
    EtadError
        Another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, is_locked = _lock(path, time.monotonic() + wait_seconds)
    try:
        _take_over(handle, path, is_locked)
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time(), "purpose": purpose}
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(holder).encode(), 0)
        try:
            yield
        finally:
            # While still held: whoever opened the file meanwhile finds that its name is gone, and makes a new one.
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _lock(path: Path, deadline: float) -> tuple[int, bool]:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(handle)
            os.close(handle)
            if time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                continue
            raise EtadError(
                f"{path}: {_describe(holder)} holds this lock. Wait until it has finished, then repeat."
            ) from None
        except OSError:
            return handle, False  # some network disks have no locks: what the file says has to do
        if _is_still(path, handle):
            return handle, True
        os.close(handle)


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _take_over(handle: int, path: Path, is_locked: bool) -> None:
    holder = _holder(handle)
    if holder is None:
        return
    if is_locked:
        may_live = False
    elif holder.get("host") == socket.gethostname():
        may_live = process_is_alive(int(str(holder.get("pid", 0))))
    else:
        may_live = time.time() - float(str(holder["since"])) < _GIVEN_UP_SECONDS
    if may_live:
        raise EtadError(
            f"{path}: {_describe(holder)} may hold this lock. Wait until it has finished; "
            f"if it was killed, delete this file."
        )
    _logger.warning("%s: left by %s, which is gone; taking over", path, _describe(holder))


def _holder(handle: int) -> dict[str, object] | None:
    try:
        holder = json.loads(os.pread(handle, 4096, 0))
        float(holder["since"])
    except (ValueError, KeyError, TypeError):
        return None  # empty: locked, and about to be written
    return holder if isinstance(holder, dict) else None


def _describe(holder: dict[str, object] | None) -> str:
    if holder is None:
        return "another process"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(str(holder["since"]))))
    return f"process {holder.get('pid')} on {holder.get('host')} ({holder.get('purpose')} since {since})"
