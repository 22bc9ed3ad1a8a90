"""Small features and what belongs to them, for the tests of the cache and of what reads it."""

from dataclasses import replace

import numpy as np

from etad.data.cache.meta import FeatureMeta
from etad.data.timeline import Timing, strided


def make_meta(num_snippets: int = 4, **changes: object) -> FeatureMeta:
    timeline = strided(duration_seconds=num_snippets * 0.5 + 0.1, fps=8, clip_frames=4, stride_frames=4)
    meta = FeatureMeta(
        timing=Timing.of(timeline),
        encoder="tsm_tiny",
        weights_sha256="ab" * 32,
        transform={"resize": [171, 128], "crop": 112},
        source_name="clip.mp4",
        source_bytes=12345,
        source_sha256="cd" * 32,
        compute_dtype="float32",
    )
    return replace(meta, **changes)  # type: ignore[arg-type]


def make_features(num_snippets: int = 4, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num_snippets, channels)).astype(np.float32)
