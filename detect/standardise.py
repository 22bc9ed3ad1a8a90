"""Mean and deviation of each channel over the training videos, for `detect.standardise`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..data.cache.source import FeatureSource

# What rounding in float64 makes of a channel that never changes, as a share of its mean.
_CONSTANT = 1e-9


def channel_statistics(cache: FeatureSource, video_ids: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """Measure each channel over all snippets of some videos, one video in memory at a time.

    Returns
    -------
    mean, deviation
        (C,) float32 each; the deviation of a channel that never changes is 1, so that it comes out as 0 everywhere.
    """
    count, mean, squares = 0, np.zeros(cache.channels), np.zeros(cache.channels)
    for video_id in video_ids:
        features = cache.read(video_id).astype(np.float64)
        # Joined as two sets of numbers, each by its own mean: sums of squares would lose what large means leave.
        own_mean = features.mean(axis=0)
        own_squares = ((features - own_mean) ** 2).sum(axis=0)
        total = count + len(features)
        between = own_mean - mean
        squares += own_squares + between**2 * (count * len(features) / total)
        mean += between * (len(features) / total)
        count = total
    deviation = np.sqrt(squares / max(count, 1))
    is_constant = deviation <= _CONSTANT * np.abs(mean)
    return mean.astype(np.float32), np.where(is_constant, 1.0, deviation).astype(np.float32)
