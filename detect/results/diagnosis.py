"""The records of an error analysis: what `diagnose` measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Measured(NamedTuple):
    """A mean over the thresholds, and the interval of it; None where there are too few videos to say."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ErrorCost:
    """What one kind of error costs, as fractions of mAP.

    Parameters
    ----------
    counts
        (I,) how many there are at each threshold.
    removed, corrected
        (I,) what the mAP gains at each threshold where all of them were removed, or put right.
    average_removed, average_corrected
        The same, of the average mAP.
    """

    counts: tuple[int, ...]
    removed: tuple[float, ...]
    corrected: tuple[float, ...]
    average_removed: Measured
    average_corrected: Measured


@dataclass(frozen=True)
class GroupPrecision:
    """How well the actions of one group are found.

    Parameters
    ----------
    name, holds
        Of the group, as in `Characteristic`.
    num_actions
        Actions in it.
    precision
        (I,) mAP_N at each threshold of these actions alone.
    average_precision
        Its mean over the thresholds.
    missed
        Share of them that no detection has found, mean over the thresholds.
    """

    name: str
    holds: str
    num_actions: int
    precision: tuple[float, ...]
    average_precision: Measured
    missed: float


@dataclass(frozen=True)
class Sensitivity:
    """How much finding an action depends on one respect in which actions differ."""

    name: str
    unit: str
    groups: tuple[GroupPrecision, ...]
    num_unknown: int


@dataclass(frozen=True)
class Diagnosis:
    """All that `diagnose` measures; fractions.

    Parameters
    ----------
    tious
        Thresholds.
    mAP, normalised_mAP
        (I,) at each; mAP_N weighs hits as if each label had as many actions as they have on average.
    average_mAP, average_normalised_mAP
        Means over the thresholds.
    num_actions, num_detections, num_unlabelled
        Of the annotated labels; and detections of other labels or none, which no figure counts.
    errors
        By kind: those of false positives as `KINDS` has them, and `missed`.
    profile
        (I, 10, 6) shares of the kinds in the best detections of each label: as many as it has actions, to ten times.
    sensitivities
        By length, coverage and instances.
    share, samples
        Of draws of the videos an interval holds this share; so many were made.
    """

    tious: tuple[float, ...]
    mAP: tuple[float, ...]
    normalised_mAP: tuple[float, ...]
    average_mAP: Measured
    average_normalised_mAP: Measured
    num_actions: int
    num_detections: int
    num_unlabelled: int
    errors: dict[str, ErrorCost]
    profile: np.ndarray
    sensitivities: tuple[Sensitivity, ...]
    share: float
    samples: int
