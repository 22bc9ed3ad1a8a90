"""Cached features and annotations -> the windows that the detector sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..data.annotations import Annotations, Video, match_ids
from ..data.cache.source import SnippetSource
from ..data.digest import digest_of
from ..data.durations import OUTSIDE, DurationConflict, Repair, clean, describe_conflicts, duration_conflict
from ..data.errors import EtadError, counted, listing
from ..data.timeline import Span, Timing, window_starts
from .settings import DetectSettings

# A training window keeps the actions of which more than this share lies inside it (method, section 1).
KEPT_SHARE = 0.9


@dataclass(frozen=True)
class Window:
    """A stretch of one video, T snippets long.

    Parameters
    ----------
    video_id, cache_id
        Ids in the annotations and in the cache.
    duration_seconds
        Length of the video: the measured one, or the annotated one where nobody measured.
    span
        What fraction 0 .. 1 of the window means in seconds.
    first, count
        Snippets of the cache that fill it; fewer than T are padded (sliding) or resized (rescale).
    segments
        (N, 2) actions as fractions of the window, float64.
    labels
        (N,) class numbers.
    """

    video_id: str
    cache_id: str
    duration_seconds: float
    span: Span
    first: int
    count: int
    segments: np.ndarray
    labels: np.ndarray


@dataclass
class WindowReport:
    """What was left out of a set of windows, what was mended, and where durations contradict each other."""

    min_action_share: float
    missing: list[str] = field(default_factory=list)
    too_short: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    without_action: list[str] = field(default_factory=list)
    repairs: list[Repair] = field(default_factory=list)
    conflicts: list[DurationConflict] = field(default_factory=list)

    def notes(self) -> list[str]:
        """What is worth knowing of the videos that were kept."""
        return [describe_conflicts(self.conflicts)] if self.conflicts else []

    def lines(self) -> list[str]:
        reasons = {
            "no features": self.missing,
            f"every action at most {100 * self.min_action_share:g} % of the video (detect.min_action_share)": (
                self.too_short
            ),
            "every action outside the video": self.outside,
            "no action to learn from": self.without_action,
        }
        return [
            f"{counted(len(ids), 'video')} left out: {why} ({listing(ids, most=3)})"
            for why, ids in reasons.items()
            if ids
        ]


def make_windows(
    videos: Sequence[Video],
    cache: SnippetSource,
    *,
    settings: DetectSettings,
    classes: Sequence[str],
    training: bool,
) -> tuple[list[Window], WindowReport]:
    """List the windows of some videos.

    Raises
    ------
    EtadError
        No video of them is cached, or an action's label is none of `classes`.
    """
    report = WindowReport(settings.min_action_share)
    matches = match_ids([video.id for video in videos], cache.ids, where=str(cache.path))
    report.missing = [video.id for video in videos if video.id not in matches]
    if not matches:
        raise EtadError(
            f"{cache.path}: holds none of the {counted(len(videos), 'annotated video')} asked for (the cache has "
            f"{listing(cache.ids, most=3)}, the annotations {listing((video.id for video in videos), most=3)}). "
            "Extract them, or name the cache that has them."
        )
    number_of = {label: number for number, label in enumerate(classes)}
    windows: list[Window] = []
    for video in videos:
        if video.id not in matches:
            continue
        cache_id = matches[video.id]
        timing, length = cache.timing(cache_id), cache.lengths[cache_id]
        conflict = duration_conflict(video, timing.duration_seconds) if timing.is_measured else None
        report.conflicts += [conflict] if conflict else []
        video, repairs = clean(video, _duration_of(video, timing, cache))
        report.repairs += repairs
        unknown = sorted({action.label for action in video.actions} - set(number_of))
        if unknown:
            raise EtadError(
                f"video '{video.id}': label '{unknown[0]}' is none of the {counted(len(classes), 'known class')} "
                f"({listing(classes, most=3)}). Correct the label, or train on annotations that have it."
            )
        if training and not video.actions and any(repair.kind == OUTSIDE for repair in repairs):
            report.outside.append(video.id)  # something happens in it, at times that nobody knows: no negative
            continue
        if training and settings.windows == "rescale" and _only_tiny_actions(video, settings.min_action_share):
            report.too_short.append(video.id)
            continue
        found = _windows_of(video, cache_id, timing, length, settings=settings, number_of=number_of, training=training)
        if training and settings.windows == "sliding":
            found = [window for window in found if len(window.labels)]
        if training and not settings.training.keep_negatives:
            found = [window for window in found if len(window.labels)]
        if not found:
            report.without_action.append(video.id)
        windows += found
    return windows, report


def windows_digest(windows: Sequence[Window]) -> str:
    """Digest of which snippets make up windows, and what is annotated in them."""
    return digest_of(map(_content, windows))


def digests_by_video(windows: Sequence[Window]) -> dict[str, str]:
    """Digest of each video's windows, by its id."""
    of: dict[str, list[bytes]] = {}
    for window in windows:
        of.setdefault(window.video_id, []).append(_content(window))
    return {video_id: digest_of(contents) for video_id, contents in of.items()}


