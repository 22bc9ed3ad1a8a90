"""Label Studio's timeline labels of videos: exported tasks in, predictions out.

Checked against its documentation of the TimelineLabels tag (docs/source/tags/timelinelabels.md): a result has
`value.ranges` and `value.timelinelabels`; of pre-annotations (guide/predictions): a task has `predictions`, each with
`model_version`, `score` and `result`; and against the publisher's own reader of such results (label-studio-ml-backend,
timeline_labeling), which counts frames from 1, the last one included. The short export (JSON-MIN) puts the results
under the name of the tag, beside the video.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ...detections import Detections
from ...errors import EtadError, counted, shown
from ...files.atomic import write_json
from ...files.json_file import read_json
from ...video.files import VIDEO_SUFFIXES
from .rows import Labels, RowCollector
from .table import video_id

LAYOUT = "label-studio"
_UPLOADED = re.compile(r"^/data/upload/.*/[0-9a-f]{8}-([^/]+)$")  # what it puts before the name of a file


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
    twice = 0
    for number, task in enumerate(tasks, start=1):
        where = f"task {shown(task.get('id', number)) if isinstance(task, Mapping) else number}"
        file = _file_of(task)
        video = collector.video(video_id(file), where, file=file)
        if not video:
            continue
        done = [
            each for each in _list(task, "annotations") if isinstance(each, Mapping) and not each.get("was_cancelled")
        ]
        twice += len(done) > 1
        for result in (result for each in done for result in _list(each, "result")):
            _add(collector, video, result.get("value") if isinstance(result, Mapping) else None, fps, where, path)
        if "data" not in task:
            for value in (value for name in task for value in _list(task, name)):
                _add(collector, video, value, fps, where, path)
    if twice:
        collector.notes.append(f"{counted(twice, 'task')} with several annotations, all of which count")
    return collector.labels()


def _add(collector: RowCollector, video: str, value: Any, fps: float | None, where: str, path: Path) -> None:
    labels = _list(value, "timelinelabels") or _list(value, "labels")
    if not labels or not _list(value, "ranges"):
        return
    if fps is None:
        raise EtadError(f"{path}: times are frames, and Label Studio does not write their rate. Give it with --fps.")
    for each in _list(value, "ranges"):
        try:
            first, last = float(each["start"]), float(each["end"])
        except (TypeError, KeyError, ValueError):
            collector.refuse(where, f"has the range {shown(each)}, expected a first and a last frame", video=video)
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


def _file_of(task: Any) -> str:
    """The file that a task shows: a name, a path, an address, or a path that Label Studio serves files under."""
    data = task.get("data", task) if isinstance(task, Mapping) else None
    texts = {name: each for name, each in data.items() if isinstance(each, str)} if isinstance(data, Mapping) else {}
    values = [each for each in texts.values() if each]
    named = [texts[name] for name in ("video", "videos") if texts.get(name)]
    by_suffix = [each for each in values if PurePath(_path_of(each)).suffix.lower() in VIDEO_SUFFIXES]
    return _path_of(next(iter((*named, *by_suffix, *values)), ""))


def _path_of(address: str) -> str:
    """The path within an address.

    Examples
    --------
    >>> _path_of("https://host/day%201/cat.mp4?key=1"), _path_of("/data/local-files/?d=day2/cat.mp4")
    ('/day 1/cat.mp4', 'day2/cat.mp4')
    >>> _path_of("/data/upload/3/0a1b2c3d-cat.mp4"), _path_of("cat 100%.mp4")
    ('cat.mp4', 'cat 100%.mp4')
    """
    if "://" not in address and not address.startswith("/data/"):
        return address
    try:
        parts = urlsplit(address)
    except ValueError:
        return address
    served = parse_qs(parts.query).get("d") if parts.path.endswith("/local-files/") else None
    path = served[0] if served else unquote(parts.path)
    return _UPLOADED.sub(r"\1", path)


def _list(value: Any, key: str) -> list[Any]:
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, list) else []
