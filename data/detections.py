"""Detections in ActivityNet's results JSON, as columns: a million of them in a few seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from .atomic import write_json
from .errors import EtadError
from .json_file import read_json

FORMAT_VERSION = "ETAD 1"


@dataclass(frozen=True)
class Detections:
    """Detections of many videos, one row each, the videos in turn.

    Parameters
    ----------
    video_ids
        Every video of the file, those without any detection too.
    labels
        Label names, sorted; empty where the file holds unlabelled proposals.
    video, label
        (N,) places in `video_ids` and `labels`; label is -1 for an unlabelled proposal.
    start_seconds, end_seconds, score
        (N,) float64, finite.
    """

    video_ids: tuple[str, ...]
    labels: tuple[str, ...]
    video: np.ndarray
    label: np.ndarray
    start_seconds: np.ndarray
    end_seconds: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def join(
        cls, videos: Iterable[tuple[str, np.ndarray, np.ndarray, np.ndarray]], *, labels: Sequence[str]
    ) -> Detections:
        """Join detections of single videos.

        Parameters
        ----------
        videos
            Id, (n, 2) segments in seconds, (n,) label numbers, (n,) scores of each.
        labels
            Label names by number.
        """
        parts = list(videos)
        segments = np.concatenate([np.zeros((0, 2)), *(part[1] for part in parts)])
        return cls(
            video_ids=tuple(part[0] for part in parts),
            labels=tuple(labels),
            video=np.repeat(np.arange(len(parts)), [len(part[1]) for part in parts]),
            label=np.concatenate([np.zeros(0, int), *(part[2] for part in parts)]).astype(np.int64),
            start_seconds=segments[:, 0].astype(np.float64),
            end_seconds=segments[:, 1].astype(np.float64),
            score=np.concatenate([np.zeros(0), *(part[3] for part in parts)]).astype(np.float64),
        )

    def video_codes(self, codes: Mapping[str, int]) -> np.ndarray:
        """Number the videos as another table does, (N,); -1 where that has no such video."""
        return _recoded(self.video, self.video_ids, codes)

    def label_codes(self, codes: Mapping[str, int]) -> np.ndarray:
        """Number the labels as another table does, (N,); -1 where that has no such label."""
        return _recoded(self.label, self.labels, codes)


def read_detections(path: Path | str) -> Detections:
    """Read an ActivityNet results file.

    Numbers may be written as strings; keys that we do not know are passed over; entries without any label make
    unlabelled proposals.

    Raises
    ------
    EtadError
        The file is missing or no JSON, or an entry lacks a segment, score or label, or holds no finite number; the
        message names the video and the entry.
    """
    path = Path(path)
    content = read_json(path, what="detections")
    results = _results(path, content)
    entries: list[Any] = []
    counts = []
    for video_id, of_video in results.items():
        if not isinstance(of_video, list):
            raise EtadError(
                f"{path}: results of video '{video_id}' are a {type(of_video).__name__}, expected a list of detections."
            )
        entries += of_video
        counts.append(len(of_video))
    unlabelled = bool(entries) and all(isinstance(entry, dict) and "label" not in entry for entry in entries)
    try:
        segments = np.array([entry["segment"] for entry in entries], dtype=np.float64).reshape(len(entries), 2)
        scores = np.array([entry["score"] for entry in entries], dtype=np.float64).reshape(len(entries))
        names = [] if unlabelled else [entry["label"] for entry in entries]
        labels = sorted(set(names))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
        _blame(path, results, unlabelled)
    if not (np.isfinite(segments).all() and np.isfinite(scores).all()):
        _blame(path, results, unlabelled)
    if not all(isinstance(label, str) for label in labels):
        _blame(path, results, unlabelled)
    codes = {label: code for code, label in enumerate(labels)}
    return Detections(
        video_ids=tuple(results),
        labels=tuple(labels),
        video=np.repeat(np.arange(len(counts)), counts),
        label=np.fromiter(map(codes.__getitem__, names), np.int64) if names else np.full(len(entries), -1),
        start_seconds=np.ascontiguousarray(segments[:, 0]),
        end_seconds=np.ascontiguousarray(segments[:, 1]),
        score=scores,
    )


def write_detections(
    path: Path | str, detections: Detections, *, external_data: Mapping[str, Any] | None = None
) -> Path:
    """Write an ActivityNet results file, whole or not at all; every number is kept exactly.

    Parameters
    ----------
    external_data
        What the format asks for: {"used": bool, "details": str}.
    """
    results: dict[str, list[dict[str, Any]]] = {video_id: [] for video_id in detections.video_ids}
    of_video = list(results.values())
    columns = (detections.video, detections.start_seconds, detections.end_seconds, detections.score, detections.label)
    for video, start, end, score, label in zip(*(column.tolist() for column in columns)):
        entry: dict[str, Any] = {"segment": [start, end], "score": score}
        if label >= 0:
            entry["label"] = detections.labels[label]
        of_video[video].append(entry)
    content = {"version": FORMAT_VERSION, "external_data": dict(external_data or {}), "results": results}
    return write_json(path, content)


def _recoded(numbers: np.ndarray, names: Sequence[str], codes: Mapping[str, int]) -> np.ndarray:
    # One more place at the end, where -1 (unlabelled) looks up -1.
    table = np.array([*(codes.get(name, -1) for name in names), -1], dtype=np.int64)
    return table[numbers]


def _results(path: Path, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        hint = ""
        if isinstance(content, dict) and "database" in content:
            hint = " This looks like an annotation file."
        raise EtadError(f"{path}: has no 'results' by video, so it is no file of detections.{hint}")
    return content["results"]


def _blame(path: Path, results: Mapping[str, list[Any]], unlabelled: bool) -> NoReturn:
    """Find the entry that stopped the fast way, and say what is wrong with it."""
    for video_id, entries in results.items():
        for number, entry in enumerate(entries):
            fault = _fault(entry, unlabelled)
            if fault:
                raise EtadError(f"{path}: video '{video_id}', entry {number} (counted from 0): {fault}.")
    raise AssertionError("the fast way stopped, but every entry is sound")


def _fault(entry: Any, unlabelled: bool) -> str:
    if not isinstance(entry, dict):
        return f"it is a {type(entry).__name__}, expected segment, label and score"
    for key in ("segment", "score", *(() if unlabelled else ("label",))):
        if key not in entry:
            return f"it has no {key}"
    segment = entry["segment"]
    if not isinstance(segment, list) or len(segment) != 2 or not all(map(_is_number, segment)):
        return f"its segment is {segment!r}, expected two finite numbers, start and end in seconds"
    if not _is_number(entry["score"]):
        return f"its score is {entry['score']!r}, expected a finite number"
    if not unlabelled and not isinstance(entry["label"], str):
        return f"its label is {entry['label']!r}, expected text"
    return ""


def _is_number(value: Any) -> bool:
    try:
        return bool(np.isfinite(np.array(value, dtype=np.float64))) and np.ndim(value) == 0
    except (TypeError, ValueError, OverflowError):
        return False
