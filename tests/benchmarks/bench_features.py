"""How fast the feature cache opens, reads and writes: the plain way (h5py alone) and ours.

The files are in the system's cache. The ceiling is a copy of what is read, in memory.

Run as `python tests/benchmarks/bench_features.py [--videos 2000] [--opened 20000]`.
"""

import argparse
import itertools
import tempfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
from measure import Row, compare, copy_share, in_turn, report

from etad.data.cache.cache import FeatureCache, pack, write_part
from etad.data.cache.index import write_index
from etad.data.cache.item import Header, create_file, digest, write_item
from etad.data.cache.meta import FeatureMeta
from etad.data.timeline import Timing, strided

SNIPPETS, CHANNELS = 128, 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=2000, help="videos of the epoch (128 x 512, float16)")
    parser.add_argument("--opened", type=int, default=20000, help="videos of the cache that is only opened")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = [*reading(folder, asked.videos), opening(folder, asked.opened), *parts(folder, min(asked.videos, 500))]
    report(table, title="Feature cache")


def reading(folder: Path, videos: int) -> list[Row]:
    cache = folder / "features.h5"
    build(cache, videos=videos, snippets=SNIPPETS, channels=CHANNELS)
    how = dict(unit="videos/s", items=videos)
    whole = compare("an epoch", plain=lambda: read_plainly(cache), ours=lambda: read_ours(cache), **how)
    read = copy_share(videos * SNIPPETS * CHANNELS * 2 / 1e9, videos / whole.ours)
    windows = compare("an epoch, windows of 32 of 128 snippets", ours=lambda: read_ours(cache, stop=32), **how)
    return [replace(whole, **read), windows]


def opening(folder: Path, videos: int) -> Row:
    cache = folder / "many.h5"
    build(cache, videos=videos, snippets=1, channels=8)
    ours, plain = lambda: FeatureCache(cache).close(), lambda: open_plainly(cache)
    return compare(f"opening {videos} videos", plain=plain, ours=ours)


def parts(folder: Path, count: int) -> list[Row]:
    """Writing part by part, which survives a kill, beside one file written at once; packing once."""
    numbers = itertools.count()

    def written() -> None:
        write_parts(folder / f"parts{next(numbers)}.h5", count)

    def at_once() -> None:
        build(folder / f"whole{next(numbers)}.h5", videos=count, snippets=SNIPPETS, channels=CHANNELS)

    how = dict(unit="videos/s", items=count, repeats=1, headline=False)
    last = folder / "last.h5"
    write_parts(last, count)
    packing = in_turn({"pack": lambda: pack(last)}, 1, warm_up=False)["pack"]
    return [
        compare(f"writing {count} videos (reference: one file at once)", plain=at_once, ours=written, **how),
        Row(f"packing {count} videos", count / packing, "videos/s", headline=False),
    ]


def build(path: Path, *, videos: int, snippets: int, channels: int) -> None:
    """Write a packed cache at once, as packing would."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((snippets, channels)).astype(np.float16)
    meta, recorded = make_meta(snippets), digest([features])
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


if __name__ == "__main__":
    main()
