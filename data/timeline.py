"""Where snippets stand in a video: the one place that converts seconds, frames, snippets and fractions."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from .errors import EtadError

# The rules by which a video file becomes frames and times (`data/video`). Raise it whenever any file would be read into
# other frames, or at other times, than before, and say what changed in `data/cache/rules.py`: features that were made
# by older rules are then named wherever they are used, and extraction looks at their files again.
READING_RULES = 2

# Frames are looked up for so many clips at once.
_BLOCK_CLIPS = 256


@dataclass(frozen=True)
class Timeline:
    """The snippets of one video, in seconds.

    A *frame* is a tick of the sampling grid: frame k is what the video shows at k / fps seconds. A snippet is a
    clip of `clip_frames` frames, `frame_step` apart; it stands at the clip's centre.

    Parameters
    ----------
    duration_seconds
        Length of the video.
    fps
        Frames per second of the sampling grid.
    num_frames
        Frames of the grid that the video fills.
    clip_frames, frame_step
        Frames in a clip and the distance between them, in frames.
    start_frames
        First frame of each snippet's clip, ascending. May be negative or past the end (method, section 1).
    """

    duration_seconds: float
    fps: float
    num_frames: int
    clip_frames: int
    frame_step: int
    start_frames: tuple[int, ...]

    @property
    def num_snippets(self) -> int:
        return len(self.start_frames)

    @property
    def centers_seconds(self) -> np.ndarray:
        """Centre of each snippet's clip, (T,): frame f + frame_step * clip_frames / 2."""
        half_clip = self.frame_step * self.clip_frames / 2
        return (np.asarray(self.start_frames, dtype=np.float64) + half_clip) / self.fps

    def clip_frame_indices(
        self, edge: str = "repeat", shifts: np.ndarray | None = None, *, still: bool = False
    ) -> np.ndarray:
        """Frames of every clip, (T, L), within 0 .. num_frames - 1.

        Parameters
        ----------
        edge
            Frames outside the video `repeat` the first or last one, or `wrap` around (the released model).
        shifts
            (T, L) frames to shift each frame by (temporal jitter, Table 7).
        still
            Every frame of a clip is its middle one.
        """
        offsets = np.arange(self.clip_frames) * self.frame_step
        if still:
            offsets = np.full_like(offsets, offsets[self.clip_frames // 2])
        indices = np.asarray(self.start_frames, dtype=np.int64)[:, None] + offsets
        if shifts is not None:
            indices = indices + shifts
        if edge == "wrap":
            return indices % self.num_frames
        assert edge == "repeat", edge
        return np.clip(indices, 0, self.num_frames - 1)


class WantedFrames:
    """Which frames of the grid clips need, looked up a block of clips at a time: no length fills the memory.

    Iterating gives ascending arrays of frames, each frame once.

    Attributes
    ----------
    taken
        Of each frame given and not yet taken off: the frame, and the last clip that needs it.
    clips
        Of each clip looked up and not yet taken off: the frame that completes it and all before it, and its frames
        (L,).
    """

    def __init__(self, indices_of: Callable[[int, int], np.ndarray], num_clips: int) -> None:
        self._indices_of, self._num_clips = indices_of, num_clips
        self.taken: deque[tuple[int, int]] = deque()
        self.clips: deque[tuple[int, np.ndarray]] = deque()

    def __iter__(self) -> Iterator[np.ndarray]:
        blocks = [
            (start, min(start + _BLOCK_CLIPS, self._num_clips)) for start in range(0, self._num_clips, _BLOCK_CLIPS)
        ]
        # What a block's clips and all later ones need at the earliest: frames before that are settled.
        lowest = [int(self._indices_of(*block).min()) for block in blocks]
        lowest = np.minimum.accumulate(lowest[::-1])[::-1].tolist()
        frames, last, highest = np.empty(0, np.int64), np.empty(0, np.int64), -1
        for (start, stop), settled in zip(blocks, [*lowest[1:], np.inf], strict=True):
            indices = self._indices_of(start, stop)
            completes = np.maximum.accumulate(np.maximum(indices.max(axis=1), highest))
            highest = int(completes[-1])
            self.clips.extend(zip(completes.tolist(), indices, strict=True))
            merged = np.union1d(frames, indices)
            clips = np.full(len(merged), -1)
            clips[np.searchsorted(merged, frames)] = last
            np.maximum.at(clips, np.searchsorted(merged, indices), np.arange(start, stop)[:, None])
            count = int(np.searchsorted(merged, settled))
            self.taken.extend(zip(merged[:count].tolist(), clips[:count].tolist(), strict=True))
            frames, last = merged[count:], clips[count:]
            yield merged[:count]


def spread(
    *, duration_seconds: float, fps: float, clip_frames: int, frame_step: int = 1, num_snippets: int
) -> Timeline:
    """Spread clips evenly over the whole video (`rescale`, method, section 1).

    Clip i starts at frame round(i (N - span) / (T - 1)); a video shorter than a clip starts all of them at frame 0.

    Examples
    --------
    >>> spread(duration_seconds=4, fps=10, clip_frames=8, num_snippets=3).start_frames
    (0, 16, 32)
    """
    num_frames = count_frames(duration_seconds, fps)
    room = max(num_frames - clip_frames * frame_step, 0)
    # numpy rounds halves to even, as the released sampler does.
    starts = np.round(np.arange(num_snippets) * room / max(num_snippets - 1, 1)).astype(int)
    return Timeline(duration_seconds, fps, num_frames, clip_frames, frame_step, tuple(starts.tolist()))


def strided(
    *, duration_seconds: float, fps: float, clip_frames: int, frame_step: int = 1, stride_frames: int
) -> Timeline:
    """Set a clip every `stride_frames` frames (`sliding`, method, section 1).

    Examples
    --------
    >>> strided(duration_seconds=1, fps=30, clip_frames=16, stride_frames=4).start_frames
    (0, 4, 8, 12)
    """
    num_frames = count_frames(duration_seconds, fps)
    room = max(num_frames - clip_frames * frame_step, 0)
    starts = range(0, room + 1, stride_frames)
    return Timeline(duration_seconds, fps, num_frames, clip_frames, frame_step, tuple(starts))


def count_frames(duration_seconds: float, fps: float) -> int:
    """Count the frames of a grid that a video fills; at least one.

    Examples
    --------
    >>> count_frames(10.01, 29.97), count_frames(0.001, 30)
    (300, 1)
    """
    return max(1, round(duration_seconds * fps))


@dataclass(frozen=True)
class Timing:
    """How a cache's features stand in time: what is stored beside them.

    Snippet t stands at first_center_seconds + t * center_step_seconds, or at centers_seconds[t] where the steps are
    irregular (clips spread over a video start at rounded frames). The duration is what decoding measured; NaN where
    features came without any.
    """

    duration_seconds: float
    fps: float
    num_frames: int
    clip_frames: int
    frame_step: int
    first_center_seconds: float
    center_step_seconds: float
    centers_seconds: tuple[float, ...] | None = None

    @classmethod
    def of(cls, timeline: Timeline) -> Timing:
        """Describe a timeline; centres are listed one by one only where their steps differ."""
        centers = timeline.centers_seconds
        steps = np.diff(centers)
        regular = len(steps) == 0 or bool(np.ptp(steps) < 1e-9)
        step = float(steps.mean()) if len(steps) else 0.0
        if len(steps) == 0:
            step = timeline.clip_frames * timeline.frame_step / timeline.fps
        return cls(
            duration_seconds=timeline.duration_seconds,
            fps=timeline.fps,
            num_frames=timeline.num_frames,
            clip_frames=timeline.clip_frames,
            frame_step=timeline.frame_step,
            first_center_seconds=float(centers[0]),
            center_step_seconds=step,
            centers_seconds=None if regular else tuple(centers.tolist()),
        )

    @property
    def is_measured(self) -> bool:
        return math.isfinite(self.duration_seconds)

    def centers(self, num_snippets: int) -> np.ndarray:
        """Seconds at which each of `num_snippets` snippets stands, (T,)."""
        if self.centers_seconds is not None:
            assert len(self.centers_seconds) == num_snippets, (len(self.centers_seconds), num_snippets)
            return np.asarray(self.centers_seconds)
        return self.first_center_seconds + self.center_step_seconds * np.arange(num_snippets)


@dataclass(frozen=True)
class Span:
    """A stretch of a video that the detector sees as 0 .. 1: a whole video, or one sliding window."""

    start_seconds: float
    length_seconds: float

    @classmethod
    def of_video(cls, duration_seconds: float) -> Span:
        return cls(0.0, duration_seconds)

    @classmethod
    def of_window(cls, timing: Timing, first_snippet: int, num_snippets: int) -> Span:
        """Window of a regular feature sequence: fraction t / T is the centre of its snippet t."""
        if timing.centers_seconds is not None:
            raise EtadError(
                "sliding windows need features at a regular stride, but these list a centre for each snippet. "
                "Extract them with clips.layout='sliding', or set detect.windows='rescale'."
            )
        start = timing.first_center_seconds + first_snippet * timing.center_step_seconds
        return cls(start, num_snippets * timing.center_step_seconds)

    def to_fraction(self, seconds: np.ndarray) -> np.ndarray:
        return (np.asarray(seconds, dtype=np.float64) - self.start_seconds) / self.length_seconds

    def to_seconds(self, fraction: np.ndarray) -> np.ndarray:
        return np.asarray(fraction, dtype=np.float64) * self.length_seconds + self.start_seconds


def window_starts(num_snippets: int, window: int, stride: int) -> list[int]:
    """First snippets of sliding windows; the last one is right-aligned (method, section 1).

    Examples
    --------
    >>> window_starts(300, window=128, stride=64)
    [0, 64, 128, 172]
    >>> window_starts(100, window=128, stride=64)
    [0]
    """
    if num_snippets <= window:
        return [0]
    starts = list(range(0, num_snippets - window + 1, stride))
    if starts[-1] + window < num_snippets:
        starts.append(num_snippets - window)
    return starts
