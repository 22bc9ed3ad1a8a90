"""Feature sequences of any length -> T snippets (`rescale`, method, section 1)."""

from __future__ import annotations

import math

import numpy as np


def resize(features: np.ndarray, num_snippets: int, *, as_released: bool = False) -> np.ndarray:
    """Resize a sequence by 1-D RoI-align over [0, n] with half-pixel offset.

    Parameters
    ----------
    features
        (n, C).
    num_snippets
        T.
    as_released
        Round the features and the box to float16 first and compute in float64, as the released code does.

    Returns
    -------
    ndarray
        (T, C) float32.

    Examples
    --------
    >>> resize(np.array([[0.0], [1.0], [2.0], [3.0]], dtype=np.float32), 2).tolist()
    [[0.5], [2.5]]
    """
    length = len(features)
    if as_released:
        weights = _weights(float(np.float16(length)), length, num_snippets)
        return (weights @ features.astype(np.float16)).astype(np.float32)
    if length == num_snippets:
        return features.astype(np.float32, copy=False)
    return (_weights(length, length, num_snippets).astype(np.float32) @ features).astype(np.float32, copy=False)


def _weights(box: float, length: int, num_snippets: int) -> np.ndarray:
    """Share of each of n snippets in each of T bins, (T, n) float64."""
    width = box / num_snippets
    samples = math.ceil(width)
    offsets = (np.arange(samples) + 0.5) * width / samples
    x = np.arange(num_snippets)[:, None] * width + offsets - 0.5  # [T, samples]
    inside = (x >= -1) & (x <= length)
    x = np.clip(x, 0, length - 1)
    left = x.astype(int)
    right = np.minimum(left + 1, length - 1)
    weights = np.zeros((num_snippets, length))
    bins = np.broadcast_to(np.arange(num_snippets)[:, None], x.shape)
    np.add.at(weights, (bins, left), inside * (1 - (x - left)) / samples)
    np.add.at(weights, (bins, right), inside * (x - left) / samples)
    return weights
