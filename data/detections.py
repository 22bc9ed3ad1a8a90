"""Detections in ActivityNet's results JSON, as columns: a million of them in a second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from .annotations import check_ids
from .errors import EtadError, shown
from .files.json_file import loads, read_bytes, refuse_repeats, warn_of_repeats, without_collector, write_large_json
from .files.json_parts import CannotSplit, split

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

    @cached_property
    def _places(self) -> dict[str, int]:
        return {id: place for place, id in enumerate(self.video_ids)}

    @cached_property
    def _by_video(self) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers, video by video, and where each video's begin, with the end of the last."""
        order = np.argsort(self.video, kind="stable")
        return order, np.searchsorted(self.video[order], np.arange(len(self.video_ids) + 1))

    @property
    def is_reversed(self) -> np.ndarray:
        """Which of them end before they begin, (N,)."""
        return self.end_seconds < self.start_seconds

    def rows_of(self, video_id: str) -> np.ndarray:
        """Row numbers of a video's detections, in their order; all videos together are searched for once.

        Raises
        ------
        KeyError
            There is no such video.
        """
        place = self._places[video_id]
        order, bounds = self._by_video
        return order[bounds[place] : bounds[place + 1]]

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
    content = read_bytes(path, what="detections")
    with without_collector():
        try:
            found = _read_in_parts(content)
            check_ids(path, found.video_ids)
            return found
        except _Unfit:
            pass  # Whatever it is, the whole file tells more of it.
        results = _results(path, loads(path, content, what="detections"))
        check_ids(path, results)
        found = _read_whole(path, results)
        if content.count(b'"segment"') > len(found):
            _look_for_repeats(path, loads(path, content, what="detections", find_repeats=True))
        return found


def write_detections(
    path: Path | str, detections: Detections, *, external_data: Mapping[str, Any] | None = None
) -> Path:
    """Write an ActivityNet results file, whole or not at all; every number is kept exactly.

    Parameters
    ----------
    external_data
        What the format asks for: {"used": bool, "details": str}.
    """
    columns = (detections.start_seconds, detections.end_seconds, detections.score)
    if not all(np.isfinite(column).all() for column in columns):
        raise ValueError("detections hold a number that is not finite, and JSON has none")
    with without_collector():
        order = np.argsort(detections.video, kind="stable")
        start, end, score = (column[order].tolist() for column in columns)
        # One more name at the end, where -1 (unlabelled) looks one up: it goes at once.
        label, names = detections.label[order], [*detections.labels, ""]
        entries = [
            {"segment": [first, last], "score": value, "label": names[code]}
            for first, last, value, code in zip(start, end, score, label.tolist())
        ]
        for row in np.flatnonzero(label < 0).tolist():
            del entries[row]["label"]
        bounds = np.searchsorted(detections.video[order], np.arange(len(detections.video_ids) + 1)).tolist()
        parts = (entries[first:last] for first, last in pairwise(bounds))
        results = dict(zip(detections.video_ids, parts))
        content = {"version": FORMAT_VERSION, "external_data": dict(external_data or {}), "results": results}
        return write_large_json(path, content)


class _Unfit(Exception):
    """Entries are not as they should be."""


