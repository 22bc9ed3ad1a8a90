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


def centre_corner(width: int, height: int, side: int) -> tuple[int, int]:
    """Top and left of the middle square.

    Raises
    ------
    EtadError
        The frames are smaller than the square.

    Examples
    --------
    >>> centre_corner(171, 128, side=112)
    (8, 30)
    """
    _check_room(width, height, side)
    return round((height - side) / 2), round((width - side) / 2)


def random_corners(
    num_snippets: int, width: int, height: int, *, side: int, generator: np.random.Generator
) -> np.ndarray:
    """Draw top and left of one square for each snippet, (T, 2); all frames of a snippet share it (Table 7).

    Raises
    ------
    EtadError
        The frames are smaller than the square.
    """
    _check_room(width, height, side)
    return generator.integers(0, (height - side, width - side), size=(num_snippets, 2), endpoint=True)


def cut(frames: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    """Cut a square out of frames, (..., H, W, 3) uint8, as a view.

    Examples
    --------
    >>> cut(np.zeros((16, 128, 171, 3), np.uint8), top=8, left=30, side=112).shape
    (16, 112, 112, 3)
    """
    return frames[..., top : top + side, left : left + side, :]


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


def _check_room(width: int, height: int, side: int) -> None:
    if min(width, height) < side:
        raise EtadError(
            f"frames of {width}x{height} are too small to cut a square of {side} out of. "
            f"Raise clips.resize, or lower clips.crop."
        )
