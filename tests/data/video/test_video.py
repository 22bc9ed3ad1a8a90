"""Real and generated videos: every frame at its time, or one sentence about what is wrong."""

import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from etad.data.digest import file_sha256
from etad.data.errors import EtadError
from etad.data.video.video import open_video, probe, read_frames, write_video
from reference.barcode import broken_midway
from reference.decoding import decode_everything

SIZE = (48, 32)
# One packet of it is bad: two frames are not what they were, and the rest goes on.
DAMAGED = {"decord_corrupted.mp4": 2}
# Frames, frames per second (to 0.01) and clockwise turn of files whose headers or codecs are treacherous.
KNOWN = {
    "v_ApplyEyeMakeup_g01_c01.avi": (164, 25.0, 0),  # packed B-frames
    "RATRACE_wave_f_nm_np1_fr_goo_37.avi": (72, 30.0, 0),  # and a packet that holds no frame
    "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": (83, 30.0, 0),  # and metadata that is no UTF-8
    "decord_flipping_a_pancake.mkv": (310, 30.0, 0),  # times rounded to milliseconds
    "v_GGSY1Qvo990.mp4": (355, 19.62, 0),
    "balle1-vp9.avi": (295, 184.22, 0),  # a gap after the first frame
    "decord_video_90.mov": (3, 30.0, 90),
    "decord_video_180.mov": (3, 30.0, 180),
    "decord_video_270.mov": (3, 30.0, 270),
    "movie-hello.mpeg": (249, 29.97, 0),  # begins at second 0.53
    "small_movie.mp4": (11, 12.0, 0),  # two packets for one frame
    "torchcodec_nasa_13013.mp4": (390, 29.97, 0),  # the better one of two streams
    "realshort.mp4": (36, 30.02, 0),
}


def real_files(shared: Path) -> list[Path]:
    return sorted(path for kind in ("actions", "hostile") for path in (shared / "videos" / kind).iterdir())


def moving_picture(num_frames: int, width: int = 96, height: int = 64) -> list[np.ndarray]:
    """Frames that all differ, and that compress badly enough to need B-frames."""
    generator = np.random.default_rng(0)
    base = generator.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    return [np.roll(base, 3 * number, axis=1) ^ np.uint8(number % 7) for number in range(num_frames)]


