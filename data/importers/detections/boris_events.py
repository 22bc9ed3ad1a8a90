"""Detections of one video as events that BORIS takes into an observation, to be looked through and corrected there.

Checked against BORIS's own reader (`boris/import_observations.py`, from 8.23 on; Observations > Import observations):
the first sheet of an XLSX file with the columns time, subject, code, modifier and comment. A state has no length there:
its events start and stop it in turn (`events_start_stop` in `boris/project_functions.py`), so that detections of one
class must not overlap.
"""

from __future__ import annotations

import io
import logging
import re
from dataclasses import replace
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np

from ...detections import Detections
from ...errors import EtadError, counted, printable
from ...files.atomic import replacing

COLUMNS = ("time", "subject", "code", "modifier", "comment")
_WHEN = re.compile(rb"(<dcterms:(?:created|modified)[^>]*>)[^<]*")
_logger = logging.getLogger(__name__)


def write_boris_events(path: Path | str, detections: Detections, video_id: str) -> Path:
    """Write the detections of one video, two events each, scores as comments; whole or not at all.

    Of detections of one class that overlap, the one with the best score is written, and a warning counts the others.

    Raises
    ------
    EtadError
        The detections know no such video.
    """
    import openpyxl
    from openpyxl.cell import WriteOnlyCell

    if video_id not in detections.video_ids:
        raise EtadError(f"there are no detections of video '{video_id}'.")
    mine = detections.rows_of(video_id)
    kept = _apart(detections, mine)
    if len(kept) < len(mine):
        _logger.warning(
            "%s: %s left out: each overlaps a better one of its class, which BORIS cannot hold.",
            path,
            counted(len(mine) - len(kept), "detection"),
        )
    events = []
    for row in kept:
        label = detections.labels[detections.label[row]] if detections.label[row] >= 0 else "proposal"
        score = f"score {detections.score[row]:.4f}"
        events.append((float(detections.start_seconds[row]), True, label, score))
        events.append((float(detections.end_seconds[row]), False, label, ""))
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("events")
    sheet.append(COLUMNS)
    for seconds, _, label, comment in sorted(events):  # at one time, what stops comes before what starts
        code = WriteOnlyCell(sheet, value=printable(label).replace("\n", " "))
        code.data_type = "s"  # text, also where a spreadsheet would take it for a formula
        sheet.append((round(seconds, 3), "", code, "", comment))
    content = io.BytesIO()
    book.save(content)
    with replacing(path) as temporary:
        _write_undated(temporary, content)
    return Path(path)


def _write_undated(path: Path, book: io.BytesIO) -> None:
    """Write a workbook without the time at which it was made, so that the same events are the same file."""
    with ZipFile(book) as dated, ZipFile(path, "w") as undated:
        for name in dated.namelist():
            content = _WHEN.sub(rb"\g<1>2000-01-01T00:00:00Z", dated.read(name))
            undated.writestr(ZipInfo(name), content, compress_type=ZIP_DEFLATED)


def without_overlaps(detections: Detections) -> Detections:
    """What `write_boris_events` writes of all videos, in the order that they had."""
    rows = [detections.rows_of(video_id) for video_id in detections.video_ids]
    kept = np.array(sorted(row for mine in rows for row in _apart(detections, mine)), int)
    columns = ("video", "label", "start_seconds", "end_seconds", "score")
    return replace(detections, **{name: getattr(detections, name)[kept] for name in columns})


def _apart(detections: Detections, rows: np.ndarray) -> list[int]:
    """Those rows that overlap no better one of the same class, and last a millisecond at least."""
    kept: dict[int, list[int]] = {}
    for row in rows[np.argsort(-detections.score[rows], kind="stable")].tolist():
        start, end = detections.start_seconds[row], detections.end_seconds[row]
        others = kept.setdefault(int(detections.label[row]), [])
        if round(start, 3) < round(end, 3) and all(
            end <= detections.start_seconds[other] or start >= detections.end_seconds[other] for other in others
        ):
            others.append(row)
    return [row for others in kept.values() for row in others]
