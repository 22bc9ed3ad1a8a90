"""Video files in and out: the only module that knows of codecs and containers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ..errors import EtadError
from ..files.atomic import replacing
from .container import VideoFile
from .files import VIDEO_SUFFIXES, find_videos, list_videos
from .reader import VideoInfo, VideoReader

__all__ = [
    "VIDEO_SUFFIXES",
    "Readers",
    "VideoInfo",
    "VideoReader",
    "find_videos",
    "list_videos",
    "open_video",
    "probe",
    "read_comment",
    "read_frames",
    "write_video",
]

_MUXERS = {".avi": "avi", ".m4v": "mp4", ".mkv": "matroska", ".mov": "mov", ".mp4": "mp4", ".ts": "mpegts"}


def open_video(path: Path | str, *, known: VideoReader | None = None) -> VideoReader:
    """Open a video, index its frames and decode the first one; use it in a `with`.

    Parameters
    ----------
    known
        The same video, opened before, whose index is to serve again.

    Raises
    ------
    EtadError
        No such file, no video in it, a file cut short, or frames that cannot be decoded.
    """
    source = VideoFile(Path(path))
    try:
        return VideoReader(source, known)
    except BaseException:
        source.close()
        raise


class Readers:
    """Readers of one video, handed on from one stretch of it to the next, and closed when the last one is read.

    While a file is opened, its container's own table of frames takes about 90 bytes a frame, and 40 from then on: so
    files are opened one after the other, and as seldom as can be.

    Parameters
    ----------
    known
        The video, opened before; may be closed.
    stretches
        How many there are.
    """

    def __init__(self, known: VideoReader, *, stretches: int) -> None:
        self.path = known.path
        self._known, self._left = known, stretches
        self._idle: list[VideoReader] = []
        self._lock, self._opening = threading.Lock(), threading.Lock()

    @contextlib.contextmanager
    def one(self) -> Iterator[VideoReader]:
        """Lend a reader for one stretch; where that fails, it is not lent again.

        Raises
        ------
        EtadError
            The file cannot be opened any more.
        """
        with self._lock:
            self._left -= 1
        reader, is_well = self._lend(), False
        try:
            yield reader
            is_well = True
        finally:
            spare = [] if is_well else [reader]
            with self._lock:
                self._idle += [reader] if is_well else []
                while len(self._idle) > self._left:
                    spare.append(self._idle.pop())
            for each in spare:
                each.close()

    def _lend(self) -> VideoReader:
        with self._opening:
            with self._lock:
                if self._idle:
                    return self._idle.pop()
            return open_video(self.path, known=self._known)


def probe(path: Path | str) -> VideoInfo:
    """Measure a video, decoding no more of it than must be.

    Raises
    ------
    EtadError
        See `open_video`.
    """
    with open_video(path) as video:
        return video.info


def read_frames(
    path: Path | str, times_seconds: Sequence[float] | np.ndarray, *, resize: tuple[int, int] | int | None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield what a video shows at some times; every frame is decoded and converted once.

    Parameters
    ----------
    times_seconds
        Ascending seconds from where a player begins. Before the first frame and after the last one, these are shown.
    resize
        Width and height, or the short side alone, or none to keep the size.

    Yields
    ------
    For each time: the number of the frame, counted as they are shown, and uint8 (H, W, 3) RGB, turned upright.
    A frame asked for several times is the same array each time.

    Raises
    ------
    EtadError
        See `open_video`; or decoding breaks midway: the message says at which second.
    """
    with open_video(path) as video:
        yield from video.read(times_seconds, resize=resize)


def write_video(
    path: Path | str,
    frames: Iterable[np.ndarray],
    *,
    fps: float,
    crf: int = 18,
    bitrate: int | None = None,
    gop: int = 12,
    comment: str = "",
) -> None:
    """Write H.264 (yuv420p); the same frames give the same bytes, whatever the machine's core count.

    Parameters
    ----------
    frames
        uint8 (H, W, 3) RGB each, all of one size; H and W even.
    fps
        Frames per second.
    crf
        Constant quality, 0 (lossless) to 51.
    bitrate
        Bits per second, instead of a constant quality.
    gop
        Most frames from one key frame to the next.
    comment
        Text to keep in the file, which `read_comment` reads.

    Raises
    ------
    EtadError
        No frames, a size that 4:2:0 colour cannot hold, or a suffix that is none of a video container.
    """
    path = Path(path)
    muxer = _MUXERS.get(path.suffix.lower())
    if muxer is None:
        raise EtadError(f"{path}: cannot write a video of this suffix; known are {' '.join(_MUXERS)}.")
    with (
        replacing(path) as temporary,
        av.open(str(temporary), "w", muxer, options={"fflags": "+bitexact"}) as container,
    ):
        if comment:
            container.metadata["comment"] = comment
        stream = None
        for frame in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                _set_up_encoder(stream, frame.shape, path, crf=crf, bitrate=bitrate, gop=gop)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        if stream is None:
            raise EtadError(f"{path}: there are no frames to write.")
        container.mux(stream.encode(None))


def read_comment(path: Path | str) -> str:
    """Read the comment that a video file carries; empty where there is none, or no video that can be opened."""
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            return next((text for key, text in container.metadata.items() if key.lower() == "comment"), "")
    except (OSError, av.FFmpegError):
        return ""


def _set_up_encoder(
    stream: av.VideoStream, shape: tuple[int, ...], path: Path, *, crf: int, bitrate: int | None, gop: int
) -> None:
    height, width = shape[:2]
    if height % 2 or width % 2:
        raise EtadError(f"{path}: frames are {width}x{height}, but H.264 needs an even width and height.")
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.thread_count = 1
    stream.codec_context.gop_size = gop
    # Macroblock trees make x264 read memory that it never wrote: with them, bytes differ from run to run.
    stream.options = {"preset": "veryfast", "x264-params": "threads=1:no-mbtree=1"}
    if bitrate is None:
        stream.options = {**stream.options, "crf": str(crf)}
    else:
        stream.codec_context.bit_rate = bitrate
