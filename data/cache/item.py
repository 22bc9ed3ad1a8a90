"""One video's features inside an HDF5 file: its group, its attributes, its checks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..digest import digest_of, values_digest
from ..errors import DiskError, EtadError
from ..files.hdf5 import FAULTS, make_room, member, new_hdf5, open_hdf5, raise_for_disk, require_whole
from .foreign import ForeignFileError, refuse_other_hdf5, refuse_unreadable
from .meta import FeatureMeta, Kind
from .names import escape, unescape
from .probe import try_attributes, try_file, try_video

FORMAT = "etad-features"
VERSION = 1
STORE_DTYPES = ("float16", "float32")
# The last attribute that a writer sets, and the digest of all others.
_COMPLETE, _SEAL = "complete", "attributes_sha256"
# What HDF5 takes for a group beside its values and texts, and its row in the index; at most, measured generously.
_ITEM_BYTES = 6144
# HDF5 holds 64 KiB in an attribute; longer lists of centres become a dataset of the same name.
_LONGEST_ATTRIBUTE = 4096


@dataclass(frozen=True)
class Header:
    """What one video's group says of itself, its features unread.

    `digest` is that of the features. `is_sealed`: the attributes were tested against a digest as well, which older
    versions of etad did not write.
    """

    video_id: str
    file: Path
    length: int
    channels: int
    store_dtype: str
    digest: str
    meta: FeatureMeta
    is_sealed: bool = True

    @property
    def kind(self) -> Kind:
        return Kind.of(self.meta, store_dtype=self.store_dtype, channels=self.channels)


@contextlib.contextmanager
def create_file(path: Path, headers: Iterable[Header] = ()) -> Iterator[h5py.File]:
    """Start an empty feature file on disk, for writing, with room for those videos.

    Raises
    ------
    OSError
        The disk has no such room.
    """
    with new_hdf5(path, room_bytes=sum(map(_room_bytes, headers))) as file:
        start_file(file)
        yield file


def start_file(file: h5py.File) -> h5py.Group:
    """Make an empty HDF5 file a feature file; returns the group of its videos."""
    file.attrs["format"] = FORMAT
    file.attrs["version"] = VERSION
    return file.create_group("videos")


def open_file(path: Path) -> h5py.File:
    """Open a feature file for reading, which a child process has tried before.

    Raises
    ------
    EtadError
        It is missing, damaged, no HDF5, another format, or of a newer version.
    """
    with naming_faults(path):
        try_file(path)
    try:
        file = open_hdf5(path)
    except OSError as error:
        if not path.exists():
            raise EtadError(f"{path}: there is no such feature file. Run `etad extract` first.") from error
        refuse_unreadable(path)
        raise EtadError(
            f"{path}: cannot be read as HDF5; it is damaged or of another kind. "
            f"Run `etad verify --repair` on the cache, then extract again."
        ) from error
    try:
        with naming_faults(path):
            form, version = file.attrs.get("format"), file.attrs.get("version")
            has_videos = isinstance(member(file, "videos"), h5py.Group)
            if form != FORMAT:
                refuse_other_hdf5(path, file)
    except EtadError:
        file.close()
        raise
    if form != FORMAT or not has_videos:
        file.close()
        raise EtadError(f"{path}: is HDF5, but no feature cache of etad (format {form!r}, expected '{FORMAT}').")
    if version != VERSION:
        file.close()
        raise EtadError(f"{path}: is a feature cache of version {version}, this etad reads {VERSION}. Update etad.")
    return file


@contextlib.contextmanager
def naming_faults(path: Path, video_id: str | None = None) -> Iterator[None]:
    """Turn whatever damaged HDF5 raises, and our own findings, into one sentence with file, video and remedy."""
    try:
        yield
    except (DiskError, ForeignFileError):
        raise
    except (EtadError, *FAULTS) as error:
        raise_for_disk(path, error)
        words = str(error) if isinstance(error, EtadError) else f"it cannot be read ({error})"
        about = str(path) if video_id is None else f"{path}: video '{video_id}'"
        again = "again" if video_id is None else "the video again"
        raise EtadError(f"{about}: {words}. Run `etad verify --repair` on the cache, then extract {again}.") from error


def video_ids(path: Path, file: h5py.File) -> list[str]:
    """Ids of all groups of a file, complete or not.

    Raises
    ------
    EtadError
        The file is damaged.
    """
    with naming_faults(path):
        return [unescape(name) for name in file["videos"]]


def video_group(path: Path, file: h5py.File, video_id: str) -> h5py.Group:
    """Group of one video, whose attributes a child process has read before.

    Raises
    ------
    EtadError
        There is none, it is a link or holds more than features, or the file is damaged.
    """
    try_attributes(path, [video_id])
    with naming_faults(path, video_id):
        try_video(path, video_id)
        group = member(file["videos"], escape(video_id))
        if not isinstance(group, h5py.Group):
            raise EtadError("it is not in the file")
        more = {str(name) for name in group} - {"features", "centers_seconds"}
        if more:
            raise EtadError(f"it holds '{min(more)}' beside its features, which etad never writes")
        return group


def write_item(videos: h5py.Group, video_id: str, features: np.ndarray, meta: FeatureMeta) -> None:
    """Write one video's group; its mark of completeness comes last."""
    group = videos.create_group(escape(video_id))
    group.create_dataset("features", data=features)
    attributes = meta.to_attributes() | {"features_sha256": digest([features])}
    centers = meta.timing.centers_seconds
    attributes[_SEAL] = attributes_digest(attributes, centers, features)
    for name, value in attributes.items():
        group.attrs[name] = value
    if centers is not None and len(centers) <= _LONGEST_ATTRIBUTE:
        group.attrs["centers_seconds"] = np.asarray(centers, dtype=np.float64)
    elif centers is not None:
        group.create_dataset("centers_seconds", data=np.asarray(centers, dtype=np.float64))
    group.attrs[_COMPLETE] = 1


