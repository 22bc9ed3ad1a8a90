"""Evaluation at ActivityNet's scale: reading, mAP and AR@AN, and the whole of `etad evaluate`.

The plain evaluator is quadratic, so it meets ours on a small set. The command runs in a process of its own, starting
included.

Run as `python tests/benchmarks/bench_metrics.py [--videos 4728] [--plain-videos 40]`.
"""

import argparse
import functools
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from measure import Row, compare, in_turn, report

from etad.data.detections import Detections, read_detections, write_detections
from etad.detect.results.metrics import (
    ACTIVITYNET_TIOUS,
    GroundTruth,
    Predictions,
    average_recall,
    mean_average_precision,
)

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


def metrics(num_videos: int) -> list[Row]:
    """mAP and AR@AN in memory, beside the plain evaluator."""
    truth, found = make(num_videos, 200)
    tious = list(ACTIVITYNET_TIOUS)
    actions, detections = rows(truth), rows(found)
    size = f"{num_videos} videos, {len(found.video)} detections"
    return [
        compare(
            f"mAP, 10 thresholds, {size}",
            plain=lambda: plain.mean_average_precision(actions, detections, tious),
            ours=lambda: mean_average_precision(truth, found),
            unit="ms",
            repeats=1,
        ),
        compare(
            f"AR@AN, {size}",
            plain=lambda: plain.average_recall(actions, detections, tious, 100),
            ours=lambda: average_recall(truth, found, distinct=False),
            unit="ms",
            repeats=1,
        ),
    ]


def at_scale(num_videos: int, folder: Path) -> list[Row]:
    """The same on a whole subset, from and to files, and the command with all its parts."""
    truth, found = make(num_videos, 200)
    labels = tuple(f"Label number {number:03d}" for number in range(200))
    ids = tuple(f"v_{number:011d}" for number in range(num_videos))
    detections = Detections(ids, labels, *(getattr(found, column) for column in vars(found)))
    results, annotations = folder / "detections.json", folder / "annotations.json"
    write_detections(results, detections)
    write_annotations(annotations, truth, ids, labels)
    command = [sys.executable, "-m", "etad", "evaluate", str(results), "--annotations", str(annotations)]
    run = functools.partial(subprocess.run, [*command, "--subset", "validation"], check=True, capture_output=True)
    whole = in_turn({"ours": run})["ours"]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    size = f"{len(detections)} detections"
    return [
        compare(
            f"reading {size} ({results.stat().st_size / 1e6:.0f} MB)",
            plain=lambda: read_plainly(results),
            ours=lambda: read_detections(results),
        ),
        compare(
            f"writing {size}",
            plain=lambda: write_plainly(folder / "plain.json", detections),
            ours=lambda: write_detections(folder / "ours.json", detections),
        ),
        compare(f"mAP, 10 thresholds, {size}", ours=lambda: mean_average_precision(truth, found)),
        compare(f"AR@AN, {size}", ours=lambda: average_recall(truth, found, distinct=False), headline=False),
        compare(f"AR@AN, distinct segments, {size}", ours=lambda: average_recall(truth, found)),
        Row(f"etad evaluate, {size}, all of it", whole, peak_mib=peak, aim="under 3 s"),
    ]


def write_annotations(path: Path, truth: GroundTruth, ids: tuple[str, ...], labels: tuple[str, ...]) -> None:
    database = {video_id: {"subset": "validation", "duration": 200.0, "annotations": []} for video_id in ids}
    for video, label, start, end in rows(truth):
        database[ids[video]]["annotations"].append({"segment": [start, end], "label": labels[label]})
    path.write_text(json.dumps({"database": database}), encoding="utf-8")


def read_plainly(path: Path) -> np.ndarray:
    """The standard library's objects, then one array of rows."""
    results = json.loads(path.read_text(encoding="utf-8"))["results"]
    labels = {label: code for code, label in enumerate(sorted({d["label"] for of in results.values() for d in of}))}
    return np.array(
        [
            (video, labels[entry["label"]], *entry["segment"], entry["score"])
            for video, entries in enumerate(results.values())
            for entry in entries
        ]
    )


def write_plainly(path: Path, detections: Detections) -> None:
    results: dict[str, list[dict]] = {video_id: [] for video_id in detections.video_ids}
    columns = (detections.video, detections.label, detections.start_seconds, detections.end_seconds, detections.score)
    for video, label, start, end, score in zip(*(column.tolist() for column in columns)):
        entry = {"segment": [start, end], "label": detections.labels[label], "score": score}
        results[detections.video_ids[video]].append(entry)
    path.write_text(json.dumps({"results": results}), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=4728)
    parser.add_argument("--plain-videos", type=int, default=40, help="the plain evaluator is quadratic: a small set")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = metrics(args.plain_videos) + at_scale(args.videos, Path(folder))
    report(table, title="Evaluation")


if __name__ == "__main__":
    main()
