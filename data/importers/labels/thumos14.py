"""THUMOS-14's temporal annotations: a folder of text files, one a class, or the same as one table.

Checked against the public table (`video,type,type_idx,start,end,startFrame,endFrame`; times in seconds). The folder
has `CLASS_val.txt` and `CLASS_test.txt` with lines of a video's id, start and end; it has not been tried itself. What
THUMOS-14 calls its validation set is what detectors are trained on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import EtadError
from .rows import Labels, RowCollector
from .sheet import columns_of, read_sheet
from .times import to_seconds

LAYOUT = "thumos14"
_SUBSETS = {"video_validation_": "training", "video_test_": "test"}
_FILE_NAME = re.compile(r"^(?P<label>.+)_(val|test)\.txt$")


def matches(path: Path, head: bytes) -> bool:
    """Whether a place looks like THUMOS-14's annotations."""
    if path.is_dir():
        return any(_FILE_NAME.match(each.name) for each in path.glob("*.txt"))
    return columns_of(head)[:5] == ("video", "type", "type_idx", "start", "end")


def read(path: Path, *, fps: float | None = None) -> Labels:
    """Read the folder or the table."""
    collector = RowCollector(path, LAYOUT)
    for where, name, label, start, end in _lines(path) if path.is_dir() else _rows(path, collector):
        subset = next((subset for prefix, subset in _SUBSETS.items() if name.startswith(prefix)), "")
        video = collector.video(name, where, subset=subset)
        try:
            collector.action(video, to_seconds(start), to_seconds(end), label, where)
        except EtadError as error:
            collector.refuse(where, str(error), video=video)
    return collector.labels()


def _lines(folder: Path) -> Iterator[tuple[str, str, str, str, str]]:
    for file in sorted(folder.glob("*.txt")):
        found = _FILE_NAME.match(file.name)
        if found is None:
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            words = line.split()
            if words:
                name, start, end = (*words, "", "", "")[:3]
                yield f"{file.name}, line {number}", name, found["label"], start, end


def _rows(path: Path, collector: RowCollector) -> Iterator[tuple[str, str, str, str, str]]:
    for number, cells in collector.rows_of(read_sheet(path).with_columns("video", "type", "start", "end")):
        yield f"row {number}", cells["video"], cells["type"], cells["start"], cells["end"]
