"""Operations on pictures: each equals the plain way, frame by frame, and Pillow's where it has the operation."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from etad.data.video import pixels
from reference import pixels as plain

AMOUNTS: list[tuple[str, tuple[float, ...]]] = [
    ("invert", ()),
    ("autocontrast", ()),
    ("equalize", ()),
    *(("posterize", (bits,)) for bits in (1, 3, 8)),
    *(("solarize", (threshold,)) for threshold in (0, 100.5, 256)),
    *((name, (f,)) for name in ("brightness", "contrast", "saturation", "sharpness") for f in (0, 0.4, 1, 1.72)),
    *(("hue", (turn,)) for turn in (-0.5, -0.1, 0, 0.07, 0.3)),
    *((name, (size,)) for name in ("shear_x", "shear_y", "translate_x", "translate_y") for size in (-0.27, 0, 0.2)),
    *(("rotate", (degrees,)) for degrees in (-27, 0, 14, 90)),
    ("cutout", (0.4, 0.5, 0.3)),
    ("cutout", (0.4, 0, 1)),
]
# Fractions near a whole number may be cut off on either side of it in float32.
ROUNDED = {"brightness", "contrast", "saturation", "sharpness", "hue", "shear_x", "shear_y", "rotate", "autocontrast"}


def pictures(height: int = 9, width: int = 12) -> np.ndarray:
    """Two clips of two frames: noise, a dull one, one colour, greys."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (height, width, 3))
    dull = generator.normal((90, 120, 60), 15, (height, width, 3))
    colour = np.broadcast_to((200, 10, 77), (height, width, 3))
    greys = generator.integers(0, 256, (height, width, 1)).repeat(3, axis=2)
    return np.stack([noise, dull, colour, greys]).astype(np.uint8).reshape(2, 2, height, width, 3)


@pytest.mark.parametrize(("name", "amounts"), AMOUNTS)
def test_an_operation_equals_the_plain_way_on_every_frame(name: str, amounts: tuple[float, ...]) -> None:
    clips = pictures(18, 20) if name == "equalize" else pictures()  # it does nothing to less than 256 pixels
    before = clips.copy()
    found = getattr(pixels, name)(clips, *amounts)
    expected = np.stack([[getattr(plain, name)(frame, *amounts) for frame in clip] for clip in clips])
    assert found.shape == clips.shape and found.dtype == np.uint8
    assert np.array_equal(clips, before)
    differences = np.abs(found.astype(int) - expected.astype(int))
    assert differences.max() <= (1 if name in ROUNDED else 0)
    assert (differences > 0).mean() < 0.1


def enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance], image: Image.Image, factor: float) -> Image.Image:
    return kind(image).enhance(factor)


PILLOW = {
    "invert": ImageOps.invert,
    "autocontrast": ImageOps.autocontrast,
    "equalize": ImageOps.equalize,
    "posterize": ImageOps.posterize,
    "solarize": ImageOps.solarize,
    "brightness": functools.partial(enhance, ImageEnhance.Brightness),
    "contrast": functools.partial(enhance, ImageEnhance.Contrast),
    "saturation": functools.partial(enhance, ImageEnhance.Color),
    "sharpness": functools.partial(enhance, ImageEnhance.Sharpness),
}


@pytest.mark.parametrize(("name", "amounts"), [each for each in AMOUNTS if each[0] in PILLOW])
def test_colours_follow_pillow(name: str, amounts: tuple[float, ...]) -> None:
    clips = pictures(18, 20)
    found = getattr(pixels, name)(clips, *amounts).astype(int)
    frames = [[np.asarray(PILLOW[name](Image.fromarray(frame), *amounts)) for frame in clip] for clip in clips]
    # Pillow rounds grey to whole numbers on the way.
    assert np.abs(found - np.array(frames)).max() <= (1 if name in ("contrast", "saturation") else 0)


def test_what_changes_nothing_changes_nothing() -> None:
    clips = pictures()
    neutral: dict[str, float] = {"posterize": 8, "solarize": 256, "hue": 1}
    neutral |= dict.fromkeys(("brightness", "contrast", "saturation", "sharpness"), 1)
    neutral |= dict.fromkeys(("shear_x", "shear_y", "translate_x", "translate_y", "rotate"), 0)
    for name, amount in neutral.items():
        assert np.array_equal(getattr(pixels, name)(clips, amount), clips), name
    assert np.array_equal(pixels.saturation(clips[1, 1], 1.72), clips[1, 1])  # greys
    assert np.array_equal(pixels.rotate(pixels.rotate(clips[..., :9, :], 90), -90), clips[..., :9, :])


def test_a_frame_too_small_to_smooth_stays_as_it_is() -> None:
    tiny = pictures(2, 5)
    assert np.array_equal(pixels.sharpness(tiny, 0.0), tiny)
