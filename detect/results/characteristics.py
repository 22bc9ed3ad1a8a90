"""Actions in groups of like ones: by length, by share of their video, by how many there are in it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .metrics import GroundTruth

SIZES = ("XS", "S", "M", "L", "XL")
# Actions of one label in one video: alone, a few, some, many, and very many.
_MOST_INSTANCES = (1, 4, 8, 40)


@dataclass(frozen=True)
class Characteristic:
    """Groups of actions that are alike in one respect.

    Parameters
    ----------
    name
        `length`, `coverage` or `instances`.
    unit
        Of the bounds.
    groups
        Name of each group, and which values it holds.
    group
        (G,) number of each action's group; -1 where it is not known.
    """

    name: str
    unit: str
    groups: tuple[tuple[str, str], ...]
    group: np.ndarray


def by_length(ground_truth: GroundTruth) -> Characteristic:
    """Fifths of the actions, by their length in seconds."""
    return _fifths("length", "s", ground_truth.end_seconds - ground_truth.start_seconds)


def by_coverage(ground_truth: GroundTruth, durations: np.ndarray) -> Characteristic:
    """Fifths of the actions, by the share of their video that they take.

    Parameters
    ----------
    durations
        (V,) seconds of each video; NaN where nobody has said.
    """
    seconds = ground_truth.end_seconds - ground_truth.start_seconds
    whole = durations[ground_truth.video]
    share = np.divide(seconds, whole, out=np.full(len(seconds), np.nan), where=whole > 0)
    return _fifths("coverage", "% of the video", 100 * share)


def by_instances(ground_truth: GroundTruth) -> Characteristic:
    """Groups by how many actions of the same label the video has."""
    pair = np.stack([ground_truth.video, ground_truth.label])
    _, place, counts = np.unique(pair, axis=1, return_inverse=True, return_counts=True)
    group = np.searchsorted(_MOST_INSTANCES, counts[place.ravel()], side="left")
    lowest = (1, *(most + 1 for most in _MOST_INSTANCES))
    names = [str(low) if low == high else f"{low}-{high}" for low, high in zip(lowest, _MOST_INSTANCES)]
    return _used("instances", "of its class in the video", [*names, f"over {_MOST_INSTANCES[-1]}"], group)


def _fifths(name: str, unit: str, values: np.ndarray) -> Characteristic:
    """Cut at the quintiles; a value that many share lies in one group, so there may be fewer."""
    is_known = np.isfinite(values)
    if not is_known.any():
        return Characteristic(name, unit, (), np.full(len(values), -1))
    bounds = np.quantile(values[is_known], [0.2, 0.4, 0.6, 0.8], method="inverted_cdf")
    group = np.where(is_known, np.searchsorted(bounds, values, side="left"), -1)
    # Three digits, all of what is longer, and none by a power of ten.
    shown = [
        f"{bound:.0f}" if bound >= 1000 else np.format_float_positional(bound, 3, fractional=False, trim="-")
        for bound in bounds
    ]
    names = [f"to {shown[0]}", *(f"{low}-{high}" for low, high in pairwise(shown)), f"over {shown[-1]}"]
    return _used(name, unit, names, group)


def _used(name: str, unit: str, names: list[str], group: np.ndarray) -> Characteristic:
    used = np.unique(group[group >= 0])
    number = np.full(len(names) + 1, -1)
    number[used] = np.arange(len(used))
    groups = tuple((SIZES[code], names[code]) for code in used.tolist())
    return Characteristic(name, unit, groups, number[group])
