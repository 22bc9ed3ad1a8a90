"""EPIC-KITCHENS: a table of narrated actions, each with a verb and a noun.

Checked against the published columns (`narration_id,participant_id,video_id,narration_timestamp,start_timestamp,
stop_timestamp,start_frame,stop_frame,narration,verb,verb_class,noun,...`; times as hh:mm:ss.ms).
"""

from __future__ import annotations

from pathlib import Path

from ...errors import EtadError
from .rows import Labels, RowCollector
from .sheet import read_sheet
from .times import to_seconds

LAYOUT = "epic-kitchens"
_COLUMNS = (b"video_id", b"start_timestamp", b"stop_timestamp", b"verb", b"noun")


def matches(path: Path, head: bytes) -> bool:
    """Whether a file looks like a table of EPIC-KITCHENS."""
    names = head.split(b"\n", 1)[0].strip().split(b",")
    return all(name in names for name in _COLUMNS)


def read(path: Path, *, fps: float | None = None) -> Labels:
    """Read the table; labels are the verbs."""
    collector = RowCollector(path, LAYOUT)
    collector.notes.append("labels are the verbs; for nouns: --layout table --column label=noun")
    name = path.stem.lower()
    subset = "training" if "train" in name else "validation" if "val" in name else "test" if "test" in name else ""
    sheet = read_sheet(path).with_columns(*(name.decode() for name in _COLUMNS))
    for number, cells in sheet.rows:
        where = f"row {number}"
        video = collector.video(cells["video_id"], where, subset=subset)
        try:
            start, end = to_seconds(cells["start_timestamp"]), to_seconds(cells["stop_timestamp"])
            collector.action(video, start, end, cells["verb"], where)
        except EtadError as error:
            collector.refuse(where, str(error))
    return collector.labels()
