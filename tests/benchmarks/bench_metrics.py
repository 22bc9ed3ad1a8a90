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


def make(
    num_videos: int, per_video: int, num_classes: int = 200, actions_per_video: float = 1.6
) -> tuple[GroundTruth, Predictions]:
    """Actions, and segments scattered around them, each with two labels as detections have them."""
    rng = np.random.default_rng(0)
    more = round(num_videos * (actions_per_video - 1))
    video = np.sort(np.concatenate([np.arange(num_videos), rng.integers(0, num_videos, more)]))
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
    command, detections = command_on(folder, truth, found)
    results = folder / "detections.json"
    run = functools.partial(subprocess.run, command, check=True, capture_output=True)
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


def command_on(folder: Path, truth: GroundTruth, found: Predictions) -> tuple[list[str], Detections]:
    """Write both as files into a folder; the command that evaluates them."""
    ids, labels = (
        tuple(f"{name}{number:0{digits}d}" for number in range(int(column.max()) + 1))
        for name, digits, column in (("v_", 11, truth.video), ("Label number ", 3, found.label))
    )
    detections = Detections(ids, labels, *(getattr(found, column) for column in vars(found)))
    results, annotations = folder / "detections.json", folder / "annotations.json"
    write_detections(results, detections)
    write_annotations(annotations, truth, ids, labels)
    command = [sys.executable, "-m", "etad", "evaluate", str(results), "--annotations", str(annotations)]
    return [*command, "--subset", "validation"], detections


def largest(num_videos: int, folder: Path) -> Row:
    """Two million detections against a hundred thousand actions, in processor time: other work hardly changes it."""
    truth, found = make(num_videos, 200, actions_per_video=10)
    command, detections = command_on(folder, truth, found)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Row(
        f"etad evaluate, {len(detections)} detections, {len(truth.video)} actions, processor time",
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        peak_mib=after.ru_maxrss / 1024,
        aim="5 s, 1024 MiB",
        headline=False,
    )


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
    parser.add_argument("--largest-videos", type=int, default=10_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = metrics(args.plain_videos) + at_scale(args.videos, Path(folder))
        table.append(largest(args.largest_videos, Path(folder)))
    report(table, title="Evaluation")


if __name__ == "__main__":
    main()
