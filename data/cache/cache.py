"""The feature cache: what extraction writes and the detector reads, packed or still in parts."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..digest import digest_of
from ..errors import EtadError, nearest
from ..files.atomic import naming_access
from ..files.hdf5 import member, require_whole
from ..timeline import Timing
from .index import index_rows, is_sealed, read_index, row_timing
from .item import Header, check_finite, digest, naming_faults, open_file, read_header, video_group
from .merge import merge, pack
from .meta import FeatureMeta, Kind, check_same_kind
from .names import escape
from .parts import finished_ids, part_header, part_paths, parts_folder, write_part
from .probe import stamp, try_attributes, try_parts, try_video
from .problems import Problem, describe_unsealed
from .rules import reading_notes
from .verify import verify

__all__ = [
    "FeatureCache",
    "FeatureMeta",
    "Problem",
    "finished_ids",
    "merge",
    "pack",
    "parts_folder",
    "verify",
    "write_part",
]


class FeatureCache:
    """Read a packed file and its parts as one cache; a part stands before what is packed of the same video.

    What it holds is settled when it is opened. It may be pickled and may cross a fork: each process opens the files
    anew when it first reads.

    Parameters
    ----------
    path
        The packed file's path, whether it exists yet or not.

    Raises
    ------
    EtadError
        There is no cache, it holds no finished video, a file is damaged, or kinds of features are mixed.

    Attributes
    ----------
    ids
        Ids of the finished videos, sorted.
    lengths
        Number of snippets of each video.
    durations
        Seconds of each video.
    """

    def __init__(self, path: Path | str) -> None:
        with naming_access(path := Path(path)):
            self._open(path)

    def _open(self, path: Path) -> None:
        self.path = path
        self._part_stamps: dict[Path, tuple[int, ...]] = {}
        self._parts = _part_headers(self.path, self._part_stamps)
        self._file: h5py.File | None = None
        self._owner = 0
        self._stamp: tuple[int, ...] = ()
        rows: dict[str, np.void] = {}
        unsealed: set[str] = set()
        first: Header | None = None
        if self.path.exists():
            self._stamp = stamp(self.path)
            rows = read_index(self.path, self._packed())
            if rows:
                first = self._packed_header(min(rows))
            unsealed |= set() if is_sealed(self._packed()) else set(rows)
        elif not self._parts:
            raise EtadError(
                f"{self.path}: there is no feature cache, neither this file nor {parts_folder(self.path).name}. "
                f"Run `etad extract` first, or name another cache."
            )
        rows |= {row_id: row for row_id, row in zip(self._parts, index_rows(self._parts.values()))}
        if not rows:
            raise EtadError(f"{self.path}: this cache holds no finished video. Run `etad extract` again.")
        first = first or self._parts[min(self._parts)]
        for header in self._parts.values():
            check_same_kind(self.path, first.video_id, first.kind, header.video_id, header.kind)
        self.kind: Kind = first.kind
        self.ids = tuple(sorted(rows))
        self.lengths: dict[str, int] = dict(zip(self.ids, (int(rows[id]["length"]) for id in self.ids)))
        self.durations: dict[str, float] = {id: float(rows[id]["duration_seconds"]) for id in self.ids}
        self._rows = rows
        unsealed -= self._parts.keys()
        self._unsealed = sorted(unsealed | {id for id, header in self._parts.items() if not header.is_sealed})
        # One byte a video: its features were tested against their digest. Processes that are forked later share it.
        self._numbers = {id: number for number, id in enumerate(self.ids)}
        self._tested = mmap.mmap(-1, len(self.ids))

    @property
    def channels(self) -> int:
        """Channels C of every feature."""
        return self.kind.channels

    @property
    def digest(self) -> str:
        """SHA-256 over ids, lengths, timing and features' digests of all videos, packed or not."""
        rows = ([escape(video_id), *(self._rows[video_id][name].item() for name in _DIGESTED)] for video_id in self.ids)
        return digest_of(repr(each).encode() for each in chain([self.kind], rows))

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._rows

    def meta(self, video_id: str) -> FeatureMeta:
        """All that is stored beside a video's features.

        Raises
        ------
        EtadError
            The cache does not have the video, or the file is damaged.
        """
        self._require(video_id)
        if video_id in self._parts:
            return self._parts[video_id].meta
        with naming_faults(self.path):
            try_attributes(self.path)  # of all: who asks for one asks for many
        return self._packed_header(video_id).meta

    def timing(self, video_id: str) -> Timing:
        """Where a video's snippets stand."""
        self._require(video_id)
        return row_timing(self._rows[video_id]) or self.meta(video_id).timing

    def read(self, video_id: str, start: int | None = None, stop: int | None = None) -> np.ndarray:
        """Read features of snippets start .. stop - 1 (all by default), float32 [T, C]; a window is one read.

        The first time, all features of the video are tested against their digest.

        Raises
        ------
        EtadError
            The cache does not have the video, its features are damaged, not what the index says, or not finite, or the
            file has been replaced since the cache was opened.
        """
        self._require(video_id)
        length = self.lengths[video_id]
        start, stop = start or 0, length if stop is None else stop
        assert 0 <= start < stop <= length, (video_id, start, stop, length)
        part = self._parts.get(video_id)
        path = part.file if part is not None else self.path
        if part is not None and stamp(path) != self._part_stamps[path]:
            raise EtadError(f"{path}: was packed, removed or replaced while it was in use. Start again.")
        packed = self._packed() if part is None else None
        with naming_faults(path, video_id):
            if packed is not None:
                stored = self._read_stored(packed, path, video_id, start, stop)
            else:
                with open_file(path) as file:
                    stored = self._read_stored(file, path, video_id, start, stop)
            features = _widened(stored)
            check_finite(features)
        return features

    def reading_notes(self) -> list[str]:
        """Say what each use of a cache passes on: which videos older rules read, lack frames or miss a digest."""
        unsealed = [f"{self.path}: {describe_unsealed(self._unsealed)}"] if self._unsealed else []
        return unsealed + reading_notes(
            self.path,
            rules={id: int(self._rows[id]["reading_rules"]) for id in self.ids},
            lost_frames={id: int(self._rows[id]["lost_frames"]) for id in self.ids},
        )

    def close(self) -> None:
        """Close the packed file; reading opens it again."""
        if self._file is not None and self._owner == os.getpid():
            self._file.close()
        self._file = None

    def __enter__(self) -> FeatureCache:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_owner": 0, "_tested": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _tested=mmap.mmap(-1, len(state["ids"])))

    def _require(self, video_id: str) -> None:
        if video_id not in self._rows:
            raise EtadError(
                f"{self.path}: has no features of video '{video_id}'.{nearest(video_id, self.ids)} Extract it first."
            )

    def _packed(self) -> h5py.File:
        if self._file is None or self._owner != os.getpid():
            if self._stamp != stamp(self.path):
                raise EtadError(f"{self.path}: was replaced while it was in use. Start again.")
            self._file = open_file(self.path)
            self._owner = os.getpid()
        return self._file

    def _packed_header(self, video_id: str) -> Header:
        return read_header(self.path, video_group(self.path, self._packed(), video_id), video_id)

    def _read_stored(self, file: h5py.File, path: Path, video_id: str, start: int, stop: int) -> np.ndarray:
        number = self._numbers[video_id]
        if not self._tested[number]:
            stored = self._test(file, path, video_id, start, stop)
            self._tested[number] = 1
            return stored
        # Below h5py's comfort, which costs six times the read itself.
        dataset = h5py.h5d.open(file.id, f"videos/{escape(video_id)}/features".encode())
        return _snippets(dataset, start, stop)

    def _test(self, file: h5py.File, path: Path, video_id: str, start: int, stop: int) -> np.ndarray:
        """Read snippets start .. stop - 1 as they are stored, and everything else of the video for its digest."""
        try_video(path, video_id)
        group = member(member(file, "videos"), escape(video_id))
        dataset = member(group, "features") if isinstance(group, h5py.Group) else None
        if not isinstance(dataset, h5py.Dataset):
            raise EtadError("it has no features in the file")
        if dataset.shape != (self.lengths[video_id], self.channels) or dataset.dtype.name != self.kind.store_dtype:
            raise EtadError(
                f"its features are {dataset.dtype.name} {list(dataset.shape)}, the index says "
                f"{self.kind.store_dtype} {[self.lengths[video_id], self.channels]}"
            )
        require_whole(dataset)
        length, most = len(dataset), max(1, _PIECE_BYTES // (self.channels * dataset.dtype.itemsize))
        if (start, stop) == (0, length) or length <= most:
            whole = _snippets(dataset.id, 0, length)
            found, stored = digest([whole]), whole[start:stop]
        else:
            found = digest(_snippets(dataset.id, at, min(at + most, length)) for at in range(0, length, most))
            stored = _snippets(dataset.id, start, stop)
        if found != self._rows[video_id]["features_sha256"].decode("ascii", "replace"):
            raise EtadError("its features differ from their recorded digest: the file is damaged")
        return stored


def _snippets(dataset: h5py.h5d.DatasetID, start: int, stop: int) -> np.ndarray:
    out = np.empty((stop - start, dataset.shape[1]), dtype=dataset.dtype.newbyteorder("="))
    space = dataset.get_space()
    space.select_hyperslab((start, 0), out.shape)
    dataset.read(h5py.h5s.create_simple(out.shape), space, out)
    return out


# Of longer videos, read in part, a piece at a time is digested.
_PIECE_BYTES = 2**25

_DIGESTED = ("length", "features_sha256", "duration_seconds", "fps", "first_center_seconds", "center_step_seconds")


def _part_headers(cache: Path, stamps: dict[Path, tuple[int, ...]]) -> dict[str, Header]:
    """Headers of a cache's parts by id; notes the stamps of their files."""
    headers = {}
    paths = part_paths(cache)
    try_parts(paths)
    for path in paths:
        stamps[path] = stamp(path)
        try:
            header = part_header(path)
        except EtadError:
            if path.exists():
                raise
            continue  # packed a moment ago: the packed file, read after this, has it
        headers[header.video_id] = header
    return headers


# torch shares out longer copies among threads, and on busy cores the threads wait longer than they work.
_SERIAL_VALUES = 32768


def _widened(stored: np.ndarray) -> np.ndarray:
    """Stored features as float32, (T, C); torch is six times faster at it than numpy, and on one thread."""
    if stored.dtype == np.float32:
        return stored
    import torch  # a command that reads no feature starts without it

    features = np.empty(stored.shape, dtype=np.float32)
    pieces = torch.from_numpy(features).view(-1).split(_SERIAL_VALUES)
    for piece, source in zip(pieces, torch.from_numpy(stored).view(-1).split(_SERIAL_VALUES)):
        piece.copy_(source)
    return features
