"""Labels as any tool may have them: rows of video, start, end and label, checked one by one."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from ...errors import EtadError, counted, listing, shown
from ...files.atomic import write_json
from .sheet import Sheet

# Two statements of one video's length that differ by less than both mean the same.
_SAME_SECONDS, _SAME_SHARE = 0.5, 0.01
_LONGEST_TEXT = 500
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f]")


@dataclass(frozen=True)
class LabelRow:
    """One action as a file states it; `where` says in which row or entry."""

    video: str
    start_seconds: float
    end_seconds: float
    label: str
    where: str


@dataclass(frozen=True)
class Labels:
    """What a file of labels holds.

    Parameters
    ----------
    source, layout
        The file, and the form in which it was read.
    rows
        Actions, in the order of the file.
    videos
        Every video that is named, those without actions too, in the order of the file.
    durations, subsets
        Of the videos for which the file states them.
    notes
        How the file was understood, a line each.
    left_out
        What could not be used and why, a line each.
    """

    source: Path
    layout: str
    rows: tuple[LabelRow, ...]
    videos: tuple[str, ...]
    durations: Mapping[str, float]
    subsets: Mapping[str, str]
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels in use, sorted."""
        return tuple(sorted({row.label for row in self.rows}))

    def as_annotations(self, *, subset: str = "training") -> dict[str, Any]:
        """The same in ActivityNet's form.

        Parameters
        ----------
        subset
            Of the videos for which the file states none.
        """
        database: dict[str, dict[str, Any]] = {}
        for video in self.videos:
            database[video] = {"subset": self.subsets.get(video, subset), "annotations": []}
            if video in self.durations:
                database[video]["duration"] = self.durations[video]
        for row in self.rows:
            action = {"segment": [row.start_seconds, row.end_seconds], "label": row.label}
            database[row.video]["annotations"].append(action)
        return {"version": f"from {self.layout}", "taxonomy": [], "database": database}


def write_annotations(path: Path | str, labels: Labels, *, subset: str = "training") -> Path:
    """Write labels as annotations in ActivityNet's form, whole or not at all."""
    return write_json(path, labels.as_annotations(subset=subset), indent=1)


