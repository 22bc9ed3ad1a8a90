"""The table of contents of a packed feature file: 20,000 videos are known from one read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from ..errors import EtadError
from ..timeline import Timing
from .item import Header, naming_faults
from .names import escape, unescape

# `id` holds group names below /videos, that is escaped ids. The columns of timing spare a reader the groups' own
# attributes (0.7 ms a video), except for centres that are listed one by one.
INDEX_DTYPE = np.dtype(
    [
        ("id", h5py.string_dtype()),
        ("length", "<i8"),
        ("duration_seconds", "<f8"),
        ("features_sha256", "S64"),
        ("complete", "u1"),
        ("fps", "<f8"),
        ("num_frames", "<i8"),
        ("clip_frames", "<i8"),
        ("frame_step", "<i8"),
        ("first_center_seconds", "<f8"),
        ("center_step_seconds", "<f8"),
        ("lists_centers", "u1"),
        ("reading_rules", "<i8"),
        ("lost_frames", "<i8"),
    ]
)
# Columns that older versions do not write, and what their videos have.
_LATER = {"reading_rules": 1, "lost_frames": 0}


def index_rows(headers: Iterable[Header]) -> np.ndarray:
    """Make the table of complete videos, (N,) of INDEX_DTYPE."""
    rows = []
    for header in headers:
        timing = header.meta.timing
        rows.append(
            (
                escape(header.video_id),
                header.length,
                timing.duration_seconds,
                header.digest.encode(),
                1,
                timing.fps,
                timing.num_frames,
                timing.clip_frames,
                timing.frame_step,
                timing.first_center_seconds,
                timing.center_step_seconds,
                timing.centers_seconds is not None,
                header.meta.reading_rules,
                header.meta.lost_frames,
            )
        )
    return np.array(rows, dtype=INDEX_DTYPE)


def write_index(file: h5py.File, headers: Iterable[Header]) -> None:
    file.create_dataset("index", data=index_rows(headers), dtype=INDEX_DTYPE)


def read_index(path: Path, file: h5py.File) -> dict[str, np.void]:
    """Read the rows of complete videos, by id.

    Raises
    ------
    EtadError
        The table is missing, damaged, or of another form.
    """
    with naming_faults(path):
        table = file.get("index")
        if not isinstance(table, h5py.Dataset):
            raise EtadError("it has no index")
        present = set(table.dtype.names or ())
        missing = set(INDEX_DTYPE.names or ()) - present - set(_LATER)
        if missing:
            raise EtadError(f"its index has no column '{min(missing)}'")
        found = table[()]
        rows = np.empty(len(found), dtype=INDEX_DTYPE)
        for name in INDEX_DTYPE.names or ():
            rows[name] = found[name] if name in present else _LATER[name]
        ids = [unescape(name.decode()) for name in rows["id"]]
        is_wrong = (rows["length"] < 1) | ~np.isfinite(rows["duration_seconds"])
        if is_wrong.any():
            raise EtadError(f"its index has no length or duration of video '{ids[int(is_wrong.argmax())]}'")
        return {video_id: row for video_id, row in zip(ids, rows) if row["complete"] == 1}


def row_timing(row: np.void) -> Timing | None:
    """Timing of a row; None where the centres are listed one by one, in the video's own group."""
    if row["lists_centers"]:
        return None
    return Timing(
        duration_seconds=float(row["duration_seconds"]),
        fps=float(row["fps"]),
        num_frames=int(row["num_frames"]),
        clip_frames=int(row["clip_frames"]),
        frame_step=int(row["frame_step"]),
        first_center_seconds=float(row["first_center_seconds"]),
        center_step_seconds=float(row["center_step_seconds"]),
    )
