"""What a user may have worked on is not overwritten: where something else comes in its place, it is kept beside it."""

from __future__ import annotations

import contextlib
import filecmp
import itertools
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .atomic import naming_access, replacing

_logger = logging.getLogger(__name__)


@contextlib.contextmanager
def keeping(path: Path) -> Iterator[None]:
    """Keep the file at `path` as `NAME.before`, or `NAME.before-2` and so on, while the block writes there.

    The copy is whole before the block begins, and goes again where `path` holds the same in the end, since the block
    failed or wrote it once more. A link is not followed: writing replaces it, and its file stays.

    Raises
    ------
    UnwritableError
        There is no room, or no right, for the copy.
    """
    with naming_access(path):
        kept = None if path.is_symlink() or not path.is_file() else _copied(path)
    if kept is None:
        yield
        return
    try:
        yield
    finally:
        with naming_access(path):
            if filecmp.cmp(path, kept, shallow=False):
                kept.unlink()
            else:
                _logger.warning("%s: there was another one, which is kept as %s.", path, kept.name)


def _copied(path: Path) -> Path:
    kept = next(place for place in _names(path) if not os.path.lexists(place))
    with replacing(kept) as temporary:
        shutil.copyfile(path, temporary)
    return kept


def _names(path: Path) -> Iterator[Path]:
    yield path.with_name(f"{path.name}.before")
    for number in itertools.count(2):
        yield path.with_name(f"{path.name}.before-{number}")
