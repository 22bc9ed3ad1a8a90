"""A table with a column for the video, the start, the end and the label, under the names that people give them.

Checked against tables that were really published: THUMOS-14's annotations as CSV (`video,type,type_idx,start,end,...`)
and the labels of recordings of an accelerometer (`video,start,end,label,subset,duration`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path, PurePath, PureWindowsPath

from ...errors import EtadError, counted, listing, nearest, shown
from ...video.files import VIDEO_SUFFIXES
from .rows import Labels, RowCollector
from .sheet import Sheet, read_sheet, unit_of
from .times import to_seconds

LAYOUT = "table"

# What each column may be called, the likeliest name first.
NAMES: Mapping[str, tuple[str, ...]] = {
    "video": (
        *("video", "video_id", "video_name", "videoid", "videoname", "vid", "clip", "recording", "file", "filename"),
        *("file_name", "media", "media_file", "path", "id", "name"),
    ),
    "start": (
        *("start", "start_seconds", "start_sec", "start_time", "starttime", "start_timestamp", "t_start", "tstart"),
        *("begin", "begin_time", "onset", "from", "tmin", "time_start", "start_ms", "start_frame", "startframe"),
    ),
    "end": (
        *("end", "end_seconds", "end_sec", "end_time", "endtime", "end_timestamp", "stop", "stop_time"),
        *("stop_timestamp", "t_end", "tend", "finish", "offset", "to", "tmax", "time_end", "end_ms", "end_frame"),
        *("endframe", "stop_frame"),
    ),
    "label": (
        *("label", "class", "class_name", "action", "behavior", "behaviour", "activity", "category", "type", "event"),
        *("annotation", "tag", "gesture", "code"),
    ),
    "subset": ("subset", "split", "set", "partition", "fold"),
    "duration": ("video_duration", "duration", "duration_seconds", "video_length", "total_length", "video_seconds"),
    "fps": ("fps", "frame_rate", "framerate"),
}
_NEEDED = ("video", "start", "end", "label")


def read_table(
    path: Path, *, columns: Mapping[str, str] | None = None, fps: float | None = None, sheet: Sheet | None = None
) -> Labels:
    """Read a table of labels.

    A row whose start, end and label are empty names a video without actions.

    Parameters
    ----------
    columns
        Names of columns by what they hold, where they are not to be found by their names.
    fps
        Frames per second, where times are frames.

    Raises
    ------
    EtadError
        A column cannot be found, or nothing in the table can be used.
    """
    sheet = sheet or read_sheet(path)
    found = find_columns(sheet, columns or {})
    in_frames = [
        name for role, name in found.items() if role in ("start", "end", "duration") and unit_of(name) == "frames"
    ]
    if in_frames and fps is None and "fps" not in found:
        raise EtadError(f"{path}: column '{in_frames[0]}' holds frames; give their rate with --fps.")
    if fps is not None and not in_frames:
        begin, stop = found["start"], found["end"]
        raise EtadError(
            f"{path}: --fps {fps:g} is for times in frames, but '{begin}' and '{stop}' are read as {unit_of(begin)}. "
            "If they are frames, call the columns start_frame and end_frame; otherwise leave --fps out."
        )
    collector = RowCollector(path, LAYOUT)
    collector.notes.append("columns: " + ", ".join(f"{role} from '{name}'" for role, name in found.items()))
    if fps is not None and "fps" in found:
        collector.notes.append(f"--fps {fps:g} counts where column '{found['fps']}' is empty")
    names: dict[str, str] = {}
    comments = []
    for number, cells in collector.rows_of(sheet):
        where = f"row {number}"
        values = {role: cells.get(name, "") for role, name in found.items()}
        if _is_comment(cells, values):
            comments.append(where)
            continue
        video = ""
        try:
            rate = float(values["fps"]) if values.get("fps") else fps
            if rate is not None and not (math.isfinite(rate) and rate > 0):
                raise EtadError(f"{rate:g} frames per second are none")
            stated = values.get("duration")
            seconds = to_seconds(stated, unit=unit_of(found["duration"]), fps=rate) if stated else None
            name = values["video"].strip()
            video = collector.video(
                names.setdefault(name, video_id(name)),
                where,
                duration_seconds=seconds,
                subset=values.get("subset", ""),
                file=name,
            )
            if not any(values[role] for role in ("start", "end", "label")):
                continue
            start, end = (to_seconds(values[role], unit=unit_of(found[role]), fps=rate) for role in ("start", "end"))
        except (EtadError, ValueError) as error:
            collector.refuse(where, str(error), video=video)
            continue
        collector.action(video, start, end, values["label"], where)
    if comments:
        collector.notes.append(f"{counted(len(comments), 'comment')} passed over: {listing(comments)}")
    return collector.labels()


def _is_comment(cells: Mapping[str, str], values: Mapping[str, str]) -> bool:
    """Whether a row is a text behind a hash: it names no file of a video, and states no times."""
    first = next(iter(cells.values()), "")
    if not first.startswith("#") or PurePath(values["video"]).suffix.lower() in VIDEO_SUFFIXES:
        return False
    return not any(character.isdecimal() for character in values["start"] + values["end"])


def find_columns(sheet: Sheet, told: Mapping[str, str]) -> dict[str, str]:
    """Find which column holds what.

    Raises
    ------
    EtadError
        A column that was told is not there, or one that is needed cannot be found.
    """
    for role, name in told.items():
        if role not in NAMES:
            raise EtadError(
                f"--column {role}={name}: there is no such role.{nearest(role, NAMES)} Known: {listing(NAMES, 9)}."
            )
        if name not in sheet.columns:
            raise EtadError(
                f"{sheet.path}: has no column '{name}'.{nearest(name, sheet.columns)} "
                f"It has: {listing(sheet.columns, 20)}."
            )
    found = {role: told.get(role) or sheet.find(names) for role, names in NAMES.items()}
    lacking = [role for role in _NEEDED if found[role] is None]
    if lacking:
        raise EtadError(
            f"{sheet.path}: no column for {' and '.join(lacking)} was found. It has: {listing(sheet.columns, 20)}. "
            f"Say which one it is, as in --column {lacking[0]}={shown(next(iter(sheet.columns), 'NAME'))}."
        )
    return {role: name for role, name in found.items() if name is not None}


def video_id(name: str) -> str:
    """The id of a video that a table names by its file: without folders and without a video's suffix.

    Examples
    --------
    >>> video_id("C:\\\\clips\\\\cat 1.MP4"), video_id("day2/dog.mkv"), video_id("v1.2")
    ('cat 1', 'dog', 'v1.2')
    """
    last = PureWindowsPath(name).name if "\\" in name else PurePath(name).name
    path = PurePath(last)
    return path.stem if path.suffix.lower() in VIDEO_SUFFIXES else last
