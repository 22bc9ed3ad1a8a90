"""Writing files so that a reader finds the old one or the whole new one, never half of it."""

import contextlib
import json
import os
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from ..errors import EtadError, UnwritableError

TEMPORARY_PREFIX = ".writing-"
ABANDONED_SECONDS = 24 * 3600.0
_FRESH_SECONDS = 10.0


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Write beside `path` and rename into place once the block has ended well.

    Yields a temporary path in the same folder (made if missing); the block writes that file by any means. On the way
    out it is flushed to disk and renamed. If the block fails, `path` stays as it was and the temporary file goes. A
    killed process leaves the temporary file, which `remove_leftovers` finds by its name.

    Raises
    ------
    EtadError
        The place cannot be written: no right, no room (`UnwritableError`), a folder of that name.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "note.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> [file.name for file in folder.iterdir()]
    ['note.txt']
    """
    shown = Path(path)
    # Through links to folders, so that one to a larger disk stays one. A link to a file is replaced: whoever put it
    # there does not choose which file of ours it empties.
    place = Path(os.path.realpath(shown.parent)) / shown.name
    # The name says who writes, and is short: the final name may already be as long as the file system allows.
    name = f"{TEMPORARY_PREFIX}{socket.gethostname()[:64]}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = place.parent / name
    try:
        if os.path.lexists(place) and not (stat.S_ISREG(kind := place.lstat().st_mode) or stat.S_ISLNK(kind)):
            raise EtadError(f"{shown}: this is no regular file, so nothing can be written there. Name another place.")
        place.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(place)
        _sync_folder(place.parent)
    except OSError as error:
        _discard(temporary)
        about = {str(temporary), str(place), str(place.parent)}
        if error.filename is not None and os.fspath(error.filename) not in about:
            raise  # the block stumbled over another file
        reason = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
        raise UnwritableError(
            f"{shown}: this file cannot be written ({reason}). Free the place or name another."
        ) from error
    except BaseException:
        _discard(temporary)
        raise


@contextlib.contextmanager
def naming_access(path: Path) -> Iterator[None]:
    """Say in a sentence that the system refuses something about `path` or what lies beside it.

    Raises
    ------
    UnwritableError
        The block met an OSError: no right, a disk that can only be read, no room.
    """
    try:
        yield
    except OSError as error:
        where = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else path
        raise UnwritableError(
            f"{where}: cannot be used ({error.strerror or error}). Check its rights, its folder's, and the disk's room."
        ) from error


def write_bytes(path: Path | str, content: bytes) -> Path:
    """Write a file whole or not at all; returns its path."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def write_text(path: Path | str, content: str) -> Path:
    """Write UTF-8 text whole or not at all; returns its path."""
    return write_bytes(path, content.encode("utf-8"))


def write_json(path: Path | str, value: Any, *, indent: int | None = None) -> Path:
    """Write a JSON file whole or not at all; NaN and infinity are a ValueError, since JSON has none."""
    return write_text(path, json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False) + "\n")


def open_to_append(path: Path) -> TextIO:
    """Open a log to write on at its end; a link of that name is not followed, since it may lead out of the folder.

    Raises
    ------
    EtadError
        The place is a link, a folder, or cannot be written.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.fdopen(os.open(path, flags, 0o666), "a", encoding="utf-8")
    except OSError as error:
        raise EtadError(f"{path}: cannot be written on ({error.strerror}). Move away what lies there.") from error


def is_temporary(path: Path) -> bool:
    """Say whether a file is one that `replacing` has not finished.

    Examples
    --------
    >>> is_temporary(Path("runs/.writing-node7-4711-0a1b2c3d")), is_temporary(Path("runs/last.pt"))
    (True, False)
    """
    return path.name.startswith(TEMPORARY_PREFIX)


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove what killed writers left in a folder, and nothing of those still at work; returns what went.

    A writer on this machine is dead if its process is gone. One on another machine is given up after a day without
    a write; so is one whose process number somebody else has by now.
    """
    gone = []
    for path in sorted(folder.glob(TEMPORARY_PREFIX + "*")):
        with contextlib.suppress(FileNotFoundError):  # its writer has just finished
            if _is_abandoned(path):
                path.unlink()
                gone.append(path)
    return gone


def remove_if_empty(folder: Path) -> None:
    """Remove a folder that holds nothing, unless a writer may have made it just now and be about to use it."""
    with contextlib.suppress(OSError):
        if time.time() - folder.stat().st_mtime > _FRESH_SECONDS:
            folder.rmdir()


def process_is_alive(pid: int) -> bool:
    """Say whether a process of this machine exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _is_abandoned(path: Path) -> bool:
    host, _, rest = path.name.removeprefix(TEMPORARY_PREFIX).rpartition("-")[0].rpartition("-")
    if host == socket.gethostname()[:64] and rest.isdecimal() and not process_is_alive(int(rest)):
        return True
    return time.time() - path.stat().st_mtime > ABANDONED_SECONDS


def _discard(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        temporary.unlink()


def _sync_folder(folder: Path) -> None:
    # The rename itself must survive a power cut; some file systems cannot sync a folder, and then nothing is lost.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
