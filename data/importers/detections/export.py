"""Detections handed out in the forms of others: one file for all videos, or one for each."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from ...cache.names import escape
from ...detections import Detections
from ...errors import EtadError, counted, listing, nearest
from ...files.keep import keeping
from ...progress import progress_bar
from ..labels.boris import write_events
from ..labels.label_studio import write_predictions
from .boris_events import without_overlaps, write_boris_events
from .detection_table import write_detections_csv
from .subtitles import write_subtitles

_logger = logging.getLogger(__name__)

# Writing so many files takes a while.
_MANY_VIDEOS = 100
# Layouts of one file for all videos, of those the ones in frames, and layouts of one file for each, named by suffix.
WHOLE: dict[str, Callable[[Path, Detections], Path]] = {
    "csv": write_detections_csv,
    "boris-aggregated": write_events,
}
IN_FRAMES: dict[str, Callable[..., Path]] = {"label-studio": write_predictions}
EACH: dict[str, Callable[[Path, Detections, str], Path]] = {
    "srt": partial(write_subtitles, kind="srt"),
    "vtt": partial(write_subtitles, kind="vtt"),
    "boris": write_boris_events,
}
_SUFFIXES = {"boris": "xlsx"}


def layout_names() -> tuple[str, ...]:
    """Names for --layout."""
    return (*WHOLE, *IN_FRAMES, *EACH)


def export_all(
    detections: Detections,
    out: Path,
    *,
    layout: str | None = None,
    least_score: float = 0.0,
    fps: float | None = None,
) -> tuple[int, int]:
    """Write detections in another layout; each file whole or not at all, and another one that is there kept.

    Parameters
    ----------
    out
        The file; a folder where each video has a file of its own and there is more than one video.
    layout
        One of `layout_names()`; none: by the suffix of `out`.
    least_score
        Detections below this are left out.
    fps
        Frames per second, for layouts whose times are frames.

    Returns
    -------
    How many detections were written, and into how many files.

    Raises
    ------
    EtadError
        The layout is none that is known, or a place cannot be written.
    """
    chosen = layout or out.suffix.lower().removeprefix(".")
    if chosen not in layout_names():
        what = f"--layout {chosen}: there is no such layout." if layout else f"{out}: its suffix says no layout."
        raise EtadError(
            f"{what}{nearest(chosen, layout_names())} Name one with --layout: {listing(layout_names(), 20)}."
        )
    kept = above(detections, least_score)
    if chosen == "boris":
        good, kept = len(kept), without_overlaps(kept)
        if len(kept) < good:
            _logger.warning(
                "%s left out: each overlaps a better one of its class, which BORIS cannot hold.",
                counted(good - len(kept), "detection"),
            )
    if chosen in WHOLE:
        with keeping(out):
            WHOLE[chosen](out, kept)
        return len(kept), 1
    if chosen in IN_FRAMES:
        if fps is None:
            raise EtadError(f"layout {chosen} has its times in frames; give the videos' rate with --fps.")
        with keeping(out):
            IN_FRAMES[chosen](out, kept, fps=fps)
        return len(kept), 1
    suffix = f".{_SUFFIXES.get(chosen, chosen)}"
    if out.suffix.lower() == suffix:
        if len(kept.video_ids) != 1:
            raise EtadError(
                f"{out}: the detections are of {len(kept.video_ids)} videos, and each has a file of its own. "
                f"Name a folder with -o, and --layout {chosen}."
            )
        with keeping(out):
            EACH[chosen](out, kept, kept.video_ids[0])
        return len(kept), 1
    for video_id in progress_bar("export", kept.video_ids, unit="video", shown=len(kept.video_ids) > _MANY_VIDEOS):
        place = out / f"{escape(video_id)}{suffix}"
        with keeping(place):
            EACH[chosen](place, kept, video_id)
    return len(kept), len(kept.video_ids)


def above(detections: Detections, least_score: float) -> Detections:
    """Those detections whose score is at least this; videos stay, with none of them if need be."""
    kept = detections.score >= least_score
    return replace(
        detections,
        video=detections.video[kept],
        label=detections.label[kept],
        start_seconds=detections.start_seconds[kept],
        end_seconds=detections.end_seconds[kept],
        score=detections.score[kept],
    )
