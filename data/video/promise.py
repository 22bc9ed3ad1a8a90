"""What a container promises of its video, compared with what is there: a file cut on its way here often reads well."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

# Of a length that a header states for all of a file: writers round it, and add what the last frame is shown for.
_SLACK_SECONDS, _SLACK_SHARE = 0.5, 0.01
# Of a number of frames that a header states: some writers count one that is begun and never written.
_SLACK_FRAMES = 2
# A file that reaches its stated end so closely is whole, whatever size an older version of it had.
_CLOSE_SECONDS = 0.1
_HEAD_BYTES = 1 << 16

_BOXES = {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"ssix", b"emsg", b"prft", b"free", b"skip", b"mfra"}
_EBML_HEADER, _EBML_SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_EBML_TOP = {
    *map(
        bytes.fromhex, ("1f43b675", "1c53bb6b", "114d9b74", "1549a966", "1654ae6b", "1254c367", "1043a770", "1941a469")
    ),
    *(b"\xec", b"\xbf"),
}
_AVI_VIDEO_HEADER = re.compile(rb"strh....vids", re.DOTALL)
_FLV_FILE_SIZE = b"\x00\x08filesize\x00"
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


@dataclass(frozen=True)
class Content:
    """What reading a file to its end has found.

    Parameters
    ----------
    num_packets
        Of the video, those that are never shown too.
    end_seconds
        When the video's last packet ends, in the order of decoding.
    longest_seconds
        When the last packet of any stream ends.
    """

    num_packets: int
    end_seconds: float
    longest_seconds: float


class Ends:
    """Count each stream's packets, and find when the last one ends."""

    def __init__(self) -> None:
        # Of each stream: packets, the last one's stamp, the latest end, both in ticks, and the tick's length.
        self._streams: dict[int, tuple[int, int | None, int, Fraction]] = {}

    def add(self, packet: av.Packet) -> None:
        stamp = packet.pts if packet.dts is None else packet.dts
        if stamp is None and not packet.size:
            return
        stream = packet.stream_index
        if stream not in self._streams:
            self._streams[stream] = 0, None, 0, packet.time_base or Fraction(0)
        count, last, end, tick_seconds = self._streams[stream]
        if stamp is not None:
            end = max(end, stamp + max(packet.duration or 0, stamp - (stamp if last is None else last)))
            last = stamp
        self._streams[stream] = count + 1, last, end, tick_seconds

    def content(self, stream: int) -> Content:
        ends_seconds = {each: float(end * tick) for each, (_, _, end, tick) in self._streams.items()}
        num_packets = self._streams[stream][0] if stream in self._streams else 0
        return Content(num_packets, ends_seconds.get(stream, 0.0), max(ends_seconds.values(), default=0.0))


@dataclass(frozen=True)
class Promise:
    """What a file states of itself, read when it is opened; what it does not state is None.

    Parameters
    ----------
    num_packets
        Packets of the video, by an index.
    end_seconds
        End of the video, by its own header.
    longest_seconds
        End of the longest stream: a container's length says nothing of the picture's.
    file_bytes, found_bytes
        Size of the whole file, and what there is of it.
    tick_seconds
        A frame, where `end_seconds` counts frames.
    is_open_ended
        Whether there might have been more, whatever is stated: fragments tell of themselves alone.
    """

    num_packets: int | None = None
    end_seconds: float | None = None
    longest_seconds: float | None = None
    file_bytes: int | None = None
    found_bytes: int = 0
    tick_seconds: float = 0.0
    is_open_ended: bool = False

    @property
    def is_silent(self) -> bool:
        """Whether no end is stated, as in program and transport streams: a cut cannot be told from one."""
        stated = (self.num_packets, self.end_seconds, self.longest_seconds, self.file_bytes)
        return self.is_open_ended or all(value is None for value in stated)

    def broken_by(self, content: Content) -> str | None:
        """Say what is missing, or None where the promise is kept."""
        if self.num_packets is not None and content.num_packets < self.num_packets:
            return f"{content.num_packets} of the {self.num_packets} frames in its index are there"
        is_reached = (
            self.longest_seconds is not None and content.longest_seconds > self.longest_seconds - _CLOSE_SECONDS
        )
        if self.file_bytes is not None and self.found_bytes < self.file_bytes and not is_reached:
            return f"{self.found_bytes} of its {self.file_bytes} bytes are there"
        if self.end_seconds is not None:
            missing_seconds = self.end_seconds - content.end_seconds
            if missing_seconds > _SLACK_FRAMES * self.tick_seconds + 1e-6:
                return f"its header states {self.end_seconds:.1f} s"
        if self.longest_seconds is not None:
            slack_seconds = max(_SLACK_SECONDS, _SLACK_SHARE * self.longest_seconds)
            if content.longest_seconds < self.longest_seconds - slack_seconds:
                return f"its header states {self.longest_seconds:.1f} s"
        return None


def promise_of(path: Path, container: Any, stream: Any, format_name: str) -> Promise:
    """Read what a file that was just opened, and not read yet, states of itself and its video."""
    reader = _READERS.get(format_name)
    return Promise() if reader is None else reader(path, container, stream)


def _by_samples(path: Path, container: Any, stream: Any) -> Promise:
    entries = getattr(stream, "index_entries", None)
    if stream.frames and entries:  # frames of one whole table; fragments come with tables of their own
        return Promise(num_packets=len(entries))
    found_bytes = path.stat().st_size
    end = _end_of_boxes(path, found_bytes)
    if end > found_bytes:  # whatever length is stated is that of the tables
        return Promise(file_bytes=end, found_bytes=found_bytes, is_open_ended=True)
    return Promise(longest_seconds=_stated_seconds(container), is_open_ended=True)


