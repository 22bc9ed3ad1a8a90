import numpy as np
import pytest

from etad.detect.resize import resize


def plain(features: np.ndarray, bins: int) -> np.ndarray:
    """1-D RoI-align over [0, n] with half-pixel offset, sample by sample (method, section 1)."""
    length = len(features)
    width = length / bins
    count = -(-length // bins)
    rows = []
    for r in range(bins):
        total = np.zeros(features.shape[1])
        for j in range(count):
            x = min(max(-0.5 + r * width + (j + 0.5) * width / count, 0), length - 1)
            left = int(x)
            right = min(left + 1, length - 1)
            total += (1 - (x - left)) * features[left] + (x - left) * features[right]
        rows.append(total / count)
    return np.stack(rows)


@pytest.mark.parametrize("length", [1, 3, 16, 17, 100])
def test_resizing_equals_the_plain_one(length: int) -> None:
    features = np.random.default_rng(length).normal(size=(length, 5)).astype(np.float32)
    np.testing.assert_allclose(resize(features, 16), plain(features, 16), rtol=0, atol=1e-6)


def test_a_sequence_of_the_right_length_stays_as_it_is() -> None:
    features = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)
    assert np.array_equal(resize(features, 16), features)


def test_the_release_rounds_to_half_precision_first() -> None:
    features = np.random.default_rng(0).normal(size=(2051, 2)).astype(np.float32)
    released, ours = resize(features, 16, as_released=True), resize(features, 16)
    assert released.dtype == np.float32
    # 2051 is no float16: the released box ends at 2052.
    assert np.abs(released - ours).max() > 1e-4
    np.testing.assert_allclose(released, ours, atol=0.05)
