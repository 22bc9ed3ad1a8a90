"""The records of an error analysis: what `diagnose` measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .errors import KINDS

# The profile looks at the best detections of each label: as many as it has actions, twice as many, and so on.
PROFILE = tuple(range(1, 11))


class Estimate(NamedTuple):
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
    average_removed: Estimate
    average_corrected: Estimate


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
    average_precision: Estimate
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
    average_mAP: Estimate
    average_normalised_mAP: Estimate
    num_actions: int
    num_detections: int
    num_unlabelled: int
    errors: dict[str, ErrorCost]
    profile: np.ndarray
    sensitivities: tuple[Sensitivity, ...]
    share: float
    samples: int

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON has it, in fractions: what is undefined is null."""
        errors = {
            name: {
                "count": self._by_tiou(error.counts),
                "removed": self._by_tiou(error.removed),
                "corrected": self._by_tiou(error.corrected),
                "average_removed": _interval(error.average_removed),
                "average_corrected": _interval(error.average_corrected),
            }
            for name, error in self.errors.items()
        }
        groups = {
            one.name: {
                "unit": one.unit,
                "unknown_actions": one.num_unknown,
                "groups": [
                    {
                        "name": group.name,
                        "holds": group.holds,
                        "actions": group.num_actions,
                        "mAP_N": self._by_tiou(group.precision),
                        "average_mAP_N": _interval(group.average_precision),
                        "missed": group.missed,
                    }
                    for group in one.groups
                ],
            }
            for one in self.sensitivities
        }
        return {
            "mAP": self._by_tiou(self.mAP),
            "mAP_N": self._by_tiou(self.normalised_mAP),
            "average_mAP": _interval(self.average_mAP),
            "average_mAP_N": _interval(self.average_normalised_mAP),
            "actions": self.num_actions,
            "detections": self.num_detections,
            "detections_of_other_labels": self.num_unlabelled,
            "errors": errors,
            "profile": {
                "kinds": list(KINDS),
                "detections_per_action": list(PROFILE),
                "shares": self._by_tiou(self.profile.tolist()),
            },
            "sensitivity": groups,
            "intervals": {"share": self.share, "draws": self.samples},
        }

    def _by_tiou(self, values: Sequence[Any]) -> dict[str, Any]:
        return {f"{tiou:g}": value for tiou, value in zip(self.tious, values)}


def _interval(measured: Estimate) -> dict[str, float | None]:
    return measured._asdict()
