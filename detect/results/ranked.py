"""Average precision of detections whose hits are known, on many draws of videos at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

# (hit, draw) pairs held in memory: 16 MB a column.
PAIRS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class RankedDetections:
    """Detections as columns: labels ascending, those of a label in the order in which they count.

    Parameters
    ----------
    label
        (N,) 0 .. A - 1.
    video
        (N,) 0 .. V - 1.
    is_hit
        (N,) whether each one has found an action.
    """

    label: np.ndarray
    video: np.ndarray
    is_hit: np.ndarray

    def keep(self, is_kept: np.ndarray) -> RankedDetections:
        return replace(self, label=self.label[is_kept], video=self.video[is_kept], is_hit=self.is_hit[is_kept])


def draw_videos(num_videos: int, *, samples: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Draw as many videos as there are, with replacement, again and again: (V,) codes of each draw.

    Draws depend on seed and number of videos alone.
    """
    rng = np.random.default_rng([seed, num_videos])
    for _ in range(samples):
        yield rng.integers(num_videos, size=num_videos)


def weigh_videos(num_videos: int, *, samples: int, seed: int = 0) -> np.ndarray:
    """How often each video comes in each draw of `draw_videos`.

    Returns
    -------
    (V, 1 + samples); the first column holds the videos as they are, once.
    """
    drawn = draw_videos(num_videos, samples=samples, seed=seed)
    draws = [np.bincount(codes, minlength=num_videos) for codes in drawn]
    return np.stack([np.ones(num_videos, dtype=np.int64), *draws], axis=1).astype(np.float64)


def count_by_label(label: np.ndarray, video: np.ndarray, weights: np.ndarray, *, num_labels: int) -> np.ndarray:
    """Count rows of each label in each draw, (A, S)."""
    shape = (num_labels, len(weights))
    return np.asarray(csr_matrix((np.ones(len(label)), (label, video)), shape=shape) @ weights)


def average_precision(
    detections: RankedDetections, num_actions: np.ndarray, weights: np.ndarray, *, usual: np.ndarray | None = None
) -> np.ndarray:
    """Interpolated average precision of each label in each draw, (A, S); NaN where a label has no action.

    A video that comes twice counts as two. The order of its copies changes nothing: they stand together, and precision
    is interpolated.

    Parameters
    ----------
    num_actions
        (A, S) actions of each label in each draw.
    weights
        (V, S) how often each video comes in each draw.
    usual
        (S,) number of actions that hits are scaled to (mAP_N); none: each label's own.
    """
    ap = np.where(num_actions > 0, 0.0, np.nan)
    hits = np.flatnonzero(detections.is_hit)
    if not len(hits):
        return ap
    # 1. Each false positive stands before some hit of its label; those behind the last one change nothing.
    following = np.cumsum(detections.is_hit)
    wrong = np.flatnonzero(~detections.is_hit & (following < len(hits)))
    wrong = wrong[detections.label[hits[following[wrong]]] == detections.label[wrong]]
    places = following[wrong], detections.video[wrong]
    false_before = csr_matrix((np.ones(len(wrong)), places), shape=(len(hits), len(weights)))

    # 2. Precision at each hit, label by label, some draws at a time.
    label, video = detections.label[hits], detections.video[hits]
    bounds = np.searchsorted(label, np.arange(len(num_actions) + 1))
    for some in _draws(weights.shape[1], len(hits)):
        right, wrong_ones = weights[video, some], np.asarray(false_before @ weights[:, some])
        for number in np.unique(label):
            of_label = slice(bounds[number], bounds[number + 1])
            found = right[of_label].cumsum(axis=0)
            count = num_actions[number, some]
            known = np.maximum(count, 1.0)
            scaled = found if usual is None else found * (usual[some] / known)
            total = scaled + wrong_ones[of_label].cumsum(axis=0)
            precision = np.divide(scaled, total, out=np.zeros_like(total), where=total > 0)
            best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
            summed = (best * right[of_label]).sum(axis=0)
            ap[number, some] = np.where(count > 0, summed / known, np.nan)
    return ap


def _draws(count: int, num_hits: int) -> Iterator[slice]:
    size = max(PAIRS_AT_ONCE // num_hits, 1)
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))
