"""BORIS, the event recorder of behaviour research: its exported events in, detections out as aggregated events.

Checked against the columns that BORIS 7 and 8 write: tabular events (one row an event, `Status` or `Behavior type` is
START, STOP or POINT; in version 7 below lines about the observation) and aggregated events (one row a behaviour with
`Start (s)`, `Stop (s)` and `Behavior type` STATE or POINT).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

from ...detections import Detections
from ...errors import EtadError, counted, listing
from ...files.atomic import replacing
from .rows import Labels, RowCollector
from .sheet import Sheet, read_sheet
from .table import video_id
from .times import to_seconds

LAYOUT = "boris"
_FILES = ("Media file name", "Media file path", "Media file", "Source")
_LENGTHS = ("Media duration (s)", "Total length")
# Of aggregated events, in the order in which BORIS 8 writes them.
_AGGREGATED = (
    *("Observation id", "Observation date", "Description", "Observation type", "Source", "Time offset (s)"),
    *("Coding duration", "Media duration (s)", "FPS (frame/s)", "Subject"),
    *("Observation duration by subject by observation", "Behavior", "Behavioral category", "Behavior type"),
    *("Start (s)", "Stop (s)", "Duration (s)", "Media file name", "Image index start", "Image index stop"),
    *("Image file path start", "Image file path stop", "Comment start", "Comment stop"),
)


def matches(path: Path, head: bytes) -> bool:
    """Whether a file looks like exported events."""
    return b"Behavior" in head and (b"Observation id" in head or b"Status" in head or b"Behavioral category" in head)


def read(path: Path, *, fps: float | None = None) -> Labels:
    """Read exported events; labels are the behaviours, subjects and modifiers are not told apart.

    Raises
    ------
    EtadError
        The file is no table of events.
    """
    sheet = _events(path)
    collector = RowCollector(path, LAYOUT)
    points: dict[str, int] = {}
    for start, end, cells, where in _pairs(sheet, collector):
        name = next((cells[column] for column in _FILES if cells.get(column)), "") or cells.get("Observation id", "")
        name = name.removeprefix("player #1:").removeprefix("Player #1:").strip()
        if ";" in name.strip(";"):
            collector.refuse(where, "the observation is of several media files; export them one by one")
            continue
        video = collector.video(video_id(name.strip(";")), where, duration_seconds=_length(cells))
        if end is None:
            points[cells["Behavior"]] = points.get(cells["Behavior"], 0) + 1
            continue
        collector.action(video, start, end, cells["Behavior"], where)
    if points:
        count = counted(sum(points.values()), "point event")
        collector.notes.append(f"{count} have no length and are no actions: {listing(points)}")
    return collector.labels()


def _events(path: Path) -> Sheet:
    """The table, which in version 7 begins below lines about the observation."""
    for head_row in range(60):
        try:
            sheet = read_sheet(path, head_row=head_row)
        except EtadError as error:
            if head_row and "is empty" in str(error):
                break
            continue
        kinds = ("Status", "Behavior type", "Start (s)")
        if "Behavior" in sheet.columns and any(kind in sheet.columns for kind in kinds):
            return sheet
    raise EtadError(
        f"{path}: has no column 'Behavior' beside 'Status', 'Behavior type' or 'Start (s)'. "
        "Export tabular or aggregated events from BORIS."
    )


def _pairs(sheet: Sheet, collector: RowCollector) -> Iterator[tuple[float, float | None, dict[str, str], str]]:
    """Start, end (None of a point event), cells and place of each event."""
    is_aggregated = "Start (s)" in sheet.columns
    begun: dict[tuple[str, ...], tuple[float, dict[str, str], str]] = {}
    for number, cells in sheet.rows:
        where = f"row {number}"
        kind = (cells.get("Status") or cells.get("Behavior type") or "STATE").upper()
        try:
            start = to_seconds(cells["Start (s)" if is_aggregated else "Time"])
            stop = to_seconds(cells["Stop (s)"]) if is_aggregated and kind != "POINT" else None
        except (EtadError, KeyError) as error:
            collector.refuse(where, f"has no time ({error})")
            continue
        if is_aggregated or kind == "POINT":
            yield start, stop, cells, where
            continue
        names = ("Observation id", *_FILES, "Subject", "Behavior", *(c for c in cells if c.startswith("Modifier")))
        key = tuple(cells.get(name, "") for name in names)
        if kind == "START" and key not in begun:
            begun[key] = (start, cells, where)
        elif kind == "STOP" and key in begun:
            since, cells, where = begun.pop(key)
            yield since, start, cells, where
        else:
            collector.refuse(
                where, f"'{cells['Behavior']}' {'starts twice' if kind == 'START' else 'stops before it starts'}"
            )
    for _, cells, where in begun.values():
        collector.refuse(where, f"'{cells['Behavior']}' starts and never stops")


def _length(cells: dict[str, str]) -> float | None:
    for column in _LENGTHS:
        try:
            seconds = to_seconds(cells.get(column, ""))
        except EtadError:
            continue
        if math.isfinite(seconds) and seconds > 0:
            return seconds
    return None


def write_events(path: Path | str, detections: Detections) -> Path:
    """Write detections as aggregated events (tab-separated), scores as comments; whole or not at all."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _AGGREGATED, restval="", delimiter="\t", lineterminator="\n")
        writer.writeheader()
        columns = (
            detections.video,
            detections.start_seconds,
            detections.end_seconds,
            detections.label,
            detections.score,
        )
        for video, start, end, label, score in zip(*(column.tolist() for column in columns), strict=True):
            writer.writerow(
                {
                    "Observation id": detections.video_ids[video],
                    "Observation type": "Media file(s)",
                    "Subject": "No focal subject",
                    "Behavior": detections.labels[label] if label >= 0 else "proposal",
                    "Behavior type": "STATE",
                    "Start (s)": repr(start),
                    "Stop (s)": repr(end),
                    "Duration (s)": repr(end - start),
                    "Media file name": detections.video_ids[video],
                    "Comment start": f"score {score:.4f}",
                }
            )
    return Path(path)
