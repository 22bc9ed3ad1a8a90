"""A video file as a container and a decoder know it: packets in, frames out, one clock, faults as sentences."""

from __future__ import annotations

import collections
import contextlib
import itertools
from array import array
from bisect import bisect
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter

from ..errors import EtadError
from .clock import Restarts, is_restart
from .frame_index import (
    FrameIndex,
    PacketTime,
    PacketTimes,
    first_key,
    has_distinct_times,
    index_by_order,
    index_by_packets,
    join,
    needs_a_look,
    without_unshown,
)
from .h264 import FieldPairs
from .promise import Ends, Promise, promise_of
from .reader import LONGEST_GAP_SECONDS, Undecodable, decoding_breaks

# Decoders that can pass over the frames on which no other depends, and pass over nothing else.
_PASSES_OVER_UNREFERENCED = frozenset({"h264"})
# Recordings of what is sent begin where they begin; in any other file, frames before the first key frame are a loss.
_BEGIN_ANYWHERE = frozenset({"mpeg", "mpegts", "mpegvideo", "h264", "hevc"})
_VP8_KEY_FRAME = b"\x9d\x01\x2a"
# No picture begins so long after the sound and is shorter still: such a clock is broken.
_LONGEST_DELAY_SECONDS = 60.0


class VideoFile:
    """A file's one video stream and its decoder; every fault of theirs becomes an EtadError.

    Attributes
    ----------
    lost_ticks
        When frames were due that could not be decoded, or not rightly, so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._container, self._stream = open_container(path)
        # One for all frames of a size: setting one up costs more than using it.
        self._scalers: dict[tuple[int, int], VideoReformatter] = collections.defaultdict(VideoReformatter)
        self._first_tick = 0
        self._shifts: tuple[int, ...] = ()
        self._drained: list[av.VideoFrame] = []
        self._is_untouched = True
        self.lost_ticks: set[int] = set()

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
        if self._is_untouched:
            return
        self.close()
        self._container, self._stream = open_container(self.path)
        self._is_untouched = True
        self._drained = []

    def seek(self, tick: int) -> None:
        self._is_untouched = False
        self._drained = []
        self._container.seek(tick, stream=self._stream)

    def use(self, index: FrameIndex) -> None:
        """Put packets on an index's clock from now on."""
        self._shifts, self._first_tick = index.shifts, index.first_tick

    def scan(self) -> FrameIndex:
        """Index frames by their packets' times; decode only where packets have no usable ones.

        Raises
        ------
        EtadError
            There is no frame, or the file is cut short.
        """
        promise = promise_of(self.path, self._container, self._stream, self.format_name)
        packets, starts, has_times, rules = self._read_packets(promise)
        if not packets:
            raise EtadError(f"{self.path}: its video holds no frame. Fetch the file anew, or leave it out.")
        tick_seconds, usual_fps = self._tick_seconds, self._stream.average_rate
        stretches = {
            number: packets[start:stop] if len(starts) > 1 else packets
            for number, (start, stop) in enumerate(itertools.pairwise([*starts, len(packets)]))
            if stop > start
        }
        indexes = {
            number: index_by_packets(each, tick_seconds=tick_seconds, usual_fps=usual_fps)
            for number, each in stretches.items()
        }
        if has_times and all(has_distinct_times(each, indexes[number]) for number, each in stretches.items()):
            looked_at = {number for number, each in stretches.items() if needs_a_look(each)}
            if looked_at:
                rules.add("begins inside a group")
                indexes = self._without_unshown(indexes, looked_at)
            index = join(list(indexes.values()))
            shifts = dict(zip(indexes, index.shifts, strict=True))
            index = replace(index, shifts=tuple(shifts.get(number, 0) for number in range(len(starts))))
        else:
            index = self._index_by_decoding(usual_fps, restarts=len(starts) > 1)
        if len(starts) > 1:
            rules.add("its clock restarts")
        zero_tick = self._zero_tick(index)
        if zero_tick is not None:
            rules.add("begins later than its clock")
        if self.format_name not in _BEGIN_ANYWHERE and not index.in_order:
            first = first_key(packets)
            index = replace(index, unshown_ticks=tuple(packet.pts for packet in packets[:first]))
        if packets.incomplete and not index.in_order:
            moved = dict(enumerate(index.shifts))
            places = [(place, moved.get(bisect(starts, place) - 1, 0)) for place in packets.incomplete]
            lacking = tuple(packets[place].pts + shift for place, shift in places)
            index = replace(index, unshown_ticks=index.unshown_ticks + lacking)
        index = replace(index, zero_tick=zero_tick, states_length=not promise.is_silent, rules=tuple(sorted(rules)))
        self.use(index)
        return index

    def packets(self) -> Iterator[av.Packet]:
        """Yield the video's packets from here on, on one clock; the last one is empty and flushes the decoder.

        Only from the beginning on are restarts of the clock noticed.
        """
        restarts, stretch = Restarts(self._container.format, self._tick_seconds), 0
        for packet in self._demux(self._container.demux(self._stream)):
            if restarts.at(packet):
                stretch += 1
                self._drain()
            shift = self._shifts[stretch] if stretch < len(self._shifts) else 0
            if shift:
                packet.pts = None if packet.pts is None else packet.pts + shift
                packet.dts = None if packet.dts is None else packet.dts + shift
            yield packet

    def decode(self, packet: av.Packet, *, only_referenced: bool = False) -> list[av.VideoFrame]:
        """Decode one packet.

        Raises
        ------
        Undecodable
            This packet is damaged; others may be well.
        """
        frames, self._drained = self._drained, []
        if not packet.size and (packet.pts is not None or packet.dts is not None):
            return frames  # an unchanged picture (Theora); the decoder would take it for the end
        if self.codec_name in _PASSES_OVER_UNREFERENCED:
            self._stream.codec_context.skip_frame = "NONREF" if only_referenced else "DEFAULT"
        try:
            frames += packet.decode()
        except av.FFmpegError as error:
            self._drained = frames
            tick = next((stamp for stamp in (packet.pts, packet.dts) if stamp is not None), self._first_tick)
            raise Undecodable(self._broken_at(tick, error), tick) from error
        self.lost_ticks.update(frame.pts for frame in frames if frame.is_corrupt and frame.pts is not None)
        return frames

    def decode_all(self) -> Iterator[av.VideoFrame]:
        """Decode everything, passing over what is damaged, unless that is too much at once.

        Raises
        ------
        EtadError
            Nothing can be decoded for longer than a frame may stand in for others.
        """
        last_tick = None
        for packet in self.packets():
            try:
                frames = self.decode(packet)
            except Undecodable as error:
                last_tick = error.tick if last_tick is None else last_tick
                if (error.tick - last_tick) * self._tick_seconds > LONGEST_GAP_SECONDS:
                    raise
                self.lost_ticks.add(error.tick)
                continue
            last_tick = frames[-1].pts if frames else last_tick
            yield from frames

    def to_rgb(self, frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
        scaled = self._scalers[width, height].reformat(
            frame, width=width, height=height, format="rgb24", interpolation=Interpolation.BILINEAR, threads=1
        )
        return scaled.to_ndarray()

    def _read_packets(self, promise: Promise) -> tuple[PacketTimes, list[int], bool, set[str]]:
        """Read the file to its end.

        Returns
        -------
        Times of the video's packets; how many of them come before each start of the clock; whether the times can be
        used; what is uncommon.
        """
        stream, codec, format_name = self._stream, self._stream.codec_context, self.format_name
        pairs = FieldPairs(codec.extradata) if codec.name == "h264" else None
        restarts, ends = Restarts(self._container.format, self._tick_seconds), Ends()
        packets, starts, has_times, ended_well = PacketTimes(), [0], True, True
        rules: set[str] = set()
        was_edited = was_marked = False
        for packet in self._demux(self._container.demux()):
            ends.add(packet)
            if packet.stream_index != stream.index:
                continue
            if restarts.at(packet):
                starts.append(len(packets))
            if not packet.size:
                if packet.pts is not None and codec.name == "theora" and packets:
                    rules.add("holds unchanged pictures")
                    last = packets[-1]
                    packets.lengthen_last(packet.pts + (packet.duration or 0) - last.pts - last.duration)
                continue
            if packet.is_discard or _is_hidden(packet, codec.name):
                was_edited = was_edited or packet.is_discard
                continue
            # The library marks the packet before the one that lacks a part. A stream's last one only seems to lack it
            # where another is joined on, which begins with a key frame or a clock of its own.
            if was_marked and not (packet.is_keyframe or len(packets) == starts[-1]):
                packets.incomplete.append(len(packets) - 1)
            was_marked, ended_well = not ended_well, not packet.is_corrupt
            if pairs is not None and pairs.may_occur and pairs.is_second(bytes(packet)):
                packets.lengthen_last(packet.duration or 0)
                rules.add("holds fields")
                continue
            # AVI tells the order of decoding alone: with B-frames, that is another one than the order of showing.
            reordered = format_name == "avi" and (codec.has_b_frames or packet.pts != packet.dts)
            has_times = has_times and packet.pts is not None and not reordered
            packets.append(PacketTime(packet.pts or 0, packet.duration or 0, packet.is_keyframe))
        content = ends.content(stream.index)
        broken = promise.broken_by(content) or (None if ended_well else "its last frame is incomplete")
        if broken:
            raise EtadError(
                f"{self.path}: the file is cut short, it ends within second {content.end_seconds:.1f} ({broken}). "
                f"Fetch it anew, or leave it out."
            )
        # Frames whose key frame an edit list hides can be decoded, but their times do not tell from where on.
        has_times = has_times and not (was_edited and packets and not packets[0].is_key)
        return packets, starts, has_times, rules

    def _index_by_decoding(self, usual_fps: Fraction | None, *, restarts: bool) -> FrameIndex:
        self.rewind()
        stretches: list[list[int | None]] = [[]]
        last: int | None = None
        for frame in self.decode_all():
            before, last = last, frame.pts
            if restarts and not (before is None or last is None) and is_restart((last - before) * self._tick_seconds):
                stretches.append([])
            stretches[-1].append(last)
        if not stretches[0]:
            raise EtadError(f"{self.path}: not one frame of it can be decoded. Fetch it anew, or leave it out.")
        indexes = [index_by_order(stamps, tick_seconds=self._tick_seconds, usual_fps=usual_fps) for stamps in stretches]
        if len({index.tick_seconds for index in indexes}) > 1:  # the times of some are of no use: of none, then
            missing = [None for stamps in stretches for _ in stamps]
            indexes = [index_by_order(missing, tick_seconds=self._tick_seconds, usual_fps=usual_fps)]
        return replace(join(indexes), shifts=(0,))

    def _without_unshown(self, indexes: dict[int, FrameIndex], looked_at: set[int]) -> dict[int, FrameIndex]:
        """Decode the beginnings of these stretches, and take out the frames that the decoder does not show."""
        self.rewind()
        shown = {number: array("q") for number in looked_at}
        restarts, number = Restarts(self._container.format, self._tick_seconds), 0
        for packet in self._demux(self._container.demux(self._stream)):
            frames: list[av.VideoFrame] = []
            begins = restarts.at(packet)
            if begins:
                self._drain()
                frames, self._drained = self._drained, []
            if number in shown and not _has_reached(shown[number], indexes[number]):
                with contextlib.suppress(Undecodable):  # whoever reads this frame will say so
                    frames = frames if begins else self.decode(packet)
                shown[number].extend(frame.pts for frame in frames if frame.pts is not None)
            number += begins
            if begins and number in shown:
                with contextlib.suppress(Undecodable):
                    shown[number].extend(frame.pts for frame in self.decode(packet) if frame.pts is not None)
        self._drained = []
        self.lost_ticks.clear()
        found = {
            number: without_unshown(index, shown[number]) if number in shown else index
            for number, index in indexes.items()
            if number not in shown or shown[number]
        }
        if not found:
            raise EtadError(f"{self.path}: not one frame of it can be decoded. Fetch it anew, or leave it out.")
        return found

    def _zero_tick(self, index: FrameIndex) -> int | None:
        """Zero of the file's clock, where the picture appears later than a sound or another picture begins; else None.

        So it is too where the picture's own first frames cannot be shown.
        """
        starts = [
            float(stream.start_time * (stream.time_base or 0))
            for stream in self._container.streams
            if stream.type in ("audio", "video")
            and stream.start_time is not None
            and not stream.disposition & Disposition.attached_pic
        ]
        if not starts or index.in_order:
            return None
        tick_seconds = float(index.tick_seconds)
        delay_seconds = int(index.ticks[0]) * tick_seconds - min(starts)
        # Less than a frame is what codecs and containers add of their own, not what anybody means.
        if delay_seconds <= 1 / index.fps or delay_seconds > max(_LONGEST_DELAY_SECONDS, index.duration_seconds):
            return None
        return round(min(starts) / tick_seconds)

    def _demux(self, packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
        tick = self._first_tick
        self._is_untouched = False
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                raise EtadError(self._broken_at(tick, error)) from error
            if packet is None:
                return
            if packet.stream_index == self._stream.index and packet.pts is not None:
                tick = packet.pts
            yield packet

    def _drain(self) -> None:
        """Take the last frames before a restart out of the decoder: what follows depends on none of them."""
        codec = self._stream.codec_context
        if codec.is_open:
            with contextlib.suppress(av.FFmpegError):
                self._drained += codec.decode(None)
            codec.flush_buffers()

    def _broken_at(self, tick: int, error: av.FFmpegError) -> str:
        seconds = float((tick - self._first_tick) * self._tick_seconds)
        return decoding_breaks(self.path, seconds, str(error.strerror))


def open_container(path: Path) -> tuple[av.container.InputContainer, av.VideoStream]:
    """Open a file and choose its video: the default one, or the largest.

    Raises
    ------
    EtadError
        No such file, or no video in it.
    """
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


def _has_reached(shown: array[int], index: FrameIndex) -> bool:
    return bool(shown) and max(shown) >= index.key_ticks[0]


def _is_hidden(packet: av.Packet, codec_name: str) -> bool:
    """VP8 sends frames that are only referred to, never shown, as packets of their own (RFC 6386, section 9.1)."""
    if codec_name not in ("vp8", "libvpx"):
        return False
    content = bytes(packet)
    is_sound = content[0] & 1 or content[3:6] == _VP8_KEY_FRAME  # else it is damaged, and a frame is due
    return bool(is_sound) and not content[0] & 0x10
