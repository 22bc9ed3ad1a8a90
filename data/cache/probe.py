"""Feature files tried by a child process before this one reads them, since damaged HDF5 can hang or crash."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import h5py

from ..errors import EtadError
from ..files.child import fatal_steps
from ..files.hdf5 import member, open_hdf5, require_whole
from .names import escape

Stamp = tuple[int, ...]
Step = tuple[str, Callable[[], object]]


@dataclass
class _Tried:
    """What has been tried of a file, by names of groups; an empty name stands for the file itself."""

    fatal: dict[str, str] = field(default_factory=dict)
    attributes: set[str] = field(default_factory=set)
    all_attributes: bool = False


# A file with the same stamp is not tried again. One that this process wrote need not be tried at all.
_tried: dict[Stamp, _Tried] = {}


def stamp(path: Path) -> Stamp:
    """What tells a file from any other that stood or stands in its place; empty where there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return ()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def trust(path: Path) -> None:
    """Take a file as readable that this process has written."""
    _tried[stamp(path)] = _Tried(all_attributes=True)


def try_file(path: Path) -> None:
    """Try whether a file can be opened and the features of its videos found, at 0.1 ms a video, once.

    Raises
    ------
    EtadError
        Opening it would hang or crash.
    """
    now = stamp(path)
    if now and now not in _tried:
        _tried[now] = _Tried(fatal_steps(partial(_finding, path)))
    how = _tried[now].fatal.get("") if now else None
    if how:
        raise EtadError(f"reading it {how}: the file is damaged")


def try_video(path: Path, video_id: str) -> None:
    """Refuse a video whose features cannot be found without a hang or a crash; its file has been tried.

    Raises
    ------
    EtadError
        Reading it would hang or crash.
    """
    tried = _tried.get(stamp(path))
    how = tried and tried.fatal.get(escape(video_id))
    if how:
        raise EtadError(f"reading it {how}: the file is damaged")


def try_attributes(path: Path, video_ids: Iterable[str] | None = None) -> None:
    """Try to read the attributes of some videos, or of all: 1 to 3 ms each, so those of all in one go where all count.

    What is wrong is said by `try_video`.
    """
    try_file(path)
    tried = _tried.get(stamp(path))
    if tried is None or tried.all_attributes:
        return
    names = None if video_ids is None else {escape(video_id) for video_id in video_ids} - tried.attributes
    if names is None or names:
        tried.fatal |= fatal_steps(partial(_attributes, path, names, frozenset(tried.fatal)))
    tried.all_attributes |= names is None
    tried.attributes |= names or set()


def try_parts(paths: Iterable[Path]) -> None:
    """Try many files of one video each, all in one child; what is wrong is said when they are opened."""
    new = {str(path): now for path in paths if (now := stamp(path)) and now not in _tried}
    if new:
        fatal = fatal_steps(lambda: [(name, partial(_read_part, Path(name))) for name in new], most=len(new))
        for name, now in new.items():
            _tried[now] = _Tried({"": fatal[name]} if name in fatal else {}, all_attributes=True)


def _finding(path: Path) -> list[Step]:
    file = open_hdf5(path)
    videos = file.get("videos")
    names = list(videos) if isinstance(videos, h5py.Group) else []
    return [("", partial(_read_index, file)), *((str(name), partial(_find_features, videos, name)) for name in names)]


def _attributes(path: Path, names: set[str] | None, known: Collection[str]) -> list[Step]:
    videos = open_hdf5(path)["videos"]
    chosen = [name for name in (videos if names is None else names) if name not in known]
    return [(str(name), partial(_read_attributes, videos, name)) for name in chosen]


def _read_part(path: Path) -> None:
    with open_hdf5(path) as file:
        dict(file.attrs)
        videos = member(file, "videos")
        for name in videos or ():
            _read_attributes(videos, name)


def _read_index(file: h5py.File) -> None:
    dict(file.attrs)
    table = member(file, "index")
    if isinstance(table, h5py.Dataset):
        dict(table.attrs)
        require_whole(table)
        table[()]


def _find_features(videos: h5py.Group, name: str) -> None:
    # Below h5py's comfort, which takes four times as long. A link is not followed: it may lead to a pipe.
    here, path = name.encode(), f"{name}/features".encode()
    if all(videos.id.links.get_info(each).type == h5py.h5l.TYPE_HARD for each in (here, path)):
        dataset = h5py.h5d.open(videos.id, path)
        dataset.get_create_plist().get_external_count()
        dataset.get_storage_size()


def _read_attributes(videos: h5py.Group, name: str) -> None:
    _find_features(videos, name)
    group = member(videos, name)
    assert isinstance(group, h5py.Group)
    dict(group.attrs)
    centers = member(group, "centers_seconds")
    if centers is not None:
        require_whole(centers)
        centers[()]
