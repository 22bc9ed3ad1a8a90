"""Raw predictions of the detector (`raw.h5`): everything that post-processing needs, so that it can be done again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .errors import EtadError
from .files.atomic import replacing

FORMAT = "etad-raw-predictions"


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
        (K, 2) boundaries averaged over the stages, fractions of the window; never clipped.
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
    """Write the predictions of a whole subset, whole or not at all."""
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"], file.attrs["version"], file.attrs["model_digest"] = FORMAT, 1, model_digest
        windows = file.create_group("windows")
        for number, prediction in enumerate(predictions):
            group = windows.create_group(f"{number:07d}")
            group.attrs["video_id"] = prediction.video_id
            for name in _NUMBERS:
                group.attrs[name] = getattr(prediction, name)
            for name in _ARRAYS:
                group.create_dataset(name, data=getattr(prediction, name))
    return path


def read_predictions(path: Path) -> Iterator[RawPrediction]:
    """Read predictions back, in the order in which they were written.

    Raises
    ------
    EtadError
        The file is missing or none of ours.
    """
    try:
        file = h5py.File(path)
    except OSError as error:
        raise EtadError(f"{path}: cannot be read as raw predictions ({error}). Run `etad detect` again.") from error
    with file:
        if file.attrs.get("format") != FORMAT:
            raise EtadError(f"{path}: holds no raw predictions of etad.")
        for name in sorted(file["windows"]):
            group = file["windows"][name]
            fields: dict[str, Any] = {key: float(group.attrs[key]) for key in _NUMBERS}
            fields |= {key: group[key][()] for key in _ARRAYS}
            yield RawPrediction(video_id=str(group.attrs["video_id"]), **fields)


def predictions_digest(path: Path) -> str | None:
    """Digest of the model that made a file of predictions; none where there is no readable file."""
    try:
        with h5py.File(path) as file:
            return str(file.attrs["model_digest"]) if file.attrs.get("format") == FORMAT else None
    except OSError:
        return None
