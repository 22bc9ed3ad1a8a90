"""When each frame of a video is shown, and where decoding may start: arithmetic on presentation times alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

# Containers round presentation times to their tick (Matroska: 1 ms), so the frame meant for second 2/30 may be stamped
# 67 ms. A frame counts as shown this much early: one tick, but never more than this share of the time between frames.
_LARGEST_SLACK_FRAMES = 0.1
_FALLBACK_FPS = Fraction(25)


class PacketTime(NamedTuple):
    """What a packet tells about the frame in it: times in ticks."""

    pts: int
    duration: int
    is_key: bool


@dataclass(frozen=True)
class FrameIndex:
    """Presentation times of a video's frames, counted from its packets rather than taken from its header.

    Parameters
    ----------
    ticks
        (F,) int64, ascending: when each frame is shown, in ticks. Distinct unless `in_order`.
    key_ticks
        (G,) int64, ascending: the frames among them from which decoding may start.
    tick_seconds
        Length of a tick.
    last_ticks
        How long the last frame is shown.
    in_order
        Frames carry no usable times of their own (AVI with B-frames): the i-th frame decoded is shown at ticks[i], and
        decoding always starts at the first one.
    """

    ticks: np.ndarray
    key_ticks: np.ndarray
    tick_seconds: Fraction
    last_ticks: int
    in_order: bool = False

    @property
    def num_frames(self) -> int:
        return len(self.ticks)

    @property
    def duration_seconds(self) -> float:
        """From the first frame's appearance to the last one's end."""
        return float((int(self.ticks[-1] - self.ticks[0]) + self.last_ticks) * self.tick_seconds)

    @property
    def fps(self) -> float:
        """Measured: frames per second between the first and the last."""
        if self.num_frames == 1:
            return 1 / self.duration_seconds
        return (self.num_frames - 1) / float(int(self.ticks[-1] - self.ticks[0]) * self.tick_seconds)

    @property
    def end_seconds(self) -> float:
        """When the last frame ends, by the file's own clock, whose zero may be long before the first frame."""
        return float((int(self.ticks[-1]) + self.last_ticks) * self.tick_seconds)

    def seconds(self, tick: int) -> float:
        """Turn a tick into seconds from the first frame."""
        return float((tick - int(self.ticks[0])) * self.tick_seconds)

    def shown_at(self, times_seconds: np.ndarray) -> np.ndarray:
        """Find the frame that is on the screen at each time, (N,); before the first and after the last, that one.

        Parameters
        ----------
        times_seconds
            (N,) seconds from the first frame's appearance.

        Examples
        --------
        >>> index = FrameIndex(np.array([7, 40, 74, 107]), np.array([7]), Fraction(1, 1000), 33)
        >>> index.shown_at(np.arange(5) / 30).tolist()
        [0, 1, 2, 3, 3]
        """
        tick_seconds = float(self.tick_seconds)
        starts_seconds = (self.ticks - self.ticks[0]) * tick_seconds
        slack_seconds = 1e-6
        if self.num_frames > 1:
            usual_step_seconds = float(np.median(np.diff(starts_seconds)))
            slack_seconds = min(1.01 * tick_seconds, _LARGEST_SLACK_FRAMES * usual_step_seconds)
        wanted_seconds = np.asarray(times_seconds, dtype=np.float64) + slack_seconds
        return np.clip(np.searchsorted(starts_seconds, wanted_seconds, side="right") - 1, 0, self.num_frames - 1)

    def frame_at(self, tick: int) -> int:
        """Number of the latest frame shown at or before a tick, or -1."""
        return int(np.searchsorted(self.ticks, tick, side="right")) - 1

    def key_before(self, tick: int) -> int:
        """Number of the latest key frame shown at or before a tick, or the first frame's."""
        group = int(np.searchsorted(self.key_ticks, tick, side="right")) - 1
        return self.frame_at(int(self.key_ticks[group])) if group >= 0 else 0


def index_by_packets(
    packets: Sequence[PacketTime], *, tick_seconds: Fraction, usual_fps: Fraction | None
) -> FrameIndex:
    """Index frames by their packets' presentation times.

    Parameters
    ----------
    packets
        In the order of decoding, at least one.
    usual_fps
        The header's word on frames per second; used for a lone frame of unknown length.

    Examples
    --------
    >>> packets = [PacketTime(2, 1, True), PacketTime(5, 1, False), PacketTime(3, 1, False)]
    >>> index_by_packets(packets, tick_seconds=Fraction(1, 10), usual_fps=None).ticks.tolist()
    [2, 3, 5]
    """
    # Frames that hang on a key frame before the file's beginning cannot be decoded.
    first_key = next((number for number, packet in enumerate(packets) if packet.is_key), 0)
    packets = packets[first_key:]
    ticks = np.unique(np.array([packet.pts for packet in packets], dtype=np.int64))
    keys = np.unique(np.array([packet.pts for packet in packets if packet.is_key], dtype=np.int64))
    last = max(packets, key=lambda packet: packet.pts)
    return FrameIndex(ticks, keys, tick_seconds, _last_ticks(ticks, last.duration, tick_seconds, usual_fps))


def index_by_order(stamps: Sequence[int | None], *, tick_seconds: Fraction, usual_fps: Fraction | None) -> FrameIndex:
    """Index frames whose own times cannot be trusted: the times, put in order, belong to the frames as they come.

    Parameters
    ----------
    stamps
        Times in ticks that a decoder gave its frames, one each, at least one. Of equal ones, all but the first are
        spread up to the next; where any is missing or most are equal, frames come at the usual rate instead.

    Examples
    --------
    >>> index_by_order([1, 6, 4, 4], tick_seconds=Fraction(1, 30), usual_fps=None).ticks.tolist()
    [1, 4, 5, 6]
    """
    known = np.sort(np.array([stamp for stamp in stamps if stamp is not None], dtype=np.int64))
    distinct, places = np.unique(known, return_index=True)
    if len(known) < len(stamps) or 2 * len(distinct) <= len(stamps):
        tick_seconds, ticks = 1 / (usual_fps or _FALLBACK_FPS), np.arange(len(stamps))
    elif len(distinct) == distinct[-1] - distinct[0] == len(stamps):
        # DivX packs a B-frame with its successor, and fills the one tick that its own delay leaves with nothing.
        ticks = distinct[0] + np.arange(len(stamps))
    else:
        ticks = np.round(np.interp(np.arange(len(stamps)), places, distinct)).astype(np.int64)
    last_ticks = _last_ticks(ticks, 0, tick_seconds, usual_fps)
    return FrameIndex(ticks, ticks[:1], tick_seconds, last_ticks, in_order=True)


def _last_ticks(ticks: np.ndarray, stated: int, tick_seconds: Fraction, usual_fps: Fraction | None) -> int:
    """Say how long the last frame is shown: as stated, or as long as the others, or one frame at the usual rate."""
    if stated > 0:
        return stated
    if len(ticks) > 1:
        return max(1, round((ticks[-1] - ticks[0]) / (len(ticks) - 1)))
    return max(1, round(1 / ((usual_fps or _FALLBACK_FPS) * tick_seconds)))
