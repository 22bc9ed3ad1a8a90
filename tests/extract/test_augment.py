"""RandAugment and colour jitter: drawn from the generator alone, alike within a unit, different between units."""

from collections import Counter

import numpy as np
import pytest

from etad.data.video import pixels
from etad.extract.augment import OPERATIONS, ColourJitter, RandAugment, Step, apply_steps, apply_to_clips, draw_steps

RAND_AUGMENT = RandAugment(operations=2, magnitude=9, magnitude_std=0)
COLOUR_JITTER = ColourJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.1)
STEPS = [Step("rotate", (20,)), Step("equalize"), Step("hue", (0.1,)), Step("sharpness", (1.7,))]


def many(kind: RandAugment | ColourJitter, count: int = 600) -> list[list[Step]]:
    generator = np.random.default_rng(0)
    return [kind.draw(generator) for _ in range(count)]


def clips(num_clips: int = 3, clip_frames: int = 2, side: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Clips whose frames overlap, and the numbers of the frames."""
    frames = np.random.default_rng(0).integers(0, 256, (num_clips + 1, side, side, 3), dtype=np.uint8)
    indices = np.arange(num_clips)[:, None] + np.arange(clip_frames)
    return frames[indices], indices + 7


def test_operations_of_a_unit_are_different_ones_and_all_equally_likely() -> None:
    drawn = many(RAND_AUGMENT)
    names = [[step.operation for step in steps] for steps in drawn]
    assert all(len(set(pair)) == 2 for pair in names)
    assert all(pair == sorted(pair, key=list(OPERATIONS).index) for pair in names)
    counts = Counter(name for pair in names for name in pair)
    assert counts.keys() == OPERATIONS.keys()
    assert all(abs(count - 80) < 36 for count in counts.values())  # four deviations


def test_the_releases_amounts_at_magnitude_nine() -> None:
    seen: dict[str, set[tuple[float, ...]]] = {}
    for steps in many(RAND_AUGMENT):
        for step in steps:
            seen.setdefault(step.operation, set()).add(tuple(round(amount, 6) for amount in step.amounts))
    assert seen["rotate"] == {(27,), (-27,)}
    assert seen["shear_x"] == seen["shear_y"] == {(0.27,), (-0.27,)}
    assert seen["translate_x"] == seen["translate_y"] == {(0.18,), (-0.18,)}
    assert seen["posterize"] == {(3,)} and seen["solarize"] == {(230.4,)}
    assert seen["saturation"] == seen["contrast"] == seen["brightness"] == seen["sharpness"] == {(1.72,)}
    assert {side for side, *_ in seen["cutout"]} == {0.18} and len(seen["cutout"]) > 20


def test_magnitudes_spread_around_their_mean_within_bounds() -> None:
    spread = many(RandAugment(operations=15, magnitude=9, magnitude_std=1.5), 200)
    turns = np.abs([step.amounts[0] for steps in spread for step in steps if step.operation == "rotate"])
    assert turns.max() == 30 and 10 < turns.min() < 22 and len(set(turns.tolist())) > 100
    weakest = many(RandAugment(operations=15, magnitude=0, magnitude_std=0), 1)[0]
    assert Step("posterize", (1,)) in weakest


def test_jitter_stays_in_range_in_any_order_and_leaves_out_what_is_off() -> None:
    drawn = many(COLOUR_JITTER)
    assert len({tuple(step.operation for step in steps) for steps in drawn}) == 24
    for name, low, high in (
        ("brightness", 0.5, 1.5),
        ("contrast", 0.5, 1.5),
        ("saturation", 0.5, 1.5),
        ("hue", -0.1, 0.1),
    ):
        amounts = [step.amounts[0] for steps in drawn for step in steps if step.operation == name]
        width = high - low
        assert low <= min(amounts) < low + 0.02 * width and high - 0.02 * width < max(amounts) <= high
    only = ColourJitter(brightness=0, contrast=0.2, saturation=0, hue=0)
    assert {step.operation for steps in many(only, 5) for step in steps} == {"contrast"}


def test_draws_follow_the_generator_and_differ_between_units() -> None:
    def draw(seed: int) -> list[list[Step]]:
        generator = np.random.default_rng(seed)
        return draw_steps(20, rand_augment=RAND_AUGMENT, colour_jitter=COLOUR_JITTER, generator=generator)

    assert draw(0) == draw(0) != draw(1)
    assert len({tuple(steps) for steps in draw(0)}) == 20
    assert all(steps[0].operation in OPERATIONS and len(steps) == 6 for steps in draw(0))


def test_nothing_chosen_draws_nothing() -> None:
    generator = np.random.default_rng(0)
    assert draw_steps(3, rand_augment=None, colour_jitter=None, generator=generator) == [[], [], []]
    assert generator.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize("side", [20, 240])  # many frames to a piece, one frame to a piece
def test_steps_change_every_frame_alike_one_after_the_other(side: int) -> None:
    frames = clips(side=side)[0][:, 0]
    expected = frames
    for step in STEPS:
        expected = np.stack([getattr(pixels, step.operation)(frame, *step.amounts) for frame in expected])
    apply_steps(frames, STEPS)
    assert np.array_equal(frames, expected)


def test_one_draw_for_all_clips_or_one_for_each() -> None:
    before, indices = clips()
    expected = before.copy().reshape(-1, 20, 20, 3)
    apply_steps(expected, STEPS)
    alike = before.copy()
    apply_to_clips(alike, indices, [STEPS])
    assert np.array_equal(alike, expected.reshape(before.shape))

    each = before.copy()
    apply_to_clips(each, indices, [STEPS, [], [Step("invert")]])
    assert np.array_equal(each[0], alike[0])
    assert np.array_equal(each[1], before[1])
    assert np.array_equal(each[2], 255 - before[2])


def test_a_single_clip_and_no_steps_are_fine() -> None:
    before, indices = clips(1)
    changed = before.copy()
    apply_to_clips(changed, indices, [STEPS])
    assert not np.array_equal(changed, before)
    many_clips, indices = clips()
    untouched = many_clips.copy()
    apply_to_clips(untouched, indices, [[]])
    assert np.array_equal(untouched, many_clips)
