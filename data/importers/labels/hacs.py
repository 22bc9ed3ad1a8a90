"""HACS clips: a table of two-second clips, each of which shows an action or does not.

The columns are those of its publisher's table (`classname,youtube_id,subset,start,end,label`, label 1 or -1); it has
not been tried on the table itself.
HACS segments are in ActivityNet's form and are read as such.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import EtadError, counted
from .rows import Labels, RowCollector
from .sheet import columns_of, read_sheet
from .times import to_seconds

LAYOUT = "hacs"


def matches(path: Path, head: bytes) -> bool:
    """Whether a file looks like the table of HACS clips."""
    return columns_of(head)[:6] == ("classname", "youtube_id", "subset", "start", "end", "label")


def read(path: Path, *, fps: float | None = None) -> Labels:
    """Read the table; clips that do not show their class only name their video."""
    collector, negatives = RowCollector(path, LAYOUT), 0
    sheet = read_sheet(path).with_columns("classname", "youtube_id", "subset", "start", "end", "label")
    for number, cells in collector.rows_of(sheet):
        where = f"row {number}"
        video = collector.video(cells["youtube_id"], where, subset=cells["subset"])
        if cells["label"] == "-1":
            negatives += 1
            continue
        try:
            collector.action(video, to_seconds(cells["start"]), to_seconds(cells["end"]), cells["classname"], where)
        except EtadError as error:
            collector.refuse(where, str(error), video=video)
    if negatives:
        collector.notes.append(f"{counted(negatives, 'clip')} do not show their class, and are no actions")
    return collector.labels()
