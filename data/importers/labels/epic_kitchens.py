"""EPIC-KITCHENS: tables of narrated actions, each with a verb and a noun.

Checked against the files of epic-kitchens-100-annotations: `narration_id,participant_id,video_id,narration_timestamp,
start_timestamp,stop_timestamp,start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,...`, times as
hh:mm:ss.ms; and `verb_classes.csv` (in releases `EPIC_100_verb_classes.csv`), `id,key,instances,category`. Many verbs
(put, place, lay) are one class, and detection is measured by class.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...errors import EtadError, counted
from .rows import Labels, RowCollector
from .sheet import columns_of, read_sheet
from .times import to_seconds

LAYOUT = "epic-kitchens"
_COLUMNS = ("video_id", "start_timestamp", "stop_timestamp", "verb", "verb_class", "noun")
_CLASSES = ("EPIC_100_verb_classes.csv", "verb_classes.csv")


def matches(path: Path, head: bytes) -> bool:
    """Whether a file looks like a table of EPIC-KITCHENS."""
    return set(_COLUMNS) <= set(columns_of(head))


def read(path: Path, *, fps: float | None = None) -> Labels:
    """Read the table; labels are the classes of the verbs, named by the publisher's table if it lies beside."""
    collector = RowCollector(path, LAYOUT)
    names, said = _class_names(path.parent)
    collector.notes.append(f"labels are classes of verbs, {said}; for nouns: --layout table --column label=noun")
    name = path.stem.lower()
    subset = "training" if "train" in name else "validation" if "val" in name else "test" if "test" in name else ""
    for number, cells in collector.rows_of(read_sheet(path).with_columns(*_COLUMNS)):
        where = f"row {number}"
        video = collector.video(cells["video_id"], where, subset=subset)
        kind = cells["verb_class"]
        try:
            start, end = to_seconds(cells["start_timestamp"]), to_seconds(cells["stop_timestamp"])
            collector.action(video, start, end, names.get(kind, f"verb {kind}" if kind else ""), where)
        except EtadError as error:
            collector.refuse(where, str(error), video=video)
    return collector.labels()


def _class_names(folder: Path) -> tuple[Mapping[str, str], str]:
    """Names of verb classes by number, and where they are from."""
    for file in _CLASSES:
        if (folder / file).is_file():
            sheet = read_sheet(folder / file).with_columns("id", "key")
            broken = counted(len(sheet.too_long), "row")
            said = f"named by {file}" + (f", but for {broken} of it with too many cells" if sheet.too_long else "")
            return {cells["id"]: cells["key"] for _, cells in sheet.rows}, said
    return {}, f"by number; put {_CLASSES[0]} beside the table to name them"