class RowCollector:
    """Takes rows as a layout's reader finds them, keeps those that can be right and says what is wrong with the others.

    Parameters
    ----------
    source, layout
        As in `Labels`.
    """

    def __init__(self, source: Path, layout: str) -> None:
        self._source, self._layout = source, layout
        self._rows: dict[tuple[str, float, float, str], LabelRow] = {}
        self._videos: dict[str, None] = {}
        self._durations: dict[str, float] = {}
        self._subsets: dict[str, str] = {}
        self._files: dict[str, str] = {}
        self.notes: list[str] = []
        self._left_out: list[str] = []
        self._lacking: dict[str, None] = {}
        self._repeated: list[str] = []

    def video(
        self, name: str, where: str, *, duration_seconds: float | None = None, subset: str = "", file: str = ""
    ) -> str:
        """Note a video, and what is said of it; returns its id, or an empty string where it has none.

        Parameters
        ----------
        file
            What the layout calls the video's file, where that may be a path: two paths are two videos.
        """
        video = name.strip()
        if not video or _CONTROL.search(video):
            self.refuse(
                where, f"names the video {shown(video)}, with a control character" if video else "names no video"
            )
            return ""
        if len(PureWindowsPath(file).parts) > 1:
            other = self._files.setdefault(video, file)
            if PureWindowsPath(other).parent != PureWindowsPath(file).parent:
                self.refuse(where, f"{shown(file)} has the name of {shown(other)}; give each video its own")
                return ""
        self._videos.setdefault(video)
        if duration_seconds is not None:
            known = self._durations.setdefault(video, duration_seconds)
            if not (math.isfinite(duration_seconds) and duration_seconds > 0):
                self._durations.pop(video)
                self.refuse(where, f"states a duration of {shown(duration_seconds)} s")
            elif abs(known - duration_seconds) > max(_SAME_SECONDS, _SAME_SHARE * known):
                self.refuse(where, f"states a duration of {duration_seconds:g} s, but an earlier row {known:g} s")
        if subset.strip() and self._subsets.setdefault(video, subset.strip()) != subset.strip():
            self.refuse(where, f"states the subset {shown(subset)}, but an earlier row {shown(self._subsets[video])}")
        return video

    def action(self, video: str, start_seconds: float, end_seconds: float, label: str, where: str) -> None:
        """Take an action of a video that was noted."""
        label = label.strip()
        why = ""
        if not video:
            return
        if not label:
            why = "has no label"
        elif _CONTROL.search(label):
            why = f"has the label {shown(label)}, with a control character"
        elif len(label) > _LONGEST_TEXT:
            why = f"has a label of {len(label)} characters"
        elif not (math.isfinite(start_seconds) and math.isfinite(end_seconds)):
            why = f"goes from {shown(start_seconds)} to {shown(end_seconds)}, expected seconds"
        elif start_seconds < 0:
            why = f"begins at {start_seconds:g} s, before the video"
        elif end_seconds < start_seconds:
            why = f"ends at {end_seconds:g} s, before it begins at {start_seconds:g} s"
        elif end_seconds == start_seconds:
            why = f"begins and ends at {start_seconds:g} s; an action takes time"
        if why:
            self.refuse(where, f"video {shown(video)}: {why}", video=video)
            return
        key = (video, start_seconds, end_seconds, label)
        if key in self._rows:
            self._repeated.append(where)
            return
        self._rows[key] = LabelRow(video, start_seconds, end_seconds, label, where)

    def rows_of(self, sheet: Sheet) -> tuple[tuple[int, dict[str, str]], ...]:
        """Rows of a table that can be read, by number; the others are listed."""
        for number, why in sheet.too_long:
            self.refuse(f"row {number}", why)
        return sheet.rows

    def refuse(self, where: str, why: str, *, video: str = "") -> None:
        """List what cannot be used.

        Parameters
        ----------
        video
            The one in which an action is lost by that.
        """
        self._left_out.append(f"{where}: {why}")
        if video:
            self._lacking.setdefault(video)

    def labels(self) -> Labels:
        """All that was taken.

        Raises
        ------
        EtadError
            Nothing could be used.
        """
        if self._repeated:
            repeats = counted(len(self._repeated), "repetition")
            self.notes.append(f"{repeats} of the same action, which counts once: {listing(self._repeated)}")
        self._compare_with_durations()
        self._drop_unknown()
        if not self._videos:
            raise EtadError(
                f"{self._source}: read as {self._layout}, there is nothing in it that can be used"
                f"{_first(self._left_out)}. {'Correct that' if self._left_out else 'Add rows'}; or, if it was "
                "taken for what it is not, name the layout with --layout, the columns with --column."
            )
        return Labels(
            source=self._source,
            layout=self._layout,
            rows=tuple(self._rows.values()),
            videos=tuple(self._videos),
            durations=dict(self._durations),
            subsets=dict(self._subsets),
            notes=tuple(self.notes),
            left_out=tuple(self._left_out),
        )

    def _drop_unknown(self) -> None:
        """Leave out videos that lost every action: no negatives, for something happens in them at unknown times."""
        known = {row.video for row in self._rows.values()}
        for video in self._lacking:
            if video not in known and video in self._videos:
                del self._videos[video]
                self.refuse(f"video {shown(video)}", "is left out, since none of its actions can be used")

    def _compare_with_durations(self) -> None:
        """Leave out what begins after its video's end, and tell of what ends after it."""
        past = []
        for key, row in list(self._rows.items()):
            duration = self._durations.get(row.video, math.inf)
            if row.start_seconds >= duration:
                self.refuse(
                    row.where,
                    f"video {shown(row.video)}: begins at {row.start_seconds:g} s, but the video lasts {duration:g} s",
                    video=row.video,
                )
                del self._rows[key]
            elif row.end_seconds > duration + max(_SAME_SECONDS, _SAME_SHARE * duration):
                past.append(row.where)
        if past:
            ends = f"{counted(len(past), 'action')} {'ends' if len(past) == 1 else 'end'}"
            self.notes.append(f"{ends} after the stated duration of the video, where training cuts: {listing(past)}")


def _first(faults: Iterable[str]) -> str:
    faults = list(faults)
    return f" ({listing(faults, 2)})" if faults else ""
