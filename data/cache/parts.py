"""The small files of a growing cache: one video each, whole or absent, so any number of processes may add some."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np

from ..errors import EtadError
from ..files.atomic import is_temporary, naming_access, write_bytes
from ..files.hdf5 import hdf5_in_memory, image_of
from .index import read_index
from .item import (
    STORE_DTYPES,
    Header,
    check_finite,
    open_file,
    read_header,
    read_stored,
    start_file,
    video_group,
    video_ids,
    write_item,
)
from .meta import FeatureMeta, Kind, check_same_kind
from .names import id_of_part, part_name
from .probe import trust


def parts_folder(cache: Path) -> Path:
    """Folder of the parts of `cache`.

    Examples
    --------
    >>> parts_folder(Path("run/features.h5")).name
    'features.h5.parts'
    """
    return cache.with_name(cache.name + ".parts")


def write_part(
    cache: Path, video_id: str, features: np.ndarray, meta: FeatureMeta, store_dtype: str = "float16"
) -> Path:
    """Add one video to a cache, replacing features that it has of this video; returns the part file.

    Parameters
    ----------
    cache
        The packed file's path, whether it exists or not.
    features
        [T, C] floats, finite.
    store_dtype
        `float16` or `float32`.

    Raises
    ------
    EtadError
        The features are not what a cache can hold, do not fit their timing, or are of another kind than those that
        the cache has.
    """
    path = parts_folder(cache) / part_name(video_id)
    try:
        stored = storable(features, store_dtype)
        meta.check(len(stored))
    except EtadError as error:
        raise EtadError(f"{cache}: video '{video_id}' cannot be stored: {error}.") from error
    kind = Kind.of(meta, store_dtype=store_dtype, channels=stored.shape[1])
    other = any_header(cache, besides=video_id)
    if other is not None:
        check_same_kind(cache, other.video_id, other.kind, video_id, kind)
    return write_item_file(path, video_id, stored, meta)


def write_item_file(path: Path, video_id: str, stored: np.ndarray, meta: FeatureMeta) -> Path:
    """Write a file of one video, whole or not at all: made in memory, so that a full disk is met by us and not by HDF5.

    Raises
    ------
    UnwritableError
        The file cannot be written.
    """
    with hdf5_in_memory() as file:
        write_item(start_file(file), video_id, stored, meta)
        content = image_of(file)
    write_bytes(path, content)
    trust(path)
    return path


def finished_ids(cache: Path) -> set[str]:
    """Ids of the videos that a cache has whole, packed or as parts; empty where there is no cache yet."""
    with naming_access(cache):
        ids = {part_id(path) for path in part_paths(cache)}
        if cache.exists():
            with open_file(cache) as file:
                ids |= read_index(cache, file).keys()
        return ids


def part_paths(cache: Path) -> list[Path]:
    """Part files of a cache, sorted; files that were never finished are none."""
    folder = parts_folder(cache)
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.name.endswith(".h5"))
    return [folder / name for name in names if not is_temporary(folder / name)]


def part_id(path: Path) -> str:
    """Id of a part, off its name, or from inside where the name is too short for it.

    Raises
    ------
    EtadError
        The file is damaged or holds not exactly the one video that it is named after.
    """
    named = id_of_part(path)
    if named is not None:
        return named
    with open_file(path) as file:
        inside = video_ids(path, file)
    if len(inside) != 1 or part_name(inside[0]) != path.name:
        raise EtadError(f"{path}: is not named after the one video that it should hold. Move it out of this folder.")
    return inside[0]


def part_header(path: Path) -> Header:
    """Read what a part says of its video, the features unread.

    Raises
    ------
    EtadError
        The part is damaged, incomplete or misnamed.
    """
    video_id = part_id(path)
    with open_file(path) as file:
        return read_header(path, video_group(path, file, video_id), video_id)


def part_features(header: Header) -> np.ndarray:
    """Read a part's features as they are stored, [T, C], tested against their digest."""
    with open_file(header.file) as file:
        return read_stored(header.file, video_group(header.file, file, header.video_id), header)


def any_header(cache: Path, *, besides: str | None = None) -> Header | None:
    """Header of some readable video of a cache, other than `besides`; None where there is none.

    A damaged part is passed over: it is not to stop the extraction of others, and opening the cache reports it.
    """
    if cache.exists():
        with open_file(cache) as file:
            for video_id in video_ids(cache, file):
                if video_id != besides:
                    return read_header(cache, video_group(cache, file, video_id), video_id)
    folder = parts_folder(cache)
    if not folder.is_dir():
        return None
    with os.scandir(folder) as entries:
        for entry in entries:
            path = folder / entry.name
            if entry.name.endswith(".h5") and not is_temporary(path):
                with contextlib.suppress(EtadError):
                    header = part_header(path)
                    if header.video_id != besides:
                        return header
    return None


def storable(features: np.ndarray, store_dtype: str) -> np.ndarray:
    """Features as a cache stores them, [T, C].

    Raises
    ------
    EtadError
        They are not finite, no floats, of another shape, or more than the dtype can hold.
    """
    if store_dtype not in STORE_DTYPES:
        raise EtadError(f"dtype '{store_dtype}' is none of {', '.join(STORE_DTYPES)}")
    if not isinstance(features, np.ndarray) or not np.issubdtype(features.dtype, np.floating):
        raise EtadError(f"its features are {getattr(features, 'dtype', type(features).__name__)}, expected floats")
    if features.ndim != 2 or 0 in features.shape:
        raise EtadError(f"its features have shape {list(features.shape)}, expected [T, C] with at least one snippet")
    check_finite(features)
    with np.errstate(over="ignore"):
        stored = features.astype(store_dtype)
    if not np.isfinite(stored).all():
        raise EtadError(
            f"its features reach {np.abs(features).max():.4g}, more than {store_dtype} can hold; "
            f"store them as float32 (extract.store_dtype='float32')"
        )
    return stored
