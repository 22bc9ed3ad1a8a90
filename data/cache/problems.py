"""What can be wrong with a feature cache, and where: nothing is changed here."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py

from ..errors import DiskError, EtadError, counted, listing
from ..files.atomic import TEMPORARY_PREFIX
from .foreign import ForeignFileError
from .index import read_index
from .item import Header, naming_faults, open_file, read_header, read_stored, video_group, video_ids
from .meta import check_same_kind
from .parts import part_features, part_header, part_id, part_paths, parts_folder
from .probe import try_attributes, try_parts


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a cache.

    Parameters
    ----------
    file
        Where it is.
    video_id
        Whose features it hurts; None where it is the whole file.
    kind
        `damaged` (unreadable, wrong digest, shape or number, incomplete), `index` (disagrees with the groups),
        `mixed` (another kind of features than the rest), `foreign` (no file of etad's: repair leaves it), `leftover`
        (of a killed writer), `unsealed` (a note: written by an older version, so that attributes have no digest that
        they could be tested against).
    detail
        What was found, as a sentence.
    moved_to
        Where repair put it; None where nothing was moved.
    """

    file: Path
    video_id: str | None
    kind: str
    detail: str
    moved_to: Path | None = None

    @property
    def is_note(self) -> bool:
        """Whether nothing is wrong, as far as could be seen."""
        return self.kind == "unsealed"


def packed_problems(cache: Path) -> tuple[list[Header], list[Problem]]:
    """Read every video of the packed file; returns the good ones, and what is wrong."""
    good: list[Header] = []
    problems: list[Problem] = []
    try:
        with naming_faults(cache):
            try_attributes(cache)
        file = open_file(cache)
    except (DiskError, ForeignFileError):
        raise  # the file may well be sound, or is somebody's own: it is not to be moved aside
    except EtadError as error:
        return [], [Problem(cache, None, "damaged", str(error))]
    with file:
        try:
            ids = video_ids(cache, file)
        except EtadError as error:
            return [], [Problem(cache, None, "damaged", str(error))]
        for video_id in ids:

            def read(video_id: str = video_id) -> Header:
                group = video_group(cache, file, video_id)
                header = read_header(cache, group, video_id)
                read_stored(cache, group, header)
                return header

            _collect(cache, video_id, read, good, problems)
        problems += _index_problems(cache, file, good, ids)
    return good, problems


def part_problems(cache: Path) -> tuple[list[Header], list[Problem]]:
    """Read every part; returns the good ones, and what is wrong."""
    good: list[Header] = []
    problems: list[Problem] = []
    paths = part_paths(cache)
    try_parts(paths)
    for path in paths:
        video_id = None
        with contextlib.suppress(EtadError):
            video_id = part_id(path)

        def read(path: Path = path) -> Header:
            header = part_header(path)
            part_features(header)
            return header

        _collect(path, video_id, read, good, problems)
    return good, problems


def mixed_problems(headers: list[Header]) -> list[Problem]:
    """List the videos of another kind than most."""
    kinds = [header.kind for header in headers]
    if len(set(kinds)) < 2:
        return []
    usual = headers[kinds.index(Counter(kinds).most_common(1)[0][0])]
    problems = []
    for header in headers:
        try:
            check_same_kind(header.file, usual.video_id, usual.kind, header.video_id, header.kind)
        except EtadError as error:
            problems.append(Problem(header.file, header.video_id, "mixed", str(error)))
    return problems


def unsealed_notes(cache: Path, headers: list[Header]) -> list[Problem]:
    """Say how many videos, and of which first, have no digest of their attributes."""
    ids = sorted(header.video_id for header in headers if not header.is_sealed)
    return [Problem(cache, None, "unsealed", describe_unsealed(ids))] if ids else []


def describe_unsealed(ids: Sequence[str]) -> str:
    """Say of videos without a digest of their attributes what could be tested.

    Examples
    --------
    >>> describe_unsealed(["v"])
    '1 video of an older version of etad: features have a digest, but times and names were tested for sense alone: v'
    """
    made = f"{counted(len(ids), 'video')} of an older version of etad"
    return f"{made}: features have a digest, but times and names were tested for sense alone: {listing(ids, 3)}"


def leftover_problems(cache: Path) -> list[Problem]:
    """List unfinished files among the parts."""
    found = sorted(parts_folder(cache).glob(TEMPORARY_PREFIX + "*"))
    detail = "an unfinished file, of a writer that was killed or is still at work"
    return [Problem(path, None, "leftover", detail) for path in found]


def _index_problems(cache: Path, file: h5py.File, headers: list[Header], ids: list[str]) -> list[Problem]:
    try:
        rows = read_index(cache, file, is_tested=False)
    except EtadError as error:
        return [Problem(cache, None, "index", str(error))]
    problems = []
    for header in headers:
        row = rows.get(header.video_id)
        if row is None:
            problems.append(Problem(cache, None, "index", f"video '{header.video_id}' is missing from the index"))
            continue
        timing = header.meta.timing
        pairs = {
            "length": (header.length, row["length"]),
            "duration_seconds": (timing.duration_seconds, row["duration_seconds"]),
            "features_sha256": (header.digest, row["features_sha256"].decode("ascii", "replace")),
            "first_center_seconds": (timing.first_center_seconds, row["first_center_seconds"]),
            "center_step_seconds": (timing.center_step_seconds, row["center_step_seconds"]),
            "fps": (timing.fps, row["fps"]),
        }
        for name, (expected, found) in pairs.items():
            if expected != found:
                detail = f"video '{header.video_id}' has {name} {expected}, its row in the index {found}"
                problems.append(Problem(cache, None, "index", detail))
    lost = sorted(set(rows) - set(ids))
    problems += [Problem(cache, None, "index", f"video '{id}' is in the index, but not in the file") for id in lost]
    if not problems:
        try:
            read_index(cache, file)
        except EtadError as error:
            return [Problem(cache, None, "index", str(error))]
    return problems


def _collect(
    file: Path, video_id: str | None, read: Callable[[], Header], good: list[Header], problems: list[Problem]
) -> None:
    try:
        good.append(read())
    except DiskError:
        raise
    except EtadError as error:
        is_foreign = video_id is None and isinstance(error, ForeignFileError)
        problems.append(Problem(file, video_id, "foreign" if is_foreign else "damaged", str(error)))
