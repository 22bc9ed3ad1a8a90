from dataclasses import replace
from pathlib import Path

import miniature
import numpy as np
import pytest
import torch

from etad.data.annotations import Action, Video
from etad.data.cache.cache import FeatureCache, write_part
from etad.data.cache.source import MemoryFeatures
from etad.data.durations import describe_repairs, duration_conflict
from etad.data.errors import EtadError
from etad.detect.loading import collate, read_window
from etad.detect.settings import DetectSettings, TrainingSettings
from etad.detect.windows import make_windows

SLIDING = DetectSettings(windows="sliding", num_snippets=16, max_duration=8, window_stride=8)
RESCALE = DetectSettings(num_snippets=8, max_duration=8)


def cache_of(tmp_path: Path, length: int, duration: float) -> FeatureCache:
    features = np.arange(length * 4, dtype=np.float32).reshape(length, 4) / 64
    write_part(tmp_path / "f.h5", "v", features, miniature.meta(duration, num_snippets=length), "float32")
    return FeatureCache(tmp_path / "f.h5")


def video(*actions: tuple[float, float], duration: float = 50.0, label: str = "run") -> Video:
    return Video("v", "training", duration, tuple(Action(start, end, label) for start, end in actions))


def test_sliding_windows_keep_actions_that_lie_inside_them_almost_whole(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, 40, 50.0)
    step, first = cache.timing("v").center_step_seconds, cache.timing("v").first_center_seconds

    def at(snippet: float) -> float:
        return first + snippet * step

    # Inside window 0 (snippets 0..15); 95 % inside it; half inside; inside the right-aligned last one (24..39).
    inside, mostly, half, late = (at(2), at(6)), (at(5.5), at(15.5)), (at(12), at(18)), (at(30), at(36))
    windows, report = make_windows(
        [video(inside, mostly, half, late)], cache, settings=SLIDING, classes=["run"], training=True
    )
    found = {window.first: (window.segments * 16).round(6).tolist() for window in windows}
    assert sorted(found) == [0, 8, 24]  # none of them lies inside the third window
    assert found[0] == [[2, 6], [5.5, 15]]
    assert found[8] == [[4, 10]]
    assert found[24] == [[6, 12]]
    assert not report.lines()


def test_windows_without_action_are_left_out_of_training_alone(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, 40, 50.0)
    settings, classes = SLIDING, ["run"]
    windows, report = make_windows([video()], cache, settings=settings, classes=classes, training=True)
    assert windows == []
    assert report.lines() == ["1 video left out: no action to learn from (v)"]
    windows, _ = make_windows([video()], cache, settings=settings, classes=classes, training=False)
    assert [window.first for window in windows] == [0, 8, 16, 24]


def test_a_short_video_is_padded_and_masked(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, 10, 50.0)
    (window,), _ = make_windows([video((5, 15))], cache, settings=SLIDING, classes=["run"], training=True)
    features = torch.from_numpy(read_window(window, cache, settings=SLIDING))
    assert features.shape == (10, 4)
    batch, masks = collate([features], 16)
    assert batch.shape == (1, 4, 16)
    assert torch.equal(batch[0, :, :10].T, features) and not batch[0, :, 10:].any()
    assert masks is not None
    assert masks.tolist() == [[[1] * 10 + [0] * 6]]
    assert collate([torch.ones(16, 4)], 16)[1] is None


def test_rescaled_windows_span_the_video(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, 40, 50.0)
    (window,), _ = make_windows([video((5, 15), (49, 50.4))], cache, settings=RESCALE, classes=["run"], training=True)
    assert window.segments.tolist() == [[0.1, 0.3], [0.98, 1.0]]
    features = read_window(window, cache, settings=RESCALE)
    assert features.shape == (8, 4)
    assert window.span.to_seconds(window.segments).tolist() == [[5, 15], [49, 50]]


def test_videos_without_action_are_negatives_unless_the_config_says_otherwise(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, 40, 50.0)
    assert len(make_windows([video()], cache, settings=RESCALE, classes=["run"], training=True)[0]) == 1
    strict = RESCALE.model_copy(update={"training": TrainingSettings(keep_negatives=False)})
    windows, report = make_windows([video()], cache, settings=strict, classes=["run"], training=True)
    assert (windows, report.without_action) == ([], ["v"])


def test_rescaled_videos_of_tiny_actions_alone_are_left_out_of_training(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, 40, 50.0)
    windows, report = make_windows([video((5, 5.4))], cache, settings=RESCALE, classes=["run"], training=True)
    assert (windows, report.too_short) == ([], ["v"])
    assert report.lines() == [
        "1 video left out: every action at most 1 % of the video (detect.min_action_share) (v)",
    ]
    assert len(make_windows([video((5, 5.4))], cache, settings=RESCALE, classes=["run"], training=False)[0]) == 1
    for share, kept in ((0.005, 1), (0.0, 1), (0.02, 0)):
        settings = RESCALE.model_copy(update={"min_action_share": share})
        windows, _ = make_windows([video((5, 5.4))], cache, settings=settings, classes=["run"], training=True)
        assert len(windows) == kept


