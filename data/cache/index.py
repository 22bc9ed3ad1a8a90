"""The table of contents of a packed feature file: 20,000 videos are known from one read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from ..digest import digest_of
from ..errors import EtadError
from ..files.hdf5 import member, require_whole
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

_SEAL = "sha256"


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
    rows = index_rows(headers)
    file.create_dataset("index", data=rows, dtype=INDEX_DTYPE).attrs[_SEAL] = rows_digest(rows)


def read_index(path: Path, file: h5py.File, *, is_tested: bool = True) -> dict[str, np.void]:
    """Read the rows of complete videos, by id.

    Parameters
    ----------
    is_tested
        Test the table against its digest, which tables of older versions do not have, and its times for sense.

    Raises
    ------
    EtadError
        The table is missing, damaged, or of another form.
    """
    with naming_faults(path):
        table = member(file, "index")
        if not isinstance(table, h5py.Dataset):
            raise EtadError("it has no index")
        present = set(table.dtype.names or ())
        missing = set(INDEX_DTYPE.names or ()) - present - set(_LATER)
        if missing:
            raise EtadError(f"its index has no column '{min(missing)}'")
        require_whole(table)
        found = table[()]
        if is_tested and table.attrs.get(_SEAL, seal := rows_digest(found)) != seal:
            raise EtadError("its index differs from its recorded digest: the file is damaged")
        rows = np.empty(len(found), dtype=INDEX_DTYPE)
        for name in INDEX_DTYPE.names or ():
            rows[name] = found[name] if name in present else _LATER[name]
        ids = [unescape(name.decode()) for name in rows["id"]]
        is_wrong = (rows["length"] < 1) | ~np.isfinite(rows["duration_seconds"])
        if is_wrong.any():
            raise EtadError(f"its index has no length or duration of video '{ids[int(is_wrong.argmax())]}'")
        is_outside = _centers_outside(rows)
        if is_tested and is_outside.any():
            raise EtadError(f"its index places snippets outside of video '{ids[int(is_outside.argmax())]}'")
        return {video_id: row for video_id, row in zip(ids, rows) if row["complete"] == 1}


def _centers_outside(rows: np.ndarray) -> np.ndarray:
    """Where the centres of regular snippets cannot be those of the video, (N,): see `FeatureMeta.check`."""
    with np.errstate(all="ignore"):
        clip_seconds = rows["clip_frames"] * rows["frame_step"] / rows["fps"]
        first = rows["first_center_seconds"]
        last = first + rows["center_step_seconds"] * (rows["length"] - 1)
        inside = (np.minimum(first, last) >= -clip_seconds) & (
            np.maximum(first, last) <= rows["duration_seconds"] + clip_seconds
        )
    return ~inside & (rows["lists_centers"] == 0)


def is_sealed(file: h5py.File) -> bool:
    """Whether a file's table, which has been read, has a digest of its own."""
    return _SEAL in file["index"].attrs


def rows_digest(rows: np.ndarray) -> str:
    """SHA-256 of a table, whatever columns its version of etad gave it."""
    texts = (name if isinstance(name, bytes) else str(name).encode() for name in rows["id"])
    columns = (rows[name].tobytes() for name in rows.dtype.names or () if name != "id")
    return digest_of([b"\0".join(texts), *columns])


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
