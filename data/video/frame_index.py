"""When each frame of a video is shown, and where decoding may start: arithmetic on presentation times alone."""

from __future__ import annotations

import functools
import itertools
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

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


class PacketTimes(Sequence[PacketTime]):
    """Times of many packets, in the order of decoding, in little memory: 17 bytes each.

    Attributes
    ----------
    incomplete
        Places of packets of which a part is missing, or the packet behind them.
    """

    def __init__(self, packets: Iterable[PacketTime] = ()) -> None:
        self._pts, self._durations, self._keys = array("q"), array("q"), array("b")
        self.incomplete: list[int] = []
        for packet in packets:
            self.append(packet)

    @property
    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times, lengths, and which are key frames, (N,) each: views, so that nothing more may be appended."""
        return np.asarray(self._pts), np.asarray(self._durations), np.asarray(self._keys).view(bool)

    def append(self, packet: PacketTime) -> None:
        self._pts.append(packet.pts)
        self._durations.append(packet.duration)
        self._keys.append(packet.is_key)

    def lengthen_last(self, ticks: int) -> None:
        """Show the last frame for longer."""
        if self._durations:
            self._durations[-1] += ticks

    def __len__(self) -> int:
        return len(self._pts)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            part = PacketTimes()
            part._pts, part._durations, part._keys = self._pts[number], self._durations[number], self._keys[number]
            return part
        return PacketTime(self._pts[number], self._durations[number], bool(self._keys[number]))


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
    zero_tick
        Zero of the clock, where it is before the first frame: until it appears, the first frame stands in.
    unshown_ticks
        When frames were due that cannot be decoded, or not rightly, whatever the decoder says: before the first one, as
        their key frame is lost, or where the container lacks a part of them.
    shifts
        What the file's own ticks are moved by, up to each restart of its clock; a file whose clock runs on has one.
    states_length
        The file itself states how long it is, and keeps that promise: it was not cut short.
    rules
        What is uncommon about the file, such as fields or restarts; empty for most.
    """

    ticks: np.ndarray
    key_ticks: np.ndarray
    tick_seconds: Fraction
    last_ticks: int
    in_order: bool = False
    zero_tick: int | None = None
    unshown_ticks: tuple[int, ...] = ()
    shifts: tuple[int, ...] = (0,)
    states_length: bool = True
    rules: tuple[str, ...] = ()

    @property
    def first_tick(self) -> int:
        """Zero of all times in seconds."""
        return int(self.ticks[0]) if self.zero_tick is None else self.zero_tick

    @property
    def num_frames(self) -> int:
        return len(self.ticks)

    @property
    def duration_seconds(self) -> float:
        """From the clock's zero to the last frame's end."""
        return float((int(self.ticks[-1]) - self.first_tick + self.last_ticks) * self.tick_seconds)

    @property
    def fps(self) -> float:
        """Measured: frames per second between the first and the last."""
        if self.num_frames == 1:
            return 1 / float(self.last_ticks * self.tick_seconds)
        return (self.num_frames - 1) / float(int(self.ticks[-1] - self.ticks[0]) * self.tick_seconds)

    def seconds(self, tick: int) -> float:
        """Turn a tick into seconds from the clock's zero."""
        return float((tick - self.first_tick) * self.tick_seconds)

    def shown_at(self, times_seconds: np.ndarray) -> np.ndarray:
        """Find the frame that is on the screen at each time, (N,); before the first and after the last, that one.

        Parameters
        ----------
        times_seconds
            (N,) seconds from the clock's zero.

        Examples
        --------
        >>> index = FrameIndex(np.array([7, 40, 74, 107]), np.array([7]), Fraction(1, 1000), 33)
        >>> index.shown_at(np.arange(5) / 30).tolist()
        [0, 1, 2, 3, 3]
        """
        wanted_seconds = np.asarray(times_seconds, dtype=np.float64) + self._slack_seconds
        return np.clip(np.searchsorted(self._starts_seconds, wanted_seconds, side="right") - 1, 0, self.num_frames - 1)

    @functools.cached_property
    def _starts_seconds(self) -> np.ndarray:
        return (self.ticks - self.first_tick) * float(self.tick_seconds)

    @functools.cached_property
    def _slack_seconds(self) -> float:
        if self.num_frames == 1:
            return 1e-6
        usual_step_seconds = float(np.median(np.diff(self._starts_seconds)))
        return min(1.01 * float(self.tick_seconds), _LARGEST_SLACK_FRAMES * usual_step_seconds)

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
    pts, durations, is_key = _columns(packets)
    # Frames that hang on a key frame before the file's beginning cannot be decoded.
    first = first_key(packets)
    pts, durations, is_key = pts[first:], durations[first:], is_key[first:]
    ticks, keys = np.unique(pts), np.unique(pts[is_key])
    last_ticks = _last_ticks(ticks, int(durations[pts.argmax()]), tick_seconds, usual_fps)
    return FrameIndex(ticks, keys, tick_seconds, last_ticks)


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


