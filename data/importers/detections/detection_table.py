"""Detections as a table, for spreadsheets and statistics."""

from __future__ import annotations

import csv
from pathlib import Path

from ...detections import Detections
from ...files.atomic import replacing

HEADS = ("video", "start", "end", "label", "score")
# What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_detections_csv(path: Path | str, detections: Detections) -> Path:
    """Write one row a detection, `video,start,end,label,score`, in seconds; whole or not at all.

    Numbers are exact. Text that a spreadsheet would run as a formula has an apostrophe before it.
    """
    ids = [_inert(video_id) for video_id in detections.video_ids]
    labels = [_inert(label) for label in detections.labels]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADS)
        columns = (detections.video, detections.start_seconds, detections.end_seconds, detections.label)
        for video, start, end, label, score in zip(
            *(column.tolist() for column in columns), detections.score.tolist(), strict=True
        ):
            writer.writerow((ids[video], repr(start), repr(end), labels[label] if label >= 0 else "", repr(score)))
    return Path(path)


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
