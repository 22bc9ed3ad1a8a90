"""A digest at the end of a file, of all bytes before it, for formats whose readers stop where their own data end."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_MARK = b"\netad-sha256:"
_SEAL_BYTES = len(_MARK) + 64 + 1
_PIECE_BYTES = 2**20


def seal_file(path: Path) -> None:
    """Append the digest of a file to it."""
    with path.open("r+b") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0, os.SEEK_END)
        file.write(_MARK + digest.encode() + b"\n")


def agrees_with_seal(path: Path) -> bool | None:
    """Whether a file is as it was sealed; None where it has no digest.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "file"
    >>> _ = path.write_bytes(b"content")
    >>> agrees_with_seal(path)
    >>> seal_file(path)
    >>> agrees_with_seal(path)
    True
    """
    with path.open("rb") as file:
        left = file.seek(0, os.SEEK_END) - _SEAL_BYTES
        file.seek(max(left, 0))
        seal = file.read()
        if left < 0 or not seal.startswith(_MARK):
            return None
        file.seek(0)
        total = hashlib.sha256()
        while left > 0 and (piece := file.read(min(left, _PIECE_BYTES))):
            total.update(piece)
            left -= len(piece)
    return seal == _MARK + total.hexdigest().encode() + b"\n"
