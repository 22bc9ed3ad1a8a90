"""HDF5 files as etad keeps them: without locks, whole datasets in one file, no link that leads elsewhere."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import h5py

from ..errors import DiskError, EtadError

# What reading damaged HDF5 ends in.
FAULTS = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)

# Errors that say nothing of what is in a file.
_DISK_ERRORS = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def open_hdf5(path: Path) -> h5py.File:
    """Open a file for reading.

    Files are replaced and never changed, so that nobody needs HDF5's locks, which many network disks do not have. All
    processes must agree on that: HDF5 refuses a file that is open with another setting.

    Raises
    ------
    DiskError
        The environment insists on locks, and the disk has none; or the system refuses to read.
    OSError
        It is missing, damaged or no HDF5.
    """
    with _naming_locks(path):
        try:
            return h5py.File(path, "r", locking=False)
        except OSError as error:
            if "flag values don't match" not in str(error):
                raise
            return h5py.File(path, "r")  # somebody else in this process has it open, in HDF5's usual way


@contextlib.contextmanager
def new_hdf5(path: Path, *, room_bytes: int = 0) -> Iterator[h5py.File]:
    """Start an empty file on disk, for writing; the caller keeps others away from it.

    HDF5 loses its bearings where a disk is full, up to a crash. So blocks are set aside before it writes: `room_bytes`
    at once, more by `make_room`; what is too much goes back at the end.

    Raises
    ------
    OSError
        The disk has no such room.
    """
    with hdf5_in_memory() as empty:
        path.write_bytes(image_of(empty))
    _set_aside(path, room_bytes)
    with _naming_locks(path):
        file = h5py.File(path, "r+", locking=False)
    with file:
        yield file
        file.flush()
        size = file.id.get_filesize()
    os.truncate(path, size)


def make_room(file: h5py.File, more_bytes: int) -> None:
    """Set blocks aside for what is to be written to a file of `new_hdf5` next.

    Raises
    ------
    OSError
        The disk has no such room.
    """
    _set_aside(Path(file.filename), file.id.get_filesize() + more_bytes)


@contextlib.contextmanager
def hdf5_in_memory() -> Iterator[h5py.File]:
    """Start an empty file in memory, for `image_of`: HDF5 itself can crash where a disk is full."""
    with h5py.File(f"memory-{secrets.token_hex(8)}", "w", driver="core", backing_store=False) as file:
        yield file


def image_of(file: h5py.File) -> bytes:
    """The bytes that a file in memory has on disk."""
    file.flush()
    return bytes(file.id.get_file_image())


def raise_for_disk(path: Path, error: BaseException) -> None:
    """Raise where an error is the disk's or the system's: no right, a disk that fails, too many open files.

    Raises
    ------
    DiskError
        It is.
    """
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        words = os.strerror(error.errno)
        raise DiskError(f"{path}: cannot be read ({words}). Check its rights and its disk, then repeat.") from error


def member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """Member of a group, which must lie in the group itself; None where there is none.

    Raises
    ------
    EtadError
        It is a link to another place of the file, or to another file.
    """
    if name not in group.id:
        return None
    if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise EtadError(f"'{name}' is a link to another place, expected the data themselves")
    return group[name]


def require_whole(dataset: h5py.Dataset) -> None:
    """Refuse a dataset whose values do not all lie in its own file, as they are: before memory is taken for them.

    Raises
    ------
    EtadError
        It is stored in another file, compressed, or claims more than was ever written.
    """
    name = dataset.name.rpartition("/")[2] if dataset.name else "the dataset"
    stored = dataset.id.get_create_plist()
    if stored.get_external_count() or stored.get_layout() == h5py.h5d.VIRTUAL:
        raise EtadError(f"its '{name}' lies in another file, expected the data themselves")
    if stored.get_nfilters():
        raise EtadError(f"its '{name}' is stored through {stored.get_nfilters()} filter(s), expected plain values")
    found = dataset.id.get_storage_size()
    if found < dataset.nbytes:
        raise EtadError(
            f"its '{name}' claims {dataset.dtype.name} {list(dataset.shape)}, {dataset.nbytes} bytes, and the file "
            f"holds {found} of them"
        )


def _set_aside(path: Path, total_bytes: int) -> None:
    if not total_bytes or not hasattr(os, "posix_fallocate"):
        return
    handle = os.open(path, os.O_RDWR)
    try:
        os.posix_fallocate(handle, 0, total_bytes)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # a disk that cannot set aside
            raise
    finally:
        os.close(handle)


@contextlib.contextmanager
def _naming_locks(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if "lock file" not in str(error):
            raise_for_disk(path, error)
            raise
        raise DiskError(
            f"{path}: its disk has no locks for files, and HDF5_USE_FILE_LOCKING asks for them. Unset that variable: "
            f"etad needs none of HDF5's locks."
        ) from error
