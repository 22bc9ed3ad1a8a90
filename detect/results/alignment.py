"""Annotations and detections of one subset in the same codes, and what about them cannot be right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from ...data.annotations import Annotations, Video, match_ids
from ...data.detections import Detections
from ...data.errors import EtadError, counted, listing, nearest
from ...data.video.files import VIDEO_SUFFIXES
from .metrics import GroundTruth, Predictions

Duplicates = Literal["kept", "dropped"]
# So many times the last action's end is after the end of a video of unknown duration.
_SURELY_AFTER = 50
# Fewer detections may lie in the first second by chance.
_FEWEST_FRACTIONS = 10


@dataclass(frozen=True)
class Aligned:
    """Annotations and detections of one subset as columns, in the same codes.

    Parameters
    ----------
    videos
        By code. Those without actions come after those that have some: they have no code in the ground truth.
    matches
        Id in the results by annotated id.
    labels
        By code.
    missing, unexpected
        Videos of the subset without results, and videos with results that are not in the subset: left out.
    reversed, late
        How many detections end before they begin, or begin after their video's end, by id; none of them finds anything.
    """

    videos: list[Video]
    matches: dict[str, str]
    labels: tuple[str, ...]
    truth: GroundTruth
    predictions: Predictions
    num_duplicates: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reversed: Mapping[str, int] = field(default_factory=dict)
    late: Mapping[str, int] = field(default_factory=dict)


def align(
    annotations: Annotations, subset: str, detections: Detections, source: str, duplicates: Duplicates
) -> Aligned:
    """Bring annotations and detections together.

    Parameters
    ----------
    duplicates
        Whether actions that are annotated twice count twice.

    Raises
    ------
    EtadError
        The subset is empty, no video of it has results, a label of the results is none of the annotations', ids carry a
        file's ending, or most segments cannot be seconds of these videos.
    """
    videos = annotations.subset(subset)
    if not any(video.actions for video in videos):
        raise EtadError(f"{annotations.source}: no video of subset '{subset}' has an action to evaluate against.")
    _check_labels(annotations, detections, source)
    matches = match_ids([video.id for video in videos], detections.video_ids, where=source)
    _check_endings([video.id for video in videos if video.id not in matches], detections.video_ids, source)
    if not detections.video_ids:
        raise EtadError(f"{source}: holds no video at all, so there is nothing to evaluate. Was inference cut short?")
    if not matches:
        raise EtadError(
            f"{source}: has no result for any of the {counted(len(videos), 'video')} of subset '{subset}' "
            f"(results: {listing(detections.video_ids, most=3)}). Name the subset with --subset."
        )
    distinct = [video.without_duplicates() for video in videos]
    num_duplicates = sum(len(video.actions) for video in videos) - sum(len(video.actions) for video in distinct)
    ordered = sorted(distinct if duplicates == "dropped" else videos, key=lambda video: not video.actions)
    codes = {label: number for number, label in enumerate(annotations.labels)}
    truth = _ground_truth([video for video in ordered if video.actions], codes)
    predictions = _predictions(detections, ordered, matches, codes)
    backward, late = _misplaced(predictions, ordered, source)
    return Aligned(
        ordered,
        matches,
        annotations.labels,
        truth,
        predictions,
        num_duplicates,
        missing=tuple(video.id for video in videos if video.id not in matches),
        unexpected=tuple(sorted(set(detections.video_ids) - set(matches.values()))),
        reversed=backward,
        late=late,
    )


def missing_text(missing: Sequence[str], unexpected: Sequence[str]) -> list[str]:
    """Say which videos have no results, and which results no video."""
    lines = []
    if missing:
        misses = "a miss" if len(missing) == 1 else "misses"
        lines.append(f"{len(missing)} without results, counted as {misses}: {listing(missing)}.")
    if unexpected:
        found = counted(len(unexpected), "video")
        lines.append(f"{found} with results, but not in the subset, left out: {listing(unexpected)}.")
    return lines


def misplaced_text(backward: Mapping[str, int], late: Mapping[str, int]) -> list[str]:
    """Say which detections can find nothing."""
    lines = []
    for counts, what in ((backward, "with its end before its start"), (late, "after its video's end")):
        if counts:
            which = listing(f"{id} ({count})" for id, count in counts.items())
            lines.append(f"Counted as wrong, {what}: {counted(sum(counts.values()), 'detection')}, in {which}.")
    return lines


def _check_labels(annotations: Annotations, detections: Detections, source: str) -> None:
    known = annotations.labels
    unknown = sorted(set(detections.labels) - set(known) - annotations.known_labels)
    if unknown:
        raise EtadError(
            f"{source}: label '{unknown[0]}' is none of the {counted(len(known), 'label')} of {annotations.source}."
            f"{nearest(unknown[0], known)} Unknown labels: {listing(unknown)}."
        )


def _ground_truth(videos: Sequence[Video], labels: dict[str, int]) -> GroundTruth:
    actions = [action for video in videos for action in video.actions]
    return GroundTruth(
        video=np.repeat(np.arange(len(videos)), [len(video.actions) for video in videos]),
        label=np.fromiter((labels[action.label] for action in actions), np.int64, len(actions)),
        start_seconds=np.fromiter((action.start_seconds for action in actions), np.float64, len(actions)),
        end_seconds=np.fromiter((action.end_seconds for action in actions), np.float64, len(actions)),
    )


def _predictions(
    detections: Detections, ordered: Sequence[Video], matches: dict[str, str], labels: dict[str, int]
) -> Predictions:
    """Detections of some videos, in the codes of these and of labels."""
    codes = {matches[video.id]: code for code, video in enumerate(ordered) if video.id in matches}
    video = detections.video_codes(codes)
    kept = video >= 0
    return Predictions(
        video=video[kept],
        label=detections.label_codes(labels)[kept],
        start_seconds=detections.start_seconds[kept],
        end_seconds=detections.end_seconds[kept],
        score=detections.score[kept],
    )


def _check_endings(missing: Sequence[str], found: Sequence[str], source: str) -> None:
    """Refuse results by file names: their videos would count as misses."""
    lost = set(missing)
    named = [id for id in found if Path(id).suffix.lower() in VIDEO_SUFFIXES and Path(id).stem in lost]
    if named:
        raise EtadError(
            f"{source}: {counted(len(named), 'id')} of results {'carries' if len(named) == 1 else 'carry'} a file's "
            f"ending: {listing(named, most=3)}, where the annotations say '{Path(named[0]).stem}'. Take endings off."
        )


def _misplaced(predictions: Predictions, videos: Sequence[Video], source: str) -> tuple[dict[str, int], dict[str, int]]:
    """How many detections end before they begin, and how many begin after their video's end, by id.

    Raises
    ------
    EtadError
        Most of them do, or all are fractions: they are no start and end in seconds.
    """
    ends = np.array([_latest_seconds(video) for video in videos])
    is_reversed = predictions.end_seconds < predictions.start_seconds
    is_late = predictions.start_seconds >= ends[predictions.video]
    counts = []
    for is_wrong, does, hint in (
        (is_reversed, "end before they begin", "A segment is [start, end]; turn them round."),
        (is_late, "begin after their video's end", "Are these milliseconds or frames? Write seconds."),
    ):
        rows = np.flatnonzero(is_wrong)
        if 2 * len(rows) > len(is_wrong):
            start, end = (float(column[rows[0]]) for column in (predictions.start_seconds, predictions.end_seconds))
            raise EtadError(
                f"{source}: {len(rows)} of {counted(len(is_wrong), 'detection')} {does}, such as {start:g} to {end:g} "
                f"of video '{videos[predictions.video[rows[0]]].id}'. {hint}"
            )
        numbers, times = np.unique(predictions.video[rows], return_counts=True)
        counts.append({videos[number].id: int(count) for number, count in zip(numbers, times)})
    actions = [action.end_seconds for video in videos for action in video.actions]
    fractions = len(predictions.end_seconds) >= _FEWEST_FRACTIONS and predictions.end_seconds.max() <= 1
    if fractions and np.median(actions) > 2:
        raise EtadError(
            f"{source}: all of {counted(len(is_late), 'detection')} end within the first second of their video. Are "
            "these fractions of the video? Write seconds."
        )
    return counts[0], counts[1]


def _latest_seconds(video: Video) -> float:
    """The end of a video, or of its last action where that is later; if unknown, a time that is surely after it."""
    last = max((action.end_seconds for action in video.actions), default=0.0)
    if video.duration_seconds is not None:
        return max(video.duration_seconds, last)
    return _SURELY_AFTER * last if last > 0 else np.inf
