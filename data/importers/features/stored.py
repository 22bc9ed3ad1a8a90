"""What readers of features give: one array a video, looked at before it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import EtadError

# No array of features comes near; one that claims more is damaged, or made to fill the memory.
MOST_BYTES = 8 * 2**30


@dataclass(frozen=True)
class StoredArray:
    """One video's features in somebody's file, unread.

    Parameters
    ----------
    video_id
        As the file names it.
    file
        Where it lies.
    shape, dtype
        As stored.
    load
        Reads it; raises EtadError where it cannot be read, the words to go behind the video's name.
    """

    video_id: str
    file: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], np.ndarray]


def require_numbers(shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Refuse arrays that are no features, before any memory is taken for them.

    Raises
    ------
    EtadError
        They hold no real numbers, or claim more than any features.
    """
    if dtype.kind not in "fiu":
        raise EtadError(f"holds {dtype.name}, expected numbers")
    size = dtype.itemsize
    for side in shape:
        size *= int(side)
    if size > MOST_BYTES:
        raise EtadError(f"claims {size / 2**30:.3g} GiB, features take at most {MOST_BYTES / 2**30:.0f} GiB a video")


def two_dimensional(array: np.ndarray) -> np.ndarray:
    """The array without axes of length 1, where it has too many axes; [1, T, C] and [T, C, 1, 1] are common."""
    if array.ndim <= 2:
        return array
    return array.reshape(_without_ones(array.shape))


def two_axes(shape: tuple[int, ...]) -> tuple[int, int]:
    """The two axes of features.

    Raises
    ------
    EtadError
        There are not two.

    Examples
    --------
    >>> two_axes((1, 20, 400))
    (20, 400)
    """
    axes = _without_ones(shape) if len(shape) > 2 else shape
    if len(axes) != 2 or 0 in axes:
        raise EtadError(f"has shape {list(shape)}, expected [T, C] with at least one snippet and one channel")
    return axes[0], axes[1]


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Take axes of length 1 off the front, then off the end, until two are left."""
    left = list(shape)
    while len(left) > 2 and left[0] == 1:
        left.pop(0)
    while len(left) > 2 and left[-1] == 1:
        left.pop()
    return tuple(left)
