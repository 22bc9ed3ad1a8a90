"""Which files are videos, and which id each has; only unknown names are looked into."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..errors import EtadError, counted, listing
from .unknown import why_no_video

VIDEO_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("3gp", "asf", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4"),
        *("mpeg", "mpg", "mts", "ogv", "ts", "vob", "webm", "wmv"),
    )
)


@dataclass(frozen=True)
class FoundVideos:
    """What a folder holds.

    Parameters
    ----------
    files
        Path of each video by its id, in the order of the ids. The id is the file's stem; files that share a stem are
        told apart by their path below the folder, with its suffix (`example.flv`, `day2/example.mp4`).
    passed_over
        Why each other file is no video.
    """

    files: Mapping[str, Path]
    passed_over: Mapping[Path, str]

    def passed_over_text(self) -> str:
        """One line on what was passed over, by suffix and reason; nothing where nothing was."""
        alike: dict[tuple[str, str], list[str]] = {}
        for path, reason in self.passed_over.items():
            alike.setdefault((path.suffix.lower() or "without suffix", reason), []).append(path.name)
        parts = [f"{len(names)} {suffix} ({reason}): {listing(names, 2)}" for (suffix, reason), names in alike.items()]
        return f"{counted(len(self.passed_over), 'other file')} passed over: {'; '.join(parts)}" if parts else ""


def list_videos(folder: Path | str) -> dict[str, Path]:
    """Find every video file below a folder, as `find_videos` does; returns the files alone."""
    return dict(find_videos(folder).files)


def find_videos(folder: Path | str) -> FoundVideos:
    """Find every video file below a folder; hidden files and folders are left out.

    A file is a video by its suffix, or, where the suffix is none of a video, if there is one in it.

    Raises
    ------
    EtadError
        No such folder, or no video in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise EtadError(
            f"{folder}: there is {found} here, a folder of videos was expected. Check --videos, or "
            "data.videos of the settings."
        )
    paths, passed_over = [], {}
    for path in sorted(_files_below(folder)):
        reason = None if path.suffix.lower() in VIDEO_SUFFIXES else why_no_video(path, file_stamp(path))
        if reason is None:
            paths.append(path)
        else:
            passed_over[path] = reason
    stems = Counter(path.stem for path in paths)
    videos = {path.stem if stems[path.stem] == 1 else path.relative_to(folder).as_posix(): path for path in paths}
    found_videos = FoundVideos(dict(sorted(videos.items())), passed_over)
    if not videos:
        known = " ".join(sorted(VIDEO_SUFFIXES))
        others = found_videos.passed_over_text()
        raise EtadError(
            f"{folder}: no video file in it or below it. Known suffixes are {known}.{f' {others}.' if others else ''}"
        )
    return found_videos


class FileStamp(NamedTuple):
    """What changes when a file is replaced or written to, as far as the system says."""

    device: int
    inode: int
    bytes: int
    modified_ns: int
    changed_ns: int


def file_stamp(path: Path | str) -> FileStamp | None:
    """Look at a file without reading it; None where there is none."""
    try:
        stat = Path(path).stat()
    except OSError:
        return None
    return FileStamp(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _files_below(folder: Path) -> Iterator[Path]:
    # Links are followed, for data sets are often linked together; a link to a folder above itself would never end.
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        names = [] if real in seen else names
        seen.add(real)
        yield from (Path(place) / name for name in names if not name.startswith("."))
