"""Detections against annotations: what `etad evaluate` and `etad detect` report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...data.annotations import Annotations, Video, match_ids
from ...data.detections import Detections
from ...data.durations import lies_outside
from ...data.errors import EtadError, counted, listing, nearest
from ...data.progress import progress_bar
from ...data.video.files import VIDEO_SUFFIXES
from ...detect.results.characteristics import by_coverage, by_instances, by_length
from ...detect.results.diagnose import diagnose as diagnose_columns
from ...detect.results.diagnosis import Diagnosis
from ...detect.results.interval import LEAST_VIDEOS, SHARE, TOO_NARROW, Interval, bootstrap_interval
from ...detect.results.metrics import (
    GroundTruth,
    Predictions,
    average_recall,
    localisation_precision,
    mean_average_precision,
    rank_proposals,
)

RECALL_AT = (1, 5, 10, 50, 100)
Duplicates = Literal["kept", "dropped"]
# An mAP measured on no more than so many videos is told with its interval.
FEW_VIDEOS = 100
# So many times the last action's end is after the end of a video of unknown duration.
_SURELY_AFTER = 50
# Fewer detections may lie in the first second by chance.
_FEWEST_FRACTIONS = 10


@dataclass(frozen=True)
class Evaluation:
    """Fractions, not per cent.

    Parameters
    ----------
    tious, mAP
        Thresholds and the mean average precision at each.
    average_mAP
        Mean over the thresholds.
    recall
        AR at an average number of proposals per video, tIoU 0.5:0.05:0.95; the area under its curve as `area`.
    asked, found, missing
        Videos of the subset, those of them with results, and the others.
    unexpected
        Videos with results that are not in the subset: left out.
    per_class
        AP of each class, averaged over the thresholds.
    outside
        How many actions of a video do not lie within its annotated duration, by id; they count as annotated.
    interval
        What the average mAP is worth, where it was measured on few videos.
    localisation_mAP
        The same as `mAP` of segments alone, whatever their class: each one once, with its best score.
    reversed, late
        How many detections end before they begin, or begin after their video's end, by id; none of them finds anything.
    duplicates, num_duplicates
        How many actions are annotated twice, and whether these were `kept` or `dropped`.
    """

    tious: tuple[float, ...]
    mAP: tuple[float, ...]
    average_mAP: float
    recall: dict[str, float]
    asked: int
    found: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    per_class: dict[str, float]
    outside: dict[str, int] = field(default_factory=dict)
    interval: Interval | None = None
    localisation_mAP: tuple[float, ...] = ()
    reversed: dict[str, int] = field(default_factory=dict)
    late: dict[str, int] = field(default_factory=dict)
    duplicates: Duplicates = "kept"
    num_duplicates: int = 0

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON has it: what is undefined is null."""
        interval = self.interval and {
            "average_mAP": [self.interval.low, self.interval.high],
            "share": SHARE,
            "videos": self.interval.num_videos,
        }
        counts = {
            "actions_outside_their_video": self.outside,
            "detections_that_end_before_they_begin": self.reversed,
            "detections_after_their_video": self.late,
        }
        return {
            "mAP": {f"{tiou:g}": value for tiou, value in zip(self.tious, self.mAP)},
            "average_mAP": self.average_mAP,
            "localisation_mAP": {f"{tiou:g}": value for tiou, value in zip(self.tious, self.localisation_mAP)},
            "average_localisation_mAP": self.average_localisation_mAP,
            "AR@AN": {name: value if isfinite(value) else None for name, value in self.recall.items()},
            "videos": {"asked": self.asked, "found": self.found, "missing": list(self.missing)},
            "per_class": self.per_class,
            "duplicated_actions": {"count": self.num_duplicates, "were": self.duplicates},
            **({"interval": interval} if interval else {}),
            **{name: found for name, found in counts.items() if found},
        }

    @property
    def average_localisation_mAP(self) -> float:
        """Mean over the thresholds."""
        return float(np.mean(self.localisation_mAP)) if self.localisation_mAP else 0.0

    def text(self) -> str:
        """Two small tables, in per cent."""
        heads = [f"{tiou:g}" for tiou in self.tious] + ["average"]
        values = [f"{100 * value:.1f}" for value in (*self.mAP, self.average_mAP)]
        lines = [_row("tIoU", heads), _row("mAP %", values)]
        if self.localisation_mAP:
            alone = (*self.localisation_mAP, self.average_localisation_mAP)
            lines += [_row("loc. %", [f"{100 * value:.1f}" for value in alone])]
            costs = "; wrong classes cost the rest" if self.average_localisation_mAP > self.average_mAP else ""
            lines += [f"loc.: mAP of the segments alone, whatever their class{costs}."]
        recalls = [f"{100 * value:.1f}" if isfinite(value) else "-" for value in self.recall.values()]
        lines += ["", _row("AN", self.recall), _row("AR %", recalls)]
        lines += ["AR: recall by the average number of segments a video, mean over tIoU 0.5:0.05:0.95.", ""]
        lines += [line] if (line := self._worth()) else []
        have = "has" if self.asked == 1 else "have"
        lines.append(f"{self.found} of {counted(self.asked, 'annotated video')} {have} results.")
        if self.missing:
            misses = "a miss" if len(self.missing) == 1 else "misses"
            lines.append(f"{len(self.missing)} without results, counted as {misses}: {listing(self.missing)}.")
        if self.unexpected:
            found = counted(len(self.unexpected), "video")
            lines.append(f"{found} with results, but not in the subset, left out: {listing(self.unexpected)}.")
        if self.outside:
            total, where = sum(self.outside.values()), (f"{id} ({count})" for id, count in self.outside.items())
            lie = "lies" if total == 1 else "lie"
            whose = f"{counted(total, 'action')} of {counted(len(self.outside), 'video')}"
            lines.append(f"{whose} {lie} past the video's annotated end, counted as annotated: {listing(where)}.")
        if self.num_duplicates:
            twice = f"{counted(self.num_duplicates, 'action')} {'is' if self.num_duplicates == 1 else 'are'}"
            rule = {"kept": "counted as official evaluations do", "dropped": "dropped as ActionFormer and OpenTAD do"}
            other = "dropped" if self.duplicates == "kept" else "kept"
            lines.append(f"{twice} annotated twice, {rule[self.duplicates]} (--duplicates {other} for the other rule).")
        for counts, what in ((self.reversed, "with its end before its start"), (self.late, "after its video's end")):
            if counts:
                which = listing(f"{id} ({count})" for id, count in counts.items())
                lines.append(f"Counted as wrong, {what}: {counted(sum(counts.values()), 'detection')}, in {which}.")
        return "\n".join(lines)

    def _worth(self) -> str:
        """Say what the average mAP is worth, where it was measured on few videos."""
        if self.interval is None:
            is_small = self.asked <= FEW_VIDEOS
            told = "Measured on one video with actions: what the mAP would be on others cannot be told. Test on more."
            return told if is_small else ""
        low, high, count = self.interval
        if f"{100 * low:.1f}" == f"{100 * high:.1f}":
            return (
                f"Measured on {counted(count, 'video')}, of which every draw gives the same average mAP: these are too "
                "few, or too much alike, to tell what it would be on others. Test on more."
            )
        return (
            f"Measured on {counted(count, 'video')}: on others like them, the average mAP would lie between "
            f"{100 * low:.1f} and {100 * high:.1f} ({100 * SHARE:.0f} % of draws of as many of these)."
        ) + (f" {TOO_NARROW}" if count < LEAST_VIDEOS else "")


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
    """

    videos: list[Video]
    matches: dict[str, str]
    labels: tuple[str, ...]
    truth: GroundTruth
    predictions: Predictions
    num_duplicates: int


def align(
    annotations: Annotations, subset: str, detections: Detections, source: str, duplicates: Duplicates
) -> Aligned:
    """Bring annotations and detections together; see `evaluate` for what is refused."""
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
    return Aligned(ordered, matches, annotations.labels, truth, predictions, num_duplicates)


def evaluate(
    annotations: Annotations,
    subset: str,
    detections: Detections,
    *,
    tious: Sequence[float],
    source: str,
    duplicates: Duplicates = "kept",
) -> Evaluation:
    """Measure mAP and AR@AN; actions count as annotated, as the official evaluations take them.

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
    both = align(annotations, subset, detections, source, duplicates)
    truth, predictions, ordered = both.truth, both.predictions, both.videos
    backward, late = _misplaced(predictions, ordered, source)
    with progress_bar("evaluate", unit="figure", total=3, delay=1) as bar:
        precision = mean_average_precision(truth, predictions, tious=tious)
        bar.update()
        ranked = rank_proposals(predictions)
        recall = average_recall(truth, predictions, ranked=ranked)
        bar.update()
        alone = localisation_precision(truth, predictions, tious=tious, ranked=ranked)
        bar.update()
    names = [both.labels[number] for number in precision.labels]
    videos = annotations.subset(subset)
    return Evaluation(
        tious=tuple(tious),
        mAP=tuple(float(value) for value in precision.mAP),
        average_mAP=precision.average,
        recall={**{str(number): recall.at(number) for number in RECALL_AT}, "area": recall.area},
        asked=len(videos),
        found=len(both.matches),
        missing=tuple(video.id for video in videos if video.id not in both.matches),
        unexpected=tuple(sorted(set(detections.video_ids) - set(both.matches.values()))),
        per_class=dict(zip(names, precision.ap.mean(axis=0).tolist())),
        outside={video.id: count for video in videos if (count := _num_outside(video))},
        interval=bootstrap_interval(truth, predictions, num_videos=len(videos), tious=tious)
        if len(videos) <= FEW_VIDEOS
        else None,
        localisation_mAP=tuple(float(value) for value in alone.mAP),
        reversed=backward,
        late=late,
        duplicates=duplicates,
        num_duplicates=both.num_duplicates,
    )


def diagnose(
    annotations: Annotations,
    subset: str,
    detections: Detections,
    *,
    tious: Sequence[float],
    source: str,
    duplicates: Duplicates = "kept",
) -> Diagnosis:
    """Find what the mAP that `evaluate` measures is lost by; see there for what is refused."""
    both = align(annotations, subset, detections, source, duplicates)
    _misplaced(both.predictions, both.videos, source)
    durations = np.array([video.duration_seconds or np.nan for video in both.videos])
    return diagnose_columns(
        both.truth,
        both.predictions,
        tious=tious,
        num_videos=len(both.videos),
        characteristics=[by_length(both.truth), by_coverage(both.truth, durations), by_instances(both.truth)],
    )


def _num_outside(video: Video) -> int:
    seconds = video.duration_seconds
    return 0 if seconds is None else sum(lies_outside(action, seconds) for action in video.actions)


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


def _row(head: str, cells: Sequence[str] | dict[str, float]) -> str:
    return f"{head:>7} " + " ".join(f"{cell:>7}" for cell in cells)
