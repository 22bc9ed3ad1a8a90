"""Working copies of videos: fewer, smaller frames and near key frames, at the times of the original."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..digest import file_sha256
from ..errors import EtadError, counted, shown
from ..timeline import READING_RULES, count_frames
from .files import file_stamp
from .reader import VideoReader
from .transforms import resized_size
from .video import open_video, read_comment, write_video

_BLOCK_FRAMES = 256
# A copy is looked through at this size: all of it is decoded, next to nothing converted.
_LOOK_SIZE = (16, 16)
_MOST_DENOMINATOR = 1001


@dataclass(frozen=True)
class CopySettings:
    """How working copies are made.

    Parameters
    ----------
    fps
        Frames per second; none: as many as the original has. It is never raised above that.
    short_side
        Pixels of the shorter side, made even; none, or more than the original has: its own.
    gop
        Most frames from one key frame to the next: few make it cheap to read a video from its middle.
    crf
        Constant quality of H.264, 0 (lossless) to 51.
    """

    fps: float | None = None
    short_side: int | None = 256
    gop: int = 12
    crf: int = 18


@dataclass(frozen=True)
class WorkingCopy:
    """A copy as it was made, or found made already.

    Parameters
    ----------
    num_frames, fps
        Of the copy.
    made
        False where a copy of the same file with the same settings was there.
    """

    path: Path
    num_frames: int
    fps: float
    made: bool


def make_copy(
    source: Path, target: Path, settings: CopySettings, *, report: Callable[[float], None] = lambda share: None
) -> WorkingCopy:
    """Write a working copy, look through all of it, and leave one that is there already if it is the same.

    Frame k of the copy is what the original shows at k / fps seconds, so that annotations and features fit both. The
    copy holds no sound. It says itself what it was made from, so nothing else has to be kept.

    Parameters
    ----------
    report
        Called with the share that is done, 0..1, while frames are written.

    Raises
    ------
    EtadError
        The original cannot be read to its end, has frames that cannot be decoded (a copy would hide that), or the copy
        is not what was written.
    """
    stamp = file_stamp(source)
    found = _copy_in_place(source, target, settings)
    if found is not None:
        return found
    with open_video(source) as video:
        fps = _copy_fps(video.info.fps, settings.fps)
        num_frames = count_frames(video.info.duration_seconds, float(fps))
        width, height = _even_size(video, settings.short_side)
        origin = {
            "etad_copy": {
                "source": source.name,
                "bytes": source.stat().st_size,
                "sha256": file_sha256(source),
                "settings": asdict(settings),
                "reading_rules": READING_RULES,
                "num_frames": num_frames,
            }
        }

        def frames() -> Iterator[np.ndarray]:
            blocks = (
                np.arange(first, min(first + _BLOCK_FRAMES, num_frames)) * float(1 / fps)
                for first in range(0, num_frames, _BLOCK_FRAMES)
            )
            for done, (_, image) in enumerate(video.read(blocks, resize=(width, height)), start=1):
                yield image
                report(done / num_frames)
            if file_stamp(source) != stamp:
                raise EtadError(f"{source}: this file changed while it was read. Repeat when it is whole.")
            if video.lost_ticks:
                raise EtadError(
                    f"{source}: {counted(len(video.lost_ticks), 'frame')} of it cannot be decoded. A copy would hide "
                    "that: fetch the file anew, or extract from it as it is."
                )

        comment = json.dumps(origin)
        write_video(target, frames(), fps=float(fps), crf=settings.crf, gop=settings.gop, comment=comment)
    _look_through(target, num_frames, (width, height))
    return WorkingCopy(target, num_frames, float(fps), made=True)


def _copy_in_place(source: Path, target: Path, settings: CopySettings) -> WorkingCopy | None:
    """The copy that is there, if it was made from this file, with these settings and today's rules."""
    try:
        origin = json.loads(read_comment(target))["etad_copy"]
        same = origin["settings"] == asdict(settings) and origin["reading_rules"] == READING_RULES
        if not same or origin["bytes"] != source.stat().st_size or origin["sha256"] != file_sha256(source):
            return None
        with open_video(target) as video:
            whole = video.info.num_frames == origin["num_frames"]
            return WorkingCopy(target, video.info.num_frames, video.info.fps, made=False) if whole else None
    except (EtadError, OSError, ValueError, KeyError, TypeError):
        return None


def _copy_fps(own: float, wanted: float | None) -> Fraction:
    """Frames per second of the copy, in a form that H.264 files state exactly."""
    return Fraction(min(own, wanted or own)).limit_denominator(_MOST_DENOMINATOR)


def _even_size(video: VideoReader, short_side: int | None) -> tuple[int, int]:
    """Width and height of the copy: not above the original's, even as H.264 needs them."""
    width, height = video.info.width, video.info.height
    if short_side is not None and short_side < min(width, height):
        width, height = resized_size(width, height, short_side)
    return max(2, width // 2 * 2), max(2, height // 2 * 2)


def _look_through(target: Path, num_frames: int, size: tuple[int, int]) -> None:
    """Decode all of a copy.

    Raises
    ------
    EtadError
        It is not what was written: the disk or the memory is at fault. The copy is removed.
    """
    try:
        with open_video(target) as video:
            times = np.arange(num_frames) / video.info.fps
            seen = sum(1 for _ in video.read(times, resize=_LOOK_SIZE))
            found = (video.info.num_frames, (video.info.width, video.info.height), len(video.lost_ticks), seen)
    except EtadError as error:
        target.unlink(missing_ok=True)
        raise EtadError(f"{target}: the copy cannot be read ({error}). Check the disk, then repeat.") from error
    if found != (num_frames, size, 0, num_frames):
        target.unlink(missing_ok=True)
        raise EtadError(
            f"{target}: {num_frames} frames of {size[0]}x{size[1]} were written, but {shown(found)} were read back. "
            "Check the disk, then repeat."
        )
