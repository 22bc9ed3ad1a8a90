"""What a config names, read: annotations, and the videos that go with them."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from ...data.annotations import (
    Annotations,
    Video,
    match_ids,
    read_annotations,
    read_ids,
    subset_aliases,
)
from ...data.errors import EtadError, counted, listing
from ...data.files.json_file import describe_repeats
from ..config import Config

_logger = logging.getLogger(__name__)


def read_data(
    config: Config, annotations: Path | None = None, *, subsets: Collection[str] = (), blocked: Path | None = None
) -> Annotations:
    """Read the annotations that a config names, less what it blocks and drops; warn of what in them is left out.

    Parameters
    ----------
    subsets
        Those that are used beside the config's.
    blocked
        List of ids that are left out beside the config's.

    Raises
    ------
    EtadError
        No annotations are named, they cannot be read, or a list of blocked ids has none of their videos.
    """
    read = read_quietly(config, annotations, blocked)
    if read.repeated:
        _logger.warning("%s: %s.", read.source, describe_repeats(read.repeated))
    for stray in read.strays([*used_subsets(config), *subsets]):
        _logger.warning("%s: %s.", read.source, stray)
    return read


def used_subsets(config: Config) -> list[str]:
    """Names of the subsets that a config trains, validates and tests on."""
    data = config.data
    return [name for name in (data.train_subset, data.validation_subset, data.test_subset) if name is not None]


def read_quietly(config: Config, annotations: Path | None = None, blocked: Path | None = None) -> Annotations:
    """Read what `read_data` reads, and leave it to the caller to tell what is wrong in it."""
    path = annotations or config.data.annotations
    if path is None:
        raise EtadError("no annotations: name an ActivityNet-form JSON with --annotations, or set data.annotations.")
    lists = [each for each in (config.data.blocked, blocked) if each is not None]
    read = read_annotations(path, leave_out=lambda ids: {id for each in lists for id in _blocked(each, ids, path)})
    return read.without_labels(config.data.dropped_labels)


def validation_videos(config: Config, annotations: Annotations) -> list[Video]:
    """The annotated videos that choose the best checkpoint; none where no subset is set apart for that.

    Raises
    ------
    EtadError
        The subset is empty, or is trained or tested on: a checkpoint that is chosen by what it is then measured on
        looks better than it is.
    """
    name = config.data.validation_subset
    if name is None:
        return []
    for key in ("train_subset", "test_subset"):
        other = getattr(config.data, key)
        if subset_aliases(name) == subset_aliases(other):
            raise EtadError(
                f"data.validation_subset={name} is data.{key}, too: the best checkpoint is chosen on videos that are "
                "neither trained nor tested on. Name a third subset, or leave it out to choose by the training loss."
            )
    return [video for video in annotations.subset(name) if video.actions]


def _blocked(path: Path, ids: Collection[str], source: Path) -> Collection[str]:
    """Those of some annotated ids that a file lists, with or without `v_`."""
    listed = read_ids(path)
    matches = match_ids(listed, ids, where=str(path))
    if listed and not matches:
        raise EtadError(
            f"{path}: none of its {counted(len(listed), 'id')} is a video of {source} "
            f"({listing(listed, most=3)}). Name another list, or correct the ids."
        )
    return matches.values()
