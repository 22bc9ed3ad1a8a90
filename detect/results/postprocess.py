"""Raw predictions -> scored, suppressed, labelled detections in seconds (method, section 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import numpy as np

from ...data.predictions import RawPrediction
from ...data.timeline import Span
from ..settings import DetectSettings
from .nms import select_by_boundary, snippets_of, soft_nms, vote

# Windows, and videos, that go through soft-NMS together.
WINDOWS_AT_ONCE, VIDEOS_AT_ONCE = 32, 32

_Item = TypeVar("_Item")

# Video-level scores of each class for a video id.
VideoScores = Callable[[str], np.ndarray]


@dataclass(frozen=True)
class VideoDetections:
    """Detections of one video by falling score.

    Parameters
    ----------
    segments
        (n, 2) seconds.
    labels
        (n,) class numbers.
    scores
        (n,)
    """

    video_id: str
    segments: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class _Survivors:
    segments: np.ndarray
    scores: np.ndarray
    class_scores: np.ndarray


def detections(
    predictions: Iterable[RawPrediction], *, settings: DetectSettings, video_scores: VideoScores | None
) -> Iterator[VideoDetections]:
    """Turn raw predictions into detections, video by video; a video's windows must follow one another.

    Parameters
    ----------
    predictions
        Raw predictions.
    settings
        The detector's settings.
    video_scores
        Class scores of a video; none: the class branch says.
    """
    videos = (list(own) for _, own in groupby(_survivors(predictions, settings), key=lambda window: window[0]))
    for chunk in _chunks(videos, VIDEOS_AT_ONCE):
        merged = [_merge([survivors for _, survivors in video]) for video in chunk]
        if settings.windows == "sliding":
            merged = _suppress(merged, settings, voting_iou=settings.inference.voting_iou)
        for video, survivors in zip(chunk, merged):
            yield _labelled(video[0][0], survivors, settings, video_scores)


def _survivors(predictions: Iterable[RawPrediction], settings: DetectSettings) -> Iterator[tuple[str, _Survivors]]:
    """What is left of each window, in seconds, with its video's id; of the rest, a few windows are held at a time."""
    for windows in _chunks(predictions, WINDOWS_AT_ONCE):
        suppressed = _suppress([_candidates(window, settings) for window in windows], settings)
        for window, survivors in zip(windows, suppressed):
            yield window.video_id, _in_seconds(survivors, window)


def proposal_scores(prediction: RawPrediction, *, with_boundaries: bool) -> np.ndarray:
    """Score proposals: p_iou = classified * regressed IoU, times startness and endness (`paper`), (K,) float64."""
    scores = prediction.iou.astype(np.float64).prod(axis=1)
    if with_boundaries:
        startness, endness = prediction.boundary.astype(np.float64)
        first, last = snippets_of(prediction.segments, len(startness))
        scores = scores * startness.take(first) * endness.take(last)
    return scores


def _candidates(prediction: RawPrediction, settings: DetectSettings) -> _Survivors:
    rows = select_by_boundary(prediction.segments, *prediction.boundary)
    scores = proposal_scores(prediction, with_boundaries=settings.scores_boundaries)
    return _Survivors(prediction.segments[rows].astype(np.float64), scores[rows], prediction.class_scores[rows])


def _suppress(
    each: Sequence[_Survivors], settings: DetectSettings, voting_iou: float | None = None
) -> list[_Survivors]:
    kept = soft_nms(
        [survivors.segments for survivors in each],
        [survivors.scores for survivors in each],
        sigma=settings.inference.sigma,
        most_kept=settings.inference.max_detections,
        lose_last=settings.rules.loses_last,
    )
    suppressed = []
    for survivors, best in zip(each, kept):
        segments = survivors.segments[best.index]
        if voting_iou is not None and len(segments):
            segments = vote(segments, survivors.segments, survivors.scores, least_iou=voting_iou)
        suppressed.append(_Survivors(segments, best.score, survivors.class_scores[best.index]))
    return suppressed


def _in_seconds(survivors: _Survivors, window: RawPrediction) -> _Survivors:
    seconds = Span(window.start_seconds, window.length_seconds).to_seconds(survivors.segments)
    return _Survivors(seconds.clip(0, window.duration_seconds), survivors.scores, survivors.class_scores)


def _merge(windows: Sequence[_Survivors]) -> _Survivors:
    return _Survivors(
        np.concatenate([window.segments for window in windows]),
        np.concatenate([window.scores for window in windows]),
        np.concatenate([window.class_scores for window in windows]),
    )


def _labelled(
    video_id: str, survivors: _Survivors, settings: DetectSettings, video_scores: VideoScores | None
) -> VideoDetections:
    # A refined proposal may have been clipped or reversed away; the release reports it all the same.
    real = (survivors.segments[:, 1] > survivors.segments[:, 0]) | settings.rules.reports_reversed
    segments, scores = survivors.segments[real], survivors.scores[real]
    if video_scores is None:
        by_class = survivors.class_scores[real].astype(np.float64)
    else:
        of_video = video_scores(video_id)
        by_class = np.broadcast_to(of_video, (len(segments), len(of_video)))
    top = min(settings.labels.top, by_class.shape[1])
    labels = np.argsort(-by_class, axis=1, kind="stable")[:, :top]
    labelled = (scores[:, None] * np.take_along_axis(by_class, labels, axis=1)).ravel()
    order = np.argsort(-labelled, kind="stable")
    return VideoDetections(video_id, np.repeat(segments, top, axis=0)[order], labels.ravel()[order], labelled[order])


def _chunks(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    chunk: list[_Item] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
