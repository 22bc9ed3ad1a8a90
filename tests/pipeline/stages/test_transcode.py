"""`etad transcode`: a folder of working copies that stand for their originals."""

from pathlib import Path

import pytest

from etad.data.video.video import list_videos
from etad.pipeline.cli.main import run
from reference import barcode


def transcode(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    status = run(["transcode", *words])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def test_copies_have_the_ids_of_their_originals_and_are_made_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos, copies = tmp_path / "videos", tmp_path / "copies"
    for name in ("a.mkv", "day1/b.mp4", "c.mp4"):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        barcode.write(videos / name, range(20))
    status, said = transcode(capsys, str(videos), "-o", str(copies), "--fps", "5", "--short-side", "32")
    assert status == 0 and "3 of 3 videos copied, 0 failed" in said
    assert list_videos(copies).keys() == list_videos(videos).keys() == {"a", "b", "c"}
    status, said = transcode(capsys, str(videos), "-o", str(copies), "--fps", "5", "--short-side", "32")
    assert status == 0 and "3 of the copies were there already" in said and "0 of 3 videos copied" in said


def test_a_video_that_cannot_be_copied_is_listed_and_the_others_are_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos, copies = tmp_path / "videos", tmp_path / "copies"
    videos.mkdir()
    barcode.write(videos / "good.mp4", range(20))
    (videos / "bad.mp4").write_bytes((videos / "good.mp4").read_bytes()[:2000])
    status, said = transcode(capsys, str(videos), "-o", str(copies))
    assert status == 1 and "bad.mp4" in said and "1 of 2 videos copied, 1 failed" in said
    assert [path.name for path in copies.iterdir()] == ["good.mp4"]


def test_files_that_share_a_name_are_both_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos, copies = tmp_path / "videos", tmp_path / "copies"
    videos.mkdir()
    for name in ("x.mkv", "x.mp4"):
        barcode.write(videos / name, range(10))
    status, _ = transcode(capsys, str(videos), "-o", str(copies))
    assert status == 0
    assert list_videos(copies).keys() == list_videos(videos).keys() == {"x.mkv", "x.mp4"}


@pytest.mark.parametrize("out", ["videos/copies", "."])
def test_copies_among_the_originals_are_refused(out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "videos").mkdir()
    barcode.write(tmp_path / "videos" / "a.mp4", range(5))
    status, said = transcode(capsys, str(tmp_path / "videos"), "-o", str(tmp_path / out))
    assert status == 2 and "would be taken for videos of their own" in said


def test_a_place_that_cannot_be_written_ends_it_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "videos").mkdir()
    barcode.write(tmp_path / "videos" / "a.mp4", range(5))
    (tmp_path / "copies").write_text("a file")
    status, said = transcode(capsys, str(tmp_path / "videos"), "-o", str(tmp_path / "copies"))
    assert status == 2 and "copies" in said and "Traceback" not in said
