"""Which frames of a video are wanted, and how to come by them while decoding few others."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import EtadError
from .frame_index import FrameIndex
from .orientation import Orientation, orientation_of
from .transforms import resized_size

# A seek throws away what the decoder has begun; for fewer frames than this, decoding on is as fast.
_SEEK_PAYS_FRAMES = 8
# How far away a frame may be that stands in for one that the decoder failed to give.
LONGEST_GAP_SECONDS = 1.0
# Containers without a table of key frames: seeking in them lands anywhere.
_UNSEEKABLE = frozenset({"mpeg", "mpegts", "mpegvideo"})


@dataclass(frozen=True)
class VideoInfo:
    """What a video is, by its frames rather than by its header.

    Parameters
    ----------
    duration_seconds
        From where a player begins, at the first sound or picture of the file, to the last frame's end.
    fps
        Measured from presentation times.
    num_frames
        Frames that are shown.
    width, height
        As displayed, after rotation; pixels are taken as square.
    rotation_degrees
        How far frames are turned clockwise for display: 0, 90, 180 or 270.
    codec
        Name of the decoder.
    mirrored
        Whether left and right change places for display, after the turn.
    """

    duration_seconds: float
    fps: float
    num_frames: int
    width: int
    height: int
    rotation_degrees: int
    codec: str
    mirrored: bool = False


class Undecodable(EtadError):
    """A packet that the decoder refuses; those after it may be well."""

    def __init__(self, message: str, tick: int) -> None:
        super().__init__(message)
        self.tick = tick


def decoding_breaks(path: Path, seconds: float, why: str) -> str:
    """Say where a video can no longer be decoded."""
    return f"{path}: decoding breaks at second {seconds:.1f} ({why}). Fetch the file anew, or leave it out."


class VideoStream(Protocol):
    """One video stream of a file and its decoder, as `container.py` has them; every fault is an EtadError."""

    path: Path
    lost_ticks: set[int]

    def scan(self) -> FrameIndex: ...
    def use(self, index: FrameIndex) -> None: ...
    def rewind(self) -> None: ...
    def seek(self, tick: int) -> None: ...
    def packets(self) -> Iterator[Any]: ...
    def decode(self, packet: Any, *, only_referenced: bool = False) -> list[Any]: ...
    def decode_all(self) -> Iterator[Any]: ...
    def to_rgb(self, frame: Any, width: int, height: int) -> np.ndarray: ...
    def close(self) -> None: ...

    @property
    def codec_name(self) -> str: ...
    @property
    def format_name(self) -> str: ...


class VideoReader:
    """An open video: an index of its frames, and a decoder that runs forward through them.

    Opening reads the file once without decoding it (AVI with B-frames: decodes it), then decodes its first frame.

    Parameters
    ----------
    known
        The same video, opened before: spares the reading.

    Raises
    ------
    EtadError
        No video in the file, a file cut short, or frames that cannot be decoded.
    """

    info: VideoInfo
    _index: FrameIndex
    _orientation: Orientation

    def __init__(self, source: VideoStream, known: VideoReader | None = None) -> None:
        self.path = source.path
        self._source = source
        self._stood_in: set[int] = set()
        if known is not None:
            self.info, self._index, self._orientation = known.info, known._index, known._orientation
            source.use(self._index)
            return
        self._index = source.scan()
        source.rewind()
        first = next(source.decode_all(), None)
        if first is None:
            raise EtadError(f"{self.path}: not one frame of it can be decoded. Fetch it anew, or leave it out.")
        self._orientation = orientation_of(first)
        swaps = self._orientation.swaps_sides
        width, height = (first.height, first.width) if swaps else (first.width, first.height)
        self.info = VideoInfo(
            duration_seconds=self._index.duration_seconds,
            fps=self._index.fps,
            num_frames=self._index.num_frames,
            width=width,
            height=height,
            rotation_degrees=self._orientation.rotation_degrees,
            codec=source.codec_name,
            mirrored=self._orientation.mirrored,
        )

    @property
    def can_seek(self) -> bool:
        """Whether reading from the middle on is likely to spare the decoding of what lies before."""
        index = self._index
        return not index.in_order and len(index.shifts) == 1 and self._source.format_name not in _UNSEEKABLE

    @property
    def states_its_length(self) -> bool:
        """Whether the file would have been refused, had it been cut short; else only others know how long it was."""
        return self._index.states_length

    @property
    def lost_ticks(self) -> frozenset[int]:
        """When frames were due that what was read so far lacks, or shows with faults: the one before stands in."""
        lost = self._source.lost_ticks | self._stood_in
        if self._index.in_order:
            return frozenset(lost)
        return frozenset(self._index.unshown_ticks) | {tick for tick in lost if self._is_shown_at(tick)}

    @property
    def rules(self) -> tuple[str, ...]:
        """What is uncommon about the file, so that reading it needs a rule of its own; empty for most."""
        mirrored = ("is shown mirrored",) if self._orientation.mirrored else ()
        return self._index.rules + mirrored

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._source.close()

    def read(
        self,
        times_seconds: Sequence[float] | np.ndarray | Iterator[np.ndarray],
        *,
        resize: tuple[int, int] | int | None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the frame shown at each time, as `read_frames` does; may be called again, one call after another.

        Parameters
        ----------
        times_seconds
            Ascending; or an iterator of arrays that ascend one after the other, each taken when it is needed.
        """
        for number, (image,) in self.read_sizes(times_seconds, resizes=[resize]):
            yield number, image

    def read_sizes(
        self,
        times_seconds: Sequence[float] | np.ndarray | Iterator[np.ndarray],
        *,
        resizes: Sequence[tuple[int, int] | int | None],
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Yield the frame shown at each time, as `read` does, in several sizes; it is decoded once for all of them."""
        blocks = times_seconds if isinstance(times_seconds, Iterator) else iter([np.asarray(times_seconds)])
        wanted = _Wanted(self._index, blocks)
        sizes = [resized_size(self.info.width, self.info.height, resize) for resize in resizes]
        if self._orientation.swaps_sides:
            sizes = [(height, width) for width, height in sizes]
        if not self._begins_with_a_seek(wanted):
            self._source.rewind()
        frames = self._frames_in_order(wanted) if self._index.in_order else self._frames(wanted)
        for number, times, frame in frames:
            images = {size: self._orientation.apply(self._source.to_rgb(frame, *size)) for size in dict.fromkeys(sizes)}
            for _ in range(times):
                yield number, [images[size] for size in sizes]

    def _begins_with_a_seek(self, wanted: _Wanted) -> bool:
        """Whether the first wanted frame is sought from anywhere: rewinding reads a container's whole table anew."""
        return (
            self.can_seek and wanted.first is not None and self._index.key_before(wanted.first_tick) > _SEEK_PAYS_FRAMES
        )

    def _frames_in_order(self, wanted: _Wanted) -> Iterator[tuple[int, int, Any]]:
        for number, frame in enumerate(self._source.decode_all()):
            if wanted.first is None:
                return
            if number == wanted.first:
                yield *wanted.take(), frame
        if wanted.first is not None:
            seconds = self._index.seconds(int(self._index.ticks[wanted.first]))
            raise EtadError(decoding_breaks(self.path, seconds, "the file has changed"))

    def _frames(self, wanted: _Wanted) -> Iterator[tuple[int, int, Any]]:
        """Yield the wanted frames, each with its number and how often it is wanted, decoding few of the others."""
        before = None
        for frame in self._decode_for(wanted):
            # The decoder may fail to give a frame: the one before stands in for it, at the beginning this one.
            while wanted.first is not None and wanted.first_tick < frame.pts:
                yield self._stand_in(frame if before is None else before, wanted)
            if wanted.first is not None and wanted.first_tick == frame.pts:
                yield *wanted.take(), frame
            before = frame
        while wanted.first is not None:
            yield self._stand_in(before, wanted)

    def _stand_in(self, frame: Any, wanted: _Wanted) -> tuple[int, int, Any]:
        tick = wanted.first_tick
        wanted_seconds = self._index.seconds(tick)
        last_seconds = wanted_seconds if frame is None else self._index.seconds(frame.pts)
        if frame is None or abs(last_seconds - wanted_seconds) > LONGEST_GAP_SECONDS:
            why = f"the decoder gives no frame for second {wanted_seconds:.1f}"
            raise EtadError(decoding_breaks(self.path, min(last_seconds, wanted_seconds), why))
        self._stood_in.add(tick)
        return *wanted.take(), frame

    def _decode_for(self, wanted: _Wanted) -> Iterator[Any]:
        """Decode forward, seeking past and passing over what no wanted frame needs; the caller takes these off.

        A frame on which no other depends is passed over unless it is wanted itself.
        """
        index, source = self._index, self._source
        may_seek = len(index.shifts) == 1  # positions in a file say nothing of its clock where that restarts
        packets, reached, sought, landing, is_damaged = source.packets(), 0, 0, "", False
        while wanted.first is not None:
            first_tick = wanted.first_tick
            key = index.key_before(first_tick)
            if may_seek and key > max(reached + _SEEK_PAYS_FRAMES, sought):
                source.seek(int(index.ticks[key]))
                packets, sought, landing = source.packets(), key, "sought"
            packet = next(packets, None)
            if packet is None:
                return
            missed = landing == "sought" and not (packet.is_keyframe and packet.pts <= first_tick)
            passes_over = not is_damaged and packet.pts not in wanted
            frames, bad_ticks = [], []
            try:
                frames = [] if missed else source.decode(packet, only_referenced=passes_over)
                bad_ticks = [frame.pts for frame in frames if frame.is_corrupt and frame.pts is not None]
            except Undecodable as error:
                bad_ticks = [error.tick]
            frames = [frame for frame in frames if frame.pts is not None]
            found_damage = not is_damaged and any(self._is_shown_at(tick) for tick in bad_ticks)
            if missed or found_damage or (landing and frames and frames[0].pts > first_tick):
                # The seek led to a place that decoding cannot start from; or what a decoder makes of a damaged file
                # depends on all that it has seen: go all the way from the beginning.
                source.rewind()
                packets, may_seek, landing, is_damaged = source.packets(), False, "", is_damaged or found_damage
                continue
            source.lost_ticks.update(bad_ticks)
            landing = "landed" if landing and not frames else ""
            reached = reached if packet.pts is None else max(reached, index.frame_at(packet.pts))
            yield from frames

    def _is_shown_at(self, tick: int) -> bool:
        """Whether a frame of the index appears just then."""
        return int(self._index.ticks[self._index.frame_at(tick)]) == tick


class _Wanted:
    """The frames that are wanted, as far as times have been asked for: numbers, how often, and ticks, ascending."""

    def __init__(self, index: FrameIndex, blocks: Iterator[np.ndarray]) -> None:
        self._index, self._blocks = index, blocks
        self._pending: deque[tuple[int, int]] = deque()  # number and how often
        self._ticks: set[int] = set()
        self._last_seconds = -np.inf
        self._load(0)

    @property
    def first(self) -> int | None:
        """Number of the first frame that is still wanted."""
        return self._pending[0][0] if self._pending else None

    @property
    def first_tick(self) -> int:
        return int(self._index.ticks[self._pending[0][0]])

    def take(self) -> tuple[int, int]:
        """Take the first frame off; returns its number and how often it is wanted."""
        number, times = self._pending.popleft()
        self._ticks.discard(int(self._index.ticks[number]))
        self._load(number)
        return number, times

    def __contains__(self, tick: int | None) -> bool:
        """Whether the frame shown from a tick on is wanted, or the next one, for which it may have to stand in."""
        if tick is None:
            return False
        following = self._index.frame_at(tick) + 1
        self._load(following)
        is_next = following < self._index.num_frames and int(self._index.ticks[following]) in self._ticks
        return is_next or tick in self._ticks

    def _load(self, number: int) -> None:
        """Ask for times until one lies beyond a frame: only then is it known how often that frame is wanted."""
        while not self._pending or self._pending[-1][0] <= number or len(self._pending) < 2:
            block = next(self._blocks, None)
            if block is None:
                return
            times_seconds = np.asarray(block, dtype=np.float64)
            if not times_seconds.size:
                continue
            assert np.all(np.diff(times_seconds, prepend=self._last_seconds) >= 0), "times must ascend"
            self._last_seconds = float(times_seconds[-1])
            numbers, counts = np.unique(self._index.shown_at(times_seconds), return_counts=True)
            for each, count in zip(numbers.tolist(), counts.tolist(), strict=True):
                if self._pending and self._pending[-1][0] == each:
                    self._pending[-1] = (each, self._pending[-1][1] + count)
                else:
                    self._pending.append((each, count))
                    self._ticks.add(int(self._index.ticks[each]))
