"""What the mAP is lost by, and on which actions: an analysis in the spirit of DETAD (ECCV 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...data.errors import EtadError
from ...data.progress import progress_bar
from .characteristics import Characteristic
from .diagnosis import PROFILE, Diagnosis, ErrorCost, Estimate, GroupPrecision, Sensitivity
from .errors import (
    CONFUSION,
    HIT,
    KINDS,
    LOCALISATION,
    WRONG_LABEL,
    Overlaps,
    classify,
    find_overlaps,
    match_detections,
)
from .interval import SAMPLES, SHARE, can_be_told
from .metrics import GroundTruth, Predictions
from .ranked import RankedDetections, average_precision, count_by_label, weigh_videos


def diagnose(
    ground_truth: GroundTruth,
    predictions: Predictions,
    *,
    tious: Sequence[float],
    num_videos: int,
    characteristics: Sequence[Characteristic] = (),
    samples: int = SAMPLES,
) -> Diagnosis:
    """Split false positives into kinds, and measure what each kind and the missed actions cost.

    At each threshold, one kind at a time:

    - removed: the mAP without the false positives of the kind;
    - corrected: the best-scored one that is nearest to an action that nobody has found becomes a hit, with the label
      and segment of that action and its own score; the others of the kind are removed. Backgrounds and doubles can
      only be removed.
    - missed: the mAP if the actions that no detection has taken were not annotated. A label that has no action then
      counts fully where nothing is detected of it, and not at all where something is.

    Parameters
    ----------
    num_videos
        Videos are coded 0 .. num_videos - 1.
    samples
        How often videos are drawn for the intervals.

    Raises
    ------
    EtadError
        There is no annotated action.
    """
    if not len(ground_truth.label):
        raise EtadError("the ground truth holds no action, so there is nothing to diagnose. Check the subset's name.")
    state = _State.of(ground_truth, predictions, np.asarray(tious, dtype=np.float64), num_videos, samples)
    bar = progress_bar("diagnose", range(len(tious)), unit="threshold", delay=1)
    levels = [_at(state, level, characteristics) for level in bar]
    base, told = np.stack([each.mAP for each in levels]), can_be_told(ground_truth.video)  # [I, S]
    normalised = np.stack([each.normalised for each in levels])
    errors = {
        kind: ErrorCost(
            counts=tuple(each.counts[kind] for each in levels),
            removed=tuple((removed - base)[:, 0].tolist()),
            corrected=tuple((corrected - base)[:, 0].tolist()),
            average_removed=_measured(removed - base, told),
            average_corrected=_measured(corrected - base, told),
        )
        for kind in (*KINDS[1:], "missed")
        for removed, corrected in [[np.stack([each.repaired[kind][i] for each in levels]) for i in (0, 1)]]
    }
    return Diagnosis(
        tious=tuple(float(tiou) for tiou in tious),
        mAP=tuple(base[:, 0].tolist()),
        normalised_mAP=tuple(normalised[:, 0].tolist()),
        average_mAP=_measured(base, told),
        average_normalised_mAP=_measured(normalised, told),
        num_actions=len(ground_truth.label),
        num_detections=len(state.predictions.label),
        num_unlabelled=len(predictions.label) - len(state.predictions.label),
        errors=errors,
        profile=np.stack([each.profile for each in levels]),
        sensitivities=tuple(
            _sensitivity(one, [each.groups[place] for each in levels], [each.is_taken for each in levels], ground_truth)
            for place, one in enumerate(characteristics)
        ),
        share=SHARE,
        samples=samples,
    )


@dataclass(frozen=True)
class _State:
    """What holds at all thresholds. Labels are numbered 0 .. A - 1, detections stand in the order of their scores.

    Parameters
    ----------
    weights
        (V, S) how often each video comes in each draw.
    num_actions
        (A, S) of each label in each draw.
    usual
        (S,) actions a label, on average over those that have any.
    by_label
        (N,) rows of the detections, labels ascending, those of one by falling score.
    rank
        (N,) place of each detection among those of its label.
    taker, taken
        For each threshold, rows of the detections that are hits, and of the actions that these have taken.
    """

    ground_truth: GroundTruth
    predictions: Predictions
    tious: np.ndarray
    weights: np.ndarray
    num_actions: np.ndarray
    usual: np.ndarray
    overlaps: Overlaps
    by_label: np.ndarray
    rank: np.ndarray
    taker: list[np.ndarray]
    taken: list[np.ndarray]

    @classmethod
    def of(
        cls, ground_truth: GroundTruth, predictions: Predictions, tious: np.ndarray, num_videos: int, samples: int
    ) -> _State:
        labels, codes = np.unique(ground_truth.label, return_inverse=True)
        truth = replace(ground_truth, video=ground_truth.video.astype(np.int64), label=codes)
        # By falling score, the later of equals first; only of labels that have actions.
        rows = np.argsort(predictions.score, kind="stable")[::-1]
        rows = rows[np.isin(predictions.label[rows], labels)]
        found = Predictions(
            predictions.video[rows].astype(np.int64),
            np.searchsorted(labels, predictions.label[rows]),
            predictions.start_seconds[rows],
            predictions.end_seconds[rows],
            predictions.score[rows],
        )
        # `match_detections` lets the later of equals go first: in front of it they stand the other way round.
        backwards = Predictions(*(column[::-1] for column in vars(found).values()))
        matches = match_detections(truth, backwards, tious)
        takers = len(rows) - 1 - matches.taker
        weights = weigh_videos(num_videos, samples=samples if num_videos > 1 else 0)
        num_actions = count_by_label(truth.label, truth.video, weights, num_labels=len(labels))
        by_label = np.argsort(found.label, kind="stable")
        first = np.searchsorted(found.label[by_label], np.arange(len(labels)))
        rank = np.empty(len(rows), dtype=np.int64)
        rank[by_label] = np.arange(len(rows)) - first[found.label[by_label]]
        return cls(
            ground_truth=truth,
            predictions=found,
            tious=tious,
            weights=weights,
            num_actions=num_actions,
            usual=num_actions.sum(axis=0) / np.maximum((num_actions > 0).sum(axis=0), 1),
            overlaps=find_overlaps(truth, found),
            by_label=by_label,
            rank=rank,
            taker=[takers[matches.level == level] for level in range(len(tious))],
            taken=[matches.taken[matches.level == level] for level in range(len(tious))],
        )

    def mean(
        self,
        detections: RankedDetections,
        num_actions: np.ndarray | None = None,
        *,
        normalised: bool = False,
        complete: np.ndarray | None = None,
    ) -> np.ndarray:
        """Mean over the labels of average precision, (S,); NaN where no label has an action.

        Parameters
        ----------
        num_actions
            (A, S) of those that count; all by default.
        complete
            (A, S) what a label counts that has actions, but none of those that count; none: nothing.
        """
        counted = self.num_actions if num_actions is None else num_actions
        usual = self.usual if normalised else None
        ap = average_precision(detections, counted, self.weights, usual=usual)
        if complete is not None:
            ap = np.where((counted == 0) & (self.num_actions > 0), complete, ap)
        known = np.isfinite(ap)
        return np.where(known, ap, 0.0).sum(axis=0) / np.where(known.any(axis=0), known.sum(axis=0), np.nan)

    def ranked(
        self, is_hit: np.ndarray, *, is_kept: np.ndarray | None = None, label: np.ndarray | None = None
    ) -> RankedDetections:
        """The detections with some of them left out, or under other labels."""
        if label is None:
            rows = self.by_label if is_kept is None else self.by_label[is_kept[self.by_label]]
            return RankedDetections(self.predictions.label[rows], self.predictions.video[rows], is_hit[rows])
        rows = np.arange(len(label)) if is_kept is None else np.flatnonzero(is_kept)
        rows = rows[np.argsort(label[rows], kind="stable")]
        return RankedDetections(label[rows], self.predictions.video[rows], is_hit[rows])


@dataclass(frozen=True)
class _Level:
    """What holds at one threshold; (S,) a draw each."""

    mAP: np.ndarray
    normalised: np.ndarray
    counts: dict[str, int]
    repaired: dict[str, tuple[np.ndarray, np.ndarray]]
    profile: np.ndarray
    groups: list[list[np.ndarray]]
    is_taken: np.ndarray


def _at(state: _State, level: int, characteristics: Sequence[Characteristic]) -> _Level:
    """Everything at one threshold."""
    is_hit = np.zeros(len(state.predictions.label), dtype=bool)
    is_hit[state.taker[level]] = True
    is_taken = np.zeros(len(state.ground_truth.label), dtype=bool)
    is_taken[state.taken[level]] = True
    kinds = classify(state.overlaps, is_hit, state.tious[level])
    detections = state.ranked(is_hit)

    repaired = {}
    for kind, name in enumerate(KINDS):
        if kind == HIT:
            continue
        removed = state.mean(state.ranked(is_hit, is_kept=kinds != kind))
        target = {
            LOCALISATION: state.overlaps.own_action,
            WRONG_LABEL: state.overlaps.other_action,
            CONFUSION: state.overlaps.other_action,
        }.get(kind)
        corrected = removed if target is None else _corrected(state, is_hit, is_taken, kinds == kind, target)
        repaired[name] = (removed, corrected)
    truth, num_labels = state.ground_truth, len(state.num_actions)
    left = count_by_label(truth.label[is_taken], truth.video[is_taken], state.weights, num_labels=num_labels)
    found = state.predictions
    is_silent = count_by_label(found.label, found.video, state.weights, num_labels=num_labels) == 0
    without = state.mean(detections, left, complete=is_silent.astype(np.float64))
    repaired["missed"] = (without, without)

    # Of each label the best detections: as many as it has actions, and multiples of that.
    size = np.bincount(truth.label, minlength=num_labels)[found.label]
    times = state.rank // size  # 0: within the first as many
    table = np.bincount(np.minimum(times, len(PROFILE)) * len(KINDS) + kinds, minlength=(len(PROFILE) + 1) * len(KINDS))
    shown = table.reshape(-1, len(KINDS))[: len(PROFILE)].cumsum(axis=0)
    counts = {name: int((kinds == kind).sum()) for kind, name in enumerate(KINDS)}
    return _Level(
        mAP=state.mean(detections),
        normalised=state.mean(detections, normalised=True),
        counts={**counts, "missed": int((~is_taken).sum())},
        repaired=repaired,
        profile=shown / np.maximum(shown.sum(axis=1, keepdims=True), 1),
        groups=[_of_groups(state, one, is_hit, level) for one in characteristics],
        is_taken=is_taken,
    )


def _corrected(
    state: _State, is_hit: np.ndarray, is_taken: np.ndarray, is_kind: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """The mAP where the first of a kind that points to an action nobody has taken is right, the others gone."""
    rows = np.flatnonzero(is_kind)  # by falling score
    rows = rows[~is_taken[target[rows]]]
    first = rows[np.unique(target[rows], return_index=True)[1]]
    right, label = is_hit.copy(), state.predictions.label.copy()
    right[first] = True
    label[first] = state.ground_truth.label[target[first]]
    return state.mean(state.ranked(right, is_kept=~is_kind | right, label=label))


def _of_groups(state: _State, one: Characteristic, is_hit: np.ndarray, level: int) -> list[np.ndarray]:
    """mAP_N of each group of actions alone: hits of others are left out, and false positives stay."""
    truth = state.ground_truth
    group_hit = np.full(len(is_hit), -1)
    group_hit[state.taker[level]] = one.group[state.taken[level]]
    means = []
    for number in range(len(one.groups)):
        rows = one.group == number
        actions = count_by_label(truth.label[rows], truth.video[rows], state.weights, num_labels=len(state.num_actions))
        detections = state.ranked(is_hit, is_kept=~is_hit | (group_hit == number))
        means.append(state.mean(detections, actions, normalised=True))
    return means


def _sensitivity(
    one: Characteristic, levels: list[list[np.ndarray]], is_taken: list[np.ndarray], ground_truth: GroundTruth
) -> Sensitivity:
    groups = []
    for number, (name, holds) in enumerate(one.groups):
        rows = one.group == number
        values = np.stack([means[number] for means in levels])  # [I, S]
        groups.append(
            GroupPrecision(
                name=name,
                holds=holds,
                num_actions=int(rows.sum()),
                precision=tuple(values[:, 0].tolist()),
                average_precision=_measured(values, can_be_told(ground_truth.video[rows])),
                missed=float(np.mean([1 - taken[rows].mean() for taken in is_taken])),
            )
        )
    return Sensitivity(one.name, one.unit, tuple(groups), int((one.group < 0).sum()))


def _measured(values: np.ndarray, is_told: bool) -> Estimate:
    """Mean over the thresholds of (I, S), and its interval over the draws, where that tells anything."""
    means = values.mean(axis=0)
    drawn = means[1:][np.isfinite(means[1:])]
    if not is_told or not len(drawn):
        return Estimate(float(means[0]), None, None)
    low, high = np.quantile(drawn, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return Estimate(float(means[0]), float(low), float(high))
