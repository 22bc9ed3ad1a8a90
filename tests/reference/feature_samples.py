"""Small features and what belongs to them, for the tests of the cache and of what reads it."""

from dataclasses import replace

import h5py
import numpy as np

from etad.data.cache.index import INDEX_DTYPE, rows_digest
from etad.data.cache.item import attributes_digest, digest
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


def reseal(file: h5py.File) -> None:
    """Record the digests that what a cache's file holds now has, as a writer of nonsense would."""
    for name, group in file["videos"].items():
        group.attrs["features_sha256"] = recorded = digest([group["features"][()]])
        attributes = dict(group.attrs)
        centers = attributes.pop("centers_seconds", None)
        listed = None if centers is None else centers.tolist()
        group.attrs["attributes_sha256"] = attributes_digest(attributes, listed, group["features"])
        if "index" in file:
            table = file["index"][()].astype(INDEX_DTYPE)
            table["features_sha256"][table["id"] == name.encode()] = recorded.encode()
            file["index"][...] = table
            file["index"].attrs["sha256"] = rows_digest(table)
