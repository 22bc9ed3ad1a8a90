"""Files that are no feature cache and never were one: they are somebody's own, and stay where they are."""

from __future__ import annotations

import mmap
import shlex
from pathlib import Path

import h5py

from ..errors import EtadError
from .names import id_of_part

_HDF5 = b"\x89HDF\r\n\x1a\n"
# The value of a feature file's first attribute, which stands near its beginning: damage rarely hits just that.
_MARK = b"etad-features"
# HDF5 that is shorter has no room for anybody's features.
_LEAST_BYTES = 4096
_WORDS = {
    b"\x93NUMPY": "an array of numpy",
    b"PK\x03\x04": "a zip archive, as numpy's .npz or a PyTorch file",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
}


class ForeignFileError(EtadError):
    """A path that was given for a feature cache and is something else: nothing is repaired or moved there."""


def import_advice(path: Path) -> str:
    """Say how features of others become a cache.

    Examples
    --------
    >>> import_advice(Path("tsp.h5"))
    'import it with `etad import features tsp.h5 -o features.h5 --fps F --stride FRAMES --clip-frames N`'
    """
    name = shlex.quote(str(path))
    return f"import it with `etad import features {name} -o features.h5 --fps F --stride FRAMES --clip-frames N`"


def refuse_unreadable(path: Path) -> None:
    """Refuse what HDF5 cannot read and etad never wrote; a damaged cache passes.

    Raises
    ------
    ForeignFileError
        It is a folder, or a file in which nothing is etad's.
    """
    if path.is_dir():
        raise ForeignFileError(
            f"{path}: is a folder, and a feature cache is a file. Name the cache in it; if it is a folder of features, "
            f"{import_advice(path)}."
        )
    if _may_be_ours(path):
        return
    with path.open("rb") as file:
        head = file.read(8)
    what = next((word for magic, word in _WORDS.items() if head.startswith(magic)), None)
    said = f"it is {what}" if what else "nothing in it is etad's"
    raise ForeignFileError(
        f"{path}: cannot be read as HDF5, and {said}, so it is no feature cache. If it holds features, "
        f"{import_advice(path)}."
    )


def refuse_other_hdf5(path: Path, file: h5py.File) -> None:
    """Refuse HDF5 of another program, which has neither etad's mark nor its groups; a damaged cache passes.

    Raises
    ------
    ForeignFileError
        It is that.
    """
    if ("videos" in file.id and "index" in file.id) or _may_be_ours(path):
        return
    raise ForeignFileError(
        f"{path}: is HDF5, but no feature cache of etad. If it holds features, {import_advice(path)}."
    )


def _may_be_ours(path: Path) -> bool:
    """Whether a file may have been a feature cache; empty ones may, since nothing is lost with them."""
    size = path.stat().st_size
    if size == 0 or id_of_part(path) is not None:
        return True
    with path.open("rb") as file:
        if size < _LEAST_BYTES and file.read(len(_HDF5)) == _HDF5:
            return True
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(_MARK) >= 0 or not content[: 2**20].strip(b"\0")
