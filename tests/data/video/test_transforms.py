"""Sizes, crops, flips and jitter: in range, drawn from the generator alone."""

import numpy as np
import pytest

from etad.data.errors import EtadError
from etad.data.video.transforms import (
    centre_corner,
    cut,
    flip,
    jitter_shifts,
    random_corners,
    resized_size,
    sample_generator,
)


@pytest.mark.parametrize(
    ("size", "resize", "expected"),
    [
        ((640, 360), (171, 128), (171, 128)),
        ((640, 360), 180, (320, 180)),
        ((360, 640), 180, (180, 320)),
        ((341, 256), 128, (170, 128)),
        ((100, 100), 224, (224, 224)),
        ((5, 4000), 2, (2, 1600)),
        ((640, 360), None, (640, 360)),
    ],
)
def test_resize_takes_both_sides_or_keeps_the_aspect(
    size: tuple[int, int], resize: tuple[int, int] | int | None, expected: tuple[int, int]
) -> None:
    assert resized_size(*size, resize) == expected


def test_the_centre_square_leaves_equal_margins() -> None:
    top, left = centre_corner(171, 128, crop=112)
    assert top == 8 and left in (29, 30)
    assert centre_corner(112, 112, crop=112) == (0, 0)


def test_two_sides_cut_out_a_picture_that_is_no_square() -> None:
    assert centre_corner(50, 40, crop=(40, 20)) == (10, 5)
    frames = np.arange(40 * 50 * 3).reshape(1, 40, 50, 3)
    assert np.array_equal(cut(frames, 10, 5, (40, 20)), frames[:, 10:30, 5:45])
    corners = random_corners(500, 50, 40, crop=(48, 37), generator=np.random.default_rng(0))
    assert corners.min(axis=0).tolist() == [0, 0] and corners.max(axis=0).tolist() == [3, 2]
    for crop in ((51, 20), (20, 41)):
        with pytest.raises(EtadError, match=rf"50x40 are too small to cut {crop[0]}x{crop[1]} out of"):
            centre_corner(50, 40, crop=crop)


def test_random_squares_stay_inside_reach_every_edge_and_differ_between_snippets() -> None:
    corners = random_corners(2000, 20, 16, crop=12, generator=np.random.default_rng(0))
    assert corners.shape == (2000, 2)
    assert corners.min(axis=0).tolist() == [0, 0]
    assert corners.max(axis=0).tolist() == [4, 8]
    assert len({tuple(corner) for corner in corners.tolist()}) == 45


def test_frames_smaller_than_the_square_are_refused() -> None:
    for draw in (
        lambda: centre_corner(100, 200, crop=112),
        lambda: random_corners(3, 100, 200, crop=112, generator=np.random.default_rng(0)),
    ):
        with pytest.raises(EtadError, match=r"100x200 are too small to cut a square of 112.*lower clips\.crop"):
            draw()


def test_cutting_and_flipping_touch_the_right_axes() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 6, 8, 3), dtype=np.uint8)
    assert np.array_equal(cut(frames, 1, 2, 4), frames[:, :, 1:5, 2:6])
    assert np.array_equal(flip(frames)[0, 0, 2], frames[0, 0, 2, ::-1])
    assert np.array_equal(flip(flip(frames)), frames)


def test_jitter_shifts_each_frame_on_its_own_within_bounds() -> None:
    shifts = jitter_shifts(50, 16, largest_frames=2, generator=np.random.default_rng(0))
    assert shifts.shape == (50, 16)
    assert set(shifts.ravel().tolist()) == {-2, -1, 0, 1, 2}


def test_a_samples_draws_depend_on_seed_epoch_and_id_alone() -> None:
    def draw(seed: int, epoch: int, sample: str) -> int:
        return int(sample_generator(seed, epoch, sample).integers(2**62))

    assert draw(0, 0, "a") == draw(0, 0, "a")
    assert len({draw(0, 0, "a"), draw(1, 0, "a"), draw(0, 1, "a"), draw(0, 0, "b")}) == 4