def test_sliding_windows_take_actions_however_short_they_are_beside_their_video(tmp_path: Path) -> None:
    # A match of 20 minutes, with a stroke of 4 s every 20 s.
    match = video(*((20.0 * number + 3, 20.0 * number + 7) for number in range(58)), duration=1200.0)
    cache = cache_of(tmp_path, 1200, 1200.0)
    windows, report = make_windows([match], cache, settings=SLIDING, classes=["run"], training=True)
    assert len(windows) > 58 and not report.lines() and report.too_short == []
    windows, report = make_windows([match], cache, settings=RESCALE, classes=["run"], training=True)
    assert windows == [] and report.too_short == ["v"]


@pytest.mark.parametrize("settings", [RESCALE, SLIDING])
def test_the_measured_duration_places_windows_whatever_the_annotations_say(
    tmp_path: Path, settings: DetectSettings
) -> None:
    cache = cache_of(tmp_path, 40, 50.0)
    expected, _ = make_windows([video((5, 15))], cache, settings=settings, classes=["run"], training=True)
    for stated in (62.5, 37.5):
        found, report = make_windows(
            [video((5, 15), duration=stated)], cache, settings=settings, classes=["run"], training=True
        )
        for one, other in zip(found, expected, strict=True):
            assert (one.span, one.duration_seconds) == (other.span, 50.0)
            np.testing.assert_array_equal(one.segments, other.segments)
        said = f"v ({stated:.2f} s annotated, 50.00 s measured)"
        assert report.notes() == [f"1 video's annotated duration is not the measured one, which counts: {said}"]
        assert not report.lines()


@pytest.mark.parametrize(("stated", "contradicts"), [(50.5, False), (49.5, False), (50.51, True), (None, False)])
def test_durations_may_differ_by_half_a_second_or_one_per_cent(
    tmp_path: Path, stated: float | None, contradicts: bool
) -> None:
    cache = cache_of(tmp_path, 40, 50.0)
    annotated = Video("v", "training", stated, (Action(5, 15, "run"),))
    _, report = make_windows([annotated], cache, settings=RESCALE, classes=["run"], training=True)
    assert bool(report.conflicts) == contradicts
    assert duration_conflict(Video("v", "", 1010.0, ()), 1000.0) is None
    assert duration_conflict(Video("v", "", 1010.2, ()), 1000.0) is not None


def test_the_annotated_duration_stands_in_where_nobody_measured(tmp_path: Path) -> None:
    features = np.ones((8, 4), dtype=np.float32)
    timing = replace(miniature.meta(50.0, num_snippets=8).timing, duration_seconds=float("nan"))
    source = MemoryFeatures(tmp_path, 4, "0", {"v": features}, {"v": timing})
    (window,), report = make_windows([video((5, 15))], source, settings=RESCALE, classes=["run"], training=True)
    assert window.duration_seconds == 50.0 and not report.notes()
    with pytest.raises(EtadError, match="nobody measured the duration of video 'v', and the annotations state none"):
        make_windows([Video("v", "", None, ())], source, settings=RESCALE, classes=["run"], training=True)


@pytest.mark.parametrize("settings", [RESCALE, SLIDING])
def test_a_video_whose_every_action_lies_outside_it_is_no_negative(tmp_path: Path, settings: DetectSettings) -> None:
    cache = cache_of(tmp_path, 40, 50.0)
    windows, report = make_windows([video((60, 70))], cache, settings=settings, classes=["run"], training=True)
    assert windows == [] and report.lines() == ["1 video left out: every action outside the video (v)"]
    assert describe_repairs(report.repairs) == "1 segment dropped as outside the video (v)"
    windows, _ = make_windows([video((60, 70))], cache, settings=settings, classes=["run"], training=False)
    assert windows
    some = video((5, 15), (60, 70))
    windows, report = make_windows([some], cache, settings=settings, classes=["run"], training=True)
    assert windows and not report.lines() and len(report.repairs) == 1


def test_mistakes_get_a_sentence(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, 40, 50.0)
    with pytest.raises(EtadError, match=r"video 'v': label 'fly' is none of the 1 known class \(run\)"):
        make_windows([video((5, 15), label="fly")], cache, settings=RESCALE, classes=["run"], training=True)
    with pytest.raises(EtadError, match=r"holds none of the 1 annotated video asked for \(the cache has v"):
        make_windows([Video("x", "", 9.0, ())], cache, settings=RESCALE, classes=["run"], training=True)