def _end_of_boxes(path: Path, file_bytes: int) -> int:
    """Where the last box of an MP4 ends, by its own size; boxes of other names, and what follows them, do not count."""
    place = 0
    with path.open("rb") as file:
        while place + 8 <= file_bytes:
            file.seek(place)
            head = file.read(16)
            size = int.from_bytes(head[:4], "big")
            if size == 1:
                size = int.from_bytes(head[8:16], "big")
            if head[4:8] not in _BOXES or size < 8:  # 0: to the end of the file
                break
            place += size
    return place


def _by_frame_count(path: Path, container: Any, stream: Any) -> Promise:
    """AVI's stream header counts frames; the library's own length is an estimate where the index was cut off."""
    head = _head(path)
    header = _AVI_VIDEO_HEADER.search(head)
    num_frames = int.from_bytes(head[header.start() + 40 : header.start() + 44], "little") if header else 0
    if not num_frames:
        return _by_length(path, container, stream)
    tick_seconds = float(stream.time_base)
    return Promise(end_seconds=num_frames * tick_seconds, tick_seconds=tick_seconds)


def _by_length(path: Path, container: Any, __: Any) -> Promise:
    return Promise(longest_seconds=_stated_seconds(container))


def _by_metadata(path: Path, container: Any, stream: Any) -> Promise:
    """FLV's writers may leave the file's size among its metadata."""
    head = _head(path)
    place = head.find(_FLV_FILE_SIZE)
    value = head[place + len(_FLV_FILE_SIZE) :][:8] if place >= 0 else b""
    size = struct.unpack(">d", value)[0] if len(value) == 8 else 0.0
    stated = _by_length(path, container, stream)
    if not 0 < size < 1e15:
        return stated
    return replace(_of_bytes(path, int(size)), longest_seconds=stated.longest_seconds)


def _by_segment(path: Path, container: Any, stream: Any) -> Promise:
    """Matroska's segment states its size, unless it was written as a live stream."""
    head = _head(path)
    end = None
    if head.startswith(_EBML_HEADER):
        size, place = _ebml_size(head, 4)
        if size is not None and head[place + size : place + size + 4] == _EBML_SEGMENT:
            size, place = _ebml_size(head, place + size + 4)
            if size is None:
                end = _end_of_clusters(path, place)
                return replace(Promise() if end is None else _of_bytes(path, end), is_open_ended=True)
            end = place + size
    return _by_length(path, container, stream) if end is None else _of_bytes(path, end)


def _end_of_clusters(path: Path, place: int) -> int | None:
    """Where the last element of a live stream ends; None where one was written without its size."""
    file_bytes = path.stat().st_size
    with path.open("rb") as file:
        while place < file_bytes:
            file.seek(place)
            head = file.read(12)
            name_bytes = 9 - head[0].bit_length()
            if head[:name_bytes] not in _EBML_TOP or len(head) < 12:
                return None
            size, after = _ebml_size(head, name_bytes)
            if size is None:
                return None
            place += after + size
    return place


def _by_file_size(path: Path, container: Any, stream: Any) -> Promise:
    """ASF states the file's size, unless it was broadcast."""
    head = _head(path)
    place = head.find(_ASF_FILE_PROPERTIES)
    size = int.from_bytes(head[place + 40 : place + 48], "little") if place >= 0 else 0
    flags = int.from_bytes(head[place + 88 : place + 92], "little") if place >= 0 else 1
    return _by_length(path, container, stream) if flags & 1 or not size else _of_bytes(path, size)


def _by_stated_frames(_: Path, __: Any, stream: Any) -> Promise:
    """IVF and MXF count frames in their headers, whose places writers that cannot go back fill with ones."""
    if not stream.duration or not 0 < stream.duration < 2**32 - 1:
        return Promise()
    tick_seconds = float(stream.time_base)
    return Promise(end_seconds=stream.duration * tick_seconds, tick_seconds=tick_seconds)


def _of_bytes(path: Path, size: int) -> Promise:
    return Promise(file_bytes=size, found_bytes=path.stat().st_size)


def _stated_seconds(container: Any) -> float | None:
    return container.duration / 1e6 if container.duration else None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _ebml_size(content: bytes, place: int) -> tuple[int | None, int]:
    """Read a size of variable length; returns it, None where it is unknown, and where what it is of begins.

    Examples
    --------
    >>> _ebml_size(bytes([0x84]), 0), _ebml_size(bytes([0x40, 0x02]), 0), _ebml_size(bytes([0xFF]), 0)
    ((4, 1), (2, 2), (None, 1))
    """
    if place >= len(content) or not content[place]:
        return None, place
    count = 9 - content[place].bit_length()
    value = int.from_bytes(content[place : place + count], "big") & ((1 << 7 * count) - 1)
    return (None if value == (1 << 7 * count) - 1 else value), place + count


_READERS: dict[str, Callable[[Path, Any, Any], Promise]] = {
    "mov,mp4,m4a,3gp,3g2,mj2": _by_samples,
    "avi": _by_frame_count,
    "matroska,webm": _by_segment,
    "asf": _by_file_size,
    "flv": _by_metadata,
    "ivf": _by_stated_frames,
    "mxf": _by_stated_frames,
}
