"""Soft-NMS, boundary selection and voting the slow way: one segment after the other.

The overlaps with a segment are computed in one go, as released codes do: an honest opponent for what is faster.
"""

import math

import numpy as np


def tiou(one: tuple[float, float], other: tuple[float, float]) -> float:
    shared = min(one[1], other[1]) - max(one[0], other[0])
    if shared <= 0 or one[1] <= one[0] or other[1] <= other[0]:
        return 0.0
    return shared / ((one[1] - one[0]) + (other[1] - other[0]) - shared)


def soft_nms(
    segments: list[tuple[float, float]], scores: list[float], sigma: float, most_kept: int, lose_last: bool
) -> tuple[list[int], list[float]]:
    """Rows that are kept, and their decayed scores."""
    if len(scores) == 1:
        return [0], list(scores)
    starts, ends = np.array(segments, dtype=np.float64).T
    scores, final = list(scores), list(scores)
    kept: list[int] = []
    num_left = len(scores)
    while num_left > (1 if lose_last else 0) and len(kept) < most_kept:
        best = scores.index(max(scores))
        kept.append(best)
        final[best], scores[best] = scores[best], -1.0
        num_left -= 1
        shared = np.minimum(ends, ends[best]) - np.maximum(starts, starts[best])
        lengths = ends - starts
        meet = (shared > 0) & (lengths > 0) & (lengths[best] > 0)
        overlaps = np.zeros(len(scores))
        overlaps[meet] = shared[meet] / (lengths + lengths[best] - shared)[meet]
        for i, overlap in enumerate(overlaps.tolist()):
            if overlap > 0 and scores[i] >= 0:
                scores[i] *= math.exp(-(overlap**2) / sigma)
    return kept, [final[i] for i in kept]


def may_be_boundary(scores: list[float]) -> list[bool]:
    padded = [0.0, *scores, 0.0]
    peak = [padded[t] < padded[t + 1] > padded[t + 2] for t in range(len(scores))]
    return [peak[t] or scores[t] > 0.5 * max(scores) for t in range(len(scores))]


def vote(
    kept: list[tuple[float, float]], segments: list[tuple[float, float]], scores: list[float], least_iou: float
) -> list[tuple[float, float]]:
    voted = []
    for own in kept:
        near = [i for i in range(len(segments)) if tiou(own, segments[i]) > least_iou]
        total = sum(scores[i] for i in near)
        start = sum(scores[i] * segments[i][0] for i in near)
        end = sum(scores[i] * segments[i][1] for i in near)
        voted.append((start / total, end / total) if total > 0 else tuple(own))
    return voted
