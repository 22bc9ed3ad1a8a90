"""Soft-NMS: milliseconds per video, and the ratio to the plain loop and to one video at a time."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from etad.detect.nms import soft_nms

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from reference import nms as plain

OPTIONS = {"sigma": 0.35, "most_kept": 100}


def make(num_proposals: int, num_videos: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    segments = [np.sort(rng.random((num_proposals, 2)), axis=1) for _ in range(num_videos)]
    return segments, [rng.random(num_proposals) ** 2 for _ in range(num_videos)]


def milliseconds(run: Callable[[], object], num_videos: int, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times) / num_videos * 1e3


def main() -> None:
    print("proposals | plain loop | one video | 32 videos | ratio to plain")
    for num_proposals in (1362, 8256):
        segments, scores = make(num_proposals, 32)
        one = [array.tolist() for array in (segments[0], scores[0])]
        slow = milliseconds(lambda one=one: plain.soft_nms(*one, 0.35, 100, False), 1, 1)
        single = milliseconds(lambda s=segments[:1], c=scores[:1]: soft_nms(s, c, **OPTIONS), 1, 7)
        many = milliseconds(lambda s=segments, c=scores: soft_nms(s, c, **OPTIONS), 32, 5)
        print(f"{num_proposals:9} | {slow:7.1f} ms | {single:6.2f} ms | {many:6.2f} ms | {slow / many:.0f} x")


if __name__ == "__main__":
    main()
