"""The video files that a training has seen: whether they are the same still when it goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..digest import digest_of
from ..errors import EtadError, counted, listing

# Read of each file, at its beginning, in its middle and at its end: tables of frames and frames.
_SAMPLE_BYTES = 2**16


class SeenFiles:
    """Files by video, as they are when first asked for; digesting all of them would take as long as an epoch's reading.

    A file is the same where size and date are, or else where size and what is sampled of the content are: copies and
    links have other dates.

    Parameters
    ----------
    files
        Video files by id; those that are not there are left out.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = dict(files)
        self._rows: dict[str, list[Any]] = {}

    def as_rows(self) -> dict[str, list[Any]]:
        """Size, date and digest of samples, by id, as JSON and checkpoints hold them."""
        for id, path in self.files.items():
            if id not in self._rows and (row := _row_of(path)) is not None:
                self._rows[id] = row
        return self._rows

    def require_same(self, before: Mapping[str, Any], *, checkpoint: Path) -> None:
        """Refuse to go on where files are no longer those that were seen.

        Parameters
        ----------
        before
            What `as_rows` said then; of an older version, nothing.
        checkpoint
            Where that stands.

        Raises
        ------
        EtadError
            Naming them.
        """
        changed = []
        for id, (num_bytes, modified_ns, digest) in before.items():
            path = self.files.get(id)
            found = None if path is None else _stat_of(path)
            if path is None or found is None:
                continue  # gone, which is told in other ways
            if found == (num_bytes, modified_ns):
                self._rows[id] = [num_bytes, modified_ns, digest]
            elif found[0] != num_bytes or _sampled(path) != digest:
                changed.append(str(path))
        if changed:
            have = "is" if len(changed) == 1 else "are"
            raise EtadError(
                f"{checkpoint}: {counted(len(changed), 'video file')} {have} no longer what it was trained on: "
                f"{listing(changed)}. Put them back as they were, and the same command goes on from here; or train on "
                "them as they are now in another run folder."
            )

    def require_unchanged(self) -> None:
        """Refuse what was trained on files that have been replaced or written to since they were first looked at.

        Raises
        ------
        EtadError
            Naming them.
        """
        seen = {id: row for id, row in self._rows.items() if id in self.files}
        changed = [str(self.files[id]) for id, row in seen.items() if _is_other(self.files[id], row)]
        if changed:
            raise EtadError(
                f"{listing(changed)}: replaced or written to while trained on. Train again in another run folder when "
                "whatever writes them is done."
            )


def _is_other(path: Path, row: list[Any]) -> bool:
    found = _stat_of(path)
    return found is not None and found != tuple(row[:2]) and (found[0] != row[0] or _sampled(path) != row[2])


def _row_of(path: Path) -> list[Any] | None:
    found = _stat_of(path)
    digest = None if found is None else _sampled(path)
    return None if found is None or digest is None else [*found, digest]


def _stat_of(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _sampled(path: Path) -> str | None:
    """Digest a file's beginning, middle and end; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            places = sorted({0, max(0, (size - _SAMPLE_BYTES) // 2), max(0, size - _SAMPLE_BYTES)})
            samples = []
            for place in places:
                file.seek(place)
                samples.append(file.read(_SAMPLE_BYTES))
    except OSError:
        return None
    return digest_of(samples)
