"""How good detections are: mAP and AR@AN, as ActivityNet's official evaluation defines them, without its loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...data.errors import EtadError
from .matching import (
    GroupedSegments,
    by_code,
    chunks,
    descending,
    match_by_group,
    ragged,
    rows_of,
    run_starts,
    segment_iou,
)

ACTIVITYNET_TIOUS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))

PAIRS_AT_ONCE = 1_000_000  # (action, proposal) or (threshold, action, detection), held in memory: 8 MB a column


@dataclass(frozen=True)
class GroundTruth:
    """Annotated actions as columns, one row each; the order of rows decides ties.

    Parameters
    ----------
    video, label
        (G,) codes: any numbers that name videos and labels, the same ones as in the predictions.
    start_seconds, end_seconds
        (G,)
    """

    video: np.ndarray
    label: np.ndarray
    start_seconds: np.ndarray
    end_seconds: np.ndarray

    def __post_init__(self) -> None:
        _check_columns(self, "ground truth", ("start_seconds", "end_seconds"))


@dataclass(frozen=True)
class Predictions:
    """Detections as columns, one row each; of equal scores the later row comes first.

    Parameters
    ----------
    video, label
        (P,) codes; -1, or any other number that no action has, is a video or label without annotated actions.
    start_seconds, end_seconds, score
        (P,)
    """

    video: np.ndarray
    label: np.ndarray
    start_seconds: np.ndarray
    end_seconds: np.ndarray
    score: np.ndarray

    def __post_init__(self) -> None:
        _check_columns(self, "predictions", ("start_seconds", "end_seconds", "score"))


@dataclass(frozen=True)
class MeanAveragePrecision:
    """What `mean_average_precision` measured, as fractions.

    Parameters
    ----------
    tious
        (I,) thresholds.
    labels
        (A,) codes of the labels that have annotated actions, ascending.
    ap
        (I, A) average precision at each threshold, of each label.
    """

    tious: np.ndarray
    labels: np.ndarray
    ap: np.ndarray

    @property
    def mAP(self) -> np.ndarray:
        """Mean over labels, (I,)."""
        return self.ap.mean(axis=1)

    @property
    def average(self) -> float:
        """Mean over thresholds, too."""
        return float(self.mAP.mean())


@dataclass(frozen=True)
class AverageRecall:
    """What `average_recall` measured, as fractions.

    Parameters
    ----------
    tious
        (I,) thresholds.
    recall
        (I, 100) recall at each threshold and number of proposals.
    num_proposals
        (100,) average numbers of proposals per video: 1, 2, .. 100 where videos have that many.
    """

    tious: np.ndarray
    recall: np.ndarray
    num_proposals: np.ndarray

    @property
    def average(self) -> np.ndarray:
        """Mean over thresholds, (100,): the curve AR@AN."""
        return self.recall.mean(axis=0)

    @property
    def area(self) -> float:
        """Area under the curve, as a share of the area of full recall; NaN where there is no proposal."""
        if not self.num_proposals[-1]:
            return float("nan")
        return float(np.trapezoid(self.average, self.num_proposals) / self.num_proposals[-1])

    def at(self, num_proposals: float) -> float:
        """AR at an average number of proposals per video, linear between the measured ones."""
        return float(np.interp(num_proposals, self.num_proposals, self.average))


def mean_average_precision(
    ground_truth: GroundTruth,
    predictions: Predictions,
    *,
    tious: Sequence[float] = ACTIVITYNET_TIOUS,
    normalised: bool = False,
) -> MeanAveragePrecision:
    """Interpolated average precision (VOC 2011) of each label that has actions (A.4).

    Detections of a label are gone through by falling score. Each takes the action of its video and label that it
    overlaps most, among those not yet taken, if their IoU reaches the threshold; else it is a false positive.
    Detections in videos without annotated actions are false positives, those of labels without any are ignored.
    An action and a detection that are both empty have IoU 0 (the official code divides by zero and calls it a hit).

    Parameters
    ----------
    ground_truth, predictions, tious
        What was annotated, what was found, and from which IoU on it counts.
    normalised
        Normalised mAP (mAP_N): hits weigh as if each label had as many actions as they have on average, so that what is
        frequent is not precise for that alone.

    Raises
    ------
    EtadError
        There is no annotated action, or no threshold.
    """
    thresholds = _thresholds(tious)
    labels = np.unique(ground_truth.label)
    if len(labels) == 0:
        raise EtadError("the ground truth holds no action, so mAP is undefined. Check the subset's name.")
    ap = np.zeros((len(thresholds), len(labels)))
    action_rows = rows_of(ground_truth.label, labels)
    detection_rows = rows_of(predictions.label, labels)
    average = len(ground_truth.label) / len(labels)
    for column, (actions, detections) in enumerate(zip(action_rows, detection_rows)):
        weight = average / len(actions) if normalised else 1.0
        ap[:, column] = _average_precision(ground_truth, actions, predictions, detections, thresholds, weight)
    return MeanAveragePrecision(thresholds, labels, ap)


def localisation_precision(
    ground_truth: GroundTruth,
    predictions: Predictions,
    *,
    tious: Sequence[float] = ACTIVITYNET_TIOUS,
    ranked: np.ndarray | None = None,
) -> MeanAveragePrecision:
    """Average precision of the segments alone: all labels are one, and a segment counts once, at its best score.

    What lies between this and the mAP is lost by classes.

    Parameters
    ----------
    ranked
        What `rank_proposals` gives, where it is known.

    Raises
    ------
    EtadError
        There is no annotated action, or no threshold.
    """
    rows = np.sort(rank_proposals(predictions) if ranked is None else ranked)
    segments = Predictions(
        predictions.video[rows],
        np.zeros(len(rows), dtype=np.int64),
        predictions.start_seconds[rows],
        predictions.end_seconds[rows],
        predictions.score[rows],
    )
    actions = GroundTruth(
        ground_truth.video,
        np.zeros(len(ground_truth.label), dtype=np.int64),
        ground_truth.start_seconds,
        ground_truth.end_seconds,
    )
    return mean_average_precision(actions, segments, tious=tious)


def average_recall(
    ground_truth: GroundTruth,
    predictions: Predictions,
    *,
    tious: Sequence[float] = ACTIVITYNET_TIOUS,
    most_proposals: float = 100,
    distinct: bool = True,
    ranked: np.ndarray | None = None,
) -> AverageRecall:
    """Recall of the actions, labels aside, by the average number of proposals per video (AR@AN).

    Each video gives the same share of its proposals, its best ones: `most_proposals` x videos / proposals of them.
    That share is then raised in 100 steps. Videos without annotated actions do not count.

    Parameters
    ----------
    ground_truth, predictions
        What was annotated and what was found.
    tious
        (I,) thresholds.
    most_proposals
        Proposals per video, on average, at the end of the curve.
    distinct
        Count a segment once that was found with several labels, at its best score. Lists of proposals that
        hold no labels need no such care (ActivityNet's proposal task takes them as they are: False).
    ranked
        What `rank_proposals` gives, where it is known.

    Raises
    ------
    EtadError
        There is no annotated action, or no threshold.
    """
    thresholds = _thresholds(tious)
    videos, video_of_action = np.unique(ground_truth.video, return_inverse=True)
    if len(videos) == 0:
        raise EtadError("the ground truth holds no action, so recall is undefined. Check the subset's name.")

    # 1. Rank each video's proposals and cut them to the share that all videos give. The share is one of all
    #    proposals, of whatever video.
    rows = rank_proposals(predictions, distinct=distinct) if ranked is None else ranked
    share = most_proposals * len(videos) / max(len(rows), 1)
    video = predictions.video[rows]
    first, last = (np.searchsorted(video, videos, side=side) for side in ("left", "right"))
    num_given = ((last - first) * share).astype(np.int64)
    num_given = np.minimum(num_given, last - first)
    start, end = predictions.start_seconds[rows], predictions.end_seconds[rows]
    steps = np.arange(1, 101) / 100 * (most_proposals * len(videos) / max(num_given.sum(), 1))

    # 2. For each action and threshold, find the rank of the first proposal that reaches it.
    first_rank = np.full((len(thresholds), len(video_of_action)), np.iinfo(np.int64).max)
    for actions in chunks(num_given[video_of_action], PAIRS_AT_ONCE):
        action, rank = ragged(num_given[video_of_action[actions]])
        action += actions.start
        row = first[video_of_action[action]] + rank
        iou = segment_iou(ground_truth.start_seconds[action], ground_truth.end_seconds[action], start[row], end[row])
        for i, threshold in enumerate(thresholds):
            hit = np.flatnonzero(iou >= threshold)[::-1]
            # Ranks rise within an action: written from behind, its first hit is the one that stays.
            first_rank[i, action[hit]] = rank[hit]

    # 3. An action counts from the step on at which its video shows that proposal.
    num_found = np.zeros((len(thresholds), len(steps)), dtype=np.int64)
    by_video = np.argsort(video_of_action, kind="stable")
    for some in chunks(np.full(len(videos), len(steps)), PAIRS_AT_ONCE):
        # How many of its proposals each video shows at each step, (v, 100).
        given = num_given[some, None]
        num_shown = np.minimum((given * steps).astype(np.int64), given)
        bounds = np.searchsorted(video_of_action[by_video], [some.start, some.stop])
        shown = by_video[slice(*bounds)]
        # Numbers rise from step to step. Behind those of the videos before it, all of them rise.
        before = np.arange(len(given)) * (num_given.max() + 1)
        rising = (num_shown + before[:, None]).ravel()
        place = video_of_action[shown] - some.start
        for found, ranks in zip(num_found, first_rank[:, shown]):
            hit = ranks < num_given[some][place]
            first_step = np.searchsorted(rising, before[place[hit]] + ranks[hit], side="right")
            found += np.bincount(first_step - place[hit] * len(steps), minlength=len(steps) + 1)[:-1]
    recall = num_found.cumsum(axis=1) / len(video_of_action)
    return AverageRecall(thresholds, recall, steps * (num_given.sum() / len(videos)))


def rank_proposals(predictions: Predictions, *, distinct: bool = True) -> np.ndarray:
    """Order all rows by video, then by falling score, the later of equals first.

    Parameters
    ----------
    distinct
        Keep the first one of each segment of a video.
    """
    rows = by_code(predictions.video)
    video = predictions.video[rows]
    first = run_starts(video)
    count = np.diff(first, append=len(rows))
    ranked, is_kept = np.empty_like(rows), np.ones(len(rows), dtype=bool)
    # Videos of like counts are the rows of one table, at most half of it empty: small sorts are quick ones.
    width_of = 2 ** np.ceil(np.log2(count)).astype(np.int64)
    for width in np.unique(width_of):
        alike = np.flatnonzero(width_of == width)
        for some in chunks(np.full(len(alike), width), PAIRS_AT_ONCE):
            begin, size = first[alike[some], None], count[alike[some], None]
            place = np.arange(width)
            is_there = place < size
            # Later rows first: so they win ties of score.
            row = rows[np.maximum(begin + size - 1 - place, 0)]
            order = np.argsort(np.where(is_there, -predictions.score[row], np.inf), axis=1, kind="stable")
            row = np.take_along_axis(row, order, axis=1)
            slot = (begin + place)[is_there]
            ranked[slot] = row[is_there]
            if distinct:
                is_kept[slot] = _first_of_each(predictions, row, is_there)[is_there]
    return ranked[is_kept]


def _average_precision(
    ground_truth: GroundTruth,
    actions: np.ndarray,
    predictions: Predictions,
    detections: np.ndarray,
    thresholds: np.ndarray,
    weight: float,
) -> np.ndarray:
    """AP of one label at each threshold, (I,); `actions` and `detections` are its rows, a hit weighs `weight`."""
    detections = detections[descending(predictions.score[detections])]
    # Later rows first: so they win ties of IoU.
    actions = actions[by_code(ground_truth.video[actions])][::-1]
    level, rank, _ = match_by_group(
        GroupedSegments(
            -predictions.video[detections],
            predictions.start_seconds[detections],
            predictions.end_seconds[detections],
        ),
        GroupedSegments(
            -ground_truth.video[actions], ground_truth.start_seconds[actions], ground_truth.end_seconds[actions]
        ),
        thresholds,
        pairs_at_once=max(PAIRS_AT_ONCE // len(thresholds), 1),
    )
    ap = np.zeros(len(thresholds))
    for i in range(len(thresholds)):
        hits = np.sort(rank[level == i])
        # Precision only falls between hits, so the interpolated curve is known from them alone.
        count = np.arange(1, len(hits) + 1)
        precision = weight * count / (weight * count + (hits + 1 - count))
        ap[i] = np.maximum.accumulate(precision[::-1]).sum() / len(actions)
    return ap


def _first_of_each(predictions: Predictions, row: np.ndarray, is_there: np.ndarray) -> np.ndarray:
    """Whether each one of a video's rows, (v, n), is the first of its segment."""
    start, end = (
        np.where(is_there, column[row], np.inf) for column in (predictions.start_seconds, predictions.end_seconds)
    )
    together = np.argsort(end, axis=1, kind="stable")
    by_start = np.argsort(np.take_along_axis(start, together, axis=1), axis=1, kind="stable")
    together = np.take_along_axis(together, by_start, axis=1)
    start, end = (np.take_along_axis(column, together, axis=1) for column in (start, end))
    is_first = np.ones(row.shape, dtype=bool)
    is_new = (start[:, 1:] != start[:, :-1]) | (end[:, 1:] != end[:, :-1])
    np.put_along_axis(is_first, together[:, 1:], is_new, axis=1)
    return is_first


def _thresholds(tious: Sequence[float]) -> np.ndarray:
    thresholds = np.asarray(tious, dtype=np.float64)
    if len(thresholds) == 0 or not ((thresholds > 0) & (thresholds <= 1)).all():
        raise EtadError(f"tIoU thresholds are {thresholds.tolist()}; give one or more of them, above 0 and up to 1.")
    return thresholds


def _check_columns(table: GroundTruth | Predictions, name: str, numbers: tuple[str, ...]) -> None:
    lengths = {key: np.shape(column) for key, column in vars(table).items()}
    assert len(set(lengths.values())) == 1, f"{name}: columns of different lengths {lengths}"
    for key in numbers:
        bad = np.flatnonzero(~np.isfinite(getattr(table, key)))
        if len(bad):
            raise EtadError(
                f"{name}: {key} is {getattr(table, key)[bad[0]]} in row {bad[0]} (and {len(bad) - 1} more). "
                "Scores and segments must be finite numbers."
            )
