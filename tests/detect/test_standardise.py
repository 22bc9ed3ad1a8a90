"""Means and deviations of channels, whatever their size."""

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from etad.data.cache.source import MemoryFeatures
from etad.detect.standardise import channel_statistics


def source(videos: list[np.ndarray]) -> MemoryFeatures:
    features = {f"v{number}": video.astype(np.float32) for number, video in enumerate(videos)}
    return MemoryFeatures(Path("memory"), videos[0].shape[1], "0", features, {})


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    mean=st.floats(-1e4, 1e4),
    deviation=st.floats(1.0, 1e4),
    seed=st.integers(0, 100),
)
def test_statistics_over_videos_are_those_of_all_their_snippets(
    lengths: list[int], mean: float, deviation: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    videos = [random.normal(mean, deviation, size=(length + 1, 3)).astype(np.float32) for length in lengths]
    found_mean, found_deviation = channel_statistics(source(videos), [f"v{n}" for n in range(len(videos))])
    together = np.concatenate(videos).astype(np.float64)
    np.testing.assert_allclose(found_mean, together.mean(axis=0), rtol=1e-5, atol=1e-5 * deviation)
    np.testing.assert_allclose(found_deviation, together.std(axis=0), rtol=1e-4)


def test_constant_channels_come_out_as_zero_and_finite() -> None:
    video = np.stack([np.zeros(9), np.full(9, 1e4), np.full(9, -0.1, np.float16), np.arange(9.0)], axis=1)
    mean, deviation = channel_statistics(source([video, video]), ["v0", "v1"])
    assert deviation[:3].tolist() == [1, 1, 1] and deviation[3] > 2
    standard = (video - mean) / deviation
    assert np.isfinite(standard).all() and np.abs(standard[:, :3]).max() < 1e-2


def test_one_snippet_has_no_deviation_and_divides_by_nothing() -> None:
    mean, deviation = channel_statistics(source([np.array([[3.0, 4.0]])]), ["v0"])
    assert mean.tolist() == [3, 4] and deviation.tolist() == [1, 1]