def encode(
    path: Path,
    num_frames: int = 90,
    *,
    codec: str = "libx264",
    first: int = 0,
    gop: int = 30,
    pix_fmt: str = "yuv420p",
    **options: str,
) -> Path:
    """Write a video by any codec and container, its first frame at `first` / 30 seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pix_fmt
        stream.codec_context.gop_size = gop
        stream.codec_context.thread_count = 1
        stream.options = options
        for number, picture in enumerate(moving_picture(num_frames)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = first + number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


B_FRAMES = {"x264-params": "scenecut=0:bframes=3:b-pyramid=normal"}
GENERATED = {
    "b_frames.mp4": {"gop": 30, **B_FRAMES},
    "open_groups.mp4": {"gop": 15, "x264-params": "scenecut=0:bframes=3:open-gop=1"},
    "one_group.mkv": {"gop": 250, **B_FRAMES},
    "late_start.mkv": {"first": 100, **B_FRAMES},
    "late_start.mp4": {"first": 100, **B_FRAMES},
    "transport_stream.ts": B_FRAMES,
    "b_frames.avi": B_FRAMES,
    "fields.mp4": {"x264-params": "interlaced=1:bframes=3"},
    "intra_refresh.mp4": {"x264-params": "intra-refresh=1:keyint=30"},
    "mpeg4.avi": {"codec": "mpeg4", "gop": 12},
    "mpeg4_b_frames.avi": {"codec": "mpeg4", "gop": 12, "bf": "2"},
    "hidden_frames.webm": {"codec": "libvpx", "auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"},
    "raw.h264": B_FRAMES,
}


def test_every_real_file_gives_all_its_frames_and_says_how_many_are_lost(shared: Path) -> None:
    files = real_files(shared)
    assert len(files) == 36
    for path in files:
        with open_video(path) as video:
            info = video.info
            read = list(video.read(np.arange(info.num_frames) / info.fps, resize=SIZE))
            assert len(video.lost_ticks) == DAMAGED.get(path.name, 0), path.name
            assert video.rules == ()
        assert len(read) == info.num_frames
        assert all(frame.shape == (32, 48, 3) and frame.dtype == np.uint8 for _, frame in read)
        if path.name in KNOWN:
            assert (info.num_frames, round(info.fps, 2), info.rotation_degrees) == KNOWN[path.name], path.name


@pytest.mark.slow
def test_frames_of_real_files_equal_those_of_a_plain_decoder_in_their_order(shared: Path) -> None:
    for path in real_files(shared):
        if path.name in DAMAGED:
            continue
        with open_video(path) as video:
            info = video.info
            size = SIZE[::-1] if info.rotation_degrees % 180 else SIZE
            plain = decode_everything(path, SIZE, metadata_errors="ignore")
            plain = [np.rot90(frame, -(info.rotation_degrees // 90)) for frame in plain]
            assert len(plain) == info.num_frames, path.name
            sought = np.sort(np.random.default_rng(0).uniform(0, info.duration_seconds, 9))
            for times in (np.arange(info.num_frames) / info.fps, sought):
                for number, frame in video.read(times, resize=size):
                    assert np.array_equal(frame, plain[number]), (path.name, number)


@pytest.mark.parametrize("name", GENERATED)
def test_any_choice_of_frames_is_exact_in_any_container(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / name, **GENERATED[name])
    plain = decode_everything(path, SIZE)
    generator = np.random.default_rng(1)
    with open_video(path) as video:
        assert video.info.num_frames == len(plain) == 90
        assert video.info.fps == pytest.approx(25 if name == "raw.h264" else 30, rel=1e-3)
        for count in (1, 2, 5, 20, 90):
            wanted = np.sort(generator.choice(90, count, replace=False))
            read = list(video.read(wanted / video.info.fps, resize=SIZE))
            assert [number for number, _ in read] == wanted.tolist()
            assert all(np.array_equal(frame, plain[number]) for number, frame in read)


def test_times_count_from_the_first_frame_shown_whatever_the_clock_says(tmp_path: Path) -> None:
    path = encode(tmp_path / "late.mp4", 30, first=300)
    assert probe(path).duration_seconds == pytest.approx(1.0, abs=1e-3)
    assert [number for number, _ in read_frames(path, [-1, 0, 0.5, 0.516, 99], resize=SIZE)] == [0, 0, 15, 15, 29]


def test_a_frame_asked_for_twice_is_the_same_array(tmp_path: Path) -> None:
    path = encode(tmp_path / "short.mp4", 5)
    frames = [frame for _, frame in read_frames(path, [0.0, 0.01, 0.02, 0.1], resize=SIZE)]
    assert frames[0] is frames[1] is frames[2] is not frames[3]


def test_variable_rate_is_read_by_presentation_times(tmp_path: Path) -> None:
    path = tmp_path / "variable.mkv"
    stamps = [0, 100, 133, 166, 900, 1000]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for picture, stamp in zip(moving_picture(len(stamps)), stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert probe(path).fps == pytest.approx(5.0)
    assert [n for n, _ in read_frames(path, [0, 0.09, 0.1, 0.5, 0.89, 0.95, 2], resize=None)] == [0, 0, 1, 3, 3, 4, 5]


def test_turned_videos_show_the_same_scene_upright(shared: Path) -> None:
    folder = shared / "videos" / "hostile"
    upright = next(read_frames(folder / "decord_video_0.mov", [0], resize=None))[1]
    assert upright.shape == (320, 568, 3)
    turned = next(read_frames(folder / "decord_video_180.mov", [0], resize=None))[1]
    raw = decode_everything(folder / "decord_video_180.mov", (568, 320))[0]
    assert np.array_equal(turned, raw[::-1, ::-1])
    for degrees in (90, 270):
        path = folder / f"decord_video_{degrees}.mov"
        assert (probe(path).width, probe(path).height) == (320, 568)
        assert next(read_frames(path, [0], resize=160))[1].shape == (284, 160, 3)


def test_frames_that_an_edit_list_cuts_off_are_not_there(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mp4", **B_FRAMES)
    path = _remux(whole, tmp_path / "edited.mp4", earlier_seconds=0.5, avoid_negative_ts="disabled", use_editlist="1")
    plain = decode_everything(path, SIZE)
    with open_video(path) as video:
        assert video.info.num_frames == len(plain) == 75
        for wanted in ([0, 20, 50, 70], range(75)):
            for number, frame in video.read(np.array(wanted) / 30, resize=SIZE):
                assert np.array_equal(frame, plain[number])


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv", "cut.avi", "cut.flv"])
def test_a_file_cut_short_is_refused(tmp_path: Path, name: str) -> None:
    whole = encode(tmp_path / f"whole{Path(name).suffix}", **({"codec": "mpeg4"} if "avi" in name else {}))
    if name.endswith("mp4"):  # with its table of frames first, as it is streamed
        whole = _remux(whole, tmp_path / "streamed.mp4", movflags="faststart")
    content = whole.read_bytes()
    (tmp_path / name).write_bytes(content[: int(0.6 * len(content))])
    with pytest.raises(EtadError, match=rf"{name}: the file is cut short"):
        probe(tmp_path / name)


def test_decoding_that_breaks_for_longer_than_a_frame_may_stand_in_names_file_and_second(tmp_path: Path) -> None:
    path = broken_midway(tmp_path / "broken.mp4")
    with pytest.raises(EtadError, match=r"broken\.mp4: decoding breaks at second 1\.\d"):
        list(read_frames(path, np.arange(40) / 10, resize=SIZE))


def test_garbage_never_hangs_and_never_shows_a_traceback(tmp_path: Path) -> None:
    content = bytearray(encode(tmp_path / "whole.mp4", 60).read_bytes())
    generator = np.random.default_rng(0)
    for trial in range(25):
        damaged = bytearray(content)
        for place in generator.integers(0, len(content), 40):
            damaged[place] = int(generator.integers(0, 256))
        path = tmp_path / f"{trial}.mp4"
        path.write_bytes(damaged)
        try:
            assert len(list(read_frames(path, np.arange(0, 2, 0.1), resize=SIZE))) == 20
        except EtadError as error:
            assert path.name in str(error)


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "cannot be opened as a video"), (b"hello " * 500, "cannot be opened as a video")]
)
def test_what_is_no_video_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "notes.mp4"
    path.write_bytes(content)
    with pytest.raises(EtadError, match=rf"notes\.mp4: .*{words}"):
        probe(path)


def test_missing_files_folders_and_sound_alone_are_named(tmp_path: Path) -> None:
    with pytest.raises(EtadError, match=r"nowhere\.mp4: there is no such file"):
        probe(tmp_path / "nowhere.mp4")
    with pytest.raises(EtadError, match="no regular file"):
        probe(tmp_path)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 44100, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(EtadError, match=r"sound\.mp4: no video"):
        probe(tmp_path / "sound.mp4")


def test_a_playlist_in_disguise_leads_to_no_other_file(tmp_path: Path) -> None:
    encode(tmp_path / "secret.ts", 10)
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile '{tmp_path}/secret.ts'\n")
    (tmp_path / "hls.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost:9/none.ts\n#EXT-X-ENDLIST\n")
    for name in ("list.mp4", "hls.mp4"):
        with pytest.raises(EtadError, match=name):
            probe(tmp_path / name)


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "cover.mp4"
    whole = encode(tmp_path / "whole.mp4", 10)
    with av.open(str(whole)) as source, av.open(str(path), "w") as container:
        picture = container.add_stream("mjpeg", rate=1)
        picture.width, picture.height, picture.pix_fmt = 640, 480, "yuvj420p"
        picture.disposition = av.stream.Disposition.attached_pic
        stream = container.add_stream_from_template(source.streams.video[0])
        cover = av.VideoFrame.from_ndarray(np.zeros((480, 640, 3), np.uint8), format="rgb24")
        container.mux(picture.encode(cover.reformat(format="yuvj420p")))
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    info = probe(path)
    assert (info.width, info.height, info.num_frames) == (96, 64, 10)


def test_threads_may_read_different_videos_at_once(shared: Path) -> None:
    files = [path for path in real_files(shared) if path.name not in DAMAGED][:8]
    alone = [_every_tenth(path) for path in files]
    together: dict[Path, list[np.ndarray]] = {}
    threads = [threading.Thread(target=lambda p=p: together.__setitem__(p, _every_tenth(p))) for p in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for path, frames in zip(files, alone, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(frames, together[path], strict=True))


def test_writing_gives_the_same_bytes_and_close_to_the_same_pictures(tmp_path: Path) -> None:
    pictures = moving_picture(20)
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, iter(pictures), fps=15, crf=1)
    assert file_sha256(tmp_path / "a.mp4") == file_sha256(tmp_path / "b.mp4")
    info = probe(tmp_path / "a.mp4")
    assert (info.num_frames, info.fps, info.width, info.height) == (20, 15.0, 96, 64)
    grey = [frame.mean() for _, frame in read_frames(tmp_path / "a.mp4", np.arange(20) / 15, resize=None)]
    assert np.abs(np.array(grey) - [picture.mean() for picture in pictures]).max() < 4


def test_group_length_and_bitrate_are_obeyed(tmp_path: Path) -> None:
    pictures = moving_picture(60)
    write_video(tmp_path / "short.mp4", pictures, fps=30, gop=10)
    write_video(tmp_path / "small.mp4", pictures, fps=30, gop=250, bitrate=20_000)
    assert _key_frames(tmp_path / "short.mp4") >= 6
    assert (tmp_path / "small.mp4").stat().st_size < (tmp_path / "short.mp4").stat().st_size


def test_writing_nothing_or_the_wrong_thing_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(EtadError, match="no frames to write"):
        write_video(tmp_path / "none.mp4", [], fps=30)
    with pytest.raises(EtadError, match=r"31x64.*even"):
        write_video(tmp_path / "odd.mp4", [np.zeros((64, 31, 3), np.uint8)], fps=30)
    with pytest.raises(EtadError, match="suffix"):
        write_video(tmp_path / "film.gif", moving_picture(1), fps=30)
    assert list(tmp_path.iterdir()) == []


def _every_tenth(path: Path) -> list[np.ndarray]:
    info = probe(path)
    return [frame for _, frame in read_frames(path, np.arange(0, info.num_frames, 10) / info.fps, resize=SIZE)]


def _key_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(packet.is_keyframe for packet in container.demux(video=0) if packet.size)


def _remux(path: Path, to: Path, earlier_seconds: float = 0.0, **options: str) -> Path:
    with av.open(str(path)) as source, av.open(str(to), "w", options=options) as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        shift = int(earlier_seconds / source.streams.video[0].time_base)
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                container.mux(packet)
    return to