@dataclass
class _Columns:
    """Columns of detections that grow by some videos at a time; labels are numbered as they come."""

    video_ids: list[str] = field(default_factory=list)
    codes: dict[str, int] = field(default_factory=dict)
    counts: list[int] = field(default_factory=list)
    sides: list[np.ndarray] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)
    is_labelled: bool | None = None

    def add(self, results: Mapping[str, Any]) -> None:
        """Add the entries of some videos, a field of all of them at a time.

        Raises
        ------
        _Unfit
            An entry is not as it should be; or, labelled or not, it is not as others are.
        """
        if not all(isinstance(of_video, list) for of_video in results.values()):
            raise _Unfit
        entries = list(chain.from_iterable(results.values()))
        try:
            pairs = list(map(itemgetter("segment"), entries))
            # A text or an object of two would pass for a pair otherwise.
            if not ({*map(type, pairs)} <= {list} and {*map(len, pairs)} <= {2}):
                raise _Unfit
            sides = np.fromiter(chain.from_iterable(pairs), np.float64, 2 * len(pairs))
            scores = np.fromiter(map(itemgetter("score"), entries), np.float64, len(entries))
            is_labelled = "label" in entries[0] if entries else self.is_labelled
            if is_labelled:
                names = list(map(itemgetter("label"), entries))
                for name in set(names) - self.codes.keys():
                    self.codes[name] = len(self.codes)
                labels = np.fromiter(map(self.codes.__getitem__, names), np.int64, len(names))
            elif any("label" in entry for entry in entries):
                raise _Unfit
            else:
                labels = np.full(len(entries), -1)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise _Unfit from error
        if not (np.isfinite(sides).all() and np.isfinite(scores).all()):
            raise _Unfit
        if self.is_labelled not in (None, is_labelled):
            raise _Unfit
        self.is_labelled = is_labelled
        self.video_ids += results
        self.counts += map(len, results.values())
        self.sides.append(sides)
        self.scores.append(scores)
        self.labels.append(labels)

    def join(self) -> Detections:
        """Join all that was added; labels are numbered in their order."""
        if not all(isinstance(name, str) for name in self.codes):
            raise _Unfit
        labels = tuple(sorted(self.codes))
        place = {label: number for number, label in enumerate(labels)}
        sides = np.concatenate([np.zeros(0), *self.sides])
        return Detections(
            video_ids=tuple(self.video_ids),
            labels=labels,
            video=np.repeat(np.arange(len(self.counts)), np.asarray(self.counts, dtype=np.int64)),
            label=_recoded(np.concatenate([np.zeros(0, np.int64), *self.labels]), list(self.codes), place),
            start_seconds=sides[0::2].copy(),
            end_seconds=sides[1::2].copy(),
            score=np.concatenate([np.zeros(0), *self.scores]),
        )


def _read_in_parts(content: bytes) -> Detections:
    """Read a results file a few videos at a time.

    Raises
    ------
    _Unfit
        It has to be read whole, because of how it is written, or because something in it is wrong.
    """
    columns = _Columns()
    try:
        for part in split(content, "results"):
            columns.add(part)
    except CannotSplit as error:
        raise _Unfit from error
    if len(set(columns.video_ids)) < len(columns.video_ids) or content.count(b'"segment"') > sum(columns.counts):
        raise _Unfit  # something stands twice
    return columns.join()


def _read_whole(path: Path, results: Mapping[str, Any]) -> Detections:
    for video_id, of_video in results.items():
        if not isinstance(of_video, list):
            raise EtadError(
                f"{path}: results of video '{video_id}' are a {type(of_video).__name__}, expected a list of detections."
            )
    columns = _Columns()
    try:
        columns.add(results)
        return columns.join()
    except _Unfit:
        entries = chain.from_iterable(results.values())
        unlabelled = all(isinstance(entry, dict) and "label" not in entry for entry in entries)
        _raise_for_bad_entry(path, results, unlabelled)


def _recoded(numbers: np.ndarray, names: Sequence[str], codes: Mapping[str, int]) -> np.ndarray:
    # One more place at the end, where -1 (unlabelled) looks up -1.
    table = np.array([*(codes.get(name, -1) for name in names), -1], dtype=np.int64)
    return table[numbers]


def _look_for_repeats(path: Path, content: Any) -> None:
    """Tell whether a key that stands twice has hidden what came before it."""
    refuse_repeats(str(path), content, {"results"})
    for video_id, entries in content["results"].items():
        for number, entry in enumerate(entries):
            where = f"{path}: video '{video_id}', entry {number} (counted from 0)"
            refuse_repeats(where, entry, {"segment", "label", "score"})
    warn_of_repeats(path, content["results"])


def _results(path: Path, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        hint = ""
        if isinstance(content, dict) and "database" in content:
            hint = " This looks like an annotation file."
        raise EtadError(f"{path}: has no 'results' by video, so it is no file of detections.{hint}")
    return content["results"]


def _raise_for_bad_entry(path: Path, results: Mapping[str, list[Any]], unlabelled: bool) -> NoReturn:
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
        return f"its segment is {shown(segment)}, expected two finite numbers, start and end in seconds"
    if not _is_number(entry["score"]):
        return f"its score is {shown(entry['score'])}, expected a finite number"
    if not unlabelled and not isinstance(entry["label"], str):
        return f"its label is {shown(entry['label'])}, expected text"
    return ""


def _is_number(value: Any) -> bool:
    try:
        return bool(np.isfinite(np.array(value, dtype=np.float64))) and np.ndim(value) == 0
    except (TypeError, ValueError, OverflowError, RecursionError):
        return False
