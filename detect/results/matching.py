"""Segments against segments: which rows belong together, how far they overlap, who gets whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# A group of more pairs is matched by itself.
CROWDED_PAIRS = 2**16


@dataclass(frozen=True)
class GroupedSegments:
    """Segments as columns, one row each; only those of one group can meet.

    Parameters
    ----------
    group
        (N,) codes.
    start, end
        (N,)
    """

    group: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.group)

    def take(self, rows: np.ndarray) -> GroupedSegments:
        return GroupedSegments(self.group[rows], self.start[rows], self.end[rows])


# Numbers near the largest make infinite lengths, whose shares are 0 or none.
@np.errstate(over="ignore", invalid="ignore")
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


class SegmentMatches(NamedTuple):
    """Who has taken whom: numbers of thresholds, of left and of right segments, (M,) each; unordered."""

    level: np.ndarray
    taker: np.ndarray
    taken: np.ndarray


_NOBODY = SegmentMatches(*(np.zeros(0, dtype=np.int64) for _ in SegmentMatches._fields))


def match_by_group(
    left: GroupedSegments, right: GroupedSegments, thresholds: np.ndarray, *, pairs_at_once: int
) -> SegmentMatches:
    """Let each left segment take the right one of its group that it overlaps most, of those left, at each threshold.

    Parameters
    ----------
    left
        In the order in which they take.
    right
        Groups ascending; of equally near ones in a group the first is taken.
    thresholds
        (I,) least IoU. Who has taken whom at one says nothing of another.
    pairs_at_once
        How many pairs of segments are held in memory at a time.
    """
    # 1. Find each one's partners: those from `first` on, `count` of them.
    first = np.searchsorted(right.group, left.group, side="left")
    begins = run_starts(right.group)
    size = np.zeros(len(right), dtype=np.int64)
    size[begins] = np.diff(begins, append=len(right))
    at = np.minimum(first, len(right) - 1)
    count = np.where(right.group[at] == left.group, size[at], 0)
    most = min(CROWDED_PAIRS, pairs_at_once)
    if count.sum() <= most:
        return _match_pairs(left, right, first, count, thresholds)
    is_crowded = np.bincount(first, weights=count, minlength=len(right) + 1) > most

    # 2. Take all groups of few pairs at once, or as many of them as memory holds.
    few = np.flatnonzero((count > 0) & ~is_crowded[first])
    if count[few].sum() > pairs_at_once:
        few = few[np.argsort(first[few], kind="stable")]
    begins = run_starts(first[few])
    found = [_NOBODY]
    for some in chunks(np.add.reduceat(count[few], begins) if len(few) else few, pairs_at_once):
        rows = few[begins[some.start] : begins[some.stop] if some.stop < len(begins) else None]
        matches = _match_pairs(left.take(rows), right, first[rows], count[rows], thresholds)
        found.append(matches._replace(taker=rows[matches.taker]))

    # 3. Take crowded groups one by one.
    for begin in np.flatnonzero(is_crowded):
        rows = np.flatnonzero((first == begin) & (count > 0))
        partners = np.arange(begin, begin + count[rows[0]])
        matches = _match_crowd(left.take(rows), right.take(partners), thresholds)
        found.append(SegmentMatches(matches.level, rows[matches.taker], partners[matches.taken]))
    return SegmentMatches(*map(np.concatenate, zip(*found)))


def _match_pairs(
    left: GroupedSegments, right: GroupedSegments, first: np.ndarray, count: np.ndarray, thresholds: np.ndarray
) -> SegmentMatches:
    """Match through a list of all pairs, at all thresholds at once."""
    row, nth = ragged(count)
    partner = first[row] + nth
    near, iou = _near_pairs(
        np.repeat(left.start, count),
        np.repeat(left.end, count),
        right.start[partner],
        right.end[partner],
        least=thresholds.min(),
    )
    row, partner = row[near], partner[near]
    order = _falling_by_row(row, iou)
    row, partner, iou = row[order], partner[order], iou[order]
    # A segment at another threshold is another segment.
    level, pair = np.nonzero(iou >= thresholds[:, None])
    matched = match_in_order(level * len(left) + row[pair], level * len(right) + partner[pair])
    return SegmentMatches(level[matched], row[pair[matched]], partner[pair[matched]])


@np.errstate(over="ignore", invalid="ignore")
def _near_pairs(
    start: np.ndarray, end: np.ndarray, other_start: np.ndarray, other_end: np.ndarray, *, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Places of the pairs whose IoU, as `segment_iou` has it, is `least` or more, and those IoUs.

    Only those that come near it are divided; thresholds are above 0.
    """
    shared = np.minimum(end, other_end)
    shared -= np.maximum(start, other_start)
    np.maximum(shared, 0.0, out=shared)
    union = end - start
    union += other_end - other_start
    union -= shared
    # With room for rounding, so that the division alone decides.
    place = np.flatnonzero((shared >= 0.999 * least * union) & (shared > 0))
    iou = shared[place] / union[place]
    is_near = iou >= least
    return place[is_near], iou[is_near]


