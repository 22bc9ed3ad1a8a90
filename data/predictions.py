"""Raw predictions of the detector (`raw.h5`): everything that post-processing needs, so that it can be done again."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from .errors import DiskError, EtadError
from .files.atomic import replacing
from .files.child import fatal_steps
from .files.hdf5 import FAULTS, make_room, member, new_hdf5, open_hdf5, raise_for_disk, require_whole
from .files.seal import agrees_with_seal, seal_file

FORMAT = "etad-raw-predictions"

_logger = logging.getLogger(__name__)
_Kind = TypeVar("_Kind", h5py.Group, h5py.Dataset)

# What HDF5 takes for a window beside its arrays, at most.
_GROUP_BYTES = 16384


@dataclass(frozen=True)
class RawPrediction:
    """What the detector says of one window.

    Parameters
    ----------
    video_id
        The video's id in the annotations.
    start_seconds, length_seconds
        What fraction 0 .. 1 of the window means.
    duration_seconds
        Length of the video.
    segments
        (K, 2) boundaries averaged over the stages, fractions of the window; see `Predicted`.
    iou
        (K, 2) classified and regressed IoU, averaged over the stages.
    boundary
        (2, T) startness and endness of each snippet.
    class_scores
        (K, classes) probabilities of the class branch; (K, 0) without one.
    """

    video_id: str
    start_seconds: float
    length_seconds: float
    duration_seconds: float
    segments: np.ndarray
    iou: np.ndarray
    boundary: np.ndarray
    class_scores: np.ndarray


_ARRAYS = ("segments", "iou", "boundary", "class_scores")
_NUMBERS = ("start_seconds", "length_seconds", "duration_seconds")


def write_predictions(path: Path, predictions: Iterable[RawPrediction], *, model_digest: str) -> Path:
    """Write the predictions of a whole subset, whole or not at all, and their digest."""
    with replacing(path) as temporary:
        with new_hdf5(temporary) as file:
            file.attrs["format"], file.attrs["version"], file.attrs["model_digest"] = FORMAT, 1, model_digest
            windows = file.create_group("windows")
            for number, prediction in enumerate(predictions):
                make_room(file, _GROUP_BYTES + sum(getattr(prediction, name).nbytes for name in _ARRAYS))
                group = windows.create_group(f"{number:07d}")
                group.attrs["video_id"] = prediction.video_id
                for name in _NUMBERS:
                    group.attrs[name] = getattr(prediction, name)
                for name in _ARRAYS:
                    group.create_dataset(name, data=getattr(prediction, name))
        seal_file(temporary)
    return path


def read_predictions(path: Path) -> Iterator[RawPrediction]:
    """Read predictions back, in the order in which they were written.

    Raises
    ------
    EtadError
        The file is missing, damaged or none of ours.
    """
    with _naming_faults(path):
        _try(path)
        file = open_hdf5(path)
    with file:
        with _naming_faults(path):
            if file.attrs.get("format") != FORMAT:
                raise EtadError("it holds no raw predictions of etad")
            windows = _member(file, "windows", h5py.Group)
            names = sorted(windows)
        for name in names:
            with _naming_faults(path):
                prediction = _read_window(windows, name)
            yield prediction


def predictions_digest(path: Path) -> str | None:
    """Digest of the model that made a file of predictions; none where there is no file that is whole and readable."""
    if not path.exists():
        return None
    try:
        with _naming_faults(path):
            _try(path)
            with open_hdf5(path) as file:
                return str(file.attrs["model_digest"]) if file.attrs.get("format") == FORMAT else None
    except EtadError as error:
        _logger.warning("%s", error)
        return None


def _try(path: Path) -> None:
    """Refuse a file that differs from its digest; one of an older version, without any, a child reads first."""
    is_whole = agrees_with_seal(path)
    if is_whole is False:
        raise EtadError("it differs from its digest: the file is damaged")
    if is_whole is None:
        how = fatal_steps(lambda: [("", lambda: _read_all(path))]).get("")
        if how:
            raise EtadError(f"reading it {how}: the file is damaged")


def _read_all(path: Path) -> None:
    with open_hdf5(path) as file:
        dict(file.attrs)
        windows = _member(file, "windows", h5py.Group)
        for name in windows:
            with contextlib.suppress(Exception):
                _read_window(windows, name)


def _read_window(windows: h5py.Group, name: str) -> RawPrediction:
    group = _member(windows, name, h5py.Group)
    fields: dict[str, Any] = {key: float(group.attrs[key]) for key in _NUMBERS}
    for key in _ARRAYS:
        dataset = _member(group, key, h5py.Dataset)
        require_whole(dataset)
        fields[key] = dataset[()]
    sizes = {key: np.shape(fields[key]) for key in _ARRAYS}
    count = len(fields["segments"])
    expected = {"segments": (count, 2), "iou": (count, 2), "class_scores": (count, *sizes["class_scores"][1:])}
    expected["boundary"] = (2, *sizes["boundary"][1:])
    if any(sizes[key] != shape or len(shape) != 2 for key, shape in expected.items()):
        raise EtadError(f"window {name} has arrays of shapes that do not go together: {sizes}")
    return RawPrediction(video_id=str(group.attrs["video_id"]), **fields)


def _member(group: h5py.Group, name: str, kind: type[_Kind]) -> _Kind:
    found = member(group, name)
    if not isinstance(found, kind):
        raise EtadError(f"it has no {kind.__name__.lower()} '{name}'")
    return found


@contextlib.contextmanager
def _naming_faults(path: Path) -> Iterator[None]:
    try:
        yield
    except DiskError:
        raise
    except (EtadError, *FAULTS) as error:
        raise_for_disk(path, error)
        words = str(error) if isinstance(error, EtadError) else f"they cannot be read ({error})"
        raise EtadError(f"{path}: raw predictions: {words}. `etad detect` makes the file again.") from error
