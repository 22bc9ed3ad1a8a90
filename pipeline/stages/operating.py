"""Operating thresholds: from which score on a detection is reported, by class, chosen on held-out videos."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...data.annotations import Video, match_ids
from ...data.detections import Detections
from ...data.errors import EtadError, counted
from ...data.files.atomic import write_json
from ...data.files.json_file import read_json
from ...detect.results.matching import GroupedSegments, descending, match_by_group

# A detection that overlaps an action of its class by so much has found it.
TIOU = 0.5
_PAIRS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class OperatingThresholds:
    """Least scores of detections that are reported.

    Parameters
    ----------
    overall
        For a class without examples, and for proposals without a label.
    per_class
        By label, of the classes that were found among the held-out videos.
    f1
        Harmonic mean of precision and recall at these thresholds, all classes together, on the same videos.
    subset, num_videos
        Where they were chosen.
    is_tested_on
        These are the videos of the test subset: figures at these thresholds are better there than elsewhere.
    made_from
        Digest of what the choice depends on; empty where it is made again each time.
    """

    overall: float
    per_class: Mapping[str, float]
    f1: float
    subset: str
    num_videos: int
    is_tested_on: bool
    made_from: str = ""

    def of(self, label: str) -> float:
        return self.per_class.get(label, self.overall)

    def text(self) -> str:
        """Say where they come from, in a line."""
        whose = "tested on" if self.is_tested_on else "set apart"
        return (
            f"thresholds: those with the best F1 at tIoU {TIOU:g} on the {counted(self.num_videos, 'video')} {whose} "
            f"(subset '{self.subset}'; F1 {100 * self.f1:.0f} % there)"
        )


def choose_thresholds(
    videos: Sequence[Video], found: Detections, *, subset: str, is_tested_on: bool, made_from: str = ""
) -> OperatingThresholds | None:
    """Choose the thresholds with the best F1 on annotated videos; None where nothing was annotated or found.

    Parameters
    ----------
    videos
        Annotated videos that nothing was learnt from.
    found
        Their detections; those of other videos are passed over.
    """
    labels = sorted({action.label for video in videos for action in video.actions} | set(found.labels))
    label_codes = {label: code for code, label in enumerate(labels)}
    matches = match_ids([video.id for video in videos], found.video_ids, where="detections")
    seen = [video for video in videos if video.id in matches]
    actions = [(code, action) for code, video in enumerate(seen) for action in video.actions]

    # 1. Let each detection, the best first, take the action of its video and class that it overlaps most.
    video = found.video_codes({matches[video.id]: code for code, video in enumerate(seen)})
    label = found.label_codes(label_codes)
    rows = np.flatnonzero((video >= 0) & (label >= 0))
    rows = rows[descending(found.score[rows])]
    if not actions or not len(rows):
        return None
    truth_label = np.array([label_codes[action.label] for _, action in actions])
    truth_group = truth_label * len(seen) + np.array([code for code, _ in actions])
    order = np.argsort(truth_group, kind="stable")
    truth = GroupedSegments(
        truth_group,
        np.array([action.start_seconds for _, action in actions]),
        np.array([action.end_seconds for _, action in actions]),
    ).take(order)
    detected = GroupedSegments(
        label[rows] * len(seen) + video[rows], found.start_seconds[rows], found.end_seconds[rows]
    )
    takers = match_by_group(detected, truth, np.array([TIOU]), pairs_at_once=_PAIRS_AT_ONCE).taker
    is_hit = np.zeros(len(rows), dtype=bool)
    is_hit[takers] = True

    # 2. Cut where F1 is best: for all together, then for each class that has been found at all.
    overall = _best_cut(found.score[rows], is_hit, len(actions))
    per_class = {}
    for name, code in label_codes.items():
        own = label[rows] == code
        if is_hit[own].any():
            per_class[name] = _best_cut(found.score[rows][own], is_hit[own], int((truth_label == code).sum()))
    least = np.array([per_class.get(name, overall) for name in labels])
    kept = found.score[rows] >= least[label[rows]]
    f1 = 2 * int(is_hit[kept].sum()) / (int(kept.sum()) + len(actions))
    return OperatingThresholds(overall, per_class, f1, subset, len(seen), is_tested_on, made_from)


def write_thresholds(path: Path, thresholds: OperatingThresholds) -> None:
    """Write thresholds, whole or not at all."""
    write_json(path, {"tiou": TIOU, **asdict(thresholds)}, indent=1)


def read_thresholds(path: Path) -> OperatingThresholds | None:
    """Read thresholds; None where none were chosen.

    Raises
    ------
    EtadError
        The file is damaged.
    """
    if not path.exists():
        return None
    content = read_json(path, what="operating thresholds")
    try:
        fields = {name: content[name] for name in OperatingThresholds.__dataclass_fields__}
        numbers = [fields["overall"], fields["f1"], *fields["per_class"].values()]
        if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers):
            raise TypeError
        return OperatingThresholds(**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise EtadError(f"{path}: holds no thresholds of etad. Delete it, and call the stage again.") from error


def above_thresholds(found: Detections, thresholds: OperatingThresholds | float) -> Detections:
    """Leave out detections that score less than the threshold of their class."""
    if isinstance(thresholds, OperatingThresholds):
        # One more at the end, where -1 (unlabelled) looks it up.
        least = np.array([*map(thresholds.of, found.labels), thresholds.overall])[found.label]
    else:
        least = np.full(len(found), thresholds)
    kept = found.score >= least
    return Detections(
        found.video_ids,
        found.labels,
        found.video[kept],
        found.label[kept],
        found.start_seconds[kept],
        found.end_seconds[kept],
        found.score[kept],
    )


def _best_cut(scores: np.ndarray, is_hit: np.ndarray, num_actions: int) -> float:
    """Least score that is kept where F1 is best, of falling scores; half way to the next one, if there is one."""
    count = np.arange(1, len(scores) + 1)
    f1 = 2 * np.cumsum(is_hit) / (count + num_actions)
    is_last_of_equals = np.append(scores[1:] < scores[:-1], True)
    best = int(np.argmax(np.where(is_last_of_equals, f1, -1.0)))
    following = scores[best + 1] if best + 1 < len(scores) else scores[best]
    return float((scores[best] + following) / 2)
