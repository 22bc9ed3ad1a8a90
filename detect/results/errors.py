"""What is wrong with each false positive: the kinds of errors of DETAD (ECCV 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .matching import GroupedSegments, SegmentMatches, chunks, match_by_group, ragged, segment_iou
from .metrics import PAIRS_AT_ONCE, GroundTruth, Predictions

# A detection that overlaps no action by this tIoU lies in the background.
BACKGROUND_TIOU = 0.1

HIT, DOUBLE, WRONG_LABEL, LOCALISATION, CONFUSION, BACKGROUND = range(6)
KINDS = ("hit", "double", "wrong_label", "localisation", "confusion", "background")


@dataclass(frozen=True)
class Overlaps:
    """The action that each detection overlaps most, of its own label and of the others.

    Parameters
    ----------
    own, other
        (N,) tIoU; 0 where there is none.
    own_action, other_action
        (N,) rows of the ground truth, the last one of equally near ones; -1 where there is none.
    """

    own: np.ndarray
    own_action: np.ndarray
    other: np.ndarray
    other_action: np.ndarray


def find_overlaps(ground_truth: GroundTruth, predictions: Predictions) -> Overlaps:
    """Compare each detection with all actions of its video, a bounded number of pairs at a time."""
    count = len(predictions.score)
    found = Overlaps(np.zeros(count), np.full(count, -1), np.zeros(count), np.full(count, -1))
    # Later rows first: so they win ties of IoU.
    actions = np.argsort(ground_truth.video, kind="stable")[::-1]
    video = -ground_truth.video[actions]
    first = np.searchsorted(video, -predictions.video, side="left")
    num_partners = np.searchsorted(video, -predictions.video, side="right") - first
    for some in chunks(num_partners, PAIRS_AT_ONCE):
        row, nth = ragged(num_partners[some])
        row += some.start
        action = actions[first[row] + nth]
        iou = segment_iou(
            predictions.start_seconds[row],
            predictions.end_seconds[row],
            ground_truth.start_seconds[action],
            ground_truth.end_seconds[action],
        )
        is_own = ground_truth.label[action] == predictions.label[row]
        for tiou, which, chosen in (
            (found.own, found.own_action, is_own),
            (found.other, found.other_action, ~is_own),
        ):
            near = np.flatnonzero(chosen & (iou > 0))
            np.maximum.at(tiou, row[near], iou[near])
            best = near[iou[near] == tiou[row[near]]][::-1]
            which[row[best]] = action[best]  # from behind, so that the first one stays
    return found


def match_detections(ground_truth: GroundTruth, predictions: Predictions, tious: np.ndarray) -> SegmentMatches:
    """Let detections take actions as `mean_average_precision` does, all labels at once.

    Returns
    -------
    SegmentMatches
        Numbers of thresholds, rows of the predictions, rows of the ground truth.
    """
    order = np.argsort(predictions.score, kind="stable")[::-1]
    most = max(ground_truth.label.max(initial=0), predictions.label.max(initial=0)) + 1
    group = ground_truth.video * most + ground_truth.label
    # Later rows first: so they win ties of IoU.
    actions = np.argsort(group, kind="stable")[::-1]
    matches = match_by_group(
        GroupedSegments(
            -(predictions.video * most + predictions.label)[order],
            predictions.start_seconds[order],
            predictions.end_seconds[order],
        ),
        GroupedSegments(-group[actions], ground_truth.start_seconds[actions], ground_truth.end_seconds[actions]),
        tious,
        pairs_at_once=max(PAIRS_AT_ONCE // len(tious), 1),
    )
    return SegmentMatches(matches.level, order[matches.taker], actions[matches.taken])


def classify(overlaps: Overlaps, is_hit: np.ndarray, tiou: float) -> np.ndarray:
    """Say of each detection what it is, (N,) numbers of `KINDS`.

    What reaches the threshold with an action of its own label that a better one has taken is a double, with one of
    another label a wrong label. What reaches `BACKGROUND_TIOU` with its own label is badly localised, with another one
    a confusion of both. An action of its own label goes first.
    """
    least = min(BACKGROUND_TIOU, tiou)
    conditions = [
        is_hit,
        overlaps.own >= tiou,
        overlaps.other >= tiou,
        overlaps.own >= least,
        overlaps.other >= least,
    ]
    return np.select(conditions, [HIT, DOUBLE, WRONG_LABEL, LOCALISATION, CONFUSION], BACKGROUND).astype(np.int8)
