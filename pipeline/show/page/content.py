"""What a review page shows: videos, what was detected in them, and what is annotated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....data.digest import values_digest
from ....data.errors import EtadError, shown

FORMAT = 1  # of the embedded data, and of what the page saves


@dataclass(frozen=True)
class PageAction:
    """One action of a page's video, in seconds; the score is None where it was annotated."""

    start_seconds: float
    end_seconds: float
    label: str
    score: float | None


@dataclass(frozen=True)
class PageVideo:
    """One video of a page.

    Parameters
    ----------
    file
        The page refers to it and does not hold it. None, or a file that is gone: the page asks for it.
    fps
        Frames per second, by which boundaries are nudged; None where nobody knows.
    ground_truth
        None where nothing is annotated; an empty sequence says that the video has no action.
    subset
        Subset that saved annotations state.
    """

    id: str
    file: Path | None
    duration_seconds: float
    fps: float | None
    detections: Sequence[PageAction]
    ground_truth: Sequence[PageAction] | None
    subset: str = "training"


def page_data(
    videos: Sequence[PageVideo],
    urls: Sequence[str | None],
    *,
    labels: Sequence[str],
    thresholds: Mapping[str, float],
    title: str,
    notes: Sequence[str],
) -> dict[str, Any]:
    """Put together what a page embeds: labels by number, times in milliseconds' precision.

    Parameters
    ----------
    urls
        Where the page finds the file of each video.
    labels
        Classes in the order of their lanes; those that only actions name come behind them.

    Raises
    ------
    EtadError
        Two videos have one id; a duration, rate, time, score or threshold is no number that can be; an action ends
        before it starts, or has no label.
    """
    actions = [action for video in videos for action in (*video.detections, *(video.ground_truth or ()))]
    names = list(dict.fromkeys([*labels, *(action.label for action in actions)]))
    for label in names:
        if not label:
            raise EtadError("review page: an action has an empty label. Give every class a name.")
        if not math.isfinite(thresholds.get(label, 0.0)):
            raise EtadError(f"review page: class '{label}' has the threshold {thresholds[label]}, expected a number.")
    codes = {label: number for number, label in enumerate(names)}
    seen: set[str] = set()
    entries = []
    for video, url in zip(videos, urls, strict=True):
        if video.id in seen:
            raise EtadError(f"review page: two videos have the id {shown(video.id)}. Give each its own.")
        seen.add(video.id)
        entries.append(_video_entry(video, url, codes))
    content = {
        "format": FORMAT,
        "title": title,
        "labels": names,
        "thresholds": [float(thresholds.get(label, 0.0)) for label in names],
        "notes": list(notes),
        "videos": entries,
    }
    # What a saved file counts detections by holds for this very set of them, wherever the videos lie.
    told = [{key: value for key, value in entry.items() if key not in ("url", "file")} for entry in entries]
    return content | {"digest": values_digest({"labels": names, "videos": told})}


def _video_entry(video: PageVideo, url: str | None, codes: Mapping[str, int]) -> dict[str, Any]:
    where = f"review page: video {shown(video.id)}"
    if not (math.isfinite(video.duration_seconds) and video.duration_seconds > 0):
        raise EtadError(f"{where}: its duration is {video.duration_seconds} s. Expected a positive number.")
    if video.fps is not None and not (math.isfinite(video.fps) and video.fps > 0):
        raise EtadError(f"{where}: its rate is {video.fps} frames/s. Expected a positive number, or none.")
    truth = video.ground_truth
    return {
        "id": video.id,
        "url": url,
        "file": None if video.file is None else video.file.name,  # its folder is nobody's business elsewhere
        "duration": video.duration_seconds,
        "fps": video.fps,
        "subset": video.subset or "training",
        "detections": [_row(action, codes, where) for action in video.detections],
        "truth": None if truth is None else [_row(action, codes, where)[:3] for action in truth],
    }


def _row(action: PageAction, codes: Mapping[str, int], where: str) -> list[Any]:
    """Start, end, label's number, score."""
    start, end, score = action.start_seconds, action.end_seconds, action.score
    if not all(math.isfinite(value) for value in (start, end, score or 0.0)) or end < start:
        raise EtadError(
            f"{where}: {shown(action.label)} from {start} to {end} s with score {score}. Expected finite numbers, and "
            "an end that is not before the start."
        )
    return [round(float(start), 3), round(float(end), 3), codes[action.label], None if score is None else float(score)]
