"""How good detections are: mAP and AR@AN, as ActivityNet's official evaluation defines them, without its loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...data.errors import EtadError
from .matching import chunks, descending, match_in_order, ragged, rows_of, segment_iou

ACTIVITYNET_TIOUS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
THUMOS_TIOUS = (0.3, 0.4, 0.5, 0.6, 0.7)

PAIRS_AT_ONCE = 4_000_000  # (action, proposal) pairs held in memory: 32 MB a column


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
        """Area under the curve, as a share of the area of full recall."""
        return float(np.trapezoid(self.average, self.num_proposals) / self.num_proposals[-1])

    def at(self, num_proposals: float) -> float:
        """AR at an average number of proposals per video, linear between the measured ones."""
        return float(np.interp(num_proposals, self.num_proposals, self.average))


def mean_average_precision(
    ground_truth: GroundTruth, predictions: Predictions, *, tious: Sequence[float] = ACTIVITYNET_TIOUS
) -> MeanAveragePrecision:
    """Interpolated average precision (VOC 2011) of each label that has actions (A.4).

    Detections of a label are gone through by falling score. Each takes the action of its video and label that it
    overlaps most, among those not yet taken, if their IoU reaches the threshold; else it is a false positive.
    Detections in videos without annotated actions are false positives, those of labels without any are ignored.
    An action and a detection that are both empty have IoU 0 (the official code divides by zero and calls it a hit).

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
    for column, (actions, detections) in enumerate(zip(action_rows, detection_rows)):
        ap[:, column] = _average_precision(ground_truth, actions, predictions, detections, thresholds)
    return MeanAveragePrecision(thresholds, labels, ap)


def average_recall(
    ground_truth: GroundTruth,
    predictions: Predictions,
    *,
    tious: Sequence[float] = ACTIVITYNET_TIOUS,
    most_proposals: float = 100,
    distinct: bool = True,
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
    ranked = [_ranked(predictions, rows, distinct) for rows in rows_of(predictions.video, videos)]
    elsewhere = np.setdiff1d(predictions.video, videos)
    num_elsewhere = sum(len(_ranked(predictions, rows, distinct)) for rows in rows_of(predictions.video, elsewhere))
    share = most_proposals * len(videos) / max(sum(map(len, ranked)) + num_elsewhere, 1)
    ranked = [rows[: int(len(rows) * share)] for rows in ranked]
    num_given = np.array([len(rows) for rows in ranked])
    steps = np.arange(1, 101) / 100 * (most_proposals * len(videos) / max(num_given.sum(), 1))
    # (V, 100): how many of its proposals each video shows at each step.
    num_shown = np.minimum((num_given[:, None] * steps).astype(np.int64), num_given[:, None])

    # 2. For each action and threshold, find the rank of the first proposal that reaches it.
    start = predictions.start_seconds[np.concatenate(ranked)]
    end = predictions.end_seconds[np.concatenate(ranked)]
    first_row = np.cumsum(num_given) - num_given
    first_rank = np.full((len(thresholds), len(video_of_action)), np.iinfo(np.int64).max)
    for actions in chunks(num_given[video_of_action], PAIRS_AT_ONCE):
        counts = num_given[video_of_action[actions]]
        action, rank = ragged(counts)
        action += actions.start
        row = first_row[video_of_action[action]] + rank
        iou = segment_iou(ground_truth.start_seconds[action], ground_truth.end_seconds[action], start[row], end[row])
        for i, threshold in enumerate(thresholds):
            hit = np.flatnonzero(iou >= threshold)[::-1]
            # Ranks rise within an action: written from behind, its first hit is the one that stays.
            first_rank[i, action[hit]] = rank[hit]

    # 3. An action counts from the step on at which its video shows that proposal.
    recall = np.stack([(num_shown[video_of_action] > ranks[:, None]).mean(axis=0) for ranks in first_rank])
    return AverageRecall(thresholds, recall, steps * (num_given.sum() / len(videos)))


def _average_precision(
    ground_truth: GroundTruth,
    actions: np.ndarray,
    predictions: Predictions,
    detections: np.ndarray,
    thresholds: np.ndarray,
) -> np.ndarray:
    """AP of one label at each threshold, (I,); `actions` and `detections` are its rows."""
    detections = detections[descending(predictions.score[detections])]
    # 1. Pair each detection with the actions of its video. Later rows first: so they win ties of IoU.
    actions = actions[np.argsort(ground_truth.video[actions], kind="stable")][::-1]
    videos = -ground_truth.video[actions]
    wanted = -predictions.video[detections]
    first = np.searchsorted(videos, wanted, side="left")
    rank, nth = ragged(np.searchsorted(videos, wanted, side="right") - first)
    action = first[rank] + nth
    iou = segment_iou(
        predictions.start_seconds[detections[rank]],
        predictions.end_seconds[detections[rank]],
        ground_truth.start_seconds[actions[action]],
        ground_truth.end_seconds[actions[action]],
    )
    near = np.flatnonzero(iou >= thresholds.min())
    near = near[np.lexsort((-iou[near], rank[near]))]
    rank, action, iou = rank[near], action[near], iou[near]

    # 2. Match at all thresholds at once: a detection (action) at another threshold is another detection (action).
    level, pair = np.nonzero(iou >= thresholds[:, None])
    matched = match_in_order(level * len(detections) + rank[pair], level * len(actions) + action[pair])
    ap = np.zeros(len(thresholds))
    for i in range(len(thresholds)):
        hits = np.sort(rank[pair[matched[level[matched] == i]]])
        # Precision only falls between hits, so the interpolated curve is known from them alone.
        precision = np.arange(1, len(hits) + 1) / (hits + 1)
        ap[i] = np.maximum.accumulate(precision[::-1]).sum() / len(actions)
    return ap


def _ranked(predictions: Predictions, rows: np.ndarray, distinct: bool) -> np.ndarray:
    """Order one video's rows by falling score; where `distinct`, keep the first one of each segment."""
    rows = rows[descending(predictions.score[rows])]
    if not distinct:
        return rows
    segments = predictions.start_seconds[rows] + 1j * predictions.end_seconds[rows]
    together = np.argsort(segments, kind="stable")
    is_first = np.ones(len(rows), dtype=bool)
    is_first[together[1:]] = segments[together[1:]] != segments[together[:-1]]
    return rows[is_first]


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
