"""Operations on pictures' colours and shapes, for augmentation: uint8 frames (..., H, W, 3) in, new ones out.

What each frame's own look decides, such as its mean or its darkest value, is found frame by frame; the rest is the same
for all. Colours follow Pillow where it has the operation.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from scipy import sparse

# ITU-R 601, as Pillow turns RGB into grey.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_ALL_VALUES = np.arange(256, dtype=np.float32)
# A smoothed value is the sum of 13 values, the middle one counted five times; halves go up.
_SMOOTHED = ((2 * np.arange(13 * 255 + 1) + 13) // 26).astype(np.float32)
_CUTOUT_GREY = 128


def invert(frames: np.ndarray) -> np.ndarray:
    """Turn colours into their negatives.

    Examples
    --------
    >>> invert(np.array([[[0, 100, 255]]], np.uint8)).tolist()
    [[[255, 155, 0]]]
    """
    return ~frames


def posterize(frames: np.ndarray, bits: int) -> np.ndarray:
    """Keep the highest `bits` bits of each value.

    Examples
    --------
    >>> posterize(np.array([[[31, 32, 255]]], np.uint8), bits=3).tolist()
    [[[0, 32, 224]]]
    """
    return frames & np.uint8(256 - 2 ** (8 - bits))


def solarize(frames: np.ndarray, threshold: float) -> np.ndarray:
    """Invert what is at least as bright as the threshold (0 to 256)."""
    return np.where(frames < threshold, frames, ~frames)


def brightness(frames: np.ndarray, factor: float) -> np.ndarray:
    """Move every value away from black, or towards it where the factor is below 1."""
    return np.take(_clipped(np.float32(factor) * _ALL_VALUES), frames)


def contrast(frames: np.ndarray, factor: float) -> np.ndarray:
    """Move every value away from its frame's mean grey."""
    means = np.floor(_column_sums(frames) @ _LUMA / (frames.shape[-3] * frames.shape[-2]) + 0.5)[..., None]
    return _through(frames, _clipped(means + np.float32(factor) * (_ALL_VALUES - means)))


def saturation(frames: np.ndarray, factor: float) -> np.ndarray:
    """Move every value away from its pixel's grey (RandAugment's `Color`)."""
    mix = factor * np.eye(3, dtype=np.float32) + (1 - factor) * _LUMA[:, None]
    values = frames.reshape(-1, 3).astype(np.float32) @ mix.astype(np.float32)
    values += np.float32(1 / 256)  # greys stay as they are, in spite of rounding errors
    return _clipped(values).reshape(frames.shape)


def sharpness(frames: np.ndarray, factor: float) -> np.ndarray:
    """Move every value away from that of the smoothed frame; the outermost pixels stay as they are."""
    if min(frames.shape[-3:-1]) < 3:
        return frames.copy()
    rows = frames[..., :-2, :, :].astype(np.uint16) + frames[..., 1:-1, :, :] + frames[..., 2:, :, :]
    total = rows[..., :-2, :] + rows[..., 1:-1, :] + rows[..., 2:, :]
    inner = frames[..., 1:-1, 1:-1, :]
    total += 4 * inner.astype(np.uint16)
    sharp = frames.copy()
    sharp[..., 1:-1, 1:-1, :] = _away_from(np.take(_SMOOTHED, total), inner.astype(np.float32), factor)
    return sharp


def hue(frames: np.ndarray, turn: float) -> np.ndarray:
    """Turn the hue by a share of the colour circle (HSV); lightest and darkest channel keep their values."""
    red, green, blue = frames.reshape(-1, 3).T.astype(np.float32, order="C")  # a plane each is far quicker
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    # Masks are multiplied, not chosen by: choosing would be the slowest part.
    is_red = value == red
    is_green = (value == green) & ~is_red
    is_blue = ~(is_red | is_green)
    angle = (green - blue) * is_red
    angle += (blue - red) * is_green
    angle += (red - green) * is_blue
    angle /= np.maximum(chroma, 1)  # greys have no hue: any will do
    angle += np.float32(2) * is_green
    angle += np.float32(4) * is_blue
    angle += np.float32(6 * turn)
    angle -= 6 * np.floor(angle / 6)  # 0 to 6
    value += np.float32(0.5)
    turned = np.empty((angle.size, 3), dtype=np.uint8)
    # A channel is lightest up to one sixth of the circle from its own place, and darkest beyond two; these are the
    # distances from the place opposite.
    distances = (
        np.abs(angle - 3),
        np.minimum(np.abs(angle - 5), angle + 1),
        np.minimum(np.abs(angle - 1), 7 - angle),
    )
    for channel, distance in enumerate(distances):
        share = np.minimum(np.maximum(2 - distance, 0), 1)
        share *= chroma
        turned[:, channel] = value - share
    return turned.reshape(frames.shape)


def autocontrast(frames: np.ndarray) -> np.ndarray:
    """Stretch each channel of each frame from its darkest and lightest value to 0 and 255."""
    *_, width, channels = frames.shape
    columns = frames.reshape(*frames.shape[:-2], width * channels)  # reducing long rows first is far quicker
    low = columns.min(axis=-2).reshape(*frames.shape[:-3], width, channels).min(axis=-2).astype(np.float64)[..., None]
    high = columns.max(axis=-2).reshape(*frames.shape[:-3], width, channels).max(axis=-2).astype(np.float64)[..., None]
    scale = 255 / np.maximum(high - low, 1)
    stretched = np.where(high > low, _ALL_VALUES * scale - low * scale, _ALL_VALUES)
    return _through_channels(frames, _clipped(stretched))


