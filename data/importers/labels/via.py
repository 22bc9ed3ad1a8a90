"""VIA, the VGG annotator for video (version 3): temporal segments of a project.

Checked against the publisher's CodeDoc.md of VIA 3 and its sources: `file`, `view`, `attribute` and `metadata`, where a
segment has `z` (start and end, seconds), `xy` (empty) and `av` (attribute to option, to several of them with commas
between, to a text, or `_DEFAULT` where nothing was chosen).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import EtadError, counted, shown
from ...files.json_file import read_json, repeated_keys
from .rows import Labels, RowCollector
from .table import video_id

LAYOUT = "via"


def matches(path: Path, head: bytes) -> bool:
    """Whether a file looks like a project of VIA 3."""
    return (head.lstrip()[:1] == b"{" and b'"vid_list"' in head) or (b'"fid_list"' in head and b'"fname"' in head)


def read(path: Path, *, fps: float | None = None) -> Labels:
    """Read the temporal segments; each attribute of a segment that has an option is a label."""
    project = read_json(path, what="labels", find_repeats=True)
    collector = RowCollector(path, LAYOUT)
    try:
        names = {
            vid: video_id(str(project["file"][str(view["fid_list"][0])]["fname"]))
            for vid, view in project["view"].items()
            if view["fid_list"]
        }
        options = {aid: attribute.get("options", {}) for aid, attribute in project["attribute"].items()}
        entries = dict(project["metadata"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise EtadError(
            f"{path}: this is no project of VIA 3 ({error!r} is missing or odd). Export it anew."
        ) from error
    for part in ("file", "view", "attribute", "metadata"):
        for key in repeated_keys(project[part]):
            entry = project[part][key]
            video = names.get(str(entry.get("vid")), "") if isinstance(entry, Mapping) else ""
            why = "stands twice, and what its first entry says is lost; keep one"
            collector.refuse(f"{part} {shown(key)}", why, video=video)
    for vid, name in names.items():
        collector.video(name, f"view {vid}")
    spatial = 0
    for key, entry in entries.items():
        where = f"metadata {shown(key)}"
        times = entry.get("z", []) if isinstance(entry, Mapping) else []
        if not isinstance(times, list) or len(times) != 2:
            spatial += 1
            continue
        video = names.get(str(entry.get("vid")), "")
        if not video:
            collector.refuse(where, "belongs to no view")
            continue
        values = entry.get("av")
        chosen = values.items() if isinstance(values, Mapping) else ()
        labels = [label for aid, value in chosen for label in _labels(options.get(aid), value)]
        for label in labels or [""]:
            try:
                collector.action(video, float(times[0]), float(times[1]), label, where)
            except (TypeError, ValueError):
                collector.refuse(
                    where, f"goes from {shown(times[0])} to {shown(times[1])}, expected seconds", video=video
                )
    if spatial:
        collector.notes.append(f"{counted(spatial, 'region')} of single pictures passed over")
    return collector.labels()


def _labels(options: Any, value: Any) -> list[str]:
    """What an attribute's value stands for.

    Examples
    --------
    >>> _labels({"0": "run", "1": "fast"}, "0,1"), _labels({}, "main title"), _labels({}, "_DEFAULT")
    (['run', 'fast'], ['main title'], [])
    """
    text = str(value)
    if text == "_DEFAULT":
        return []
    if not isinstance(options, Mapping) or not options:
        return [text]
    chosen = text.split(",")
    return [str(options[each]) for each in chosen] if all(each in options for each in chosen) else [text]
