"""Which files are videos, and which file is which: names and digests, without opening one as a video."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import EtadError

VIDEO_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("3gp", "asf", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4"),
        *("mpeg", "mpg", "mts", "ogv", "ts", "vob", "webm", "wmv"),
    )
)
_CHUNK_BYTES = 1 << 20


def list_videos(folder: Path | str) -> dict[str, Path]:
    """Find every video file below a folder, by its suffix; hidden files and folders are left out.

    Returns
    -------
    Path of each video by its id, the file's stem, in the order of the ids.

    Raises
    ------
    EtadError
        No such folder, no video in it, or two files of the same stem.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise EtadError(f"{folder}: there is {found} here, a folder of videos was expected. Check --videos.")
    videos: dict[str, Path] = {}
    for path in sorted(_files_below(folder)):
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            continue
        other = videos.setdefault(path.stem, path)
        if other != path:
            raise EtadError(
                f"{other} and {path} are both the video {path.stem!r}: ids are file names without their suffix, "
                f"so each may be there once. Remove or rename one."
            )
    if not videos:
        known = " ".join(sorted(VIDEO_SUFFIXES))
        raise EtadError(f"{folder}: no video file in it or below it. Known suffixes are {known}.")
    return dict(sorted(videos.items()))


def file_sha256(path: Path | str) -> str:
    """Digest a file's bytes (hexadecimal), reading it piece by piece.

    Raises
    ------
    EtadError
        The file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise EtadError(f"{path}: the file cannot be read ({error.strerror}).") from error
    return digest.hexdigest()


def _files_below(folder: Path) -> Iterator[Path]:
    # Links are followed, for data sets are often linked together; a link to a folder above itself would never end.
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        names = [] if real in seen else names
        seen.add(real)
        yield from (Path(place) / name for name in names if not name.startswith("."))
