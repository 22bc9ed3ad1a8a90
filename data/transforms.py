"""What is done to a clip's pixels and times: sizes, crops, flips, jitter; drawn from a generator or fixed."""

from __future__ import annotations

import hashlib

import numpy as np

from .errors import EtadError


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


def crop_centre(clips: np.ndarray, side: int) -> np.ndarray:
    """Cut the middle square out of every frame, as a view.

    Parameters
    ----------
    clips
        (..., H, W, 3) uint8.
    side
        Height and width of the square.

    Raises
    ------
    EtadError
        The frames are smaller than the square.

    Examples
    --------
    >>> crop_centre(np.zeros((2, 16, 128, 171, 3), np.uint8), side=112).shape
    (2, 16, 112, 112, 3)
    """
    height, width = _check_room(clips, side)
    top, left = round((height - side) / 2), round((width - side) / 2)
    return clips[..., top : top + side, left : left + side, :]


def crop_randomly(clips: np.ndarray, side: int, generator: np.random.Generator) -> np.ndarray:
    """Cut one random square out of each clip, the same for all its frames (Table 7).

    Parameters
    ----------
    clips
        (T, L, H, W, 3) uint8.
    side
        Height and width of the squares.

    Returns
    -------
    (T, L, side, side, 3) uint8.

    Raises
    ------
    EtadError
        The frames are smaller than the square.
    """
    height, width = _check_room(clips, side)
    tops = generator.integers(0, height - side, size=len(clips), endpoint=True)
    lefts = generator.integers(0, width - side, size=len(clips), endpoint=True)
    cropped = np.empty((*clips.shape[:2], side, side, 3), dtype=clips.dtype)
    for clip, top, left, target in zip(clips, tops, lefts, cropped, strict=True):
        target[...] = clip[:, top : top + side, left : left + side]
    return cropped


def flip(clips: np.ndarray) -> np.ndarray:
    """Mirror every frame left to right, as a view.

    Parameters
    ----------
    clips
        (..., H, W, 3).
    """
    return clips[..., ::-1, :]


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


def _check_room(clips: np.ndarray, side: int) -> tuple[int, int]:
    height, width = clips.shape[-3:-1]
    if min(height, width) < side:
        raise EtadError(
            f"frames of {width}x{height} are too small to cut a square of {side} out of. "
            f"Raise clips.resize, or lower clips.crop."
        )
    return height, width
