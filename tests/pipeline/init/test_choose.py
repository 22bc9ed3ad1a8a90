"""What a config is chosen by, on tables of data sets."""

import math

import numpy as np
import pytest

from etad.pipeline.config import load_config
from etad.pipeline.init.choose import (
    LEAST_STEPS,
    MOST_DURATION,
    SHORT_SPANS,
    choose_clips,
    choose_detector,
    choose_encoder,
    choose_labels,
    choose_rate,
    choose_split,
    choose_training,
    choose_windows,
)

# Name, lengths of videos, lengths of actions: what sets of this field are like.
SETS = {
    "THUMOS-14": ([210.0, 60.0, 900.0], [0.8, 1.5, 4.0, 12.0, 30.0], "sliding"),
    "ActivityNet": ([120.0, 100.0, 180.0], [20.0, 60.0, 110.0], "rescale"),
    "clips of a lab": ([120.0] * 15, [3.0, 5.0, 14.0], "sliding"),
    "short clips": ([10.0, 12.0, 9.0], [2.0, 4.0], "rescale"),
    "surveillance": ([3600.0, 7200.0], [1.0, 5.0], "sliding"),
    "one long, one short": ([30.0, 600.0], [10.0, 20.0], "sliding"),
    "whole videos": ([20.0, 21.0], [20.0, 21.0], "rescale"),
}


@pytest.mark.parametrize("name", SETS)
def test_the_shortest_action_spans_several_snippets_and_the_longest_fits(name: str) -> None:
    durations, lengths, kind = SETS[name]
    duration = float(np.median(durations))
    actions = [(length, max(length, duration)) for length in lengths]
    chosen = choose_windows(durations, actions, rate=12.5)
    assert chosen.kind == kind
    share = {"rescale": chosen.num_snippets / max(duration, max(lengths)), "sliding": 1 / chosen.stride_seconds}[kind]
    assert min(lengths) * share > SHORT_SPANS - 1
    assert max(lengths) * share <= chosen.max_duration <= chosen.num_snippets
    if kind == "sliding":  # some window holds the longest action whole
        assert chosen.num_snippets - chosen.window_stride >= chosen.max_duration


def test_lengths_too_far_apart_for_any_stride_keep_the_longest_action_and_say_what_the_shortest_gets() -> None:
    chosen = choose_windows([4000.0, 3000.0], [(0.5, 4000.0), (400.0, 3000.0)], rate=12.5)
    assert chosen.max_duration <= MOST_DURATION
    assert 400 / chosen.stride_seconds <= chosen.max_duration
    assert chosen.short_span < 1
    assert f"(wanted: {SHORT_SPANS})" in chosen.why[1]


def test_one_slip_of_the_hand_does_not_set_the_pace() -> None:
    usual = [(5.0, 300.0)] * 50
    slipped = choose_windows([300.0], [*usual, (0.04, 300.0)], rate=10)
    assert slipped.stride_frames == choose_windows([300.0], usual, rate=10).stride_frames


