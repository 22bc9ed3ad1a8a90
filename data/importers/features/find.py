"""Which videos a folder or file of features holds, whatever its form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import EtadError, counted, listing, nearest
from .bmn import read_csv
from .npy import read_npy, read_npz_of_all, read_npz_of_one
from .pkl import read_pkl_of_all, read_pkl_of_one
from .stored import StoredArray
from .tsp import read_tsp

# By ending: how a file of one video is looked at, and how one of many is.
_OF_ONE: Mapping[str, Callable[[Path, str], StoredArray]] = {
    ".npy": read_npy,
    ".npz": read_npz_of_one,
    ".pkl": read_pkl_of_one,
    ".pickle": read_pkl_of_one,
    ".csv": read_csv,
}
_OF_ALL: Mapping[str, Callable[[Path], Iterator[tuple[str, StoredArray | EtadError]]]] = {
    ".npz": read_npz_of_all,
    ".pkl": read_pkl_of_all,
    ".pickle": read_pkl_of_all,
    ".h5": read_tsp,
    ".hdf5": read_tsp,
}
_ENDINGS = tuple(dict.fromkeys((*_OF_ONE, *_OF_ALL)))
_TORCH = (".pt", ".pth", ".ckpt", ".bin")


@dataclass
class FoundArrays:
    """What a folder or file holds.

    Parameters
    ----------
    arrays
        By video id.
    faults
        By video id: file and what is wrong.
    passed_over
        Names of files, or of videos in a file, that do not fit prefix and suffix or are of another kind.
    """

    arrays: dict[str, StoredArray] = field(default_factory=dict)
    faults: dict[str, tuple[Path, str]] = field(default_factory=dict)
    passed_over: list[str] = field(default_factory=list)

    def add(self, video_id: str, path: Path, found: StoredArray | EtadError) -> None:
        """Note a video's array, or what is wrong with it.

        Raises
        ------
        EtadError
            There are two of that video.
        """
        other = self.arrays[video_id].file if video_id in self.arrays else self.faults.get(video_id, (None, ""))[0]
        if other is not None:
            raise EtadError(
                f"video '{video_id}' is in {other} and in {path}. Leave one of them, or tell them apart with --prefix "
                "and --suffix."
            )
        if isinstance(found, StoredArray):
            self.arrays[video_id] = found
        else:
            self.faults[video_id] = path, str(found)


def find_arrays(source: Path, *, prefix: str = "", suffix: str = "") -> FoundArrays:
    """Look at every video of a folder of files, of one file of all videos, or of a file of one video.

    Parameters
    ----------
    prefix, suffix
        What stands before and after the ids in names of files, or of videos in a file; the suffix with or without the
        file's ending.

    Raises
    ------
    EtadError
        There is no such place, it is of no form that is read, or no name fits.
    """
    found = FoundArrays()
    if source.is_dir():
        others = []
        for path in sorted(source.iterdir()):
            if path.name.startswith(".") or not path.is_file():
                continue
            ending = path.suffix.lower()
            if ending in _OF_ONE:
                _look_at_one(found, path, prefix, suffix)
            elif ending in _OF_ALL:
                _look_at_all(found, path, prefix, suffix)
            else:
                others.append(path.name)
        if not found.arrays and not found.faults:
            raise EtadError(_nothing_in(source, found, others, prefix, suffix))
        found.passed_over += others
        return found
    if not source.exists():
        beside = source.parent.iterdir() if source.parent.is_dir() else ()
        hint = nearest(source.name, (path.name for path in beside))
        raise EtadError(f"{source}: there is no such folder or file of features.{hint}")
    ending = source.suffix.lower()
    if ending in _TORCH:
        raise EtadError(
            f"{source}: files of PyTorch are not read. Save the features with numpy.save, one file a video."
        )
    if ending in _OF_ALL:
        _look_at_all(found, source, prefix, suffix)
    elif ending in _OF_ONE:
        _look_at_one(found, source, prefix, suffix)
    else:
        raise EtadError(f"{source}: features are read from {', '.join(_ENDINGS)}, not from '{ending or source.name}'.")
    if not found.arrays and not found.faults:
        raise EtadError(_nothing_in(source, found, [], prefix, suffix))
    return found


def _look_at_one(found: FoundArrays, path: Path, prefix: str, suffix: str) -> None:
    ends = suffix if suffix.lower().endswith(path.suffix.lower()) else suffix + path.suffix
    video_id = _id_in(path.name, prefix, ends)
    if video_id is None:
        found.passed_over.append(path.name)
        return
    try:
        array: StoredArray | EtadError = _OF_ONE[path.suffix.lower()](path, video_id)
    except EtadError as error:
        array = error
    found.add(video_id, path, array)


def _look_at_all(found: FoundArrays, path: Path, prefix: str, suffix: str) -> None:
    ends = suffix[: -len(path.suffix)] if suffix.lower().endswith(path.suffix.lower()) else suffix
    for name, array in _OF_ALL[path.suffix.lower()](path):
        video_id = _id_in(name, prefix, ends)
        if video_id is None:
            found.passed_over.append(name)
        else:
            found.add(video_id, path, array)


def _id_in(name: str, prefix: str, suffix: str) -> str | None:
    """The id within a name; None where the name does not fit.

    Examples
    --------
    >>> _id_in("rgb_v_1-avg.npy", "rgb_", "-avg.npy"), _id_in("v_1.npy", "rgb_", ".npy")
    ('v_1', None)
    """
    if not name.startswith(prefix) or not name.endswith(suffix) or len(name) <= len(prefix) + len(suffix):
        return None
    return name[len(prefix) : len(name) - len(suffix)]


def _nothing_in(source: Path, found: FoundArrays, others: list[str], prefix: str, suffix: str) -> str:
    if found.passed_over:
        pattern = f"'{prefix}' ID '{suffix}'"
        what = counted(len(found.passed_over), "name")
        shown = listing(found.passed_over, 3)
        return f"{source}: none of its {what} is {pattern} ({shown}). Correct --prefix or --suffix."
    inside = f"it has {listing(others, 3)}" if others else "it is empty, or has folders alone"
    return f"{source}: holds no features ({', '.join(_ENDINGS)}); {inside}. Name the folder that has them."