def has_distinct_times(packets: Sequence[PacketTime], index: FrameIndex) -> bool:
    """Whether no two packets of an index are shown at one time."""
    return index.num_frames == len(packets) - first_key(packets)


def needs_a_look(packets: Sequence[PacketTime]) -> bool:
    """Whether a file, or what follows a restart, begins inside a group: only the decoder knows which frames it shows.

    So it is where packets come before the first key frame, or hang on frames before it and are shown before it.
    """
    first, (pts, *_) = first_key(packets), _columns(packets)
    return first > 0 or bool((pts < pts[first]).any())


def without_unshown(index: FrameIndex, shown: Sequence[int]) -> FrameIndex:
    """Take out what the decoder did not show of an index's beginning.

    Parameters
    ----------
    shown
        Ticks of the frames that it showed, from the first one up to one at or after the first key frame.
    """
    is_there = (index.ticks >= max(shown)) | np.isin(index.ticks, shown)
    ticks = index.ticks[is_there]
    return replace(index, ticks=ticks, key_ticks=index.key_ticks[np.isin(index.key_ticks, ticks)])


def join(indexes: Sequence[FrameIndex]) -> FrameIndex:
    """Join what lies between restarts of a clock: each begins where the one before ends.

    Examples
    --------
    >>> one, two = (FrameIndex(np.array(t), np.array(t[:1]), Fraction(1, 25), 1) for t in ([5, 6, 7], [0, 1]))
    >>> join([one, two]).ticks.tolist(), join([one, two]).shifts
    ([5, 6, 7, 8, 9], (0, 8))
    """
    if len(indexes) == 1:
        return indexes[0]
    shifts = [0]
    for before, after in itertools.pairwise(indexes):
        # What is stated of the last frame's length is often wrong before a restart.
        steps = np.diff(before.ticks)
        length = min(before.last_ticks, int(np.median(steps))) if len(steps) else before.last_ticks
        end = int(before.ticks[-1]) + shifts[-1] + length
        shifts.append(end - int(after.ticks[0]))
    return replace(
        indexes[0],
        ticks=np.concatenate([index.ticks + shift for index, shift in zip(indexes, shifts, strict=True)]),
        key_ticks=np.concatenate([index.key_ticks + shift for index, shift in zip(indexes, shifts, strict=True)]),
        last_ticks=indexes[-1].last_ticks,
        shifts=tuple(shifts),
    )


def _columns(packets: Sequence[PacketTime]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (packets if isinstance(packets, PacketTimes) else PacketTimes(packets)).columns


def first_key(packets: Sequence[PacketTime]) -> int:
    """Number of the first key frame; 0 where there is none."""
    return int(_columns(packets)[2].argmax())


def _last_ticks(ticks: np.ndarray, stated: int, tick_seconds: Fraction, usual_fps: Fraction | None) -> int:
    """Say how long the last frame is shown: as stated, or as long as the others, or one frame at the usual rate."""
    if stated > 0:
        return stated
    if len(ticks) > 1:
        return max(1, round((ticks[-1] - ticks[0]) / (len(ticks) - 1)))
    return max(1, round(1 / ((usual_fps or _FALLBACK_FPS) * tick_seconds)))
