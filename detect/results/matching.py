"""Segments against segments: which rows belong together, how far they overlap, who gets whom."""

from collections.abc import Iterator

import numpy as np


def segment_iou(start: np.ndarray, end: np.ndarray, other_start: np.ndarray, other_end: np.ndarray) -> np.ndarray:
    """Temporal IoU of segments, pair by pair; 0 where they do not meet or both are empty.

    Examples
    --------
    >>> segment_iou(np.array([0.0]), np.array([2.0]), np.array([1.0]), np.array([3.0])).round(3).tolist()
    [0.333]
    """
    shared = np.minimum(end, other_end) - np.maximum(start, other_start)
    shared = np.maximum(shared, 0.0)
    union = (end - start) + (other_end - other_start) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def match_in_order(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Go through pairs in order and take those of which neither side is taken yet; return their places, unordered.

    A pair that is the first one left for both its sides is taken whatever happens before it, so all of these are
    taken at once, and a few rounds do.
    """
    taken = []
    left_first = np.empty(left.max(initial=-1) + 1, dtype=np.int64)
    right_first = np.empty(right.max(initial=-1) + 1, dtype=np.int64)
    place = np.arange(len(left))
    while len(place):
        # Of several values written to one place the last one stays: from behind, that is the first.
        left_first[left[place[::-1]]] = place[::-1]
        right_first[right[place[::-1]]] = place[::-1]
        first = (left_first[left[place]] == place) & (right_first[right[place]] == place)
        now = place[first]
        taken.append(now)
        left_first[left[now]] = -1
        right_first[right[now]] = -1
        place = place[(left_first[left[place]] >= 0) & (right_first[right[place]] >= 0)]
    return np.concatenate(taken) if taken else place


def rows_of(codes: np.ndarray, wanted: np.ndarray) -> list[np.ndarray]:
    """List the rows that hold each of the `wanted` codes (ascending), rows ascending."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    first = np.searchsorted(ordered, wanted, side="left")
    last = np.searchsorted(ordered, wanted, side="right")
    return [order[a:b] for a, b in zip(first, last)]


def descending(scores: np.ndarray) -> np.ndarray:
    """Order by falling score, the later of equals first."""
    return np.argsort(scores, kind="stable")[::-1]


def ragged(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the items of rows of different lengths: the row of each item, and its place in that row."""
    row = np.repeat(np.arange(len(counts)), counts)
    return row, np.arange(len(row)) - (np.cumsum(counts) - counts)[row]


def chunks(sizes: np.ndarray, most: int) -> Iterator[slice]:
    """Cut rows into runs whose sizes add up to `most` at most, or are one row."""
    total = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, before + most, side="right")), start + 1)
        yield slice(start, stop)
        start = stop
