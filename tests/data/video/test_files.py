"""Which files below a folder are videos, and what their ids are."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from etad.data.errors import EtadError
from etad.data.video.video import find_videos, list_videos
from reference.barcode import write


def test_videos_are_listed_by_stem_from_all_folders_below(tmp_path: Path) -> None:
    for name in ("b.mp4", "deep/er/a.MKV", "deep/notes.txt", ".hidden/c.mp4", ".d.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "deep" / "round").symlink_to(tmp_path)
    assert list_videos(tmp_path) == {"a": tmp_path / "deep/er/a.MKV", "b": tmp_path / "b.mp4"}


def test_files_of_one_stem_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    for name in ("x/a.mp4", "y/a.avi", "y/b.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert {id: path.name for id, path in list_videos(tmp_path).items()} == {
        "b": "b.mp4",
        "x/a.mp4": "a.mp4",
        "y/a.avi": "a.avi",
    }


def test_a_folder_without_videos_is_named(tmp_path: Path) -> None:
    with pytest.raises(EtadError, match="no video file in it"):
        list_videos(tmp_path)
    with pytest.raises(EtadError, match="nowhere: there is nothing here"):
        list_videos(tmp_path / "nowhere")


def test_files_of_unknown_suffix_are_looked_into_and_what_is_passed_over_is_listed_with_why(tmp_path: Path) -> None:
    write(tmp_path / "film.mkv", range(3)).rename(tmp_path / "one.dat")
    write(tmp_path / "film.mp4", range(3)).rename(tmp_path / "two")
    write(tmp_path / "three.mp4", range(3))
    (tmp_path / "notes.txt").write_text("no video\n" * 50)
    (tmp_path / "readme.txt").write_text("nor this\n" * 50)
    (tmp_path / "nothing.dat").touch()
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/two\n#EXT-X-ENDLIST\n")
    (tmp_path / "list.concat").write_text(f"ffconcat version 1.0\nfile '{tmp_path}/two'\n")
    (tmp_path / "subtitles.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nhello\n")
    (tmp_path / "noise.bin").write_bytes(np.random.default_rng(0).bytes(20000))
    for suffix in ("png", "jpg", "gif", "bmp"):
        _picture(tmp_path / f"picture.{suffix}")
    _sound(tmp_path / "sound.ogg")
    found = find_videos(tmp_path)
    assert list(found.files) == ["one", "three", "two"]
    reasons = {path.name: reason for path, reason in found.passed_over.items()}
    assert reasons.pop("nothing.dat") == "empty" and reasons.pop("sound.ogg") == "it holds sound alone"
    assert len(reasons) == 10 and set(reasons.values()) == {"in no video format known here"}
    text = found.passed_over_text()
    assert text.startswith("12 other files passed over: ")
    assert "2 .txt (in no video format known here): notes.txt, readme.txt" in text


def test_a_file_of_unknown_suffix_is_looked_into_once_and_known_ones_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "film.mkv", range(3)).rename(tmp_path / "one.dat")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    opened: list[str] = []
    plain = av.open

    def watched(file: str, *arguments: Any, **options: Any) -> Any:
        opened.append(Path(file).name)
        return plain(file, *arguments, **options)

    monkeypatch.setattr(av, "open", watched)
    for _ in range(2):
        assert list(find_videos(tmp_path).files) == ["broken", "one"]
    assert opened == ["one.dat"]
    (tmp_path / "one.dat").write_bytes(b"another file")
    assert list(find_videos(tmp_path).files) == ["broken"] and opened == ["one.dat", "one.dat"]


def test_a_folder_of_other_files_says_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no video")
    with pytest.raises(EtadError, match=r"no video file in it.* 1 other file passed over: 1 \.txt \(in no video"):
        find_videos(tmp_path)


def _picture(path: Path) -> None:
    codec = {"jpg": "mjpeg"}.get(path.suffix[1:], path.suffix[1:])
    pix_fmt = {"jpg": "yuvj420p", "gif": "rgb8", "bmp": "bgr24"}.get(path.suffix[1:], "rgb24")
    with av.open(str(path), "w", format="gif" if codec == "gif" else "image2") as container:
        stream = container.add_stream(codec, rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 32, pix_fmt
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24").reformat(format=pix_fmt)
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libopus", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