@pytest.mark.parametrize("num_windows", [1, 2, 3, 6, 11, 12, 40, 150, 999, 1000, 5000])
def test_any_number_of_windows_gets_steps_enough(num_windows: int) -> None:
    found = {setting.key.rsplit(".", 1)[1]: setting.value for setting in choose_training(num_windows)}
    batch, epochs = found["batch"], found["epochs"]
    steps = max(num_windows // batch, 1) * epochs  # a last, short batch is dropped unless it is the only one
    assert LEAST_STEPS <= steps <= max(10 * LEAST_STEPS, 6 * num_windows / batch + batch)
    assert found["decay_after"] < epochs
    assert str(steps) in choose_training(num_windows)[0].why


@pytest.mark.parametrize(
    ("installed", "name", "also"),
    [
        ({"transnetv2", "efficientnet_lite0"}, "transnetv2", [{"name": "efficientnet_lite0", "frames": 2}]),
        ({"transnetv2"}, "transnetv2", None),
        ({"efficientnet_lite0"}, "efficientnet_lite0", None),
        (set(), None, None),
    ],
)
def test_the_best_encoder_that_is_installed_is_taken(installed: set[str], name: str | None, also: object) -> None:
    found = {setting.key: setting.value for setting in choose_encoder(installed)}
    assert found.get("encoder.name") == name
    assert found.get("encoder.also") == also


@pytest.mark.parametrize(
    ("videos", "source"),
    [
        ([["a"], ["b"], []], "classifier"),
        ([["a", "b"], ["b"]], "branch"),
        ([["a"]] * 19 + [["a", "b"]], "classifier"),
        ([["a"]] * 8 + [["a", "b"]], "branch"),
    ],
)
def test_labels_come_from_the_video_unless_videos_hold_several(videos: list[list[str]], source: str) -> None:
    assert choose_labels(videos).value == source


def test_a_split_keeps_every_class_in_training_and_tests_on_what_it_can() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        labels = [f"c{number}" for number in range(rng.integers(1, 6))]
        videos = {
            f"v{number}": [str(each) for each in rng.choice(labels, rng.integers(0, 4))]
            for number in range(rng.integers(2, 30))
        }
        split = choose_split(videos, seed=int(rng.integers(5)))
        assert list(split) == list(videos)
        trained, tested = (
            {label for id, each in split.items() if each == name for label in videos[id]}
            for name in ("training", "validation")
        )
        assert tested <= trained
        held = {label: sum(label in each for each in videos.values()) for label in labels}
        assert trained == {label for label, count in held.items() if count}
        if all(len(set(each)) == 1 for each in videos.values()) and max(held.values()) > 1:
            assert tested
        assert sum(each == "validation" for each in split.values()) <= max(1, math.ceil(len(videos) / 2))


def test_a_split_is_seeded_and_stratified() -> None:
    videos = {f"v{number:02d}": [["run"], ["jump"], ["turn"]][number % 3] * 2 for number in range(24)}
    split = choose_split(videos, seed=3)
    assert split == choose_split(videos, seed=3)
    assert any(split != choose_split(videos, seed=seed) for seed in range(4, 8))
    tested = [videos[id][0] for id, each in split.items() if each == "validation"]
    assert sorted(tested) == ["jump"] * 2 + ["run"] * 2 + ["turn"] * 2


def test_what_is_chosen_is_a_config() -> None:
    for durations, lengths, _ in SETS.values():
        windows = choose_windows(durations, [(length, max(durations)) for length in lengths], rate=choose_rate([25.0]))
        chosen = [*windows.settings(), *choose_clips("transnetv2", windows), *choose_detector(windows)]
        chosen += [choose_labels([["a"]]), *choose_training(windows.num_training_windows(durations[0], [(1.0, 2.0)]))]
        assert all(setting.why for setting in (windows.settings()[0], *choose_training(3)[:1]))
        load_config(None, [f"{setting.key}={_toml(setting.value)}" for setting in chosen])


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def test_a_class_is_tested_where_some_split_does_so() -> None:
    # Dealt by the rarest class first, "c" takes the one place, and "a" and "b" are left without.
    videos = {"1": ["c"], "2": ["c"], "3": ["a", "b", "c"], "4": ["a", "b", "c"]}
    for seed in range(8):
        split = choose_split(videos, seed=seed)
        tested = {label for id, labels in videos.items() if split[id] == "validation" for label in labels}
        assert tested == {"a", "b", "c"}, split


def test_windows_that_are_learnt_from_are_those_that_hold_an_action() -> None:
    windows = choose_windows([600.0], [(1.0, 600.0), (2.0, 600.0)], rate=12.5)
    assert windows.kind == "sliding"
    length = windows.num_snippets * windows.stride_seconds
    assert windows.num_training_windows(600.0, []) == 0
    assert windows.num_training_windows(600.0, [(1.0, 2.0)]) == 1
    assert windows.num_training_windows(600.0, [(0.75 * length - 0.5, 0.75 * length + 0.5)]) == 2
