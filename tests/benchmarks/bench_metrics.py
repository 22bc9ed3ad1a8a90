"""mAP and AR@AN at ActivityNet's scale: wall time, and the ratio to the plain evaluator."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from etad.detect.metrics import ACTIVITYNET_TIOUS, GroundTruth, Predictions, average_recall, mean_average_precision

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from reference import metrics as plain


def make(num_videos: int, per_video: int, num_classes: int = 200) -> tuple[GroundTruth, Predictions]:
    """Actions, and segments scattered around them, each with two labels as detections have them."""
    rng = np.random.default_rng(0)
    video = np.sort(np.concatenate([np.arange(num_videos), rng.integers(0, num_videos, num_videos * 6 // 10)]))
    label = rng.integers(0, num_classes, num_videos)[video]
    start = rng.random(len(video)) * 100
    end = start + 5 + rng.random(len(video)) * 60
    first = np.searchsorted(video, np.arange(num_videos))
    count = np.diff(np.append(first, len(video)))
    shape = (num_videos, per_video // 2)
    near = first[:, None] + rng.integers(0, count[:, None], shape)
    sides = np.sort(np.stack([start[near], end[near]]) + rng.normal(0, 12, (2, *shape)), axis=0)
    other = rng.integers(0, num_classes, num_videos)
    labels = np.stack([np.broadcast_to(codes[:, None], shape) for codes in (label[first], other)], axis=-1)
    scores = rng.random(shape)[..., None] * np.array([0.8, 0.2])
    columns = [np.repeat(side.ravel(), 2) for side in sides]
    predictions = Predictions(np.repeat(np.arange(num_videos), per_video), labels.ravel(), *columns, scores.ravel())
    return GroundTruth(video, label, start, end), predictions


def rows(table: GroundTruth | Predictions) -> list[tuple]:
    return list(zip(*(column.tolist() for column in vars(table).values())))


def seconds(run: Callable[[], object], repeats: int = 1) -> float:
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)


def report(name: str, fast: Callable[[], object], slow: Callable[[], object] | None = None) -> None:
    ours = seconds(fast, repeats=3)
    line = f"  {name:16} {ours * 1e3:9.1f} ms"
    if slow is not None:
        theirs = seconds(slow)
        line += f", plain {theirs * 1e3:9.1f} ms, {theirs / ours:.0f} x"
    print(line)


def compare(num_videos: int, *, with_plain: bool) -> None:
    truth, found = make(num_videos, 200)
    tious = list(ACTIVITYNET_TIOUS)
    print(f"{num_videos} videos, {len(found.video)} detections, {len(tious)} thresholds")
    plain_map = plain_recall = None
    if with_plain:
        actions, detections = rows(truth), rows(found)

        def plain_map() -> object:
            return plain.mean_average_precision(actions, detections, tious)

        def plain_recall() -> object:
            return plain.average_recall(actions, detections, tious, 100)

    report("mAP", lambda: mean_average_precision(truth, found), plain_map)
    report("AR@AN", lambda: average_recall(truth, found, distinct=False), plain_recall)
    report("AR@AN, distinct", lambda: average_recall(truth, found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=4728)
    parser.add_argument("--plain-videos", type=int, default=40, help="the plain evaluator is quadratic: a small set")
    args = parser.parse_args()
    compare(args.plain_videos, with_plain=True)
    compare(args.videos, with_plain=False)


if __name__ == "__main__":
    main()
