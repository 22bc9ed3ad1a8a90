"""Fields of H.264 pictures, told from frames by their headers."""

from pathlib import Path

import av
import pytest

from etad.data.video.h264 import FieldPairs
from etad.data.video.video import open_video
from reference.barcode import decoded_numbers, number, remux, write


@pytest.mark.parametrize("container", ["ts", "mkv", "mp4", "flv", "avi"])
def test_two_fields_are_one_frame_in_any_container(reports: Path, tmp_path: Path, container: str) -> None:
    path = reports / "paff24.ts" if container == "ts" else remux(reports / "paff24.ts", tmp_path / f"a.{container}")
    with open_video(path) as video:
        info = video.info
        assert (info.num_frames, info.fps, info.duration_seconds) == (24, pytest.approx(25), pytest.approx(0.96))
        numbers = [number(frame) for _, frame in video.read([each / 25 for each in range(24)], resize=None)]
        assert numbers == decoded_numbers(path) == list(range(24))
        assert video.lost_ticks == frozenset() and video.rules == ("holds fields",)


def test_a_field_that_lost_its_other_half_is_a_frame_of_its_own(reports: Path) -> None:
    with av.open(str(reports / "paff24.ts")) as container:
        stream = container.streams.video[0]
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
        pairs = FieldPairs(stream.codec_context.extradata)
    assert [pairs.is_second(packet) for packet in packets[:6]] == [False, True] * 3
    assert [pairs.is_second(packet) for packet in [*packets[6:9], packets[10], packets[11]]] == [
        *(False, True),
        *(False, False, True),
    ]
    assert [pairs.is_second(packets[12] + packets[13]), pairs.is_second(packets[14])] == [False, False]


def test_frames_are_never_pairs_whether_progressive_or_interlaced(tmp_path: Path) -> None:
    for name, options in {"progressive.ts": {}, "interlaced.ts": {"x264-params": "interlaced=1:bframes=3"}}.items():
        path = write(tmp_path / name, range(20), **options)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            pairs = FieldPairs(stream.codec_context.extradata)
            assert pairs.may_occur == name.startswith("interlaced")
            assert not any(pairs.is_second(bytes(packet)) for packet in container.demux(stream) if packet.size)


def test_headers_in_the_stream_alone_are_found_and_damaged_ones_are_no_pairs(reports: Path) -> None:
    with av.open(str(reports / "paff24.ts")) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    pairs = FieldPairs(None)
    assert [pairs.is_second(packet) for packet in packets[:4]] == [False, True, False, True]
    for damaged in (b"", b"\0\0\1", b"\0\0\1\x67", bytes(4000), b"\0\0\1\x67" + b"\xff" * 40, packets[0][:30]):
        assert not FieldPairs(damaged).is_second(damaged)
