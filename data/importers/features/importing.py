"""Features of others -> a feature cache: found, compared with each other and with annotations, written in one go."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...annotations import Annotations, check_ids, match_ids
from ...cache.cache import FeatureCache
from ...cache.foreign import ForeignFileError
from ...cache.index import write_index
from ...cache.item import Header, add_item, create_file
from ...cache.meta import FeatureMeta
from ...cache.parts import parts_folder, storable
from ...cache.probe import trust
from ...digest import file_sha256
from ...errors import DiskError, EtadError, counted, listing
from ...files.atomic import naming_access, replacing
from ...files.lock import holding
from ...progress import progress_bar
from .find import FoundArrays, find_arrays
from .shapes import channels_of
from .stored import StoredArray, two_axes, two_dimensional
from .timing import RescaledTiming, SnippetTiming, note_conflicts

EXTERNAL = "external"
_UNSTATED = "unstated"


@dataclass(frozen=True)
class ImportReport:
    """What an import wrote.

    Parameters
    ----------
    videos
        Ids of the cache.
    failed
        Of each video that is left out: id, file, what is wrong.
    notes
        What is worth knowing, a line each.
    """

    path: Path
    videos: tuple[str, ...]
    channels: int
    store_dtype: str
    failed: tuple[tuple[str, Path, str], ...]
    notes: tuple[str, ...]


def import_features(
    source: Path,
    cache: Path,
    *,
    timing: SnippetTiming | RescaledTiming,
    annotations: Annotations | None = None,
    encoder: str = EXTERNAL,
    prefix: str = "",
    suffix: str = "",
    channels_first: bool = False,
) -> ImportReport:
    """Write a cache of somebody's features; whole or not at all, and again where it is called again.

    Parameters
    ----------
    source
        Folder of files, or a file.
    cache
        File to write.
    annotations
        Where durations are stated; a video without one ends with its last snippet.
    encoder
        What the cache says of what made the features.
    prefix, suffix
        What stands around the ids in names.
    channels_first
        The arrays are [C, T].

    Raises
    ------
    EtadError
        Nothing of the source can be used, its axes or times contradict what was stated, or the cache's place has
        something else.
    """
    _require_place(cache)
    found = find_arrays(source, prefix=prefix, suffix=suffix)
    check_ids(source, found.arrays)
    with _naming(source):
        channels = _drop_odd_shapes(found, channels_first=channels_first)
        durations, notes = _durations(found, annotations, timing, channels_first=channels_first)
    if found.passed_over:
        what = f"passed over {counted(len(found.passed_over), 'name')}: {listing(found.passed_over, 3)}"
        notes.append(f"{source}: {what}")
    dtypes = {array.dtype for array in found.arrays.values()}
    store_dtype = "float16" if dtypes == {np.dtype("float16")} else "float32"
    digests = {file: file_sha256(file) for file in sorted({array.file for array in found.arrays.values()})}
    lock = holding(cache.with_name(cache.name + ".lock"), "importing")
    with naming_access(cache), lock, replacing(cache) as temporary, create_file(temporary) as file:
        headers: list[Header] = []
        for video_id, array in progress_bar("import", sorted(found.arrays.items()), unit="video"):
            try:
                features = _features(array, store_dtype, channels_first=channels_first)
                meta = FeatureMeta(
                    timing=timing.of(len(features), durations.get(video_id)),
                    encoder=encoder,
                    weights_sha256=_UNSTATED,
                    transform={"imported": True},
                    source_name=array.file.name,
                    source_bytes=array.file.stat().st_size,
                    source_sha256=digests[array.file],
                    compute_dtype=_UNSTATED,
                )
                headers.append(add_item(file, cache, video_id, features, meta))
            except DiskError:
                raise
            except EtadError as error:
                found.faults[video_id] = array.file, str(error)
        if not headers:
            raise EtadError(f"{source}: {_listed_faults(found)}")
        write_index(file, headers)
    trust(cache)
    return ImportReport(
        path=cache,
        videos=tuple(header.video_id for header in headers),
        channels=channels,
        store_dtype=store_dtype,
        failed=tuple((id, file, what) for id, (file, what) in sorted(found.faults.items())),
        notes=tuple(notes),
    )


@contextlib.contextmanager
def _naming(source: Path) -> Iterator[None]:
    """Put the source's name before what is said of it."""
    try:
        yield
    except EtadError as error:
        raise EtadError(f"{source}: {error}") from error


