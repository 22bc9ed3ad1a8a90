"""Arrays of numpy: `.npy` and `.npz` files of one video each, and one `.npz` of all videos.

Checked against ActionFormer's data sets (libs/datasets/thumos14.py: `file_prefix` + id + `file_ext`, [T, C];
epic_kitchens.py: `.npz` with its array under the name `feats`).
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from ...errors import EtadError, listing
from ...files.atomic import replacing
from .stored import StoredArray, require_numbers

# What reading a damaged array or archive ends in.
_FAULTS: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, zipfile.BadZipFile, NotImplementedError)
_FAULTS += (RuntimeError, OverflowError, KeyError, MemoryError, SyntaxError, zlib.error)
# Names under which one-video archives hold their features, the likeliest first.
_NAMES = ("feats", "features", "feature", "feat", "arr_0")
# Numbers are hardly ever compressed to a tenth; nothing that is larger and was packed tighter is unpacked.
_LARGE_BYTES, _TIGHTEST = 2**26, 200


def read_npy(path: Path, video_id: str) -> StoredArray:
    """Look at a `.npy` file of one video.

    Raises
    ------
    EtadError
        It is damaged, cut short, or holds no numbers.
    """
    try:
        with path.open("rb") as file:
            shape, _, dtype = _header(file)
            begin = file.tell()
        require_numbers(shape, dtype)
        expected = begin + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        if (found := path.stat().st_size) < expected:
            raise EtadError(f"has {found} bytes, its header promises {expected}: it was cut short. Copy it again")
    except _FAULTS as error:
        raise EtadError(f"is no array that numpy can read ({error})") from error
    return StoredArray(video_id, path, shape, dtype, partial(_load_npy, path))


def read_npz_of_one(path: Path, video_id: str) -> StoredArray:
    """Look at a `.npz` file of one video: its only array, or the one that is named as features are.

    Raises
    ------
    EtadError
        It is damaged, or it cannot be told which array is meant.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            chosen = names if len(names) == 1 else [name for name in _NAMES if name in names][:1]
            if not chosen:
                raise EtadError(
                    f"holds {len(names)} arrays ({listing(names)}), expected one, or one named "
                    f"{' or '.join(_NAMES[:2])}"
                )
            return _in_archive(path, archive, f"{chosen[0]}.npy", video_id)
    except _FAULTS as error:
        raise EtadError(f"is no archive that numpy can read ({error})") from error


def read_npz_of_all(path: Path) -> Iterator[tuple[str, StoredArray | EtadError]]:
    """Look at a `.npz` file with one array a video; yields each video with its array, or with what is wrong with it.

    Raises
    ------
    EtadError
        It is no archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                video_id = name.removesuffix(".npy")
                try:
                    yield video_id, _in_archive(path, archive, name, video_id)
                except EtadError as error:
                    yield video_id, error
                except _FAULTS as error:
                    yield video_id, EtadError(f"is no array that numpy can read ({error})")
    except _FAULTS as error:
        raise EtadError(f"{path}: is no archive that numpy can read ({error}). Copy it again.") from error


def write_npy(path: Path, features: np.ndarray) -> Path:
    """Write one video's features, [T, C], whole or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array(file, features, allow_pickle=False)
    return path


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and dtype of the array that a file begins with; nothing in it is evaluated but plain literals."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if any(side < 0 for side in shape):
        raise ValueError(f"shape {shape}")
    return shape, fortran, dtype


def _load_npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except _FAULTS as error:
        raise EtadError(f"is no array that numpy can read ({error})") from error


def _in_archive(path: Path, archive: zipfile.ZipFile, name: str, video_id: str) -> StoredArray:
    packed = archive.getinfo(name)
    with archive.open(packed) as file:
        shape, _, dtype = _header(file)
        begin = file.tell()
    require_numbers(shape, dtype)
    expected = begin + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    if packed.file_size != expected:
        raise EtadError(f"unpacks to {packed.file_size} bytes, its header promises {expected}")
    if packed.file_size > max(_LARGE_BYTES, _TIGHTEST * packed.compress_size):
        raise EtadError(
            f"unpacks from {packed.compress_size} to {packed.file_size} bytes, as no features do; store it again with "
            "numpy.savez"
        )
    return StoredArray(video_id, path, shape, dtype, partial(_load_from_archive, path, name))


def _load_from_archive(path: Path, name: str) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except _FAULTS as error:
        raise EtadError(f"is no array that numpy can read ({error})") from error
