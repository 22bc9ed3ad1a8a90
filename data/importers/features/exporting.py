"""A feature cache -> the forms of others, from which an import makes it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...cache.cache import FeatureCache
from ...errors import EtadError, listing
from ...progress import progress_bar
from .npy import write_npy
from .tsp import write_tsp

# File systems take 255 bytes; the ending is one part of them.
_LONGEST_NAME = 240


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote.

    Parameters
    ----------
    again
        Options of `etad import features` that place the snippets where they stood; none where each video has its own.
    """

    path: Path
    num_videos: int
    again: str | None


def export_features(cache: FeatureCache, out: Path, *, layout: str) -> ExportReport:
    """Write every video's features, [T, C], in the dtype that the cache stores.

    Parameters
    ----------
    out
        Folder (`npy`) or file (`tsp`).
    layout
        One of `LAYOUTS`.

    Raises
    ------
    EtadError
        An id cannot be the name that the layout needs, or there is something else in that place.
    """
    for video_id in cache.ids:
        if "/" in video_id or "\0" in video_id or video_id.startswith(".") or len(video_id.encode()) > _LONGEST_NAME:
            raise EtadError(
                f"{cache.path}: the id '{video_id[:60]}' cannot be a file's name. Give the video another one."
            )
    LAYOUTS[layout](cache, out)
    return ExportReport(out, len(cache), _options(cache))


def _write_folder(cache: FeatureCache, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise EtadError(f"{out}: is a file, and --layout npy writes a folder. Name another place.")
    names = {f"{video_id}.npy" for video_id in cache.ids}
    others = sorted(path.name for path in out.iterdir() if path.name not in names) if out.is_dir() else []
    if others:
        raise EtadError(f"{out}: the folder has other files ({listing(others, 3)}). Name an empty folder.")
    for video_id, features in _stored(cache):
        write_npy(out / f"{video_id}.npy", features)


def _write_hdf5(cache: FeatureCache, out: Path) -> None:
    if out.exists():
        raise EtadError(f"{out}: is there already. Remove it, or name another file.")
    write_tsp(out, _stored(cache))


LAYOUTS: dict[str, Callable[[FeatureCache, Path], None]] = {"npy": _write_folder, "tsp": _write_hdf5}


def _stored(cache: FeatureCache) -> Iterator[tuple[str, np.ndarray]]:
    for video_id in progress_bar("export", cache.ids, unit="video"):
        yield video_id, cache.read(video_id).astype(cache.kind.store_dtype)


def _options(cache: FeatureCache) -> str | None:
    timings = [cache.timing(video_id) for video_id in cache.ids]
    first = timings[0]
    if all(each.clip_frames == 1 and each.num_frames == cache.lengths[id] for id, each in zip(cache.ids, timings)):
        return "--rescaled"
    placed = {(each.fps, each.first_center_seconds, each.centers_seconds) for each in timings}
    # A video of one snippet has no step of its own.
    steps = {each.center_step_seconds for id, each in zip(cache.ids, timings) if cache.lengths[id] > 1}
    if len(placed) > 1 or len(steps) > 1 or first.centers_seconds is not None:
        return None
    stride = (steps or {first.center_step_seconds}).pop() * first.fps
    clip_frames = first.clip_frames * first.frame_step
    offset = first.first_center_seconds * first.fps - clip_frames / 2
    shown = f"--fps {_plain(first.fps)} --stride {_plain(stride)} --clip-frames {clip_frames}"
    return shown if abs(offset) < 1e-6 else f"{shown} --offset {_plain(offset)}"


def _plain(number: float) -> str:
    rounded = round(number, 6)
    return str(int(rounded)) if rounded == int(rounded) else repr(rounded)
