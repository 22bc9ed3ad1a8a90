"""Detections of one video as subtitles, which any player shows over the picture.

Checked by reading both kinds back with FFmpeg.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np

from ...detections import Detections
from ...errors import EtadError
from ...files.atomic import write_text

SubtitleKind = Literal["srt", "vtt"]


def score_text(score: float) -> str:
    """A score as people read it beside a label: two decimals, or one digit where these would be zeros.

    Examples
    --------
    >>> score_text(0.871), score_text(0.00042), score_text(0.0)
    ('0.87', '0.0004', '0.00')
    """
    return f"{score:.2f}" if score >= 0.01 or score <= 0 else f"{score:.1g}"


def write_subtitles(path: Path | str, detections: Detections, video_id: str, *, kind: SubtitleKind = "srt") -> Path:
    """Write the detections of one video as subtitles, by their start; whole or not at all.

    Parameters
    ----------
    kind
        `srt` (SubRip) or `vtt` (WebVTT).

    Raises
    ------
    EtadError
        The detections know no such video.
    """
    if video_id not in detections.video_ids:
        raise EtadError(f"there are no detections of video '{video_id}'.")
    mine = detections.rows_of(video_id)
    mine = mine[np.lexsort((detections.end_seconds[mine], detections.start_seconds[mine]))]
    cues = ["WEBVTT\n"] if kind == "vtt" else []
    for number, row in enumerate(mine.tolist(), start=1):
        label = detections.labels[detections.label[row]] if detections.label[row] >= 0 else "proposal"
        start, end = (_clock(column[row], kind) for column in (detections.start_seconds, detections.end_seconds))
        cues.append(f"{number}\n{start} --> {end}\n{_one_line(label, kind)} {score_text(detections.score[row])}\n")
    return write_text(path, "\n".join(cues))


def _clock(seconds: float, kind: SubtitleKind) -> str:
    """Write a point in time as subtitles do.

    Examples
    --------
    >>> _clock(3723.4567, "srt"), _clock(59.9996, "vtt")
    ('01:02:03,457', '00:01:00.000')
    """
    milliseconds = max(0, round(float(seconds) * 1000))
    minutes, rest = divmod(milliseconds, 60_000)
    point = "," if kind == "srt" else "."
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


def _one_line(label: str, kind: SubtitleKind) -> str:
    text = re.sub(r"\s+", " ", label).strip().replace("-->", "->") or "?"
    if kind == "vtt":
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"[<{]", "(", re.sub(r"[>}]", ")", text))  # players take these for style
