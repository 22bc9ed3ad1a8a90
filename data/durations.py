"""What a video's duration makes of its annotations: where the two contradict each other, and what is mended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .annotations import Action, Video
from .errors import counted, listing, printable

# Real annotations end up to 0.85 s after their video does: measured durations differ by the container's rounding.
CLAMP_SECONDS = 1.0
# An annotated duration contradicts the measured one where it is off by more than both of these.
DURATION_SECONDS = 0.5
DURATION_SHARE = 0.01

CLAMPED, CUT, OUTSIDE = "clamped", "cut by more than 1 s", "dropped as outside the video"
EMPTY, DUPLICATE = "dropped empty", "dropped duplicate"


@dataclass(frozen=True)
class Repair:
    """What was done about an annotated segment, where.

    Parameters
    ----------
    kind
        `CLAMPED`, `EMPTY` and `DUPLICATE` are what real files do; `CUT` and `OUTSIDE` say that the segment or the
        video's duration is wrong.
    detail
        The segment, and what became of it.
    """

    video_id: str
    kind: str
    detail: str

    @property
    def is_problem(self) -> bool:
        return self.kind in (CUT, OUTSIDE)


@dataclass(frozen=True)
class DurationConflict:
    """An annotated duration that is not the video's measured one, which counts."""

    video_id: str
    annotated_seconds: float
    measured_seconds: float

    def __str__(self) -> str:
        return f"{self.video_id} ({self.annotated_seconds:.2f} s annotated, {self.measured_seconds:.2f} s measured)"


def clean(video: Video, duration_seconds: float) -> tuple[Video, list[Repair]]:
    """Make a video's actions fit for training, whatever is annotated.

    Segments are cut to the video; those that lie outside it, empty ones and repeated ones are dropped.
    """
    kept: dict[Action, None] = {}
    repairs: list[Repair] = []
    for action in video.actions:
        where = f"{printable(action.label)} {action.start_seconds:g}-{action.end_seconds:g} s"
        start, end = max(action.start_seconds, 0.0), min(action.end_seconds, duration_seconds)
        is_outside = lies_outside(action, duration_seconds)
        if is_outside and end <= start:
            repairs.append(Repair(video.id, OUTSIDE, where))
            continue
        if start != action.start_seconds or end != action.end_seconds:
            repairs.append(Repair(video.id, CUT if is_outside else CLAMPED, f"{where} to 0-{duration_seconds:g} s"))
        cut = Action(start, end, action.label)
        if end <= start:
            repairs.append(Repair(video.id, EMPTY, where))
        elif cut in kept:
            repairs.append(Repair(video.id, DUPLICATE, where))
        else:
            kept[cut] = None
    return replace(video, duration_seconds=duration_seconds, actions=tuple(kept)), repairs


def lies_outside(action: Action, duration_seconds: float) -> bool:
    """Whether a segment leaves its video by more than rounding can explain, or never enters it.

    Examples
    --------
    >>> [lies_outside(Action(start, end, "Run"), 10.0) for start, end in ((9, 10.9), (9, 11.1), (10, 10.5), (-2, 3))]
    [False, True, True, True]
    """
    return (
        action.start_seconds >= duration_seconds
        or action.end_seconds > duration_seconds + CLAMP_SECONDS
        or action.start_seconds < -CLAMP_SECONDS
    )


def duration_conflict(video: Video, measured_seconds: float) -> DurationConflict | None:
    """Compare a video's annotated duration with the measured one; None where they agree, or nothing is annotated.

    Examples
    --------
    >>> print(duration_conflict(Video("a", "training", 45.5, ()), 36.4))
    a (45.50 s annotated, 36.40 s measured)
    >>> duration_conflict(Video("a", "training", 36.8, ()), 36.4)
    """
    annotated = video.duration_seconds
    if annotated is None:
        return None
    if abs(annotated - measured_seconds) <= max(DURATION_SECONDS, DURATION_SHARE * measured_seconds):
        return None
    return DurationConflict(video.id, annotated, measured_seconds)


def describe_conflicts(conflicts: Sequence[DurationConflict]) -> str:
    """Count contradicting durations and name a few with both values, for one line of a report.

    Examples
    --------
    >>> describe_conflicts([DurationConflict("a", 45.5, 36.4)])
    "1 video's annotated duration is not the measured one, which counts: a (45.50 s annotated, 36.40 s measured)"
    """
    whose = "1 video's annotated duration is" if len(conflicts) == 1 else f"{len(conflicts)} annotated durations are"
    return f"{whose} not the measured one, which counts: {listing(map(str, conflicts), most=10)}"


def describe_repairs(repairs: Sequence[Repair]) -> str:
    """Count repairs by kind and name a few, for one line of a report.

    Examples
    --------
    >>> describe_repairs([Repair("a", "clamped", "Run 1-9 s to 0-8 s")])
    '1 segment clamped (a)'
    """
    parts = []
    for kind, count in Counter(repair.kind for repair in repairs).items():
        ids = dict.fromkeys(repair.video_id for repair in repairs if repair.kind == kind)
        parts.append(f"{counted(count, 'segment')} {kind} ({listing(ids, most=3)})")
    return ", ".join(parts)
