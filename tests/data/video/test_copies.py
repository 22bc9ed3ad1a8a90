"""Working copies show at every time what the original shows, and say what they were made from."""

from pathlib import Path

import numpy as np
import pytest

from etad.data.errors import EtadError
from etad.data.video.copies import CopySettings, make_copy
from etad.data.video.video import open_video, read_frames
from reference import barcode


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """Four seconds of pictures that carry their numbers."""
    return barcode.write(tmp_path / "original.mp4", range(100), gop=50)


def numbers(path: Path, times: np.ndarray) -> list[int]:
    return [barcode.number(image) for _, image in read_frames(path, times, resize=None)]


@pytest.mark.parametrize("fps", [None, 10.0, 12.5])
def test_a_copy_shows_at_each_of_its_times_what_the_original_shows(
    original: Path, tmp_path: Path, fps: float | None
) -> None:
    copy = make_copy(original, tmp_path / "copies" / "original.mp4", CopySettings(fps=fps, short_side=48))
    times = np.arange(copy.num_frames) / copy.fps
    assert numbers(copy.path, times) == numbers(original, times)
    with open_video(copy.path) as video:
        assert (video.info.width, video.info.height) == (72, 48)
        assert video.info.duration_seconds == pytest.approx(4.0, abs=1e-6)
        assert video.info.num_frames == round(4 * (fps or 25))


def test_a_picture_that_begins_late_is_as_late_in_the_copy(tmp_path: Path) -> None:
    original = barcode.write(tmp_path / "late.mp4", range(50), first=25, sound_seconds=(0, 3))
    copy = make_copy(original, tmp_path / "copy.mp4", CopySettings(short_side=None))
    times = np.arange(75) / 25
    assert numbers(copy.path, times) == numbers(original, times) == [0] * 25 + list(range(50))


def test_a_copy_is_made_once_and_again_when_original_or_settings_change(original: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.mp4"
    assert make_copy(original, target, CopySettings()).made
    assert not make_copy(original, target, CopySettings()).made
    assert make_copy(original, target, CopySettings(fps=5)).made
    barcode.write(original, range(1, 101))
    assert make_copy(original, target, CopySettings(fps=5)).made
    assert numbers(target, np.array([0.0])) == [1]


def test_a_copy_that_was_cut_is_made_again(original: Path, tmp_path: Path) -> None:
    target = make_copy(original, tmp_path / "copy.mp4", CopySettings()).path
    target.write_bytes(target.read_bytes()[:-500])
    assert make_copy(original, target, CopySettings()).made


def test_a_video_of_another_kind_under_the_copys_name_is_replaced(original: Path, tmp_path: Path) -> None:
    target = barcode.write(tmp_path / "copy.mp4", range(100))
    assert make_copy(original, target, CopySettings()).made


def test_frames_that_cannot_be_decoded_are_not_hidden_in_a_copy(reports: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.mp4"
    with pytest.raises(EtadError, match=r"base_zero_sample\.mp4: 1 frame of it cannot be decoded"):
        make_copy(reports / "base_zero_sample.mp4", target, CopySettings())
    assert list(tmp_path.iterdir()) == []


def test_the_share_that_is_done_is_told_up_to_one(original: Path, tmp_path: Path) -> None:
    shares: list[float] = []
    make_copy(original, tmp_path / "copy.mp4", CopySettings(fps=10), report=shares.append)
    assert shares == sorted(shares) and len(shares) == 40 and shares[-1] == 1.0
