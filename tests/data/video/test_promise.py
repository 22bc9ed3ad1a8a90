"""Files that were cut on their way here, told from whole ones by what they state of themselves."""

import re
from pathlib import Path

import av
import pytest

from etad.data.errors import EtadError
from etad.data.video.promise import Content, Promise
from etad.data.video.video import open_video, probe
from reference.barcode import B_FRAMES, remux, write

# Containers that state enough, and what they hold usually.
CODECS = {
    "mp4": "libx264",
    "mov": "libx264",
    "avi": "mpeg4",
    "b.avi": "mpeg4",
    "mkv": "libx264",
    "webm": "libvpx",
    "flv": "libx264",
    "wmv": "msmpeg4",
    "ivf": "libvpx",
    "mxf": "mpeg2video",
}


def whole(path: Path, codec: str, seconds_of_sound: float | None = None) -> Path:
    sound = None if seconds_of_sound is None else (0.0, seconds_of_sound)
    extra = B_FRAMES if codec == "libx264" else {"bf": "2"} if "b.avi" in path.name else {}
    if path.suffix not in (".mp4", ".mov"):
        return write(path, range(100), codec=codec, sound_seconds=sound, **extra)
    plain = write(path.with_name(f"plain{path.suffix}"), range(100), codec=codec, sound_seconds=sound, **extra)
    return remux(plain, path, movflags="faststart")  # its index first, as it is streamed


@pytest.mark.parametrize("share", [0.25, 0.6, 0.95])
@pytest.mark.parametrize("container", CODECS)
def test_a_file_cut_between_packets_is_refused(tmp_path: Path, container: str, share: float) -> None:
    path = whole(tmp_path / f"whole.{container}", CODECS[container])
    assert probe(path).num_frames == 100
    with av.open(str(path)) as opened:
        places = [packet.pos for packet in opened.demux(video=0) if packet.size]
    content = path.read_bytes()
    place = places[int(share * len(places))] or int(share * len(content))
    cut = tmp_path / f"cut.{container}"
    cut.write_bytes(content[:place])
    with pytest.raises(EtadError, match=rf"cut\.{container}: the file is cut short, it ends within second \d\.\d \("):
        probe(cut)


@pytest.mark.parametrize("container", ["mp4", "mkv", "flv", "ts"])
def test_whole_files_whose_sound_is_longer_or_shorter_are_kept(tmp_path: Path, container: str) -> None:
    for seconds in (0.5, 9.0):
        path = write(tmp_path / f"{seconds}.{container}", range(50), sound_seconds=(0.0, seconds))
        assert probe(path).num_frames == 50


def test_live_streams_fragments_and_transport_streams_promise_little(tmp_path: Path) -> None:
    live = write(tmp_path / "live.mkv", range(50))
    content = live.read_bytes()
    place = content.index(b"\x18\x53\x80\x67") + 4
    live.write_bytes(content[:place] + b"\x01" + b"\xff" * 7 + content[place + 8 :])
    assert probe(live).num_frames == 50
    fragments = remux(write(tmp_path / "a.mp4", range(50)), tmp_path / "b.mp4", movflags="frag_keyframe+empty_moov")
    assert probe(fragments).num_frames == 50
    for container, is_silent in {"ts": True, "mpg": True, "avi": False, "mkv": False}.items():
        codec = {"avi": "mpeg4", "mpg": "mpeg2video"}.get(container, "libx264")
        with open_video(write(tmp_path / f"c.{container}", range(20), codec=codec)) as video:
            assert video.states_its_length != is_silent


@pytest.mark.parametrize("share", [0.25, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["frag_keyframe+empty_moov", "dash+frag_every_frame", "live"])
def test_a_cut_within_a_fragment_is_refused_and_one_between_two_is_nowhere_taken_for_the_end(
    tmp_path: Path, kind: str, share: float
) -> None:
    path = tmp_path / ("a.mkv" if kind == "live" else "a.mp4")
    remux(write(tmp_path / "plain.mp4", range(100)), path, **({"live": "1"} if kind == "live" else {"movflags": kind}))
    with open_video(path) as video:
        assert video.info.num_frames == 100 and not video.states_its_length
    with av.open(str(path)) as opened:
        places = [packet.pos for packet in opened.demux(video=0) if packet.size]
    content = path.read_bytes()
    cut = tmp_path / f"cut{path.suffix}"
    cut.write_bytes(content[: places[int(share * len(places))] + 5])
    with pytest.raises(EtadError, match=r"the file is cut short, .*bytes are there"):
        probe(cut)
    begins = b"\x1f\x43\xb6\x75" if kind == "live" else b"moof"
    between = content.rindex(begins) - (0 if kind == "live" else 4)
    cut.write_bytes(content[:between])
    with open_video(cut) as video:
        assert 0 < video.info.num_frames < 100 and not video.states_its_length


def test_headers_whose_numbers_were_never_filled_in_state_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ivf", range(50), codec="libvpx")
    content = bytearray(path.read_bytes())
    content[24:28] = b"\xff" * 4
    path.write_bytes(content)
    with open_video(path) as video:
        assert video.info.num_frames == 50 and not video.states_its_length


def test_a_promise_is_broken_by_less_and_not_by_rounding() -> None:
    content = Content(num_packets=100, end_seconds=4.0, longest_seconds=6.0)
    kept = [
        *(Promise(), Promise(num_packets=100), Promise(end_seconds=4.07, tick_seconds=0.04)),
        *(Promise(longest_seconds=6.4), Promise(file_bytes=10, found_bytes=12)),
        Promise(file_bytes=10, found_bytes=9, longest_seconds=6.05),
    ]
    assert [promise.broken_by(content) for promise in kept] == [None] * 6
    broken = {
        "100 of the 101 frames": Promise(num_packets=101),
        "9 of its 10 bytes": Promise(file_bytes=10, found_bytes=9, longest_seconds=7.0),
        r"states 4\.2 s": Promise(end_seconds=4.2, tick_seconds=0.04),
        r"states 6\.6 s": Promise(longest_seconds=6.6),
    }
    for words, promise in broken.items():
        found = promise.broken_by(content)
        assert found is not None and re.search(words, found)
