"""Operations on one frame, uint8 (H, W, 3), the plain way: pixel by pixel, value by value."""

import colorsys
import math
from collections.abc import Callable

import numpy as np

LUMA = (0.299, 0.587, 0.114)


def each_value(frame: np.ndarray, change: Callable[[int], float]) -> np.ndarray:
    values = [max(0.0, min(255.0, change(value))) for value in frame.ravel().tolist()]
    return np.array(values).astype(np.uint8).reshape(frame.shape)


def invert(frame: np.ndarray) -> np.ndarray:
    return each_value(frame, lambda value: 255 - value)


def posterize(frame: np.ndarray, bits: int) -> np.ndarray:
    size = 256 // 2**bits
    return each_value(frame, lambda value: value // size * size)


def solarize(frame: np.ndarray, threshold: float) -> np.ndarray:
    return each_value(frame, lambda value: value if value < threshold else 255 - value)


def brightness(frame: np.ndarray, factor: float) -> np.ndarray:
    return each_value(frame, lambda value: factor * value)


def grey(pixel: np.ndarray) -> float:
    return sum(weight * value for weight, value in zip(LUMA, pixel.tolist(), strict=True))


def contrast(frame: np.ndarray, factor: float) -> np.ndarray:
    greys = [grey(pixel) for pixel in frame.reshape(-1, 3)]
    mean = math.floor(sum(greys) / len(greys) + 0.5)
    return each_value(frame, lambda value: mean + factor * (value - mean))


def saturation(frame: np.ndarray, factor: float) -> np.ndarray:
    changed = np.empty_like(frame)
    for place in np.ndindex(frame.shape[:2]):
        middle = grey(frame[place])
        changed[place] = each_value(frame[place], lambda value: middle + factor * (value - middle))  # noqa: B023
    return changed


def hue(frame: np.ndarray, turn: float) -> np.ndarray:
    changed = np.empty_like(frame)
    for place in np.ndindex(frame.shape[:2]):
        angle, share, value = colorsys.rgb_to_hsv(*(frame[place] / 255).tolist())
        changed[place] = np.floor(np.array(colorsys.hsv_to_rgb((angle + turn) % 1, share, value)) * 255 + 0.5)
    return changed


def sharpness(frame: np.ndarray, factor: float) -> np.ndarray:
    changed = frame.copy()
    height, width, _ = frame.shape
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            for channel in range(3):
                around = frame[y - 1 : y + 2, x - 1 : x + 2, channel].astype(int)
                smooth = math.floor((around.sum() + 4 * around[1, 1]) / 13 + 0.5)
                value = smooth + factor * (around[1, 1] - smooth)
                changed[y, x, channel] = int(max(0, min(255, value)))
    return changed


def autocontrast(frame: np.ndarray) -> np.ndarray:
    changed = frame.copy()
    for channel in range(3):
        low, high = int(frame[..., channel].min()), int(frame[..., channel].max())
        if high > low:
            scale = 255 / (high - low)
            changed[..., channel] = each_value(frame[..., channel], lambda value: value * scale - low * scale)  # noqa: B023
    return changed


def equalize(frame: np.ndarray) -> np.ndarray:
    changed = frame.copy()
    for channel in range(3):
        values = frame[..., channel].ravel().tolist()
        step = sum(value != max(values) for value in values) // 255
        if step:
            for place in np.ndindex(frame.shape[:2]):
                darker = sum(value < frame[*place, channel] for value in values)
                changed[*place, channel] = min(255, (step // 2 + darker) // step)
    return changed


def cutout(frame: np.ndarray, side: float, down: float, right: float) -> np.ndarray:
    height, width, _ = frame.shape
    length = round(side * min(height, width))
    top, left = round(down * height - length / 2), round(right * width - length / 2)
    changed = frame.copy()
    for y in range(height):
        for x in range(width):
            if top <= y < top + length and left <= x < left + length:
                changed[y, x] = 128
    return changed


def look_up(frame: np.ndarray, source: Callable[[float, float], tuple[float, float]]) -> np.ndarray:
    """Each pixel from the place that `source` names, both counted from the middle; black outside."""
    height, width, _ = frame.shape
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    changed = np.zeros_like(frame)
    for y in range(height):
        for x in range(width):
            from_x, from_y = source(x - middle_x, y - middle_y)
            from_x, from_y = from_x + middle_x, from_y + middle_y
            total = np.zeros(3)
            for row in range(height):
                for column in range(width):
                    share = max(0.0, 1 - abs(from_x - column)) * max(0.0, 1 - abs(from_y - row))
                    total += share * frame[row, column]
            changed[y, x] = np.floor(total + 0.5)
    return changed


def shear_x(frame: np.ndarray, slope: float) -> np.ndarray:
    return look_up(frame, lambda x, y: (x + slope * y, y))


def shear_y(frame: np.ndarray, slope: float) -> np.ndarray:
    return look_up(frame, lambda x, y: (x, y + slope * x))


def translate_x(frame: np.ndarray, share: float) -> np.ndarray:
    return look_up(frame, lambda x, y: (x + round(share * frame.shape[1]), y))


def translate_y(frame: np.ndarray, share: float) -> np.ndarray:
    return look_up(frame, lambda x, y: (x, y + round(share * frame.shape[0])))


def rotate(frame: np.ndarray, degrees: float) -> np.ndarray:
    angle = math.radians(degrees)
    return look_up(
        frame,
        lambda x, y: (x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)),
    )