def add_item(file: h5py.File, path: Path, video_id: str, features: np.ndarray, meta: FeatureMeta) -> Header:
    """Write one video into a file that `create_file` started without knowing of it; `path` is the file's name then.

    Raises
    ------
    EtadError
        The timing cannot belong to the features.
    OSError
        The disk has no room.
    """
    meta.check(len(features))
    length, channels = features.shape
    header = Header(video_id, path, length, channels, features.dtype.name, digest([features]), meta)
    make_room(file, _room_bytes(header))
    write_item(file["videos"], video_id, features, meta)
    return header


def copy_item(path: Path, file: h5py.File, video_id: str, videos: h5py.Group) -> None:
    """Copy one video's group from an open file into the videos of another, as it is.

    Raises
    ------
    EtadError
        The group is damaged, or leads out of its file.
    """
    name = escape(video_id).encode()
    group = video_group(path, file, video_id)
    with naming_faults(path, video_id):
        for each in group:
            require_whole(member(group, each))
        h5py.h5o.copy(file["videos"].id, name, videos.id, name)


def _room_bytes(header: Header) -> int:
    values = header.length * header.channels * np.dtype(header.store_dtype).itemsize
    centers = 8 * len(header.meta.timing.centers_seconds or ())
    texts = sum(len(str(value)) for value in header.meta.to_attributes().values()) + 4 * len(escape(header.video_id))
    return values + centers + texts + _ITEM_BYTES


def is_complete(group: h5py.Group) -> bool:
    return bool(group.attrs.get(_COMPLETE, 0) == 1)


def read_header(path: Path, group: h5py.Group, video_id: str) -> Header:
    """Read all that a group says of itself.

    Raises
    ------
    EtadError
        The group is incomplete, an attribute is missing or wrong, or the features have a wrong shape or type.
    """
    with naming_faults(path, video_id):
        if not is_complete(group):
            raise EtadError("it is not complete: its writer did not finish")
        features = member(group, "features")
        if not isinstance(features, h5py.Dataset):
            raise EtadError("it has no dataset 'features'")
        if len(features.shape or ()) != 2 or 0 in features.shape:
            raise EtadError(f"its features have shape {features.shape}, expected [T, C] with at least one snippet")
        if features.dtype.name not in STORE_DTYPES:
            raise EtadError(f"its features are {features.dtype.name}, expected {' or '.join(STORE_DTYPES)}")
        require_whole(features)
        attributes = dict(group.attrs)
        centers = attributes.pop("centers_seconds", None)
        listed = member(group, "centers_seconds")
        if centers is None and isinstance(listed, h5py.Dataset):
            require_whole(listed)
            centers = listed[()]
        meta = FeatureMeta.from_attributes(attributes, None if centers is None else np.asarray(centers, np.float64))
        if "features_sha256" not in attributes:
            raise EtadError("attribute 'features_sha256' is missing")
        seal = attributes.get(_SEAL)
        if seal is not None and seal != attributes_digest(attributes, meta.timing.centers_seconds, features):
            raise EtadError("its attributes differ from their recorded digest: the file is damaged")
        meta.check(features.shape[0])
        recorded = str(attributes["features_sha256"])
        length, channels = features.shape
        return Header(video_id, path, length, channels, features.dtype.name, recorded, meta, seal is not None)


def read_stored(path: Path, group: h5py.Group, header: Header) -> np.ndarray:
    """Read all of a video's features as they are stored, [T, C], and test them against their digest.

    Raises
    ------
    EtadError
        They cannot be read, differ from their digest, or are not finite.
    """
    with naming_faults(path, header.video_id):
        features = np.asarray(group["features"][()])
        if digest([features]) != header.digest:
            raise EtadError("its features differ from their recorded digest: the file is damaged")
        check_finite(features)
        return features


def check_finite(features: np.ndarray) -> None:
    """Refuse NaN and infinity, saying where the first one is."""
    finite = np.isfinite(features)
    if not finite.all():
        snippet, channel = np.argwhere(~finite)[0]
        raise EtadError(
            f"{int((~finite).sum())} of its {features.size} feature values are not finite numbers, "
            f"the first in snippet {snippet}, channel {channel}"
        )


def attributes_digest(
    attributes: Mapping[str, Any], centers: Sequence[float] | None, features: np.ndarray | h5py.Dataset
) -> str:
    """SHA-256 of all that a group says of its features, and of their shape and type.

    Which attributes there are does not matter, so that versions of etad may add some.
    """
    plain = {name: _plain(value) for name, value in attributes.items() if name not in (_COMPLETE, _SEAL)}
    listed = None if centers is None else list(centers)
    return values_digest(
        {"attributes": plain, "centers": listed, "shape": features.shape, "dtype": features.dtype.name}
    )


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value


def digest(pieces: Iterable[np.ndarray]) -> str:
    """SHA-256 of features as they are stored, whole or in pieces: little-endian, row by row.

    Examples
    --------
    >>> digest([np.zeros((1, 2), dtype=np.float16)])[:8]
    'df3f6198'
    """
    little = (np.ascontiguousarray(piece, dtype=piece.dtype.newbyteorder("<")) for piece in pieces)
    return digest_of(piece.reshape(-1).view(np.uint8).data for piece in little)
