"""What is drawn to change the look of training clips: RandAugment and colour jitter, alike for all frames of a unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.video import pixels


@dataclass(frozen=True)
class Step:
    """One operation of `etad.data.video.pixels`, with its amounts as they were drawn."""

    operation: str
    amounts: tuple[float, ...] = ()


def _signed(size: float, generator: np.random.Generator) -> tuple[float, ...]:
    return (size if generator.random() < 0.5 else -size,)


# RandAugment's operations and what a level of 0 to 1 means for each: the scales are those that EfficientNet was trained
# with, and the released model (mmaction2's default): `posterize` and `solarize` are gentler the higher the level, and
# the enhancements leave the picture as it is at a level of one half.
OPERATIONS: dict[str, Callable[[float, np.random.Generator], tuple[float, ...]]] = {
    "shear_x": lambda level, generator: _signed(0.3 * level, generator),
    "shear_y": lambda level, generator: _signed(0.3 * level, generator),
    "translate_x": lambda level, generator: _signed(0.2 * level, generator),
    "translate_y": lambda level, generator: _signed(0.2 * level, generator),
    "rotate": lambda level, generator: _signed(30 * level, generator),
    "posterize": lambda level, _: (max(1, int(4 * level)),),
    "solarize": lambda level, _: (256 * level,),
    "saturation": lambda level, _: (1.8 * level + 0.1,),
    "contrast": lambda level, _: (1.8 * level + 0.1,),
    "brightness": lambda level, _: (1.8 * level + 0.1,),
    "sharpness": lambda level, _: (1.8 * level + 0.1,),
    "autocontrast": lambda *_: (),
    "equalize": lambda *_: (),
    "invert": lambda *_: (),
    "cutout": lambda level, generator: (0.2 * level, generator.random(), generator.random()),
}
LARGEST_MAGNITUDE = 10

# So many pixels at once stay in a processor's cache, which makes most operations several times as fast.
_PIECE_PIXELS = 50_000


@dataclass(frozen=True, kw_only=True)
class RandAugment:
    """A few operations, chosen anew for each unit (Cubuk et al., 2020).

    Parameters
    ----------
    operations
        How many different ones; they are applied in the order of the list, as in the released model.
    magnitude, magnitude_std
        Mean and deviation of each operation's magnitude, of 10.
    """

    operations: int
    magnitude: float
    magnitude_std: float

    def draw(self, generator: np.random.Generator) -> list[Step]:
        """Draw the operations of one unit."""
        names = list(OPERATIONS)
        steps = []
        for number in sorted(generator.choice(len(names), size=self.operations, replace=False).tolist()):
            magnitude = np.clip(generator.normal(self.magnitude, self.magnitude_std), 0, LARGEST_MAGNITUDE)
            amounts = OPERATIONS[names[number]](float(magnitude) / LARGEST_MAGNITUDE, generator)
            steps.append(Step(names[number], amounts))
        return steps


@dataclass(frozen=True, kw_only=True)
class ColourJitter:
    """Brightness, contrast, saturation and hue, changed in random order.

    Parameters
    ----------
    brightness, contrast, saturation
        How far the factors may be from 1; 0: left alone.
    hue
        How far the hue may be turned, either way, as a share of the circle.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float

    def draw(self, generator: np.random.Generator) -> list[Step]:
        """Draw the factors of one unit, and their order."""
        ranges = {
            "brightness": (1, self.brightness),
            "contrast": (1, self.contrast),
            "saturation": (1, self.saturation),
            "hue": (0, self.hue),
        }
        steps = [
            Step(name, (float(generator.uniform(middle - width, middle + width)),))
            for name, (middle, width) in ranges.items()
            if width > 0
        ]
        return [steps[number] for number in generator.permutation(len(steps))]


def draw_steps(
    num_units: int,
    *,
    rand_augment: RandAugment | None,
    colour_jitter: ColourJitter | None,
    generator: np.random.Generator,
) -> list[list[Step]]:
    """Draw what is done to each unit: RandAugment, then colour jitter; what is None draws nothing."""
    kinds = [kind for kind in (rand_augment, colour_jitter) if kind is not None]
    return [[step for kind in kinds for step in kind.draw(generator)] for _ in range(num_units)]


def apply_to_clips(clips: np.ndarray, indices: np.ndarray, steps: Sequence[Sequence[Step]]) -> None:
    """Change clips in place.

    Parameters
    ----------
    clips
        uint8 (T, L, H, W, 3).
    indices
        (T, L) which frame of the video each is.
    steps
        Of each clip; or one list for all of them, which then must show the same part of a frame.
    """
    if len(steps) == len(clips):
        for clip, its in zip(clips, steps, strict=True):
            apply_steps(clip, its)
        return
    (alike,) = steps
    if alike:
        # Clips overlap: a frame that several of them show is changed once.
        _, first, places = np.unique(indices, return_index=True, return_inverse=True)
        all_frames = clips.reshape(-1, *clips.shape[2:])
        frames = all_frames[first]
        apply_steps(frames, alike)
        np.take(frames, places.ravel(), axis=0, out=all_frames, mode="clip")  # any other mode would copy once more


def apply_steps(frames: np.ndarray, steps: Sequence[Step]) -> None:
    """Change frames, uint8 (N, H, W, 3), in place, all alike."""
    if not steps:
        return
    num_frames = max(1, _PIECE_PIXELS // (frames.shape[1] * frames.shape[2]))
    for start in range(0, len(frames), num_frames):
        piece = frames[start : start + num_frames]
        for step in steps:
            piece = getattr(pixels, step.operation)(piece, *step.amounts)
        frames[start : start + num_frames] = piece
