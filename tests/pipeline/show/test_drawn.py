"""Copies of videos with labels in their frames."""

from pathlib import Path

import numpy as np
import pytest

from etad.data.errors import EtadError
from etad.data.video.video import probe, read_frames, write_video
from etad.pipeline.show.drawn import DrawnLabel, draw_labels

GREY = 128


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "grey.mp4"
    write_video(path, (np.full((96, 128, 3), GREY, np.uint8) for _ in range(40)), fps=10)
    return path


def marked(path: Path, times: list[float]) -> list[bool]:
    """Whether the lower left of each frame differs from the grey."""
    return [
        bool(np.abs(image[-5:, :60].astype(int) - GREY).mean() > 8)
        for _, image in read_frames(path, times, resize=None)
    ]


def test_labels_stand_in_the_frames_of_their_time_and_nowhere_else(video: Path, tmp_path: Path) -> None:
    target = tmp_path / "drawn" / "grey.mp4"
    labels = [DrawnLabel(1.0, 2.0, "run 0.90", 0.9, 0), DrawnLabel(1.5, 3.0, "a very long label\n" * 9, 0.5, 1)]
    assert draw_labels(video, target, labels) is True
    assert marked(target, [0.5, 1.1, 1.9, 2.5, 3.2]) == [False, True, True, True, False]
    assert probe(target).num_frames == 40
    (image,) = (image for _, image in read_frames(target, [1.7], resize=None))
    assert np.abs(image[:60].astype(int) - GREY).max() < 12  # the picture above the lines stays


def test_a_copy_is_made_once_and_again_where_labels_or_video_change(video: Path, tmp_path: Path) -> None:
    target, label = tmp_path / "copy.mp4", DrawnLabel(0.0, 1.0, "run", 0.9, 0)
    shares: list[float] = []
    assert draw_labels(video, target, [label], report=shares.append)
    assert shares[-1] == 1.0
    assert not draw_labels(video, target, [label])
    assert draw_labels(video, target, [])
    write_video(video, (np.full((96, 128, 3), 50, np.uint8) for _ in range(20)), fps=10)
    assert draw_labels(video, target, [])
    target.write_bytes(b"damaged")
    assert draw_labels(video, target, [])
    with pytest.raises(EtadError, match="labels are drawn into"):
        draw_labels(video, tmp_path / "copy.txt", [])
