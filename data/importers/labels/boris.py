"""BORIS, the event recorder of behaviour research: its exported events in, detections out.

Checked against BORIS's own sources and test files (`boris/export_observation.py` and `boris/export_events.py` of
releases 7.13.9, 8.9, 8.16, 8.27 and 9; `tests/files/test_export_*`): tabular events have one row an event, whose
`Status` or `Behavior type` is START, STOP or POINT, up to 8.0 below lines about the observation; aggregated events have
one row a behaviour, with `Start (s)`, `Stop (s)` and `Behavior type` STATE or POINT.

BORIS counts time over all media files of an observation, one after the other, from its time offset on: here it is
counted from the beginning of each file.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...detections import Detections
from ...errors import EtadError, counted, listing, shown
from ...files.atomic import replacing
from .rows import Labels, RowCollector
from .sheet import Sheet, raw_rows, sheet_of
from .table import video_id
from .times import to_seconds

LAYOUT = "boris"
_NAMES = ("Media file name", "Media file path", "Media file")  # of the file that an event is in
_KINDS = ("Status", "Behavior type", "Start (s)")
_PLAYER = re.compile(r"\s*\|?\s*player #(\d+):\s*", re.IGNORECASE)
_NOTHING = ("", "NA", "LIVE", "Not found")
_FIRST_ROWS = 200  # lines about an observation above its events are fewer
_SAME_SECONDS = 0.05  # players end a little after what a file states
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


@dataclass(frozen=True)
class _Event:
    """What stands in a row, or in the two rows of one behaviour; a point event has no end."""

    start_seconds: float
    end_seconds: float | None
    cells: dict[str, str]
    where: str

    @property
    def observation(self) -> str:
        return self.cells.get("Observation id", "")

    @property
    def file(self) -> str:
        return next((self.cells[name] for name in _NAMES if self.cells.get(name, "") not in _NOTHING), "")


@dataclass(frozen=True)
class _Media:
    """Files that an observation plays one after the other, how long each is as far as that is stated, and the time
    that it begins at."""

    files: tuple[str, ...]
    lengths: tuple[float | None, ...]
    offset_seconds: float

    def place(self, event: _Event) -> tuple[str, float | None, float, float]:
        """File, its length, start and end within it.

        Raises
        ------
        EtadError
            It cannot be said where in which file the event is.
        """
        start = event.start_seconds - self.offset_seconds
        end = (event.start_seconds if event.end_seconds is None else event.end_seconds) - self.offset_seconds
        if not self.files:
            return event.observation, None, start, end
        if len(self.files) > 1 and None in self.lengths:
            raise EtadError(
                f"its observation is of several media files, {listing(self.files)}, one after the other, and how long "
                "each is does not stand here; export it from BORIS 8.16 or newer, or observe each file for itself"
            )
        begun = 0.0
        for number, (file, length) in enumerate(zip(self.files, self.lengths, strict=True), start=1):
            if length is None or start < begun + length or number == len(self.files):
                if length is not None and start >= begun + length + _SAME_SECONDS:
                    raise EtadError(f"begins at {start - begun:g} s, after the end of '{file}' at {length:g} s")
                if number < len(self.files) and length is not None and end > begun + length + _SAME_SECONDS:
                    raise EtadError(f"runs on from '{file}' into the next media file")
                return file, length, start - begun, end - begun
            begun += length
        raise AssertionError("the last file ends the loop")


def read(path: Path, *, fps: float | None = None) -> Labels:
    """Read exported events; labels are the behaviours, subjects and modifiers are not told apart.

    Raises
    ------
    EtadError
        The file is no table of events.
    """
    above, sheet = _tables(path)
    collector = RowCollector(path, LAYOUT)
    events = list(_events(sheet, collector))
    named: dict[str, dict[str, None]] = {}
    for event in events:
        if event.file:
            named.setdefault(event.observation, {}).setdefault(event.file)
    points: Counter[str] = Counter()
    offsets: set[str] = set()
    unnamed: set[str] = set()
    for event in events:
        media = _media(event.cells, above, tuple(named.get(event.observation, {})))
        try:
            file, length, start, end = media.place(event)
        except EtadError as error:
            collector.refuse(event.where, str(error))
            continue
        if media.offset_seconds:
            offsets.add(f"{event.observation or file}: {media.offset_seconds:g} s")
        if not media.files:
            unnamed.add(event.observation)
        video = collector.video(video_id(file), event.where, duration_seconds=length, file=file if media.files else "")
        if event.end_seconds is None:
            points[event.cells["Behavior"]] += 1
        else:
            collector.action(video, start, end, event.cells["Behavior"], event.where)
    if points:
        count = counted(sum(points.values()), "point event")
        verb = "has no length and is no action" if sum(points.values()) == 1 else "have no length and are no actions"
        collector.notes.append(f"{count} {verb}: {listing(list(points))}")
    if offsets:
        collector.notes.append(f"time offsets taken off: {listing(sorted(offsets))}")
    if unnamed - {""}:
        collector.notes.append(f"without media files, named by their observation: {listing(sorted(unnamed))}")
    return collector.labels()


def _tables(path: Path) -> tuple[list[list[str]], Sheet]:
    """Lines about the observation, up to version 8.0, and the table of events below them."""
    rows = raw_rows(path)
    for place, (_, row) in enumerate(rows[:_FIRST_ROWS]):
        cells = {cell.strip() for cell in row}
        if "Behavior" in cells and cells.intersection(_KINDS):
            return [row for _, row in rows[:place]], sheet_of(path, rows[place:])
    raise EtadError(
        f"{path}: has no column 'Behavior' beside 'Status', 'Behavior type' or 'Start (s)'. "
        "Export tabular or aggregated events from BORIS, as CSV, TSV or XLSX."
    )


def _events(sheet: Sheet, collector: RowCollector) -> Iterator[_Event]:
    is_aggregated = "Start (s)" in sheet.columns
    begun: dict[tuple[str, ...], tuple[float, dict[str, str], str]] = {}
    who = ("Observation id", "Subject", "Behavior", *(name for name in sheet.columns if name.startswith("Modifier")))
    for number, cells in collector.rows_of(sheet):
        where = f"row {number}"
        kind = (cells.get("Status") or cells.get("Behavior type") or "STATE").upper()
        try:
            start = to_seconds(cells["Start (s)" if is_aggregated else "Time"])
            stop = to_seconds(cells["Stop (s)"]) if is_aggregated and kind != "POINT" else None
        except (EtadError, KeyError) as error:
            collector.refuse(where, f"has no time ({error})")
            continue
        if is_aggregated or kind == "POINT":
            yield _Event(start, stop, cells, where)
            continue
        key = tuple(cells.get(name, "") for name in who)
        if kind == "START" and key not in begun:
            begun[key] = (start, cells, where)
        elif kind == "STOP" and key in begun:
            since, first, where = begun.pop(key)
            yield _Event(since, start, first, where)
        else:
            how = {"START": "starts twice", "STOP": "stops before it starts"}.get(kind, f"is {shown(kind)}")
            collector.refuse(where, f"{shown(cells['Behavior'])} {how}")
    for _, cells, where in begun.values():
        collector.refuse(where, f"{shown(cells['Behavior'])} starts and never stops")


def _media(cells: dict[str, str], above: list[list[str]], named: tuple[str, ...]) -> _Media:
    """Media of the first player, which the times are of; `named` are those that the observation's events name."""
    told = {row[0].strip(): row[1].strip() for row in above if len(row) > 1 and row[0].strip()}
    offset = _number(cells.get("Time offset (s)") or told.get("Time offset (s)", "")) or 0.0
    files = tuple(row[1].strip() for row in above if len(row) > 1 and row[0].strip() == "Player #1")
    source = cells.get("Source", "")
    if not files and source not in _NOTHING:
        files = _listed(source)
    names = tuple(name for each in named for name in each.split(";") if name.strip())
    names_alone = not files  # there may be more files, which no event is in, and the total length is of all
    if names_alone:
        files = names
    if not files:
        return _Media((), (), offset)
    lengths = tuple(_number(text) for text in _listed(cells.get("Media duration (s)", "")))
    if len(files) == 1 and not lengths and not names_alone:
        lengths = (_number(cells.get("Total length", "")),)
    return _Media(files, lengths if len(lengths) == len(files) else (None,) * len(files), offset)


def _listed(text: str) -> tuple[str, ...]:
    """The first player's entries of a list of all players'.

    Examples
    --------
    >>> _listed("player #1:a.avi;b.avi|player #2:c.avi"), _listed("60.0;30.5|60.0"), _listed("")
    (('a.avi', 'b.avi'), ('60.0', '30.5'), ())
    """
    parts = _PLAYER.split(text)
    first = parts[2] if len(parts) > 2 else text.split("|")[0]
    return tuple(entry.strip() for entry in first.split(";") if entry.strip())


def _number(text: str) -> float | None:
    """Seconds that a cell states, if it does."""
    try:
        return to_seconds(text)
    except EtadError:
        return None


def write_events(path: Path | str, detections: Detections) -> Path:
    """Write detections as aggregated events (tab-separated), scores as comments; whole or not at all.

    That is what programs that evaluate BORIS's exports read; BORIS itself takes other events in.
    """
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
