"""Which packets of an H.264 video are the second field of a picture: read off headers, without decoding.

Cameras of the AVCHD kind code an interlaced picture as two fields, each in a packet of its own. Headers are those of
ITU-T H.264, sections 7.3.2.1.1 (sequence), 7.3.2.2 (picture) and 7.3.3 (slice).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_SLICES, _SEQUENCE, _PICTURE = (1, 5), 7, 8
# Profiles whose sequence header says more about colours.
_HIGH_PROFILES = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 144, 244})
# So much of a unit holds every header that is read here.
_HEADER_BYTES = 512


@dataclass(frozen=True)
class _Sequence:
    """What a sequence header says of its pictures."""

    may_have_fields: bool
    separate_planes: bool
    frame_number_bits: int


@dataclass(frozen=True)
class _Field:
    """A coded field: of which picture, and which half of it."""

    frame_number: int
    is_bottom: bool


class FieldPairs:
    """Follow a stream's packets in their order, and tell which one completes the picture that the last one began.

    Parameters
    ----------
    extradata
        The codec's own header, as the container holds it: two forms are known, and absence.
    """

    def __init__(self, extradata: bytes | None) -> None:
        self._sequences: dict[int, _Sequence] = {}
        self._pictures: dict[int, int] = {}
        self._length_bytes = 0
        self._begun: _Field | None = None
        if extradata and extradata[0] == 1 and len(extradata) > 6:  # of MP4 and Matroska: sized units
            self._length_bytes = (extradata[4] & 3) + 1
            self._read_headers(_units_of_record(extradata))
        elif extradata:
            self._read_headers(_units_by_start_codes(extradata))

    @property
    def may_occur(self) -> bool:
        """Whether any sequence read so far may have fields, or none has been read yet."""
        return not self._sequences or any(sequence.may_have_fields for sequence in self._sequences.values())

    def is_second(self, packet: bytes) -> bool:
        """Whether a packet is the second field of the picture whose first field was the packet before."""
        begun, self._begun = self._begun, None
        units = _units_by_size(packet, self._length_bytes) if self._length_bytes else _units_by_start_codes(packet)
        fields: list[_Field] = []
        for unit in units:
            kind = unit[0] & 31
            if kind in (_SEQUENCE, _PICTURE):
                self._read_headers(iter([unit]))
            elif kind in _SLICES:
                field = self._field(unit)
                if field is None:
                    return False
                if not fields or fields[-1] != field:
                    fields.append(field)
                if not self._length_bytes:
                    break  # here a packet is one field or one frame; its further slices are alike
        if len(fields) != 1:
            return False  # both fields lie in this packet
        if (
            begun is not None
            and begun.frame_number == fields[0].frame_number
            and begun.is_bottom != fields[0].is_bottom
        ):
            return True
        self._begun = fields[0]
        return False

    def _read_headers(self, units: Iterator[bytes]) -> None:
        for unit in units:
            try:
                bits = _Bits(unit[1:_HEADER_BYTES])
                if unit[0] & 31 == _SEQUENCE:
                    number, sequence = _read_sequence(bits)
                    self._sequences[number] = sequence
                elif unit[0] & 31 == _PICTURE:
                    picture = bits.golomb()
                    self._pictures[picture] = bits.golomb()
            except IndexError:
                continue  # a damaged header: the decoder will complain of it

    def _field(self, unit: bytes) -> _Field | None:
        try:
            bits = _Bits(unit[1:64])
            bits.golomb()  # first macroblock
            bits.golomb()  # slice type
            sequence = self._sequences.get(self._pictures.get(bits.golomb(), -1))
            if sequence is None or not sequence.may_have_fields:
                return None
            if sequence.separate_planes:
                bits.take(2)
            frame_number = bits.take(sequence.frame_number_bits)
            return _Field(frame_number, bool(bits.take(1))) if bits.take(1) else None
        except IndexError:
            return None


def _read_sequence(bits: _Bits) -> tuple[int, _Sequence]:
    profile = bits.take(8)
    bits.take(16)  # constraints, level
    number = bits.golomb()
    separate_planes = False
    if profile in _HIGH_PROFILES:
        chroma = bits.golomb()
        separate_planes = chroma == 3 and bool(bits.take(1))
        bits.golomb()
        bits.golomb()  # bits of a sample
        bits.take(1)
        if bits.take(1):
            for matrix in range(12 if chroma == 3 else 8):
                if bits.take(1):
                    _skip_scaling_list(bits, 16 if matrix < 6 else 64)
    frame_number_bits = bits.golomb() + 4
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.take(1)
        bits.golomb()
        bits.golomb()  # signed, but as long
        for _ in range(bits.golomb()):
            bits.golomb()
    bits.golomb()  # reference frames
    bits.take(1)
    bits.golomb()
    bits.golomb()  # size
    return number, _Sequence(not bits.take(1), separate_planes, frame_number_bits)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last, following = 8, 8
    for _ in range(size):
        if following:
            code = bits.golomb()
            following = (last + ((code + 1) // 2 if code % 2 else -(code // 2))) % 256
        last = following or last


class _Bits:
    """Bits of a unit, most significant first, without the bytes that keep start codes out of it.

    Reading past the end raises IndexError.
    """

    def __init__(self, unit: bytes) -> None:
        content = unit.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(content, "big")
        self._left = 8 * len(content)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise IndexError("past the end of a header")
        return (self._value >> self._left) & ((1 << count) - 1)

    def golomb(self) -> int:
        """Unsigned, Exp-Golomb coded."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def _units_by_start_codes(content: bytes) -> Iterator[bytes]:
    """Yield the beginnings of what follows start codes."""
    start = content.find(b"\0\0\1")
    while start >= 0 and start + 3 < len(content):
        # The beginning is all that is wanted, and a caller who has enough stops before a long slice is searched.
        yield content[start + 3 : start + 3 + _HEADER_BYTES]
        start = content.find(b"\0\0\1", start + 3)


def _units_by_size(content: bytes, length_bytes: int) -> Iterator[bytes]:
    start = 0
    while start + length_bytes < len(content):
        size = int.from_bytes(content[start : start + length_bytes], "big")
        start += length_bytes
        if size:
            yield content[start : start + min(size, _HEADER_BYTES)]
        start += size


def _units_of_record(record: bytes) -> Iterator[bytes]:
    """Yield the sequence and picture headers of an MP4's configuration record (ISO/IEC 14496-15, section 5.3.3)."""
    place = 5
    for mask in (31, 255):
        if place >= len(record):
            return
        count, place = record[place] & mask, place + 1
        for _ in range(count):
            size = int.from_bytes(record[place : place + 2], "big")
            if size and place + 2 < len(record):
                yield record[place + 2 : place + 2 + size]
            place += 2 + size
