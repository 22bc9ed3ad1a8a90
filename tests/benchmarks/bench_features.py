"""How fast the feature cache opens and reads: an epoch the plain way (h5py alone) and ours, in turn in one process.

Run as `python tests/benchmarks/bench_features.py [--videos 2000] [--opened 20000]`.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from etad.data.feature_index import write_index
from etad.data.feature_item import Header, create_file, digest, write_item
from etad.data.feature_meta import FeatureMeta
from etad.data.features import FeatureCache, pack, write_part
from etad.data.timeline import Timing, strided

SNIPPETS, CHANNELS = 128, 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=2000, help="videos of the epoch (128 x 512, float16)")
    parser.add_argument("--opened", type=int, default=20000, help="videos of the cache that is only opened")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "features.h5"
        build(cache, videos=asked.videos, snippets=SNIPPETS, channels=CHANNELS)
        for name in ("first", "second"):
            plain = timed(lambda: read_plainly(cache))
            ours = timed(lambda: read_ours(cache))
            report(f"{name} epoch over the packed file", plain, ours, asked.videos)
        window = timed(lambda: read_ours(cache, stop=32))
        print(f"windows of 32 snippets: {asked.videos / window:.0f} videos/s")

        build(cache, videos=asked.opened, snippets=1, channels=8)
        plain, ours = timed(lambda: open_plainly(cache)), timed(lambda: FeatureCache(cache).close())
        print(f"opening {asked.opened} videos: attributes {plain:.2f} s, index {ours:.3f} s, {plain / ours:.0f} x")

        parts = Path(folder) / "parts.h5"
        count = min(asked.videos, 500)
        steps = [
            ("written", timed(lambda: write_parts(parts, count))),
            ("opened", timed(lambda: FeatureCache(parts))),
            ("packed", timed(lambda: pack(parts))),
        ]
        print(f"{count} parts:", ", ".join(f"{done} {count / seconds:.0f}/s" for done, seconds in steps))


def build(path: Path, *, videos: int, snippets: int, channels: int) -> None:
    """Write a packed cache at once, as packing would."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((snippets, channels)).astype(np.float16)
    meta, recorded = make_meta(snippets), digest(features)
    headers = []
    with create_file(path) as file:
        for number in range(videos):
            write_item(file["videos"], f"v_{number:06d}", features, meta)
            headers.append(Header(f"v_{number:06d}", path, snippets, channels, "float16", recorded, meta))
        write_index(file, headers)


def make_meta(snippets: int) -> FeatureMeta:
    timeline = strided(duration_seconds=(snippets - 1) * 4 / 30 + 16 / 30, fps=30, clip_frames=16, stride_frames=4)
    return FeatureMeta(Timing.of(timeline), "tsm_r50", "ab" * 32, {"crop": 112}, "v.mp4", 1, "cd" * 32, "float32")


def read_plainly(path: Path) -> None:
    with h5py.File(path) as file:
        for group in file["videos"].values():
            features = group["features"][()].astype(np.float32)
            assert np.isfinite(features).all()


def read_ours(path: Path, stop: int | None = None) -> None:
    with FeatureCache(path) as cache:
        for video_id in cache:
            cache.read(video_id, 0, stop)


def open_plainly(path: Path) -> None:
    with h5py.File(path) as file:
        for group in file["videos"].values():
            dict(group.attrs)


def write_parts(path: Path, count: int) -> None:
    features, meta = np.zeros((SNIPPETS, CHANNELS), np.float32), make_meta(SNIPPETS)
    for number in range(count):
        write_part(path, f"v_{number:06d}", features, meta)


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def report(name: str, plain: float, ours: float, videos: int) -> None:
    print(f"{name}: plain {videos / plain:.0f} videos/s, ours {videos / ours:.0f} videos/s, {plain / ours:.1f} x")


if __name__ == "__main__":
    main()
