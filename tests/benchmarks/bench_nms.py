"""Soft-NMS and boundary selection: milliseconds a video, the plain loop and ours.

Run as `python tests/benchmarks/bench_nms.py [--videos 32]`.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from measure import Row, compare, report

from etad.detect.results.nms import select_by_boundary, soft_nms

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from reference import nms as plain

OPTIONS = {"sigma": 0.35, "most_kept": 100}
NUM_SNIPPETS = 128


def make(num_proposals: int, num_videos: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    segments = [np.sort(rng.random((num_proposals, 2)), axis=1) for _ in range(num_videos)]
    return segments, [rng.random(num_proposals) ** 2 for _ in range(num_videos)]


def thinning(num_proposals: int, num_videos: int) -> list[Row]:
    segments, scores = make(num_proposals, num_videos)
    one = [array.tolist() for array in (segments[0], scores[0])]
    alone = compare(
        f"soft-NMS, {num_proposals} proposals, one video alone",
        plain=lambda: plain.soft_nms(*one, 0.35, 100, False),
        ours=lambda: soft_nms(segments[:1], scores[:1], **OPTIONS),
        unit="ms",
    )
    together = compare(
        f"soft-NMS, {num_proposals} proposals, {num_videos} videos",
        ours=lambda: soft_nms(segments, scores, **OPTIONS),
        unit="ms a video",
        items=num_videos,
        repeats=5,
    )
    return [alone, together]


def selecting() -> Row:
    rng = np.random.default_rng(0)
    segments, ends = np.sort(rng.random((8256, 2), dtype=np.float32), axis=1), rng.random((2, NUM_SNIPPETS))
    return compare(
        "boundary selection, 8256 proposals",
        plain=lambda: select_plainly(segments, *ends),
        ours=lambda: select_by_boundary(segments, *ends),
        unit="ms",
        repeats=7,
    )


def both(num_videos: int) -> Row:
    """Selection among all proposals and soft-NMS of those that are left, about 1362, video by video and together."""
    rng = np.random.default_rng(0)
    videos = []
    for _ in range(num_videos):
        segments = np.sort(rng.random((8256, 2), dtype=np.float32), axis=1)
        videos.append((segments, rng.random(8256) ** 2, rng.random((2, NUM_SNIPPETS)) ** 2.3))
    left = np.mean([len(select_by_boundary(segments, *ends)) for segments, _, ends in videos])

    def ours() -> None:
        rows = [select_by_boundary(segments, *ends) for segments, _, ends in videos]
        segments = [segments[kept].astype(np.float64) for (segments, _, _), kept in zip(videos, rows)]
        soft_nms(segments, [scores[kept] for (_, scores, _), kept in zip(videos, rows)], **OPTIONS)

    what = f"boundary selection among 8256 and soft-NMS of the {left:.0f} left, {num_videos} videos"
    return compare(what, ours=ours, unit="ms a video", items=num_videos, repeats=7, aim="under 1 ms")


def select_plainly(segments: np.ndarray, startness: np.ndarray, endness: np.ndarray) -> list[int]:
    may_start, may_end = plain.may_be_boundary(startness.tolist()), plain.may_be_boundary(endness.tolist())
    may_start[0] = may_end[-1] = True
    last = len(may_start) - 1
    return [
        row
        for row, (start, end) in enumerate(segments.tolist())
        if may_start[min(int(start * (last + 1)), last)] and may_end[min(int(end * (last + 1)), last)]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=32)
    num_videos = parser.parse_args().videos
    rows = [selecting(), *thinning(1362, num_videos), *thinning(8256, num_videos), both(num_videos)]
    report(rows, title="Boundary selection and soft-NMS")


if __name__ == "__main__":
    main()
