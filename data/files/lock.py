"""One writer at a time: a lock file that names its holder and dies with it."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import EtadError
from .atomic import TEMPORARY_PREFIX, naming_access, process_is_alive

_logger = logging.getLogger(__name__)

# Where the disk has no locks, a holder on another machine cannot be asked after; after a day it is given up.
_GIVEN_UP_SECONDS = 24 * 3600.0

# There, a file without words is one that its holder is about to fill; after this long it is nobody's.
_WRITING_SECONDS = 10.0

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
    with naming_access(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _lock(path, time.monotonic() + wait_seconds)
    try:
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time(), "purpose": purpose}
        with naming_access(path):
            os.pwrite(handle, json.dumps(holder).encode(), 0)
        yield
    finally:
        # While still held: whoever opened the file meanwhile finds that its name is gone, and makes a new one.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(handle)


def _lock(path: Path, deadline: float) -> int:
    """Make the lock file and lock it; what others left there is removed, never written to, whoever made it."""
    while True:
        handle, is_ours = _open(path)
        is_done = False
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                may_live, certain = False, True
            except BlockingIOError:
                may_live, certain = True, True
            except OSError:
                # Some network disks have no locks: it counts who made the file, and what it says.
                may_live, certain = not is_ours and _may_live(handle), False
            if may_live and time.monotonic() >= deadline:
                raise EtadError(_refusal(path, _holder(handle), certain=certain))
            if may_live:
                time.sleep(_POLL_SECONDS)
            elif _is_still(path, handle):
                if is_ours:
                    is_done = True
                    return handle
                _remove(path, handle)
        finally:
            if not is_done:
                os.close(handle)


def _open(path: Path) -> tuple[int, bool]:
    """Open a lock file, never through a link; says whether this call made it."""
    common = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        with contextlib.suppress(FileExistsError):
            return os.open(path, common | os.O_CREAT | os.O_EXCL, 0o666), True
        try:
            return os.open(path, common), False
        except FileNotFoundError:
            continue  # its holder has just finished
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise EtadError(f"{path}: this is a link, and a lock is a file of its own. Delete the link.") from error


def _remove(path: Path, handle: int) -> None:
    """Remove what a dead holder left, or nobody knows who."""
    holder = _holder(handle)
    # Of those who remove it at once, one succeeds; another could otherwise remove the lock that the first then makes.
    aside = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    if not _is_still(aside, handle):
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink()
    if holder is not None:
        _logger.warning("%s: left by %s, which is gone; taking over", path, _describe(holder))


def _may_live(handle: int) -> bool:
    """Whether the holder of a lock may be at work, on a disk without locks."""
    holder = _holder(handle)
    if holder is None:
        return time.time() - os.fstat(handle).st_mtime < _WRITING_SECONDS
    if holder.get("host") == socket.gethostname():
        return process_is_alive(_number(holder.get("pid")))
    return time.time() - float(str(holder["since"])) < _GIVEN_UP_SECONDS


def _refusal(path: Path, holder: dict[str, object] | None, *, certain: bool) -> str:
    if certain:
        return f"{path}: {_describe(holder)} holds this lock. Wait until it has finished, then repeat."
    advice = "Wait until it has finished; if it was killed, delete this file."
    return f"{path}: {_describe(holder)} may hold this lock, on a disk without locks. {advice}"


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _holder(handle: int) -> dict[str, object] | None:
    try:
        holder = json.loads(os.pread(handle, 4096, 0))
        float(holder["since"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None  # empty: made, and about to be written
    return holder if isinstance(holder, dict) else None


def _number(pid: object) -> int:
    return pid if isinstance(pid, int) and 0 < pid < 2**31 else 2**31 - 1


def _describe(holder: dict[str, object] | None) -> str:
    if holder is None:
        return "another process"
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(str(holder["since"]))))
    except (ValueError, OverflowError, OSError):
        since = "an unknown time"
    return f"process {holder.get('pid')} on {holder.get('host')} ({holder.get('purpose')} since {since})"
