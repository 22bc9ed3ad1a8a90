"""Charades: a table with one row a video, whose column `actions` lists classes with their times.

Checked against public readers of `Charades_v1_train.csv` (`id,subject,...,actions,length`; actions as in
`c092 11.90 21.20;c147 0.00 12.60`, seconds), not against the file itself.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import EtadError
from .rows import Labels, RowCollector
from .sheet import columns_of, read_sheet
from .times import to_seconds

LAYOUT = "charades"


def matches(path: Path, head: bytes) -> bool:
    """Whether a file looks like a table of Charades."""
    return {"id", "actions", "length", "script"} <= set(columns_of(head))


def read(path: Path, *, fps: float | None = None) -> Labels:
    """Read the table; the subset is in the file's name, as its publisher has it."""
    collector = RowCollector(path, LAYOUT)
    subset = "training" if "train" in path.stem.lower() else "test" if "test" in path.stem.lower() else ""
    for number, cells in collector.rows_of(read_sheet(path).with_columns("id", "actions", "length")):
        where = f"row {number}"
        try:
            length = to_seconds(cells["length"]) if cells["length"] else None
        except EtadError as error:
            collector.refuse(where, str(error))
            length = None
        video = collector.video(cells["id"], where, duration_seconds=length, subset=subset)
        for entry in filter(None, (each.strip() for each in cells["actions"].split(";"))):
            words = entry.split()
            try:
                label, start, end = (*words, "", "", "")[:3]
                collector.action(video, to_seconds(start), to_seconds(end), label, f"{where}, '{entry[:40]}'")
            except EtadError as error:
                collector.refuse(f"{where}, '{entry[:40]}'", str(error), video=video)
    return collector.labels()
