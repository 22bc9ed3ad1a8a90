"""Video files in and out: the only module that knows of codecs and containers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter

from ..errors import EtadError
from ..files.atomic import replacing
from .files import VIDEO_SUFFIXES, list_videos
from .frame_index import FrameIndex, PacketTime, index_by_order, index_by_packets
from .reader import Video, VideoInfo

__all__ = [
    "VIDEO_SUFFIXES",
    "Video",
    "VideoInfo",
    "list_videos",
    "open_video",
    "probe",
    "read_frames",
    "write_video",
]

_MUXERS = {".avi": "avi", ".m4v": "mp4", ".mkv": "matroska", ".mov": "mov", ".mp4": "mp4", ".ts": "mpegts"}
# Decoders that can pass over the frames on which no other depends, and pass over nothing else.
_PASSES_OVER_UNREFERENCED = frozenset({"h264"})
# Containers that state their length and are read without complaint when their end is missing; and the share of that
# length that a file may lack before it counts as cut short on its way here.
_STATES_LENGTH = frozenset({"flv", "matroska,webm"})
_LARGEST_LOSS = 0.1


def open_video(path: Path | str, *, known: Video | None = None) -> Video:
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
    source = _Source(Path(path))
    try:
        return Video(source, known)
    except BaseException:
        source.close()
        raise


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
        Ascending seconds from the first frame's appearance. Before it and after the last frame, these are shown.
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
        stream = None
        for frame in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                _set_up_encoder(stream, frame.shape, path, crf=crf, bitrate=bitrate, gop=gop)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        if stream is None:
            raise EtadError(f"{path}: there are no frames to write.")
        container.mux(stream.encode(None))


class _Source:
    """A file's one video stream and its decoder; every fault of theirs becomes an EtadError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._container, self._stream = _open(path)
        self._scaler = VideoReformatter()  # one for all frames: setting one up costs more than using it
        self._first_tick = 0

    @property
    def codec_name(self) -> str:
        return self._stream.codec_context.name

    @property
    def format_name(self) -> str:
        return self._container.format.name

    @property
    def _tick_seconds(self) -> Fraction:
        return self._stream.time_base or Fraction(1, av.time_base)

    def close(self) -> None:
        self._container.close()

    def rewind(self) -> None:
        """Go back to the beginning by opening the file again: not every container can seek there."""
        self.close()
        self._container, self._stream = _open(self.path)

    def seek(self, tick: int) -> None:
        self._container.seek(tick, stream=self._stream)

    def scan(self) -> FrameIndex:
        """Index frames by their packets' times; decode only where packets have no usable ones."""
        format_name, codec = self.format_name, self._stream.codec_context
        packets, ended_well, has_times = [], True, True
        for packet in self.packets():
            if not packet.size or packet.is_discard or _is_hidden(packet, codec.name):
                continue
            ended_well = not packet.is_corrupt
            # AVI tells the order of decoding alone: with B-frames, that is another one than the order of showing.
            reordered = format_name == "avi" and (codec.has_b_frames or packet.pts != packet.dts)
            has_times = has_times and packet.pts is not None and not reordered
            packets.append(PacketTime(packet.pts or 0, packet.duration or 0, packet.is_keyframe))
        if not packets:
            raise EtadError(f"{self.path}: its video holds no frame. Fetch the file anew, or leave it out.")
        tick_seconds, usual_fps = self._tick_seconds, self._stream.average_rate
        index = index_by_packets(packets, tick_seconds=tick_seconds, usual_fps=usual_fps)
        self._first_tick = int(index.ticks[0])
        stated_seconds = (self._container.duration or 0) / av.time_base if format_name in _STATES_LENGTH else 0.0
        if not ended_well or index.end_seconds < (1 - _LARGEST_LOSS) * stated_seconds:
            raise EtadError(
                f"{self.path}: the file is cut short, it ends within second {index.duration_seconds:.1f}. "
                f"Fetch it anew, or leave it out."
            )
        if has_times and index.num_frames == len(packets):
            return index
        self.rewind()
        stamps = [frame.pts for frame in self.decode_all()]
        if not stamps:
            raise EtadError(f"{self.path}: not one frame of it can be decoded. Fetch it anew, or leave it out.")
        return index_by_order(stamps, tick_seconds=tick_seconds, usual_fps=usual_fps)

    def packets(self) -> Iterator[av.Packet]:
        """Yield the stream's packets from here on; the last one is empty and flushes the decoder."""
        packets, tick = self._container.demux(self._stream), self._first_tick
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                raise self._broken_at(tick, error) from error
            if packet is None:
                return
            tick = tick if packet.pts is None else packet.pts
            yield packet

    def decode(self, packet: av.Packet, *, only_referenced: bool = False) -> list[av.VideoFrame]:
        if self.codec_name in _PASSES_OVER_UNREFERENCED:
            self._stream.codec_context.skip_frame = "NONREF" if only_referenced else "DEFAULT"
        try:
            return packet.decode()
        except av.FFmpegError as error:
            tick = next((stamp for stamp in (packet.pts, packet.dts) if stamp is not None), self._first_tick)
            raise self._broken_at(tick, error) from error

    def decode_all(self) -> Iterator[av.VideoFrame]:
        for packet in self.packets():
            yield from self.decode(packet)

    def to_rgb(self, frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
        scaled = self._scaler.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=Interpolation.BILINEAR, threads=1
        )
        return scaled.to_ndarray()

    def _broken_at(self, tick: int, error: av.FFmpegError) -> EtadError:
        seconds = float((tick - self._first_tick) * self._tick_seconds)
        return EtadError(
            f"{self.path}: decoding breaks at second {seconds:.1f} ({error.strerror}). "
            f"Fetch the file anew, or leave it out."
        )


def _open(path: Path) -> tuple[av.container.InputContainer, av.VideoStream]:
    if not path.is_file():
        found = "this is no regular file" if path.exists() else "there is no such file"
        raise EtadError(f"{path}: {found}; a video was expected.")
    try:
        # The whole path, so that none of it reads as a protocol; and files that point elsewhere lead nowhere.
        container = av.open(
            str(path.resolve()), metadata_errors="ignore", container_options={"protocol_whitelist": "file"}
        )
    except (av.FFmpegError, OSError) as error:
        raise EtadError(f"{path}: the file cannot be opened as a video ({error.strerror}).") from error
    streams = [s for s in container.streams.video if s.codec_context and not s.disposition & Disposition.attached_pic]
    if not streams:
        container.close()
        raise EtadError(f"{path}: no video that can be decoded is in this file.")
    stream = max(streams, key=lambda s: (s.disposition & Disposition.default, s.width * s.height, -s.index))
    # Several videos are decoded at once, so one thread each; a decoder of many threads would also run ahead.
    stream.codec_context.thread_count = 1
    return container, stream


def _is_hidden(packet: av.Packet, codec_name: str) -> bool:
    """VP8 sends frames that are only referred to, never shown, as packets of their own (RFC 6386, section 9.1)."""
    return codec_name in ("vp8", "libvpx") and not bytes(packet)[0] & 0x10


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
