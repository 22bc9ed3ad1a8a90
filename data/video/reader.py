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
from .transforms import resized_size

# A seek throws away what the decoder has begun; for fewer frames than this, decoding on is as fast.
_SEEK_PAYS_FRAMES = 8
# How far away a frame may be that stands in for one that the decoder failed to give.
_LONGEST_GAP_SECONDS = 1.0
# Containers without a table of key frames: seeking in them lands anywhere.
_UNSEEKABLE = frozenset({"mpeg", "mpegts", "mpegvideo"})


@dataclass(frozen=True)
class VideoInfo:
    """What a video is, by its frames rather than by its header.

    Parameters
    ----------
    duration_seconds
        From the first frame's appearance to the last one's end.
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
    """

    duration_seconds: float
    fps: float
    num_frames: int
    width: int
    height: int
    rotation_degrees: int
    codec: str


class VideoStream(Protocol):
    """One video stream of a file and its decoder, as `data/video.py` makes them; every fault is an EtadError."""

    path: Path

    def scan(self) -> FrameIndex: ...
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


class Video:
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
    _turns: int

    def __init__(self, source: VideoStream, known: Video | None = None) -> None:
        self.path = source.path
        self._source = source
        if known is not None:
            self.info, self._index, self._turns = known.info, known._index, known._turns
            return
        self._index = source.scan()
        source.rewind()
        first = next(source.decode_all(), None)
        if first is None:
            raise EtadError(f"{self.path}: not one frame of it can be decoded. Fetch it anew, or leave it out.")
        # Counter-clockwise quarters, as numpy turns.
        self._turns = round(first.rotation / 90) % 4
        width, height = (first.height, first.width) if self._turns % 2 else (first.width, first.height)
        self.info = VideoInfo(
            duration_seconds=self._index.duration_seconds,
            fps=self._index.fps,
            num_frames=self._index.num_frames,
            width=width,
            height=height,
            rotation_degrees=(4 - self._turns) % 4 * 90,
            codec=source.codec_name,
        )

    @property
    def can_seek(self) -> bool:
        """Whether reading from the middle on is likely to spare the decoding of what lies before."""
        return not self._index.in_order and self._source.format_name not in _UNSEEKABLE

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()

    def read(
        self, times_seconds: Sequence[float] | np.ndarray, *, resize: tuple[int, int] | int | None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the frame shown at each time, as `read_frames` does; may be called again, one call after another."""
        numbers = self._index.shown_at(np.asarray(times_seconds, dtype=np.float64))
        assert np.all(np.diff(numbers) >= 0), "times must ascend"
        width, height = resized_size(self.info.width, self.info.height, resize)
        if self._turns % 2:
            width, height = height, width
        distinct, repeats = np.unique(numbers, return_counts=True)
        self._source.rewind()
        frames = self._frames_in_order(distinct) if self._index.in_order else self._frames(distinct)
        for number, times, frame in zip(distinct.tolist(), repeats.tolist(), frames, strict=True):
            image = self._source.to_rgb(frame, width, height)
            if self._turns:
                image = np.ascontiguousarray(np.rot90(image, self._turns))
            for _ in range(times):
                yield number, image

    def _frames_in_order(self, numbers: np.ndarray) -> Iterator[Any]:
        wanted = set(numbers.tolist())
        for number, frame in enumerate(self._source.decode_all()):
            if number in wanted:
                yield frame
                wanted.remove(number)
            if not wanted:
                return

    def _frames(self, numbers: np.ndarray) -> Iterator[Any]:
        """Yield the frames of these numbers (ascending, distinct), decoding few of the others."""
        pending = deque(self._index.ticks[numbers].tolist())
        before = None
        for frame in self._decode_for(pending):
            # The decoder may fail to give a frame: the one before stands in for it, at the beginning this one.
            while pending and pending[0] < frame.pts:
                yield self._stand_in(frame if before is None else before, pending.popleft())
            if pending and pending[0] == frame.pts:
                pending.popleft()
                yield frame
            before = frame
        for tick in pending:
            yield self._stand_in(before, tick)

    def _stand_in(self, frame: Any, tick: int) -> Any:
        wanted_seconds = self._index.seconds(tick)
        if frame is None or abs(self._index.seconds(frame.pts) - wanted_seconds) > _LONGEST_GAP_SECONDS:
            raise EtadError(
                f"{self.path}: the decoder gives no frame around second {wanted_seconds:.1f}. "
                f"Fetch the file anew, or leave it out."
            )
        return frame

    def _decode_for(self, pending: deque[int]) -> Iterator[Any]:
        """Decode forward, seeking past and passing over what no tick of `pending` needs; the caller takes ticks off.

        A frame on which no other depends is passed over unless it is wanted itself.
        """
        index, source, wanted = self._index, self._source, frozenset(pending)
        packets, reached, sought, may_seek, landing = source.packets(), 0, 0, True, ""
        while pending:
            key = index.key_before(pending[0])
            if may_seek and key > max(reached + _SEEK_PAYS_FRAMES, sought):
                source.seek(int(index.ticks[key]))
                packets, sought, landing = source.packets(), key, "sought"
            packet = next(packets, None)
            if packet is None:
                return
            missed = landing == "sought" and not (packet.is_keyframe and packet.pts <= pending[0])
            try:
                frames = [] if missed else source.decode(packet, only_referenced=packet.pts not in wanted)
            except EtadError:
                if not landing:
                    raise
                missed = True
            frames = [frame for frame in frames if frame.pts is not None]
            if missed or (landing and frames and frames[0].pts > pending[0]):
                # The seek led to a place that decoding cannot start from: go all the way from the beginning.
                source.rewind()
                packets, may_seek, landing = source.packets(), False, ""
                continue
            landing = "landed" if landing and not frames else ""
            reached = reached if packet.pts is None else max(reached, index.frame_at(packet.pts))
            yield from frames
