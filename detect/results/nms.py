"""From thousands of scored proposals to the few that are kept: boundary selection, Gaussian soft-NMS, voting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...data.errors import EtadError
from ..kernels import map_parallel
from .matching import segment_iou

# Proposals that go through soft-NMS side by side, 48 bytes each: more of them no longer fit into a core's cache.
PROPOSALS_AT_ONCE = 16384

# Keeps the IoU of two empty segments at 0 / this, and changes no length that a float64 can tell from another.
_TINY = 1e-300


@dataclass(frozen=True)
class Survivors:
    """What soft-NMS keeps of one video, by falling decayed score.

    Parameters
    ----------
    index
        (n,) rows of the video's proposals.
    score
        (n,) their decayed scores, float64.
    """

    index: np.ndarray
    score: np.ndarray


def select_by_boundary(segments: np.ndarray, startness: np.ndarray, endness: np.ndarray) -> np.ndarray:
    """List the proposals that begin where one may begin and end where one may end (BMN; A.4).

    A snippet may start (end) a proposal where its startness (endness) exceeds half the video's maximum or is a
    strict local peak, 0 beyond both ends; the first may always start, the last always end.

    Parameters
    ----------
    segments
        (K, 2) averaged start and end, fractions of the window; they may leave it, or be reversed.
    startness, endness
        (T,)

    Returns
    -------
    np.ndarray
        (n,) rows of `segments`, ascending.

    Raises
    ------
    EtadError
        Something is not finite.
    """
    _check_finite(segments, startness, endness)
    may_start, may_end = is_boundary(startness), is_boundary(endness)
    may_start[0] = True
    may_end[-1] = True
    first, last = snippets_of(segments, len(startness))
    # `take` and not an index: several times faster on a few thousand.
    return np.flatnonzero(may_start.take(first) & may_end.take(last))


def snippets_of(segments: np.ndarray, num_snippets: int) -> np.ndarray:
    """Find the snippets at which finite boundaries are read, as `proposals.snippet_of` does.

    Parameters
    ----------
    segments
        (K, 2) fractions of the window.

    Returns
    -------
    np.ndarray
        (2, K) integers, of the starts and of the ends.

    Examples
    --------
    >>> snippets_of(np.array([[0.3, 1.2], [-0.1, 0.5]]), 4).tolist()
    [[1, 0], [3, 2]]
    """
    places = segments.T.astype(np.float32, order="C")  # [2, K]
    places *= np.float32(num_snippets)
    return np.clip(places, 0, num_snippets - 1, out=places).astype(np.intp)


def is_boundary(scores: np.ndarray) -> np.ndarray:
    """Mark scores above half their maximum and strict local peaks, (T,).

    Examples
    --------
    >>> is_boundary(np.array([0.1, 0.3, 0.2, 0.9, 0.5])).tolist()
    [False, True, False, True, True]
    """
    beyond = np.pad(scores, 1)
    peak = (scores > beyond[:-2]) & (scores > beyond[2:])
    return peak | (scores > 0.5 * scores.max())


def soft_nms(
    segments: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    *,
    sigma: float,
    most_kept: int,
    lose_last: bool = False,
) -> list[Survivors]:
    """Keep the best proposal, decay all others by exp(-IoU^2 / sigma), and so on: of many videos at once (A.4).

    Of equal scores the first row is kept first. Computed in float64; segments are not clipped. It stops as soon as
    `most_kept` are kept, and costs most_kept x proposals: videos run side by side only to spread the overhead.

    Parameters
    ----------
    segments
        Per video (K, 2) start and end, in any unit.
    scores
        Per video (K,), not negative.
    sigma
        The smaller, the harder the decay.
    most_kept
        Proposals to keep of a video.
    lose_last
        Stop when one proposal is left, and lose it (the released model). A lone proposal is kept all the same.

    Raises
    ------
    EtadError
        Segments or scores are not finite, or a score is negative.
    """
    assert sigma >= 0.01, f"sigma is {sigma}: below 0.01 the decay of equal segments is no number above 0"

    def suppress(videos: list[int]) -> list[Survivors]:
        sizes = [len(scores[video]) for video in videos]
        wanted = [min(most_kept, size - 1 if lose_last and size > 1 else size) for size in sizes]
        start, end = np.zeros((2, len(videos), max(sizes)))
        score = np.full((len(videos), max(sizes)), -np.inf)
        for row, (video, size) in enumerate(zip(videos, sizes)):
            start[row, :size], end[row, :size] = np.asarray(segments[video]).T
            score[row, :size] = scores[video]
            _check(start[row, :size], end[row, :size], score[row, :size])
        run = _soft_nms_of_one if len(videos) == 1 else _soft_nms_side_by_side
        index, decayed = run(start, end, score, sigma=sigma, most_kept=max(wanted))
        return [Survivors(index[row, :count], decayed[row, :count]) for row, count in enumerate(wanted)]

    kept = [Survivors(np.empty(0, dtype=np.int64), np.empty(0)) for _ in scores]
    groups = _side_by_side([len(own) for own in scores])
    for videos, of_group in zip(groups, map_parallel(suppress, groups)):
        for video, own in zip(videos, of_group):
            kept[video] = own
    return kept


def vote(kept: np.ndarray, segments: np.ndarray, scores: np.ndarray, *, least_iou: float) -> np.ndarray:
    """Move each kept segment to the mean of all segments that hardly differ from it, weighted by score.

    Parameters
    ----------
    kept
        (n, 2) start and end of what soft-NMS kept.
    segments, scores
        (K, 2) and (K,): the video's segments before soft-NMS.
    least_iou
        Segments above this IoU vote. One that gets no vote (all scores are 0) stays where it is.

    Returns
    -------
    np.ndarray
        (n, 2)
    """
    # A window of near segments would do, but a video has a few thousand of them: one table of IoUs is small.
    iou = segment_iou(kept[:, None, 0], kept[:, None, 1], segments[None, :, 0], segments[None, :, 1])
    weights = np.where(iou > least_iou, scores, 0.0)  # [n, K]
    total = weights.sum(axis=1, keepdims=True)
    voted = (weights @ segments) / np.where(total > 0, total, 1.0)
    return np.where(total > 0, voted, kept)


def _soft_nms_side_by_side(
    start: np.ndarray, end: np.ndarray, score: np.ndarray, *, sigma: float, most_kept: int
) -> tuple[np.ndarray, np.ndarray]:
    """Run soft-NMS on (B, K) proposals, padded with scores of -inf; rows and decayed scores, (B, most_kept) each."""
    # A reversed segment overlaps nothing, as an empty one.
    end = np.maximum(start, end)
    # One table, so that one look-up reads all there is to know about the kept proposals. The end is negated: then
    # the later start and the (negated) earlier end are the same maximum, and their sum is minus the intersection.
    table = np.stack([start, -end, np.maximum(end - start, _TINY), score])  # [4, B, K]
    sides, lengths, score = table[:2], table[2], table[3]
    videos = np.arange(score.shape[0])
    index = np.empty((most_kept, score.shape[0]), dtype=np.int64)
    decayed = np.empty((most_kept, score.shape[0]))
    work = np.empty_like(sides)
    iou, union = work
    for step in range(most_kept):
        best = score.argmax(axis=1)
        chosen = table[:, videos, best]  # [4, B]
        index[step], decayed[step] = best, chosen[3]
        score[videos, best] = -np.inf
        np.maximum(sides, chosen[:2, :, None], out=work)
        np.add(work[0], work[1], out=iou)
        np.add(lengths, chosen[2, :, None], out=union)
        union += iou
        iou /= union
        # Below 0 is minus the IoU, above 0 lies a gap between the two.
        np.minimum(iou, 0.0, out=iou)
        iou *= iou
        iou /= -sigma
        score *= np.exp(iou, out=iou)
    return index.T, decayed.T


def _soft_nms_of_one(
    start: np.ndarray, end: np.ndarray, score: np.ndarray, *, sigma: float, most_kept: int
) -> tuple[np.ndarray, np.ndarray]:
    """Run soft-NMS on one video's (1, K) proposals, (1, most_kept) each: the same numbers, with fewer calls.

    Half the time of one video goes into calling. With plain numbers for the kept proposal, one call cuts all segments
    to it, and empty ones need no care; side by side, with arrays of them, that call is slower than it saves.
    """
    sides = np.stack([start[0], np.maximum(start[0], end[0])])  # [2, K]
    length = np.maximum(sides[1] - sides[0], _TINY)
    score = score[0]
    index, decayed = np.empty((1, most_kept), dtype=np.int64), np.empty((1, most_kept))
    work = np.empty_like(sides)
    first, last = iou, union = work
    for step in range(most_kept):
        best = int(score.argmax())
        index[0, step], decayed[0, step] = best, score[best]
        score[best] = -np.inf
        sides.clip(sides[0, best], sides[1, best], out=work)
        np.subtract(last, first, out=iou)
        np.add(length, length[best], out=union)
        np.subtract(union, iou, out=union)
        np.divide(iou, union, out=iou)
        np.multiply(iou, iou, out=iou)
        np.divide(iou, -sigma, out=iou)
        np.exp(iou, out=iou)
        np.multiply(score, iou, out=score)
    return index, decayed


def _side_by_side(sizes: Sequence[int]) -> list[list[int]]:
    """Group videos of similar size, so that little is padded, as many as fit; those without proposals are left out."""
    groups: list[list[int]] = []
    for video in sorted(np.flatnonzero(sizes).tolist(), key=lambda video: sizes[video]):
        # Sizes ascend: the new video's is what the whole group is padded to.
        if groups and (len(groups[-1]) + 1) * sizes[video] <= PROPOSALS_AT_ONCE:
            groups[-1].append(video)
        else:
            groups.append([video])
    return groups


def _check(start: np.ndarray, end: np.ndarray, score: np.ndarray) -> None:
    _check_finite(start, end, score)
    if score.min() < 0:
        raise EtadError(f"soft-NMS got a proposal with the negative score {score.min()}; scores are 0 or more.")


def _check_finite(*arrays: np.ndarray) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise EtadError(
            "a video's proposals hold numbers that are not finite: the detector that made them has diverged. "
            "Take an earlier checkpoint, or train with a smaller learning rate."
        )
