"""Which files below a folder are videos, and what their ids are."""

from pathlib import Path

import pytest

from etad.data.errors import EtadError
from etad.data.video.video import list_videos


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
