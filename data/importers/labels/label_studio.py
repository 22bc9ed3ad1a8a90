"""Label Studio's timeline labels of videos: exported tasks in, predictions out.

Checked against its documentation of the TimelineLabels tag: a result of type `timelinelabels` has `value.ranges` with
the first and the last frame, counted from 1, and `value.timelinelabels`; and of pre-annotations: a task has
`predictions`, each with `model_version`, `score` and `result`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ...detections import Detections
from ...errors import EtadError, shown
from ...files.atomic import write_json
from ...files.json_file import read_json
from .rows import Labels, RowCollector
from .table import video_id

LAYOUT = "label-studio"


def matches(path: Path, head: bytes) -> bool:
    """Whether a file looks like exported tasks."""
    return head.lstrip()[:1] == b"[" and (
        b'"timelinelabels"' in head or (b'"annotations"' in head and b'"data"' in head)
    )


def read(path: Path, *, fps: float | None = None) -> Labels:
    """Read exported tasks; of several annotations of a task that were not cancelled, all count.

    Raises
    ------
    EtadError
        The file holds no tasks, or there are ranges but no frame rate.
    """
    tasks = read_json(path, what="labels")
    if not isinstance(tasks, list):
        raise EtadError(f"{path}: holds {shown(tasks)}, expected a list of tasks. Export them as JSON.")
    collector = RowCollector(path, LAYOUT)
    for number, task in enumerate(tasks, start=1):
        where = f"task {task.get('id', number) if isinstance(task, Mapping) else number}"
        name = _video_of(task)
        video = collector.video(name, where)
        if not video:
            continue
        done = [
            each for each in _list(task, "annotations") if isinstance(each, Mapping) and not each.get("was_cancelled")
        ]
        for result in (result for each in done for result in _list(each, "result")):
            _add(collector, video, result, fps, where, path)
    return collector.labels()


def _add(collector: RowCollector, video: str, result: Any, fps: float | None, where: str, path: Path) -> None:
    value = result.get("value") if isinstance(result, Mapping) else None
    labels = _list(value, "timelinelabels") or _list(value, "labels")
    if not labels or not _list(value, "ranges"):
        return
    if fps is None:
        raise EtadError(f"{path}: times are frames, and Label Studio does not write their rate. Give it with --fps.")
    for each in _list(value, "ranges"):
        try:
            first, last = float(each["start"]), float(each["end"])
        except (TypeError, KeyError, ValueError):
            collector.refuse(where, f"has the range {shown(each)}, expected a first and a last frame")
            continue
        for label in labels:
            collector.action(video, (first - 1) / fps, last / fps, str(label), where)


def write_predictions(
    path: Path | str, detections: Detections, *, fps: float, files: Mapping[str, str] | None = None
) -> Path:
    """Write detections as tasks with predictions, to import and correct; whole or not at all.

    Parameters
    ----------
    fps
        Frames per second of the videos.
    files
        What a task calls its video's file; the id where there is none.
    """
    rows: dict[int, list[dict[str, Any]]] = {number: [] for number in range(len(detections.video_ids))}
    columns = (detections.video, detections.start_seconds, detections.end_seconds, detections.label, detections.score)
    for place, (video, start, end, label, score) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        first = max(1, math.floor(start * fps + 1e-6) + 1)
        rows[video].append(
            {
                "id": f"d{place}",
                "from_name": "timelineLabels",
                "to_name": "video",
                "type": "timelinelabels",
                "score": score,
                "value": {
                    "ranges": [{"start": first, "end": max(first, round(end * fps))}],
                    "timelinelabels": [detections.labels[label] if label >= 0 else "proposal"],
                },
            }
        )
    tasks = [
        {
            "data": {"video": (files or {}).get(video_id, video_id)},
            "predictions": [
                {
                    "model_version": "etad",
                    "score": max((result["score"] for result in rows[number]), default=0.0),
                    "result": rows[number],
                }
            ],
        }
        for number, video_id in enumerate(detections.video_ids)
    ]
    return write_json(path, tasks, indent=1)


def _video_of(task: Any) -> str:
    data = task.get("data") if isinstance(task, Mapping) else None
    names: Iterable[Any] = (data.get("video"), *data.values()) if isinstance(data, Mapping) else ()
    name = next((name for name in names if isinstance(name, str) and name), "")
    return video_id(unquote(urlsplit(name).path if "://" in name else name))


def _list(value: Any, key: str) -> list[Any]:
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, list) else []
