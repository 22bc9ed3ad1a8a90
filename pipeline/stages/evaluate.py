"""Detections against annotations: what `etad evaluate` and `etad detect` report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np

from ...data.annotations import Annotations, Video
from ...data.detections import Detections
from ...data.durations import lies_outside
from ...data.errors import EtadError, counted, listing
from ...data.progress import progress_bar
from ...detect.results.alignment import Duplicates, align, misplaced_text, missing_text
from ...detect.results.characteristics import by_coverage, by_instances, by_length
from ...detect.results.diagnose import diagnose as diagnose_columns
from ...detect.results.diagnosis import Diagnosis
from ...detect.results.interval import LEAST_VIDEOS, SHARE, TOO_NARROW, Interval, bootstrap_interval
from ...detect.results.metrics import (
    average_recall,
    localisation_precision,
    mean_average_precision,
    rank_proposals,
)

RECALL_AT = (1, 5, 10, 50, 100)
# An mAP measured on no more than so many videos is told with its interval.
FEW_VIDEOS = 100


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
        lines += missing_text(self.missing, self.unexpected)
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
        lines += misplaced_text(self.reversed, self.late)
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

    See `align` for parameters and for what is refused.

    Raises
    ------
    EtadError
        A threshold stands twice; or see `align`.
    """
    if len(set(tious)) < len(tious):
        raise EtadError(f"tious={list(tious)}: a threshold stands twice, and would count so. Name each once.")
    both = align(annotations, subset, detections, source, duplicates)
    truth, predictions = both.truth, both.predictions
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
        missing=both.missing,
        unexpected=both.unexpected,
        per_class=dict(zip(names, precision.ap.mean(axis=0).tolist())),
        outside={video.id: count for video in videos if (count := _num_outside(video))},
        interval=bootstrap_interval(truth, predictions, num_videos=len(videos), tious=tious)
        if len(videos) <= FEW_VIDEOS
        else None,
        localisation_mAP=tuple(float(value) for value in alone.mAP),
        reversed=dict(both.reversed),
        late=dict(both.late),
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


def _row(head: str, cells: Sequence[str] | dict[str, float]) -> str:
    return f"{head:>7} " + " ".join(f"{cell:>7}" for cell in cells)
