"""What is done to a clip's pixels and times: sizes, crops, flips, jitter; drawn from a generator or fixed."""

from __future__ import annotations

import hashlib

import numpy as np

from ..errors import EtadError


def resized_size(width: int, height: int, resize: tuple[int, int] | int | None) -> tuple[int, int]:
    """Work out the width and height that a frame is resized to.

    Parameters
    ----------
    resize
        Width and height; or the short side alone, the aspect kept; or none, which keeps the size.

    Examples
    --------
    >>> resized_size(640, 360, (171, 128)), resized_size(640, 360, 180), resized_size(360, 640, 180)
    ((171, 128), (320, 180), (180, 320))
    """
    if resize is None:
        return width, height
    if isinstance(resize, int):
        scale = resize / min(width, height)
        return max(1, round(width * scale)), max(1, round(height * scale))
    return resize


def crop_size(crop: tuple[int, int] | int) -> tuple[int, int]:
    """Width and height of what is cut out of a frame: two sides, or one for a square.

    Examples
    --------
    >>> crop_size(112), crop_size((48, 27))
    ((112, 112), (48, 27))
    """
    return (crop, crop) if isinstance(crop, int) else crop


def centre_corner(width: int, height: int, *, crop: tuple[int, int] | int) -> tuple[int, int]:
    """Top and left of the middle of a frame.

    Parameters
    ----------
    crop
        Width and height to cut out, or the side of a square.

    Raises
    ------
    EtadError
        The frames are smaller.

    Examples
    --------
    >>> centre_corner(171, 128, crop=112), centre_corner(48, 27, crop=(48, 27))
    ((8, 30), (0, 0))
    """
    left, top = _room(width, height, crop)
    return round(top / 2), round(left / 2)


def random_corners(
    num_snippets: int, width: int, height: int, *, crop: tuple[int, int] | int, generator: np.random.Generator
) -> np.ndarray:
    """Draw top and left of what is cut out for each snippet, (T, 2); all frames of a snippet share it (Table 7).

    Parameters
    ----------
    crop
        Width and height to cut out, or the side of a square.

    Raises
    ------
    EtadError
        The frames are smaller.
    """
    left, top = _room(width, height, crop)
    return generator.integers(0, (top, left), size=(num_snippets, 2), endpoint=True)


def cut(frames: np.ndarray, top: int, left: int, crop: tuple[int, int] | int) -> np.ndarray:
    """Cut a part out of frames, (..., H, W, 3) uint8, as a view.

    Parameters
    ----------
    crop
        Width and height to cut out, or the side of a square.

    Examples
    --------
    >>> cut(np.zeros((16, 128, 171, 3), np.uint8), top=8, left=30, crop=112).shape
    (16, 112, 112, 3)
    """
    width, height = crop_size(crop)
    return frames[..., top : top + height, left : left + width, :]


def flip(frames: np.ndarray) -> np.ndarray:
    """Mirror frames, (..., H, W, 3), left to right, as a view."""
    return frames[..., ::-1, :]


def jitter_shifts(
    num_snippets: int, clip_frames: int, *, largest_frames: int, generator: np.random.Generator
) -> np.ndarray:
    """Draw how far each frame of each clip is shifted in time (Table 7, `jitter`).

    The paper shifts "a random stride of each frame in a snippet"; we read: each frame on its own, either way.

    Returns
    -------
    (T, L) int64 frames, between -largest_frames and largest_frames.
    """
    return generator.integers(-largest_frames, largest_frames, size=(num_snippets, clip_frames), endpoint=True)


def sample_generator(seed: int, epoch: int, sample_id: str) -> np.random.Generator:
    """Make the generator of one sample in one epoch: it does not depend on who loads the sample, or after which.

    Examples
    --------
    >>> draws = [sample_generator(0, 1, "v_a").integers(1000) for _ in range(2)]
    >>> bool(draws[0] == draws[1])
    True
    """
    words = np.frombuffer(hashlib.sha256(sample_id.encode()).digest(), dtype="<u4")
    return np.random.default_rng([seed, epoch, *words.tolist()])


def _room(width: int, height: int, crop: tuple[int, int] | int) -> tuple[int, int]:
    """How far to the right and down a crop can be moved."""
    right, down = width - crop_size(crop)[0], height - crop_size(crop)[1]
    if min(right, down) < 0:
        what = f"a square of {crop}" if isinstance(crop, int) else f"{crop[0]}x{crop[1]}"
        raise EtadError(
            f"frames of {width}x{height} are too small to cut {what} out of. Raise clips.resize, or lower clips.crop."
        )
    return right, down
