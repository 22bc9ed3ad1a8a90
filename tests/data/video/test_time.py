"""When frames are shown: restarted clocks, cut groups, held and late pictures, lost packets; against plain decoding."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from etad.data.errors import EtadError
from etad.data.video.video import open_video, read_frames
from reference.barcode import B_FRAMES, FPS, OPEN_GROUPS, decoded_numbers, number, remux, write

# What people reported: frames, seconds, what is uncommon, first and last number shown, frames lost.
REPORTS = {
    "audio_longer.mkv": (300, 12.0, (), 0, 299, 0),
    "audio_longer.webm": (300, 12.0, (), 0, 299, 0),
    "cat_reset2.ts": (400, 16.0, ("its clock restarts",), 0, 599, 0),
    "paff24.ts": (24, 0.96, ("holds fields",), 0, 23, 0),
    "trim_h264_open_direct.mkv": (180, 7.2, ("begins inside a group",), 120, 299, 0),
    "theora_still.ogv": (52, 3.0, ("holds unchanged pictures",), 0, 74, 0),
    "base_zero_sample.mp4": (300, 12.0, (), 0, 299, 1),
}
# Containers, and what they hold usually.
CODECS = {"mkv": "libx264", "mp4": "libx264", "ts": "libx264", "flv": "libx264", "mpg": "mpeg2video", "avi": "mpeg4"}


def options(container: str) -> dict[str, str]:
    codec = CODECS[container]
    return {"codec": codec, **(B_FRAMES if codec == "libx264" else {} if container == "avi" else {"bf": "2"})}


def zeroed(content: bytes) -> bytes:
    return bytes(len(content))


def shown(path: Path, step_seconds: float = 1 / FPS) -> tuple[list[int], int]:
    """Numbers on the screen every so often, from zero to the end, and how many frames were lost."""
    with open_video(path) as video:
        times_seconds = np.arange(round(video.info.duration_seconds / step_seconds)) * step_seconds
        numbers = [number(frame) for _, frame in video.read(times_seconds, resize=None)]
        return numbers, len(video.lost_ticks)


@pytest.mark.parametrize("name", REPORTS)
def test_reported_videos_have_the_frames_that_other_decoders_find(reports: Path, name: str) -> None:
    frames, seconds, rules, first, last, lost = REPORTS[name]
    with open_video(reports / name) as video:
        index, info = video._index, video.info
        assert info.num_frames == frames and info.duration_seconds == pytest.approx(seconds, abs=1e-3)
        assert video.rules == rules
        starts_seconds = (index.ticks - index.ticks[0]) * float(index.tick_seconds)
        numbers = [number(frame) for _, frame in video.read(starts_seconds, resize=None)]
        assert len(video.lost_ticks) == lost
    plain = decoded_numbers(reports / name)
    assert (numbers[0], numbers[-1], len(plain)) == (first, last, frames - lost)
    if not lost:
        assert numbers == plain
    else:
        gap = next(place for place in range(frames) if numbers[place] != plain[place])
        assert numbers[:gap] == plain[:gap] and numbers[gap] == numbers[gap - 1] and numbers[gap + 1 :] == plain[gap:]


@pytest.mark.parametrize("container", ["ts", "mpg"])
@pytest.mark.parametrize("second", ["from zero", "much later", "open groups", "with sound"])
def test_joined_streams_go_on_where_the_one_before_ended(tmp_path: Path, container: str, second: str) -> None:
    changes = {
        "from zero": {},
        "much later": {"first": 1000},
        "open groups": OPEN_GROUPS if container == "ts" else {"gop": 9},
        "with sound": {"sound_seconds": (0.0, 2.0)},
    }[second]
    whole = options(container)
    one = write(tmp_path / f"one.{container}", range(40), **(whole | ({} if "sound" not in second else changes)))
    two = write(tmp_path / f"two.{container}", range(500, 550), **(whole | changes))
    path = tmp_path / f"joined.{container}"
    path.write_bytes(one.read_bytes() + two.read_bytes() + one.read_bytes())
    expected = [*range(40), *range(500, 550), *range(40)]
    assert decoded_numbers(path) == expected
    with open_video(path) as video:
        assert video.info.num_frames == 130 and "its clock restarts" in video.rules and not video.can_seek
        assert video.info.duration_seconds == pytest.approx(5.2, abs=0.1)  # MPEG rounds a frame at each end
        ticks = video._index.ticks
        starts_seconds = (ticks - ticks[0]) * float(video._index.tick_seconds)
        for every in (1, 7, 40):
            read = [number(frame) for _, frame in video.read(starts_seconds[::every], resize=None)]
            assert read == expected[::every]
        assert not video.lost_ticks


def test_a_clock_that_runs_on_over_a_pause_is_no_restart(tmp_path: Path) -> None:
    one, two = (write(tmp_path / f"{first}.ts", range(20), first=first) for first in (0, 100))
    path = tmp_path / "pause.ts"
    path.write_bytes(one.read_bytes() + two.read_bytes())
    with open_video(path) as video:
        assert video.info.duration_seconds == pytest.approx(4.8, abs=0.1) and video.rules == ()
        assert [number(frame) for _, frame in video.read([0.5, 2.0, 4.7], resize=None)] == [12, 19, 19]


@pytest.mark.parametrize("place", ["at a key frame", "between key frames"])
@pytest.mark.parametrize("container", ["mkv", "mp4", "flv", "ts", "hevc.mkv", "mpeg2.mkv", "closed.mkv"])
def test_leading_pictures_that_cannot_be_decoded_do_not_count(tmp_path: Path, container: str, place: str) -> None:
    kinds = {
        "hevc.mkv": {"codec": "libx265", "x265-params": "open-gop=1:bframes=3:keyint=15:min-keyint=15:log-level=none"},
        "mpeg2.mkv": {"codec": "mpeg2video", "bf": "2"},
        "closed.mkv": B_FRAMES,
    }
    suffix = container.rpartition(".")[2]
    chosen = {"gop": 15, **kinds.get(container, OPEN_GROUPS)}
    whole = write(tmp_path / f"whole.{'ts' if suffix == 'ts' else 'mp4'}", range(60), **chosen)
    with av.open(str(whole)) as opened:
        keys = [place for place, packet in enumerate(opened.demux(video=0)) if packet.is_keyframe]
    is_at_key = place == "at a key frame"
    path = remux(whole, tmp_path / f"cut.{suffix}", first_packet=keys[1] if is_at_key else keys[1] + 5)
    plain = decoded_numbers(path)
    assert plain[-1] == 59 and len(plain) < 50
    with open_video(path) as video:
        starts_seconds = (video._index.ticks - video._index.first_tick) * float(video._index.tick_seconds)
        assert [number(frame) for _, frame in video.read(starts_seconds, resize=None)] == plain
        # Only recordings of what is sent may begin anywhere: in other files, what cannot be shown is a loss.
        assert bool(video.lost_ticks) == (not is_at_key and suffix != "ts")
        assert video.info.duration_seconds - len(plain) / FPS < (0.13 if is_at_key else 0.6)


@pytest.mark.parametrize("container", ["mp4", "mkv", "flv"])
def test_a_bad_first_key_frame_moves_no_later_frame(tmp_path: Path, container: str) -> None:
    whole = write(tmp_path / "whole.mp4", range(60), **B_FRAMES)
    path = remux(whole, tmp_path / f"bad.{container}", change={0: zeroed})
    numbers, lost = shown(path)
    assert len(numbers) == 60 and numbers[12:] == list(range(12, 60)) and lost >= 8


def test_a_stretch_that_begins_inside_a_group_shows_nothing_of_the_one_before(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.ts", range(300, 360), gop=15, **OPEN_GROUPS)
    cut = remux(whole, tmp_path / "cut.ts", first_packet=20)
    path = tmp_path / "joined.ts"
    path.write_bytes(whole.read_bytes() + cut.read_bytes())
    numbers, lost = shown(path)
    assert numbers == [*range(300, 360), *decoded_numbers(cut)] and lost == 0


@pytest.mark.parametrize("container", ["mkv", "mp4", "ts", "flv", "mpg"])
def test_a_picture_later_than_the_sound_keeps_the_sounds_clock(tmp_path: Path, container: str) -> None:
    chosen = options(container)
    late = write(tmp_path / f"late.{container}", range(50), first=50, sound_seconds=(0.0, 4.0), **chosen)
    with open_video(late) as video:
        assert video.info.duration_seconds == pytest.approx(4.0, abs=0.03) and video.info.num_frames == 50
        assert video.rules == ("begins later than its clock",)
        times_seconds = [0, 1.0, 2.06, 3.06, 9]
        assert [number(frame) for _, frame in video.read(times_seconds, resize=None)] == [0, 0, 1, 26, 49]
    for name, changes in {
        "alone": {"first": 50},
        "together": {"sound_seconds": (0.0, 2.0)},
        "sound later": {"sound_seconds": (1.0, 2.0)},
    }.items():
        path = write(tmp_path / f"{name}.{container}", range(50), **changes, **chosen)
        with open_video(path) as video:
            assert video.info.duration_seconds == pytest.approx(2.0, abs=0.03) and video.rules == (), name
            assert [number(frame) for _, frame in video.read([0, 1.02], resize=None)] == [0, 25], name


def test_a_sound_whose_clock_is_broken_delays_no_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "hours.mkv", range(25), first=FPS * 4000, sound_seconds=(0.0, 0.5))
    with open_video(path) as video:
        assert video.info.duration_seconds == pytest.approx(1.0) and video.rules == ()


@pytest.mark.parametrize("container", ["mkv", "webm", "flv", "mp4"])
def test_another_streams_length_says_nothing_of_the_pictures(tmp_path: Path, container: str) -> None:
    codec = "libvpx" if container == "webm" else "libx264"
    source = write(tmp_path / f"sound.{container if codec == 'libx264' else 'mkv'}", range(30), codec=codec)
    path = write(tmp_path / f"longer.{source.suffix[1:]}", range(30), codec=codec, sound_seconds=(0.0, 20.0))
    with open_video(path) as video:
        assert video.info.num_frames == 30 and video.info.duration_seconds == pytest.approx(1.2, abs=0.01)


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        *(("mkv", "libx264"), ("mp4", "libx264"), ("flv", "libx264"), ("avi", "mpeg4"), ("b.avi", "mpeg4")),
        *(("mkv", "libvpx"), ("mkv", "mpeg2video"), ("mkv", "mpeg4")),
    ],
)
@pytest.mark.parametrize("bad", [{30}, {13, 14}, {59}])
def test_a_bad_packet_costs_its_own_frames_and_not_the_video(
    tmp_path: Path, container: str, codec: str, bad: set[int]
) -> None:
    suffix = container.rpartition(".")[2]
    extra = B_FRAMES if codec == "libx264" else {"bf": "2"} if "b." in container or codec == "mpeg2video" else {}
    source = write(tmp_path / f"whole.{'mp4' if codec == 'libx264' else suffix}", range(60), codec=codec, **extra)
    path = remux(source, tmp_path / f"bad.{suffix}", change=dict.fromkeys(bad, zeroed))
    before, _ = shown(source)
    numbers, lost = shown(path)
    assert 1 <= lost <= 2 * len(bad)
    assert abs(len(numbers) - 60) <= len(bad) and len(before) == 60
    assert numbers[:12] == before[:12]  # the first group is whole
    if bad == {30}:
        assert numbers[-12:] == before[-12:]  # and the last


def test_transport_packets_that_are_missing_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ts", range(100), crf="1")
    content = path.read_bytes()
    packets = [content[at : at + 188] for at in range(0, len(content), 188)]
    # From the inside of a picture in the middle, which the decoder notices whatever the encoder wrote.
    begins = [bool(packet[1] & 0x40) for packet in packets]
    middle = len(packets) // 2
    first = next(at for at in range(middle, len(packets)) if begins[at] and not any(begins[at + 1 : at + 5]))
    path.write_bytes(b"".join(packets[: first + 2] + packets[first + 4 :]))
    numbers, lost = shown(path)
    assert 1 <= lost <= 3 and abs(len(numbers) - 100) <= 1 and numbers[:40] == list(range(40))


@pytest.mark.parametrize("missing", [1, 3])
def test_transport_packets_that_hold_a_whole_frame_are_missed_too(tmp_path: Path, missing: int) -> None:
    path = write(tmp_path / "a.ts", range(100), crf="12", gop=200)
    content = path.read_bytes()
    middle = len(content) // 188 // 2
    lacking = 0
    for place in range(middle - 6, middle + 6):
        path.write_bytes(content[: place * 188] + content[(place + missing) * 188 :])
        numbers, lost = shown(path)
        lacking += lost > 0
        assert lost or numbers == list(range(100)), place
    assert lacking > 6


def test_streams_that_are_joined_lack_nothing(tmp_path: Path) -> None:
    content = write(tmp_path / "a.ts", range(50)).read_bytes()
    (tmp_path / "b.ts").write_bytes(content * 2)
    assert shown(tmp_path / "b.ts") == ([*range(50)] * 2, 0)


def test_what_is_lost_counts_once_however_often_and_from_wherever_it_is_read(reports: Path) -> None:
    with open_video(reports / "base_zero_sample.mp4") as video:
        for times_seconds in ([5.1, 5.2], np.arange(0, 12, 0.04), [5.16, 5.2, 11]):
            list(video.read(times_seconds, resize=None))
        assert len(video.lost_ticks) == 1
        with open_video(video.path, known=video) as again:
            list(again.read([0, 1], resize=None))
            assert not again.lost_ticks


def test_frames_that_are_all_lost_for_a_second_are_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.mp4", range(100))
    change: dict[int, Callable[[bytes], bytes]] = dict.fromkeys(range(30, 80), zeroed)
    path = remux(whole, tmp_path / "bad.mp4", change=change)
    with pytest.raises(EtadError, match=r"bad\.mp4: decoding breaks at second 1\.\d"):
        list(read_frames(path, np.arange(100) / 25, resize=None))


def test_times_may_be_handed_over_piece_by_piece(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", range(60), **B_FRAMES)
    times_seconds = np.sort(np.random.default_rng(0).uniform(0, 2.4, 200))
    with open_video(path) as video:
        at_once = [(place, number(frame)) for place, frame in video.read(times_seconds, resize=None)]
        for size in (1, 7, 64):
            pieces = (times_seconds[start : start + size] for start in range(0, 200, size))
            assert [(place, number(frame)) for place, frame in video.read(pieces, resize=None)] == at_once
