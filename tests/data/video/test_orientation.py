"""Pictures that are turned, mirrored and transposed for display."""

import struct
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from etad.data.video.orientation import Orientation, nearest_orientation
from etad.data.video.video import open_video, read_frames
from reference.barcode import HEIGHT, WIDTH, number, write

# Display matrices (a, b, c, d) of all eight ways, and what each does to rows and columns.
UPRIGHT, HALF = (1, 0, 0, 1), (-1, 0, 0, -1)
MATRICES = {
    UPRIGHT: lambda image: image,
    HALF: lambda image: image[::-1, ::-1],
    (0, 1, -1, 0): lambda image: image.transpose(1, 0, 2)[:, ::-1],  # clockwise
    (0, -1, 1, 0): lambda image: image.transpose(1, 0, 2)[::-1],
    (-1, 0, 0, 1): lambda image: image[:, ::-1],
    (1, 0, 0, -1): lambda image: image[::-1],
    (0, 1, 1, 0): lambda image: image.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda image: image.transpose(1, 0, 2)[::-1, ::-1],
}


@pytest.mark.parametrize("matrix", MATRICES)
def test_every_display_matrix_is_obeyed_whole(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    plain = write(tmp_path / "plain.mp4", [0b101100111000] * 3, crf="1")
    path = tmp_path / "turned.mp4"
    path.write_bytes(_with_matrix(plain.read_bytes(), matrix))
    raw = next(read_frames(plain, [0], resize=None))[1]
    shown = next(read_frames(path, [0], resize=None))[1]
    expected = MATRICES[matrix](raw)
    assert shown.shape == expected.shape and np.abs(shown.astype(int) - expected).max() <= 8
    with open_video(path) as video:
        assert (video.info.height, video.info.width) == expected.shape[:2]
        assert video.info.mirrored == (np.linalg.det(np.reshape(matrix, (2, 2))) < 0)


def test_a_matrix_near_a_quarter_turn_counts_as_one_and_a_degenerate_one_as_none() -> None:
    for degrees, mirrored in product((-100, -10, 0, 44, 170), (False, True)):
        angle = np.radians(degrees)
        a, b, c, d = np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)
        sign = -1 if mirrored else 1
        found = nearest_orientation(sign * a, b, sign * c, d)
        assert found == Orientation(round(-degrees / 90) % 4, mirrored)
    assert nearest_orientation(0, 0, 0, 0) == Orientation()


def test_a_mirrored_report_shows_its_numbers_backwards(reports: Path) -> None:
    bits = [int(f"{each:012b}"[::-1], 2) for each in range(3)]
    read = [number(frame) for _, frame in read_frames(reports / "hflip.mp4", [0, 0.04, 0.08], resize=(WIDTH, HEIGHT))]
    assert read == bits


def _with_matrix(content: bytes, matrix: tuple[int, int, int, int]) -> bytes:
    """Write another display matrix into an MP4's track header (version 0)."""
    place = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (value * 65536 for value in matrix)
    # The picture is moved so that it lies at the origin again; readers that look at directions alone do not mind.
    x, y = (HEIGHT if a == 0 else WIDTH) * 65536, (WIDTH if a == 0 else HEIGHT) * 65536
    left, top = (x if min(a, c) < 0 else 0), (y if min(b, d) < 0 else 0)
    new = struct.pack(">9i", a, b, 0, c, d, 0, left, top, 1 << 30)
    return content[:place] + new + content[place + 36 :]