def equalize(frames: np.ndarray) -> np.ndarray:
    """Make all values of each channel of each frame about equally frequent."""
    flat = frames.reshape(-1, *frames.shape[-3:])
    counts = np.array(
        [[np.bincount(frame[..., channel].ravel(), minlength=256) for channel in range(3)] for frame in flat]
    ).reshape(-1, 3, 256)
    above_all = 255 - np.argmax(counts[..., ::-1] > 0, axis=-1)[..., None]  # the lightest value there is
    step = (counts.sum(axis=-1, keepdims=True) - np.take_along_axis(counts, above_all, axis=-1)) // 255
    below = np.cumsum(counts, axis=-1) - counts
    spread = np.where(step > 0, (step // 2 + below) // np.maximum(step, 1), np.arange(256))
    return _through_channels(flat, np.minimum(spread, 255).astype(np.uint8)).reshape(frames.shape)


def cutout(frames: np.ndarray, side: float, down: float, right: float) -> np.ndarray:
    """Grey out a square.

    Parameters
    ----------
    side
        Share of the frame's short side.
    down, right
        Where its middle is, shares of height and width; what lies outside the frame is lost.
    """
    height, width = frames.shape[-3:-1]
    length = round(side * min(height, width))
    top, left = round(down * height - length / 2), round(right * width - length / 2)
    cut = frames.copy()
    cut[..., max(top, 0) : max(top + length, 0), max(left, 0) : max(left + length, 0), :] = _CUTOUT_GREY
    return cut


def shear_x(frames: np.ndarray, slope: float) -> np.ndarray:
    """Shift rows by `slope` times their distance from the middle one."""
    return warp(frames, (1, slope, 0), (0, 1, 0))


def shear_y(frames: np.ndarray, slope: float) -> np.ndarray:
    """Shift columns by `slope` times their distance from the middle one."""
    return warp(frames, (1, 0, 0), (slope, 1, 0))


def translate_x(frames: np.ndarray, share: float) -> np.ndarray:
    """Shift by a share of the width, rounded to whole pixels."""
    return warp(frames, (1, 0, round(share * frames.shape[-2])), (0, 1, 0))


def translate_y(frames: np.ndarray, share: float) -> np.ndarray:
    """Shift by a share of the height, rounded to whole pixels."""
    return warp(frames, (1, 0, 0), (0, 1, round(share * frames.shape[-3])))


def rotate(frames: np.ndarray, degrees: float) -> np.ndarray:
    """Turn about the middle."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    return warp(frames, (cosine, -sine, 0), (sine, cosine, 0))


def warp(frames: np.ndarray, across: tuple[float, float, float], down: tuple[float, float, float]) -> np.ndarray:
    """Look up every pixel elsewhere, between pixels by bilinear interpolation; outside the frame is black.

    Parameters
    ----------
    across, down
        (a, b, c): the pixel at (x, y) from the middle is looked up at (a x + b y + c) from it, each way.
    """
    height, width = frames.shape[-3:-1]
    # One sparse product moves all frames at once: rows are pixels, columns are frames and channels.
    pixels = frames.reshape(-1, height * width, 3).transpose(1, 0, 2)
    moved = _lookup(height, width, across, down) @ pixels.reshape(height * width, -1).astype(np.float32)
    moved += np.float32(0.5)
    return moved.astype(np.uint8).reshape(pixels.shape).transpose(1, 0, 2).reshape(frames.shape)


@functools.lru_cache(maxsize=16)  # the frames of a window are moved piece by piece, all alike
def _lookup(
    height: int, width: int, across: tuple[float, float, float], down: tuple[float, float, float]
) -> sparse.csr_matrix:
    """Weights of source pixels (columns) in each pixel (rows), (H W, H W)."""
    y, x = np.mgrid[:height, :width].reshape(2, -1) - np.array([[(height - 1) / 2], [(width - 1) / 2]])
    source_x = across[0] * x + across[1] * y + across[2] + (width - 1) / 2
    source_y = down[0] * x + down[1] * y + down[2] + (height - 1) / 2
    left, top = np.floor(source_x).astype(int), np.floor(source_y).astype(int)
    right_share, bottom_share = source_x - left, source_y - top
    weights, rows, columns = [], [], []
    for row, row_share in ((top, 1 - bottom_share), (top + 1, bottom_share)):
        for column, column_share in ((left, 1 - right_share), (left + 1, right_share)):
            weight = row_share * column_share
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width) & (weight > 0)
            weights.append(weight[inside].astype(np.float32))
            rows.append(np.flatnonzero(inside))
            columns.append((row * width + column)[inside])
    entries = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(entries, shape=(height * width, height * width))


def _away_from(base: np.ndarray, values: np.ndarray, factor: float) -> np.ndarray:
    """Blend as Pillow does: fractions are cut off."""
    values -= base
    values *= np.float32(factor)
    values += base
    return _clipped(values)


def _clipped(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint8)


def _column_sums(frames: np.ndarray) -> np.ndarray:
    """Sum of each channel of each frame, (..., 3)."""
    *_, width, channels = frames.shape
    columns = frames.reshape(*frames.shape[:-2], width * channels).sum(axis=-2, dtype=np.uint32)
    return columns.reshape(*frames.shape[:-3], width, channels).sum(axis=-2, dtype=np.int64)


def _through(frames: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Look values up in the table of their frame, (..., 256)."""
    found = np.empty_like(frames)
    for index in np.ndindex(frames.shape[:-3]):
        found[index] = np.take(tables[index], frames[index])
    return found


def _through_channels(frames: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Look values up in the table of their frame and channel, (..., 3, 256)."""
    found = np.empty_like(frames)
    starts = np.arange(0, 768, 256)
    for index in np.ndindex(frames.shape[:-3]):
        found[index] = np.take(tables[index].ravel(), frames[index] + starts)
    return found