def _falling_by_row(row: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Order by row, which they come in, then by falling value, the earlier of equals first."""
    begins = run_starts(row)
    count = np.diff(begins, append=len(row))
    width = int(count.max(initial=0))
    if len(begins) * width > 4 * len(row):
        return np.lexsort((-value, row))
    # A row each, filled up at its end: small sorts are quick ones.
    place = begins[:, None] + np.arange(width)
    is_there = np.arange(width) < count[:, None]
    table = np.full(place.shape, np.inf)
    table[is_there] = -value
    order = np.argsort(table, axis=1, kind="stable")
    return np.take_along_axis(place, order, axis=1)[is_there]


def _match_crowd(left: GroupedSegments, right: GroupedSegments, thresholds: np.ndarray) -> SegmentMatches:
    """Match one group, a block of left segments at a time: where many want the same, going one by one is quickest."""
    is_taken = np.zeros((len(thresholds), len(right)), dtype=bool)
    # The lowest threshold at which each right segment is left: whoever is nowhere as near as that takes nothing.
    lowest = np.full(len(right), thresholds.min())
    found = [_NOBODY]
    size = max(CROWDED_PAIRS // len(right), 1)
    for start in range(0, len(left), size):
        some = left.take(np.arange(start, min(start + size, len(left))))
        iou = segment_iou(some.start[:, None], some.end[:, None], right.start, right.end)
        for row in np.flatnonzero((iou >= lowest).any(axis=1)):
            near = np.flatnonzero(iou[row] >= lowest)
            if len(near) == 0:  # taken within this block
                continue
            is_free = (iou[row, near] >= thresholds[:, None]) & ~is_taken[:, near]
            best = np.where(is_free, iou[row, near], -1.0).argmax(axis=1)
            level = np.flatnonzero(is_free[np.arange(len(thresholds)), best])
            taken = near[best[level]]
            is_taken[level, taken] = True
            lowest[taken] = np.where(is_taken[:, taken], np.inf, thresholds[:, None]).min(axis=0)
            found.append(SegmentMatches(level, np.full(len(level), start + row), taken))
    return SegmentMatches(*map(np.concatenate, zip(*found)))


def run_starts(codes: np.ndarray) -> np.ndarray:
    """Find the rows at which another code begins, of codes that stand together.

    Examples
    --------
    >>> run_starts(np.array([4, 4, 2, 7, 7])).tolist()
    [0, 2, 3]
    """
    return np.flatnonzero(np.append(True, codes[1:] != codes[:-1])[: len(codes)])


def rows_of(codes: np.ndarray, wanted: np.ndarray) -> list[np.ndarray]:
    """List the rows that hold each of the `wanted` codes (ascending), rows ascending."""
    order = by_code(codes)
    ordered = codes[order]
    first = np.searchsorted(ordered, wanted, side="left")
    last = np.searchsorted(ordered, wanted, side="right")
    return [order[a:b] for a, b in zip(first, last)]


def by_code(codes: np.ndarray) -> np.ndarray:
    """Order by integers, the earlier of equals first."""
    if len(codes) and codes.dtype.kind == "i" and codes.min() >= -(2**15) and codes.max() < 2**15:
        codes = codes.astype(np.int16)  # which numpy sorts by counting
    return np.argsort(codes, kind="stable")


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