def _require_place(cache: Path) -> None:
    """Refuse to write over anything but an earlier import."""
    if parts_folder(cache).is_dir():
        begun = parts_folder(cache).name
        raise EtadError(f"{cache}: `etad extract` has begun a cache there ({begun}). Name another file with -o.")
    if not cache.exists():
        return
    try:
        with FeatureCache(cache) as there:
            is_made_here = not there.meta(there.ids[0]).is_imported
    except ForeignFileError as error:
        raise EtadError(f"{cache}: there is something that is no feature cache. Name another file with -o.") from error
    if is_made_here:
        raise EtadError(f"{cache}: is a cache that `etad extract` made. Name another file with -o, or remove it first.")


def _drop_odd_shapes(found: FoundArrays, *, channels_first: bool) -> int:
    """Move arrays that are no features to the faults; returns the channels of the others."""
    shapes = {}
    for video_id, array in list(found.arrays.items()):
        try:
            shapes[video_id] = two_axes(array.shape)
        except EtadError as error:
            _fail(found, video_id, str(error))
    if not shapes:
        raise EtadError(_listed_faults(found))
    channels, wrong = channels_of(shapes, channels_first=channels_first)
    for video_id, what in wrong.items():
        _fail(found, video_id, what)
    return channels


def _fail(found: FoundArrays, video_id: str, what: str) -> None:
    found.faults[video_id] = found.arrays.pop(video_id).file, what


def _durations(
    found: FoundArrays, annotations: Annotations | None, timing: SnippetTiming | RescaledTiming, *, channels_first: bool
) -> tuple[dict[str, float], list[str]]:
    """Annotated durations by video of the source, and what they say of the timing."""
    notes: list[str] = []
    if annotations is None:
        return {}, notes
    matches = match_ids(annotations.videos, found.arrays, where=str(annotations.source))
    if not matches:
        raise EtadError(
            f"none of its videos is annotated in {annotations.source} (features: {listing(found.arrays, 3)}; "
            f"annotated: {listing(annotations.videos, 3)}). Correct --prefix or --suffix, or name other annotations."
        )
    durations: dict[str, float] = {}
    conflicts: dict[str, str] = {}
    for annotated, video_id in matches.items():
        seconds = annotations.videos[annotated].duration_seconds
        if seconds is None:
            continue
        durations[video_id] = seconds
        length = two_axes(found.arrays[video_id].shape)[1 if channels_first else 0]
        if what := timing.conflict(length, seconds):
            conflicts[video_id] = what
    notes += note_conflicts(conflicts, compared=len(durations))
    unused = sorted(set(found.arrays) - set(matches.values()))
    if unused:
        notes.append(f"not annotated: {counted(len(unused), 'video')} ({listing(unused, 3)})")
    absent = sorted(set(annotations.videos) - set(matches) - _faulty(found, annotations))
    if absent:
        notes.append(f"annotated, but without features: {counted(len(absent), 'video')} ({listing(absent, 3)})")
    computed = len(found.arrays) - len(durations)
    if computed and isinstance(timing, SnippetTiming):
        notes.append(f"no duration annotated for {counted(computed, 'video')}: taken to end with the last snippet")
    return durations, notes


def _faulty(found: FoundArrays, annotations: Annotations) -> set[str]:
    """Annotated videos whose features are listed as faulty anyway."""
    return set(match_ids(annotations.videos, found.faults, where=str(annotations.source)))


def _features(array: StoredArray, store_dtype: str, *, channels_first: bool) -> np.ndarray:
    features = two_dimensional(array.load())
    if features.shape != two_axes(array.shape):
        raise EtadError("was changed while it was read")
    if channels_first:
        features = features.T
    if features.dtype.kind != "f":
        features = features.astype(np.float32)
    return storable(np.ascontiguousarray(features), store_dtype)


def _listed_faults(found: FoundArrays) -> str:
    named: Iterable[str] = (f"'{id}' {what}" for id, (_, what) in found.faults.items())
    return f"none of its {counted(len(found.faults), 'video')} can be used: {listing(named, 3)}."
