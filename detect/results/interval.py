"""What a figure measured on few videos is worth: the interval in which it would lie on others of their kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...data.progress import progress_bar
from .metrics import GroundTruth, Predictions, mean_average_precision
from .ranked import draw_videos

SAMPLES, SHARE = 100, 0.9
# Of fewer videos there are so few different draws that an interval is much too narrow.
LEAST_VIDEOS = 6
TOO_NARROW = "With so few videos that is much too narrow, and no more than a hint."


class Interval(NamedTuple):
    """Bounds of the average mAP, as fractions, and of how many videos it was measured on."""

    low: float
    high: float
    num_videos: int


def bootstrap_interval(
    ground_truth: GroundTruth,
    predictions: Predictions,
    *,
    num_videos: int,
    tious: Sequence[float],
    samples: int = SAMPLES,
    seed: int = 0,
) -> Interval | None:
    """Interval of the average mAP that holds 90 % of its values on videos drawn anew from the measured ones.

    None where there are fewer than two videos with actions. See `bootstrap_values`.
    """
    if not can_be_told(ground_truth.video):
        return None
    values = bootstrap_values(ground_truth, predictions, num_videos=num_videos, tious=tious, samples=samples, seed=seed)
    return Interval(*bounds(values), num_videos)


def can_be_told(videos: np.ndarray) -> bool:
    """Whether draws of videos tell anything of others, by the video of each action: two of them at least have one."""
    return len(np.unique(videos)) >= 2


def bounds(values: np.ndarray) -> tuple[float, float]:
    """Lower and upper bound of the middle 90 % of some values."""
    low, high = np.quantile(values, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return float(low), float(high)


def bootstrap_values(
    ground_truth: GroundTruth,
    predictions: Predictions,
    *,
    num_videos: int,
    tious: Sequence[float],
    samples: int = SAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """Average mAP on videos drawn anew from the measured ones, (samples,) less the draws without any action.

    Videos are drawn with replacement, as many as there are, each with its actions and detections; what comes twice
    counts as two videos. Draws depend on seed and number of videos alone: values of several detectors on the same
    videos, in the same codes, are paired.

    Parameters
    ----------
    num_videos
        Videos are coded 0 .. num_videos - 1.
    samples
        How often they are drawn.
    """
    actions = _rows_of_videos(ground_truth.video, num_videos)
    found = _rows_of_videos(predictions.video, num_videos)
    values = []
    draws = list(draw_videos(num_videos, samples=samples, seed=seed))
    for drawn in progress_bar("evaluate: interval", draws, unit="draw", delay=1):
        rows = np.concatenate([actions[video] for video in drawn])
        if not len(rows):
            continue
        hits = np.concatenate([found[video] for video in drawn])
        truth = GroundTruth(
            video=np.repeat(np.arange(num_videos), [len(actions[video]) for video in drawn]),
            label=ground_truth.label[rows],
            start_seconds=ground_truth.start_seconds[rows],
            end_seconds=ground_truth.end_seconds[rows],
        )
        guesses = Predictions(
            video=np.repeat(np.arange(num_videos), [len(found[video]) for video in drawn]),
            label=predictions.label[hits],
            start_seconds=predictions.start_seconds[hits],
            end_seconds=predictions.end_seconds[hits],
            score=predictions.score[hits],
        )
        values.append(mean_average_precision(truth, guesses, tious=tious).average)
    return np.array(values)


def _rows_of_videos(video: np.ndarray, num_videos: int) -> list[np.ndarray]:
    """Row numbers of each video, in their order."""
    order = np.argsort(video, kind="stable")
    bounds = np.searchsorted(video[order], np.arange(num_videos + 1))
    return [order[bounds[number] : bounds[number + 1]] for number in range(num_videos)]
