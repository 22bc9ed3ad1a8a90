"""Check a feature cache, and move aside what is bad."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

from ..errors import EtadError
from ..files.atomic import naming_access, remove_leftovers, replacing
from ..files.lock import holding
from .item import Header, copy_item, create_file, open_file
from .merge import lock_path, write_packed
from .names import part_name
from .parts import parts_folder
from .problems import Problem, leftover_problems, mixed_problems, packed_problems, part_problems, unsealed_notes


def verify(path: Path | str, repair: bool = False) -> list[Problem]:
    """Check every video of a cache: digests, shapes, numbers, completeness, one kind, index; list what is wrong.

    Parameters
    ----------
    path
        The packed file's path; its parts belong to it.
    repair
        Move bad videos into `<cache>.bad/` (nothing is deleted but what killed writers left), and rewrite the packed
        file and its index from the good ones. Extracting again then makes what is missing.

    Raises
    ------
    EtadError
        There is no such cache, or what is there is no file of etad's; or, in repair, another process is packing it.
    """
    with naming_access(cache := Path(path)):
        return _verify(cache, repair)


def bad_folder(cache: Path) -> Path:
    """Folder that repair moves bad files into."""
    return cache.with_name(cache.name + ".bad")


def _verify(cache: Path, repair: bool) -> list[Problem]:
    if not cache.exists() and not parts_folder(cache).is_dir():
        raise EtadError(f"{cache}: there is no feature cache to verify, neither this file nor its parts.")
    with holding(lock_path(cache), "repairing") if repair else contextlib.nullcontext():
        packed, in_packed = packed_problems(cache) if cache.exists() else ([], [])
        parts, in_parts = part_problems(cache)
        mixed = mixed_problems([*packed, *parts])
        in_packed += [problem for problem in mixed if problem.file == cache]
        in_parts += [problem for problem in mixed if problem.file != cache]
        leftovers = leftover_problems(cache)
        if repair:
            in_parts = [each if each.kind == "foreign" else _move_part(cache, each) for each in in_parts]
            bad_ids = {problem.video_id for problem in in_packed}
            good = [header for header in packed if header.video_id not in bad_ids]
            in_packed = _repair_packed(cache, good, in_packed)
            for folder in (cache.parent, parts_folder(cache)):
                remove_leftovers(folder)
    return in_packed + in_parts + leftovers + unsealed_notes(cache, [*packed, *parts])


def _move_part(cache: Path, problem: Problem) -> Problem:
    return replace(problem, moved_to=_move(problem.file, bad_folder(cache) / problem.file.name))


def _repair_packed(cache: Path, good: list[Header], problems: list[Problem]) -> list[Problem]:
    if not problems:
        return []
    repaired = []
    keep_whole = False
    for problem in problems:
        if problem.video_id is not None:
            target = _free(bad_folder(cache) / part_name(problem.video_id))
            try:
                _copy_out(cache, problem.video_id, target)
                problem = replace(problem, moved_to=target)
            except EtadError:
                keep_whole = True  # too damaged to be copied alone
        keep_whole |= problem.video_id is None and problem.kind == "damaged"
        repaired.append(problem)
    if keep_whole:
        # A second name for the old file, which the good one is then renamed over.
        whole = _free(bad_folder(cache) / cache.name)
        whole.parent.mkdir(exist_ok=True)
        try:
            os.link(cache, whole)
        except OSError:  # a disk without links
            shutil.copy2(cache, whole)
        repaired = [problem if problem.moved_to else replace(problem, moved_to=whole) for problem in repaired]
    if good:
        write_packed(cache, good)
    else:
        cache.unlink()
    return repaired


def _copy_out(cache: Path, video_id: str, target: Path) -> None:
    with open_file(cache) as file, replacing(target) as temporary, create_file(temporary) as bad:
        copy_item(cache, file, video_id, bad["videos"])


def _move(path: Path, target: Path) -> Path:
    target = _free(target)
    target.parent.mkdir(exist_ok=True)
    return path.replace(target)


def _free(path: Path) -> Path:
    """The path itself, or the first of path.1, path.2 and so on that is not taken."""
    candidate, count = path, 0
    while candidate.exists():
        count += 1
        candidate = path.with_name(f"{path.name}.{count}")
    return candidate
