"""HDF5 with one root data set a video, as TSP publishes its features; written in the same form.

Checked against excerpts of TSP (extract_features/merge_pkl_files_into_one_h5_feature_file.py: a data set [T, 512]
for each video, named after it, gzip 9, chunked) and a reader of the published files (video-mamba-suite,
video-dense-captioning/data/anet/features/convert_tsp_h5_to_npy.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from ...errors import DiskError, EtadError
from ...files.atomic import replacing
from ...files.child import fatal_steps
from ...files.hdf5 import FAULTS, make_room, member, new_hdf5, open_hdf5, raise_for_disk
from .stored import StoredArray, require_numbers

# Numbers are hardly ever compressed to a tenth; nothing that claims more is read.
_TIGHTEST = 1100
_LARGE_BYTES = 2**26


def read_tsp(path: Path) -> Iterator[tuple[str, StoredArray | EtadError]]:
    """Look at the data sets in a file's root; yields each video with its array, or with what is wrong with it.

    Raises
    ------
    EtadError
        It is no HDF5, damaged, a feature cache, or holds no data set in its root.
    """
    # A child reads it all first: damaged HDF5 can hang or crash whoever reads it.
    fatal = fatal_steps(partial(_steps, path))
    if "" in fatal:
        raise EtadError(f"{path}: reading it {fatal['']}: the file is damaged. Copy it again.")
    try:
        with open_hdf5(path) as file:
            if file.attrs.get("format") == "etad-features":
                raise EtadError(
                    f"{path}: is a feature cache of etad already: give it to `etad detect --features`, or join it to "
                    "another with `etad merge`."
                )
            names = [str(name) for name in file]
            datasets = [name for name in names if _is_dataset(file, name)]
            if not datasets:
                inside = f"groups ({', '.join(names[:3])})" if names else "nothing"
                raise EtadError(f"{path}: its root holds {inside}, expected one data set [T, C] a video.")
            for name in names:
                try:
                    if name in fatal:
                        raise EtadError(f"reading it {fatal[name]}: the file is damaged")
                    yield name, _look(path, file, name)
                except DiskError:
                    raise
                except EtadError as error:
                    yield name, error
    except DiskError:
        raise
    except FAULTS as error:
        raise_for_disk(path, error)
        raise EtadError(f"{path}: cannot be read as HDF5 ({error}). Copy it again.") from error


def write_tsp(path: Path, videos: Iterable[tuple[str, np.ndarray]]) -> Path:
    """Write one data set [T, C] a video into a file's root, whole or not at all."""
    with replacing(path) as temporary, new_hdf5(temporary) as file:
        for video_id, features in videos:
            make_room(file, features.nbytes + 4096 + len(video_id.encode()))
            file.create_dataset(video_id, data=features)
    return path


def _steps(path: Path) -> list[tuple[str, Callable[[], object]]]:
    file = open_hdf5(path)
    return [(str(name), partial(_read, path, file, str(name))) for name in file]


def _is_dataset(file: h5py.File, name: str) -> bool:
    try:
        return isinstance(member(file, name), h5py.Dataset)
    except (EtadError, *FAULTS):
        return False


def _look(path: Path, file: h5py.File, name: str) -> StoredArray:
    try:
        dataset = _checked(file, name)
    except FAULTS as error:
        raise_for_disk(path, error)
        raise EtadError(f"cannot be read ({error})") from error
    return StoredArray(name, path, dataset.shape, dataset.dtype, partial(_load, path, name))


def _checked(file: h5py.File, name: str) -> h5py.Dataset:
    dataset = member(file, name)
    if not isinstance(dataset, h5py.Dataset):
        raise EtadError("is no data set, expected one [T, C]")
    stored = dataset.id.get_create_plist()
    if stored.get_external_count() or stored.get_layout() == h5py.h5d.VIRTUAL:
        raise EtadError("lies in another file, expected the data themselves")
    require_numbers(dataset.shape, dataset.dtype)
    found = dataset.id.get_storage_size()
    packed_most = max(_LARGE_BYTES, _TIGHTEST * found) if stored.get_nfilters() else found
    if not found or dataset.nbytes > packed_most:
        raise EtadError(f"claims {dataset.nbytes} bytes, and the file holds {found} of them")
    return dataset


def _read(path: Path, file: h5py.File, name: str) -> None:
    dataset = _checked(file, name)
    for start in range(0, len(dataset), rows := max(1, 2**26 // max(1, dataset.nbytes // len(dataset)))):
        dataset[start : start + rows]


def _load(path: Path, name: str) -> np.ndarray:
    try:
        with open_hdf5(path) as file:
            return np.asarray(_checked(file, name)[()])
    except FAULTS as error:
        raise_for_disk(path, error)
        raise EtadError(f"cannot be read ({error})") from error