def _content(window: Window) -> bytes:
    place = window.video_id, window.first, window.count, window.duration_seconds, window.span
    return repr(place).encode() + window.segments.tobytes() + window.labels.tobytes()


def _duration_of(video: Video, timing: Timing, cache: SnippetSource) -> float:
    """The duration that snippets, actions and results are placed by: the measured one wherever there is one."""
    if timing.is_measured:
        return timing.duration_seconds
    if video.duration_seconds is None:
        raise EtadError(
            f"{cache.path}: nobody measured the duration of video '{video.id}', and the annotations state none. "
            "State it there."
        )
    return video.duration_seconds


def _windows_of(
    video: Video,
    cache_id: str,
    timing: Timing,
    length: int,
    *,
    settings: DetectSettings,
    number_of: dict[str, int],
    training: bool,
) -> list[Window]:
    duration = video.duration_seconds
    assert duration is not None
    seconds = np.array([[a.start_seconds, a.end_seconds] for a in video.actions], dtype=np.float64).reshape(-1, 2)
    labels = np.array([number_of[action.label] for action in video.actions], dtype=np.int64)
    if settings.windows == "rescale":
        span = Span.of_video(duration)
        fractions = span.to_fraction(seconds).clip(0, 1)
        return [Window(video.id, cache_id, duration, span, 0, length, fractions, labels)]
    windows = []
    for first in window_starts(length, settings.num_snippets, settings.window_stride):
        count = min(settings.num_snippets, length - first)
        span = Span.of_window(timing, first, settings.num_snippets)
        fractions, kept = span.to_fraction(seconds), np.ones(len(labels), dtype=bool)
        if training:
            # Between the first and the last snippet's centre; at test time nothing is cut.
            last = (count - 1) / settings.num_snippets
            cut = fractions.clip(0, last)
            kept = np.diff(cut)[:, 0] > KEPT_SHARE * np.diff(fractions)[:, 0]
            fractions = cut
        windows.append(Window(video.id, cache_id, duration, span, first, count, fractions[kept], labels[kept]))
    return windows


def _only_tiny_actions(video: Video, share: float) -> bool:
    """Whether every action lasts at most this share of the video (method, section 1)."""
    assert video.duration_seconds is not None
    longest = share * video.duration_seconds
    return bool(video.actions) and all(a.end_seconds - a.start_seconds <= longest for a in video.actions)


def training_classes(annotations: Annotations, subset: str) -> tuple[str, ...]:
    """Sorted labels of a subset's actions: the classes that can be learnt from it.

    Raises
    ------
    EtadError
        The subset has no action at all.
    """
    videos = annotations.subset(subset)
    classes = tuple(sorted({action.label for video in videos for action in video.actions}))
    if not classes:
        raise EtadError(f"{annotations.source}: no video of subset '{subset}' has an action, so nothing can be learnt.")
    return classes
