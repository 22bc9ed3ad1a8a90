"""How a picture is turned and mirrored for display: the whole display matrix, not its angle alone."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

# Nine numbers, row by row, fixed point of 16 bits after the point (30 in the last column).
_MATRIX = struct.Struct("=9i")
_SIDE_DATA = "DISPLAYMATRIX"


@dataclass(frozen=True)
class Orientation:
    """What is done to a decoded picture before it is shown: turned first, then mirrored.

    Parameters
    ----------
    turns
        Quarters counter-clockwise, 0 to 3, as numpy turns.
    mirrored
        Left and right change places.
    """

    turns: int = 0
    mirrored: bool = False

    @property
    def swaps_sides(self) -> bool:
        """Whether width and height change places."""
        return self.turns % 2 == 1

    @property
    def rotation_degrees(self) -> int:
        """The turn, clockwise: 0, 90, 180 or 270."""
        return (4 - self.turns) % 4 * 90

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Show a picture, (H, W, 3), as it is meant.

        Examples
        --------
        >>> picture = np.arange(4).reshape(2, 2, 1)
        >>> Orientation(mirrored=True).apply(picture)[..., 0].tolist()
        [[1, 0], [3, 2]]
        """
        if self == Orientation():
            return image
        image = np.rot90(image, self.turns)
        return np.ascontiguousarray(image[:, ::-1] if self.mirrored else image)


def orientation_of(frame: Any) -> Orientation:
    """Read the orientation that a decoded frame carries; none is upright."""
    matrix = next((bytes(data) for data in frame.side_data if data.type.name == _SIDE_DATA), b"")
    if len(matrix) != _MATRIX.size:
        return Orientation()
    a, b, _, c, d, *_ = _MATRIX.unpack(matrix)
    return nearest_orientation(a, b, c, d)


def nearest_orientation(a: float, b: float, c: float, d: float) -> Orientation:
    """Find the quarter turn and mirroring that a display matrix is, or is nearest to.

    A pixel x to the right and y down is shown at x' = a x + c y and y' = b x + d y; only directions count here.

    Examples
    --------
    >>> nearest_orientation(-1, 0, 0, 1), nearest_orientation(0, 1, -1, 0)
    (Orientation(turns=0, mirrored=True), Orientation(turns=3, mirrored=False))
    """
    if a * d - b * c == 0:
        return Orientation()  # shows nothing at all: no writer means that
    mirrored = a * d - b * c < 0
    if mirrored:
        a, c = -a, -c  # undo the mirror, which comes last
    # What is left turns clockwise: to the right becomes to the right (1, 0), down (0, 1), left (-1, 0) or up.
    clockwise = round(float(np.arctan2(b - c, a + d)) / (np.pi / 2)) % 4
    return Orientation((4 - clockwise) % 4, mirrored)
