"""Parts and packed files joined into one packed file, under a lock, without ever endangering what is there."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import h5py

from ..errors import EtadError
from ..files.atomic import naming_access, remove_leftovers, replacing
from ..files.lock import holding
from .index import write_index
from .item import (
    Header,
    copy_item,
    create_file,
    is_complete,
    naming_faults,
    open_file,
    read_header,
    read_stored,
    video_group,
    video_ids,
)
from .meta import check_same_kind
from .parts import part_header, part_paths, parts_folder
from .probe import trust, try_attributes, try_parts

_logger = logging.getLogger(__name__)


def lock_path(cache: Path) -> Path:
    return cache.with_name(cache.name + ".lock")


def pack(cache: Path) -> Path:
    """Move a cache's parts into its packed file; returns the packed file.

    Safe to repeat and to kill: the old packed file stays until the new one is whole, the parts until after that. Parts
    that are written meanwhile stay parts.

    Raises
    ------
    EtadError
        There is nothing to pack, a part is damaged or of another kind, or another process is packing.
    """
    return merge(cache)


def merge(cache: Path, sources: Sequence[Path] = ()) -> Path:
    """Join a cache's parts, and other caches with theirs, into its packed file; returns the packed file.

    Parameters
    ----------
    cache
        Cache to make or extend.
    sources
        Other caches (packed, in parts, or both); they are left as they are.

    Raises
    ------
    EtadError
        A source is missing or damaged, the features are of different kinds, two caches hold different features of one
        video, or another process is packing this cache.
    """
    with naming_access(cache), holding(lock_path(cache), "packing"):
        remove_leftovers(cache.parent)
        remove_leftovers(parts_folder(cache))
        # Stats first: a part that is replaced while we read must not be removed afterwards.
        parts = {path: path.stat() for path in part_paths(cache)}
        joined: dict[str, Header] = {}
        others = [source for source in sources if source.resolve() != cache.resolve()]
        for source in (cache, *others):
            _join(joined, source, may_be_missing=source == cache and bool(others))
        if parts or others:
            write_packed(cache, joined.values())
        for path, stat in parts.items():
            with contextlib.suppress(FileNotFoundError):
                now = path.stat()
                if (now.st_ino, now.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns):
                    path.unlink()
        with contextlib.suppress(OSError):  # it has files of running writers
            parts_folder(cache).rmdir()
    return cache


def write_packed(path: Path, headers: Iterable[Header]) -> None:
    """Write the packed file of these videos, whole or not at all; the caller holds the lock.

    Every video is tested against its digest on the way: what is packed then has its place for good.

    Raises
    ------
    EtadError
        A video's features are damaged, or the file cannot be written.
    """
    ordered = sorted(headers, key=lambda header: header.video_id)
    for header in ordered[1:]:
        check_same_kind(path, ordered[0].video_id, ordered[0].kind, header.video_id, header.kind)
    with replacing(path) as temporary, create_file(temporary, ordered) as packed:
        for source, of_source in itertools.groupby(sorted(ordered, key=_file), key=_file):
            _copy(source, list(of_source), packed["videos"])
        write_index(packed, ordered)
    trust(path)


def packed_headers(path: Path) -> list[Header]:
    """Headers of a packed file's complete videos, read from their groups.

    Raises
    ------
    EtadError
        A video is damaged.
    """
    headers = []
    with naming_faults(path):
        try_attributes(path)
    with open_file(path) as file:
        for video_id in video_ids(path, file):
            group = video_group(path, file, video_id)
            if is_complete(group):
                headers.append(read_header(path, group, video_id))
            else:
                _logger.warning("%s: video '%s' is incomplete and left out", path, video_id)
    return headers


def _join(joined: dict[str, Header], source: Path, *, may_be_missing: bool) -> None:
    paths = part_paths(source)
    if not source.exists() and not paths:
        if may_be_missing:
            return
        raise EtadError(f"{source}: there is no feature cache, neither packed nor in parts. Run `etad extract` first.")
    own = {header.video_id: header for header in packed_headers(source)} if source.exists() else {}
    # Within a cache a part is newer than what is packed.
    try_parts(paths)
    own |= {header.video_id: header for header in map(part_header, paths)}
    for video_id, header in own.items():
        other = joined.setdefault(video_id, header)
        if other.digest != header.digest:
            raise EtadError(
                f"video '{video_id}' has different features in {other.file} and {header.file}. Remove it from one "
                f"of them, or merge only one."
            )


def _copy(source: Path, headers: list[Header], videos: h5py.Group) -> None:
    with open_file(source) as file:
        for header in headers:
            read_stored(source, video_group(source, file, header.video_id), header)
            copy_item(source, file, header.video_id, videos)


def _file(header: Header) -> Path:
    return header.file
